"""What the tables of a benchmark say, whatever format they are written in."""

from __future__ import annotations

import pandas as pd

from recbole_cdsr.benchmark.analysis import Analysis, DatasetAnalysis
from recbole_cdsr.benchmark.claims import by_label
from recbole_cdsr.benchmark.collect import DONE, Cell
from recbole_cdsr.benchmark.comparison import METRIC, Comparison
from recbole_cdsr.benchmark.overlap_study import OverlapStudy, percent
from recbole_cdsr.benchmark.report.notes import (
    capped_note,
    claim_notes,
    comparison_notes,
    synthetic_note,
    unfinished,
    unfinished_note,
    without_metric_note,
)
from recbole_cdsr.benchmark.report.tables.table import Entry, Figure, Table, with_places
from recbole_cdsr.benchmark.report.wording import (
    budget_note,
    devices,
    difference_text,
    group_name,
    metric_name,
    p_text,
    seconds_text,
    seeds_text,
)

MAIN_METRICS = ("ndcg@10", "hit@10")


def all_tables(analysis: Analysis) -> list[Table]:
    """Every table of a benchmark, in the order of a report."""
    found = []
    for dataset in analysis.datasets:
        for comparison in dataset.comparisons.values():
            found.append(result_table(analysis, dataset, comparison))
            found.append(comparison_table(dataset, comparison))
            found.append(group_table(analysis, dataset, comparison.candidates))
        if dataset.finished:
            found.append(cost_table(analysis, dataset))
    for number, study in enumerate(analysis.studies, start=1):
        found += [overlap_table(analysis, study, number, each) for each in study_candidates(analysis, study)]
    if missing := unfinished(analysis.cells):
        found.append(unfinished_table(missing))
    return found


def study_candidates(analysis: Analysis, study: OverlapStudy) -> list[str]:
    """Candidate sets that datasets of a study were judged with."""
    named = {each.name: each for each in analysis.datasets}
    return list(dict.fromkeys(each for name in study.datasets.values() for each in named[name].comparisons))


def result_table(analysis: Analysis, dataset: DatasetAnalysis, comparison: Comparison) -> Table:
    """Every label's figures by domain and overall, among one candidate set."""
    computed = analysis.metrics.get(dataset.name, [])
    metrics = [metric for metric in MAIN_METRICS if metric in computed] or computed[:1]
    scopes = [("domain", name) for name in dataset.domains] + [("overall", "overall")]
    rows = []
    for label, cells in by_label(dataset.cells).items():
        row: list[Entry] = [_named(label, comparison), seeds_text(cells)]
        for scope, name in scopes:
            for metric in metrics:
                mark = comparison.mark(label, name) if scope == "domain" and metric == METRIC else ""
                keys = (dataset.name, label, comparison.candidates, scope, name, metric)
                row.append(_figure(analysis, *keys, mark=mark))
        rows.append(row)
    return Table(
        f"results-{dataset.name}-{comparison.candidates}",
        f"{dataset.name}, candidates {comparison.candidates}: mean ± standard deviation over seeds",
        ["model", "seeds"],
        [(name, metric_name(metric)) for _, name in scopes for metric in metrics],
        with_places(rows),
        [
            *synthetic_note(dataset),
            *claim_notes(comparison),
            *without_metric_note(analysis, dataset, comparison.candidates),
            *unfinished_note(dataset.cells),
        ],
    )


def comparison_table(dataset: DatasetAnalysis, comparison: Comparison) -> Table:
    """Every test against the reference, with the interval of the difference."""
    rows: list[list[Entry]] = [
        [
            test.label,
            test.domain,
            difference_text(test.difference),
            f"{difference_text(test.low)} to {difference_text(test.high)}",
            p_text(test.p_value),
            p_text(test.adjusted) + test.mark,
            f"{test.differing:,.0f} of {test.rows:,.0f}",
        ]
        for test in comparison.tests.itertuples()
    ]
    against = comparison.reference.label or "no reference"
    return Table(
        f"tests-{dataset.name}-{comparison.candidates}",
        f"{dataset.name}, candidates {comparison.candidates}: difference in NDCG@10 to {against}",
        ["model", "test rows", "difference", "95 % interval", "p", "Holm-adjusted p", "rows that differ"],
        [],
        rows,
        synthetic_note(dataset) + comparison_notes(comparison),
    )


