"""What a benchmark runs: models × datasets × seeds, with their settings, from a YAML file or from names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from recbole_cdsr.benchmark.cell import Cell
from recbole_cdsr.config_names import LAUNCHER_KEYS, did_you_mean
from recbole_cdsr.config_values import Setting, parse_text, read_config_file
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.files import replacing
from recbole_cdsr.model.injection_settings import KEY as INJECTION
from recbole_cdsr.model.injection_settings import MODES

GRID_FILE = "grid.yaml"
KEYS = ("models", "datasets", "seeds", "settings")
# `SASRec+llm` is SASRec with llm_injection, which the part after the dash names.
_INJECTED = re.compile(r"(?P<model>.+)\+llm(?:-(?P<mode>\w*))?")
_DEFAULT_MODE = "adapter"
# Settings that a benchmark decides itself, and by what.
_DECIDED = {
    "model": "models",
    "dataset": "datasets",
    "seed": "seeds",
    "run_dir": "--output",
    "checkpoint_dir": "--output",
    "result_file": "--output",
    "resume": "the state of each cell",
    **dict.fromkeys(LAUNCHER_KEYS, "the benchmark"),
}

Settings = Mapping[str, Setting]


@dataclass(frozen=True)
class ModelEntry:
    """A line of the results: what it is called, the model's name, and its settings."""

    label: str
    model: str
    settings: Settings


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset and the settings of every model on it."""

    name: str
    settings: Settings


@dataclass(frozen=True)
class Grid:
    """Everything that is to be run.

    Attributes
    ----------
    models, datasets, seeds
        Each combination is a cell.
    settings
        Of all cells; those of a dataset win over them, and those of a model's entry over both.
    """

    models: tuple[ModelEntry, ...]
    datasets: tuple[DatasetEntry, ...]
    seeds: tuple[int, ...]
    settings: Settings

    def settings_of(self, model: ModelEntry, dataset: DatasetEntry) -> dict[str, Setting]:
        """The settings of one model on one dataset, each with its origin."""
        return {**self.settings, **dataset.settings, **model.settings}

    def cells(self) -> Iterator[Cell]:
        """All cells; every model is run with the first seed before any is with the second."""
        for seed in self.seeds:
            for dataset in self.datasets:
                for model in self.models:
                    values = {key: setting.value for key, setting in self.settings_of(model, dataset).items()}
                    yield Cell(model.label, model.model, dataset.name, seed, values)

    def with_overrides(self, overrides: Settings) -> Grid:
        """The same with settings that win over those of every entry."""
        models = tuple(replace(entry, settings={**entry.settings, **overrides}) for entry in self.models)
        return replace(self, models=models)

    def added_to(self, former: Grid) -> Grid:
        """Both grids in one: this one's entries take the place of those of the same name, what it lacks is kept.

        Where their common settings differ, each dataset takes those of its own grid along.

        Raises
        ------
        ConfigError
            Two entries would lie in folders of one name.
        """
        one, other = former, self
        if one.settings != other.settings:
            one, other = one._with_common_settings_in_datasets(), other._with_common_settings_in_datasets()
        models = {entry.label: entry for entry in (*one.models, *other.models)}
        datasets = {entry.name: entry for entry in (*one.datasets, *other.datasets)}
        seeds = dict.fromkeys((*one.seeds, *other.seeds))
        both = Grid(tuple(models.values()), tuple(datasets.values()), tuple(seeds), one.settings)
        if faults := list(_double_names(both)):
            raise ConfigError(as_one_sentence("This grid and that of the folder", faults))
        return both

    def _with_common_settings_in_datasets(self) -> Grid:
        datasets = tuple(replace(entry, settings={**self.settings, **entry.settings}) for entry in self.datasets)
        return replace(self, datasets=datasets, settings={})

    def plain(self) -> dict[str, Any]:
        """The grid as plain data, which `read_grid` reads back from YAML."""

        def values(settings: Settings) -> dict[str, Any]:
            return {key: setting.value for key, setting in settings.items()}

        return {
            "models": [
                {"name": entry.label, "model": entry.model, "settings": values(entry.settings)} for entry in self.models
            ],
            "datasets": [{"name": entry.name, "settings": values(entry.settings)} for entry in self.datasets],
            "seeds": list(self.seeds),
            "settings": values(self.settings),
        }

    def write(self, path: Path) -> None:
        """Write the grid as YAML.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        text = yaml.safe_dump(self.plain(), allow_unicode=True, sort_keys=False)
        with replacing(path) as part:
            part.write_text(f"# What `recbole-cdsr benchmark` was asked for in this folder.\n{text}", "utf-8")


