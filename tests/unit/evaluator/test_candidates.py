from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import chi2

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.evaluator import CandidateSampler, EvaluationRows, candidates, parse_candidates

RowsFactory = Callable[..., EvaluationRows]


def sampler(name: str, rows: EvaluationRows, seed: int = 2026, domains: str = "target") -> CandidateSampler:
    return CandidateSampler(parse_candidates(name)[0], seed, rows, domains)


def every_row(rows: EvaluationRows) -> np.ndarray:
    return np.arange(len(rows))


def same_user_rows(n_rows: int, counts: list[int]) -> EvaluationRows:
    """Rows alike in all but their keys: domain 0 has one item more than ``counts``, the target; domain 1 one item."""
    n_items = len(counts) + 3
    return EvaluationRows(
        split="test",
        users=np.ones(n_rows, dtype=np.int64),
        targets=np.full(n_rows, len(counts) + 1),
        target_domains=np.zeros(n_rows, dtype=np.int64),
        history_pointers=np.zeros((n_rows, 2), dtype=np.int64),
        flat_items=np.zeros(0, dtype=np.int64),
        user_item_keys=np.array([n_items + len(counts) + 1]),
        train_item_counts=np.array([0, *counts, 9, 9]),
        domain_offsets=np.array([1, len(counts) + 2, n_items]),
        domain_names=["books", "movies"],
        row_keys=np.arange(n_rows),
    )


def admissible(rows: EvaluationRows, row: int, domains: str = "target") -> set[int]:
    k = rows.target_domains[row]
    low, high = rows.domain_offsets[k], rows.domain_offsets[k + 1]
    if domains == "all":
        low, high = 1, rows.n_items
    keys = set(rows.user_item_keys.tolist())
    items = {item for item in range(low, high) if rows.users[row] * rows.n_items + item not in keys}
    return items - {int(rows.targets[row])}


def test_parse_reads_lists_and_bare_strings() -> None:
    specs = parse_candidates(["full", "uni999", "pop20"])
    assert [(spec.name, spec.kind, spec.size) for spec in specs] == [
        ("full", "full", 0),
        ("uni999", "uni", 999),
        ("pop20", "pop", 20),
    ]
    assert parse_candidates("uni100") == parse_candidates(["uni100"])


@pytest.mark.parametrize(
    "value",
    [
        [],
        "",
        "uni",
        "uni0",
        "pop-3",
        "all",
        "labeled",
        ["full", 100],
        None,
        5,
        ["uni5", "uni5"],
        "uni1.5",
        "uni9\n",
    ],
)
def test_parse_refuses_anything_else(value: object) -> None:
    with pytest.raises(ConfigError, match="eval_candidates"):
        parse_candidates(value)


@pytest.mark.parametrize("name", ["uni8", "pop8", "uni30", "pop30"])
@pytest.mark.parametrize("sizes", [(40, 25), (30, 12, 50)])
@pytest.mark.parametrize("domains", ["target", "all"])
def test_candidates_are_distinct_and_admissible(
    random_rows: RowsFactory, name: str, sizes: tuple[int, ...], domains: str
) -> None:
    rows = random_rows(sizes)
    size = int(name[3:])
    drawer = sampler(name, rows, domains=domains)
    table = drawer.candidates(every_row(rows))
    assert table.dtype == np.int32
    for row in range(len(rows)):
        items = table[row][table[row] > 0].tolist()
        allowed = admissible(rows, row, domains)
        assert len(set(items)) == len(items) == drawer.n_candidates[row] == min(size, len(allowed))
        assert set(items) <= allowed
        assert items == sorted(items)


