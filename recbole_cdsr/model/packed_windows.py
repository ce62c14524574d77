"""The real tokens of a batch of windows, flat, and the groups of rows that attention runs on.

Interaction windows are short on average and long at most (Food-Kitchen: mean 7.9, limit 200), so a dense
``[B, n, d]`` batch is almost all padding. Here the real tokens of a batch lie flat in ``[T, d]``: projections,
layer norms and feed-forward layers run on them, and attention runs on a few groups of rows of similar length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SHORTEST_BUCKET = 8
# What a bucket of its own costs in operations on a CPU, as attention weights that could be computed in that time.
BUCKET_COST = 16384
# Upper bounds of the length buckets: 0 (rows without tokens), 8, 16, 32, … 2^20.
_BUCKET_BOUNDS = [0] + [1 << e for e in range(SHORTEST_BUCKET.bit_length() - 1, 21)]


@dataclass(frozen=True)
class Bucket:
    """Rows of similar length, which attend side by side in one dense ``[b, width]`` block.

    Attributes
    ----------
    slots : slice
        The bucket's part of the slot axis, ``b * width`` long.
    n_rows : int
        b, number of rows.
    width : int
        Number of slots of each row, at least the longest length in the bucket.
    lengths : Tensor
        int64 ``[b]``, number of real tokens of each row, all > 0.
    """

    slots: slice
    n_rows: int
    width: int
    lengths: Tensor


@dataclass(frozen=True)
class PackedWindows:
    """Where each real token of a batch of R windows lies; computed once per batch, shared by all layers.

    Tokens are ordered by row, then by time. *Slots* are the places of the dense attention blocks; a slot beyond
    the end of its row points at the row's last token, so that reading it is harmless (attention masks it).

    Attributes
    ----------
    lengths : Tensor
        int64 ``[R]``, tokens of each row; 0 is allowed.
    pointers : Tensor
        int64 ``[R + 1]``, row r owns tokens ``pointers[r] .. pointers[r + 1] - 1``.
    rows : Tensor
        int64 ``[T]``, row of each token.
    columns : Tensor
        int64 ``[T]``, place of each token in its row, from 0.
    token_of_slot : Tensor
        int64 ``[S]``.
    slot_of_token : Tensor
        int64 ``[T]``.
    buckets : tuple[Bucket, ...]
        Consecutive parts of the slot axis; empty rows are in none.
    """

    lengths: Tensor
    pointers: Tensor
    rows: Tensor
    columns: Tensor
    token_of_slot: Tensor
    slot_of_token: Tensor
    buckets: tuple[Bucket, ...]

    @classmethod
    def from_lengths(cls, lengths: Tensor) -> PackedWindows:
        """Lay out windows of the given lengths.

        Parameters
        ----------
        lengths : Tensor
            int64 ``[R]``, each ≥ 0.
        """
        device = lengths.device
        lengths = lengths.long()
        pointers = F.pad(lengths.cumsum(0), (1, 0))  # [R + 1]
        bounds = torch.tensor(_BUCKET_BOUNDS, device=device)
        bucket_of_row = torch.bucketize(lengths, bounds)  # [R]
        order = bucket_of_row.argsort(stable=True)  # [R]
        sizes = (bucket_of_row[:, None] == torch.arange(len(bounds), device=device)).sum(0)  # [n_bounds]
        longest = lengths.max() if lengths.numel() else lengths.new_zeros(())
        # Read from the device once: bucket sizes, the longest row and the number of tokens together. The small tensors
        # of bounds, rows and widths that go the other way are waits too.
        *counts, longest_row, n_tokens = torch.cat([sizes, longest[None], pointers[-1:]]).tolist()

        rows = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths, output_size=n_tokens)  # [T]
        columns = torch.arange(n_tokens, device=device) - pointers[rows]  # [T]

        buckets: list[Bucket] = []
        n_placed, n_slots = counts[0], 0
        for n_rows, width in _joined_buckets(counts[1:], longest_row):
            slots = slice(n_slots, n_slots + n_rows * width)
            buckets.append(Bucket(slots, n_rows, width, lengths[order[n_placed : n_placed + n_rows]]))
            n_placed, n_slots = n_placed + n_rows, slots.stop

        filled = order[counts[0] :]  # rows with tokens, bucket by bucket
        n_rows_of = torch.tensor([bucket.n_rows for bucket in buckets], dtype=torch.long, device=device)
        widths = torch.tensor([bucket.width for bucket in buckets], dtype=torch.long, device=device)
        widths = torch.repeat_interleave(widths, n_rows_of, output_size=len(filled))  # [R']
        first_slot = torch.zeros_like(lengths)
        first_slot[filled] = widths.cumsum(0) - widths  # [R]
        row_of_slot = torch.repeat_interleave(filled, widths, output_size=n_slots)  # [S]
        column_of_slot = torch.arange(n_slots, device=device) - first_slot[row_of_slot]  # [S]
        token_of_slot = pointers[row_of_slot] + torch.minimum(column_of_slot, lengths[row_of_slot] - 1)
        slot_of_token = first_slot[rows] + columns  # [T]
        return cls(lengths, pointers, rows, columns, token_of_slot, slot_of_token, tuple(buckets))

    @property
    def n_tokens(self) -> int:
        """T, the number of real tokens."""
        return len(self.rows)

    def pack(self, padded: Tensor) -> Tensor:
        """Take the real entries of right-padded ``[R, L, ...]`` values: ``[T, ...]``."""
        return padded[self.rows, self.columns]


def _joined_buckets(counts: list[int], longest: int) -> list[tuple[int, int]]:
    """Rows and width of each bucket: rows of the next bound join where that costs less than a bucket of their own.

    Parameters
    ----------
    counts : list[int]
        Rows of each bound, from `SHORTEST_BUCKET` on.
    longest : int
        The longest length.
    """
    joined: list[tuple[int, int]] = []
    for bound, n_rows in zip(_BUCKET_BOUNDS[1:], counts, strict=True):
        if n_rows == 0:
            continue
        width, shorter = min(bound, longest), 0
        if joined and joined[-1][0] * (width**2 - joined[-1][1] ** 2) <= BUCKET_COST:
            shorter, _ = joined.pop()
        joined.append((shorter + n_rows, width))
    return joined
