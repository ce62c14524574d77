"""Splits of the flat array against plain Python."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_cdsr.data.sequences import TEST, TRAIN, VALID, leave_one_out, pre_split, recbole_order

# A user, and a time of which there are few, so that times tie.
EVENTS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4)), min_size=1, max_size=60)


def arrays(events: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and times; every interaction has an item of its own, its place in the file plus one."""
    users = np.array([user for user, _ in events])
    return users, np.arange(len(events)) + 1, np.array([time for _, time in events], dtype=np.float64)


def sequences_of(events: list[tuple[int, int]], first: int = 0) -> dict[int, list[int]]:
    """Items of each user by time; equal times keep the order of the file."""
    by_user = defaultdict(list)
    for place, (user, time) in enumerate(events):
        by_user[user].append((time, place + first + 1))
    return {user: [item for _, item in sorted(rows, key=lambda row: row[0])] for user, rows in sorted(by_user.items())}


def as_cases(log, rows) -> list[tuple[int, list[int], int]]:
    return [
        (int(log.users[target]), log.items[start:target].tolist(), int(log.items[target]))
        for start, target in zip(rows.starts, rows.targets, strict=True)
    ]


@given(EVENTS)
@settings(deadline=None, max_examples=150)
def test_leave_one_out_against_plain_python(events):
    log = leave_one_out(*arrays(events))
    valid, test, train, prefixes, per_user = [], [], [], [], []
    for user, items in sequences_of(events).items():
        n_train = {1: 1, 2: 2, 3: 2}.get(len(items), len(items) - 2)
        if len(items) >= 4:
            valid.append((user, items[:-2], items[-2]))
        if len(items) >= 3:
            test.append((user, items[:-1], items[-1]))
        train += items[:n_train]
        prefixes += [(user, items[:j], items[j]) for j in range(1, n_train)]
        if n_train >= 2:
            per_user.append((user, items[: n_train - 1], items[n_train - 1]))
    assert as_cases(log, log.valid) == valid
    assert as_cases(log, log.test) == test
    for fold_in in (True, False):  # nobody is held out
        assert log.items[log.training_positions(fold_in)].tolist() == train
        assert sorted(as_cases(log, log.prefix_rows(fold_in))) == prefixes
        assert as_cases(log, log.user_rows(fold_in)) == per_user
    times = arrays(events)[2]
    np.testing.assert_array_equal(log.items, log.order + 1)
    np.testing.assert_array_equal(log.times, times[log.order])
    assert (log.segment_parts == TRAIN).all()


@given(EVENTS)
@settings(deadline=None, max_examples=100)
def test_order_of_rows_is_that_of_recboles_sort_and_grouping(events):
    users, _, times = arrays(events)
    by_time = sorted(range(len(events)), key=lambda row: times[row])
    grouped = defaultdict(list)
    for row in by_time:
        grouped[users[row]].append(row)
    assert recbole_order(users, times).tolist() == [row for rows in grouped.values() for row in rows]


def test_seconds_of_today_keep_their_order():
    """In float32 the six events, a second apart, are one moment, and file order would decide."""
    now = 1_790_000_000.0
    times = now + np.array([5.0, 1.0, 3.0, 0.0, 4.0, 2.0])
    assert len(np.unique(times.astype(np.float32))) == 1
    log = leave_one_out(np.full(6, 1), np.arange(6) + 1, times)
    assert log.items.tolist() == [4, 2, 6, 3, 5, 1]
    assert as_cases(log, log.test) == [(1, [4, 2, 6, 3, 5], 1)]
    times = now + np.array([1.0, 0.0, 2.0, 1.0, 0.0, 1.0, 0.0])
    held_out = pre_split(np.array([1, 1, 2, 2, 2, 3, 3]), np.arange(7) + 1, times, [2, 3, 2])
    assert held_out.items.tolist() == [2, 1, 5, 4, 3, 7, 6]


PARTS = st.tuples(*[st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=25)] * 3)


def pre_split_of(parts: tuple[list[tuple[int, int]], ...]):
    users, items, times = arrays([event for part in parts for event in part])
    return pre_split(users, items, times, [len(part) for part in parts])


def sequences_by_part(parts: tuple[list[tuple[int, int]], ...]) -> list[dict[int, list[int]]]:
    firsts = np.cumsum([0, *(len(part) for part in parts)])
    return [sequences_of(part, int(first)) for part, first in zip(parts, firsts[:-1], strict=True)]


