from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from recbole_cdsr.trainer.checkpoint import load_checkpoint, save_checkpoint
from recbole_cdsr.trainer.random_states import random_states, restore_random_states

CPU = torch.device("cpu")


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
    save_checkpoint(tmp_path / "states.pth", random_states(CPU))
    first = draws()
    assert draws() != first
    restore_random_states(load_checkpoint(tmp_path / "states.pth"))
    assert draws() == first


def test_states_of_gpus_that_are_not_here_are_left_out():
    states = random_states(CPU)
    first = draws()
    restore_random_states(states | {"cuda": states["cuda"] + [states["torch"]] * 9})
    assert draws() == first


@pytest.mark.parametrize(
    ("device", "computed_on_gpus", "n_read"), [("cpu", False, 0), ("cpu", True, 2), ("cuda", False, 2)]
)
def test_gpus_are_left_alone_unless_something_may_draw_there(monkeypatch, device, computed_on_gpus, n_read):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: computed_on_gpus)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.get_rng_state()] * 2)
    assert len(random_states(torch.device(device))["cuda"]) == n_read


def test_restoring_states_of_gpus_computes_nothing_there(monkeypatch):
    states = random_states(CPU)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    deferred = []
    monkeypatch.setattr(torch.cuda.random, "_lazy_call", deferred.append)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("CUDA was initialised"))
    first = draws()
    restore_random_states(states | {"cuda": [states["torch"]]})
    assert draws() == first
    assert len(deferred) == 1
