"""RecBole's own models on windows without their padding: the same numbers from a fraction of the positions.

RecBole pads every window to `MAX_ITEM_LIST_LENGTH` on the right. Where a model's `forward(item_seq, item_seq_len)`
reads the state of the last item, and no state looks to its right, the padded positions are computed for nothing. `trim`
has such a model work on groups of rows of like length, each cut to its own longest; everything around `forward`, the
loss above all, still sees the whole batch. Without dropout the results are equal up to rounding; with dropout the draws
differ, as from one seed to another. Off by default, so that a baseline draws what RecBole draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_cdsr.errors import ConfigError

KEY = "trim_windows"
# Models of RecBole whose `forward` gives a row's state [B, H] from (item_seq, item_seq_len) and depends neither on the
# padded width nor on the other rows; a test compares each with its padded self, loss and gradients included.
TRIMMABLE = frozenset({"SASRec", "GRU4Rec", "NARM"})
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
    """Replace the model's `forward` by one over groups of rows of like length.

    Parameters
    ----------
    model
        One of `TRIMMABLE`.
    """
    model.forward = _by_length(model.forward)


def _by_length(forward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    def grouped(item_seq: torch.Tensor, item_seq_len: torch.Tensor) -> torch.Tensor:
        """States ``[B, H]`` of windows int64 ``[B, L]`` that hold `item_seq_len` int64 ``[B]`` items each."""
        lengths, order = torch.sort(item_seq_len, stable=True)  # [B] each
        states = []
        for rows in order.split(group_sizes(lengths)):
            longest = int(item_seq_len[rows[-1]])
            states.append(forward(item_seq[rows, :longest], item_seq_len[rows]))
        return torch.cat(states)[torch.argsort(order)]  # [B, H]

    return grouped


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
