"""The overlap dilemma: a curve per model over the share of overlapped training users."""

from __future__ import annotations

from collections.abc import Mapping

from recbole_cdsr.benchmark.analysis import Analysis
from recbole_cdsr.benchmark.overlap_study import OverlapStudy, percent
from recbole_cdsr.benchmark.report.figures.drawn import Drawn
from recbole_cdsr.benchmark.report.figures.palette import Style
from recbole_cdsr.benchmark.report.figures.plot import Plot, Scale, apart, ticks
from recbole_cdsr.benchmark.report.notes import capped_note
from recbole_cdsr.benchmark.report.wording import group_name, metric_name, spread_text
from recbole_cdsr.benchmark.summary import Summary

_HEIGHT = 240
ROWS = (("overall", "overall"), ("group", "overlapped"), ("group", "single_domain"))


def overlap_curves(
    analysis: Analysis, study: OverlapStudy, candidates: str, styles: Mapping[str, Style]
) -> list[Drawn]:
    """All test rows, those of overlapped users and those of single-domain users, each as a figure with one scale."""
    main = analysis.main_metric(*study.datasets.values())
    figures = {rows: _figures(analysis, study, candidates, *rows, main) for rows in ROWS}
    figures = {rows: found for rows, found in figures.items() if found}
    if not figures:
        return []
    top = max(figure.mean for found in figures.values() for own in found.values() for figure in own.values())
    values = ticks(top, 4)
    ratios = list(study.datasets)
    x, y = Scale(0, 1, 0, 100), Scale(0, values[-1], _HEIGHT, 0)
    metric = metric_name(main)
    note = " ".join(
        ["Across: share of the overlapped training users that are left overlapped.", *capped_note(analysis, study)]
    )
    drawn = []
    for (scope, name), found in figures.items():
        of = "all test rows" if scope == "overall" else f"test rows of {group_name(name)[1]} users"
        plot = Plot(_HEIGHT, f"{metric} by share of overlapped training users, {of}", left=38, right=118)
        plot.x_axis(sorted({0.0, *ratios}), x, percent)
        plot.y_axis(values, y)
        last = {label: own[max(own)].mean for label, own in found.items()}
        heights = dict(zip(last, apart([y(value) for value in last.values()], 15), strict=True))
        rows = []
        for label, own in found.items():
            diluted = label not in study.undiluted
            words = ", ".join(f"{percent(ratio)}: {figure.mean:.4f}" for ratio, figure in own.items())
            said = label if diluted else f"{label} (ratio does not apply)"
            mark = plot.mark(said, words, styles[label])
            points = [(x(ratio), y(figure.mean)) for ratio, figure in own.items()]
            plot.curve(points, "curve" if diluted else "curve faint", mark, styles[label].dash)
            for point in points:
                plot.marker(*point, styles[label], mark, "point" if diluted else "point hollow")
            plot.label(100, y(last[label]), heights[label], label, "right", mark)
            rows.append([said, *(spread_text(own[r].mean, own[r].sd) if r in own else "–" for r in ratios)])
        drawn.append(Drawn(f"{metric}, {of}", plot.markup(), ["model", *map(percent, ratios)], rows, note))
    return drawn


def _figures(
    analysis: Analysis, study: OverlapStudy, candidates: str, scope: str, name: str, metric: str
) -> dict[str, dict[float, Summary]]:
    """By label and ratio; labels without any are left out."""
    found = {
        label: {
            ratio: figure
            for ratio, dataset in study.datasets.items()
            if (figure := analysis.figure(dataset, label, candidates, scope, name, metric)) is not None
        }
        for label in analysis.labels
    }
    return {label: own for label, own in found.items() if own}
