"""The leaderboard as a picture: means over seeds, seeds, and intervals over test rows."""

from __future__ import annotations

from collections.abc import Mapping

from recbole_cdsr.benchmark.analysis import Analysis, DatasetAnalysis
from recbole_cdsr.benchmark.claims import role_of
from recbole_cdsr.benchmark.collect import Cell
from recbole_cdsr.benchmark.comparison import Comparison
from recbole_cdsr.benchmark.report.figures.drawn import Drawn
from recbole_cdsr.benchmark.report.figures.palette import Style
from recbole_cdsr.benchmark.report.figures.plot import Plot, Scale, ticks
from recbole_cdsr.benchmark.report.wording import metric_name, seeds_text, spread_text, value_text
from recbole_cdsr.benchmark.summary import Summary

_ROW = 42


def ordered(analysis: Analysis, dataset: DatasetAnalysis, candidates: str) -> dict[str, Summary]:
    """Finished labels with their overall figure, best first."""
    found = {
        label: analysis.figure(dataset.name, label, candidates, "overall", "overall") for label in dataset.finished
    }
    judged = {label: figure for label, figure in found.items() if figure is not None}
    return dict(sorted(judged.items(), key=lambda entry: -entry[1].mean))


def interval_plot(
    analysis: Analysis, dataset: DatasetAnalysis, comparison: Comparison, styles: Mapping[str, Style]
) -> Drawn:
    """Every finished label's overall figure among one candidate set, best first."""
    candidates, metric = comparison.candidates, analysis.main_metric(dataset.name)
    figures = ordered(analysis, dataset, candidates)
    seeds = {label: _of_seeds(dataset.finished[label], candidates, metric) for label in figures}
    tops = [_known_or(figure.high, figure.mean) for figure in figures.values()]
    values = ticks(max([*tops, *(value for own in seeds.values() for value in own)], default=0.0))
    scale = Scale(0, values[-1], 0, 100)
    name = f"{metric_name(metric)} over all test rows, candidates {candidates}"
    plot = Plot(_ROW * len(figures) + 8, name, right=14, left=6, hint="Point at or tab to a mark for its numbers.")
    plot.x_axis(values, scale)
    reference = comparison.reference.label
    if reference in figures:
        plot.line(scale(figures[reference].mean), 0, scale(figures[reference].mean), plot.height, "reference")
    rows = []
    for place, (label, figure) in enumerate(figures.items()):
        y = place * _ROW + 30
        capped = label in dataset.capped
        interval = (
            f"{value_text(figure.low)} to {value_text(figure.high)}" if figure.low == figure.low else "no interval"
        )
        mark = plot.mark(label, f"{spread_text(figure.mean, figure.sd)}, 95 % interval {interval}", styles[label])
        plot.rectangle(0, y - 27, 100, _ROW - 2, "hit", mark)
        plot.text(0, y - 12, label, css="label", parent=mark)
        beside = ["reference"] * (label == reference) + ["budget"] * capped + [value_text(figure.mean)]
        plot.text(100, y - 12, " · ".join(beside), "value", "end", parent=mark)
        if figure.low == figure.low:
            plot.line(scale(figure.low), y, scale(figure.high), y, "interval", mark)
        for value in seeds[label]:
            plot.line(scale(value), y - 5, scale(value), y + 5, "seed", mark)
        plot.marker(scale(figure.mean), y, styles[label], mark, "point hollow" if capped else "point")
        rows.append(
            [
                label,
                role_of(dataset.finished[label]) + (", reference" if label == reference else ""),
                seeds_text([cell for cell in dataset.cells if cell.label == label]),
                spread_text(figure.mean, figure.sd),
                interval,
                ", ".join(value_text(value) for value in seeds[label]),
            ]
        )
    return Drawn(
        name,
        plot.markup(),
        ["model", "kind", "seeds", "mean ± sd", "95 % interval", "by seed"],
        rows,
        "Marker: mean over seeds. Thick line: 95 % bootstrap interval over test rows. Strokes: single seeds. Dashed: "
        "the reference. Hollow: a cap on epochs ended training, which supports no claim.",
    )


def _of_seeds(cells: list[Cell], candidates: str, metric: str) -> list[float]:
    overall = [cell.result["test"][candidates]["overall"] for cell in cells if candidates in cell.candidates]
    return [figures[metric] for figures in overall if metric in figures]


def _known_or(value: float, other: float) -> float:
    return value if value == value else other
