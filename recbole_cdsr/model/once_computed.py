"""Vectors of items that a model computes once for a whole pass of judging or serving."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class OnceComputed:
    """Rows of a table, each computed when it is first asked for.

    A pass over many users meets the same items in batch after batch. What the rows were computed from is remembered by
    address and version, so that a parameter that was written, moved or replaced since has all of them computed anew.

    Parameters
    ----------
    n_rows : int
        Number of possible ids.
    """

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows
        self.clear()

    def clear(self) -> None:
        """Forget everything, memory included."""
        self._state: tuple[tuple[int, int], ...] | None = None
        self._table: Tensor | None = None
        self._known: Tensor | None = None

    def rows(self, ids: Tensor, compute: Callable[[Tensor], Tensor], sources: Sequence[Tensor]) -> Tensor:
        """Rows of some ids; not for use under autograd.

        Parameters
        ----------
        ids : Tensor
            int64 ``[U]``, distinct.
        compute : callable
            int64 ``[u]`` to ``[u, d]``, row by row.
        sources : sequence of Tensor
            All that `compute` reads.

        Returns
        -------
        Tensor
            ``[U, d]``.
        """
        state = tuple((source.data_ptr(), source._version) for source in sources)
        # What was made in inference mode cannot be written to outside of it.
        foreign = self._table is not None and self._table.is_inference() and not torch.is_inference_mode_enabled()
        if state != self._state or foreign:
            self.clear()
            self._state = state
        missing = ids if self._known is None else ids[~self._known[ids]]
        if self._table is None or len(missing):
            vectors = compute(missing)  # [u, d]
            if self._table is None:
                self._table = vectors.new_empty(self._n_rows, vectors.shape[1])
                self._known = torch.zeros(self._n_rows, dtype=torch.bool, device=ids.device)
            self._table[missing] = vectors.to(self._table.dtype)
            self._known[missing] = True
        return self._table[ids]
