"""Counts of better and equal scores."""

from __future__ import annotations

import pytest
import torch

from recbole_cdsr.evaluator import counting
from recbole_cdsr.evaluator.counting import better_and_equal, shared_ranks


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("n_rows", [0, 1, 7, 200])
def test_counts_are_those_of_comparisons(monkeypatch, n_rows, transposed, dtype):
    monkeypatch.setattr(counting, "_SCORES_AT_ONCE", 900)
    generator = torch.Generator().manual_seed(n_rows)
    scores = torch.randint(-4, 5, (31, n_rows) if transposed else (n_rows, 31), generator=generator).to(dtype)
    scores = scores.T if transposed else scores
    scores[:, ::7] = -torch.inf
    own = scores[:, 3:4]
    better, equal = better_and_equal(scores, own)
    assert (better.dtype, equal.dtype) == (torch.int32, torch.int32)
    assert torch.equal(better, (scores > own).sum(1).int())
    assert torch.equal(equal, (scores == own).sum(1).int())


def test_nan_is_neither():
    scores = torch.tensor([[1.0, torch.nan, 3.0, 1.0]])
    better, equal = better_and_equal(scores, scores[:, :1])
    assert (int(better), int(equal)) == (1, 2)


def test_many_equal_scores_are_counted_exactly():
    scores = torch.zeros(1, 2**21 + 1)
    scores[0, 5] = 1.0
    better, equal = better_and_equal(scores, scores[:, :1])
    assert (int(better), int(equal)) == (1, 2**21)


def test_equal_scores_share_the_mean_of_their_ranks_rounded_up():
    better, equal = (torch.tensor(counts, dtype=torch.int32) for counts in ([0, 0, 0, 9, 0], [1, 2, 19, 1, 20]))
    assert shared_ranks(better, equal).tolist() == [1, 2, 10, 10, 11]