@pytest.mark.parametrize("name", ["uni8", "pop8", "uni60"])
def test_what_is_kept_is_bounded_and_the_same_is_drawn_again(
    random_rows: RowsFactory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rows = random_rows((50, 70), n_rows=40)
    whole = sampler(name, rows).candidates(every_row(rows))
    for n_kept in (0, 13, 40):
        monkeypatch.setattr(candidates, "_KEPT_BYTES", n_kept * whole[0].nbytes)
        drawer = sampler(name, rows)
        for asked in (np.arange(8, 20), np.array([30, 2, 30, 12, 13, 2]), every_row(rows), every_row(rows)[::-1]):
            np.testing.assert_array_equal(drawer.candidates(asked), whole[asked])
        held = [value for value in vars(drawer).values() if isinstance(value, np.ndarray) and value.dtype == np.int32]
        assert sum(value.nbytes for value in held) == n_kept * whole[0].nbytes


@pytest.mark.parametrize("name", ["uni8", "pop8"])
def test_candidates_depend_on_seed_split_and_row_key_alone(random_rows: RowsFactory, name: str) -> None:
    rows = random_rows((200, 150), n_rows=40)
    whole = sampler(name, rows).candidates(every_row(rows))

    one_by_one = sampler(name, rows)
    backwards = np.stack([one_by_one.candidates(np.array([row]))[0] for row in reversed(range(len(rows)))])[::-1]
    np.testing.assert_array_equal(backwards, whole)
    np.testing.assert_array_equal(one_by_one.candidates(every_row(rows)), whole)

    picked = np.array([31, 4, 17])
    alone = replace(
        rows,
        users=rows.users[picked],
        targets=rows.targets[picked],
        target_domains=rows.target_domains[picked],
        history_pointers=rows.history_pointers[picked],
        row_keys=rows.row_keys[picked],
    )
    np.testing.assert_array_equal(sampler(name, alone).candidates(np.arange(3)), whole[picked])

    for other in (
        sampler(name, rows, seed=2027),
        sampler(name, replace(rows, split="test")),
        sampler(name, replace(rows, row_keys=rows.row_keys + 1)),
    ):
        assert (other.candidates(every_row(rows)) != whole).any(axis=1).mean() > 0.9


def splitmix(value: int) -> int:
    mask = (1 << 64) - 1
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & mask
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & mask
    return value ^ (value >> 31)


def naive_candidates(rows: EvaluationRows, row: int, kind: str, size: int, seed: int) -> list[int]:
    """First arrivals by plain integers and a full sort, without horizon, chunk or batch."""
    mask, gamma = (1 << 64) - 1, 0x9E3779B97F4A7C15
    base = int.from_bytes(blake2b(f"{seed}/{rows.split}".encode(), digest_size=8).digest(), "little")
    state = splitmix((base + splitmix((int(rows.row_keys[row]) + 1) * gamma & mask)) & mask)
    arrivals = []
    for item in sorted(admissible(rows, row)):
        uniform = ((splitmix((state + item * gamma) & mask) >> 12) + 0.5) / 2**52
        weight = 1 if kind == "uni" else int(rows.train_item_counts[item])
        time = -math.log1p(-uniform)
        arrivals.append((time / weight, item) if weight else (1e3 + time, item))
    return sorted(item for _, item in sorted(arrivals)[:size])


@pytest.mark.parametrize("name", ["uni5", "pop5", "uni60", "pop60", "pop150"])
@pytest.mark.parametrize("longest", [12, 300])
def test_candidates_equal_the_first_arrivals(random_rows: RowsFactory, name: str, longest: int) -> None:
    rows = random_rows((400, 170), n_rows=30, longest=longest)
    table = sampler(name, rows, seed=5).candidates(every_row(rows))
    for row in range(len(rows)):
        expected = naive_candidates(rows, row, name[:3], int(name[3:]), 5)
        assert table[row][: len(expected)].tolist() == expected


def test_uniform_draws_are_uniform_and_rows_independent() -> None:
    n_rows, n, size = 20_000, 50, 10
    rows = same_user_rows(n_rows, [0] * n)
    table = sampler(f"uni{size}", rows).candidates(every_row(rows))
    drawn = np.bincount(table.ravel(), minlength=n + 1)[1 : n + 1]
    expected = n_rows * size / n
    # Draws without replacement: a count varies by R p (1 − p), and the counts sum to R N.
    statistic = ((drawn - expected) ** 2).sum() / (expected * (1 - size / n)) * (n - 1) / n
    assert chi2.ppf(0.001, n - 1) < statistic < chi2.ppf(0.999, n - 1)

    member = np.zeros((n_rows, n + 2), dtype=bool)
    np.put_along_axis(member, table.astype(np.int64), True, axis=1)
    shared = (member[1:] & member[:-1]).sum(axis=1)  # hypergeometric between independent rows
    variance = size * (size / n) * (1 - size / n) * (n - size) / (n - 1)
    assert abs(shared.mean() - size * size / n) < 4 * math.sqrt(variance / len(shared))
    assert abs(shared.var() / variance - 1) < 0.05


def inclusion_probabilities(weights: list[int], size: int) -> np.ndarray:
    """Of successive draws without replacement, by enumeration."""
    included = np.zeros(len(weights))
    for order in permutations(range(len(weights)), size):
        probability, rest = 1.0, sum(weights)
        for item in order:
            probability *= weights[item] / rest
            rest -= weights[item]
        included[list(order)] += probability
    return included


@pytest.mark.parametrize("size", [1, 3])
def test_popular_items_are_drawn_in_proportion(size: int) -> None:
    weights, n_rows = [40, 1, 7, 0, 13, 2, 2], 30_000
    rows = same_user_rows(n_rows, weights)
    table = sampler(f"pop{size}", rows).candidates(every_row(rows))
    drawn = np.bincount(table.ravel(), minlength=9)[1:8] / n_rows
    expected = inclusion_probabilities(weights, size)
    assert drawn[3] == expected[3] == 0
    deviation = np.sqrt(expected * (1 - expected) / n_rows)
    assert (np.abs(drawn - expected) < 4 * deviation + 1e-12).all()


def test_popularity_with_an_early_horizon_is_in_proportion() -> None:
    weights = (1000 / np.arange(1, 1001)).astype(int)
    rows = same_user_rows(20_000, weights.tolist())
    first = sampler("pop1", rows).candidates(every_row(rows))[:, 0]
    drawn = np.bincount(first, minlength=1003)[1:1001]
    expected = weights / weights.sum() * len(rows)
    large = expected > 10
    statistic = ((drawn - expected)[large] ** 2 / expected[large]).sum()
    assert chi2.ppf(0.001, large.sum()) < statistic < chi2.ppf(0.999, large.sum())


def test_untrained_items_fill_up_only_when_the_others_are_used_up() -> None:
    rows = same_user_rows(500, [5, 0, 0, 3, 0, 8, 0])
    table = sampler("pop5", rows).candidates(every_row(rows))
    assert all({1, 4, 6} <= set(row) for row in table.tolist())
    fillers = np.bincount(table.ravel(), minlength=9)[[2, 3, 5, 7]]
    assert fillers.sum() == 2 * 500
    assert (np.abs(fillers - 250) < 4 * math.sqrt(500 * 0.25)).all()


def test_fewer_items_than_wanted_are_clamped_and_said_once(
    random_rows: RowsFactory, caplog: pytest.LogCaptureFixture
) -> None:
    rows = random_rows((40, 25))
    with caplog.at_level(logging.WARNING):
        drawer = sampler("uni30", rows)
        table = drawer.candidates(every_row(rows))
        drawer.candidates(every_row(rows))
    small = rows.target_domains == 1
    assert (drawer.n_candidates[small] < 30).all()
    for row in np.flatnonzero(small):
        assert set(table[row].tolist()) - {0} == admissible(rows, row)
    (record,) = caplog.records
    assert f"uni30: {(drawer.n_candidates < 30).sum()} of 60 valid rows" in record.message

    caplog.clear()
    sampler("uni5", rows)
    assert not caplog.records


def test_smaller_samples_are_part_of_larger_ones(random_rows: RowsFactory) -> None:
    rows = random_rows((300, 400))
    few = sampler("uni10", rows).candidates(every_row(rows))
    many = sampler("uni100", rows).candidates(every_row(rows))
    assert all(set(a) <= set(b) for a, b in zip(few.tolist(), many.tolist(), strict=True))


def test_target_outside_the_users_items_is_still_excluded(random_rows: RowsFactory) -> None:
    rows = random_rows((12, 9), n_rows=20)
    rows = replace(rows, user_item_keys=np.zeros(0, dtype=np.int64))
    drawer = sampler("uni50", rows)
    table = drawer.candidates(every_row(rows))
    for row in range(len(rows)):
        assert set(table[row].tolist()) - {0} == admissible(rows, row)
        assert drawer.n_candidates[row] == len(admissible(rows, row))
