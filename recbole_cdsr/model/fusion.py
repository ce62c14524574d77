"""Semantic fusion of LeCDSR: item ids and item texts mixed in the frequency domain along the sequence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recbole_cdsr.model.kept_tensors import KeptTensors
from recbole_cdsr.model.slots import Block, SlotWindows, in_blocks


class SemanticFusion(nn.Module):
    r"""One vector per item of a window from its id's and its text's vector.

    .. math::
        c_1 &= \mathcal{F}^{-1}(\mathcal{F}(E_s) \odot W_c), \qquad
        c_2 = \mathcal{F}^{-1}(\mathcal{F}(a(T_s)) \odot \mathcal{F}(E_s)) \\
        x &= \sigma(w_1 \cdot c_1 + \beta_1) \, c_1 + \sigma(w_2 \cdot c_2 + \beta_2) \, c_2

    F is the real discrete Fourier transform over the L slots, orthonormal in both directions, so that c₁ is a learnt
    circular filter of the ids and c₂ the circular convolution of texts and ids, for odd and even L. Slots without a
    token are zero.

    Parameters
    ----------
    hidden_size : int
        d.
    n_slots : int
        L, the window.

    Source: LeCDSR (Information Fusion 127, 2026), semantic fusion layer.
    """

    def __init__(self, hidden_size: int, n_slots: int) -> None:
        super().__init__()
        self.n_slots = n_slots
        # W_c, (re, im) on the last axis: optimisers and checkpoints take it like any other parameter.
        self.complex_weight = nn.Parameter(torch.empty(n_slots // 2 + 1, hidden_size, 2))  # [F, d, 2]
        self.item_gating = nn.Linear(hidden_size, 1)
        self.fusion_gating = nn.Linear(hidden_size, 1)

    def forward(self, windows: SlotWindows, item: Tensor, text: Tensor) -> Tensor:
        """x.

        Parameters
        ----------
        windows : SlotWindows
            Layout of the tokens.
        item, text : Tensor
            float ``[T, d]``, E_s and a(T_s).

        Returns
        -------
        Tensor
            ``[T, d]``.
        """
        dtype = self.complex_weight.dtype
        c1, c2 = _SpectralProducts.apply(
            item.to(dtype), text.to(dtype), self.complex_weight, windows.blocks, self.n_slots
        )
        return self.item_gating(c1).sigmoid() * c1 + self.fusion_gating(c2).sigmoid() * c2


@dataclass(frozen=True)
class BlockTransforms:
    """What takes the rows of one length m to frequencies and back, as real matrices; N is the length of the transform.

    The m tokens of a row stand in the last of L slots and zeros before them, so that a circular convolution over L
    slots meets nothing around the circle as long as 2m − 1 < L: there N = 2m − 1 slots give the same, else N = L.

    Attributes
    ----------
    ahead : Tensor
        ``[2F, m]``, tokens to frequencies, real parts over imaginary parts, F = ⌊N/2⌋ + 1.
    filtered, fused : Tensor
        ``[m, 2F]`` each, the product with the filter and that of two sequences back to the tokens' slots.
    filters : Tensor
        ``[2F, 2F_L]``, W_c, which knows F_L = ⌊L/2⌋ + 1 frequencies, to the filter of N slots.
    """

    ahead: Tensor
    filtered: Tensor
    fused: Tensor
    filters: Tensor


@dataclass(frozen=True)
class CircleTransforms:
    """The transforms over all L slots, which those of every length are cut from, float64.

    Attributes
    ----------
    forward, inverse : Tensor
        ``[2F_L, L]`` and ``[L, 2F_L]``, as `real_transforms` gives them.
    filters : Tensor
        ``[2F_L, 2F_L]``, of the lengths that need the whole circle.
    """

    forward: Tensor
    inverse: Tensor
    filters: Tensor


# All lengths of a window of 200 slots take 66 MiB, of 500 slots 1 GiB, of 1,000 slots 8 GiB.
_kept = KeptTensors(128 * 2**20)


def block_transforms(n_slots: int, length: int, dtype: torch.dtype, device: torch.device) -> BlockTransforms:
    """The matrices for rows of m = `length` tokens in L = `n_slots` slots, from those lately used or made anew."""
    key = (n_slots, length, dtype, device)
    return _kept.get(key, lambda: _block_transforms(n_slots, length, dtype, device))


def _block_transforms(n_slots: int, length: int, dtype: torch.dtype, device: torch.device) -> BlockTransforms:
    n, m = min(2 * length - 1, n_slots), length
    circle = _kept.get(n_slots, lambda: _circle_transforms(n_slots))
    with torch.inference_mode(
        False
    ):  # they outlive the call, and what is made in inference cannot be differentiated by
        if n == n_slots:
            forward, inverse, filters = circle.forward, circle.inverse, circle.filters
        else:
            forward, inverse = real_transforms(n)
            lags = torch.arange(n)
            lags = torch.where(lags < m, lags, lags - n) % n_slots  # of the N slots, negative ones round the circle
            to_slots = circle.inverse[lags] / math.sqrt(n_slots)  # [N, 2F_L], of W_c to the filter over N slots
            filters = math.sqrt(n) * forward @ to_slots
        # Two sequences that begin at slot L − m meet at slot 2(L − m) + k: the token t' is k = t' + m, and of the last
        # one nothing is left unless the circle is as short as L.
        meeting = (torch.arange(m) + m) % n  # [m]
        fused = inverse[meeting] * math.sqrt(n / n_slots)
        if n < n_slots:
            fused[-1] = 0
        matrices = forward[:, :m], inverse[:m], fused, filters
        return BlockTransforms(*(matrix.to(device, dtype).contiguous() for matrix in matrices))


def _circle_transforms(n_slots: int) -> CircleTransforms:
    with torch.inference_mode(False):
        forward, inverse = real_transforms(n_slots)
        # W_c to the filter over L slots and back, which forgets what no real filter has.
        filters = math.sqrt(n_slots) * forward @ (inverse / math.sqrt(n_slots))
        return CircleTransforms(forward, inverse, filters)


def real_transforms(n_slots: int) -> tuple[Tensor, Tensor]:
    """F and its inverse as real matrices, read off the transforms of unit vectors.

    Parameters
    ----------
    n_slots : int
        L, odd or even.

    Returns
    -------
    tuple[Tensor, Tensor]
        float64 ``[2F, L]``, real parts over imaginary parts, F = ⌊L/2⌋ + 1; and its inverse ``[L, 2F]``, which does not
        see the imaginary part of frequency 0 nor, for even L, that of the highest.
    """
    slots = torch.eye(n_slots, dtype=torch.float64)
    frequencies = torch.eye(n_slots // 2 + 1, dtype=torch.complex128)
    forward = torch.fft.rfft(slots, dim=0, norm="ortho")  # [F, L]
    parts = [torch.fft.irfft(unit, n=n_slots, dim=0, norm="ortho") for unit in (frequencies, 1j * frequencies)]
    return torch.cat([forward.real, forward.imag]), torch.cat(parts, dim=1)


class _SpectralProducts(torch.autograd.Function):
    """c₁ and c₂ of all tokens ``[T, d]``.

    A transform of so few slots is a small matrix product. Frequencies of a batch are as large as all of its slots; they
    are made block by block, and once more in the backward pass, and are never all there. Half precision is left out.
    """

    @staticmethod
    def forward(
        ctx: Any, item: Tensor, text: Tensor, weight: Tensor, blocks: tuple[Block, ...], n_slots: int
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(item, text, weight)
        ctx.blocks, ctx.n_slots = blocks, n_slots
        flat = torch.cat(weight.unbind(2))  # [2F_L, d]
        c1, c2 = torch.empty_like(item), torch.empty_like(item)
        with torch.autocast(item.device.type, enabled=False):
            for item_rows, text_rows, c1_rows, c2_rows in _blockwise(blocks, item, text, c1, c2):  # [n, m, d] each
                by = block_transforms(n_slots, item_rows.shape[1], item.dtype, item.device)
                filters = by.filters @ flat  # [2F, d]
                items, texts = by.ahead @ item_rows, by.ahead @ text_rows  # [n, 2F, d]
                torch.matmul(by.filtered, _times(items, filters.chunk(2)), out=c1_rows)
                torch.matmul(by.fused, _times(items, texts.chunk(2, dim=1)), out=c2_rows)
        return c1, c2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, c1_gradient: Tensor, c2_gradient: Tensor) -> tuple[Tensor | None, ...]:
        item, text, weight = ctx.saved_tensors
        flat = torch.cat(weight.unbind(2))  # [2F_L, d]
        item_gradient, text_gradient = torch.empty_like(item), torch.empty_like(text)
        flat_gradient = torch.zeros_like(flat)
        tokens = (item, text, c1_gradient.contiguous(), c2_gradient.contiguous(), item_gradient, text_gradient)
        with torch.autocast(item.device.type, enabled=False):
            for item_rows, text_rows, c1_rows, c2_rows, item_out, text_out in _blockwise(ctx.blocks, *tokens):
                by = block_transforms(ctx.n_slots, item_rows.shape[1], item.dtype, item.device)
                filters = by.filters @ flat  # [2F, d]
                items, texts = by.ahead @ item_rows, by.ahead @ text_rows  # [n, 2F, d]
                g1, g2 = by.filtered.T @ c1_rows, by.fused.T @ c2_rows  # [n, 2F, d]
                # A product's gradient meets the conjugate of the other factor.
                items_gradient = _times_conjugate(g1, filters.chunk(2)).add_(
                    _times_conjugate(g2, texts.chunk(2, dim=1))
                )
                texts_gradient = _times_conjugate(g2, items.chunk(2, dim=1))
                per_row = _times_conjugate(g1, items.chunk(2, dim=1)).sum(dim=0)  # [2F, d]
                flat_gradient.addmm_(by.filters.T, per_row)
                torch.matmul(by.ahead.T, items_gradient, out=item_out)
                torch.matmul(by.ahead.T, texts_gradient, out=text_out)
        return item_gradient, text_gradient, torch.stack(flat_gradient.chunk(2), dim=2), None, None


def _blockwise(blocks: tuple[Block, ...], *tokens: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The blocks ``[n, m, d]`` of several ``[T, d]`` side by side; those without tokens are left out."""
    for views in zip(*(in_blocks(values, blocks) for values in tokens), strict=True):
        if views[0].numel():
            yield views


def _times(values: Tensor, factor: tuple[Tensor, ...]) -> Tensor:
    """Complex product of ``[n, 2F, d]`` with (re, im), each ``[..., F, d]``."""
    re, im = values.chunk(2, dim=1)
    product = torch.empty_like(values)
    out_re, out_im = product.chunk(2, dim=1)
    torch.mul(re, factor[0], out=out_re).addcmul_(im, factor[1], value=-1)
    torch.mul(re, factor[1], out=out_im).addcmul_(im, factor[0])
    return product


def _times_conjugate(values: Tensor, factor: tuple[Tensor, ...]) -> Tensor:
    """Complex product of ``[n, 2F, d]`` with the conjugate of (re, im), each ``[..., F, d]``."""
    re, im = values.chunk(2, dim=1)
    product = torch.empty_like(values)
    out_re, out_im = product.chunk(2, dim=1)
    torch.mul(re, factor[0], out=out_re).addcmul_(im, factor[1])
    torch.mul(im, factor[0], out=out_im).addcmul_(re, factor[1], value=-1)
    return product
