"""Noisy rows on a small dataset of three domains."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_cdsr.data.augmented_rows import AugmentedRows, overlapped_rows

ITEMS = {f"{domain}{i}": domain for domain in "abc" for i in range(5)}
SEQUENCES = {"u1": ["a0", "a1", "a2"], "u2": ["b0", "b1", "b2"], "u3": ["a1", "b2", "c0"], "u4": ["c1", "c2", "a3"]}


@pytest.fixture
def train(write_dataset, load):
    rows = [(user, item, float(t)) for user, items in SEQUENCES.items() for t, item in enumerate(items)]
    rows += [(user, "c4", 9.0) for user in SEQUENCES]
    write_dataset(ITEMS, rows)
    return load("SASRecBCE").build()[0]


def user_ids(train, *names: str) -> np.ndarray:
    return np.array([train.token2id("user_id", name) for name in names])


def test_overlapped_rows_are_those_of_several_domains_in_training(train) -> None:
    users = train.log.users[train.rows.targets[overlapped_rows(train)]]
    sequences = {train.id2token("user_id", user) for user in users}
    # Validation and test take the last two of the four interactions: u1 and u2 train on one domain, u4 too.
    assert sequences == {"u3"}


def test_batches_hold_every_recalled_place_of_their_users(train) -> None:
    u1, u2, u3 = user_ids(train, "u1", "u2", "u3")
    users = np.array([u1, u1, u2, u2, u3])
    into = np.array([1, 2, 0, 2, 0])
    rows = AugmentedRows(train, users, into, np.array([3, 4, 0, 5, 0]), recall_sizes=[5, 2, 3], width=5)
    assert len(rows) == 2
    assert rows.n_without_texts == 2
    np.random.seed(0)
    batch = rows.batch(np.array([1, 0]))
    entry_users = users[batch.entries]
    assert sorted(batch.entries) == [0, 1, 3]
    layout = batch.layout
    places = layout.sources[layout.sources >= 0]
    row_users = train.log.users[train.rows.targets[rows.rows[[1, 0]]]]
    # Of entry e the numbers are e * width + 0 .. size - 1, and they stand in a row of their user.
    sizes = np.array([5, 2, 3])[into[batch.entries]]
    assert set(places) <= {e * 5 + j for e, size in enumerate(sizes) for j in range(size)}
    standing = layout.rows[layout.sources >= 0]
    assert (entry_users[places // 5] == row_users[standing]).all()
    # Two training items and every recalled one are a row's tokens; inputs are all but the last.
    recalled = {user: sizes[entry_users == user].sum() for user in row_users}
    assert layout.lengths.tolist() == [1 + recalled[user] for user in row_users]
    assert len(places) == len(set(places)) == sizes.sum()
    learnt = layout.targets > 0
    assert (train.item_domain[batch.negatives[learnt]] == train.item_domain[layout.targets[learnt]]).all()
    assert not batch.negatives[~learnt].any()
    for user, negative in zip(row_users[layout.rows[learnt]], batch.negatives[learnt], strict=True):
        first_two = train.log.items[train.log.users == user][:2]
        assert negative not in first_two


def test_users_without_a_training_row_are_counted(train) -> None:
    rows = AugmentedRows(train, np.array([0]), np.array([1]), np.array([3]), [5, 5, 5], 5)
    assert (len(rows), rows.n_without_rows) == (0, 1)
