"""Windows of a fixed number of slots, the latest item in the last one.

A model whose parameters belong to slots (a filter over frequencies, a gate per slot) needs every window in one and the
same grid of L slots, whatever the width of a batch. What is computed for each item alone runs on *tokens*: the real
items laid flat, or all B·L slots for a model in which padding takes part.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class SlotWindows:
    """The windows of a batch, left-padded to L slots.

    Attributes
    ----------
    item_ids : Tensor
        int64 ``[B, L]``, oldest first, 0 = padding.
    taking_part : Tensor
        bool ``[B, L]``, the slots that are tokens: the real ones, or all.
    token_slots : Tensor | None
        int64 ``[T]``, place of each token among the B·L slots; None when every slot is a token, then T = B·L.
    """

    item_ids: Tensor
    taking_part: Tensor
    token_slots: Tensor | None

    @classmethod
    def from_right_padded(cls, item_ids: Tensor, lengths: Tensor, n_slots: int, mask_padding: bool) -> SlotWindows:
        """Move right-padded windows to the end of their slots.

        Parameters
        ----------
        item_ids : Tensor
            int64 ``[B, W]``, oldest first; W is of no importance.
        lengths : Tensor
            int64 ``[B]``, real items of each row; of more than L the latest L count.
        n_slots : int
            L.
        mask_padding : bool
            Tokens are real items only.
        """
        columns = lengths[:, None] - n_slots + torch.arange(n_slots, device=item_ids.device)  # [B, L]
        real = columns >= 0
        windows = torch.where(real, item_ids.gather(1, columns.clamp(min=0)), 0)  # [B, L]
        if not mask_padding:
            return cls(windows, torch.ones_like(real), None)
        return cls(windows, real, real.flatten().nonzero().squeeze(1))

    @property
    def token_ids(self) -> Tensor:
        """int64 ``[T]``, the item of each token."""
        return self.pack(self.item_ids)

    @property
    def token_rows(self) -> Tensor:
        """int64 ``[T]``, the row of each token."""
        n_rows, n_slots = self.item_ids.shape
        if self.token_slots is None:
            return torch.arange(n_rows, device=self.item_ids.device).repeat_interleave(n_slots)
        return self.token_slots.div(n_slots, rounding_mode="floor")

    def pack(self, slots: Tensor) -> Tensor:
        """Values of the tokens: ``[B, L, ...]`` to ``[T, ...]``."""
        flat = slots.flatten(0, 1)
        return flat if self.token_slots is None else flat.index_select(0, self.token_slots)

    def unpack(self, tokens: Tensor) -> Tensor:
        """Values of all slots, zero where no token is: ``[T, ...]`` to ``[B, L, ...]``."""
        shape = (*self.item_ids.shape, *tokens.shape[1:])
        if self.token_slots is None:
            return tokens.view(shape)
        flat = tokens.new_zeros((self.item_ids.numel(), *tokens.shape[1:]))
        return flat.index_copy(0, self.token_slots, tokens).view(shape)

    def sum_by_row(self, tokens: Tensor) -> Tensor:
        """Sum over the tokens of each row: ``[T, d]`` to ``[B, d]``; 0 for a row without any."""
        if self.token_slots is None:
            return tokens.view(*self.item_ids.shape, -1).sum(dim=1)
        return tokens.new_zeros(len(self.item_ids), tokens.shape[1]).index_add(0, self.token_rows, tokens)

    def counts(self) -> Tensor:
        """Number of tokens of each row, int64 ``[B]``; 1 for a row without any, so that it can be divided by."""
        return self.taking_part.sum(dim=1).clamp(min=1)


def backward_positions(item_ids: Tensor, item_domain: Tensor, n_domains: int, official: bool = False) -> Tensor:
    """Rank of each item counted backwards from the most recent within its own domain.

    Parameters
    ----------
    item_ids : Tensor
        int64 ``[B, L]``, left-padded windows.
    item_domain : Tensor
        int64 ``[n_items]``, domain of each item, −1 for padding.
    n_domains : int
        K.
    official : bool
        Leave the oldest of the L slots at 0, as the official code's loop does.

    Returns
    -------
    Tensor
        int64 ``[B, L]``, 1 = latest of its domain, 0 = padding.

    Source: LeCDSR (Information Fusion 127, 2026), per-domain positions.
    """
    member = F.one_hot(item_domain[item_ids] + 1, n_domains + 1)[..., 1:]  # [B, L, K]
    counted = member.flip(1).cumsum(1).flip(1)  # [B, L, K], items of the domain from here on
    positions = (member * counted).sum(dim=2)  # [B, L]
    if official:
        positions[:, 0] = 0
    return positions


def distinct(ids: Tensor, n_ids: int) -> tuple[Tensor, Tensor]:
    """Distinct ids and where each id is among them, without sorting.

    Parameters
    ----------
    ids : Tensor
        int64, any shape, each in ``0 .. n_ids - 1``.
    n_ids : int
        Number of possible ids.

    Returns
    -------
    tuple[Tensor, Tensor]
        int64 ``[U]``, ascending; int64 of the shape of ``ids``, places in it.
    """
    present = torch.zeros(n_ids, dtype=torch.bool, device=ids.device).index_fill_(0, ids.flatten(), True)
    found = present.nonzero().squeeze(1)  # [U]
    places = torch.zeros(n_ids, dtype=torch.long, device=ids.device)
    places[found] = torch.arange(len(found), device=ids.device)
    return found, places[ids]
