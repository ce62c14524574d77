"""Cross-entropy over all items, in pieces that stay in a processor's cache.

The logits of 2,048 rows and 36,000 items are 300 MB. As separate operations, product, softmax and their gradients
write and read several such blocks a step, and memory is what takes the time. Here some rows at a time go through all of
it: each piece is made, used for loss and both gradients, and overwritten by the next.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# The fastest on 36,000 items (9 MB of logits); on 140,000, pieces four times as large gain a sixth with two threads.
ROWS_AT_ONCE = 64
# Catalogues so small that 64 rows are less than this many logits (8 MiB) take a multiple of them.
LOGITS_AT_ONCE = 2**21


def item_cross_entropy(states: Tensor, table: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Mean cross-entropy of the targets among all items.

    .. math:: L = -\frac{1}{B} \sum_i \log \mathrm{softmax}(W h_i + b)_{v_i}

    On a GPU, under autocast and in half precision PyTorch's own operations do it.

    Parameters
    ----------
    states : Tensor
        float ``[B, H]``.
    table : Tensor
        float ``[n_items, H]``.
    targets : Tensor
        int64 ``[B]``.
    bias : Tensor | None
        float ``[n_items]``.

    Returns
    -------
    Tensor
        scalar; NaN for B = 0, as PyTorch's. Differentiable once.
    """
    plain = states.device.type != "cpu" or torch.is_autocast_enabled("cpu")
    if plain or len(states) == 0 or states.dtype not in (torch.float32, torch.float64):
        return F.cross_entropy(F.linear(states, table, bias), targets)
    return _ItemCrossEntropy.apply(states, table, targets, bias)


class _ItemCrossEntropy(torch.autograd.Function):
    """The gradients are made with the loss, for a loss of 1, and scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, targets: Tensor, bias: Tensor | None) -> Tensor:
        n_rows, n_items = len(states), len(table)
        at_once = min(ROWS_AT_ONCE * max(1, LOGITS_AT_ONCE // (ROWS_AT_ONCE * n_items)), n_rows)
        wanted = any(ctx.needs_input_grad)
        space = states.new_empty(n_items * at_once)
        state_gradient = torch.empty_like(states) if wanted else None
        table_gradient = torch.zeros_like(table) if wanted else None
        bias_gradient = torch.zeros_like(bias) if wanted and bias is not None else None
        total = states.new_zeros(())
        for first in range(0, n_rows, at_once):
            h, v = states[first : first + at_once], targets[None, first : first + at_once]  # [b, H], [1, b]
            # Items before rows: a long table by 64 columns takes two thirds of the time of 64 rows by the table.
            logits = space[: n_items * len(h)].view(n_items, len(h))  # [n_items, b], overwritten by what follows
            torch.mm(table, h.T.contiguous(), out=logits)
            if bias is not None:
                logits += bias[:, None]
            own = logits.gather(0, v)  # [1, b]
            largest = logits.amax(0, keepdim=True)
            exponentials = logits.sub_(largest).exp_()
            sums = exponentials.sum(0, keepdim=True)
            total += (sums.log() + largest - own).sum()
            if wanted:
                gradient = exponentials.scatter_add_(0, v, -sums)  # of logits but for `scale`
                scale = 1 / (sums.T * n_rows)  # [b, 1], applied where there are few columns
                torch.mm(gradient.T, table, out=state_gradient[first : first + at_once]).mul_(scale)
                table_gradient.addmm_(gradient, h * scale)
                if bias_gradient is not None:
                    bias_gradient.addmv_(gradient, scale[:, 0])
        ctx.gradients = (state_gradient, table_gradient, None, bias_gradient)
        return total / n_rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        made, ctx.gradients = ctx.gradients, None
        if made is None:
            raise RuntimeError("item_cross_entropy can be differentiated once only.")
        return tuple(None if part is None else part.mul_(gradient) for part in made)
