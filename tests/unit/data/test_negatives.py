"""In-domain draws against sets, and their distributions against the uniform one."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.stats import chisquare

from recbole_cdsr.data.negatives import ConsumedItems, InDomainNegatives

LEAST_P = 1e-3  # the draws are seeded: a test passes always or never


def offsets_of(*sizes: int) -> np.ndarray:
    return np.concatenate([[1], 1 + np.cumsum(sizes)])


@pytest.mark.parametrize("sizes", [(12, 8), (5, 9, 7), (1, 30, 2, 6)])
def test_every_unconsumed_item_of_the_domain_and_no_other(sizes):
    """All user-domain pairs at once; interactions repeat and come in any order."""
    random, offsets, n_users = np.random.default_rng(0), offsets_of(*sizes), 40
    users = random.integers(1, n_users, 300)
    items = random.integers(1, offsets[-1], 300)
    negatives = InDomainNegatives(users, items, n_users, offsets)
    consumed = {(int(u), int(i)) for u, i in zip(users, items, strict=True)}
    all_users, domains = (grid.ravel() for grid in np.meshgrid(np.arange(1, n_users), np.arange(len(sizes))))
    drawn = np.stack(
        [negatives.draw(all_users, domains, np.random.RandomState(seed)) for seed in range(400)]
    )  # [400, P]
    for pair, (user, domain) in enumerate(zip(all_users, domains, strict=True)):
        block = set(range(offsets[domain], offsets[domain + 1]))
        allowed = {item for item in block if (user, item) not in consumed} or block
        # 400 draws from at most 30 items leave one out with a probability below 40 * 4 * 30 * (29 / 30) ** 400 < 0.01.
        assert set(drawn[:, pair].tolist()) == allowed


def test_draws_are_uniform_over_what_is_left():
    offsets = offsets_of(10, 20)
    users = np.array([3, 3, 3, 3, 3, 5])
    items = np.array([1, 2, 2, 7, 15, 30])  # the first two, one in the middle; one of the other domain; another user's
    negatives = InDomainNegatives(users, items, 6, offsets)
    left = {0: [3, 4, 5, 6, 8, 9, 10], 1: [item for item in range(11, 31) if item != 15]}
    for domain, expected in left.items():
        shape = (300, 100)
        drawn = negatives.draw(np.full(shape, 3), np.full(shape, domain), np.random.RandomState(1))
        assert drawn.shape == shape
        counts = np.bincount(drawn.ravel(), minlength=31)
        assert counts.sum() == counts[expected].sum()
        assert chisquare(counts[expected]).pvalue > LEAST_P


def test_positions_of_one_batch_are_independent():
    """Two draws for the same user are equal as often as chance has it."""
    negatives = InDomainNegatives(np.array([1]), np.array([1]), 2, offsets_of(6, 4))
    drawn = negatives.draw(np.full((20_000, 2), 1), np.zeros((20_000, 2), int), np.random.RandomState(3))
    pairs = np.bincount((drawn[:, 0] - 2) * 5 + drawn[:, 1] - 2, minlength=25)
    assert chisquare(pairs).pvalue > LEAST_P


def test_a_user_who_has_consumed_a_domain_draws_from_all_of_it(caplog):
    offsets = offsets_of(4, 6)
    users = np.array([1, 1, 1, 1, 1, 2])
    items = np.array([4, 2, 1, 3, 6, 1])
    with caplog.at_level(logging.WARNING):
        negatives = InDomainNegatives(users, items, 3, offsets)
    assert "1 case(s)" in caplog.text
    drawn = negatives.draw(np.full(8000, 1), np.zeros(8000, int), np.random.RandomState(0))
    assert chisquare(np.bincount(drawn, minlength=5)[1:]).pvalue > LEAST_P
    for user, domain, allowed in ((1, 1, {5, 7, 8, 9, 10}), (2, 0, {2, 3, 4}), (2, 1, {5, 6, 7, 8, 9, 10})):
        drawn = negatives.draw(np.full(500, user), np.full(500, domain), np.random.RandomState(0))
        assert set(drawn.tolist()) == allowed


def test_a_user_with_one_item_left_draws_it():
    negatives = InDomainNegatives(np.array([1, 1, 1]), np.array([1, 2, 4]), 2, offsets_of(4, 2))
    assert set(negatives.draw(np.full(50, 1), np.zeros(50, int), np.random.RandomState(0))) == {3}


def test_the_ends_of_the_unit_interval_stay_in_the_domain():
    class Fixed:
        def __init__(self, value: float) -> None:
            self.value = value

        def random_sample(self, shape: tuple[int, ...]) -> np.ndarray:
            return np.full(shape, self.value)

    negatives = InDomainNegatives(np.array([1, 1]), np.array([1, 9]), 2, offsets_of(9, 5))
    one, zero = np.array([1]), np.array([0])
    assert negatives.draw(one, zero, Fixed(0.0)) == 2
    assert negatives.draw(one, zero, Fixed(np.nextafter(1.0, 0.0))) == 8
    assert negatives.draw(one, one, Fixed(np.nextafter(1.0, 0.0))) == 14
    consumed = ConsumedItems(np.array([0, 0, 1]), np.array([3, 5, 12]), 2, offsets_of(9, 5))
    assert consumed.draw(np.array([0, 1]), Fixed(np.nextafter(1.0, 0.0))).tolist() == [[5, 0], [0, 12]]
    assert consumed.draw(np.array([0, 1]), Fixed(0.0)).tolist() == [[3, 0], [0, 12]]


def test_same_seed_same_draws_from_numpys_global_state_too():
    negatives = InDomainNegatives(np.array([1]), np.array([2]), 2, offsets_of(50, 50))
    consumed = ConsumedItems(np.zeros(40, int), np.arange(1, 41), 1, offsets_of(50, 50))
    users, domains, rows = np.full(30, 1), np.arange(30) % 2, np.zeros(30, int)

    def draws(seed: int) -> list[int]:
        np.random.seed(seed)
        return [*negatives.draw(users, domains), *consumed.draw(rows).ravel()]

    assert draws(11) == draws(11)
    assert draws(11) != draws(12)
    given = [negatives.draw(users, domains, np.random.RandomState(5)) for _ in range(2)]
    np.testing.assert_array_equal(*given)


@pytest.mark.parametrize("sizes", [(12, 8), (5, 9, 7)])
def test_consumed_items_against_sets(sizes):
    random, offsets, n_rows = np.random.default_rng(4), offsets_of(*sizes), 12
    owners = np.repeat(np.arange(n_rows), random.integers(1, 9, n_rows))
    items = random.integers(1, offsets[-1], len(owners))
    consumed = ConsumedItems(owners, items, n_rows, offsets)
    rows = random.permutation(n_rows)
    drawn = np.stack([consumed.draw(rows, np.random.RandomState(seed)) for seed in range(300)])  # [300, B, K]
    assert drawn.shape == (300, n_rows, len(sizes))
    for place, row in enumerate(rows):
        of_row = items[owners == row]
        for domain in range(len(sizes)):
            block = of_row[(of_row >= offsets[domain]) & (of_row < offsets[domain + 1])]
            assert set(drawn[:, place, domain].tolist()) == (set(block.tolist()) or {0})


def test_consumed_items_count_as_often_as_they_were_consumed():
    """Uniform over interactions, as drawing a position of the user's sequence is."""
    consumed = ConsumedItems(np.zeros(6, int), np.array([2, 9, 2, 3, 2, 10]), 1, offsets_of(5, 6))
    drawn = consumed.draw(np.zeros(20_000, int), np.random.RandomState(2))  # [20000, 2]
    in_first, in_second = np.bincount(drawn[:, 0]), np.bincount(drawn[:, 1])
    assert chisquare(in_first[[2, 3]], [15_000, 5_000]).pvalue > LEAST_P
    assert chisquare(in_second[[9, 10]]).pvalue > LEAST_P
    assert in_first.sum() == in_first[[2, 3]].sum()


