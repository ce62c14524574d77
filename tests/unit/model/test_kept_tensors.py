"""Dataclasses of tensors that are kept up to so many bytes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_cdsr.model.kept_tensors import KeptTensors


@dataclass(frozen=True)
class Pair:
    one: Tensor
    other: Tensor


def pair(n_bytes: int) -> Pair:
    return Pair(*(torch.zeros(n_bytes // 2, dtype=torch.uint8) for _ in range(2)))


class Made:
    """Counts what is made."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, n_bytes: int) -> Pair:
        self.sizes.append(n_bytes)
        return pair(n_bytes)


def test_what_was_used_longest_ago_is_dropped_first() -> None:
    made, kept = Made(), KeptTensors(100)
    for size in (40, 20, 40):
        assert kept.get(size, lambda size=size: made(size)).one.numel() == size // 2
    assert (made.sizes, kept.n_bytes) == ([40, 20], 60)
    kept.get(60, lambda: made(60))  # 20 goes, 40 was asked for again
    kept.get(40, lambda: made(40))
    assert (made.sizes, kept.n_bytes) == ([40, 20, 60], 100)
    kept.get(20, lambda: made(20))
    assert (made.sizes, kept.n_bytes) == ([40, 20, 60, 20], 60)


def test_one_thing_is_kept_whatever_its_size() -> None:
    made, kept = Made(), KeptTensors(100)
    for size in (20, 300, 300):
        kept.get(size, lambda size=size: made(size))
    assert (made.sizes, kept.n_bytes) == ([20, 300], 300)
    kept.get(20, lambda: made(20))
    assert kept.n_bytes == 20


def test_a_view_counts_as_all_that_it_keeps_in_memory() -> None:
    kept = KeptTensors(100)
    kept.get("view", lambda: Pair(torch.zeros(64, dtype=torch.uint8)[:2], torch.zeros(0)))
    assert kept.n_bytes == 64
