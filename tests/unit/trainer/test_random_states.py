from __future__ import annotations

import random

import numpy as np
import torch

from recbole_cdsr.trainer.checkpoint import load_checkpoint, save_checkpoint
from recbole_cdsr.trainer.random_states import random_states, restore_random_states


def draws() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.random_sample()),
        float(np.random.standard_normal()),
        float(torch.rand(())),
        float(torch.randn(())),
    ]


def test_draws_repeat_after_restoring_through_a_file(tmp_path):
    random.gauss(0, 1), np.random.standard_normal()  # both keep the second value of a pair for the next call
    save_checkpoint(tmp_path / "states.pth", random_states())
    first = draws()
    assert draws() != first
    restore_random_states(load_checkpoint(tmp_path / "states.pth"))
    assert draws() == first


def test_states_of_gpus_that_are_not_here_are_left_out():
    states = random_states()
    first = draws()
    restore_random_states(states | {"cuda": states["cuda"] + [states["torch"]] * 9})
    assert draws() == first
