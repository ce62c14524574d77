"""Hierarchical gating of LeCDSR, after HGN (Ma et al., KDD 2019): first features, then instances."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
            ``[L + 1, d]``, the position table's rows at ``[B, L]`` of the windows' positions.
        user : Tensor | None
            ``[B, d]``.

        Returns
        -------
        Tensor
            ``[B, L]``; 0 where no token is.
        """
        logits = windows.unpack(gated @ self.item).squeeze(2) + (positions @ self.position).squeeze(2)  # [B, L]
        if user is not None:
            logits = logits + user @ self.user  # [B, L]
        # r / Σ r = softmax(log r): no division by a sum that may underflow.
        log_gate = torch.nn.functional.logsigmoid(logits)
        hidden = ~windows.taking_part
        weights = log_gate.masked_fill(hidden, torch.finfo(log_gate.dtype).min).softmax(dim=1)
        return weights.masked_fill(hidden, 0)
