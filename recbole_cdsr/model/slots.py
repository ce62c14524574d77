"""Windows of a fixed number of slots, the latest item in the last one, laid out so that no padding is computed.

A model whose parameters belong to slots (a filter over frequencies, a gate per slot) needs every window in one and the
same grid of L slots, whatever the width of a batch. Here the rows of a batch are ordered by length and their items lie
flat: the rows of one length are then a dense block ``[n, m, d]`` that is a mere view, and nothing needs a mask. (On
Food-Kitchen a third of the slots of a batch of prefixes hold an item.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS_PER_BLOCK = 128  # so that what is made of a block stays in the processor's cache


@dataclass(frozen=True)
class Block:
    """Rows of one length.

    Attributes
    ----------
    n_rows, length : int
        n and m; the block's n·m tokens fill the last m slots of each row.
    """

    n_rows: int
    length: int


@dataclass(frozen=True)
class SlotWindows:
    """The windows of a batch, ordered by length; *tokens* are their items laid flat, row by row, oldest first.

    Where padding takes part, every slot is a token.

    Attributes
    ----------
    order : Tensor
        int64 ``[B]``, the row of the batch that each row here is.
    item_ids : Tensor
        int64 ``[B, L]``, left-padded with 0.
    counts : Tensor
        int64 ``[B]``, tokens of each row.
    token_slots : Tensor
        int64 ``[T]``, place of each token among the B·L slots.
    blocks : tuple[Block, ...]
        The tokens, in their order.
    """

    order: Tensor
    item_ids: Tensor
    counts: Tensor
    token_slots: Tensor
    blocks: tuple[Block, ...]

    @classmethod
    def from_right_padded(cls, item_ids: Tensor, lengths: Tensor, n_slots: int, mask_padding: bool) -> SlotWindows:
        """Lay out right-padded windows.

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
        windows = torch.where(columns >= 0, item_ids.gather(1, columns.clamp(min=0)), 0)  # [B, L]
        counts = lengths.clamp(max=n_slots) if mask_padding else torch.full_like(lengths, n_slots)  # [B]
        counts, order = counts.sort(stable=True)
        taking_part = torch.arange(n_slots, device=item_ids.device) >= n_slots - counts[:, None]  # [B, L]
        slots = taking_part.flatten().nonzero().squeeze(1)  # [T]
        rows_of_length = torch.bincount(counts, minlength=n_slots + 1).tolist()
        return cls(order, windows[order], counts, slots, _blocks(rows_of_length))

    @property
    def token_ids(self) -> Tensor:
        """int64 ``[T]``, the item of each token."""
        return self.pack(self.item_ids)

    @property
    def token_rows(self) -> Tensor:
        """int64 ``[T]``, the row of each token."""
        return self.token_slots.div(self.item_ids.shape[1], rounding_mode="floor")

    def pack(self, slots: Tensor) -> Tensor:
        """Values of the tokens: ``[B, L]`` to ``[T]``."""
        return slots.flatten().index_select(0, self.token_slots)

    def unpack(self, tokens: Tensor, fill: float) -> Tensor:
        """Values of all slots: ``[T]`` to ``[B, L]``."""
        slots = tokens.new_full((self.item_ids.numel(),), fill)
        return slots.index_copy(0, self.token_slots, tokens).view(self.item_ids.shape)

    def sum_by_row(self, tokens: Tensor) -> Tensor:
        """Sum over the tokens of each row: ``[T, d]`` to ``[B, d]``; 0 for a row without any."""
        return torch.cat([rows.sum(dim=1) for rows in in_blocks(tokens, self.blocks)])

    def in_batch_order(self, rows: Tensor) -> Tensor:
        """Values of our rows put back into the order of the batch."""
        return torch.empty_like(rows).index_copy(0, self.order, rows)


def in_blocks(values: Tensor, blocks: tuple[Block, ...]) -> list[Tensor]:
    """Views ``[n, m, ...]`` of ``[T, ...]``, one per block."""
    # Split, not sliced: the gradient of a slice is as large as what it was cut from.
    parts = values.split([block.n_rows * block.length for block in blocks])
    return [part.view(block.n_rows, block.length, *values.shape[1:]) for part, block in zip(parts, blocks, strict=True)]


def _blocks(rows_of_length: list[int]) -> tuple[Block, ...]:
    """Blocks of `ROWS_PER_BLOCK` rows at most, by ascending length; entry m of the list counts the rows of length m."""
    blocks = []
    for length, n_left in enumerate(rows_of_length):
        full, rest = divmod(n_left, ROWS_PER_BLOCK)
        blocks += [Block(ROWS_PER_BLOCK, length)] * full + [Block(rest, length)] * (rest > 0)
    return tuple(blocks)


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
