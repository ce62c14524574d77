"""The rows of an evaluation split, as the dataset hands them over: the same for every model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbole_cdsr.ranges import expand_ranges


@dataclass(frozen=True, eq=False)
class EvaluationRows:
    """R rows of a validation or test split, one target each.

    Parameters
    ----------
    split
        ``"valid"`` or ``"test"``.
    users
        int64 ``[R]``, internal user ids.
    targets
        int64 ``[R]``, internal item ids; every target lies in its row's domain.
    target_domains
        int64 ``[R]``, 0-based domain index of the target.
    history_pointers
        int64 ``[R, 2]``: the input history of row r is ``flat_items[start:stop]``, oldest first, whole (not
        cut to a model's window). The ranges of different rows may overlap.
    flat_items
        int64 ``[N]``, internal item ids that ``history_pointers`` points into.
    user_item_keys
        int64, sorted and unique: ``user * n_items + item`` for every item of a user in any split.
    train_item_counts
        int64 ``[n_items]``, training interactions per item, 0 for padding.
    domain_offsets
        int64 ``[K + 1]``: items of domain k are ``offsets[k] .. offsets[k + 1] - 1``; ``offsets[0] == 1`` and
        ``offsets[K] == n_items``.
    domain_names
        K names in the order of the indices.
    row_keys
        int64 ``[R]``, an identity of each row that does not depend on the model (its position in the split).

    Raises
    ------
    ValueError
        When the arrays do not fit each other.
    """

    split: str
    users: np.ndarray
    targets: np.ndarray
    target_domains: np.ndarray
    history_pointers: np.ndarray
    flat_items: np.ndarray
    user_item_keys: np.ndarray
    train_item_counts: np.ndarray
    domain_offsets: np.ndarray
    domain_names: list[str]
    row_keys: np.ndarray

    def __post_init__(self) -> None:
        n_rows = len(self.users)
        for name in ("targets", "target_domains", "history_pointers", "row_keys"):
            if len(getattr(self, name)) != n_rows:
                raise ValueError(f"EvaluationRows.{name} has {len(getattr(self, name))} rows, users has {n_rows}.")
        if len(self.domain_offsets) != len(self.domain_names) + 1 or self.domain_offsets[0] != 1:
            raise ValueError("EvaluationRows.domain_offsets must start at 1 and hold one bound more than domains.")
        if len(self.train_item_counts) != self.n_items:
            raise ValueError(f"EvaluationRows.train_item_counts must have one entry for each of {self.n_items} items.")
        low = self.domain_offsets[self.target_domains]
        high = self.domain_offsets[self.target_domains + 1]
        outside = np.flatnonzero((self.targets < low) | (self.targets >= high))
        if len(outside):
            raise ValueError(f"Row {outside[0]} of {self.split}: the target lies outside its target_domain.")

    def __len__(self) -> int:
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of internal item ids, padding included."""
        return int(self.domain_offsets[-1])

    @property
    def n_domains(self) -> int:
        """Number of domains K."""
        return len(self.domain_names)

    def history_items(self, row_indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distinct items of the input histories of some rows.

        Parameters
        ----------
        row_indices
            int64 ``[B]``.

        Returns
        -------
        positions, items
            int64 ``[P]`` each: ``items[p]`` is in the history of ``row_indices[positions[p]]``; every pair
            once, ordered by position, then item.
        """
        starts, stops = self.history_pointers[row_indices].T
        lengths = stops - starts
        positions, flat = expand_ranges(starts, lengths)
        pairs = np.unique(positions * self.n_items + self.flat_items[flat])
        return np.divmod(pairs, self.n_items)
