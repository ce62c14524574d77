"""Groups of test rows as a heat map: which model is good for whom."""

from __future__ import annotations

from recbole_cdsr.benchmark.analysis import Analysis, DatasetAnalysis
from recbole_cdsr.benchmark.report.figures.drawn import Drawn, spread_text
from recbole_cdsr.benchmark.report.figures.intervals import ordered
from recbole_cdsr.benchmark.report.figures.plot import Plot
from recbole_cdsr.benchmark.report.tables.contents import budget_note, group_counts, group_name, metric_name

_ROW, _CELL, _HEAD = 48, 26, 84
# The deepest tint under text that must stay readable.
DEEPEST = 0.45


def group_heat_map(analysis: Analysis, dataset: DatasetAnalysis, candidates: str) -> Drawn | None:
    """Labels × groups, tinted by the share of the group's best; None where no group has rows."""
    groups = {name: count for name, count in group_counts(analysis.summary, dataset.name, candidates).items() if count}
    labels = list(ordered(analysis, dataset, candidates))
    found = {
        (label, name): figure
        for label in labels
        for name in groups
        if (figure := analysis.figure(dataset.name, label, candidates, "group", name)) is not None
    }
    if not found:
        return None
    metric = metric_name(analysis.main_metric)
    best = {name: max(found[label, name].mean for label in labels if (label, name) in found) for name in groups}
    width = 100 / len(groups)
    title = f"{metric} by group of test rows, candidates {candidates}"
    plot = Plot(_HEAD + _ROW * len(labels), title, right=34, below=0)
    for column, name in enumerate(groups):
        of, what = group_name(name)
        plot.text((column + 0.5) * width, _HEAD - 12, f"{of} {what}", "label small", shift=-6, turn=38)
    for place, label in enumerate(labels):
        top = _HEAD + place * _ROW
        plot.text(0, top + 12, label + budget_note(dataset, label), "label small")
        for column, name in enumerate(groups):
            figure = found.get((label, name))
            if figure is None:
                continue
            share = figure.mean / best[name] if best[name] else 0.0
            words = f"{label}, {' '.join(group_name(name))}"
            numbers = f"{spread_text(figure.mean, figure.sd)}, {share:.0%} of the best; n = {groups[name]:,}"
            mark = plot.mark(words, numbers)
            look = "tint best" if share == 1 else "tint"
            box = (column * width + 0.25, top + 18, width - 0.5, _CELL)
            plot.rectangle(*box, look, mark, opacity=DEEPEST * share**2)
            text = f"{figure.mean:.3f}".removeprefix("0")
            plot.text((column + 0.5) * width, top + 35, text, "inside", "middle", parent=mark)
    head = ["model", *(f"{' '.join(group_name(name))} (n = {count:,})" for name, count in groups.items())]
    rows = [
        [
            label,
            *(
                spread_text(found[label, name].mean, found[label, name].sd) if (label, name) in found else "–"
                for name in groups
            ),
        ]
        for label in labels
    ]
    return Drawn(
        title,
        plot.markup(),
        head,
        rows,
        "Darker: nearer to the best of the column, which has a frame. Groups without test rows are left out. Head "
        "targets hold the top fifth of training interactions; cold targets have none.",
    )
