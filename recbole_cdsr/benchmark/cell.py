"""One run of a grid: where it lies, what is known of it (`cell.json`), and what is to be done about it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from recbole_cdsr.config_saved import NOT_TRAINING
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.files import replacing
from recbole_cdsr.trainer.run_directory import LAST

CELLS = "cells"
RECORD = "cell.json"
LOG = "cell.log"
LOCK = "cell.lock"
RESULT = "result.json"

# What a record is reckoned with.
_KINDS = {"settings": dict, "attempts": int, "seconds": (int, float), "started": (int, float, type(None))}

DONE, FAILED, RUNNING = "done", "failed", "running"  # what cell.json says
INTERRUPTED, LEFT, CHANGED, ELSEWHERE = "interrupted", "left", "changed", "elsewhere"  # what follows from it

# Not among what training depends on, but results do.
_JUDGING = frozenset({"epochs", "stopping_step", "stopping_updates", "metrics", "topk", "metric_decimal_place"})
# A change of these leaves every figure of a finished cell what it is; `epochs` is looked at on its own.
_WITHOUT_EFFECT = (NOT_TRAINING - _JUDGING) | {"epochs"}
# With a change of these a begun cell goes on. Validations are compared as they are rounded.
_GOES_ON = NOT_TRAINING - {"metric_decimal_place"}


@dataclass(frozen=True)
class Cell:
    """A run: a line of the results (its label), its model, on a dataset, with a seed and settings as plain data."""

    label: str
    model: str
    dataset: str
    seed: int
    settings: Mapping[str, Any] = field(hash=False)

    @staticmethod
    def safe_name(label: str) -> str:
        """A label as the name of a folder: letters, digits and `._+-`, everything else as one dash."""
        return re.sub(r"[^\w.+-]+", "-", label).lstrip(".") or "-"

    def folder(self, output: Path) -> Path:
        """The run directory of this cell below the benchmark's folder."""
        return output / CELLS / self.dataset / self.safe_name(self.label) / f"seed-{self.seed}"

    def arguments(self, without: Collection[str] = ()) -> list[str]:
        """What `recbole-cdsr run` is to be told of the cell, as `--key=value`; settings in `without` are left out."""
        settings = {key: value for key, value in self.settings.items() if key not in without}
        values = {"model": self.model, "dataset": self.dataset, "seed": self.seed, **settings}
        return [f"--{key}={as_text(value)}" for key, value in values.items()]

    def __str__(self) -> str:
        return f"{self.label} on {self.dataset}, seed {self.seed}"


def as_text(value: Any) -> str:
    """A plain value as the command line takes it: `recbole_cdsr.config_values.parse_text` reads it back."""
    return value if isinstance(value, str) else repr(value)


@dataclass
class CellRecord:
    """The content of `cell.json`.

    Attributes
    ----------
    label, model, dataset, seed, settings
        Of the cell, as it was run.
    status : {"done", "failed", "running"}
        `running` without a process at work on it: interrupted or killed.
    reason : str or None
        Of a failed cell: one sentence.
    attempts : int
        Processes that were started for it.
    seconds : float
        Wall-clock seconds of them all; one that a killed benchmark left alone counts up to its last line of log.
    exit_code : int or None
        Of the latest process: negative for a signal; None while it runs.
    started : float or None
        `time.time()` of the latest start.
    host : str or None
        Where it was started.
    """

    label: str
    model: str
    dataset: str
    seed: int
    settings: dict[str, Any]
    status: str
    reason: str | None = None
    attempts: int = 0
    seconds: float = 0.0
    exit_code: int | None = None
    started: float | None = None
    host: str | None = None

    @classmethod
    def of(cls, cell: Cell) -> CellRecord:
        """A record of a cell that is about to run for the first time."""
        return cls(cell.label, cell.model, cell.dataset, cell.seed, dict(cell.settings), RUNNING)

    @classmethod
    def read(cls, folder: Path) -> CellRecord | None:
        """What is recorded in a cell's folder; None where nothing is.

        Raises
        ------
        ConfigError
            The file is not what was written there.
        """
        path = folder / RECORD
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["status"] not in (DONE, FAILED, RUNNING):
                raise ValueError(f"status is {content['status']!r}")
            for key, kind in _KINDS.items():
                if not isinstance(content[key], kind):
                    raise ValueError(f"{key} is {content[key]!r}")
            return cls(**{entry.name: content[entry.name] for entry in fields(cls)})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(
                f"{path} is not the record of a cell ({type(error).__name__}: {error}); delete it, and the cell goes "
                "on from what it has kept."
            ) from None

    def write(self, folder: Path) -> None:
        """Write the record.

        Raises
        ------
        ConfigError
            It cannot be written.
        """
        try:
            text = json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)
            with replacing(folder / RECORD) as part:
                part.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{folder / RECORD} cannot be written ({error.strerror}); free space or choose another --output."
            ) from error


