"""How a label looks in every figure: a colour, a marker and a dash, so that none of them has to do it alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Paths around the origin; which colours there are says page.css.
MARKERS = {
    "circle": "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0Z",
    "square": "M-4.5,-4.5h9v9h-9Z",
    "triangle": "M0,-5.5L5.5,4.5H-5.5Z",
    "diamond": "M0,-6L6,0L0,6L-6,0Z",
    "cross": "M-5,-2H-2V-5H2V-2H5V2H2V5H-2V2H-5Z",
}
N_COLOURS = 8
_DASHES = ("", "7 3", "2 3")


@dataclass(frozen=True)
class Style:
    """The look of a label.

    Attributes
    ----------
    css : str
        Class that sets `--c`, the colour.
    marker : str
        A key of `MARKERS`.
    dash : str
        `stroke-dasharray`; empty for a solid line.
    """

    css: str
    marker: str
    dash: str


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """A style for each label, by its place; colour and marker together are unique for the first forty."""
    markers = list(MARKERS)
    return {
        label: Style(
            f"c{place % N_COLOURS}",
            markers[place % len(markers)],
            _DASHES[place // N_COLOURS % len(_DASHES)],
        )
        for place, label in enumerate(labels)
    }
