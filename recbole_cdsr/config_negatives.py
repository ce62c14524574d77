"""What `train_neg_sample_args` comes to for a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from recbole.utils import InputType, ModelType

from recbole_cdsr.config_checks import as_origin, fault
from recbole_cdsr.config_names import did_you_mean
from recbole_cdsr.config_reading import is_whole
from recbole_cdsr.config_values import Setting
from recbole_cdsr.errors import ConfigError

_KEYS = ("distribution", "sample_num", "alpha", "dynamic", "candidate_num")


def settled(
    model: str, model_class: type, final: Mapping[str, Any], setting: Setting, was_given: bool, notices: list[str]
) -> dict[str, Any] | None:
    """The value that RecBole's loaders are to find.

    Parameters
    ----------
    model, model_class
        Of the run.
    final
        The configuration so far: `MODEL_TYPE`, `loss_type` and `train_neg_sample_args` are read.
    setting
        `train_neg_sample_args` with its origin.
    was_given
        Whether a user gave it.
    notices
        Gets a sentence where what was given is not used.

    Raises
    ------
    ConfigError
        The model needs negatives and is given none, or the value is no such mapping.
    """
    value = final.get("train_neg_sample_args")
    distribution = value.get("distribution", "uniform") if isinstance(value, dict) else value
    if distribution in (None, "None", "none"):
        value = None
    is_ours = getattr(model_class, "rows_per", None) is not None
    if is_ours or (final["MODEL_TYPE"] == ModelType.SEQUENTIAL and final.get("loss_type") == "CE"):
        if was_given and value is not None:
            reason = "draws its negatives itself" if is_ours else "scores all items (loss_type is CE)"
            notices.append(f"train_neg_sample_args is not used: {model} {reason}.")
        return None
    if value is None:
        if getattr(model_class, "input_type", None) == InputType.PAIRWISE or final.get("loss_type") == "BPR":
            raise ConfigError(
                f"train_neg_sample_args is null {as_origin(setting.origin)}, but {model} learns from pairs; remove it."
            )
        return None
    if not isinstance(value, dict) or distribution not in ("uniform", "popularity"):
        raise fault(
            "train_neg_sample_args",
            setting,
            "a mapping such as {distribution: uniform, sample_num: 1}, with the distribution uniform or popularity",
        )
    for key, (given, least) in {"sample_num": (1, 1), "candidate_num": (0, 1 if value.get("dynamic") else 0)}.items():
        if not is_whole(value.get(key, given), least):
            raise fault("train_neg_sample_args", setting, f"a mapping whose {key} is a whole number, {least} or more")
    alpha = value.get("alpha", 1.0)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise fault("train_neg_sample_args", setting, "a mapping whose alpha is a finite number")
    return {"distribution": "uniform", **value}


def unknown_keys(value: Mapping[str, Any] | None) -> list[str]:
    """A sentence on each key of a settled value that nobody reads."""
    return [
        f"train_neg_sample_args.{key} means nothing{did_you_mean(key, _KEYS, 1)}"
        for key in value or ()
        if key not in _KEYS
    ]
