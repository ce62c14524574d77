"""Values from text: what a command line, a YAML file or a dict brings into a configuration, without evaluating it.

RecBole hands every string it is given to `eval`. Here a string can only become a number, a truth value, nothing,
a list or a mapping; whatever else it looks like, it stays a string.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recbole_cdsr.errors import ConfigError

Plain = None | bool | int | float | str | list[Any] | dict[str, Any]

MAX_TEXT = 10_000  # characters of one command-line value
MAX_VALUES = 100_000  # values in one setting, aliases counted as often as they are used
MAX_DEPTH = 64

_NOT_PLAIN = object()


class ConfigLoader(yaml.SafeLoader):
    """YAML as RecBole reads it (`1e-3` is a float), but without Python objects; dates and `=` stay strings."""


ConfigLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# YAML 1.1 wants a dot and a signed exponent in a float; RecBole's own files write 1e-12.
ConfigLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


class _TextLoader(yaml.SafeLoader):
    """YAML for one command-line value: no yes/no, no octal or base-60 numbers, no dates, no anchors."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read here")
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|None)$", "~nN"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    (
        "float",
        r"^[-+]?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$",
        "-+0123456789.",
    ),
):
    _TextLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def plain_copy(value: Any) -> Plain:
    """Copy `value` as YAML- and JSON-plain data: tuples become lists, paths and NumPy scalars plain ones.

    Raises
    ------
    ValueError
        What in it is not plain: another class, a key that is no string, too many values or too deep nesting.
    """
    budget = MAX_VALUES

    def copy(value: Any, depth: int) -> Plain:
        nonlocal budget
        budget -= 1
        if budget < 0 or depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_VALUES} values, or nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool):
            return value
        # Subclasses (an IntEnum, a str with behaviour) come out as the plain type; enumerations are refused.
        if isinstance(value, int) and type(value).__module__ in ("builtins", "numpy"):
            return int(value)
        if isinstance(value, float):
            return float(value)
        if type(value) is str:
            return value
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, list | tuple):
            return [copy(entry, depth + 1) for entry in value]
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise ValueError(f"the key {key!r} is not a string")
            return {str(key): copy(entry, depth + 1) for key, entry in value.items()}
        raise ValueError(f"a value of type {type(value).__name__}")

    return copy(value, 0)


