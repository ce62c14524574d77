"""Whether the settings of a search space may be drawn at all, before anything is trained."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np
from optuna.distributions import FloatDistribution

from recbole_cdsr import config_checks
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.config_names import did_you_mean, known_keys
from recbole_cdsr.config_values import Plain, Setting
from recbole_cdsr.errors import ConfigError, WrongValueError
from recbole_cdsr.quick_start import check_model_settings
from recbole_cdsr.tune.space import Parameter, Space

# Trials are compared by their validation scores; what changes the meaning of a score is the same for all of them.
SAME_FOR_ALL = frozenset(
    [
        "model",
        "dataset",
        "data_path",
        "seed",
        "valid_metric",
        "metrics",
        "topk",
        "select",
        "eval_args",
        "eval_step",
        "eval_candidates",
        "eval_seed",
        "candidate_domains",
        "exclude_history",
        "ties",
        "fold_in",
        "load_col",
        "DOMAIN_FIELD",
        "user_inter_num_interval",
        "item_inter_num_interval",
        "val_interval",
        "rm_dup_inter",
        "metric_decimal_place",
    ]
)
# What each trial has of its own anyway, or what belongs to a process.
OWN = frozenset(["run_dir", "resume", "result_file", "checkpoint_dir", "show_progress", "gpu_id", "use_gpu", "state"])


def check_space(space: Space, fixed: CDSRConfig, on_command_line: Iterable[str]) -> Space:
    """Refuse keys that nothing reads or that cannot be drawn, and values that their keys do not take.

    A range of real numbers may have a bound that its key does not take itself, such as 0 of what must be more than 0:
    it is hardly ever drawn, and never from the range that is returned.

    Parameters
    ----------
    space
        To be drawn from.
    fixed
        The configuration of every trial but for what is drawn.
    on_command_line
        Keys fixed there, which would win over what is drawn.

    Returns
    -------
    Space
        As given, but that bounds which are not allowed themselves are moved inwards to the next number, with a remark.

    Raises
    ------
    ConfigError
        Naming file, line, key and value.
    """
    known = known_keys() | set(fixed.internal_config_dict)
    drawn = {parameter.name for parameter in space.parameters}
    checked, remarks = [], list(space.remarks)
    for parameter in space.parameters:
        name, origin = parameter.name, parameter.origin
        if name in SAME_FOR_ALL:
            raise ConfigError(f"{origin}: {name} is the same for all trials, whose scores compare; fix it instead.")
        if name in OWN:
            raise ConfigError(f"{origin}: {name} is nothing to tune; remove it.")
        if name in on_command_line:
            raise ConfigError(f"{origin}: {name} is fixed on the command line too; remove it here or there.")
        if name not in known:
            raise ConfigError(f"{origin}: {name} is not a known setting{did_you_mean(name, known, 1)}")
        inside, moved = _moved_inwards(parameter, fixed, drawn)
        for value in inside.extremes():
            _check_value(inside, value, fixed, drawn)
        checked.append(inside)
        remarks += [
            f"{origin}: {name} is never drawn as {bound:g}, which it cannot be; all else counts." for bound in moved
        ]
    return Space(tuple(checked), tuple(remarks))


def _moved_inwards(parameter: Parameter, fixed: CDSRConfig, drawn: Collection[str]) -> tuple[Parameter, list[float]]:
    """The parameter with the numbers next to bounds that are at fault alone, and these bounds."""
    given = parameter.distribution
    if not isinstance(given, FloatDistribution) or given.step is not None or given.low == given.high:
        return parameter, []

    def is_allowed(value: float) -> bool:
        try:
            _check_value(parameter, value, fixed, drawn)
        except ConfigError:
            return False
        return True

    bounds, moved = [], []
    for bound, other in ((given.low, given.high), (given.high, given.low)):
        inside = float(np.nextafter(bound, other))
        at_fault = not is_allowed(bound) and is_allowed(inside)
        bounds.append(inside if at_fault else bound)
        moved += [bound] * at_fault
    return replace(parameter, distribution=FloatDistribution(*bounds, log=given.log)), moved


def _check_value(parameter: Parameter, value: Plain, fixed: CDSRConfig, drawn: Collection[str]) -> None:
    name, origin = parameter.name, parameter.origin
    setting = Setting.from_text(value, origin) if isinstance(value, str) else Setting(value, origin)
    config_checks.check_refused({name: setting})
    value = config_checks.typed_value(name, setting, fixed.internal_config_dict)
    _check_model_takes(name, replace(setting, value=value), fixed, drawn)


def _check_model_takes(name: str, setting: Setting, fixed: CDSRConfig, drawn: Collection[str]) -> None:
    """Refuse a value that the model or the making of features refuses, unless it may fit another that is drawn too."""
    settings = ChainMap({name: setting.value}, fixed.final_config_dict)
    try:
        with config_checks.locating({name: setting}):
            check_model_settings(fixed.model_class, settings)
    except WrongValueError:
        return  # another key than this, which the trials will name
    except ConfigError as error:
        if not any(re.search(rf"\b{re.escape(other)}\b", str(error)) for other in set(drawn) - {name}):
            raise
