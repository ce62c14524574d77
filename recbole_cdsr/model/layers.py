"""The SASRec thread, on real tokens only (`packed_windows`)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_cdsr.model.packed_windows import PackedWindows

LAYER_NORM_EPS = 1e-8


class AttentionMasks:
    """What every layer of a thread must know about who may look at whom; built once per batch.

    With ``mask_padding=False`` a row of length m carries P = window − m padding keys. The input is zero there, in
    every layer, so all of them have the key and value bias as key and value and act as *one* key whose logit is
    raised by log P. Padding stands left of the history (as in the papers' code), so causal attention sees it too.

    Parameters
    ----------
    packed : PackedWindows
        The batch.
    causal : bool
        A position sees itself and earlier ones only.
    window : int | None
        N, the padded length, when padding keys take part; None when they do not.
    dtype : torch.dtype
        floating type of the additive masks.
    """

    def __init__(self, packed: PackedWindows, causal: bool, window: int | None, dtype: torch.dtype) -> None:
        self.packed = packed
        self.with_padding_key = window is not None
        self.is_causal = causal and window is None  # then a causal mask is all that is needed, which kernels have too
        self.biases: list[Tensor] = []
        self.padding_counts: list[Tensor] = []
        for bucket in packed.buckets:
            if self.is_causal:
                # Real positions see earlier, hence real, positions only: no length mask is needed.
                square = (1, 1, bucket.width, bucket.width)
                self.biases.append(torch.full(square, -math.inf, dtype=dtype, device=packed.lengths.device).triu_(1))
                continue
            columns = torch.arange(bucket.width, device=packed.lengths.device)
            hidden = columns[None, None, :] >= bucket.lengths[:, None, None]  # [b, 1, w]
            if causal:
                hidden = hidden | (columns[None, :, None] < columns[None, None, :])  # [b, w, w]
            bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -math.inf)
            if window is not None:
                n_padding = (window - bucket.lengths).clamp(min=0).to(dtype)  # [b]
                padding_bias = n_padding.log()[:, None, None].expand(-1, bias.shape[1], 1)
                bias = torch.cat([bias, padding_bias], dim=2)  # [b, w | 1, w + 1]
                self.padding_counts.append(n_padding)
            self.biases.append(bias[:, None])  # [b, 1, w | 1, w (+ 1)]


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each entry with probability p, to the nearest 1 / 65,536, and scale the others so that the mean stays.

    PyTorch's own takes 10 ns an entry on a CPU, a third of a training step; 16 random bits an entry, four entries to a
    draw, take 1.
    """
    if p == 0 or x.device.type != "cpu":
        return F.dropout(x, p)
    n_dropped = min(round(p * 65536), 65535)  # of the values of 16 bits
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    kept = draws[: x.numel()].view(x.shape).float().ge_(n_dropped - 32768).to(x.dtype)
    return x * kept.mul_(65536 / (65536 - n_dropped))


class Dropout(nn.Dropout):
    """`dropout` while training, with PyTorch's name and settings."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return dropout(x, self.p) if self.training else x


class SASRecBlock(nn.Module):
    """One block: ``q = LN(x); x = q + MHA(q, x, x); y = LN(x); x = y + FFN(y)``.

    Key and value are taken from the un-normalised x; FFN is Linear-Dropout-ReLU-Linear-Dropout of width d
    (Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, in the papers' common variant).

    Parameters
    ----------
    hidden_size : int
        d, width of the states.
    n_heads : int
        Number of heads; divides d.
    hidden_dropout_prob : float
        Dropout in the feed-forward layer, in [0, 1).
    attn_dropout_prob : float
        Dropout on attention weights, in [0, 1).
    """

    def __init__(self, hidden_size: int, n_heads: int, hidden_dropout_prob: float, attn_dropout_prob: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attn_dropout_prob = attn_dropout_prob
        self.attention_norm = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        # One stacked q, k, v parameter, as nn.MultiheadAttention has it: Xavier's scale depends on that shape.
        self.in_proj_weight = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * hidden_size))
        self.out_proj = nn.Linear(hidden_size, hidden_size)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.feed_forward_in = nn.Linear(hidden_size, hidden_size)
        self.feed_forward_out = nn.Linear(hidden_size, hidden_size)
        self.dropout = Dropout(hidden_dropout_prob)
        nn.init.xavier_normal_(self.in_proj_weight)

    def forward(self, x: Tensor, masks: AttentionMasks, wanted: Tensor | None = None) -> Tensor:
        """``[T, d]`` to ``[T, d]``, tokens laid out as in ``masks.packed``; to ``[M, d]`` where only M are wanted."""
        query = self.attention_norm(x)  # [T, d]
        attended = self._attend(query, x, masks, wanted)
        if wanted is not None:
            query = query.index_select(0, wanted)
        x = query + self.out_proj(attended)
        y = self.feed_forward_norm(x)
        return y + self.dropout(self.feed_forward_out(F.relu(self.dropout(self.feed_forward_in(y)))))

    def _attend(self, query: Tensor, x: Tensor, masks: AttentionMasks, wanted: Tensor | None = None) -> Tensor:
        d = x.shape[-1]
        heads, packed = self.n_heads, masks.packed
        sizes = [bucket.n_rows * bucket.width for bucket in packed.buckets]
        # Three projections instead of one stacked, and split at once instead of sliced: gradients come back uncopied.
        parts = [
            F.linear(source, weight, bias).index_select(0, packed.token_of_slot).split(sizes)  # [S, d] in all
            for source, weight, bias in zip(
                (query, x, x), self.in_proj_weight.split(d), self.in_proj_bias.split(d), strict=True
            )
        ]
        attended = []
        for index, (bucket, *qkv) in enumerate(zip(packed.buckets, *parts, strict=True)):
            block = (bucket.n_rows, bucket.width, heads, d // heads)
            q, k, v = (part.view(block).transpose(1, 2) for part in qkv)  # each [b, heads, w, d / heads]
            n_padding = None
            if masks.with_padding_key:
                key, value = self.in_proj_bias[d:].view(2, 1, heads, 1, d // heads).expand(-1, len(q), -1, -1, -1)
                k, v = (
                    torch.cat([k, key], dim=2),
                    torch.cat([v, value], dim=2),
                )  # [b, heads, w + 1, d / heads]
                n_padding = masks.padding_counts[index]
            out = self._attention(q, k, v, masks.biases[index], masks.is_causal, n_padding)
            attended.append(out.transpose(1, 2).reshape(-1, d))  # [b * w, d]
        if not attended:  # no row has a token
            return query
        slots = packed.slot_of_token if wanted is None else packed.slot_of_token[wanted]
        return torch.cat(attended).index_select(0, slots)  # [T, d] or [M, d]

    def _attention(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, is_causal: bool, n_padding: Tensor | None
    ) -> Tensor:
        """Scaled dot-product attention with dropout on its weights: ``[b, heads, w, d / heads]``."""
        p = self.attn_dropout_prob if self.training else 0.0
        if p == 0 or (n_padding is None and q.device.type != "cpu"):
            mask = None if is_causal else bias
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, is_causal=is_causal)
        weights = _biased_products(q, k, bias).softmax(dim=-1)  # [b, heads, w, w (+ 1)]
        if n_padding is None:
            return dropout(weights, p) @ v
        # The last key stands for P padding keys of equal weight, each dropped on its own: the kept share of their
        # joint weight is Binomial(P, 1 - p) / P, not all or nothing.
        count = n_padding[:, None, None, None].expand(-1, *weights.shape[1:3], 1).contiguous()
        kept = torch.binomial(count, torch.full_like(count, 1 - p)) / (count.clamp(min=1) * (1 - p))
        real, padding = weights[..., :-1], weights[..., -1:]
        return torch.cat([dropout(real, p), padding * kept], dim=-1) @ v


def _biased_products(q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
    """Q Kᵀ / √(d / heads) + bias in one operation: ``[b, heads, w, u]``, the bias ``[b | 1, 1, w | 1, u]``."""
    b, heads, w, width = q.shape
    if len(bias) > 1:
        bias = bias.expand(-1, heads, -1, -1).reshape(b * heads, *bias.shape[2:])
    else:
        bias = bias[0]  # one for all
    products = torch.baddbmm(
        bias, q.reshape(b * heads, w, width), k.reshape(b * heads, -1, width).transpose(1, 2), alpha=width**-0.5
    )
    return products.view(b, heads, w, -1)


class SASRecThread(nn.Module):
    """A SASRec backbone with its own position table: item vectors in, one state per token out.

    Parameters
    ----------
    hidden_size : int
        d, width of the states.
    n_layers : int
        Number of blocks.
    n_heads : int
        Attention heads.
    window : int
        N, the longest history.
    hidden_dropout_prob : float
        Dropout after the embedding and in the feed-forward layers.
    attn_dropout_prob : float
        Dropout on attention weights.
    attention : str
        ``causal`` or ``bidirectional``.
    mask_padding : bool
        False lets the padding keys of a left-padded window of length n take part.
    positions : str
        ``count`` numbers tokens 1, 2, … from the first real one (table of n + 1 rows, row 0 is
        padding's); ``column`` takes the column 0 .. n − 1 of the left-padded window (table of n rows).
    """

    def __init__(
        self,
        hidden_size: int,
        n_layers: int,
        n_heads: int,
        window: int,
        hidden_dropout_prob: float,
        attn_dropout_prob: float,
        attention: Literal["causal", "bidirectional"] = "causal",
        mask_padding: bool = True,
        positions: Literal["count", "column"] = "count",
    ) -> None:
        super().__init__()
        self.window = window
        self.causal = attention == "causal"
        self.mask_padding = mask_padding
        self.count_positions = positions == "count"
        self.position_embedding = nn.Embedding(window + self.count_positions, hidden_size)
        self.dropout = Dropout(hidden_dropout_prob)
        self.blocks = nn.ModuleList(
            SASRecBlock(hidden_size, n_heads, hidden_dropout_prob, attn_dropout_prob) for _ in range(n_layers)
        )
        self.last_norm = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)

    def forward(self, packed: PackedWindows, item_vectors: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Encode a batch.

        Parameters
        ----------
        packed : PackedWindows
            Layout of the tokens.
        item_vectors : Tensor
            float ``[T, d]``, already scaled by the square root of the table's width.
        wanted : Tensor | None
            int64 ``[M]``, distinct tokens whose states are wanted: the last block computes no others. None wants all.

        Returns
        -------
        Tensor
            ``[T, d]`` or ``[M, d]``, states after the last layer norm.
        """
        if self.count_positions:
            positions = packed.columns + 1  # [T]
        else:
            positions = packed.columns + (self.window - packed.lengths)[packed.rows]  # [T]
        x = self.dropout(item_vectors + self.position_embedding(positions))  # [T, d]
        masks = AttentionMasks(packed, self.causal, None if self.mask_padding else self.window, x.dtype)
        for block in self.blocks:
            x = block(x, masks, wanted if block is self.blocks[-1] else None)
        if not self.blocks and wanted is not None:
            x = x.index_select(0, wanted)
        return self.last_norm(x)

    def last_state(self, packed: PackedWindows, states: Tensor) -> Tensor:
        """State of each row's last token, ``[R, d]``; the last layer norm's bias for a row without tokens.

        That is what the dense computation leaves at a padded position: layer norm of zero.
        """
        with_empty = torch.cat([states, self.last_norm.bias[None].to(states.dtype)])  # [T + 1, d]
        last = torch.where(packed.lengths > 0, packed.pointers[1:] - 1, packed.n_tokens)  # [R]
        return with_empty[last]


def initialise_xavier(module: nn.Module) -> None:
    """Xavier-normal weights and zero biases for one linear or embedding module; meant for ``Module.apply``."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.xavier_normal_(module.weight)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def look_up(table: Tensor, id_groups: list[Tensor], like: list[Tensor] | None = None) -> list[Tensor]:
    """Rows of a table for several groups of ids in one look-up.

    Parameters
    ----------
    table : Tensor
        ``[n, d]``.
    id_groups : list[Tensor]
        int64, any shape.
    like : list[Tensor] | None
        Tensors whose shapes the results take, where the ids were flattened.

    Returns
    -------
    list[Tensor]
        one ``[*shape, d]`` per group.
    """
    vectors = F.embedding(torch.cat([ids.flatten() for ids in id_groups]), table)
    parts = vectors.split([ids.numel() for ids in id_groups])
    shapes = [ids.shape for ids in like or id_groups]
    return [part.view(*shape, table.shape[1]) for part, shape in zip(parts, shapes, strict=True)]
