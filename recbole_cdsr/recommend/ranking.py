"""The best of many scores in an order that equal scores leave no choice in."""

from __future__ import annotations

import torch


def best_places(scores: torch.Tensor, topk: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The greatest scores of each row, best first, and of equal ones the first first.

    `torch.topk` chooses among equal scores as it comes, so that a shorter list would be no beginning of a longer one;
    a stable sort of whole rows takes many times as long.

    Parameters
    ----------
    scores
        ``[B, C]``; −∞ stands for no candidate, and in which order those come is not said.
    topk
        k, from 1 to C.

    Returns
    -------
    (values, places)
        ``[B, k]`` each. A row with NaN begins with it and is in no order otherwise.
    """
    values, places = torch.topk(scores, min(topk + 1, scores.shape[1]), dim=1)  # one more tells whether a tie is cut
    if values.shape[1] > topk:
        least = values[:, topk - 1 : topk]  # [B, 1]
        cut = (values[:, topk:] == least) & ~torch.isneginf(least) & ~torch.isnan(values[:, :1])
        rows = cut[:, 0].nonzero()[:, 0]  # [R], few but for scores that are counts
        places = places[:, :topk]
        if len(rows):
            chosen = _first_among_equals(scores[rows], least[rows], topk)
            places = places.index_copy(0, rows, chosen)
    places = places.sort(dim=1).values
    values, order = scores.gather(1, places).sort(dim=1, descending=True, stable=True)
    return values, places.gather(1, order)


def _first_among_equals(scores: torch.Tensor, least: torch.Tensor, topk: int) -> torch.Tensor:
    """Places ``[R, k]``, ascending, of the k greatest of ``[R, C]``, of which the k-th is one of several `least`."""
    greater, equal = scores > least, scores == least
    missing = topk - greater.sum(dim=1, keepdim=True)  # [R, 1]
    taken = greater | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= missing))
    return taken.nonzero()[:, 1].view(-1, topk)
