"""Reading single keys of a configuration, each checked on its own, with one sentence for a mistake.

`CDSRConfig` checks what a user gives and says where it came from. Models, evaluator and feature builder take any
mapping, and read their own keys with these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_cdsr.errors import WrongValueError


def setting(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """The value of a key; ``default`` where it is absent or None."""
    try:
        value = config[key]
    except KeyError:  # RecBole's Config gives None instead
        value = None
    return default if value is None else value


def wrong(key: str, value: Any, expected: str) -> WrongValueError:
    """The error to raise for a value that its key does not take; `config_checks.locating` adds where it came from."""
    return WrongValueError(key, value, expected)


def is_whole(value: Any, least: int | None = None) -> bool:
    """Whether a value is an integer (truth values are none) of at least ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def whole_number(config: Mapping[str, Any], key: str, least: int | None = 1, default: int | None = None) -> int:
    """An integer of at least ``least``; ``ConfigError`` otherwise."""
    value = setting(config, key, default)
    if not is_whole(value, least):
        raise wrong(key, value, "a whole number" + ("" if least is None else f", {least} or more"))
    return value


def number(config: Mapping[str, Any], key: str, least: float, below: float = math.inf) -> float:
    """A number in [least, below); ``ConfigError`` otherwise."""
    value = setting(config, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < below:
        limit = "" if below == math.inf else f" and less than {below:g}"
        raise wrong(key, value, f"a finite number, {least:g} or more{limit}")
    return float(value)


def temperature(config: Mapping[str, Any], key: str) -> float:
    """A finite number above 0; ``ConfigError`` otherwise."""
    value = number(config, key, 0)
    if value == 0:
        raise wrong(key, value, "more than 0, for it is a temperature")
    return value


def switch(config: Mapping[str, Any], key: str, default: bool | None = None) -> bool:
    """True or false; ``ConfigError`` otherwise."""
    value = setting(config, key, default)
    if not isinstance(value, bool):
        raise wrong(key, value, "True or False")
    return value


def choice(config: Mapping[str, Any], key: str, choices: Sequence[str], default: str | None = None) -> str:
    """One of some words; ``ConfigError`` otherwise."""
    value = setting(config, key, default)
    if value not in choices:
        raise wrong(key, value, f"one of {', '.join(choices)}")
    return value
