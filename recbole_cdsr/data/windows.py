"""Windows over the flat interaction array, cut when a batch is fetched.

RecBole stores every prefix of every user (memory grows with interactions x maximum length x fields). Here a row is two
integers, and a batch is cut with one gather per field.
"""

from __future__ import annotations

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_cdsr.data.sequences import Rows


def row_numbers(index: int | slice | list[int] | np.ndarray | torch.Tensor, n_rows: int) -> np.ndarray:
    """What an index means, as row numbers.

    Parameters
    ----------
    index
        A row number, a slice, row numbers, or a mask of all rows.
    n_rows
        Number of rows.

    Returns
    -------
    numpy.ndarray
        int64, of one dimension; of none for a single row number.

    Raises
    ------
    IndexError
        A row number beyond the rows.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(n_rows))
    chosen = np.asarray(index)
    if chosen.dtype == bool:
        return np.arange(n_rows)[chosen]
    chosen = chosen.astype(np.int64)
    if chosen.size and (chosen.max() >= n_rows or chosen.min() < -n_rows):
        raise IndexError(f"Row {chosen.max()} was asked for; there are {n_rows}.")
    return np.where(chosen < 0, chosen + n_rows, chosen)


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
        # NumPy gathers in this thread. torch would wake its pool for every batch, and the pool may be busy.
        self.columns = {field: column.numpy() for field, column in columns.items()}
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
        self, columns: dict[str, np.ndarray], positions: np.ndarray, real: np.ndarray, lengths: np.ndarray
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
        positions = np.where(self.real, self.positions + shift, 0)
        values = np.take(self._columns[field], positions, axis=0)
        values[~self.real] = 0
        return torch.from_numpy(values)


class WindowColumn:
    """The windows of one field over all rows of a split, `[R, L]`; cut when they are indexed.

    Parameters
    ----------
    cutter
        Cuts them.
    rows
        R rows.
    field
        Name of a column.
    """

    def __init__(self, cutter: WindowCutter, rows: Rows, field: str) -> None:
        self._cutter = cutter
        self._rows = rows
        self._field = field

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | slice | list[int] | np.ndarray | torch.Tensor) -> torch.Tensor:
        """`[L]` for one row number, `[B, L]` for several, as from a tensor of all windows."""
        chosen = row_numbers(index, len(self))
        windows = self._cutter.cut(self._rows.take(np.atleast_1d(chosen))).values(self._field)
        return windows if chosen.ndim else windows[0]


class RowTable(Interaction):
    """The rows of a split as RecBole holds them, with windows in place of stored prefixes.

    Parameters
    ----------
    columns
        Tensors ``[R, ...]`` by field name.
    windows
        `WindowColumn` by the name of the list field. FEARec reads them off the training data.
    """

    def __init__(self, columns: dict[str, torch.Tensor], windows: dict[str, WindowColumn]) -> None:
        super().__init__(columns)
        self._windows = windows

    def __getitem__(
        self, index: str | slice | list[int] | np.ndarray | torch.Tensor
    ) -> torch.Tensor | WindowColumn | Interaction:
        """A field, or an `Interaction` of some rows (without their windows)."""
        if isinstance(index, str) and index in self._windows:
            return self._windows[index]
        return super().__getitem__(index)