@dataclass(frozen=True)
class FinishedRun:
    """What the table and the rules need of a `result.json`.

    Attributes
    ----------
    epochs, cap : int
        Epochs trained, and the most that were allowed.
    budget : bool
        Whether the cap ended training while a better epoch might have come.
    judged : bool
        False where the model cannot be judged on the dataset (`n/a`).
    """

    epochs: int
    cap: int
    budget: bool
    judged: bool

    @property
    def at_cap(self) -> bool:
        """Whether a higher cap could go on training."""
        return self.judged and self.epochs >= self.cap

    @classmethod
    def read(cls, folder: Path) -> FinishedRun | None:
        """Of a cell's folder; None where there is no whole result."""
        try:
            result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            judged = isinstance(result["test"]["overall"], dict)
            return cls(int(result["epochs"]), int(result["config"]["epochs"]), bool(result["budget"]), judged)
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Standing:
    """How a cell stands.

    Attributes
    ----------
    state : str
        `done`, `failed`, `interrupted`, `left` or `changed`.
    record : CellRecord or None
        As it was read.
    finished : FinishedRun or None
        Of a cell that has a result.
    changes : tuple of str
        Of a changed cell: each setting with its values now and then.
    """

    state: str
    record: CellRecord | None = None
    finished: FinishedRun | None = None
    changes: tuple[str, ...] = ()


def standing(cell: Cell, output: Path, cap: int) -> Standing:
    """How a cell stands that no process is at work on.

    Parameters
    ----------
    cell
        As the grid has it now.
    output
        Folder of the benchmark.
    cap
        The value of `epochs` for the cell, with the defaults.

    Raises
    ------
    ConfigError
        Its record cannot be read.
    """
    folder = cell.folder(output)
    record = CellRecord.read(folder)
    if record is None:
        return Standing(LEFT)
    finished = FinishedRun.read(folder) if record.status == DONE else None
    kept = (folder / LAST).is_file()
    if finished is not None:
        changes = _changes(cell, record, _WITHOUT_EFFECT)
        may_go_on = finished.at_cap and cap > finished.cap
        if cap < finished.epochs or (may_go_on and not kept):
            changes = (*changes, f"epochs is {cap}, was {finished.cap}")
        state = CHANGED if changes else LEFT if may_go_on else DONE
        return Standing(state, record, finished, changes)
    changes = _changes(cell, record, _GOES_ON)
    if changes and kept:
        return Standing(CHANGED, record, changes=changes)
    if record.status == FAILED and not changes:
        return Standing(FAILED, record)
    return Standing(INTERRUPTED if kept else LEFT, record)


def _changes(cell: Cell, record: CellRecord, without_effect: frozenset[str]) -> tuple[str, ...]:
    now = {"model": cell.model, **cell.settings}
    then = {"model": record.model, **record.settings}
    return tuple(
        f"{key} is {_shown(now, key)}, was {_shown(then, key)}"
        for key in dict.fromkeys([*now, *then])
        if key not in without_effect and (key in now, now.get(key)) != (key in then, then.get(key))
    )


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "not set"
