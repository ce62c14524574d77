"""Which trainer a model gets: one of its own, or ours over the one that RecBole would pick."""

from __future__ import annotations

import importlib
from functools import cache

from recbole.utils import ModelType, get_trainer

from recbole_cdsr.config_names import OUR_TRAINERS
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.trainer.trainer import CDSRTrainerMixin


@cache
def trainer_class_for(model_type: ModelType, model_name: str) -> type:
    """The trainer of a model: this layer over the one RecBole would pick.

    Parameters
    ----------
    model_type, model_name
        As RecBole's `get_trainer` takes them.

    Raises
    ------
    ConfigError
        RecBole's trainer for this kind of model does not rank items (gradient-boosted trees).
    """
    if model_name in OUR_TRAINERS:
        return getattr(importlib.import_module(OUR_TRAINERS[model_name]), f"{model_name}Trainer")
    base = get_trainer(model_type, model_name)
    if issubclass(base, CDSRTrainerMixin):
        return base
    plain = importlib.import_module("recbole.trainer").Trainer
    if not issubclass(base, plain):
        raise ConfigError(
            f"{model_name} is trained by {base.__name__}, which does not rank items; choose another model."
        )
    return type(f"CrossDomain{base.__name__}", (CDSRTrainerMixin, base), {})
