"""Scores inside the target's domain: what ``full_sort_predict`` and ``predict`` of our models share."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

# The vectors that score a domain's candidates for the given rows: (domain, int64 [r] rows) -> [r, w].
DomainQuery = Callable[[int, Tensor], Tensor]


def target_domains(interaction: Interaction) -> Tensor | None:
    """Domain index of each row's target, int64 ``[B]``; None when serving, where no target is known."""
    if "target_domain" not in interaction:
        return None
    return interaction["target_domain"]


def full_sort_scores(
    query: DomainQuery,
    table: Tensor,
    offsets: np.ndarray,
    n_rows: int,
    target_domain: Tensor | None,
    bias: Tensor | None = None,
) -> Tensor:
    """Scores of every candidate of each row's domain; nothing outside it is computed.

    Parameters
    ----------
    query : DomainQuery
        See above; called once per domain present.
    table : Tensor
        float ``[n_items, w]``, the vector of every item; row 0 is padding.
    offsets : np.ndarray
        int64 ``[K + 1]``, items of domain k are ``offsets[k] .. offsets[k + 1] - 1``.
    n_rows : int
        B, number of rows.
    target_domain : Tensor | None
        int64 ``[B]``, 0-based; None scores all domains for every row.
    bias : Tensor | None
        float ``[n_items]``, added to the score of every item.

    Returns
    -------
    Tensor
        float ``[B, n_items]``, −∞ where not scored.
    """

    def of_domain(vectors: Tensor, part: slice) -> Tensor:
        """Scores ``[r, n_k]`` of a domain's candidates from query vectors ``[r, w]``."""
        return vectors @ table[part].T if bias is None else torch.addmm(bias[part], vectors, table[part].T)

    candidates = [slice(int(low), int(high)) for low, high in pairwise(offsets)]
    scores = table.new_full((n_rows, len(table)), -math.inf)
    for domain, part in enumerate(candidates):
        if target_domain is None:
            scores[:, part] = of_domain(query(domain, torch.arange(n_rows, device=table.device)), part)
            continue
        rows = (target_domain == domain).nonzero().squeeze(1)
        if len(rows):
            scores[rows, part] = of_domain(query(domain, rows), part)
    return scores


def candidate_scores(query: DomainQuery, vectors: Tensor, domains: Tensor, n_domains: int) -> Tensor:
    """Score of one candidate per row.

    Parameters
    ----------
    query : DomainQuery
        See above.
    vectors : Tensor
        float ``[B, w]``, vector of each row's candidate.
    domains : Tensor
        int64 ``[B]``, domain of each candidate, −1 for padding.
    n_domains : int
        K, number of domains.

    Returns
    -------
    Tensor
        float ``[B]``; −∞ for padding.
    """
    scores = vectors.new_full((len(vectors),), -math.inf)
    for domain in range(n_domains):
        rows = (domains == domain).nonzero().squeeze(1)
        if len(rows):
            scores[rows] = (query(domain, rows) * vectors[rows]).sum(dim=1)
    return scores
