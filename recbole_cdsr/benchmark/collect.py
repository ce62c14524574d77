"""The cells of a benchmark as they lie on the disk, and as data frames.

A cell is one model on one dataset with one seed: `cells/<dataset>/<label>/seed-<seed>/` with `cell.json`, and once it
is done `result.json` (docs/results_format.md) and `test_ranks.tsv`. A cell without figures stays a row and says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from recbole_cdsr.config_names import OUR_MODELS
from recbole_cdsr.errors import DataError

DONE, NOT_APPLICABLE, FAILED, RUNNING, MISSING = "done", "n/a", "failed", "running", "missing"
CELL_FILE, RESULT_FILE, RANKS_FILE, GRID_FILE = "cell.json", "result.json", "test_ranks.tsv", "grid.yaml"

BACKBONE = "SASRecBCE"
OURS, INJECTED, BASELINE = "this package", "injected", "baseline"

# What no page and no table can hold.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_STATES = (DONE, FAILED, RUNNING)
# Keys of a result that are no candidate set.
_SECTIONS = ("overall", "domains", "groups")


@dataclass(frozen=True)
class Cell:
    """One model on one dataset with one seed.

    Attributes
    ----------
    dataset, label, model : str
        The label names a row of the grid: a model, or a model with settings.
    seed : int
        Of the run.
    state : str
        `done`, `n/a` (the protocol has nothing to judge the model by), `failed`, `running`, or `missing` (planned by
        the grid, and without a folder).
    reason : str
        Why there are no figures; empty for `done`.
    attempts : int
        How often it was started.
    settings : dict
        What the grid sets for it.
    folder : Path or None
        Where it lies; None where nothing was written yet.
    result : dict
        `result.json`; empty unless `done` or `n/a`.
    planned : bool
        Whether the grid names it; True where there is no grid.
    """

    dataset: str
    label: str
    model: str
    seed: int
    state: str
    reason: str = ""
    attempts: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    result: dict[str, Any] = field(default_factory=dict)
    planned: bool = True

    @property
    def budget(self) -> bool:
        """Whether the cap on epochs ended training while it might still have improved: it supports no claim."""
        if self.state != DONE:
            return False
        stated = self.result.get("budget")
        return stated if stated is not None else self.result["epochs"] >= self.result["config"]["epochs"]

    @property
    def role(self) -> str:
        """`this package`, `injected`, or `baseline`: a model of RecBole or our backbone, without LLM features."""
        if self.model in OUR_MODELS and self.model != BACKBONE:
            return OURS
        config = self.result.get("config", self.settings)
        mode = config.get("llm_injection") or "none"
        uses_features = bool(self.result.get("features")) or mode != "none" or bool(config.get("preload_weight"))
        return INJECTED if uses_features else BASELINE

    @property
    def candidates(self) -> list[str]:
        """Names of the candidate sets, the one that selected the model first."""
        return list(self.result.get("eval_candidates", []))


def load_cells(folder: Path) -> list[Cell]:
    """Every cell of a benchmark, by dataset, label and seed in the order of its grid.

    Parameters
    ----------
    folder
        Of the benchmark, with `grid.yaml` and `cells/`.

    Raises
    ------
    DataError
        It holds no cells and plans none, or its grid cannot be read. A single cell that cannot be read is `failed`.
    """
    found = [_read_cell(path.parent) for path in sorted(folder.glob(f"cells/*/*/*/{CELL_FILE}"))]
    planned = list(_planned(folder / GRID_FILE))
    if not found and not planned:
        raise DataError(f"{folder} holds no cells of a benchmark; give the folder that was its --output.")
    names = {(cell.dataset, cell.label, cell.seed) for cell in planned}
    if planned:
        found = [replace(cell, planned=(cell.dataset, cell.label, cell.seed) in names) for cell in found]
    known = {(cell.dataset, cell.label, cell.seed) for cell in found}
    cells = found + [cell for cell in planned if (cell.dataset, cell.label, cell.seed) not in known]
    # What the grid does not name (any more) comes last, in the order of its folders.
    by_grid = {(cell.dataset, cell.label): place for place, cell in enumerate(planned)}
    datasets = {cell.dataset: place for place, cell in reversed(list(enumerate(planned)))}
    last = len(planned)
    return sorted(
        cells,
        key=lambda cell: (
            datasets.get(cell.dataset, last),
            cell.dataset,
            by_grid.get((cell.dataset, cell.label), last),
            cell.label,
            cell.seed,
        ),
    )


def cells_frame(cells: Iterable[Cell]) -> pd.DataFrame:
    """One row per cell: what it is, its state and why, what it selected, and what it cost in seconds."""
    rows = []
    for cell in cells:
        seconds = cell.result.get("seconds") or {}
        rows.append(
            {
                "dataset": cell.dataset,
                "label": cell.label,
                "model": cell.model,
                "seed": cell.seed,
                "state": cell.state,
                "reason": cell.reason,
                "attempts": cell.attempts,
                "role": cell.role,
                "budget": cell.budget,
                "best_valid_score": cell.result.get("best_valid_score"),
                "best_epoch": _epoch_text(cell.result.get("best_epoch")),
                "epochs": cell.result.get("epochs"),
                **{f"{part}_seconds": seconds.get(part) for part in ("features", "training", "evaluation", "total")},
                "date": cell.result.get("date"),
            }
        )
    frame = pd.DataFrame(rows)
    numbers = ["best_valid_score", *(name for name in frame.columns if name.endswith("_seconds"))]
    return frame.astype(dict.fromkeys(numbers, "float64") | {"epochs": "Int64"})


def metrics_frame(cells: Iterable[Cell]) -> pd.DataFrame:
    """The test figures of every finished cell, in long form.

    Returns
    -------
    pd.DataFrame
        Columns `dataset`, `label`, `seed`, `candidates`, `scope` (`overall`, `domain` or `group`), `name`
        (`overall`, or that of the domain or group), `metric`, `value` (NaN where no row was judged) and `count` of
        rows.
    """
    columns = ["dataset", "label", "seed", "candidates", "scope", "name", "metric", "value", "count"]
    rows = [
        (cell.dataset, cell.label, cell.seed, candidates, scope, name, metric, value, count)
        for cell in cells
        if cell.state == DONE
        for candidates in cell.candidates
        for scope, name, metric, value, count in _figures(cell.result["test"][candidates])
    ]
    return pd.DataFrame(rows, columns=columns).astype({"value": "float64"})


def domain_names(cells: Iterable[Cell]) -> list[str]:
    """Names of the domains that finished cells were judged in, in the dataset's order."""
    named = [name for cell in cells if cell.state == DONE for name in cell.result["test"]["domains"]]
    return list(dict.fromkeys(named))


