"""The step of the shadow model: an optimiser's first update, as a differentiable function of the gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from recbole_cdsr.config_reading import choice, number, wrong

ADAM_EPS = 1e-8
# Adam's first update is as large as its learning rate wherever the gradient is not tiny, and the entries of an item's
# vector start at √(2 / (n + d)), about 0.01 for 20,000 items.
LARGE_ADAM_RATE = 0.05


@dataclass(frozen=True)
class InnerStep:
    r"""First update of a fresh optimiser: what is taken off a parameter whose gradient is g.

    .. math::
        \text{sgd:} \; \eta\, g \qquad \text{adam:} \; \eta\, \frac{g}{|g| + \epsilon'}

    After one step Adam's bias corrections cancel its decay rates, so only their effect on ε is left: current PyTorch
    adds ε after the correction (ε' = ε), the official code's library before it (ε' = ε / √(1 − β₂)). With Adam, the
    update of a parameter with \|g\| ≫ ε' is ± η whatever g is, so its derivative is almost zero there.

    Parameters
    ----------
    kind : str
        ``sgd`` or ``adam``.
    learning_rate : float
        η > 0.
    eps : float
        ε' > 0, of Adam.
    """

    kind: str
    learning_rate: float
    eps: float = ADAM_EPS

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> InnerStep:
        """Read ``inner_optimizer``, ``inner_learning_rate``, ``inner_eps`` and ``adam_betas``."""
        kind = choice(config, "inner_optimizer", ("sgd", "adam"))
        eps_rule = choice(config, "inner_eps", ("official", "torch"))
        learning_rate = number(config, "inner_learning_rate", 0)
        if learning_rate == 0:
            raise wrong("inner_learning_rate", learning_rate, "more than 0")
        eps = ADAM_EPS
        if eps_rule == "official":
            eps /= math.sqrt(1 - adam_betas(config)[1])
        return cls(kind, learning_rate, eps)

    def update(self, gradient: Tensor) -> Tensor:
        """What to subtract, of the gradient's shape."""
        if self.kind == "sgd":
            return self.learning_rate * gradient
        return self.learning_rate * gradient / (gradient.abs() + self.eps)

    def derivative(self, gradient: Tensor) -> Tensor | float:
        r"""Of the update of an entry with respect to its gradient g: :math:`\eta`, or
        :math:`\eta\, \epsilon' / (|g| + \epsilon')^2`, which is there for g = 0 too.
        """
        if self.kind == "sgd":
            return self.learning_rate
        return self.learning_rate * self.eps / (gradient.abs() + self.eps) ** 2


def doubtful_rate(config: Mapping[str, Any]) -> list[str]:
    """One sentence where Adam has a learning rate that only plain gradients make sense with, else none."""
    rate = number(config, "inner_learning_rate", 0)
    if choice(config, "inner_optimizer", ("sgd", "adam")) != "adam" or rate <= LARGE_ADAM_RATE:
        return []
    return [
        f"inner_optimizer is adam and inner_learning_rate {rate:g}: the shadow step then moves nearly every parameter "
        f"that the batch touches by {rate:g}, after which there is nothing to judge; set inner_learning_rate as well "
        "(the official code: 0.001)."
    ]


def adam_betas(config: Mapping[str, Any]) -> tuple[float, float]:
    """``adam_betas``, two decay rates in [0, 1)."""
    value = config["adam_betas"]
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    if not is_pair or not all(
        isinstance(beta, int | float) and not isinstance(beta, bool) and 0 <= beta < 1 for beta in value
    ):
        raise wrong("adam_betas", value, "two numbers, each at least 0 and less than 1, such as [0.9, 0.98]")
    return float(value[0]), float(value[1])
