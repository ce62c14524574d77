"""The configuration keys of injection, read without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole_cdsr.config_reading import choice, is_whole, setting, switch, wrong
from recbole_cdsr.errors import ConfigError

KEY = "llm_injection"
OFF = "none"
MODES = (OFF, "init", "adapter", "concat", "frozen")
# Keys that mean something only with a mode, with the modes that read them.
READ_BY: dict[str, tuple[str, ...]] = {
    "llm_item_tables": MODES[1:],
    "llm_user_tables": MODES[1:],
    "llm_injection_std": MODES[1:],
    "llm_injection_whiten": MODES[1:],
    "llm_injection_dim": ("adapter", "concat"),
    "llm_adapter_hidden": ("adapter",),
}
# What a configuration takes for them, as `recbole_cdsr.config_checks` states it of every key.
NULLABLE: dict[str, type] = {
    "llm_item_tables": list,
    "llm_user_tables": list,
    "llm_injection_std": float,
    "llm_injection_dim": int,
    "llm_adapter_hidden": int,
}
EXAMPLES = {"llm_item_tables": "[item_embedding]", "llm_user_tables": "[user_embedding]"}
AT_LEAST_1 = ("llm_injection_dim", "llm_adapter_hidden")
MORE_THAN_0 = ("llm_injection_std",)


@dataclass(frozen=True)
class InjectionSettings:
    """What a run's configuration says of injection, checked.

    Attributes
    ----------
    mode : str
        One of `MODES`.
    item_tables, user_tables : tuple of str or None
        Names of a model's embeddings, dotted where they lie in a sub-module; None finds them.
    std : float or None
        Standard deviation that the injected entries start with; None takes that of the model's own table (in
        `frozen`, rows of length 1 on average).
    whiten : bool
        Whether features are whitened: as wide along each of their principal axes as along any other.
    dim : int or None
        Width of the frozen features after PCA; None takes them as they are.
    hidden : int or None
        Width of the adapter's hidden layer; None: one linear layer.
    """

    mode: str
    item_tables: tuple[str, ...] | None
    user_tables: tuple[str, ...] | None
    std: float | None
    whiten: bool
    dim: int | None
    hidden: int | None

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> InjectionSettings:
        """From a configuration.

        Raises
        ------
        ConfigError
            A key has a value it cannot have.
        """
        std = setting(config, "llm_injection_std")
        is_number = isinstance(std, int | float) and not isinstance(std, bool)
        if std is not None and not (is_number and math.isfinite(std) and std > 0):
            raise wrong("llm_injection_std", std, "a finite number above 0")
        return cls(
            choice(config, KEY, MODES, default=OFF),
            _names(config, "llm_item_tables"),
            _names(config, "llm_user_tables"),
            None if std is None else float(std),
            switch(config, "llm_injection_whiten", default=False),
            _width(config, "llm_injection_dim"),
            _width(config, "llm_adapter_hidden"),
        )


def variant(config: Mapping[str, Any]) -> str:
    """The name of what is run: `SASRec`, or with features in it `SASRec+llm-adapter`."""
    mode = setting(config, KEY, OFF)
    return config["model"] if mode == OFF else f"{config['model']}+llm-{mode}"


def check_injection(model: str, model_class: type, config: Mapping[str, Any]) -> list[str]:
    """Check the keys as far as they can be before the model is built.

    Returns
    -------
    list of str
        One sentence for each key that is set (to another value than False) and not read.

    Raises
    ------
    ConfigError
        A key has a value it cannot have, or the model has LLM features of its own.
    """
    settings = InjectionSettings.read(config)
    if settings.mode != OFF and getattr(model_class, "uses_llm_features", False):
        raise ConfigError(
            f"{KEY} is {settings.mode!r}, but {model} is built on LLM features already; remove {KEY}, or choose "
            "another model."
        )
    return [
        f"{key} is not used: {KEY} is {settings.mode}, and it belongs to {', '.join(modes)}."
        for key, modes in READ_BY.items()
        if setting(config, key) not in (None, False) and settings.mode not in modes
    ]


def _names(config: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    names = setting(config, key)
    if names is None:
        return None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise wrong(key, names, "a list of names of the model's embeddings, such as [item_embedding]")
    return tuple(dict.fromkeys(names))


def _width(config: Mapping[str, Any], key: str) -> int | None:
    width = setting(config, key)
    if width is not None and not is_whole(width, 1):
        raise wrong(key, width, "a whole number, 1 or more")
    return width
