"""Pseudo items: what a single-domain user might have consumed in another domain, as names with vectors.

LLMCDSR's first stage. Names are free text, written by an LLM or, without one, taken from the most similar
overlapped user (`pseudo_retrieval`); a model maps them to items itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.ranges import expand_ranges, runs

MIN_NAMES = 3


class PseudoItems(NamedTuple):
    """Names of pseudo items for P pairs of a single-domain user and another domain.

    Every pair has at least `pseudo_min_names` names; users whose answer gave fewer are counted and named in
    `provenance["too_few"]`. Equal names are kept once, so that M entries share V vectors.

    Attributes
    ----------
    user_ids : np.ndarray
        int64 `[P]`, internal user ids, ascending; with K domains a user stands there up to K - 1 times.
    into_domain : np.ndarray
        int64 `[P]`, 0-based index of the domain that the names belong to, ascending for each user.
    pointers : np.ndarray
        int64 `[P+1]`: the names of pair p are `name_ids[pointers[p]:pointers[p+1]]`.
    name_ids : np.ndarray
        int64 `[M]`, rows of `vectors` and places in `names`, distinct within a pair.
    vectors : np.ndarray
        float32 `[V, D]`, the text encoder's vector of each distinct name; D is that of `LLMFeatures.items`.
    names : list of str
        `[V]`.
    provenance : dict
        Plain data (JSON-able): who made them, from what, how many users have too few.
    """

    user_ids: np.ndarray
    into_domain: np.ndarray
    pointers: np.ndarray
    name_ids: np.ndarray
    vectors: np.ndarray
    names: list[str]
    provenance: dict[str, Any]

    def names_of(self, pair: int) -> list[str]:
        """The names of one pair."""
        return [self.names[row] for row in self.name_ids[self.pointers[pair] : self.pointers[pair + 1]].tolist()]


@dataclass(frozen=True)
class NamedPairs:
    """Names for pairs of a user and a domain, before they have vectors; pairs may have few names or none.

    Attributes
    ----------
    users : np.ndarray
        int64 `[P]`, places in the histories (not internal ids).
    into_domain, pointers, name_ids : np.ndarray
        As in `PseudoItems`.
    """

    users: np.ndarray
    into_domain: np.ndarray
    pointers: np.ndarray
    name_ids: np.ndarray

    def with_at_least(self, least: int) -> NamedPairs:
        """The pairs that have `least` names or more."""
        sizes = np.diff(self.pointers)
        kept = np.flatnonzero(sizes >= least)
        _, chosen = expand_ranges(self.pointers[kept], sizes[kept])
        pointers = np.append(0, np.cumsum(sizes[kept])).astype(np.int64)
        return NamedPairs(self.users[kept], self.into_domain[kept], pointers, self.name_ids[chosen])


class DomainUse:
    """Which domains each user of some histories has consumed.

    Parameters
    ----------
    histories : Histories
        Of U users: training rows only, for nothing else may reach a pseudo item.
    item_domain : np.ndarray
        int64 `[n_items]`, domain of an item id.
    n_domains : int
        K, at least 2.

    Attributes
    ----------
    counts : np.ndarray
        int64 `[U, K]`, interactions of each user in each domain.
    """

    def __init__(self, histories: Histories, item_domain: np.ndarray, n_domains: int) -> None:
        users = np.repeat(np.arange(len(histories.pointers) - 1), np.diff(histories.pointers))  # [N]
        keys = users * n_domains + item_domain[histories.item_ids]
        size = (len(histories.pointers) - 1) * n_domains
        self.counts = np.bincount(keys, minlength=size).reshape(-1, n_domains).astype(np.int64)
        self.n_domains = n_domains

    def single(self, domain: int) -> np.ndarray:
        """Places of the users that consumed items of `domain` and of no other, int64 `[S]`."""
        used = self.counts > 0
        return np.flatnonzero(used[:, domain] & (used.sum(axis=1) == 1))

    def overlapped(self, domain: int, other: int) -> np.ndarray:
        """Places of the users that consumed items of both domains, int64 `[O]`."""
        return np.flatnonzero((self.counts[:, domain] > 0) & (self.counts[:, other] > 0))

    def directions(self) -> list[tuple[int, int]]:
        """All ordered pairs of different domains: (the users' own, the one their pseudo items are of)."""
        return [(own, into) for own in range(self.n_domains) for into in range(self.n_domains) if own != into]


def in_domain_items(
    histories: Histories, item_domain: np.ndarray, domain: int, names: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Every user's distinct items of one domain, the newest first.

    Parameters
    ----------
    histories : Histories
        Of U users.
    item_domain : np.ndarray
        int64 `[n_items]`.
    domain : int
        Which domain.
    names : np.ndarray, optional
        int64 `[n_items]`: items with the same number count as one, their newest interaction as its.

    Returns
    -------
    pointers, items : np.ndarray
        int64 `[U+1]` and `[M]`: `items[pointers[j]:pointers[j+1]]` are those of the j-th user.
    """
    n_users = len(histories.pointers) - 1
    users = np.repeat(np.arange(n_users), np.diff(histories.pointers))  # [N]
    chosen = np.flatnonzero(item_domain[histories.item_ids] == domain)  # [N'], oldest first for each user
    users, items = users[chosen], histories.item_ids[chosen]
    key = items if names is None else names[items]
    order = np.lexsort((chosen, key, users))
    _, stops = runs(users[order], key[order])
    latest = order[stops - 1]  # [M], the newest interaction of each (user, name)
    latest = latest[np.lexsort((-chosen[latest], users[latest]))]
    pointers = np.append(0, np.cumsum(np.bincount(users[latest], minlength=n_users)))
    return pointers.astype(np.int64), items[latest].astype(np.int64)
