"""Hierarchical gating of LeCDSR, after HGN (Ma et al., KDD 2019): first features, then instances."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_cdsr.model.slots import SlotWindows


class FeatureGate(nn.Module):
    r"""Which features of each item matter to the user.

    .. math:: \hat x = x \odot \sigma(W_f x + b_f + W_u u + b_u)

    Parameters
    ----------
    hidden_size : int
        d.
    with_user : bool
        Whether there are user vectors.
    """

    def __init__(self, hidden_size: int, with_user: bool) -> None:
        super().__init__()
        self.item = nn.Linear(hidden_size, hidden_size)
        self.user = nn.Linear(hidden_size, hidden_size) if with_user else None

    def forward(self, windows: SlotWindows, x: Tensor, text: Tensor | None, user: Tensor | None) -> Tensor:
        """x̂.

        Parameters
        ----------
        windows : SlotWindows
            Says which row each token is of.
        x : Tensor
            ``[T, d]``.
        text : Tensor | None
            ``[T, d]``, a(T_s) of the model without fusion, which enters through W_f as well; None otherwise.
        user : Tensor | None
            ``[B, d]``, u; None without profiles.

        Returns
        -------
        Tensor
            ``[T, d]``.
        """
        gate = self.item(x)  # [T, d]
        if text is not None:
            gate = gate + self.item(text)
        if user is not None:
            gate = gate + self.user(user).index_select(0, windows.token_rows)
        return x * gate.sigmoid()


class InstanceGate(nn.Module):
    r"""Which items of the window matter, as weights that sum to 1 over it.

    .. math::
        r_t = \sigma(\hat x_t \cdot g_{item} + (u\, G_{user})_t + p_t \cdot g_{pos}), \qquad
        w_t = r_t / \textstyle\sum_{t'} r_{t'}

    Parameters
    ----------
    hidden_size : int
        d.
    n_slots : int
        L.
    with_user : bool
        Whether there are user vectors.
    """

    def __init__(self, hidden_size: int, n_slots: int, with_user: bool) -> None:
        super().__init__()
        self.item = nn.Parameter(torch.empty(hidden_size, 1))  # [d, 1]
        self.position = nn.Parameter(torch.empty(hidden_size, 1))  # [d, 1]
        self.user = nn.Parameter(torch.empty(hidden_size, n_slots)) if with_user else None  # [d, L]

    def forward(self, windows: SlotWindows, gated: Tensor, positions: Tensor, user: Tensor | None) -> Tensor:
        """w.

        Parameters
        ----------
        windows : SlotWindows
            Layout of the tokens.
        gated : Tensor
            ``[T, d]``, x̂.
        positions : Tensor
            ``[T, d]``, the position table's row of each token.
        user : Tensor | None
            ``[B, d]``.

        Returns
        -------
        Tensor
            ``[T]``.
        """
        logits = (gated @ self.item + positions @ self.position).squeeze(1)  # [T]
        if user is not None:
            logits = logits + windows.pack(user @ self.user)
        # r / Σ r = softmax(log r): no division by a sum that may underflow. Not −∞, for a row without a token.
        log_gate = F.logsigmoid(logits)
        slots = windows.unpack(log_gate, torch.finfo(log_gate.dtype).min)  # [B, L]
        return windows.pack(slots.softmax(dim=1))