def test_several_negatives_of_a_pair_are_drawn_as_single_ones_are():
    offsets, random = offsets_of(10, 20), np.random.default_rng(0)
    users, items = random.integers(1, 6, 60), random.integers(1, 31, 60)
    negatives = InDomainNegatives(users, items, 6, offsets)
    pairs = np.array([1, 5, 3]), np.array([0, 1, 1])
    drawn = negatives.draw_several(*pairs, 400, np.random.RandomState(2))
    assert drawn.shape == (3, 400)
    consumed = set(zip(users.tolist(), items.tolist(), strict=True))
    for user, domain, row in zip(*pairs, drawn.tolist(), strict=True):
        left = {item for item in range(offsets[domain], offsets[domain + 1]) if (user, item) not in consumed}
        assert set(row) == left
        assert chisquare(np.bincount(row, minlength=31)[sorted(left)]).pvalue > LEAST_P


def test_shared_negatives_are_one_set_per_domain_but_for_what_a_user_has_consumed():
    offsets, random = offsets_of(30, 40), np.random.default_rng(0)
    users, items = random.integers(1, 20, 400), random.integers(1, 71, 400)
    consumed = set(zip(users.tolist(), items.tolist(), strict=True))
    negatives = InDomainNegatives(users, items, 20, offsets)
    batch_users, domains = random.integers(1, 20, 50), random.integers(0, 2, 50)
    drawn = negatives.draw_shared(batch_users, domains, 25, np.random.RandomState(4))
    assert drawn.shape == (50, 25)
    n_own = 0
    for domain in range(2):
        rows = np.flatnonzero(domains == domain)
        # What most rows have in a column is the shared item.
        shared = [np.bincount(column).argmax() for column in drawn[rows].T]
        for row in rows:
            for item, common in zip(drawn[row], shared, strict=True):
                assert offsets[domain] <= item < offsets[domain + 1]
                assert (batch_users[row], item) not in consumed
                own = (batch_users[row], common) in consumed
                assert own or item == common
                n_own += own
    assert n_own > 50


def test_shared_negatives_are_uniform():
    offsets = offsets_of(6, 3)
    negatives = InDomainNegatives(np.array([1]), np.array([2]), 3, offsets)
    one = np.ones(1, dtype=int)
    for user, left in ((1, [1, 3, 4, 5, 6]), (2, [1, 2, 3, 4, 5, 6])):
        drawn = negatives.draw_shared(user * one, 0 * one, 5000, np.random.RandomState(5))
        counts = np.bincount(drawn.ravel(), minlength=7)
        assert counts.sum() == counts[left].sum()
        assert chisquare(counts[left]).pvalue > LEAST_P


def test_shared_negatives_of_a_user_who_has_everything_come_from_the_whole_domain():
    negatives = InDomainNegatives(np.array([1, 1, 1]), np.array([1, 2, 3]), 2, offsets_of(3, 2))
    drawn = negatives.draw_shared(np.ones(4, dtype=int), np.zeros(4, dtype=int), 50, np.random.RandomState(0))
    assert set(drawn.ravel().tolist()) == {1, 2, 3}
