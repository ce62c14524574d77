"""What stage 2 of LLMCDSR reads from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole_cdsr.config_reading import number, temperature, whole_number, wrong


@dataclass(frozen=True)
class PretrainingSettings:
    """Hyper-parameters of stage 2, read from ``pretrain_*``; the seed is the run's."""

    seed: int
    nce_weight: float
    temperature: float
    batch_size: int
    learning_rate: float
    epochs: int
    stopping_step: int
    valid_users: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PretrainingSettings:
        """Check and read the keys; ``ConfigError`` for a value they do not take."""
        learning_rate = number(config, "pretrain_learning_rate", 0)
        if learning_rate == 0:
            raise wrong("pretrain_learning_rate", learning_rate, "more than 0")
        return cls(
            seed=whole_number(config, "seed", 0, default=0),
            nce_weight=number(config, "pretrain_nce_weight", 0),
            temperature=temperature(config, "pretrain_temperature"),
            batch_size=whole_number(config, "pretrain_batch_size"),
            learning_rate=learning_rate,
            epochs=whole_number(config, "pretrain_epochs"),
            stopping_step=whole_number(config, "pretrain_stopping_step", 0),
            valid_users=whole_number(config, "pretrain_valid_users", 0),
        )
