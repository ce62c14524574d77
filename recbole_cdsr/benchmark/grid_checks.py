"""Every model of a grid on every dataset, configured as its run will be, before the first one is started."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from recbole_cdsr.benchmark.cell import as_text
from recbole_cdsr.benchmark.grid import Grid, as_one_sentence
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.config_checks import as_origin
from recbole_cdsr.config_values import Setting
from recbole_cdsr.errors import CDSRError, ConfigError
from recbole_cdsr.quick_start import check_before_loading

_PLACES_NAMED = 3


@dataclass
class CheckedGrid:
    """What checking a grid has found out.

    Attributes
    ----------
    caps : dict[tuple[str, str], int]
        (label, dataset) -> the value of `epochs`, with the defaults.
    warnings : list[str]
        What is probably a mistake, such as an unknown key.
    """

    caps: dict[tuple[str, str], int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def _is_finite(value: Any) -> bool:
    """Whether every number in a setting can be written down; NaN and infinity cannot."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def check_grid(grid: Grid, source: str) -> CheckedGrid:
    """Configure every model on every dataset as its run will be; nothing is read but settings, nothing is made.

    Parameters
    ----------
    grid
        To be checked.
    source
        What it was read from, for the message.

    Raises
    ------
    ConfigError
        With everything that is wrong, and of which entries: an unknown model, a missing dataset, a setting that a
        model does not take.
    """
    checked = CheckedGrid()
    faults: dict[str, list[str]] = {}
    warnings: dict[str, list[str]] = {}
    with _environment_kept():
        for dataset in grid.datasets:
            for entry in grid.models:
                place = f"{entry.label} on {dataset.name}"
                given = grid.settings_of(entry, dataset)
                settings = {
                    key: Setting.from_text(as_text(setting.value), setting.origin) for key, setting in given.items()
                }
                settings["seed"] = Setting(grid.seeds[0], source)
                strange = [key for key, setting in given.items() if not _is_finite(setting.value)]
                if strange:
                    fault = f"{strange[0]} holds NaN or infinity {as_origin(given[strange[0]].origin)}; give a number."
                    faults.setdefault(fault, []).append(place)
                    continue
                try:
                    config = CDSRConfig(entry.model, dataset.name, config_dict=settings, command_line=[])
                    check_before_loading(config)
                except CDSRError as error:
                    faults.setdefault(str(error), []).append(place)
                    continue
                checked.caps[entry.label, dataset.name] = config["epochs"]
                for warning in config.warnings:
                    warnings.setdefault(warning, []).append(place)
    if faults:
        raise ConfigError(as_one_sentence(source, list(_with_places(faults))))
    checked.warnings = list(_with_places(warnings))
    return checked


def _with_places(sentences: dict[str, list[str]]) -> Iterator[str]:
    """Each sentence once, with the entries it is about."""
    for sentence, places in sentences.items():
        more = f" and {len(places) - _PLACES_NAMED} more" if len(places) > _PLACES_NAMED else ""
        yield f"{', '.join(places[:_PLACES_NAMED])}{more}: {sentence}"


@contextmanager
def _environment_kept() -> Iterator[None]:
    """RecBole's Config writes its gpu_id into the environment, where the processes of the cells would find it."""
    key = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(key)
    try:
        yield
    finally:
        os.environ.pop(key, None)
        if before is not None:
            os.environ[key] = before
