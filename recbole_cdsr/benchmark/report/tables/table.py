"""A table of results before it is put into any format: what stands where, what is best, what is starred."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import groupby

DECIMALS = 4


@dataclass(frozen=True)
class Figure:
    """A figure over seeds.

    Attributes
    ----------
    mean, sd : float
        `sd` is NaN of a single seed.
    mark : str
        `*`, `†` or nothing, see `comparison.Comparison`.
    place : int
        1 for the best of its column, 2 for the second, else 0; equal figures share a place.
    """

    mean: float
    sd: float
    mark: str = ""
    place: int = 0

    @property
    def mean_text(self) -> str:
        """The mean, rounded."""
        return f"{self.mean:.{DECIMALS}f}"

    @property
    def sd_text(self) -> str:
        """The standard deviation, rounded; empty of a single seed."""
        return "" if math.isnan(self.sd) else f"{self.sd:.{DECIMALS}f}"


Entry = str | Figure | None
"""What stands in a field: text, a figure, or nothing."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    name : str
        Short and unique: what LaTeX refers to.
    caption : str
        What it shows.
    text_columns : list[str]
        Headings of the first columns, which hold text.
    figure_columns : list[tuple[str, str]]
        Headings of the others: what they belong to, and what they are.
    rows : list[list[Entry]]
        One entry per column.
    notes : list[str]
        Sentences below.
    """

    name: str
    caption: str
    text_columns: list[str]
    figure_columns: list[tuple[str, str]]
    rows: list[list[Entry]]
    notes: list[str] = field(default_factory=list)

    def spans(self) -> list[tuple[str, int]]:
        """What neighbouring columns of figures belong to, and how many they are."""
        return [(name, len(list(columns))) for name, columns in groupby(self.figure_columns, key=lambda pair: pair[0])]


def with_places(rows: list[list[Entry]]) -> list[list[Entry]]:
    """The same rows with the best and the second of each column marked, as they are printed."""
    if not rows:
        return rows
    columns = [_places(list(column)) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _places(column: list[Entry]) -> list[Entry]:
    values = sorted({entry.mean_text for entry in column if isinstance(entry, Figure)}, key=float, reverse=True)
    places = {text: place for place, text in enumerate(values[:2], start=1)} if len(values) > 1 else {}
    return [
        Figure(entry.mean, entry.sd, entry.mark, places.get(entry.mean_text, 0)) if isinstance(entry, Figure) else entry
        for entry in column
    ]
