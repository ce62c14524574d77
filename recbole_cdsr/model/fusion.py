"""Semantic fusion of LeCDSR: item ids and item texts mixed in the frequency domain along the sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SemanticFusion(nn.Module):
    r"""One vector per slot from the id and the text vectors of a window.

    .. math::
        c_1 &= \mathcal{F}^{-1}(\mathcal{F}(E_s) \odot W_c), \qquad
        c_2 = \mathcal{F}^{-1}(\mathcal{F}(a(T_s)) \odot \mathcal{F}(E_s)) \\
        x &= \sigma(w_1 \cdot c_1 + \beta_1) \, c_1 + \sigma(w_2 \cdot c_2 + \beta_2) \, c_2

    F is the real discrete Fourier transform over the L slots, orthonormal in both directions, so that c₁ is a learnt
    circular filter of the ids and c₂ the circular convolution of texts and ids, both of odd or even L.

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

    def forward(self, item: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """c₁ and c₂.

        Parameters
        ----------
        item, text : Tensor
            float ``[B, L, d]``, E_s and a(T_s); zero where padding is masked.

        Returns
        -------
        tuple[Tensor, Tensor]
            each ``[B, L, d]``.
        """
        items = torch.fft.rfft(item, dim=1, norm="ortho")  # [B, F, d]
        texts = torch.fft.rfft(text, dim=1, norm="ortho")  # [B, F, d]
        c1 = torch.fft.irfft(items * torch.view_as_complex(self.complex_weight), n=self.n_slots, dim=1, norm="ortho")
        c2 = torch.fft.irfft(texts * items, n=self.n_slots, dim=1, norm="ortho")  # [B, L, d]
        return c1, c2

    def gate(self, c1: Tensor, c2: Tensor) -> Tensor:
        """x, of two ``[..., d]``."""
        return self.item_gating(c1).sigmoid() * c1 + self.fusion_gating(c2).sigmoid() * c2
