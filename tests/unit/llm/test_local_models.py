from __future__ import annotations

import pytest
import torch

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.local_models import in_halves


def bounded(room: int, sizes: list[int]):
    """A computation that has the memory for so much at once, and notes what it was asked for."""

    def compute(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        assert torch.is_inference_mode_enabled()
        if sum(batch) > room:
            raise torch.OutOfMemoryError("no memory")
        return [2 * value for value in batch]

    return compute


def test_a_batch_that_fits_is_computed_at_once():
    sizes: list[int] = []
    assert in_halves([1, 2, 3], bounded(6, sizes), str) == [2, 4, 6]
    assert sizes == [3]


def test_a_batch_that_does_not_fit_is_computed_in_halves_in_its_order():
    sizes: list[int] = []
    assert in_halves([5, 1, 1, 4, 2], bounded(5, sizes), str) == [10, 2, 2, 8, 4]
    assert sizes == [5, 2, 1, 1, 3, 1, 2, 1, 1]
    assert not torch.is_inference_mode_enabled()


def test_a_single_one_that_does_not_fit_is_named():
    with pytest.raises(FeatureError, match=r"^no room for 9$"):
        in_halves([1, 9, 1], bounded(5, []), lambda value: f"no room for {value}")
