"""Item ids that are contiguous per domain, so that a domain's items are a slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class DomainBlocks:
    """Where each domain's items lie.

    Parameters
    ----------
    old_ids
        int64 ``[n_items]``: the id that each new id had before; 0, the padding, stays 0.
    new_ids
        int64 ``[n_items]``: the id that each old id has now.
    item_domain
        int64 ``[n_items]``, domain of a new id, -1 for padding.
    offsets
        int64 ``[K + 1]``: new ids of domain k are ``offsets[k] .. offsets[k + 1] - 1``.
    """

    old_ids: np.ndarray
    new_ids: np.ndarray
    item_domain: np.ndarray
    offsets: np.ndarray


def domain_blocks(domains: np.ndarray, n_domains: int) -> DomainBlocks:
    """Number items domain by domain, keeping their order inside a domain.

    Parameters
    ----------
    domains
        int64 ``[n_items]``, 0-based domain of each old id, -1 for the padding at 0.
    n_domains
        Number of domains K.

    Raises
    ------
    ValueError
        An item other than the padding has no domain.
    """
    if (domains[1:] < 0).any() or domains[0] != -1:
        raise ValueError("Every item but the padding needs a domain.")
    old_ids = np.argsort(domains, kind="stable")  # padding (-1) stays first
    new_ids = np.empty_like(old_ids)
    new_ids[old_ids] = np.arange(len(old_ids))
    item_domain = domains[old_ids]
    return DomainBlocks(old_ids, new_ids, item_domain, np.searchsorted(item_domain, np.arange(n_domains + 1)))
