"""Training rows of users with pseudo items, and of overlapped users who judge them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbole_cdsr.data.dataset import CrossDomainSequentialDataset
from recbole_cdsr.data.insertion import InsertionLayout, insert_before
from recbole_cdsr.ranges import expand_ranges, places_in_ranges


def overlapped_rows(dataset: CrossDomainSequentialDataset) -> np.ndarray:
    """Training rows (one per user) whose sequence has items of two domains or more, int64, ascending."""
    rows = dataset.rows
    owners, flat = expand_ranges(rows.starts, rows.targets - rows.starts + 1)
    seen = np.zeros((len(rows), len(dataset.domain_names)), dtype=bool)  # [R, K]
    seen[owners, dataset.item_domain[dataset.log.items[flat]]] = True
    return np.flatnonzero(seen.sum(axis=1) >= 2)


@dataclass(frozen=True, eq=False)
class AugmentedBatch:
    """Sequences with places for pseudo items.

    Attributes
    ----------
    entries
        int64 ``[E]``, the entries of the pseudo items that take part.
    layout
        The rows; its `sources` number pseudo items ``place of the entry in `entries` * width + 0 .. size - 1``.
    negatives
        int64 ``[T]``, a negative from the target's domain, 0 where nothing is learnt.
    """

    entries: np.ndarray
    layout: InsertionLayout
    negatives: np.ndarray


class AugmentedRows:
    """Training rows that have generated texts, each with a place for every item that is to be recalled for them.

    Parameters
    ----------
    dataset
        The training split, one row per user.
    user_ids, into_domain
        int64 ``[U]`` each: entry u is of user ``user_ids[u]`` and recalled into domain ``into_domain[u]``.
    n_texts
        int64 ``[U]``, texts of each entry; those without any take no part.
    recall_sizes
        Items that are recalled into each domain.
    width
        The largest of them: columns of the recalled items.
    """

    def __init__(
        self,
        dataset: CrossDomainSequentialDataset,
        user_ids: np.ndarray,
        into_domain: np.ndarray,
        n_texts: np.ndarray,
        recall_sizes: list[int],
        width: int,
    ) -> None:
        self._dataset = dataset
        self._width = width
        row_of_user = np.full(dataset.user_num, -1)
        row_of_user[dataset.log.users[dataset.rows.targets]] = np.arange(len(dataset.rows))
        rows = row_of_user[user_ids]  # [U]
        usable = (n_texts > 0) & (rows >= 0)
        entries = np.flatnonzero(usable)[np.argsort(rows[usable], kind="stable")]
        self.entries = entries
        self._sizes = np.asarray(recall_sizes)[into_domain[entries]]
        self.rows, self._first = np.unique(rows[entries], return_index=True)  # [R'] rows of the dataset
        self._counts = np.diff(np.append(self._first, len(entries)))
        self.n_without_texts = int((n_texts == 0).sum())
        self.n_without_rows = int(((n_texts > 0) & (rows < 0)).sum())

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, chosen: np.ndarray) -> AugmentedBatch:
        """Draw places and negatives for some rows, with NumPy's global state as the training rows do.

        Parameters
        ----------
        chosen
            int64 ``[R]``, numbers below ``len(self)``.
        """
        dataset, log = self._dataset, self._dataset.log
        longest = dataset.max_item_list_len
        rows = dataset.rows.take(self.rows[chosen])
        lengths = rows.targets - rows.starts + 1  # [R], whole sequences
        kept = np.minimum(lengths, longest + 1)
        _, flat = expand_ranges(rows.targets + 1 - kept, kept)

        owners, places = expand_ranges(self._first[chosen], self._counts[chosen])  # [E]
        sizes = self._sizes[places]  # [E]
        entry_of_item = np.repeat(np.arange(len(sizes)), sizes)  # [P]
        row_of_item = owners[entry_of_item]
        drawn = np.random.random_sample(len(entry_of_item)) * lengths[row_of_item]  # [P]
        layout = insert_before(log.items[flat], kept, lengths - kept, row_of_item, drawn, longest)
        numbers = entry_of_item * self._width + places_in_ranges(sizes)  # [P]
        sources = np.where(layout.sources >= 0, numbers[layout.sources], -1)
        layout = InsertionLayout(layout.lengths, layout.items, sources, layout.targets, layout.rows)

        learnt = layout.targets > 0
        users = log.users[rows.targets][layout.rows[learnt]]
        negatives = np.zeros_like(layout.targets)
        negatives[learnt] = dataset.negatives.draw(users, dataset.item_domain[layout.targets[learnt]])
        return AugmentedBatch(self.entries[places], layout, negatives)
