"""What training cost against how good it became."""

from __future__ import annotations

from collections.abc import Mapping

from recbole_cdsr.benchmark.analysis import Analysis, DatasetAnalysis
from recbole_cdsr.benchmark.report.figures.drawn import Drawn
from recbole_cdsr.benchmark.report.figures.intervals import ordered
from recbole_cdsr.benchmark.report.figures.palette import Style
from recbole_cdsr.benchmark.report.figures.plot import Plot, Scale, apart, ticks
from recbole_cdsr.benchmark.report.wording import devices, metric_name, spread_text, value_text

_HEIGHT = 260


def cost_plot(
    analysis: Analysis, dataset: DatasetAnalysis, candidates: str, styles: Mapping[str, Style]
) -> Drawn | None:
    """Mean seconds of training (logarithmic) and the overall figure of each label; None where no time is known."""
    frame = analysis.cells_frame
    own = frame[(frame["dataset"] == dataset.name) & (frame["state"] == "done")]
    seconds = own.groupby("label")["training_seconds"].mean().dropna()
    figures = {label: figure for label, figure in ordered(analysis, dataset, candidates).items() if label in seconds}
    if not figures:
        return None
    times = {label: max(float(seconds[label]), 0.01) for label in figures}
    decades = [10.0**power for power in range(-2, 9)]
    low = max(each for each in decades if each <= min(times.values()))
    high = min(each for each in decades if each >= max(times.values()) and each > low)
    values = ticks(max(figure.mean for figure in figures.values()), 4)
    x, y = Scale(low, high, 0, 100, logarithmic=True), Scale(0, values[-1], _HEIGHT, 0)
    metric = metric_name(analysis.main_metric(dataset.name))
    title = f"{metric} against seconds of training, candidates {candidates}"
    plot = Plot(_HEIGHT, title, left=38, right=24)
    plot.x_axis([each for each in decades if low <= each <= high], x, lambda value: f"{value:,g}")
    plot.y_axis(values, y)
    heights = dict(zip(figures, apart([y(figure.mean) for figure in figures.values()], 15), strict=True))
    rows = []
    for label, figure in figures.items():
        place = (x(times[label]), y(figure.mean))
        words = f"{value_text(figure.mean)} after {times[label]:,.1f} s of training"
        mark = plot.mark(label, words, styles[label])
        plot.marker(*place, styles[label], mark, "point hollow" if label in dataset.capped else "point")
        plot.label(*place, heights[label], label, "left" if place[0] > 50 else "right", mark)
        rows.append(
            [label, f"{times[label]:,.1f}", spread_text(figure.mean, figure.sd), devices(dataset.finished[label])]
        )
    return Drawn(
        title,
        plot.markup(),
        ["model", "seconds of training, mean over seeds", f"{metric}, mean ± sd", "device"],
        rows,
        "Wall-clock seconds of training without evaluation; cells that ran beside others took longer than alone. "
        "Hollow: budget.",
    )
