"""Search spaces: RecBole's lines (`learning_rate loguniform -8,0`) and YAML. Nothing in a file is evaluated."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from recbole_cdsr.config_names import did_you_mean
from recbole_cdsr.config_values import Plain, Setting, plain_copy, read_config_file
from recbole_cdsr.errors import ConfigError

YAML_SUFFIXES = (".yaml", ".yml")
_LARGEST = Decimal(10) ** 15


@dataclass(frozen=True)
class Parameter:
    """One setting and what it is drawn from.

    Attributes
    ----------
    name
        The configuration key.
    origin
        File and line.
    distribution
        What Optuna draws from; of a choice, its labels.
    choices
        The values of a choice by label, else None. A label is the value itself where that is a single one, and the
        JSON text of a list or mapping, which databases cannot keep, and of a value that equals an earlier one of
        another kind (1 and True), for Optuna would take the one for the other.
    """

    name: str
    origin: str
    distribution: BaseDistribution
    choices: dict[Any, Plain] | None = None

    def draw(self, trial: Trial) -> Plain:
        """The value that a trial gives the setting."""
        given = self.distribution
        if isinstance(given, CategoricalDistribution):
            return self.setting(trial.suggest_categorical(self.name, given.choices))
        draw = trial.suggest_int if isinstance(given, IntDistribution) else trial.suggest_float
        return draw(self.name, given.low, given.high, step=given.step, log=given.log)

    def setting(self, drawn: Any) -> Plain:
        """What the configuration takes for a value that Optuna keeps."""
        return drawn if self.choices is None else self.choices[_label_key(drawn)]

    def extremes(self) -> list[Plain]:
        """All values of a choice, else the bounds: when these are allowed, so is what lies between."""
        if self.choices is not None:
            return list(self.choices.values())
        return [self.distribution.low, self.distribution.high]

    def grid(self) -> list[Any]:
        """Every value, as Optuna keeps it; see `grid_length`."""
        given = self.distribution
        if isinstance(given, CategoricalDistribution):
            return list(given.choices)
        if isinstance(given, IntDistribution):
            return list(range(given.low, given.high + 1, given.step))
        length = self.grid_length()
        low, step = Decimal(str(given.low)), Decimal(str(given.step))
        return [float(low + place * step) for place in range(length)]

    def grid_length(self) -> int:
        """How many values there are, without listing them.

        Raises
        ------
        ConfigError
            There are infinitely many.
        """
        given = self.distribution
        if isinstance(given, CategoricalDistribution):
            return len(given.choices)
        if isinstance(given, IntDistribution):
            return (given.high - given.low) // given.step + 1
        if given.step is None:
            raise ConfigError(
                f"{self.origin}: a grid needs values to count, and {self.name} may be any number from {given.low:g} to "
                f"{given.high:g}; list them, give a step, or take --sampler=tpe."
            )
        return round((Decimal(str(given.high)) - Decimal(str(given.low))) / Decimal(str(given.step))) + 1

    def description(self) -> dict[str, Plain]:
        """The distribution as plain data, by which two spaces are compared."""
        given = self.distribution
        if self.choices is not None:
            pairs = zip(given.choices, self.choices.values(), strict=True)
            return {"choice": [value if isinstance(value, list | dict) else label for label, value in pairs]}
        kind = "whole" if isinstance(given, IntDistribution) else "real"
        return {kind: [given.low, given.high], "step": given.step, "log": given.log}


@dataclass(frozen=True)
class Space:
    """All parameters of a file, in its order, and what is odd about the file without being wrong."""

    parameters: tuple[Parameter, ...]
    remarks: tuple[str, ...]

    def settings(self, drawn: dict[str, Any]) -> dict[str, Plain]:
        """What the configuration takes for the values that Optuna keeps; those not drawn yet are left out."""
        return {each.name: each.setting(drawn[each.name]) for each in self.parameters if each.name in drawn}


def read_space(path: str | Path) -> Space:
    """Read a search space.

    Parameters
    ----------
    path
        `.yaml` and `.yml` are YAML; any other file holds RecBole's lines, `<key> <kind> <values>`.

    Raises
    ------
    ConfigError
        The file cannot be read or holds something else, with its line.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"The search space {path} does not exist; name a file with --space.")
    read = _from_yaml if path.suffix.lower() in YAML_SUFFIXES else _from_lines
    parameters, remarks = read(path)
    if not parameters:
        raise ConfigError(f"The search space {path} holds no parameter; write lines such as {_EXAMPLES[read]}.")
    return Space(tuple(parameters.values()), tuple(remarks))


