"""The overlap dilemma as a study: the same models on the same data with fewer overlapped users to learn from.

Datasets whose cards differ in nothing but the converter's `overlap_ratio` form one study (docs/conversion.md). What is
judged is the same at every ratio, so that their figures make a curve.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recbole_cdsr.benchmark.collect import DONE, Cell

OPTION = "overlap_ratio"


@dataclass(frozen=True)
class OverlapStudy:
    """Datasets that differ in their overlap ratio alone.

    Attributes
    ----------
    datasets : dict[float, str]
        Name of the dataset by its ratio in (0, 1], ascending; two ratios or more.
    undiluted : set[str]
        Labels the ratio does not apply to: under leave-one-out, a model with a table of users that is folded in trains
        on the judged users' whole histories at every ratio.
    """

    datasets: dict[float, str]
    undiluted: set[str]


def percent(ratio: float) -> str:
    """A ratio as `12.5%`: rounded to whole ones, two ratios of a study may look alike."""
    return f"{100 * ratio:g}%"


def overlap_studies(cells: Sequence[Cell]) -> list[OverlapStudy]:
    """Every study among the datasets of a benchmark, in the order of their first dataset."""
    families: dict[str, dict[float, str]] = {}
    for cell in cells:
        card = cell.result.get("card")
        ratio = _options(card).get(OPTION)
        if cell.state == DONE and isinstance(ratio, int | float):
            families.setdefault(_all_but_ratio(card), {}).setdefault(float(ratio), cell.dataset)
    return [
        OverlapStudy(dict(sorted(datasets.items())), _undiluted(cells, set(datasets.values())))
        for datasets in families.values()
        if len(datasets) > 1
    ]


def _options(card: dict[str, Any] | None) -> dict[str, Any]:
    return ((card or {}).get("converter") or {}).get("options") or {}


def _all_but_ratio(card: dict[str, Any]) -> str:
    """What makes two cards of one family equal: source, converter and split, but not counts, which follow from them."""
    options = {key: value for key, value in _options(card).items() if key != OPTION}
    family = {
        "synthetic": card.get("synthetic"),
        "source": card.get("source"),
        "converter": {**(card.get("converter") or {}), "options": options},
        "split": card.get("split"),
        "domains": [domain.get("name") for domain in card.get("domains") or []],
    }
    return json.dumps(family, sort_keys=True, default=str)


def _undiluted(cells: Sequence[Cell], datasets: set[str]) -> set[str]:
    return {
        cell.label
        for cell in cells
        if cell.dataset in datasets
        and cell.state == DONE
        and cell.result.get("fold_in")
        and (cell.result.get("card") or {}).get("split") == "loo"
        and _options(cell.result.get("card")).get(OPTION, 1) < 1
    }
