"""Validation scores by epoch."""

from __future__ import annotations

from collections.abc import Mapping

from recbole_cdsr.benchmark.analysis import DatasetAnalysis
from recbole_cdsr.benchmark.collect import Cell
from recbole_cdsr.benchmark.report.figures.drawn import Drawn
from recbole_cdsr.benchmark.report.figures.palette import Style
from recbole_cdsr.benchmark.report.figures.plot import Plot, Scale, stretched_points, ticks
from recbole_cdsr.benchmark.report.wording import value_text

_HEIGHT = 130


def learning_curves(
    dataset: DatasetAnalysis, styles: Mapping[str, Style], identity: str
) -> tuple[list[str], list[Drawn], list[str]]:
    """A panel per label: its seeds in its colour, all others behind them in grey.

    Parameters
    ----------
    dataset
        Its finished cells are drawn.
    styles
        By label.
    identity
        Of the lines in grey, unique on the page.

    Returns
    -------
    tuple
        The points of every line in grey (which the page draws once under `identity`), the panels, and the labels whose
        result files hold no validation scores.
    """
    known = {label: [cell for cell in cells if _scores(cell)] for label, cells in dataset.finished.items()}
    without = [label for label, cells in known.items() if not cells]
    known = {label: cells for label, cells in known.items() if cells}
    if not known:
        return [], [], without
    everything = [point for cells in known.values() for cell in cells for point in _scores(cell)]
    epochs, values = ticks(max(max(epoch for epoch, _ in everything), 1), 4), ticks(max(s for _, s in everything), 3)
    x, y = Scale(0, epochs[-1], 0, 100), Scale(0, values[-1], _HEIGHT, 0)
    lines = {
        label: [[(x(epoch), y(score)) for epoch, score in _scores(cell)] for cell in cells]
        for label, cells in known.items()
    }
    panels = []
    for label, cells in known.items():
        plot = Plot(_HEIGHT, f"{label}: validation score by epoch", left=38, right=14)
        plot.x_axis(epochs, x)
        plot.y_axis(values, y)
        plot.reuse(identity)
        rows = []
        for cell, points in zip(cells, lines[label], strict=True):
            scores = _scores(cell)
            epoch, best = max(scores, key=lambda entry: entry[1])
            end = ", ended by the cap on epochs (budget)" if cell.budget else ""
            words = f"best {value_text(best)} at epoch {epoch} of {cell.result['epochs']}{end}"
            mark = plot.mark(f"{label}, seed {cell.seed}", words, styles[label])
            plot.curve(points, "curve", mark)
            plot.marker(x(epoch), y(best), styles[label], mark, "point hollow" if cell.budget else "point")
            listed = ", ".join(f"{each}: {value_text(score)}" for each, score in scores)
            rows.append([f"seed {cell.seed}", words, listed])
        panels.append(Drawn(label, plot.markup(), ["run", "best", "epoch: score"], rows))
    grey = [stretched_points(points) for own in lines.values() for points in own]
    return grey, panels, without


def _scores(cell: Cell) -> list[tuple[int, float]]:
    scores = cell.result.get("valid_scores") or []
    return [(each["epoch"], each["score"]) for each in scores if each["score"] is not None]
