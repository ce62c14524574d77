"""The threads of a training step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from recbole_cdsr.trainer.step_threads import SMALL_STEP, step_threads


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("size", "expected"), [(128 * 64, 1), (SMALL_STEP, 1), (SMALL_STEP + 1, 3)])
def test_small_steps_have_one_thread_and_the_others_come_back(size: int, expected: int) -> None:
    with step_threads(size):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 3


def test_a_step_that_fails_gives_them_back_too() -> None:
    with pytest.raises(KeyError), step_threads(1):
        raise KeyError
    assert torch.get_num_threads() == 3
