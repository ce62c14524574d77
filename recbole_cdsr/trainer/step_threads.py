"""How many threads a training step is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL_STEP = 32_768  # 512 users of width 64


@contextmanager
def step_threads(size: int) -> Iterator[None]:
    """One thread for small steps on a CPU, PyTorch's own number for others.

    A step of LLMCDSR is some two thousand operations on about a thousand tokens each; waking other threads for every
    one of them takes longer than they save. The size is one of the configuration, not a measured time, so that a run
    repeats to the bit.

    Parameters
    ----------
    size
        Users of the largest batch of a step times the width of their states.
    """
    n_threads = torch.get_num_threads()
    if size <= SMALL_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
