"""The sentences below tables and figures: what marks rest on, what supports no claim, what is synthetic or missing."""

from __future__ import annotations

from collections.abc import Mapping

from recbole_cdsr.benchmark.analysis import Analysis, DatasetAnalysis
from recbole_cdsr.benchmark.claims import by_label
from recbole_cdsr.benchmark.collect import DONE, Cell
from recbole_cdsr.benchmark.comparison import BETTER, LEVEL, OVERALL, WORSE, Comparison
from recbole_cdsr.benchmark.overlap_study import OverlapStudy
from recbole_cdsr.benchmark.report.wording import counted, metric_name


def unfinished(cells: list[Cell]) -> list[Cell]:
    """Cells without figures."""
    return [cell for cell in cells if cell.state != DONE]


def comparison_notes(comparison: Comparison) -> list[str]:
    """What stands below the tests: how the reference was chosen, the family, and what supports no claim."""
    reference, notes = comparison.reference, []
    if reference.counted:
        weighed = ", ".join(f"{label} {score:.4f}" for label, score in reference.counted.items())
        notes.append(
            f"Counted as baselines (models of RecBole and the backbone SASRecBCE, without LLM features), with the mean "
            f"best_valid_score over seeds that chooses the reference: {weighed}."
        )
    notes += [f"Not counted as a baseline: {labels}: {why}." for why, labels in _together(reference.left_out)]
    if comparison.family:
        tested = list(dict.fromkeys(comparison.tests["label"]))
        domains = list(dict.fromkeys(name for name in comparison.tests["domain"] if name != OVERALL))
        family = f"{', '.join(tested)} × {', '.join(domains)} ({counted(comparison.family, 'test')})"
        notes.append(
            "Two-sided Wilcoxon signed-rank tests (Pratt) of NDCG@10 per test row, averaged over seeds. The family "
            f"that Holm corrects over: {family}; the difference over all rows is not part of it."
        )
    return notes + claim_notes(comparison)


def claim_notes(comparison: Comparison) -> list[str]:
    """What marks mean and rest on, and why others are missing."""
    reference, notes = comparison.reference, []
    if reference.label is None:
        notes.append(f"No tests: {reference.problem}.")
    else:
        notes.append(f"Reference: {reference.label}, the baseline that was best on validation.")
    if comparison.family:
        meanings = {BETTER: f"{BETTER} better than the reference", WORSE: f"{WORSE} worse than the reference"}
        used = [meaning for mark, meaning in meanings.items() if mark in set(comparison.tests["mark"])]
        how = f"two-sided Wilcoxon signed-rank test, Holm over {counted(comparison.family, 'test')}"
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


def capped_note(analysis: Analysis, study: OverlapStudy) -> list[str]:
    """The labels of a study that a cap on epochs ended at some ratio, in a sentence."""
    names = set(study.datasets.values())
    capped = dict.fromkeys(cell.label for cell in analysis.cells if cell.dataset in names and cell.budget)
    return [f"Budget, which supports no claim, at some ratio: {', '.join(capped)}."] if capped else []


def without_metric_note(analysis: Analysis, dataset: DatasetAnalysis, candidates: str) -> list[str]:
    """The labels that were judged, but not by the metric that figures show, in a sentence."""
    metric = analysis.main_metric(dataset.name)
    without = [
        label
        for label, cells in dataset.finished.items()
        if any(
            candidates in cell.candidates and metric not in cell.result["test"][candidates]["overall"] for cell in cells
        )
    ]
    named = metric_name(metric)
    return [f"Seeds without {named}, which figures and means leave out: {', '.join(without)}."] if without else []


def unfinished_note(cells: list[Cell]) -> list[str]:
    """The cells without figures, in a sentence."""
    named = [
        f"{label} seed {', '.join(str(cell.seed) for cell in own if cell.state == state)} ({state})"
        for label, own in by_label(unfinished(cells)).items()
        for state in dict.fromkeys(cell.state for cell in own)
    ]
    return [f"Cells without figures: {'; '.join(named)}."] if named else []
