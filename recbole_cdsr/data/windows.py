"""Windows over the flat interaction array, cut when a batch is fetched.

RecBole stores every prefix of every user (memory grows with interactions x maximum length x fields). Here a row is two
integers, and a batch is cut with one gather per field.
"""

from __future__ import annotations

import numpy as np
import torch

from recbole_cdsr.data.sequences import Rows


class WindowCutter:
    """Cuts the latest interactions before each row's target.

    Parameters
    ----------
    columns
        Flat columns ``[N]`` or ``[N, F]`` by field name, ordered by segment and time.
    max_length
        Longest window; older interactions fall off.
    fixed_length
        Pad every batch to `max_length` (RecBole's models, some of which depend on the padded width and all of whose
        dropout draws do) instead of to its longest window.
    """

    def __init__(self, columns: dict[str, torch.Tensor], max_length: int, fixed_length: bool) -> None:
        self.columns = columns
        self.max_length = max_length
        self.fixed_length = fixed_length

    def cut(self, rows: Rows) -> Windows:
        """Locate the windows of some rows.

        Parameters
        ----------
        rows
            B rows.
        """
        begins = np.maximum(rows.starts, rows.targets - self.max_length)
        lengths = rows.targets - begins
        width = self.max_length if self.fixed_length else int(lengths.max(initial=1))
        steps = np.arange(width)
        positions = begins[:, None] + steps  # [B, L]
        real = steps < lengths[:, None]  # [B, L]
        return Windows(self.columns, positions, real, lengths)


class Windows:
    """Located windows of one batch, right-padded.

    Attributes
    ----------
    positions
        int64 ``[B, L]``, flat positions; meaningless where `real` is False.
    real
        bool ``[B, L]``.
    lengths
        int64 ``[B]``.
    """

    def __init__(
        self, columns: dict[str, torch.Tensor], positions: np.ndarray, real: np.ndarray, lengths: np.ndarray
    ) -> None:
        self._columns = columns
        self.positions = positions
        self.real = real
        self.lengths = lengths

    def values(self, field: str, shift: int = 0) -> torch.Tensor:
        """The window of one field, 0 where padded.

        Parameters
        ----------
        field
            Name of a column.
        shift
            1 gives each position's successor instead: the next item of every position, the target at the last.

        Returns
        -------
        torch.Tensor
            ``[B, L]`` (or ``[B, L, F]``) of the column's dtype.
        """
        column = self._columns[field]
        positions = np.where(self.real, self.positions + shift, 0)
        values = column[torch.from_numpy(positions)]
        values[torch.from_numpy(~self.real)] = 0
        return values
