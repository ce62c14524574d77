"""A figure with its numbers as text."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Attributes
    ----------
    heading : str
        A few words above it.
    svg : Markup
        The drawing.
    head : list[str]
        Headings of its numbers; the first column names the row.
    rows : list[list[str]]
        Its numbers.
    note : str
        A sentence below it.
    """

    heading: str
    svg: Markup
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""
