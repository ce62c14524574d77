"""Cross-entropy over all items in pieces."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from recbole_cdsr.model import item_softmax
from recbole_cdsr.model.item_softmax import item_cross_entropy


def problem(n_rows: int, with_bias: bool, dtype: torch.dtype = torch.float64, scale: float = 1.0):
    generator = torch.Generator().manual_seed(n_rows)
    shapes = [(n_rows, 5), (23, 5), (23,)]
    states, table, bias = (
        torch.randn(s, generator=generator, dtype=dtype).mul_(scale).requires_grad_() for s in shapes
    )
    return states, table, torch.randint(0, 23, (n_rows,), generator=generator), bias if with_bias else None


def gradients(loss, *inputs):
    return torch.autograd.grad(loss, [given for given in inputs if given is not None])


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("n_rows", [1, 6, 7, 40])
@pytest.mark.parametrize(("rows_at_once", "logits_at_once"), [(1, 1), (6, 1), (3, 23 * 6), (64, 2**21)])
def test_loss_and_gradients_are_pytorchs(monkeypatch, n_rows, rows_at_once, logits_at_once, with_bias):
    monkeypatch.setattr(item_softmax, "ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr(item_softmax, "LOGITS_AT_ONCE", logits_at_once)
    states, table, targets, bias = problem(n_rows, with_bias)
    ours = item_cross_entropy(states, table, targets, bias)
    expected = F.cross_entropy(F.linear(states, table, bias), targets)
    torch.testing.assert_close(ours, expected)
    found = gradients(ours * 3, states, table, bias)
    for mine, theirs in zip(found, gradients(expected * 3, states, table, bias), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_large_logits_stay_finite():
    states, table, targets, bias = problem(9, True, torch.float32, scale=200.0)
    loss = item_cross_entropy(states, table, targets, bias)
    torch.testing.assert_close(loss, F.cross_entropy(F.linear(states, table, bias), targets))
    assert all(torch.isfinite(part).all() for part in gradients(loss, states, table, bias))


def test_nan_is_not_hidden_and_no_rows_are_nan():
    states, table, targets, _ = problem(4, False)
    with torch.no_grad():
        states[2, 1] = torch.nan
    assert item_cross_entropy(states, table, targets).isnan()
    assert item_cross_entropy(states[:0], table, targets[:0]).isnan()


def test_without_gradients_only_the_loss_is_made():
    states, table, targets, bias = problem(7, True)
    with torch.no_grad():
        loss = item_cross_entropy(states, table, targets, bias)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, F.cross_entropy(F.linear(states, table, bias), targets))
    fixed = item_cross_entropy(states, table.detach(), targets)
    (gradient,) = torch.autograd.grad(fixed, [states])
    expected = F.cross_entropy(states @ table.detach().T, targets)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, [states])[0])


def test_mixed_precision_is_pytorchs():
    states, table, targets, _ = problem(8, False, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = item_cross_entropy(states, table, targets)
        expected = F.cross_entropy(F.linear(states, table), targets)
    assert torch.equal(ours, expected)
