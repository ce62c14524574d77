"""Vectors computed once for a pass."""

import torch

from recbole_cdsr.model.once_computed import OnceComputed


def squares(asked: list[list[int]], weight: torch.Tensor):
    def compute(ids: torch.Tensor) -> torch.Tensor:
        asked.append(ids.tolist())
        return ids[:, None] * weight

    return compute


def test_every_row_is_computed_once():
    asked, weight, known = [], torch.tensor([[1.0, 10.0]]), OnceComputed(10)
    compute = squares(asked, weight)
    for ids in ([2, 5], [5, 7, 2], [7]):
        found = known.rows(torch.tensor(ids), compute, [weight])
        assert found.tolist() == [[i, 10.0 * i] for i in ids]
    assert asked == [[2, 5], [7]]


def test_a_source_that_was_written_or_replaced_has_all_computed_anew():
    asked, weight, known = [], torch.ones(1, 1), OnceComputed(4)
    ids = torch.tensor([1, 3])
    known.rows(ids, squares(asked, weight), [weight])
    weight.mul_(2)
    assert known.rows(ids, squares(asked, weight), [weight]).tolist() == [[2.0], [6.0]]
    other = torch.full((1, 1), 5.0)
    assert known.rows(ids, squares(asked, other), [other]).tolist() == [[5.0], [15.0]]
    assert asked == [[1, 3]] * 3


def test_no_ids_and_clearing():
    asked, weight, known = [], torch.ones(1, 3), OnceComputed(4)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert known.rows(nothing, squares(asked, weight), [weight]).shape == (0, 3)
    known.rows(torch.tensor([1]), squares(asked, weight), [weight])
    known.clear()
    known.rows(torch.tensor([1]), squares(asked, weight), [weight])
    assert asked == [[], [1], [1]]


def test_what_inference_mode_left_is_made_anew_outside_of_it():
    asked, weight, known = [], torch.ones(1, 2), OnceComputed(4)
    with torch.inference_mode():
        known.rows(torch.tensor([1]), squares(asked, weight), [weight])
        known.rows(torch.tensor([1, 2]), squares(asked, weight), [weight])
    found = known.rows(torch.tensor([1, 3]), squares(asked, weight), [weight])
    assert found.tolist() == [[1.0, 1.0], [3.0, 3.0]]
    assert asked == [[1], [2], [1, 3]]
