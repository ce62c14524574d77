"""Which epoch is kept: of `valid_metric` overall, of one domain, or one epoch for each domain (protocol, point 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.evaluator.rows import EvaluationRows


def check_valid_metric(valid_metric: str, domain_names: Sequence[str], rows: EvaluationRows) -> None:
    """Refuse to select by a domain that is not there or has no validation row.

    Parameters
    ----------
    valid_metric
        Such as `NDCG@10` or `NDCG@10_books`.
    domain_names
        The dataset's.
    rows
        Its validation rows.

    Raises
    ------
    ConfigError
        Before anything has been trained.
    """
    _, _, domain = valid_metric.partition("_")
    if not domain:
        return
    if domain not in domain_names:
        raise ConfigError(
            f"valid_metric {valid_metric}: there is no domain '{domain}'; the dataset has {', '.join(domain_names)}."
        )
    if not len(rows):
        return  # nothing to select by, for any metric
    if not (rows.target_domains == list(domain_names).index(domain)).any():
        raise ConfigError(
            f"valid_metric {valid_metric}: no validation row has its target in '{domain}'; select overall or by "
            "another domain."
        )


class DomainSelection:
    """The best epoch of each domain, and when to stop.

    Parameters
    ----------
    valid_metric
        Lower case, such as `ndcg@10`.
    bigger
        Whether more is better.

    Attributes
    ----------
    scores, epochs, results
        By domain: the best score so far, its epoch (0-based), all metrics of that epoch.
    overall_score, overall_epoch
        The same over all rows; they select the checkpoint that judges domains without a validation row.
    improved
        Domains that improved (or drew level, as RecBole counts it) in the latest validation.
    overall_improved
        Whether the metric over all rows did.
    """

    def __init__(self, valid_metric: str, bigger: bool) -> None:
        self.valid_metric = valid_metric
        self.bigger = bigger
        self.scores: dict[str, float] = {}
        self.epochs: dict[str, int] = {}
        self.results: dict[str, dict[str, float]] = {}
        self.overall_score = -np.inf if bigger else np.inf
        self.overall_epoch: int | None = None
        self.improved: list[str] = []
        self.overall_improved = False

    def _reaches(self, score: float, best: float) -> bool:
        return score >= best if self.bigger else score <= best

    def update(self, epoch: int, result: Mapping[str, float]) -> float:
        """Take the result of a validation.

        Parameters
        ----------
        epoch
            0-based.
        result
            Flat form, `ndcg@10` and `ndcg@10_<domain>`.

        Returns
        -------
        float
            The mean over domains of their best scores if any domain improved, of their present scores otherwise.
            RecBole stops when this number has not reached its best for `stopping_step` validations, which means that
            no domain has.
        """
        by_domain: dict[str, dict[str, float]] = {}
        for key, value in result.items():
            metric, _, name = key.partition("_")  # no metric has an underscore in its name, domains may
            if name:
                by_domain.setdefault(name, {})[metric] = value
        present = {name: metrics[self.valid_metric] for name, metrics in by_domain.items()}
        self.improved = [
            name
            for name, score in present.items()
            if name not in self.scores or self._reaches(score, self.scores[name])
        ]
        for name in self.improved:
            self.scores[name], self.epochs[name], self.results[name] = present[name], epoch, by_domain[name]
        self.overall_improved = self._reaches(result[self.valid_metric], self.overall_score)
        if self.overall_improved:
            self.overall_score, self.overall_epoch = result[self.valid_metric], epoch
        judged = self.scores if self.improved else present
        return float(np.mean(list(judged.values())))

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {
            "scores": self.scores,
            "epochs": self.epochs,
            "results": self.results,
            "overall_score": float(self.overall_score),
            "overall_epoch": self.overall_epoch,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Undo `state`."""
        self.scores, self.epochs, self.results = dict(state["scores"]), dict(state["epochs"]), dict(state["results"])
        self.overall_score, self.overall_epoch = state["overall_score"], state["overall_epoch"]
