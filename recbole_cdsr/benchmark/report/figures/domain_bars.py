"""Bars by domain."""

from __future__ import annotations

from collections.abc import Mapping

from recbole_cdsr.benchmark.analysis import Analysis, DatasetAnalysis
from recbole_cdsr.benchmark.comparison import Comparison
from recbole_cdsr.benchmark.report.figures.drawn import Drawn
from recbole_cdsr.benchmark.report.figures.intervals import ordered
from recbole_cdsr.benchmark.report.figures.palette import Style
from recbole_cdsr.benchmark.report.figures.plot import Plot, Scale, ticks
from recbole_cdsr.benchmark.report.wording import metric_name, spread_text, value_text

_ROW = 35


def domain_bars(
    analysis: Analysis, dataset: DatasetAnalysis, comparison: Comparison, styles: Mapping[str, Style]
) -> list[Drawn]:
    """A figure per domain with the labels in the order of the leaderboard; all domains share a scale."""
    candidates, metric = comparison.candidates, metric_name(analysis.main_metric(dataset.name))
    labels = list(ordered(analysis, dataset, candidates))
    found = {
        domain: {
            label: figure
            for label in labels
            if (figure := analysis.figure(dataset.name, label, candidates, "domain", domain)) is not None
        }
        for domain in dataset.domains
    }
    tops = [_top(figure.mean, figure.sd) for figures in found.values() for figure in figures.values()]
    values = ticks(max(tops, default=0.0), most=4)
    scale = Scale(0, values[-1], 0, 100)
    drawn = []
    for domain, figures in found.items():
        if not figures:
            continue
        count = next(iter(figures.values())).count
        name = f"{domain}: {metric}, candidates {candidates}"
        plot = Plot(_ROW * len(figures) + 6, name, left=6, right=14)
        plot.x_axis(values, scale)
        rows = []
        for place, (label, figure) in enumerate(figures.items()):
            y, star = place * _ROW + 18, comparison.mark(label, domain)
            mark = plot.mark(label, f"{spread_text(figure.mean, figure.sd)}{star}", styles[label])
            plot.rectangle(0, y - 17, 100, _ROW - 2, "hit", mark)
            plot.text(0, y - 4, label, css="label small", parent=mark)
            plot.text(100, y - 4, value_text(figure.mean) + star, "value small", "end", parent=mark)
            plot.rectangle(0, y + 2, scale(figure.mean), 9, "bar hollow" if label in dataset.capped else "bar", mark)
            if figure.sd == figure.sd:
                low, high = max(0.0, figure.mean - figure.sd), figure.mean + figure.sd
                plot.line(scale(low), y + 6.5, scale(high), y + 6.5, "whisker", mark)
            rows.append([label, spread_text(figure.mean, figure.sd) + star, str(figure.seeds)])
        heading = f"{domain}, {count:,} test rows"
        drawn.append(Drawn(heading, plot.markup(), ["model", f"{metric}, mean ± sd", "seeds"], rows))
    return drawn


def _top(mean: float, sd: float) -> float:
    return mean + (sd if sd == sd else 0.0)