@dataclass(frozen=True)
class _Base:
    """What a grid is put together from; a list that is None is still to be named."""

    models: list[Any] | None = None
    datasets: list[Any] | None = None
    seeds: list[Any] | None = None
    settings: Any = None


def read_grid(
    path: Path | None,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    seeds: Sequence[str] | None = None,
) -> Grid:
    """Put a grid together from a YAML file, from names, or from both.

    Parameters
    ----------
    path
        A YAML file with the keys `models`, `datasets`, `seeds`, `settings`; None when names say everything.
    models, datasets, seeds
        Names and numbers that replace the file's lists; an entry that the file has under such a name is taken over.

    Raises
    ------
    ConfigError
        With everything that is wrong in the grid: a list that is missing or empty, an entry that is none, a name that
        is there twice, a setting that the benchmark decides.
    """
    base = _Base() if path is None else _read_base(path)
    source = "the command line" if path is None else str(path)
    named = {"models": models, "datasets": datasets, "seeds": seeds}
    faults: list[str] = []
    lists: dict[str, list[Any]] = {}
    for key, names in named.items():
        entries = getattr(base, key)
        if names is not None:
            entries = [_entry_named(name, entries if isinstance(entries, list) else []) for name in names]
        if entries is None:
            where = (
                f"name them with --{key}" if path is None else f"list them under `{key}:`, or name them with --{key}"
            )
            faults.append(f"no {key} are named; {where}")
        elif not isinstance(entries, list) or not entries:
            faults.append(f"{key} is {entries!r}; it must be a list with one entry or more")
        else:
            lists[key] = entries
    settings = _settings(base.settings, f"the settings of {source}", "settings", faults)
    grid = Grid(
        tuple(_entries(lists.get("models", []), _model_entry, source, faults)),
        tuple(_entries(lists.get("datasets", []), _dataset_entry, source, faults)),
        tuple(_seed(value, faults) for value in lists.get("seeds", [])),
        settings,
    )
    faults += _double_names(grid)
    if faults:
        raise ConfigError(as_one_sentence(source, faults))
    return grid


def read_overrides(pairs: Sequence[str]) -> dict[str, Setting]:
    """Settings given as `key=value`.

    Raises
    ------
    ConfigError
        One is not of this form, or names what the benchmark decides.
    """
    faults: list[str] = []
    values = {}
    for pair in pairs:
        key, equals, text = pair.removeprefix("--").partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.-]*", key):
            faults.append(f"{pair!r} is not understood; write key=value")
        elif values.setdefault(key, text) != text:
            faults.append(f"{key} is given twice, as {values[key]!r} and as {text!r}")
    found = _settings({key: parse_text(text) for key, text in values.items()}, "--override", "--override", faults)
    if faults:
        raise ConfigError(as_one_sentence("--override", faults))
    return found


def as_one_sentence(source: str, faults: Sequence[str]) -> str:
    """What is wrong in a grid, all of it at once."""
    ended = [fault if fault.endswith((".", "?")) else f"{fault}." for fault in faults]
    if len(ended) == 1:
        return f"{source}: {ended[0]}"
    listed = " ".join(f"({number}) {fault}" for number, fault in enumerate(ended, 1))
    return f"{source} has {len(faults)} mistakes: {listed}"


def _read_base(path: Path) -> _Base:
    if not path.is_file():
        raise ConfigError(f"There is no grid {path}; write one, or name --models, --datasets and --seeds.")
    found = read_config_file(path)
    for key, setting in found.settings.items():
        if key not in KEYS:
            raise ConfigError(f"{setting.origin}: a grid has no key {key!r}{did_you_mean(key, KEYS)}")
    if found.settings and found.remarks:  # a key is there twice
        raise ConfigError(f"{found.remarks[0].partition(';')[0]}; keep one of them.")
    return _Base(**{key: setting.value for key, setting in found.settings.items()})


def _entry_named(name: str, entries: Sequence[Any]) -> Any:
    """The entry of a file that has this name, or the name itself."""
    for entry in entries:
        if isinstance(entry, Mapping) and str(entry.get("name", entry.get("model"))) == name:
            return entry
    return name


