"""Groups of test rows as a heat map: which model is good for whom."""

from __future__ import annotations

from recbole_cdsr.benchmark.analysis import Analysis, DatasetAnalysis
from recbole_cdsr.benchmark.report.figures.drawn import Drawn
from recbole_cdsr.benchmark.report.figures.intervals import ordered
from recbole_cdsr.benchmark.report.figures.plot import Plot
from recbole_cdsr.benchmark.report.tables.contents import group_counts
from recbole_cdsr.benchmark.report.wording import budget_note, group_name, metric_name, spread_text
from recbole_cdsr.benchmark.summary import Summary

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
    metric = metric_name(analysis.main_metric(dataset.name))
    best = {name: max(found[label, name].mean for label in labels if (label, name) in found) for name in groups}
    width = 100 / len(groups)
    title = f"{metric} by group of test rows, candidates {candidates}"
    plot = Plot(_HEAD + _ROW * len(labels), title, right=34, below=0)
    for column, name in enumerate(groups):
        of, what = group_name(name)
        plot.text((column + 0.5) * width, _HEAD - 12, f"{of} {what}", "label small", shift=-6, turn=38)
    for place, label in enumerate(labels):
        top = _HEAD + place * _ROW
        own = {name: found[label, name] for name in groups if (label, name) in found}
        words = {name: " ".join(group_name(name)) for name in own}
        led = [words[name] for name, figure in own.items() if _share(figure, best[name]) == 1]
        numbers = [f"{words[name]} {spread_text(figure.mean, figure.sd)}" for name, figure in own.items()]
        in_short = f"best of {len(led)} of {len(own)} groups"
        mark = plot.mark(label, in_short, all_numbers=f"{in_short}; {', '.join(numbers)}")
        plot.rectangle(0, top, 100, _ROW - 2, "hit", mark)
        plot.text(0, top + 12, label + budget_note(dataset, label), "label small", parent=mark)
        for column, name in enumerate(groups):
            if name not in own:
                continue
            share = _share(own[name], best[name])
            of_best = f"{share:.0%} of the best; n = {groups[name]:,}"
            cell = plot.titled(f"{words[name]}: {spread_text(own[name].mean, own[name].sd)}, {of_best}", mark)
            box = (column * width + 0.25, top + 18, width - 0.5, _CELL)
            plot.rectangle(*box, "tint best" if share == 1 else "tint", cell, opacity=DEEPEST * share**2)
            text = f"{own[name].mean:.3f}".removeprefix("0")
            plot.text((column + 0.5) * width, top + 35, text, "inside", "middle", parent=cell)
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


def _share(figure: Summary, best: float) -> float:
    """Of the best of a group, in [0, 1]; 0 where all are 0."""
    return figure.mean / best if best else 0.0