def _literal(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python thinks of "1if" is no concern of the user's
            return plain_copy(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _NOT_PLAIN


def _yaml_value(text: str) -> Any:
    try:
        value = plain_copy(yaml.load(text, Loader=_TextLoader))
    except (yaml.YAMLError, ValueError, MemoryError, RecursionError):
        return _NOT_PLAIN
    if isinstance(value, str) or (isinstance(value, list | dict) and text.strip()[0] not in "[{"):
        return _NOT_PLAIN
    return value


def parse_text(text: str) -> Plain:
    """Read one value given as text; nothing is evaluated.

    A Python literal (`[5, 10]`, `{'LS': 'valid_and_test'}`, `1e-3`, `None`), `true`/`false` in any case, or YAML
    for a number, a truth value, `null`, a `[list]` or a `{mapping}`. Everything else is returned as it is.
    """
    if not text.strip() or len(text) > MAX_TEXT:
        return text
    if text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    for parse in (_literal, _yaml_value):
        value = parse(text)
        if value is not _NOT_PLAIN:
            return value
    return text


@dataclass(frozen=True)
class Setting:
    """One value a user gave: what it was read as, as what text it came (None: not as text) and from where."""

    value: Any
    origin: str
    text: str | None = None

    @classmethod
    def from_text(cls, text: str, origin: str) -> Setting:
        return cls(parse_text(text), origin, text)


@dataclass
class FileSettings:
    """The settings of one YAML file, and what is odd about the file without being wrong."""

    settings: dict[str, Setting]
    remarks: list[str] = field(default_factory=list)


def read_config_file(path: str | os.PathLike[str]) -> FileSettings:
    """Read a YAML file of `key: value` lines.

    Raises
    ------
    ConfigError
        The file is missing, not UTF-8, not YAML, not a mapping or holds anything but plain data; with the line.
    """
    name = os.fspath(path)
    try:
        text = Path(name).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"The config file {name} does not exist; check --config_files.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The config file {name} is not UTF-8 text; save it as UTF-8.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"The config file {name} cannot be read: {reason}.") from None
    try:
        return _read_mapping(text, name)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f"{name}, line {mark.line + 1}" if mark else name
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where}: this is not plain YAML ({problem}); write `key: value` lines.") from None
    except ValueError as error:  # a tag such as !!int before what is none
        raise ConfigError(f"{name}: this is not plain YAML ({error}); write `key: value` lines.") from None
    except (RecursionError, MemoryError):
        raise ConfigError(f"{name}: this YAML is nested too deeply to be a configuration.") from None


def _read_mapping(text: str, name: str) -> FileSettings:
    loader = ConfigLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return FileSettings({}, [f"The config file {name} sets nothing."])
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                f"{name}, line {node.start_mark.line + 1}: a config file holds `key: value` lines, not a "
                f"{'list' if isinstance(node, yaml.SequenceNode) else 'single value'}."
            )
        lines: dict[str, int] = {}
        remarks = []
        for key_node, _ in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if isinstance(key, str) and key in lines and key != "<<":
                remarks.append(f"{name}, line {line}: {key} was set in line {lines[key]} already; this line counts.")
            lines[str(key)] = line
        values = loader.construct_document(node)
    finally:
        loader.dispose()
    settings = {}
    for key, value in values.items():
        line = lines.get(str(key))
        where = f"{name}, line {line}" if line else name
        if not isinstance(key, str):
            raise ConfigError(f"{where}: the key {key!r} is not a name; put it in quotes if it is meant as one.")
        try:
            settings[key] = Setting(plain_copy(value), where)
        except ValueError as error:
            raise ConfigError(f"{where}: {key} cannot be used ({error}); write plain YAML values.") from None
    return FileSettings(settings, remarks)


def split_config_files(value: str | os.PathLike[str] | Iterable[str] | None) -> list[str]:
    """The files named by `--config_files "a.yaml b.yaml"`, in order; a name with blanks may stand in quotes."""
    if value is None:
        return []
    if isinstance(value, os.PathLike):
        return [os.fspath(value)]
    if not isinstance(value, str):
        return [os.fspath(entry) for entry in value]
    if os.path.isfile(value):
        return [value]
    try:
        return shlex.split(value)
    except ValueError:
        raise ConfigError(f"--config_files {value!r}: a quotation mark is missing its partner.") from None


def parse_command_line(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split `--key=value` arguments.

    Returns
    -------
    (values, faults)
        The text of each key, and one sentence per argument that is not of the form `--key=value`.

    Raises
    ------
    ConfigError
        A key is given twice with different values.
    """
    values: dict[str, str] = {}
    faults = []
    skip = False
    for position, argument in enumerate(arguments):
        if skip:
            skip = False
            continue
        key, equals, text = argument[2:].partition("=")
        if argument.startswith("--") and equals and re.fullmatch(r"[A-Za-z_][\w.-]*", key):
            if values.setdefault(key, text) != text:
                raise ConfigError(f"--{key} is given twice, as {values[key]!r} and as {text!r}; keep one of them.")
            continue
        following = arguments[position + 1] if position + 1 < len(arguments) else None
        faults.append(_fault(argument, following))
        skip = argument.startswith("--") and not equals and following is not None and not following.startswith("-")
    return values, faults


def _fault(argument: str, following: str | None) -> str:
    if argument.startswith("--") and "=" not in argument:
        if following is not None and not following.startswith("-"):
            return f"{argument} {following} is not understood: write {argument}={following}"
        return f"{argument} has no value: write {argument}=True, or another value after '='"
    name = argument.lstrip("-")
    if "=" in name and not name.startswith("="):
        return f"{argument} is not understood: write --{name}"
    return f"{argument} is not understood: settings are written as --key=value"