def _entries(entries: Sequence[Any], read: Any, source: str, faults: list[str]) -> Iterator[Any]:
    for number, entry in enumerate(entries, 1):
        found = read(entry, number, source, faults)
        if found is not None:
            yield found


def _model_entry(entry: Any, number: int, source: str, faults: list[str]) -> ModelEntry | None:
    where = f"models, entry {number}"
    given = _mapping(entry, ("name", "model", "settings"), where, faults)
    if given is None:
        return None
    label = given.get("name", given.get("model"))
    if not isinstance(label, str) or not label.strip():
        faults.append(f"{where} has no name; write a model's name, or {{name: …, model: …, settings: …}}")
        return None
    settings = _settings(given.get("settings"), f"{label} in {source}", f"{where} ({label})", faults)
    injected = _INJECTED.fullmatch(label)
    model = given.get("model", injected["model"] if injected else label)
    if not isinstance(model, str):
        faults.append(f"{where} ({label}): model is {model!r}; it must be the name of a model")
        return None
    if injected:
        mode = _DEFAULT_MODE if injected["mode"] is None else injected["mode"]
        setting = settings.setdefault(INJECTION, Setting(mode, f"the name {label}"))
        if mode not in MODES[1:]:
            known = ", ".join(f"+llm-{known}" for known in MODES[1:])
            faults.append(f"{where} ({label}): there is no injection {mode!r}; write +llm, or one of {known}")
        elif injected["model"] != model or (setting.value != mode and injected["mode"] is not None):
            faults.append(
                f"{where} ({label}): the name says {injected['model']} with {mode}, but it is {model} with "
                f"{setting.value}; give it another name"
            )
    return ModelEntry(label, model, settings)


def _dataset_entry(entry: Any, number: int, source: str, faults: list[str]) -> DatasetEntry | None:
    where = f"datasets, entry {number}"
    given = _mapping(_unquoted(entry), ("name", "settings"), where, faults)
    if given is None:
        return None
    name = _unquoted(given.get("name"))
    if not isinstance(name, str) or not name.strip():
        faults.append(f"{where} has no name; write a dataset's name, or {{name: …, settings: …}}")
        return None
    settings = _settings(given.get("settings"), f"{name} in {source}", f"{where} ({name})", faults)
    return DatasetEntry(name, settings)


def _unquoted(name: Any) -> Any:
    """The name of a dataset that YAML takes for a number, such as 2021."""
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name


def _mapping(entry: Any, keys: Sequence[str], where: str, faults: list[str]) -> Mapping[str, Any] | None:
    if isinstance(entry, str):
        return {"name": entry}
    if not isinstance(entry, Mapping):
        faults.append(f"{where} is {entry!r}; write a name, or a mapping of {', '.join(keys)}")
        return None
    for key in entry:
        if key not in keys:
            faults.append(f"{where} has the key {key!r}{did_you_mean(key, keys)} It may have {', '.join(keys)}")
    return entry


def _settings(given: Any, origin: str, where: str, faults: list[str]) -> dict[str, Setting]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        faults.append(f"{where}: settings are {given!r}; write a mapping of keys to values")
        return {}
    for key in given:
        if key in _DECIDED:
            faults.append(f"{where}: {key} cannot be set here, for {_DECIDED[key]} decides it; remove it")
    return {key: Setting(value, origin) for key, value in given.items()}


def _seed(value: Any, faults: list[str]) -> int:
    if isinstance(value, str) and re.fullmatch(r"\d+", value.strip()):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        faults.append(f"seeds hold {value!r}; a seed is a whole number from 0 to 4294967295")
        return -1
    return value


def _double_names(grid: Grid) -> Iterator[str]:
    for key, names in (
        ("models", [entry.label for entry in grid.models]),
        ("datasets", [entry.name for entry in grid.datasets]),
        ("seeds", [str(seed) for seed in grid.seeds if seed >= 0]),
    ):
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            yield f"{key} hold {name} twice; keep one of them, or give one another name"
    folders: dict[str, str] = {}
    for entry in grid.models:
        # Some file systems do not tell upper from lower case.
        other = folders.setdefault(Cell.safe_name(entry.label).casefold(), entry.label)
        if other != entry.label:
            yield f"{other!r} and {entry.label!r} would lie in folders of one name; give one of them another name"
