"""SVG that is as wide as the page allows: x in per cent of the box, y in pixels, text at the size of text.

An SVG scaled as a whole would have letters of a third of their size on a phone. Here the box is laid out by CSS,
positions along x are percentages, and only lines that are drawn through points are stretched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from xml.etree import ElementTree

from markupsafe import Markup

from recbole_cdsr.benchmark.report.figures.palette import Style

# Height of the strip above a plot in which the numbers of the mark in focus appear.
STRIP = 40
_STRETCHED_WIDTH = 1000


@dataclass(frozen=True)
class Scale:
    """From values to places: `low` at `start`, `high` at `stop`."""

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.stop - self.start)


def ticks(high: float, most: int = 5) -> list[float]:
    """Round values from 0 to `high` or just above, in steps of 1, 2 or 5 times a power of ten; at most `most` steps."""
    if not high > 0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(high / most))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * most >= high * (1 - 1e-9))
    steps = math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(steps + 1)]


def number_text(value: float) -> str:
    """A tick's value without needless zeros."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


class Plot:
    """A drawing of a fixed height.

    Parameters
    ----------
    height : int
        Pixels of the plotting area.
    label : str
        What assistive technology calls it.
    left, right, below : int
        Pixels beside and below the area, for axes and labels.
    hint : str
        Faint text in the strip above, until a mark has the focus.
    """

    def __init__(self, height: int, label: str, *, left: int = 0, right: int = 0, below: int = 26, hint: str = ""):
        self.height, self._left = height, left
        box = f"--left:{left}px;--right:{right}px;--below:{below}px"
        attributes = {"class": "plot", "role": "group", "aria-label": label, "height": str(height), "style": box}
        self.root = ElementTree.Element("svg", attributes)
        if hint:
            self.text(0, -12, hint, css="hint", shift=-left)

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str, parent: ElementTree.Element | None = None):
        """A straight line."""
        places = {"x1": _percent(x1), "y1": _px(y1), "x2": _percent(x2), "y2": _px(y2)}
        _put(self._in(parent), "line", {"class": css, **places})

    def rectangle(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        css: str,
        parent: ElementTree.Element | None = None,
        opacity: float | None = None,
    ):
        """A bar or a cell."""
        box = {"x": _percent(x), "y": _px(y), "width": _percent(width), "height": _px(height)}
        look = {} if opacity is None else {"fill-opacity": f"{opacity:.2f}"}
        _put(self._in(parent), "rect", {"class": css, **box, **look})

    def text(
        self,
        x: float,
        y: float,
        text: str,
        css: str = "",
        anchor: str = "start",
        shift: float = 0,
        turn: int = 0,
        parent: ElementTree.Element | None = None,
    ):
        """Text at `x` per cent and `shift` pixels, its baseline at `y`; `turn` degrees, counter-clockwise."""
        anchoring = {} if anchor == "start" else {"text-anchor": anchor}
        classes = {"class": css} if css else {}
        if shift or turn:  # a nested box moves by per cent, what is in it by pixels
            box = _put(self._in(parent), "svg", {"x": _percent(x), "y": _px(y)})
            move = f"rotate({-turn})" if turn else ""
            placed = {"x": _px(shift), **({"transform": move} if move else {})}
            _put(box, "text", {**classes, **anchoring, **placed}, text)
        else:
            _put(self._in(parent), "text", {**classes, **anchoring, "x": _percent(x), "y": _px(y)}, text)

    def label(self, x: float, y: float, height: float, text: str, side: str, parent: ElementTree.Element):
        """The name of a point, beside it at another `height`, with a line to it where that is not its own."""
        sign, anchor = (1, "start") if side == "right" else (-1, "end")
        box = _put(parent, "svg", {"x": _percent(x), "y": _px(height)})
        if abs(height - y) > 3:
            _put(
                box,
                "line",
                {"class": "leader", "x1": _px(5 * sign), "y1": _px(y - height), "x2": _px(11 * sign), "y2": "0"},
            )
        shift = {"x": _px(13 * sign), "y": "4", "text-anchor": anchor}
        _put(box, "text", {"class": "label small", **shift}, text)

    def mark(self, name: str, numbers: str, style: Style | None = None, all_numbers: str = "") -> ElementTree.Element:
        """A group that takes the focus, and shows its name and numbers in the strip above while it has it.

        Assistive technology is told `all_numbers` where there are more than the strip has room for.
        """
        classes = f"mark {style.css}" if style else "mark"
        said = {"class": classes, "tabindex": "0", "role": "img", "aria-label": f"{name}: {all_numbers or numbers}"}
        group = _put(self.root, "g", said)
        self.text(0, -24, name, css="tip name", shift=-self._left, parent=group)
        self.text(0, -8, numbers, css="tip", shift=-self._left, parent=group)
        return group

    def titled(self, title: str, parent: ElementTree.Element) -> ElementTree.Element:
        """A part of a mark with a title of its own, which a pointer brings up."""
        group = _put(parent, "g", {})
        _put(group, "title", {}, title)
        return group

    def marker(self, x: float, y: float, style: Style, parent: ElementTree.Element, css: str = "point"):
        """The marker of a style, centred."""
        _put(parent, "use", {"class": css, "href": f"#{style.marker}", "x": _percent(x), "y": _px(y)})

    def curve(self, points: Sequence[tuple[float, float]], css: str, parent: ElementTree.Element, dash: str = ""):
        """A line through points (per cent, pixels)."""
        look = {"stroke-dasharray": dash} if dash else {}
        _put(self.stretched(parent), "polyline", {"class": css, "points": stretched_points(points), **look})

    def stretched(self, parent: ElementTree.Element | None = None) -> ElementTree.Element:
        """A box whose content is stretched along x: what `stretched_points` is drawn in."""
        box = f"0 0 {_STRETCHED_WIDTH} {self.height}"
        size = {"viewBox": box, "preserveAspectRatio": "none", "width": "100%", "height": str(self.height)}
        return _put(self._in(parent), "svg", size)

    def reuse(self, identity: str):
        """Draw, stretched, what stands elsewhere on the page."""
        _put(self.stretched(), "use", {"href": f"#{identity}"})

    def x_axis(self, values: Sequence[float], scale: Scale, text=number_text):
        """Grid lines and numbers below."""
        for value in values:
            self.line(scale(value), 0, scale(value), self.height, "grid")
            self.text(scale(value), self.height + 16, text(value), css="tick", anchor="middle")

    def y_axis(self, values: Sequence[float], scale: Scale):
        """Grid lines and numbers at the left."""
        for value in values:
            self.line(0, scale(value), 100, scale(value), "grid")
            self.text(0, scale(value) + 4, number_text(value), css="tick", anchor="end", shift=-7)

    def markup(self) -> Markup:
        """The SVG, with everything in it escaped."""
        return Markup(ElementTree.tostring(self.root, encoding="unicode"))

    def _in(self, parent: ElementTree.Element | None) -> ElementTree.Element:
        return self.root if parent is None else parent


def stretched_points(points: Sequence[tuple[float, float]]) -> str:
    """Points (per cent, pixels) as `polyline` has them, in a box that is stretched along x."""
    return " ".join(f"{x * _STRETCHED_WIDTH / 100:.0f},{y:.1f}" for x, y in points)


def apart(places: Sequence[float], distance: float) -> list[float]:
    """The places moved as little as needed for neighbours to be `distance` apart, in the order given."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    # Pool neighbours that would overlap into blocks around their mean (pool adjacent violators).
    blocks: list[list[float]] = []  # sum of (place − rank in block × distance), size
    for rank, index in enumerate(order):
        blocks.append([places[index] - rank * distance, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, size = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += size
    moved = [0.0] * len(places)
    ranks = count()
    for total, size in blocks:
        for _ in range(int(size)):
            rank = next(ranks)
            moved[order[rank]] = total / size + rank * distance
    return moved


def _put(parent: ElementTree.Element, tag: str, attributes: dict[str, str], text: str | None = None):
    element = ElementTree.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _percent(value: float) -> str:
    return f"{round(value, 2):g}%"


def _px(value: float) -> str:
    return f"{round(value, 1):g}"
