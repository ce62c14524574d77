"""Sequences of one domain, against walking through users."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from recbole_cdsr.data.sequences import leave_one_out, pre_split
from recbole_cdsr.trainer.pretraining_data import DomainSequences

OFFSETS = np.array([1, 6, 10])  # items 1-5 and 6-9
ITEM_DOMAIN = np.array([-1] + [0] * 5 + [1] * 4)


def dataset(sequences: dict[int, list[int]], parts: list[dict[int, list[int]]] | None = None) -> SimpleNamespace:
    def columns(users: dict[int, list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        owner = np.repeat(list(users), [len(s) for s in users.values()])
        items = np.concatenate([np.array(s, dtype=np.int64) for s in users.values()])
        return owner, items, np.concatenate([np.arange(len(s), dtype=float) for s in users.values()])

    if parts is None:
        log = leave_one_out(*columns(sequences))
    else:
        all_parts = [columns(users) for users in (sequences, *parts)]
        joined = [np.concatenate(column) for column in zip(*all_parts, strict=True)]
        log = pre_split(*joined, [len(owner) for owner, _, _ in all_parts])
    return SimpleNamespace(log=log, item_domain=ITEM_DOMAIN, domain_offsets=OFFSETS)


def rows_of(batch) -> list[tuple[list[int], list[int]]]:
    stops = np.cumsum(batch.lengths.numpy())
    parts = [slice(stop - length, stop) for stop, length in zip(stops, batch.lengths.tolist(), strict=True)]
    return [(batch.items[part].tolist(), batch.targets[part].tolist()) for part in parts]


def test_last_items_are_held_out_and_other_domains_left_out() -> None:
    # Leave-one-out takes the last two of each user for validation and test.
    data = dataset({1: [1, 6, 2, 7, 3, 4, 9, 9], 2: [5, 4, 8, 8], 3: [6, 7, 8, 9, 1, 1]})
    first, second = (DomainSequences(data, domain) for domain in (0, 1))
    random = np.random.RandomState(0)
    assert (first.n_items, second.n_items) == (5, 4)
    # User 1: books 1 2 3 4, of which 4 is held out; user 2: 5 4, too short to hold out; user 3: none.
    assert rows_of(first.training_batch(first.trained, 10, random)) == [([1, 2], [2, 3]), ([5], [4])]
    lengths, items, targets = first.validation_batch(first.validated, 10)
    assert (lengths.tolist(), items.tolist(), targets.tolist()) == ([3], [1, 2, 3], [4])
    # Of the second domain with local ids: user 1 has 6 7, user 3 has 6 7 8 9.
    assert rows_of(second.training_batch(second.trained, 10, random)) == [([1], [2]), ([1, 2], [2, 3])]


def test_windows_keep_the_latest_items() -> None:
    first = DomainSequences(dataset({1: [1, 2, 3, 4, 5, 1, 9, 9]}), 0)
    assert rows_of(first.training_batch(first.trained, 2, np.random.RandomState(0))) == [([3, 4], [4, 5])]
    _, items, targets = first.validation_batch(first.validated, 2)
    assert (items.tolist(), targets.tolist()) == ([4, 5], [1])


def test_negatives_are_of_the_domain_and_not_of_the_trained_part() -> None:
    first = DomainSequences(dataset({1: [1, 2, 3, 4, 9, 9]}), 0)
    drawn = {
        int(negative)
        for seed in range(40)
        for negative in first.training_batch(first.trained, 9, np.random.RandomState(seed)).negatives
    }
    assert drawn == {4, 5}  # 1, 2, 3 are trained on; 4 is held out and may be drawn


def test_evaluation_users_of_a_release_are_not_trained_on() -> None:
    data = dataset({1: [1, 2, 3]}, parts=[{2: [4, 5, 1]}, {3: [2, 4, 5]}])
    first = DomainSequences(data, 0)
    assert rows_of(first.training_batch(first.trained, 9, np.random.RandomState(0))) == [([1], [2])]
    assert len(first.validated) == 1


@pytest.mark.parametrize("changed", [{1: [1, 3, 2]}, {1: [1, 2, 3], 2: [1, 2]}])
def test_the_hash_follows_the_content(changed: dict[int, list[int]]) -> None:
    parts = [{8: [4, 5, 1]}, {9: [2, 4, 5]}]
    before = DomainSequences(dataset({1: [1, 2, 3]}, parts), 0)
    assert before.sha256() == DomainSequences(dataset({1: [1, 2, 3]}, parts), 0).sha256()
    assert before.sha256() != DomainSequences(dataset(changed, parts), 0).sha256()