def group_table(analysis: Analysis, dataset: DatasetAnalysis, candidates: str) -> Table:
    """Every label's main metric by group of test rows, with the groups' counts."""
    metric = analysis.main_metric(dataset.name)
    groups = group_counts(analysis.summary, dataset.name, candidates)
    rows = []
    for label in dataset.finished:
        figures = [_figure(analysis, dataset.name, label, candidates, "group", name) for name in groups]
        rows.append([label + budget_note(dataset, label), *figures])
    return Table(
        f"groups-{dataset.name}-{candidates}",
        f"{dataset.name}, candidates {candidates}: {metric_name(metric)} by group of test rows",
        ["model"],
        [(group_name(name)[0], f"{group_name(name)[1]} (n = {count:,})") for name, count in groups.items()],
        with_places(rows),
        [
            *synthetic_note(dataset),
            "n: test rows in the group. Head targets hold the top fifth of training interactions, "
            "cold targets have none.",
        ],
    )


def cost_table(analysis: Analysis, dataset: DatasetAnalysis) -> Table:
    """What training and judging took, and where it ended."""
    frame = analysis.cells_frame
    rows: list[list[Entry]] = []
    for label, cells in dataset.finished.items():
        own = frame[(frame["dataset"] == dataset.name) & (frame["label"] == label) & (frame["state"] == DONE)]
        rows.append(
            [
                label,
                "; ".join(str(each) for each in own["best_epoch"]),
                "; ".join(f"{cell.result['epochs']}{' (budget)' if cell.budget else ''}" for cell in cells),
                *(seconds_text(own[f"{part}_seconds"]) for part in ("features", "training", "evaluation", "total")),
                devices(cells),
            ]
        )
    return Table(
        f"cost-{dataset.name}",
        f"{dataset.name}: what it took, by seed and in seconds (mean over seeds)",
        ["model", "best epoch", "epochs", "features", "training", "evaluation", "total", "device"],
        [],
        rows,
        ["Wall-clock seconds; cells that ran beside others take longer. budget: the cap on epochs ended training."],
    )


def overlap_table(analysis: Analysis, study: OverlapStudy, number: int, candidates: str) -> Table:
    """Every label's main metric by overlap ratio."""
    names = study.datasets.values()
    metric = analysis.main_metric(*names)
    labels = list(dict.fromkeys(cell.label for cell in analysis.cells if cell.dataset in names and cell.state == DONE))
    rows = [
        [
            label + (" (ratio does not apply)" if label in study.undiluted else ""),
            *(_figure(analysis, name, label, candidates, "overall", "overall", metric) for name in names),
        ]
        for label in labels
    ]
    synthetic = synthetic_note(*(each for each in analysis.datasets if each.name in names))
    return Table(
        f"overlap-{number}-{candidates}",
        f"{metric_name(metric)} by share of overlapped training users, candidates {candidates}",
        ["model"],
        [("overlapped training users", percent(ratio)) for ratio in study.datasets],
        with_places(rows),
        [
            *synthetic,
            f"Datasets: {', '.join(study.datasets.values())}. All are judged on the same rows and candidates.",
            *capped_note(analysis, study),
        ],
    )


def unfinished_table(cells: list[Cell]) -> Table:
    """Cells without figures, with the reason."""
    return Table(
        "unfinished",
        "cells without figures",
        ["dataset", "model", "seed", "state", "reason", "attempts"],
        [],
        [[cell.dataset, cell.label, str(cell.seed), cell.state, cell.reason, str(cell.attempts)] for cell in cells],
    )


def group_counts(summary: pd.DataFrame, dataset: str, candidates: str) -> dict[str, int]:
    """Groups of a dataset in their order, with the test rows in each."""
    own = summary[
        (summary["dataset"] == dataset) & (summary["candidates"] == candidates) & (summary["scope"] == "group")
    ]
    return {name: int(count) for name, count in own.groupby("name", sort=False)["count"].max().items()}


def _named(label: str, comparison: Comparison) -> str:
    return f"{label} (reference)" if label == comparison.reference.label else label


def _figure(analysis: Analysis, *keys: str, mark: str = "") -> Figure | None:
    found = analysis.figure(*keys)
    return None if found is None else Figure(found.mean, found.sd, mark)
