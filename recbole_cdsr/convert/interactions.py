"""Interactions on their way from raw rows to a dataset: what is held of each, and nothing of what was dropped.

A kept row costs 21 bytes, a distinct user or item some 30; text of reviews is never held.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recbole_cdsr.convert.token_table import TokenTable


@dataclass(frozen=True)
class RowBatch:
    """Rows of one file as a source module parsed them, in file order; all belong to one domain.

    Parameters
    ----------
    users, items : Sequence[str]
        `[n]` raw ids, not empty.
    times : Sequence[float] or np.ndarray, optional
        `[n]` Unix seconds, finite. None for a source that knows no time at all.
    ratings : Sequence[float] or np.ndarray, optional
        `[n]`; NaN where a row has none. None for a source without ratings.
    """

    users: Sequence[str]
    items: Sequence[str]
    times: Sequence[float] | np.ndarray | None = None
    ratings: Sequence[float] | np.ndarray | None = None


@dataclass(frozen=True)
class Rows:
    """Interactions as columns; filters return new ones.

    Parameters
    ----------
    users : np.ndarray
        int32 `[N]`, numbers of users.
    items : np.ndarray
        int32 `[N]`, numbers of items, counted over all domains.
    times : np.ndarray
        float64 `[N]`, Unix seconds; all 0 for a source without time.
    ratings : np.ndarray
        float32 `[N]`, NaN where there is none.
    item_domains : np.ndarray
        uint8 `[I]`, index of the domain of each item.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    ratings: np.ndarray
    item_domains: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    @property
    def domains(self) -> np.ndarray:
        """uint8 `[N]`: the domain of each row's item."""
        return self.item_domains[self.items]

    def take(self, rows: np.ndarray) -> Rows:
        """Return the rows of a boolean mask or of indices, in that order."""
        return replace(
            self, users=self.users[rows], items=self.items[rows], times=self.times[rows], ratings=self.ratings[rows]
        )


@dataclass(frozen=True)
class Interactions:
    """The interactions of a dataset, in the order they are written: by user, time and source order.

    Parameters
    ----------
    users : np.ndarray
        int32 `[N]`, index into `user_tokens`.
    items : np.ndarray
        int32 `[N]`, index into `item_tokens`.
    times : np.ndarray
        float64 `[N]`, Unix seconds, or the place in the user's sequence where the source knows no time.
    ratings : np.ndarray, optional
        float32 `[N]`, NaN where there is none; None when the source has no ratings.
    user_tokens : np.ndarray
        object `[U]`, as written.
    item_tokens : np.ndarray
        object `[I]`, `<domain>:<raw id>`, domain by domain.
    item_domains : np.ndarray
        int64 `[I]`, index into `domain_names`.
    domain_names : tuple[str, ...]
        K names in the dataset's order.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    ratings: np.ndarray | None
    user_tokens: np.ndarray
    item_tokens: np.ndarray
    item_domains: np.ndarray
    domain_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.users)

    def count_repeats(self) -> int:
        """How many interactions repeat an earlier one, of the same user with the same item at the same time."""
        follows = (self.users[1:] == self.users[:-1]) & (self.times[1:] == self.times[:-1])
        tied = np.append(follows, False)
        tied[1:] |= follows
        rows = np.flatnonzero(tied[: len(self)])  # few: only these can be repeats, and need to be sorted by item
        order = rows[np.lexsort((self.items[rows], self.times[rows], self.users[rows]))]
        equal = [column[order[1:]] == column[order[:-1]] for column in (self.users, self.times, self.items)]
        return int(np.logical_and.reduce(equal).sum())

    def take(self, rows: np.ndarray) -> Interactions:
        """Return the rows of a boolean mask or of indices; users and items keep their numbers."""
        ratings = None if self.ratings is None else self.ratings[rows]
        return replace(self, users=self.users[rows], items=self.items[rows], times=self.times[rows], ratings=ratings)


class RowCollector:
    """Takes batches of rows and keeps them as columns.

    Parameters
    ----------
    n_domains : int
        Number of domains K.
    """

    def __init__(self, n_domains: int) -> None:
        self._users = TokenTable()
        self._items = [TokenTable() for _ in range(n_domains)]
        self._domains = array("B")  # arrays of the standard library grow in place
        self._user_codes, self._item_codes = array("i"), array("i")
        self._times, self._ratings = array("d"), array("f")

    def __len__(self) -> int:
        return len(self._user_codes)

    def add(self, domain: int, batch: RowBatch, keep: np.ndarray | None = None) -> None:
        """Add rows of `batch`; only those kept leave any trace.

        Parameters
        ----------
        domain : int
            Index of their domain.
        batch : RowBatch
            The rows.
        keep : np.ndarray, optional
            bool `[n]`; None for all.
        """
        users, items, times, ratings = batch.users, batch.items, batch.times, batch.ratings
        times = np.zeros(len(users)) if times is None else np.asarray(times, dtype=np.float64)
        if ratings is None:
            ratings = np.full(len(users), np.nan, dtype=np.float32)
        ratings = np.asarray(ratings, dtype=np.float32)
        if keep is not None and not keep.all():
            chosen = np.flatnonzero(keep).tolist()
            users, items = [users[i] for i in chosen], [items[i] for i in chosen]
            times, ratings = times[keep], ratings[keep]
        self._user_codes.frombytes(self._users.codes(users).tobytes())
        self._item_codes.frombytes(self._items[domain].codes(items).tobytes())
        self._times.frombytes(times.tobytes())
        self._ratings.frombytes(ratings.tobytes())
        self._domains.frombytes(np.full(len(users), domain, dtype=np.uint8).tobytes())

    def finish(self) -> tuple[Rows, TokenTable, list[TokenTable]]:
        """Return the rows in source order, the raw ids of users and those of each domain's items.

        Items are numbered over all domains here: those of a domain begin where those of the one before it end. The
        collector must not be added to any more.
        """
        sizes = np.array([len(items) for items in self._items])
        first_item = (np.cumsum(sizes) - sizes).astype(np.int32)
        items = np.frombuffer(self._item_codes, dtype=np.int32)
        items += first_item[np.frombuffer(self._domains, dtype=np.uint8)]
        rows = Rows(
            users=np.frombuffer(self._user_codes, dtype=np.int32),
            items=items,
            times=np.frombuffer(self._times, dtype=np.float64),
            ratings=np.frombuffer(self._ratings, dtype=np.float32),
            item_domains=np.repeat(np.arange(len(sizes), dtype=np.uint8), sizes),
        )
        return rows, self._users, self._items
