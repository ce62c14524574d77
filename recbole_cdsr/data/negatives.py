"""Draws from a user's domain: negatives the user has not consumed, and items the user has.

Both are exact and without rejection: one `searchsorted` for a whole batch, whatever its size.
"""

from __future__ import annotations

import logging

import numpy as np


class InDomainNegatives:
    """Uniform negatives from a domain, without the user's training items of that domain.

    With c distinct training items of user u in domain k, sorted as e_0 < e_1 < … (counted from the domain's first
    item), the r-th item that is *not* among them is ``r + #{i : e_i - i <= r}``. A negative is that item for r uniform
    in ``0 .. |V_k| - c - 1``.

    Parameters
    ----------
    users, items
        int64 ``[N]``, training interactions (internal ids, any order, repeats allowed).
    n_users
        Number of internal user ids.
    domain_offsets
        int64 ``[K + 1]``; items of domain k are ``offsets[k] .. offsets[k + 1] - 1``.

    Notes
    -----
    A user who has consumed a whole domain has nothing left to draw; such a user's negatives come from all of it.
    """

    def __init__(self, users: np.ndarray, items: np.ndarray, n_users: int, domain_offsets: np.ndarray) -> None:
        self._offsets = domain_offsets
        self._sizes = np.diff(domain_offsets)
        self._n_domains = len(self._sizes)
        domains = np.searchsorted(domain_offsets, items, side="right") - 1
        groups = users * self._n_domains + domains
        self._pairs = np.unique(groups * domain_offsets[-1] + items)
        groups, items = np.divmod(self._pairs, domain_offsets[-1])
        counts = np.bincount(groups, minlength=n_users * self._n_domains)
        self._first = np.cumsum(counts) - counts  # [n_users * K]
        exhausted = counts >= np.tile(self._sizes, n_users)
        if exhausted.any():
            logging.getLogger().warning(
                f"In {int(exhausted.sum())} case(s) a user has consumed every item of a domain; "
                "the negatives there are drawn from all of its items."
            )
        self._left = np.where(exhausted, np.tile(self._sizes, n_users), np.tile(self._sizes, n_users) - counts)
        local = items - domain_offsets[groups % self._n_domains]
        shifted = local - (np.arange(len(items)) - self._first[groups])  # e_i - i
        # An exhausted group excludes nothing: its keys lie beyond every draw.
        shifted = np.where(exhausted[groups], self._sizes.max(), shifted)
        self._stride = int(self._sizes.max()) + 1
        self._keys = groups * self._stride + shifted

    def draw(self, users: np.ndarray, domains: np.ndarray, random: np.random.RandomState | None = None) -> np.ndarray:
        """One negative per (user, domain) pair.

        Parameters
        ----------
        users, domains
            int64, same shape; domains are 0-based.
        random
            Source of randomness; NumPy's global state (which RecBole seeds) by default.

        Returns
        -------
        numpy.ndarray
            int64, same shape: internal item ids.
        """
        uniform = (random or np.random).random_sample(users.shape)
        groups = users * self._n_domains + domains
        rank = (uniform * self._left[groups]).astype(np.int64)
        skipped = np.searchsorted(self._keys, groups * self._stride + rank, side="right") - self._first[groups]
        return self._offsets[domains] + rank + skipped

    def draw_several(
        self, users: np.ndarray, domains: np.ndarray, count: int, random: np.random.RandomState | None = None
    ) -> np.ndarray:
        """``count`` negatives per (user, domain) pair, independent of each other: int64 ``[B, count]``."""
        shape = (len(users), count)
        return self.draw(
            np.broadcast_to(users[:, None], shape), np.broadcast_to(domains[:, None], shape), random
        )  # [B, count]

    def draw_shared(
        self, users: np.ndarray, domains: np.ndarray, count: int, random: np.random.RandomState | None = None
    ) -> np.ndarray:
        """``count`` negatives per domain, the same for all pairs of that domain.

        An item that a user has consumed is replaced, for that user alone, by a draw of the user's own.

        Parameters
        ----------
        users, domains
            int64 ``[B]``; domains are 0-based.
        count
            Negatives per pair, at least 1.
        random
            As in `draw`.

        Returns
        -------
        numpy.ndarray
            int64 ``[B, count]``.
        """
        uniform = (random or np.random).random_sample((self._n_domains, count))
        shared = self._offsets[:-1, None] + (uniform * self._sizes[:, None]).astype(np.int64)  # [K, count]
        negatives = shared[domains]  # [B, count]
        keys = (users * self._n_domains + domains)[:, None] * self._offsets[-1] + negatives
        places = np.minimum(np.searchsorted(self._pairs, keys), len(self._pairs) - 1)
        rows, columns = np.nonzero(self._pairs[places] == keys)
        negatives[rows, columns] = self.draw(users[rows], domains[rows], random)
        return negatives


class ConsumedItems:
    """Random items that a training row has consumed, one per domain.

    Parameters
    ----------
    owners, items
        int64 ``[N]``: the training row each interaction belongs to, and its item.
    n_rows
        Number of training rows.
    domain_offsets
        int64 ``[K + 1]``.
    """

    def __init__(self, owners: np.ndarray, items: np.ndarray, n_rows: int, domain_offsets: np.ndarray) -> None:
        self._n_domains = len(domain_offsets) - 1
        domains = np.searchsorted(domain_offsets, items, side="right") - 1
        groups = owners * self._n_domains + domains
        self._items = items[np.argsort(groups, kind="stable")]
        counts = np.bincount(groups, minlength=n_rows * self._n_domains)
        self._counts = counts.reshape(n_rows, self._n_domains)
        self._first = (np.cumsum(counts) - counts).reshape(n_rows, self._n_domains)

    def draw(self, rows: np.ndarray, random: np.random.RandomState | None = None) -> np.ndarray:
        """One consumed item per row and domain.

        Parameters
        ----------
        rows
            int64 ``[B]``.

        Returns
        -------
        numpy.ndarray
            int64 ``[B, K]``, 0 where the row has no item of the domain.
        """
        counts = self._counts[rows]  # [B, K]
        uniform = (random or np.random).random_sample(counts.shape)
        position = self._first[rows] + (uniform * counts).astype(np.int64)
        return np.where(counts > 0, self._items[np.minimum(position, len(self._items) - 1)], 0)
