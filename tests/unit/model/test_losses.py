"""Losses against loops over their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from recbole_cdsr.model.losses import (
    NCE_BLOCK,
    bce_with_negatives,
    pairwise_nce,
    pairwise_softmax_surrogate,
    sequence_alignment,
    sequence_bce,
    soft_clip,
)


def test_bce_is_the_sum_of_both_cross_entropies() -> None:
    positive, negative = torch.randn(7, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(positive, torch.ones_like(positive), reduction="none")
    expected = expected + F.binary_cross_entropy_with_logits(negative, torch.zeros_like(negative), reduction="none")
    assert torch.allclose(bce_with_negatives(positive, negative), expected, rtol=1e-12)
    assert torch.allclose(sequence_bce(positive, negative), expected.mean(), rtol=1e-12)


def test_several_negatives_count_by_their_mean() -> None:
    positive, negative = torch.randn(7, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    expected = torch.stack([bce_with_negatives(positive, negative[:, j]) for j in range(3)]).mean(0)
    assert torch.allclose(bce_with_negatives(positive, negative), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(0,), (0, 4)])
def test_no_position_gives_zero_that_can_be_stepped_on(shape) -> None:
    scores = torch.zeros(0, requires_grad=True)
    loss = sequence_bce(scores, torch.zeros(shape))
    loss.backward()
    assert loss.item() == 0


def test_bce_survives_extreme_logits() -> None:
    loss = bce_with_negatives(torch.tensor([-1e4, 1e4]), torch.tensor([1e4, -1e4]))
    assert loss.tolist() == [2e4, 0.0]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_soft_clip_is_its_formula(temperature: float) -> None:
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def dot(a, b) -> float:
        return sum(float(p) * float(q) for p, q in zip(a, b, strict=True))

    def softmax(values: list[float]) -> list[float]:
        total = sum(math.exp(v) for v in values)
        return [math.exp(v) / total for v in values]

    rows = range(4)
    targets = [softmax([(dot(y[i], y[j]) + dot(x[i], x[j])) / 2 * temperature for j in rows]) for i in rows]
    forward = [softmax([dot(x[i], y[j]) / temperature for j in rows]) for i in rows]
    backward = [softmax([dot(y[i], x[j]) / temperature for j in rows]) for i in rows]
    expected = 0.0
    for i in rows:
        for j in rows:
            expected -= targets[i][j] * math.log(forward[i][j]) / 8
            expected -= targets[j][i] * math.log(backward[i][j]) / 8
    assert abs(soft_clip(x, y, temperature).item() - expected) < 1e-10


def test_soft_clip_sends_gradients_through_the_targets() -> None:
    x, y = (torch.randn(5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: soft_clip(a, b, 0.7), (x, y))


def test_soft_clip_of_one_pair_and_of_none_is_zero() -> None:
    assert soft_clip(torch.randn(1, 4), torch.randn(1, 4), 1.0).item() == 0
    assert soft_clip(torch.zeros(0, 4), torch.zeros(0, 4), 1.0).item() == 0


def test_pairwise_surrogate_is_a_sum_over_rows_and_negatives() -> None:
    positive, negative = torch.randn(3, dtype=torch.float64), 5 * torch.randn(3, 4, dtype=torch.float64)
    expected = sum(max(float(negative[i, j] - positive[i]) / 2.0 + 1, 0.0) for i in range(3) for j in range(4))
    assert abs(pairwise_softmax_surrogate(positive, negative, 2.0).item() - expected) < 1e-12


def test_pairwise_surrogate_stops_at_the_margin() -> None:
    positive = torch.tensor([5.0], requires_grad=True)
    negative = torch.tensor([[2.0, 1.9, 2.1]], requires_grad=True)  # margin −τ, beyond it, within it
    pairwise_softmax_surrogate(positive, negative, 3.0).backward()
    assert negative.grad.tolist() == [[0, 0, pytest.approx(1 / 3)]]
    assert positive.grad.item() == pytest.approx(-1 / 3)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_sequence_alignment_is_its_formula(temperature: float) -> None:
    torch.manual_seed(0)
    x, y = (torch.randn(2, 4, 3, dtype=torch.float64) for _ in range(2))
    losses = sequence_alignment(x, y, temperature)
    assert losses.shape == (2, 4)
    for a, b, row in zip(x, y, losses, strict=True):
        logits, within = a @ b.T / temperature, (a @ a.T + b @ b.T) / 2 / temperature
        for i in range(4):
            weights = [math.exp(within[i, j]) / sum(math.exp(v) for v in within[i]) for j in range(4)]
            expected = 0.0
            for j in range(4):
                expected -= weights[j] * math.log(math.exp(logits[i, j]) / sum(math.exp(v) for v in logits[i]))
                expected -= weights[j] * math.log(math.exp(logits[j, i]) / sum(math.exp(v) for v in logits[:, i]))
            assert abs(row[i] - expected) < 1e-10


def test_sequence_alignment_sends_gradients_through_the_targets() -> None:
    x, y = (torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: sequence_alignment(a, b, 0.7), (x, y))


@pytest.mark.parametrize("shape", [(3, 1, 4), (2, 0, 4)])
def test_sequences_of_one_item_and_of_none_need_no_alignment(shape) -> None:
    assert not sequence_alignment(torch.randn(shape), torch.randn(shape), 1.0).any()


@pytest.mark.parametrize(
    ("n", "longest"),
    [(1, 3), (2, 3), (9, 3), (NCE_BLOCK // 2, 3), (NCE_BLOCK + 1, 3), (9, 800), (NCE_BLOCK + 1, 1100), (9, 2000)],
)  # more than a block; logits beyond what is exponentiated as it is, and beyond what a shift makes good
def test_pairwise_nce_is_the_cross_entropy_of_the_joined_logits(n: int, longest: float) -> None:
    z1, z2 = (F.normalize(torch.randn(n, 5, dtype=torch.float64)) * math.sqrt(0.7 * longest) for _ in range(2))
    z1, z2 = z1.requires_grad_(), z2.requires_grad_()
    own = torch.eye(n, dtype=torch.bool)
    across, within_1, within_2 = (
        a @ b.T / 0.7 for a, b in ((z1, z2), (z1, z1), (z2, z2))
    )  # fmt: skip
    upper = torch.cat([across, within_1.masked_fill(own, -math.inf)], dim=1)
    lower = torch.cat([within_2.masked_fill(own, -math.inf), across.T], dim=1)
    expected = F.cross_entropy(torch.cat([upper, lower]), torch.arange(2 * n))
    assert torch.allclose(pairwise_nce(z1, z2, 0.7), expected, rtol=1e-12)
    ours, theirs = (torch.autograd.grad(loss, [z1, z2]) for loss in (3 * pairwise_nce(z1, z2, 0.7), 3 * expected))
    scale = max(float(part.abs().max()) for part in theirs)
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12 + 1e-11 * scale) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("square", "cosine"), [(100, -1.0), (140, -0.3), (140, -0.2), (140, 0.5)])
def test_pairwise_nce_with_one_vector_opposed_to_all_others(square: float, cosine: float) -> None:
    others = torch.zeros(7, 4)
    others[:, 0] = math.sqrt(square)
    opposed = torch.zeros(1, 4)
    opposed[0, :2] = math.sqrt(square) * torch.tensor([cosine, math.sqrt(1 - cosine**2)])
    sides = [torch.cat([opposed, others[:3]]), others[3:7]]
    losses, gradients = [], []
    for dtype in (torch.float32, torch.float64):
        z1, z2 = (side.to(dtype).requires_grad_() for side in sides)
        z = torch.cat([z1, z2])
        labels = torch.arange(8).roll(4)
        if dtype == torch.float64:
            loss = F.cross_entropy((z @ z.T).fill_diagonal_(-math.inf), labels)
        else:
            loss = pairwise_nce(z1, z2, 1.0)
        losses.append(loss.item())
        gradients.append(torch.cat(torch.autograd.grad(loss, [z1, z2])).double())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-4)


def test_pairwise_nce_survives_large_logits_and_an_empty_batch() -> None:
    z = (torch.randn(6, 4) * 100).requires_grad_()
    loss = pairwise_nce(z, z.detach(), 0.5)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()
    empty = torch.zeros(0, 4, requires_grad=True)
    nothing = pairwise_nce(empty, empty, 1.0)
    nothing.backward()
    assert nothing.item() == 0
