"""RecBole's own models on windows without their padding: the same numbers from a fraction of the positions.

RecBole pads every window to `MAX_ITEM_LIST_LENGTH` on the right. Where no state depends on the padding, the padded
positions are computed for nothing. `trim` has such a model work on groups of rows of like length, each cut to its own
longest, and takes the cross-entropy over all items in pieces (`item_softmax`). BERT4Rec also scores all items at
`mask_ratio` of the padded width in every row and gives most of these places no weight; trimmed, it scores the others
alone. Without dropout the results are equal up to rounding; with dropout the draws differ, as from one seed to another.
Off by default, so that a baseline draws what RecBole draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor
from torch.nn import functional as F

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.model.item_softmax import item_cross_entropy

KEY = "trim_windows"
# Models of RecBole whose states depend neither on the padded width nor on the other rows; a test compares each with its
# padded self, loss and gradients included. `forward` of these gives a row's state [B, H] from (item_seq, item_seq_len).
_LAST_STATE = frozenset({"SASRec", "GRU4Rec", "NARM"})
TRIMMABLE = _LAST_STATE | {"BERT4Rec"}
# The longest row of a group has less than this many times the items of its shortest.
_SPREAD = 1.5


def check_trimmable(model: str) -> None:
    """Refuse a model that is not known to be indifferent to padding.

    Raises
    ------
    ConfigError
        Its results might depend on the padded width.
    """
    if model not in TRIMMABLE:
        raise ConfigError(
            f"{KEY}: {model} is not known to give the same results without padding; remove {KEY}, which takes "
            f"{', '.join(sorted(TRIMMABLE))}."
        )


def trim(model: AbstractRecommender) -> None:
    """Replace the model's `forward` by one over groups of rows of like length, and its cross-entropy.

    Parameters
    ----------
    model
        One of `TRIMMABLE`.
    """
    masks = type(model).__name__ not in _LAST_STATE
    # A copy of the model gets partial functions of its own methods; a closure would stay the original's.
    model.forward = partial(_all_states if masks else _last_states, model.forward)
    if model.loss_type == "CE":
        loss = _masked_items_loss if masks else _next_item_loss
        model.calculate_loss = partial(loss, model)


def _last_states(forward: Callable[[Tensor, Tensor], Tensor], item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
    """States ``[B, H]`` of windows int64 ``[B, L]`` that hold `item_seq_len` int64 ``[B]`` items each."""
    lengths, order = torch.sort(item_seq_len, stable=True)  # [B] each
    states = []
    for rows in order.split(group_sizes(lengths)):
        longest = int(item_seq_len[rows[-1]])
        states.append(forward(item_seq[rows, :longest], item_seq_len[rows]))
    return torch.cat(states)[torch.argsort(order)]  # [B, H]


def _all_states(forward: Callable[[Tensor], Tensor], item_seq: Tensor) -> Tensor:
    """States ``[B, L, H]`` of windows int64 ``[B, L]``, 0 beyond the longest row of a row's group."""
    columns = torch.arange(1, item_seq.shape[1] + 1, device=item_seq.device)
    lengths, order = torch.sort(((item_seq != 0) * columns).amax(dim=1).clamp(min=1), stable=True)  # [B] each
    states = []
    for rows, group in zip(order.split(sizes := group_sizes(lengths)), lengths.split(sizes), strict=True):
        longest = int(group[-1])
        states.append(F.pad(forward(item_seq[rows, :longest]), (0, 0, 0, item_seq.shape[1] - longest)))
    return torch.cat(states)[torch.argsort(order)]  # [B, L, H]


def _next_item_loss(model: AbstractRecommender, interaction: Interaction) -> Tensor:
    """Cross-entropy of the next item among all items."""
    states = model.forward(interaction[model.ITEM_SEQ], interaction[model.ITEM_SEQ_LEN])  # [B, H]
    return item_cross_entropy(states, model.item_embedding.weight, interaction[model.POS_ITEM_ID])


def _masked_items_loss(model: AbstractRecommender, interaction: Interaction) -> Tensor:
    """BERT4Rec's cross-entropy, the mean over masked places with a weight; RecBole gives a row's first place none."""
    places = interaction[model.MASK_INDEX]  # [B, M], 0 where fewer are masked
    rows, slots = (places > 0).nonzero(as_tuple=True)  # [N] each
    states = model.forward(interaction[model.MASK_ITEM_SEQ])[rows, places[rows, slots]]  # [N, H]
    table = model.item_embedding.weight[: model.n_items]  # without the mask's row
    return item_cross_entropy(states, table, interaction[model.POS_ITEMS][rows, slots], model.output_bias)


def group_sizes(lengths: torch.Tensor) -> list[int]:
    """How many rows each group takes, of rows ordered by length.

    Parameters
    ----------
    lengths
        int64 ``[B]``, ascending, 1 or more each.

    Returns
    -------
    list[int]
        Sizes that add up to B, one for each power of 1.5 that has rows between it and the next.
    """
    powers = torch.floor(torch.log(lengths.double()) / math.log(_SPREAD) + 1e-9)  # [B]
    return torch.unique_consecutive(powers, return_counts=True)[1].tolist()
