"""SASRec as the specification writes it, on left-padded dense windows with `torch.nn.MultiheadAttention`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_cdsr.model.layers import LAYER_NORM_EPS, SASRecThread


def dense_states(thread: SASRecThread, rows: list[Tensor]) -> list[Tensor]:
    """States ``[n, d]`` of every left-padded row of item vectors ``[length, d]``, one row at a time.

    Padding's keys and values are computed like any other column's.
    """
    n, d = thread.window, thread.last_norm.normalized_shape[0]
    table = thread.position_embedding.weight
    results = []
    for vectors in rows:
        length = len(vectors)
        real = torch.arange(n) >= n - length  # [n]
        positions = torch.arange(1, length + 1) if thread.count_positions else torch.arange(n - length, n)
        x = torch.cat([vectors.new_zeros(n - length, d), vectors + table[positions]])  # [n, d]
        hidden = torch.zeros(n, n, dtype=torch.bool)
        if thread.causal:
            hidden |= torch.ones(n, n, dtype=torch.bool).triu(1)
        if thread.mask_padding:
            # Padding's own states are thrown away; letting it see itself keeps its softmax defined.
            hidden |= ~real & ~torch.eye(n, dtype=torch.bool)
        for block in thread.blocks:
            attention = nn.MultiheadAttention(d, block.n_heads, batch_first=True, dtype=x.dtype)
            attention_state = {
                "in_proj_weight": block.in_proj_weight,
                "in_proj_bias": block.in_proj_bias,
                "out_proj.weight": block.out_proj.weight,
                "out_proj.bias": block.out_proj.bias,
            }
            q = F.layer_norm(x, (d,), block.attention_norm.weight, block.attention_norm.bias, LAYER_NORM_EPS)
            out, _ = torch.func.functional_call(
                attention, attention_state, (q[None], x[None], x[None]), {"attn_mask": hidden}
            )
            x = q + out[0]
            norm = block.feed_forward_norm
            y = F.layer_norm(x, (d,), norm.weight, norm.bias, LAYER_NORM_EPS)
            x = y + block.feed_forward_out(F.relu(block.feed_forward_in(y)))
            x = torch.where(real[:, None], x, 0)
        norm = thread.last_norm
        results.append(F.layer_norm(x, (d,), norm.weight, norm.bias, LAYER_NORM_EPS))
    return results
