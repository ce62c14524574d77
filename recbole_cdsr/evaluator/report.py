"""Results of one evaluation pass: overall, per domain and per group, for every candidate set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from texttable import Texttable

from recbole_cdsr.evaluator.groups import groups
from recbole_cdsr.evaluator.metrics import RankingMetrics
from recbole_cdsr.evaluator.ranking import Ranking
from recbole_cdsr.evaluator.rows import EvaluationRows

Cell = dict[str, int | float]
"""``count`` and, where it is not 0, every metric."""


@dataclass(frozen=True)
class CandidateResults:
    """Results for one candidate set; ``domains`` and ``groups`` hold every name, empty ones with count 0."""

    overall: Cell
    domains: dict[str, Cell]
    groups: dict[str, Cell]

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionaries, for JSON."""
        return {"overall": self.overall, "domains": self.domains, "groups": self.groups}


class EvaluationReport:
    """What the rows of a pass got.

    Parameters
    ----------
    rows
        The split.
    row_indices
        int64 ``[S]``, the rows of the pass, ascending.
    rankings
        One ranking of those rows for each candidate set; the first selects the model.
    metrics
        The configured metrics.

    Attributes
    ----------
    row_indices, row_keys
        int64 ``[S]``, positions and model-independent identities of the rows.
    ranks
        Per candidate set int64 ``[S]``, from 1; with RecBole's ties 0 = beyond the largest of ``topk``.
    results
        Per candidate set the :class:`CandidateResults`.
    """

    def __init__(
        self,
        rows: EvaluationRows,
        row_indices: np.ndarray,
        rankings: dict[str, Ranking],
        metrics: RankingMetrics,
    ) -> None:
        self._metrics = metrics
        self.split = rows.split
        self.row_indices = row_indices
        self.row_keys = rows.row_keys[row_indices]
        self.ranks: dict[str, np.ndarray] = {name: ranking.ranks for name, ranking in rankings.items()}
        self.first = next(iter(rankings))

        domains = rows.target_domains[row_indices]
        in_domain = {name: np.flatnonzero(domains == k) for k, name in enumerate(rows.domain_names)}
        in_group = {name: np.flatnonzero(member[row_indices]) for name, member in groups(rows).items()}
        self.results: dict[str, CandidateResults] = {}
        for name, ranking in rankings.items():
            cell = partial(_cell, metrics, ranking, metrics.row_values(ranking))
            self.results[name] = CandidateResults(
                overall=cell(np.arange(len(row_indices))),
                domains={domain: cell(selected) for domain, selected in in_domain.items()},
                groups={group: cell(selected) for group, selected in in_group.items()},
            )

    def as_result_dict(self) -> dict[str, Any]:
        """Results for a result file.

        Returns
        -------
        dict
            ``overall``, ``domains`` and ``groups`` of the first candidate set, and under the name of every
            candidate set (``full``, ``uni999``) the same three.
        """
        by_name = {name: result.as_dict() for name, result in self.results.items()}
        return self.results[self.first].as_dict() | by_name

    def flat(self, metric: str | None = None) -> dict[str, float]:
        """RecBole's flat form, for early stopping and logs.

        Parameters
        ----------
        metric
            One metric (``"ndcg@10"``, any case), or None for all.

        Returns
        -------
        dict[str, float]
            ``ndcg@10`` over all rows and ``ndcg@10_<domain>`` per domain, for the first candidate set; a
            domain without rows is left out.

        Raises
        ------
        KeyError
            The metric is not among the configured ones.
        """
        result = self.results[self.first]
        cells = {"": result.overall} | {f"_{name}": cell for name, cell in result.domains.items()}
        flat = {
            f"{key}{suffix}": value
            for suffix, cell in cells.items()
            for key, value in cell.items()
            if key != "count" and (metric is None or key == metric.lower())
        }
        if metric is not None and result.overall["count"] and not flat:
            known = [key for key in result.overall if key != "count"]
            raise KeyError(f"{metric} was not computed; there are {', '.join(known)}")
        return flat

    def row_metric(self, metric: str, candidates: str | None = None) -> np.ndarray:
        """One metric per row, not rounded, for statistics over rows.

        Parameters
        ----------
        metric
            A metric that depends on ranks alone, such as ``"ndcg@10"``.
        candidates
            Name of the candidate set; None for the first.

        Returns
        -------
        np.ndarray
            float64 ``[S]``, in the order of ``row_keys``.
        """
        return self._metrics.row_metric(metric, self.ranks[candidates or self.first])

    def table(self) -> str:
        """A fixed-width table for each candidate set: domains, overall, groups."""
        return "\n".join(
            f"{self.split}, candidates: {name}\n{self._table_of(result)}" for name, result in self.results.items()
        )

    def _table_of(self, result: CandidateResults) -> str:
        metrics = [key for key in result.overall if key != "count"]
        sections = [result.domains, {"overall": result.overall}, result.groups]
        lines = [["rows", "count", *metrics]]
        for section in sections:
            for name, cell in section.items():
                values = [f"{cell[key]:.{self._metrics.decimal_place}f}" if key in cell else "-" for key in metrics]
                lines.append([name, str(cell["count"]), *values])
        table = Texttable(max_width=0)
        table.set_deco(Texttable.HEADER | Texttable.BORDER | Texttable.VLINES)
        table.set_cols_dtype(["t"] * len(lines[0]))
        table.set_cols_align(["l"] + ["r"] * (len(lines[0]) - 1))
        table.add_rows(lines)
        return table.draw()


def _cell(metrics: RankingMetrics, ranking: Ranking, row_values: dict[str, np.ndarray], selected: np.ndarray) -> Cell:
    """Count and metrics of the rows at positions ``selected`` (int64 ``[S]``) of ``ranking``."""
    count: Cell = {"count": len(selected)}
    return count | metrics.averages(ranking, row_values, selected) if len(selected) else count
