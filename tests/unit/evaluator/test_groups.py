from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_cdsr.evaluator import EvaluationRows, groups, head_items

RowsFactory = Callable[..., EvaluationRows]


def naive_head(counts: list[int]) -> set[int]:
    ordered = sorted(range(len(counts)), key=lambda item: (-counts[item], item))
    head: set[int] = set()
    for item in ordered:
        if 5 * sum(counts[other] for other in head) >= sum(counts):
            break
        head.add(item)
    return head


@pytest.mark.parametrize("sizes", [(40, 25), (30, 12, 50)])
@pytest.mark.parametrize("longest", [3, 30])
def test_groups_equal_naive_loops(random_rows: RowsFactory, sizes: tuple[int, ...], longest: int) -> None:
    rows = random_rows(sizes, n_rows=300, longest=longest)
    found = groups(rows)
    head = naive_head(rows.train_item_counts.tolist())
    for row in range(len(rows)):
        start, stop = rows.history_pointers[row]
        history = rows.flat_items[start:stop].tolist()
        domains = {sum(item >= bound for bound in rows.domain_offsets[1:]) for item in history}
        target = int(rows.targets[row])
        assert found["overlapped"][row] == (len(domains) >= 2)
        assert found["single_domain"][row] == (len(domains) < 2)
        assert found["len_1_5"][row] == (len(history) <= 5)
        assert found["len_6_10"][row] == (6 <= len(history) <= 10)
        assert found["len_11_20"][row] == (11 <= len(history) <= 20)
        assert found["len_21_up"][row] == (len(history) >= 21)
        assert found["head"][row] == (target in head)
        assert found["tail"][row] == (target not in head)
        assert found["cold_target"][row] == (rows.train_item_counts[target] == 0)
    assert all(member.dtype == bool and member.shape == (300,) for member in found.values())
    assert found["cold_target"].any()
    assert found["head"].any()


def test_groups_partition_the_rows(random_rows: RowsFactory) -> None:
    found = groups(random_rows(n_rows=200, longest=30))
    lengths = [member for name, member in found.items() if name.startswith("len_")]
    assert (np.sum(lengths, axis=0) == 1).all()
    assert (found["overlapped"] ^ found["single_domain"]).all()
    assert (found["head"] ^ found["tail"]).all()
    assert not (found["cold_target"] & found["head"]).any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=30))
def test_head_is_the_smallest_prefix_with_a_fifth(counts: list[int]) -> None:
    head = set(np.flatnonzero(head_items(np.array(counts))).tolist())
    assert head == naive_head(counts)


def test_head_takes_equally_popular_items_by_id_and_a_whole_fifth_exactly() -> None:
    assert np.flatnonzero(head_items(np.array([0, 1, 7, 7, 7, 7, 6]))).tolist() == [2]
    # 35 interactions, a fifth is 7: in binary fractions 0.2 · 35 exceeds 7.
    assert head_items(np.array([0, 1, 1] + [1] * 26 + [7])).sum() == 1


def test_without_training_interactions_nothing_is_head(random_rows: RowsFactory) -> None:
    rows = random_rows()
    found = groups(replace(rows, train_item_counts=np.zeros(rows.n_items, dtype=np.int64)))
    assert not found["head"].any()
    assert found["cold_target"].all()