def _figures(part: Mapping[str, Any]) -> Iterator[tuple[str, str, str, float, int]]:
    metrics = [key for key in part["overall"] if key != "count"]
    sections = {"overall": {"overall": part["overall"]}, "domain": part["domains"], "group": part["groups"]}
    for scope, named in sections.items():
        for name, figures in named.items():
            for metric in metrics:
                yield scope, name, metric, figures.get(metric, float("nan")), figures["count"]


def _epoch_text(best_epoch: int | Mapping[str, int] | None) -> str | None:
    if isinstance(best_epoch, Mapping):
        return ", ".join(f"{name} {epoch}" for name, epoch in best_epoch.items())
    return None if best_epoch is None else str(best_epoch)


def _read_cell(folder: Path) -> Cell:
    """A cell's folder; one that cannot be read is `failed` under the names of its folders."""
    named = {"dataset": folder.parent.parent.name, "label": folder.parent.name, "model": "", "folder": folder}
    seed = folder.name.removeprefix("seed-")
    named["seed"] = int(seed) if seed.isdigit() else -1
    try:
        stated = _read_json(folder / CELL_FILE)
        _check_record(stated)
        named |= {"seed": stated["seed"], **{key: printable(stated[key]) for key in ("dataset", "label", "model")}}
        state, reason = stated["status"], printable(stated.get("reason") or "")
        more = {"attempts": stated.get("attempts") or 0, "settings": stated.get("settings") or {}}
        if state == RUNNING:
            reason = "it runs, or was interrupted"
        if state != DONE:
            return Cell(**named, **more, state=state, reason=reason)
        result = _read_json(folder / RESULT_FILE)
        _check_result(folder / RESULT_FILE, result)
    except DataError as error:
        return Cell(**named, state=FAILED, reason=str(error))
    if result["test"]["overall"] == NOT_APPLICABLE:
        return Cell(**named, **more, state=NOT_APPLICABLE, reason=result.get("reason") or reason, result=result)
    return Cell(**named, **more, state=DONE, result=result)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror}); run the cell again") from error
    except ValueError as error:
        raise DataError(f"{path.name} is not JSON ({error}); run the cell again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path.name} holds no mapping; run the cell again")
    return content


def printable(text: str) -> str:
    """A text without control characters, which a process may have written into its log."""
    return _CONTROL.sub("", text)


def _check_record(stated: Mapping[str, Any]) -> None:
    _check_kinds(CELL_FILE, stated, {"dataset": str, "label": str, "model": str, "seed": int, "status": str})
    optional = {"reason": str, "attempts": int, "settings": dict}
    _check_kinds(CELL_FILE, {key: value for key, value in stated.items() if value is not None}, optional, needed=False)
    if stated["status"] not in _STATES:
        raise DataError(f"{CELL_FILE} says status {stated['status']!r}; run the cell again")


def _check_result(path: Path, result: Mapping[str, Any]) -> None:
    _check_kinds(path.name, result, {"config": dict, "epochs": int, "eval_candidates": list, "test": dict})
    test = result["test"]
    if test.get("overall") == NOT_APPLICABLE:
        return
    _check_kinds(path.name, test, dict.fromkeys((*_SECTIONS, *result["eval_candidates"]), dict), "test.")
    for candidates in result["eval_candidates"]:
        _check_kinds(path.name, test[candidates], dict.fromkeys(_SECTIONS, dict), f"test.{candidates}.")


def _check_kinds(
    name: str, content: Mapping[str, Any], kinds: Mapping[str, type], before: str = "", needed: bool = True
) -> None:
    for key, kind in kinds.items():
        if key not in content:
            if needed:
                raise DataError(f"{name} lacks the key {before + key!r}; run the cell again")
        elif not isinstance(content[key], kind):
            raise DataError(f"{name}: {before}{key} is {str(content[key])[:40]!r}; run the cell again")


def _planned(path: Path) -> Iterator[Cell]:
    """What the grid plans, as cells that are missing."""
    try:
        grid = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: a 13th month, no UTF-8
        raise DataError(f"{path}: the grid cannot be read ({' '.join(str(error).split())}).") from error
    try:
        for dataset in grid["datasets"]:
            for row in grid["models"]:
                settings = {**grid["settings"], **dataset["settings"], **row["settings"]}
                for seed in grid["seeds"]:
                    yield Cell(
                        dataset["name"], row["name"], row["model"], seed, MISSING, "not started yet", settings=settings
                    )
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path}: the grid is not as `recbole-cdsr benchmark` writes it ({type(error).__name__}: {error}); start "
            "the benchmark again with its grid."
        ) from error