@given(PARTS)
@settings(deadline=None, max_examples=150)
def test_pre_split_files_against_plain_python(parts):
    """Users may be in any of the files; interactions are told apart by their place."""
    log, (train, valid, test) = pre_split_of(parts), sequences_by_part(parts)
    for rows, part, held in ((log.valid, parts[1], valid), (log.test, parts[2], test)):
        in_file_order = dict.fromkeys(user for user, _ in part)
        assert as_cases(log, rows) == [(user, held[user][:-1], held[user][-1]) for user in in_file_order]
    assert log.segment_parts.tolist() == [TRAIN] * len(train) + [VALID] * len(valid) + [TEST] * len(test)

    without = dict(train)
    folded = {
        **{user: items[:-1] for user, items in test.items()},
        **{user: items[:-1] for user, items in valid.items()},
        **without,
    }
    for fold_in, expected in ((False, without), (True, folded)):
        flat = log.training_positions(fold_in)
        assert sorted(log.items[flat].tolist()) == sorted(item for items in expected.values() for item in items)
        rows = sorted(as_cases(log, log.prefix_rows(fold_in)))
        assert rows == sorted((u, items[:j], items[j]) for u, items in expected.items() for j in range(1, len(items)))
        rows = sorted(as_cases(log, log.user_rows(fold_in)))
        assert rows == sorted((u, items[:-1], items[-1]) for u, items in expected.items() if len(items) >= 2)

    histories = log.histories()
    held = {
        int(user): histories.item_ids[histories.pointers[j] : histories.pointers[j + 1]].tolist()
        for j, user in enumerate(histories.user_ids)
    }
    assert held == {user: items for user, items in folded.items() if items}
    assert histories.user_ids.tolist() == sorted(held)


@given(PARTS)
@settings(deadline=None, max_examples=150)
def test_no_target_is_ever_trained_on(parts):
    """Interactions are unique here, so that a leak shows as a common number."""
    log = pre_split_of(parts)
    targets = set(log.items[log.valid.targets]) | set(log.items[log.test.targets])
    assert not targets & set(log.items[log.training_positions(fold_in=True)])
    assert not targets & set(log.histories().item_ids)
    for rows in (log.prefix_rows(fold_in=True), log.user_rows(fold_in=True)):
        assert not targets & set(log.items[rows.targets])


@given(EVENTS)
@settings(deadline=None, max_examples=50)
def test_histories_of_leave_one_out_are_the_training_part(events):
    log = leave_one_out(*arrays(events))
    histories = log.histories()
    np.testing.assert_array_equal(histories.item_ids, log.items[log.training_positions(fold_in=False)])
    judged = set(log.items[log.valid.targets]) | set(log.items[log.test.targets])
    assert not judged & set(histories.item_ids)
    for j, user in enumerate(histories.user_ids):
        items = histories.item_ids[histories.pointers[j] : histories.pointers[j + 1]]
        assert set(log.users[np.isin(log.items, items)]) == {user}


def test_a_later_file_that_holds_an_earlier_files_target_is_not_folded_in():
    """The test history of user 1 holds the validation target 3; training on it would give it away."""
    users = np.array([9, 9, 1, 1, 1, 1, 1, 1, 1])
    items = np.array([7, 8, 5, 6, 3, 5, 6, 3, 4])
    log = pre_split(users, items, np.arange(9.0), [2, 3, 4])
    assert as_cases(log, log.valid) == [(1, [5, 6], 3)]
    assert as_cases(log, log.test) == [(1, [5, 6, 3], 4)]
    trained = log.training_positions(fold_in=True)
    assert list(zip(log.users[trained], log.items[trained], strict=True)) == [(9, 7), (9, 8), (1, 5), (1, 6)]


def test_rows_can_be_taken_in_any_order():
    log = leave_one_out(*arrays([(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]))
    both = as_cases(log, log.test)
    assert as_cases(log, log.test.take(np.array([1, 0, 1]))) == [both[1], both[0], both[1]]
    assert len(log.test) == 2


@pytest.mark.parametrize("n_users", [0, 1])
def test_data_without_a_judged_row(n_users):
    log = leave_one_out(np.ones(2 * n_users, int), np.ones(2 * n_users, int), np.arange(2.0 * n_users))
    assert len(log.valid) == len(log.test) == 0
    assert len(log.user_rows(False)) == n_users
