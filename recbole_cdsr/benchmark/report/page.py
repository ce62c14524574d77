"""What the HTML page of a report says, put together for its template."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recbole_cdsr.benchmark.analysis import Analysis, DatasetAnalysis
from recbole_cdsr.benchmark.claims import by_label
from recbole_cdsr.benchmark.collect import DONE, NOT_APPLICABLE, printable
from recbole_cdsr.benchmark.comparison import BETTER, WORSE, Comparison
from recbole_cdsr.benchmark.report import facts
from recbole_cdsr.benchmark.report.figures.cost_plot import cost_plot
from recbole_cdsr.benchmark.report.figures.domain_bars import domain_bars
from recbole_cdsr.benchmark.report.figures.heat_map import group_heat_map
from recbole_cdsr.benchmark.report.figures.intervals import interval_plot, ordered
from recbole_cdsr.benchmark.report.figures.learning_curves import learning_curves
from recbole_cdsr.benchmark.report.figures.overlap_curves import overlap_curves
from recbole_cdsr.benchmark.report.figures.palette import MARKERS, Style, styles
from recbole_cdsr.benchmark.report.tables.contents import (
    comparison_table,
    cost_table,
    overlap_table,
    result_table,
    study_candidates,
)
from recbole_cdsr.benchmark.report.tables.table import Figure
from recbole_cdsr.benchmark.report.wording import listed, metric_name, spread_text


def page(analysis: Analysis, title: str) -> str:
    """The whole page.

    Parameters
    ----------
    analysis
        Of the benchmark.
    title
        Its name.

    Returns
    -------
    str
        HTML that needs nothing beside itself. Whatever stands in files is escaped.
    """
    looks = styles(analysis.labels)
    datasets = [_dataset(analysis, each, looks, place) for place, each in enumerate(analysis.datasets)]
    environment = Environment(
        loader=PackageLoader("recbole_cdsr.benchmark.report", "page_files"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,  # not Markup
    )
    environment.filters["number"] = facts.number_text
    environment.tests["figure"] = lambda entry: isinstance(entry, Figure)
    style = resources.files("recbole_cdsr.benchmark.report").joinpath("page_files/page.css").read_text(encoding="utf-8")
    finished = [cell for cell in analysis.cells if cell.state in (DONE, NOT_APPLICABLE)]
    dates = sorted({cell.result["date"] for cell in finished if cell.result.get("date")})
    return environment.get_template("page.html").render(
        title=title,
        style=Markup(style),
        markers=MARKERS,
        synthetic=[each.name for each in analysis.datasets if each.synthetic],
        real=[each.name for each in analysis.datasets if not each.synthetic],
        n_done=len(finished),
        n_cells=len(analysis.cells),
        labels=analysis.labels,
        seeds=sorted({cell.seed for cell in analysis.cells}),
        dates=f"{dates[0]} to {dates[-1]}" if len(dates) > 1 else "".join(dates),
        datasets=datasets,
        studies=_studies(analysis, looks),
        states=facts.states(analysis),
        cards=facts.cards(analysis),
        features=facts.features(analysis),
        makers=facts.makers(analysis),
        feature_headline=facts.feature_headline(analysis),
        environments=facts.environments(analysis),
        commands=facts.commands(analysis),
    )


def _dataset(analysis: Analysis, dataset: DatasetAnalysis, looks: Mapping[str, Style], place: int) -> dict[str, Any]:
    identity = f"curves-{place}"
    grey, panels, without = learning_curves(dataset, looks, identity) if dataset.finished else ([], [], [])
    first = next(iter(dataset.comparisons), None)
    compared = list(dataset.comparisons.values())
    heat_maps = [group_heat_map(analysis, dataset, candidates) for candidates in dataset.comparisons]
    return {
        "id": f"dataset-{place}",
        "name": dataset.name,
        "synthetic": dataset.synthetic,
        "short": [(each.candidates, _in_short(analysis, dataset, each)) for each in compared],
        "intervals": [interval_plot(analysis, dataset, each, looks) for each in compared],
        "results": [result_table(analysis, dataset, each) for each in compared],
        "comparisons": [comparison_table(dataset, each) for each in compared],
        "bars": [(each.candidates, domain_bars(analysis, dataset, each, looks)) for each in compared],
        "heat_maps": [drawn for drawn in heat_maps if drawn is not None],
        "curves": {"id": identity, "grey": grey, "panels": panels, "without": without},
        "selected_by": _selected_by(dataset),
        "cost": cost_plot(analysis, dataset, first, looks) if first else None,
        "cost_table": cost_table(analysis, dataset) if first else None,
    }


def _studies(analysis: Analysis, looks: Mapping[str, Style]) -> list[dict[str, Any]]:
    synthetic = {each.name for each in analysis.datasets if each.synthetic}
    return [
        {
            "datasets": list(study.datasets.values()),
            "synthetic": bool(synthetic.intersection(study.datasets.values())),
            "undiluted": sorted(study.undiluted),
            "sets": [
                {
                    "candidates": candidates,
                    "figures": overlap_curves(analysis, study, candidates, looks),
                    "table": overlap_table(analysis, study, number, candidates),
                }
                for candidates in study_candidates(analysis, study)
            ],
        }
        for number, study in enumerate(analysis.studies, start=1)
    ]


def _in_short(analysis: Analysis, dataset: DatasetAnalysis, comparison: Comparison) -> list[str]:
    """The findings of one comparison, a sentence each."""
    found = []
    best = ordered(analysis, dataset, comparison.candidates)
    if best:
        label, figure = next(iter(best.items()))
        capped = any(cell.budget for cell in dataset.finished[label])
        end = " (budget: supports no claim)" if capped else ""
        metric = metric_name(analysis.main_metric(dataset.name))
        found.append(f"Highest {metric} on test: {label}, {spread_text(figure.mean, figure.sd)}{end}.")
    if comparison.reference.label is None:
        return [*found, f"No tests: {comparison.reference.problem}."]
    found.append(f"Reference, the best baseline on validation: {comparison.reference.label}.")
    for mark, word in ((BETTER, "better"), (WORSE, "worse")):
        marked = comparison.tests[comparison.tests["mark"] == mark]
        for label, rows in marked.groupby("label", sort=False):
            found.append(f"{label} is significantly {word} in {listed(rows['domain'].tolist())}.")
    if (comparison.tests["mark"] == "").all():
        found.append("No difference from it supports a claim.")
    if comparison.no_claim:
        found.append(f"Not fit for a claim: {', '.join(comparison.no_claim)}; see the notes below the tests.")
    if comparison.not_compared:
        found.append(f"Not compared: {', '.join(comparison.not_compared)}.")
    return found


def _selected_by(dataset: DatasetAnalysis) -> str:
    """What the validation scores are of."""
    found = []
    for cells in by_label(cell for own in dataset.finished.values() for cell in own).values():
        config = cells[0].result["config"]
        per_domain = config.get("select") == "per_domain"
        found.append("mean over domains, select: per_domain" if per_domain else str(config.get("valid_metric")))
    return "; ".join(dict.fromkeys(found))
