"""Everything that is computed from the finished cells of a benchmark, once, for tables and pages alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from recbole_cdsr.benchmark.claims import by_label
from recbole_cdsr.benchmark.collect import DONE, Cell, cells_frame, domain_names, load_cells, metrics_frame
from recbole_cdsr.benchmark.comparison import Comparison, compare
from recbole_cdsr.benchmark.overlap_study import OverlapStudy, overlap_studies
from recbole_cdsr.benchmark.row_scores import RowScores, load_row_scores
from recbole_cdsr.benchmark.summary import Summary, by_keys, main_metric, summarise
from recbole_cdsr.errors import DataError


@dataclass(frozen=True)
class DatasetAnalysis:
    """One dataset of a benchmark.

    Attributes
    ----------
    name : str
        Of the dataset.
    cells : list[Cell]
        All of them, in the grid's order.
    domains : list[str]
        Names of its domains, in its order.
    comparisons : dict[str, Comparison]
        By candidate set, the one that selected the models first.
    """

    name: str
    cells: list[Cell]
    domains: list[str]
    comparisons: dict[str, Comparison]

    @property
    def labels(self) -> list[str]:
        """Labels in the grid's order."""
        return list(by_label(self.cells))

    @property
    def finished(self) -> dict[str, list[Cell]]:
        """Finished cells by label."""
        return by_label(cell for cell in self.cells if cell.state == DONE)

    @property
    def capped(self) -> set[str]:
        """Labels with a finished cell that a cap on epochs ended: they support no claim."""
        return {cell.label for cell in self.cells if cell.budget}

    @property
    def synthetic(self) -> bool | None:
        """Whether the card says that a program made the data up; None where nothing says."""
        stated = {cell.result.get("synthetic") for cell in self.cells if cell.result}
        return True if True in stated else (False if stated == {False} else None)


@dataclass(frozen=True)
class Analysis:
    """A benchmark.

    Attributes
    ----------
    cells : list[Cell]
        All of them, in the grid's order.
    scores : dict[tuple[str, str], RowScores | str]
        By dataset and label, the rows of the finished cells, or why there are none.
    """

    cells: list[Cell]
    scores: dict[tuple[str, str], RowScores | str]

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Analysis:
        """Read the ranks of finished cells."""
        scores: dict[tuple[str, str], RowScores | str] = {}
        grouped: dict[tuple[str, str], list[Cell]] = {}
        for cell in cells:
            if cell.state == DONE:
                grouped.setdefault((cell.dataset, cell.label), []).append(cell)
        for key, own in grouped.items():
            try:
                scores[key] = load_row_scores(own)
            except DataError as error:
                scores[key] = str(error)
        return cls(list(cells), scores)

    @classmethod
    def of_folder(cls, folder: Path) -> Analysis:
        """Read a benchmark's folder.

        Raises
        ------
        DataError
            It is none.
        """
        return cls.of(load_cells(folder))

    @cached_property
    def cells_frame(self) -> pd.DataFrame:
        """See `collect.cells_frame`."""
        return cells_frame(self.cells)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """See `summary.summarise`."""
        return summarise(metrics_frame(self.cells), self.scores)

    @cached_property
    def _figures(self) -> dict[tuple[str, ...], Summary]:
        return by_keys(self.summary)

    def figure(
        self, dataset: str, label: str, candidates: str, scope: str, name: str, metric: str | None = None
    ) -> Summary | None:
        """One figure of the summary, of the dataset's main metric unless another is named; None where there is none."""
        return self._figures.get((dataset, label, candidates, scope, name, metric or self.main_metric(dataset)))

    @cached_property
    def datasets(self) -> list[DatasetAnalysis]:
        """Its datasets, in the grid's order."""
        found = []
        for name in dict.fromkeys(cell.dataset for cell in self.cells):
            cells = [cell for cell in self.cells if cell.dataset == name]
            domains = domain_names(cells)
            scores = {label: rows for (dataset, label), rows in self.scores.items() if dataset == name}
            sets = dict.fromkeys(candidates for cell in cells for candidates in cell.candidates if cell.state == DONE)
            comparisons = {candidates: compare(cells, scores, candidates, domains) for candidates in sets}
            found.append(DatasetAnalysis(name, cells, domains, comparisons))
        return found

    @cached_property
    def studies(self) -> list[OverlapStudy]:
        """See `overlap_study.overlap_studies`."""
        return overlap_studies(self.cells)

    @cached_property
    def labels(self) -> list[str]:
        """All labels, in the grid's order."""
        return list(dict.fromkeys(cell.label for cell in self.cells))

    @cached_property
    def metrics(self) -> dict[str, list[str]]:
        """By dataset the metrics that were computed, in their order; those that all its finished labels have first."""
        found = {}
        for dataset, own in self.summary.groupby("dataset", sort=False):
            labels = own.groupby("metric", sort=False)["label"].nunique()
            found[dataset] = list(labels.sort_values(ascending=False, kind="stable").index)
        return found

    def main_metric(self, *datasets: str) -> str:
        """The metric that figures of these datasets show: NDCG@10 where all have it, else the first that all have."""
        first, *others = (self.metrics.get(dataset, []) for dataset in datasets)
        shared = [metric for metric in first if all(metric in other for other in others)]
        return main_metric(shared or first)
