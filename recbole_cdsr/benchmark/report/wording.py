"""How names and numbers of a report are written, on the page and in tables alike."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from recbole_cdsr.benchmark.analysis import DatasetAnalysis
from recbole_cdsr.benchmark.collect import DONE, Cell

GROUP_NAMES = {
    "overlapped": ("users", "overlapped"),
    "single_domain": ("users", "single-domain"),
    "len_1_5": ("history", "1–5"),
    "len_6_10": ("history", "6–10"),
    "len_11_20": ("history", "11–20"),
    "len_21_up": ("history", "21 and more"),
    "head": ("target", "head"),
    "tail": ("target", "tail"),
    "cold_target": ("target", "cold"),
}


def value_text(value: float) -> str:
    """A metric; a dash for NaN."""
    return f"{value:.4f}" if value == value else "–"


def spread_text(mean: float, sd: float) -> str:
    """`mean ± sd`, or the mean of a single seed."""
    return value_text(mean) + (f" ± {sd:.4f}" if sd == sd else "")


def group_name(name: str) -> tuple[str, str]:
    """What a group is of, and how it is called."""
    return GROUP_NAMES.get(name, ("group", name))


def metric_name(metric: str) -> str:
    """A metric as people write it: `NDCG@10`, `Hit@10`."""
    name, at, cut_off = metric.partition("@")
    return (name.capitalize() if name in ("hit", "recall", "precision") else name.upper()) + at + cut_off


def difference_text(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def p_text(p_value: float) -> str:
    """A p-value with two significant digits; a dash where nothing was tested."""
    if p_value != p_value:
        return "–"
    return f"{p_value:.2g}" if p_value >= 1e-4 else f"{p_value:.1e}"


def seconds_text(seconds: pd.Series) -> str:
    """Mean of some seconds, with one decimal below ten; a dash where nothing is known."""
    known = seconds.dropna()
    if not len(known):
        return "–"
    mean = float(known.mean())
    return f"{mean:,.1f}" if mean < 10 else f"{mean:,.0f}"


def devices(cells: list[Cell]) -> str:
    """What cells ran on."""
    return ", ".join(dict.fromkeys((cell.result.get("environment") or {}).get("device", "unknown") for cell in cells))


def seeds_text(cells: list[Cell]) -> str:
    """What stands beside a label: how many of its seeds are there, and whether a cap ended them."""
    done = [cell for cell in cells if cell.state == DONE]
    seeds = f"{len(done)}" if len(done) == len(cells) else f"{len(done)} of {len(cells)}"
    return seeds + (" (budget)" if any(cell.budget for cell in done) else "")


def budget_note(dataset: DatasetAnalysis, label: str) -> str:
    """What follows a label that supports no claim because a cap on epochs ended one of its cells."""
    return " (budget)" if label in dataset.capped else ""


def counted(number: int, noun: str) -> str:
    """`1 test`, `2 tests`."""
    return f"{number} {noun}{'s' if number != 1 else ''}"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
