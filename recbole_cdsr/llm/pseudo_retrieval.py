"""The offline pseudo-item generator (no LLM): titles of the most similar overlapped user.

Where no LLM is at hand, a single-domain user is given what the overlapped user who is nearest in the domain
that both know consumed in the other one. Both sides are training rows.
"""

from __future__ import annotations

import numpy as np

from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.llm.pseudo_items import MIN_NAMES, DomainUse, NamedPairs, in_domain_items
from recbole_cdsr.ranges import expand_ranges, runs

RETRIEVAL_GENERATOR = "offline retrieval from overlapped users (no LLM)"
# Raise with any change of what is retrieved: sets made by another version are not taken.
VERSION = 1
_BLOCK_USERS = 1024
_BLOCK_VECTORS = 32768


def retrieve_pseudo_items(
    items: np.ndarray,
    names: np.ndarray,
    histories: Histories,
    item_domain: np.ndarray,
    n_domains: int,
    max_names: int = 10,
    min_names: int = MIN_NAMES,
) -> NamedPairs:
    """Pseudo items of every single-domain user, for each other domain.

    ``donor(u, o) = argmax_v cos(m_k(u), m_k(v))`` over the users v with items in both k, the domain of u, and
    at least `min_names` different names in o; m_k is the mean vector of a user's interactions in k. The pseudo
    items of u are v's newest `max_names` different names in o.

    Parameters
    ----------
    items : np.ndarray
        float32 `[n_items, D]` by internal id.
    names : np.ndarray
        int64 `[n_items]`, number of each item's name; items of one domain with the same title share one.
    histories : Histories
        Training rows of U users.
    item_domain : np.ndarray
        int64 `[n_items]`.
    n_domains : int
        K.

    Returns
    -------
    NamedPairs
        `name_ids` are internal item ids. A user without any donor has a pair without names.

    Notes
    -----
    Similarities are computed for `_BLOCK_USERS` users at a time, so that memory does not grow with users x users.
    """
    use = DomainUse(histories, item_domain, n_domains)
    in_domain = [in_domain_items(histories, item_domain, domain, names) for domain in range(n_domains)]
    found = []
    for own in range(n_domains):
        single = use.single(own)
        users, means = mean_vectors(items, histories, item_domain, own)  # [U'], [U', D]
        asking = means[np.searchsorted(users, single)]  # [S, D]
        for into in (domain for domain in range(n_domains) if domain != own):
            pointers, consumed = in_domain[into]
            donors = use.overlapped(own, into)
            donors = donors[np.diff(pointers)[donors] >= min_names]
            if len(donors):
                donor = donors[nearest(asking, means[np.searchsorted(users, donors)])]  # [S]
                taken = np.minimum(pointers[donor + 1] - pointers[donor], max_names)
                _, chosen = expand_ranges(pointers[donor], taken)
            else:
                taken, chosen = np.zeros(len(single), dtype=np.int64), np.zeros(0, dtype=np.int64)
            found.append((single, np.full(len(single), into), taken, consumed[chosen]))
    return _in_order_of_users(found)


def _in_order_of_users(found: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> NamedPairs:
    """Join pairs (users, domain, number of names) and the names they have, users ascending."""
    users, into, sizes, name_ids = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((into, users))
    _, moved = expand_ranges((np.cumsum(sizes) - sizes)[order], sizes[order])
    pointers = np.append(0, np.cumsum(sizes[order])).astype(np.int64)
    return NamedPairs(users[order], into[order].astype(np.int64), pointers, name_ids[moved])


def mean_vectors(
    items: np.ndarray, histories: Histories, item_domain: np.ndarray, domain: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean item vector, scaled to length 1, of every user with interactions in a domain.

    Returns
    -------
    users : np.ndarray
        int64 `[U']`, places in the histories, ascending.
    means : np.ndarray
        float32 `[U', D]`; zero where the vectors cancel out or are zero.
    """
    owner = np.repeat(np.arange(len(histories.pointers) - 1), np.diff(histories.pointers))  # [N]
    chosen = item_domain[histories.item_ids] == domain
    owner, consumed = owner[chosen], histories.item_ids[chosen]
    starts, stops = runs(owner)
    means = np.zeros((len(starts), items.shape[1]), dtype=np.float32)
    bounds = np.unique(np.append(np.searchsorted(starts, np.arange(0, len(owner), _BLOCK_VECTORS)), len(starts)))
    for first, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        begins = starts[first:end]
        vectors = items[consumed[begins[0] : stops[end - 1]]].astype(np.float64)  # [m, D]
        sums = np.add.reduceat(vectors, begins - begins[0], axis=0)  # [u, D]
        length = np.linalg.norm(sums, axis=1, keepdims=True)  # the mean's own length falls out with it
        means[first:end] = sums / np.where(length > 0, length, 1.0)
    return owner[starts], means


def nearest(asking: np.ndarray, offered: np.ndarray) -> np.ndarray:
    """For each row of `asking` `[S, D]` the row of `offered` `[O, D]` with the largest dot product, int64 `[S]`.

    The first of equally near ones. Only `_BLOCK_USERS` x O products are held at a time.
    """
    found = np.empty(len(asking), dtype=np.int64)
    for start in range(0, len(asking), _BLOCK_USERS):
        found[start : start + _BLOCK_USERS] = np.argmax(asking[start : start + _BLOCK_USERS] @ offered.T, axis=1)
    return found
