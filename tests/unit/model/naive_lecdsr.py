"""LeCDSR as the specification writes it: one row at a time, sums over slots and frequencies spelt out."""

from __future__ import annotations

import cmath
import math

import torch
from torch import Tensor

from recbole_cdsr.model.lecdsr import LeCDSR


class NaiveRow:
    """E_s, a(T_s), u and the positions of one user's window of L slots.

    Where padding is masked it is zero in every sum, and neither gated, averaged nor aligned.
    """

    def __init__(self, model: LeCDSR, items: list[int], user: int) -> None:
        self.model, self.n_slots = model, model.n_slots
        items = items[-self.n_slots :]
        window = [0] * (self.n_slots - len(items)) + items
        self.slots = [t for t in range(self.n_slots) if window[t] or not model.mask_padding]
        zero = torch.zeros(model.hidden_size, dtype=torch.float64)
        table = model.item_embedding.weight
        self.item = [table[window[t]] if t in self.slots else zero for t in range(self.n_slots)]
        if model.use_text:
            adapted = [model.item_adapter(model.text_table[item]) for item in window]
            self.text = [adapted[t] if t in self.slots else zero for t in range(self.n_slots)]
        self.user = self._user(user) if model.use_profiles else None
        self.positions = self._positions(window)

    def _user(self, user: int) -> Tensor:
        profile = self.model.profile_table[user]
        if self.model.default_profile is not None and not profile.any():
            profile = self.model.default_profile
        return self.model.user_adapter(profile)

    def _positions(self, window: list[int]) -> list[int]:
        domains = [int(self.model.item_domain[item]) for item in window]
        ranks = [sum(d == domains[t] for d in domains[t:]) if window[t] else 0 for t in range(len(window))]
        if self.model.official_positions:
            ranks[0] = 0
        return ranks

    def _spectrum(self, signal: list[Tensor]) -> list[Tensor]:
        n = self.n_slots
        wave = [[cmath.exp(-2j * math.pi * f * t / n) / math.sqrt(n) for t in range(n)] for f in range(n)]
        return [sum(wave[f][t] * signal[t] for t in range(n)) for f in range(n // 2 + 1)]

    def _signal(self, spectrum: list[Tensor]) -> list[Tensor]:
        """Inverse transform of the half spectrum of a real signal."""
        n, half = self.n_slots, list(spectrum)
        half[0] = half[0].real + 0j
        if n % 2 == 0:
            half[-1] = half[-1].real + 0j
        full = [half[f] if f < len(half) else half[n - f].conj() for f in range(n)]
        return [
            sum(full[f] * cmath.exp(2j * math.pi * f * t / n) for f in range(n)).real / math.sqrt(n) for t in range(n)
        ]

    def query(self) -> Tensor:
        model, slots = self.model, self.slots
        x = self.item
        if model.use_fusion:
            fusion, items = model.fusion, self._spectrum(self.item)
            weight = torch.view_as_complex(fusion.complex_weight)
            c1 = self._signal([f * w for f, w in zip(items, weight, strict=True)])
            c2 = self._signal([f * g for f, g in zip(self._spectrum(self.text), items, strict=True)])
            x = [
                torch.sigmoid(fusion.item_gating(a)) * a + torch.sigmoid(fusion.fusion_gating(b)) * b
                for a, b in zip(c1, c2, strict=True)
            ]
        gated, ratings = {}, {}
        for t in slots:
            inner = model.feature_gate.item(x[t])
            if model.use_text and not model.use_fusion:
                inner = inner + model.feature_gate.item(self.text[t])
            if self.user is not None:
                inner = inner + model.feature_gate.user(self.user)
            gated[t] = x[t] * torch.sigmoid(inner)
            gate = model.instance_gate
            position = model.position_embedding.weight[self.positions[t]]
            inner = gated[t] @ gate.item[:, 0] + position @ gate.position[:, 0]
            if self.user is not None:
                inner = inner + (self.user @ gate.user)[t]
            ratings[t] = torch.sigmoid(inner)
        query = torch.zeros(model.hidden_size, dtype=torch.float64)
        if slots:
            query = sum(ratings[t] * gated[t] for t in slots) / sum(ratings.values())
            query = query + sum(x[t] for t in slots) / len(slots)
        return query if self.user is None else query + self.user

    def alignment(self) -> list[Tensor]:
        """The loss of every slot that counts."""
        tau = self.model.tau_align
        x, y = (torch.stack([side[t] for t in self.slots]) for side in (self.item, self.text))
        targets = torch.softmax((x @ x.T + y @ y.T) / 2 / tau, dim=1)
        towards, back = torch.log_softmax(x @ y.T / tau, dim=1), torch.log_softmax(y @ x.T / tau, dim=1)
        return [-(p @ a) - (p @ b) for p, a, b in zip(targets, towards, back, strict=True)]


def naive_losses(model: LeCDSR, rows: list[NaiveRow], candidates: Tensor) -> tuple[Tensor, Tensor]:
    """PSL and weighted alignment; column 0 of the candidates is the positive."""
    psl, parts = torch.zeros((), dtype=torch.float64), []
    for row, ids in zip(rows, candidates.tolist(), strict=True):
        query = row.query()
        positive, *negatives = [model.output_embedding.weight[v] @ query + model.output_bias[v] for v in ids]
        psl = psl + sum(torch.relu((negative - positive) / model.tau + 1) for negative in negatives)
        if model.use_text:
            parts += row.alignment()
    if model.loss_reduction == "mean":
        psl = psl / len(rows)
    return psl, model.align_weight * torch.stack(parts).mean() if parts else torch.zeros(())
