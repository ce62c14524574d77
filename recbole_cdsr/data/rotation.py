"""Endless shuffled batches that depend on nothing but a seed and the number of the step."""

from __future__ import annotations

import numpy as np


class Rotation:
    """Goes through n entries in a new random order each time around, a batch a step.

    The batch of a step needs no state, so that a resumed run sees the same one.

    Parameters
    ----------
    n_entries
        n ≥ 1.
    batch_size
        Entries per batch; a batch has at most n.
    seed
        Two rotations of different seeds are independent.
    """

    def __init__(self, n_entries: int, batch_size: int, seed: tuple[int, ...]) -> None:
        self._n = n_entries
        self._size = min(batch_size, n_entries)
        self._seed = seed
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=np.int64))

    def batch(self, step: int) -> np.ndarray:
        """Entries of a step (0-based), int64 ``[batch_size]``."""
        first = step * self._size
        parts, wanted = [], self._size
        while wanted:
            turn, place = divmod(first, self._n)
            part = self._order_of(turn)[place : place + wanted]
            parts.append(part)
            first, wanted = first + len(part), wanted - len(part)
        return np.concatenate(parts)

    def _order_of(self, turn: int) -> np.ndarray:
        if self._order[0] != turn:
            self._order = (turn, np.random.default_rng([*self._seed, turn]).permutation(self._n))
        return self._order[1]
