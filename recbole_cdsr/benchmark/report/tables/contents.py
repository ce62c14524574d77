"""What the tables of a benchmark say, whatever format they are written in."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from recbole_cdsr.benchmark.analysis import Analysis, DatasetAnalysis
from recbole_cdsr.benchmark.collect import DONE, Cell
from recbole_cdsr.benchmark.comparison import BETTER, LEVEL, METRIC, OVERALL, WORSE, Comparison, by_label
from recbole_cdsr.benchmark.overlap_study import OverlapStudy
from recbole_cdsr.benchmark.report.tables.table import Entry, Figure, Table, with_places

GROUP_NAMES = {
    "overlapped": ("users", "overlapped"),
    "single_domain": ("users", "single-domain"),
    "len_1_5": ("history", "1–5"),
    "len_6_10": ("history", "6–10"),
    "len_11_20": ("history", "11–20"),
    "len_21_up": ("history", "21 and more"),
    "head": ("target", "head"),
    "tail": ("target", "tail"),
    "cold_target": ("target", "cold"),
}
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


def unfinished(cells: list[Cell]) -> list[Cell]:
    """Cells without figures."""
    return [cell for cell in cells if cell.state != DONE]


def comparison_notes(comparison: Comparison) -> list[str]:
    """What stands below the tests: how the reference was chosen, the family, and what supports no claim."""
    reference, notes = comparison.reference, []
    if reference.counted:
        counted = ", ".join(f"{label} {score:.4f}" for label, score in reference.counted.items())
        notes.append(
            f"Counted as baselines (models of RecBole and the backbone SASRecBCE, without LLM features), with the mean "
            f"best_valid_score over seeds that chooses the reference: {counted}."
        )
    notes += [f"Not counted as a baseline: {labels}: {why}." for why, labels in _together(reference.left_out)]
    if comparison.family:
        tested = list(dict.fromkeys(comparison.tests["label"]))
        domains = list(dict.fromkeys(name for name in comparison.tests["domain"] if name != OVERALL))
        family = f"{', '.join(tested)} × {', '.join(domains)} ({_count(comparison.family, 'test')})"
        notes.append(
            "Two-sided Wilcoxon signed-rank tests (Pratt) of NDCG@10 per test row, averaged over seeds. The family "
            f"that Holm corrects over: {family}; the difference over all rows is not part of it."
        )
    return notes + _claims(comparison)


def _claims(comparison: Comparison) -> list[str]:
    """What marks mean and rest on, and why others are missing."""
    reference, notes = comparison.reference, []
    if reference.label is None:
        notes.append(f"No tests: {reference.problem}.")
    else:
        notes.append(f"Reference: {reference.label}, the baseline that was best on validation.")
    if comparison.family:
        meanings = {BETTER: f"{BETTER} better than the reference", WORSE: f"{WORSE} worse than the reference"}
        used = [meaning for mark, meaning in meanings.items() if mark in set(comparison.tests["mark"])]
        how = f"two-sided Wilcoxon signed-rank test, Holm over {_count(comparison.family, 'test')}"
        if used:
            notes.append(f"{'; '.join(used)}: adjusted p ≤ {LEVEL} ({how}).")
        else:
            notes.append(f"No difference from the reference supports a claim at an adjusted p ≤ {LEVEL} ({how}).")
    notes += [f"No claim: {labels}: {why}." for why, labels in _together(comparison.no_claim)]
    return notes + [f"Not compared: {labels}: {why}." for why, labels in _together(comparison.not_compared)]


def _together(reasons: Mapping[str, str]) -> list[tuple[str, str]]:
    """Each reason with the labels it holds for."""
    found: dict[str, list[str]] = {}
    for label, why in reasons.items():
        found.setdefault(why, []).append(label)
    return [(why, ", ".join(labels)) for why, labels in found.items()]


def synthetic_note(*datasets: DatasetAnalysis) -> list[str]:
    """The sentence that goes with every figure on made-up data."""
    names = [dataset.name for dataset in datasets if dataset.synthetic]
    if not names:
        return []
    verb = "was" if len(names) == 1 else "were"
    return [f"SYNTHETIC DATA: {', '.join(names)} {verb} made by a program; figures on it say nothing about real users."]


def budget_note(dataset: DatasetAnalysis, label: str) -> str:
    """What follows a label that supports no claim because a cap on epochs ended one of its cells."""
    return " (budget)" if label in dataset.capped else ""


def capped_note(analysis: Analysis, study: OverlapStudy) -> list[str]:
    """The labels of a study that a cap on epochs ended at some ratio, in a sentence."""
    names = set(study.datasets.values())
    capped = dict.fromkeys(cell.label for cell in analysis.cells if cell.dataset in names and cell.budget)
    return [f"Budget, which supports no claim, at some ratio: {', '.join(capped)}."] if capped else []


def label_notes(cells: list[Cell]) -> str:
    """What stands beside a label: how many of its seeds are there, and whether a cap ended them."""
    done = [cell for cell in cells if cell.state == DONE]
    seeds = f"{len(done)}" if len(done) == len(cells) else f"{len(done)} of {len(cells)}"
    return seeds + (" (budget)" if any(cell.budget for cell in done) else "")


def result_table(analysis: Analysis, dataset: DatasetAnalysis, comparison: Comparison) -> Table:
    """Every label's figures by domain and overall, among one candidate set."""
    metrics = [metric for metric in MAIN_METRICS if metric in analysis.metrics] or analysis.metrics[:1]
    scopes = [("domain", name) for name in dataset.domains] + [("overall", "overall")]
    rows = []
    for label, cells in by_label(dataset.cells).items():
        row: list[Entry] = [_named(label, cells, comparison), label_notes(cells)]
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
        [*synthetic_note(dataset), *_claims(comparison), *_unfinished_note(dataset.cells)],
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
    metric = analysis.main_metric
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
    metric = analysis.main_metric
    names = set(study.datasets.values())
    labels = list(dict.fromkeys(cell.label for cell in analysis.cells if cell.dataset in names and cell.state == DONE))
    rows = [
        [
            label + (" (ratio does not apply)" if label in study.undiluted else ""),
            *(_figure(analysis, name, label, candidates, "overall", "overall") for name in study.datasets.values()),
        ]
        for label in labels
    ]
    synthetic = synthetic_note(*(each for each in analysis.datasets if each.name in names))
    return Table(
        f"overlap-{number}-{candidates}",
        f"{metric_name(metric)} by share of overlapped training users, candidates {candidates}",
        ["model"],
        [("overlapped training users", f"{ratio:.0%}") for ratio in study.datasets],
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


def group_name(name: str) -> tuple[str, str]:
    """What a group is of, and how it is called."""
    return GROUP_NAMES.get(name, ("group", name))


def metric_name(metric: str) -> str:
    """A metric as people write it: `NDCG@10`, `Hit@10`."""
    name, at, cut_off = metric.partition("@")
    return (name.capitalize() if name in ("hit", "recall", "precision") else name.upper()) + at + cut_off


def difference_text(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def p_text(p_value: float) -> str:
    """A p-value with two significant digits; a dash where nothing was tested."""
    if p_value != p_value:
        return "–"
    return f"{p_value:.2g}" if p_value >= 1e-4 else f"{p_value:.1e}"


def seconds_text(seconds: pd.Series) -> str:
    """Mean of some seconds, with one decimal below ten; a dash where nothing is known."""
    known = seconds.dropna()
    if not len(known):
        return "–"
    mean = float(known.mean())
    return f"{mean:,.1f}" if mean < 10 else f"{mean:,.0f}"


def devices(cells: list[Cell]) -> str:
    """What cells ran on."""
    return ", ".join(dict.fromkeys((cell.result.get("environment") or {}).get("device", "unknown") for cell in cells))


def _named(label: str, cells: list[Cell], comparison: Comparison) -> str:
    return f"{label} (reference)" if label == comparison.reference.label else label


def _figure(analysis: Analysis, *keys: str, mark: str = "") -> Figure | None:
    found = analysis.figure(*keys)
    return None if found is None else Figure(found.mean, found.sd, mark)


def _unfinished_note(cells: list[Cell]) -> list[str]:
    named = [
        f"{label} seed {', '.join(str(cell.seed) for cell in own if cell.state == state)} ({state})"
        for label, own in by_label(unfinished(cells)).items()
        for state in dict.fromkeys(cell.state for cell in own)
    ]
    return [f"Cells without figures: {'; '.join(named)}."] if named else []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
