"""One window per domain, cut out of the mixed windows of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_cdsr.model.packed_windows import PackedWindows


@dataclass(frozen=True)
class DomainView:
    """The thread of one domain and where it meets the mixed thread.

    Attributes
    ----------
    packed : PackedWindows
        Layout of the domain's own windows, one row per row of the batch.
    item_ids : Tensor
        int64 ``[T_k]``, the thread's input items.
    mixed_positions : Tensor
        int64 ``[M_k]``, tokens of the mixed thread whose target is in this domain and
        that have an item of this domain at or before them.
    thread_positions : Tensor
        int64 ``[M_k]``, for each, the token of this thread with the same target.
    """

    packed: PackedWindows
    item_ids: Tensor
    mixed_positions: Tensor
    thread_positions: Tensor


def training_views(
    packed: PackedWindows, item_ids: Tensor, target_ids: Tensor, item_domain: Tensor, n_domains: int
) -> list[DomainView]:
    """Threads for training: the domain's items of the window W but the last, matched with the mixed thread.

    W is a row's input and its last target, W_k the items of domain k in it, W_k[:-1] the input of thread k. The
    mixed position t with a target in domain k belongs to the latest item of domain k up to t: the c-th position
    of thread k, c the number of items of domain k in the input up to t. With c = 0 the position has no match.

    Parameters
    ----------
    packed : PackedWindows
        Layout of the mixed inputs.
    item_ids : Tensor
        int64 ``[T]``, mixed inputs.
    target_ids : Tensor
        int64 ``[T]``, next item of each position, 0 = none.
    item_domain : Tensor
        int64 ``[n_items]``, domain of each item, −1 for padding.
    n_domains : int
        K, number of domains.

    Returns
    -------
    list[DomainView]
        one per domain, in order.
    """
    domains, target_domains = item_domain[item_ids], item_domain[target_ids]  # [T], padding target: -1
    last_targets = _last_target_domains(packed, target_domains)  # [R]
    views = []
    for domain in range(n_domains):
        member = domains == domain  # [T]
        seen = _counts_up_to(packed, member)  # [T]
        totals = _row_sums(packed, member)  # [R]
        # When W ends in this domain its last item is the target, so every input item of the domain stays.
        lengths = torch.where(last_targets == domain, totals, (totals - 1).clamp(min=0))  # [R]
        kept = member & (seen <= lengths[packed.rows])
        view = PackedWindows.from_lengths(lengths)
        matched = ((target_domains == domain) & (seen > 0)).nonzero().squeeze(1)  # [M_k]
        thread_positions = view.pointers[packed.rows[matched]] + seen[matched] - 1  # [M_k]
        views.append(DomainView(view, item_ids[kept], matched, thread_positions))
    return views


def history_view(
    packed: PackedWindows, item_ids: Tensor, item_domain: Tensor, domain: int, rows: Tensor
) -> tuple[PackedWindows, Tensor]:
    """Thread of one domain for scoring: all of its items in the history, for the rows asked for.

    Parameters
    ----------
    packed : PackedWindows
        Layout of the mixed histories.
    item_ids : Tensor
        int64 ``[T]``.
    item_domain : Tensor
        int64 ``[n_items]``.
    domain : int
        0-based.
    rows : Tensor
        int64 ``[r]``, rows to be scored; the others stay empty.

    Returns
    -------
    tuple[PackedWindows, Tensor]
        layout (all R rows) and item ids ``[T_k]`` of the thread.
    """
    wanted = torch.zeros_like(packed.lengths, dtype=torch.bool).index_fill_(0, rows, True)  # [R]
    member = (item_domain[item_ids] == domain) & wanted[packed.rows]  # [T]
    return PackedWindows.from_lengths(_row_sums(packed, member)), item_ids[member]


def _counts_up_to(packed: PackedWindows, member: Tensor) -> Tensor:
    """Number of members in the own row at or before each token, int64 ``[T]``."""
    running = torch.cat([member.new_zeros(1, dtype=torch.long), member.long().cumsum(0)])  # [T + 1]
    return running[1:] - running[packed.pointers[packed.rows]]


def _row_sums(packed: PackedWindows, member: Tensor) -> Tensor:
    """Number of members of each row, int64 ``[R]``."""
    running = torch.cat([member.new_zeros(1, dtype=torch.long), member.long().cumsum(0)])
    return running[packed.pointers[1:]] - running[packed.pointers[:-1]]


def _last_target_domains(packed: PackedWindows, target_domains: Tensor) -> Tensor:
    """Domain of each row's last target, −1 where it has none, int64 ``[R]``."""
    with_none = torch.cat([target_domains, target_domains.new_full((1,), -1)])  # [T + 1]
    last = torch.where(packed.lengths > 0, packed.pointers[1:] - 1, packed.n_tokens)
    return with_none[last]