# ---------------------------------------------------------------------------------------------------- RecBole's lines
def _from_lines(path: Path) -> tuple[dict[str, Parameter], list[str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"The search space {path} is not UTF-8 text; save it as UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"The search space {path} cannot be read: {error.strerror}.") from None
    parameters: dict[str, Parameter] = {}
    remarks = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        origin = f"{path}, line {number}"
        if len(words) < 3:
            raise ConfigError(f"{origin}: a parameter is `<key> <kind> <values>`, such as {_EXAMPLES[_from_lines]}.")
        name, kind, text = *words[:2], "".join(words[2:])
        if kind not in _LINE_KINDS:
            raise ConfigError(f"{origin}: {name} has the kind {kind!r}{_did_you_mean(kind, _LINE_KINDS)}")
        if name in parameters:
            remarks.append(f"{origin}: {name} stands in {parameters[name].origin} already; this line counts.")
        parameters[name] = _LINE_KINDS[kind](name, origin, text)
    return parameters, remarks


def _line_choice(name: str, origin: str, text: str) -> Parameter:
    try:
        values = plain_copy(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        values = None
    if not isinstance(values, list):
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        raise ConfigError(
            f"{origin}: {name} has the choice {shown}; write a list of plain values, such as [64,96,128]; nothing is "
            "evaluated."
        )
    return _choice(name, origin, values)


def _numbers(name: str, origin: str, text: str, meanings: Sequence[str]) -> list[Decimal]:
    words = text.split(",")
    try:
        numbers = [Decimal(word) for word in words]
        _ = [abs(number) < _LARGEST for number in numbers]  # NaN compares with nothing
    except ArithmeticError:
        numbers = []
    if len(numbers) != len(meanings) or not all(abs(number) < _LARGEST for number in numbers):
        raise ConfigError(f"{origin}: {name} has the values {text}; write {','.join(meanings)} as numbers.")
    return numbers


def _line_uniform(name: str, origin: str, text: str) -> Parameter:
    low, high = _numbers(name, origin, text, ("low", "high"))
    return _real(name, origin, float(low), float(high))


def _line_loguniform(name: str, origin: str, text: str) -> Parameter:
    low, high = _numbers(name, origin, text, ("low", "high"))
    if not max(abs(low), abs(high)) < 300:
        raise ConfigError(f"{origin}: the bounds of loguniform are exponents of e, and {name} has {text}.")
    return _real(name, origin, math.exp(low), math.exp(high), log=True)


def _line_quniform(name: str, origin: str, text: str) -> Parameter:
    """Multiples of q, as hyperopt has them: round(x / q) * q for x between low and high."""
    low, high, q = _numbers(name, origin, text, ("low", "high", "q"))
    if q <= 0:
        raise ConfigError(f"{origin}: {name} has the step {q}; it must be more than 0.")
    try:
        least, most = (int((bound / q).quantize(Decimal(1), ROUND_HALF_EVEN)) for bound in (low, high))
    except ArithmeticError:
        raise _too_small_a_step(name, origin, float(low), float(high), float(q)) from None
    if q == q.to_integral_value():
        return _whole(name, origin, int(least * q), int(most * q), step=int(q))
    return _real(name, origin, float(least * q), float(most * q), step=float(q))


_LINE_KINDS: dict[str, Callable[[str, str, str], Parameter]] = {
    "choice": _line_choice,
    "uniform": _line_uniform,
    "loguniform": _line_loguniform,
    "quniform": _line_quniform,
}


# --------------------------------------------------------------------------------------------------------------- YAML
_YAML_KINDS = ("choice", "uniform", "log_uniform", "int_uniform", "int_log_uniform")


def _from_yaml(path: Path) -> tuple[dict[str, Parameter], list[str]]:
    found = read_config_file(path)
    parameters = {name: _yaml_parameter(name, setting) for name, setting in found.settings.items()}
    return parameters, found.remarks


def _yaml_parameter(name: str, setting: Setting) -> Parameter:
    given, origin = setting.value, setting.origin
    if isinstance(given, list):
        given = {"choice": given}
    if not isinstance(given, dict) or not given:
        raise ConfigError(
            f"{origin}: {name} is {given!r}; write a list of values, or {_EXAMPLES[_from_yaml]}; what is fixed belongs "
            "on the command line or into a config file."
        )
    kinds = [key for key in given if key != "step"]
    if len(kinds) != 1 or kinds[0] not in _YAML_KINDS:
        odd = next((kind for kind in kinds if kind not in _YAML_KINDS), None)
        if odd is None:
            raise ConfigError(f"{origin}: {name} needs exactly one of {', '.join(_YAML_KINDS)}.")
        raise ConfigError(f"{origin}: {name} has the kind {odd!r}{_did_you_mean(odd, _YAML_KINDS)}")
    kind = kinds[0]
    if "step" in given and kind not in ("uniform", "int_uniform"):
        raise ConfigError(f"{origin}: {name} has a step, which goes with uniform and int_uniform only.")
    if kind == "choice":
        if not isinstance(given[kind], list):
            raise ConfigError(f"{origin}: {name} has the choice {given[kind]!r}; write a list of values.")
        return _choice(name, origin, given[kind])
    return _yaml_range(name, origin, kind, given[kind], given.get("step"))


def _yaml_range(name: str, origin: str, kind: str, bounds: Any, step: Any) -> Parameter:
    whole = kind.startswith("int_")
    kinds = (int,) if whole else (int, float)
    word = "whole numbers" if whole else "numbers"
    if not isinstance(bounds, list) or len(bounds) != 2 or any(type(bound) not in kinds for bound in bounds):
        raise ConfigError(f"{origin}: {name} has {kind} {bounds!r}; write two {word}, [low, high].")
    if step is not None and (type(step) not in kinds or not 0 < step < math.inf):
        raise ConfigError(f"{origin}: {name} has the step {step!r}; it must be one of {word}, more than 0.")
    low, high = bounds
    if whole:
        return _whole(name, origin, low, high, step=step or 1, log=kind == "int_log_uniform")
    step = None if step is None else float(step)
    return _real(name, origin, float(low), float(high), step=step, log=kind == "log_uniform")


# ------------------------------------------------------------------------------------------------------- distributions
def _choice(name: str, origin: str, values: list[Plain]) -> Parameter:
    if not values:
        raise ConfigError(f"{origin}: {name} has no value to choose from.")
    for value in values:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{origin}: {name} may be {value}; write finite numbers.")
    choices: dict[Any, Plain] = {}
    labels: list[Any] = []
    for value in values:
        equal = next((label for label in labels if label == value), value)
        as_text = isinstance(value, list | dict) or type(equal) is not type(value)
        label = json.dumps(value, ensure_ascii=False) if as_text else value
        if _label_key(label) not in choices:
            choices[_label_key(label)] = value
            labels.append(label)
    return Parameter(name, origin, CategoricalDistribution(labels), choices)


def _label_key(label: Any) -> tuple[str, Any]:
    """1, 1.0 and True are three values."""
    return type(label).__name__, label


def _whole(name: str, origin: str, low: int, high: int, step: int = 1, log: bool = False) -> Parameter:
    _check_order(name, origin, low, high, log)
    return Parameter(name, origin, IntDistribution(low, high - (high - low) % step, log=log, step=step))


def _real(name: str, origin: str, low: float, high: float, step: float | None = None, log: bool = False) -> Parameter:
    _check_order(name, origin, low, high, log)
    if step is not None:
        exact_low, exact_step = Decimal(str(low)), Decimal(str(step))
        try:
            high = float(exact_low + (Decimal(str(high)) - exact_low) // exact_step * exact_step)
        except ArithmeticError:
            raise _too_small_a_step(name, origin, low, high, step) from None
    return Parameter(name, origin, FloatDistribution(low, high, step=step, log=log))


def _too_small_a_step(name: str, origin: str, low: float, high: float, step: float) -> ConfigError:
    """There are more steps than a decimal number has digits for."""
    return ConfigError(
        f"{origin}: {name} has the step {step:g}, too small for a range from {low:g} to {high:g}; write a larger one."
    )


def _check_order(name: str, origin: str, low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ConfigError(f"{origin}: {name} runs from {low:g} to {high:g}; write the smaller bound first.")
    if log and low <= 0:
        raise ConfigError(f"{origin}: {name} begins at {low:g}; a logarithmic range begins above 0.")


def _did_you_mean(kind: str, kinds: Sequence[str] | dict[str, Any]) -> str:
    near = did_you_mean(kind, kinds, 1)
    return f", which is none of {', '.join(kinds)}{near}"


_EXAMPLES = {
    _from_lines: "`learning_rate loguniform -8,0` or `embedding_size choice [64,96,128]`",
    _from_yaml: "`learning_rate: {log_uniform: [1e-4, 1e-2]}`",
}
