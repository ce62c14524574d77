"""The shadow step's optimisers."""

from __future__ import annotations

import math

import pytest
import torch
from in_memory import settings

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.model.inner_step import InnerStep

GRADIENT = torch.tensor([3.0, -1e-4, 0.0, 2e-8], dtype=torch.float64)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_the_update_is_the_first_one_of_pytorchs_optimiser(kind: str) -> None:
    parameter = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[kind]([parameter], lr=0.01)
    parameter.grad = GRADIENT.clone()
    optimiser.step()
    assert torch.allclose(InnerStep(kind, 0.01).update(GRADIENT), -parameter.detach(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_the_derivative_is_that_of_the_update(kind: str) -> None:
    gradient, step = GRADIENT.clone().requires_grad_(), InnerStep(kind, 0.01)
    (expected,) = torch.autograd.grad(step.update(gradient).sum(), gradient)
    # Differentiating the quotient subtracts two numbers that are almost equal where |g| ≫ ε'.
    assert torch.allclose(torch.ones_like(expected) * step.derivative(GRADIENT), expected, rtol=1e-5, atol=0)


def test_the_official_epsilon_is_larger() -> None:
    config = settings("LLMCDSR", inner_optimizer="adam", inner_learning_rate=1e-3)
    assert InnerStep.from_config(config).eps == pytest.approx(1e-8 / math.sqrt(1 - 0.98))
    assert InnerStep.from_config({**config, "inner_eps": "torch"}).eps == 1e-8


def test_adams_derivative_is_there_at_zero_and_almost_gone_elsewhere() -> None:
    gradient = GRADIENT.clone().requires_grad_()
    (slope,) = torch.autograd.grad(InnerStep("adam", 1.0).update(gradient).sum(), gradient)
    assert slope[2] == pytest.approx(1e8)
    assert slope[0] < 1e-8
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("inner_optimizer", "lbfgs"),
        ("inner_eps", "small"),
        ("inner_learning_rate", 0),
        ("adam_betas", [0.9]),
        ("adam_betas", [0.9, 1.0]),
        ("adam_betas", "0.9"),
    ],
)
def test_other_values_are_refused_with_their_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        InnerStep.from_config(settings("LLMCDSR", **{"inner_optimizer": "adam", key: value}))
