"""Reading a model's keys from the configuration, with one clear sentence for each mistake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_cdsr.errors import ConfigError


def number(config: Mapping[str, Any], key: str, low: float, high: float = float("inf")) -> float:
    """A finite number in [low, high); ``ConfigError`` otherwise."""
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < high:
        limit = f" and below {high:g}" if high != float("inf") else ""
        raise ConfigError(f"{key}: {value!r} is no number of at least {low:g}{limit}.")
    return float(value)


def whole_number(config: Mapping[str, Any], key: str, low: int = 1) -> int:
    """An integer of at least ``low``; ``ConfigError`` otherwise."""
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{key}: {value!r} is no whole number of at least {low}.")
    return value


def switch(config: Mapping[str, Any], key: str) -> bool:
    """True or false; ``ConfigError`` otherwise."""
    value = config[key]
    if not isinstance(value, bool):
        raise ConfigError(f"{key}: {value!r} is neither true nor false.")
    return value


def choice(config: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    """One of the allowed words; ``ConfigError`` otherwise."""
    value = config[key]
    if value not in allowed:
        raise ConfigError(f"{key}: {value!r} is none of {', '.join(allowed)}.")
    return value


def temperature(config: Mapping[str, Any], key: str) -> float:
    """A number above 0; ``ConfigError`` otherwise."""
    value = number(config, key, 0)
    if value == 0:
        raise ConfigError(f"{key}: a temperature must be above 0.")
    return value


def thread_settings(config: Mapping[str, Any], positions: str) -> dict[str, Any]:
    """Keyword arguments of :class:`~recbole_cdsr.model.layers.SASRecThread`.

    Reads ``hidden_size``, ``n_layers``, ``n_heads``, ``MAX_ITEM_LIST_LENGTH``, ``hidden_dropout_prob``,
    ``attn_dropout_prob``, ``attention`` and ``mask_padding``.

    Parameters
    ----------
    config : Mapping[str, Any]
        RecBole's configuration.
    positions : str
        ``count`` or ``column``.
    """
    hidden_size, n_heads = whole_number(config, "hidden_size"), whole_number(config, "n_heads")
    if hidden_size % n_heads:
        raise ConfigError(f"hidden_size: {hidden_size} is no multiple of n_heads, {n_heads}.")
    return {
        "hidden_size": hidden_size,
        "n_layers": whole_number(config, "n_layers", 0),
        "n_heads": n_heads,
        "window": whole_number(config, "MAX_ITEM_LIST_LENGTH"),
        "hidden_dropout_prob": number(config, "hidden_dropout_prob", 0, 1),
        "attn_dropout_prob": number(config, "attn_dropout_prob", 0, 1),
        "attention": choice(config, "attention", ("causal", "bidirectional")),
        "mask_padding": switch(config, "mask_padding"),
        "positions": positions,
    }
