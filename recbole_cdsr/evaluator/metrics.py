"""RecBole's own metric classes, computed from ranks.

A row has one target, so what a ranking metric gives it depends on the target's rank alone. RecBole's classes
are therefore asked once, for every rank up to the largest of ``topk`` and for a miss; a row's value is a
look-up, and the average over any set of rows is taken and rounded by the class itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.register import metric_information, metric_types, metrics_dict
from recbole.utils import EvaluatorType

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.evaluator.ranking import Ranking

_FROM_RANKS = ["rec.topk"]
_AVAILABLE = {"rec.topk", "rec.items", "rec.meanrank", "data.num_items", "data.count_items"}


class RankingMetrics:
    """The configured ranking metrics, under RecBole's names (``hit@10``, ``gauc``, …).

    Parameters
    ----------
    config
        ``metrics`` (list of names, any case), ``topk`` (list of int >= 1), ``metric_decimal_place`` (int >=
        0) and what single metrics of RecBole read (``tail_ratio``).
    train_item_counts
        int64 ``[n_items]``, training interactions per item, padding included. ``itemcoverage`` and
        ``giniindex`` count against ``n_items``, all domains and padding together, as RecBole does.

    Attributes
    ----------
    topk, decimal_place
        The cut-offs, and the decimals that averages are rounded to.
    reads_top_items
        Whether a metric looks at the recommended items, not only at the target's rank.

    Raises
    ------
    ConfigError
        An unknown metric, or one of single scores (AUC, LogLoss, MAE, RMSE), which ranks cannot give.
    """

    def __init__(self, config: Mapping[str, Any], train_item_counts: np.ndarray) -> None:
        names = [name.lower() for name in config["metrics"]]
        for name in names:
            _require_ranking_metric(name)
        self.topk: list[int] = list(config["topk"])
        self.decimal_place: int = config["metric_decimal_place"]
        self._config = {
            "topk": self.topk,
            "metric_decimal_place": self.decimal_place,
            "tail_ratio": config.get("tail_ratio"),
        }
        self._metrics: dict[str, AbstractMetric] = {name: metrics_dict[name](self._config) for name in names}
        self._value_of_rank = {  # [n_top + 1, n_top] each; entry 0 is a miss
            name: self._row_values(name, self._every_rank())
            for name in self._metrics
            if metric_information[name] == _FROM_RANKS
        }
        self.reads_top_items = any("rec.items" in metric_information[name] for name in names)
        counted = np.flatnonzero(train_item_counts)
        self._item_counts = dict(zip(counted.tolist(), train_item_counts[counted].tolist(), strict=True))
        self._n_items = len(train_item_counts)

    def metrics_of(self, ranking: Ranking) -> dict[str, float]:
        """Every metric, averaged over all rows of ``ranking`` and rounded as configured."""
        values = self.row_values(ranking)
        return self.averages(ranking, values, np.arange(len(ranking.ranks)))

    def row_values(self, ranking: Ranking) -> dict[str, np.ndarray]:
        """Values per row, float64 ``[R, n_top]``, of metrics that average over rows but read ``top_items``.

        RecBole computes these item by item, so that they are worth computing once for all groups of rows.
        """
        slow = [name for name in self._metrics if name not in self._value_of_rank and self._averages_rows(name)]
        return {name: self._row_values(name, self._struct(ranking, slice(None))) for name in slow}

    def averages(self, ranking: Ranking, row_values: dict[str, np.ndarray], selected: np.ndarray) -> dict[str, float]:
        """Every metric over some rows.

        Parameters
        ----------
        ranking
            All rows.
        row_values
            What :meth:`row_values` returned for them.
        selected
            int64 ``[S]``, positions of the rows in ``ranking``; at least one.
        """
        result: dict[str, float] = {}
        for name, metric in self._metrics.items():
            if name in self._value_of_rank:
                places = self._capped(ranking.ranks[selected])
                found = metric.topk_result(name, self._value_of_rank[name][places])
            elif name in row_values:
                found = metric.topk_result(name, row_values[name][selected])
            else:
                found = metric.calculate_metric(self._struct(ranking, selected))
            result.update({key: float(value) for key, value in found.items()})
        return result

    def row_metric(self, name: str, ranks: np.ndarray) -> np.ndarray:
        """One metric per row, not rounded.

        Parameters
        ----------
        name
            A configured metric that depends on ranks alone, with its cut-off: ``"ndcg@10"``.
        ranks
            int64 ``[R]``, 0 = miss.

        Returns
        -------
        np.ndarray
            float64 ``[R]``.

        Raises
        ------
        KeyError
            Not such a metric, or a cut-off that is not in ``topk``.
        """
        metric, _, cut_off = name.lower().partition("@")
        known = [f"{known}@{k}" for known in self._value_of_rank for k in self.topk]
        if f"{metric}@{cut_off}" not in known:
            raise KeyError(f"{name} is not computed per row; there are {', '.join(known) or 'none'}")
        return self._value_of_rank[metric][self._capped(ranks), int(cut_off) - 1]

    @property
    def _n_top(self) -> int:
        return max(self.topk)

    def _capped(self, ranks: np.ndarray) -> np.ndarray:
        """Ranks beyond the largest of ``topk`` become 0, a miss."""
        return np.where(ranks > self._n_top, 0, ranks)

    def _averages_rows(self, name: str) -> bool:
        return hasattr(metrics_dict[name], "topk_result")

    def _row_values(self, name: str, struct: DataStruct) -> np.ndarray:
        """float64 ``[R, n_top]``: what RecBole's class hands to its averaging method."""

        class BeforeAveraging(metrics_dict[name]):
            def topk_result(self, metric: str, value: np.ndarray) -> dict[str, np.ndarray]:
                return {metric: value}

        (values,) = BeforeAveraging(self._config).calculate_metric(struct).values()
        return values.astype(np.float64)

    def _every_rank(self) -> DataStruct:
        """RecBole's data for n_top + 1 rows: a miss, then ranks 1, 2, …"""
        hits = torch.zeros(self._n_top + 1, self._n_top + 1, dtype=torch.int)
        hits[1:, :-1] = torch.eye(self._n_top, dtype=torch.int)
        hits[:, -1] = 1  # one target per row
        struct = DataStruct()
        struct.set("rec.topk", hits)
        return struct

    def _struct(self, ranking: Ranking, selected: np.ndarray | slice) -> DataStruct:
        """RecBole's data for the metrics that read more than the rank."""
        struct = DataStruct()
        struct.set("data.num_items", self._n_items)
        struct.set("data.count_items", self._item_counts)
        mean_ranks = ranking.mean_ranks[selected]
        columns = [mean_ranks, ranking.n_ranked[selected], np.ones_like(mean_ranks)]
        struct.set("rec.meanrank", torch.from_numpy(np.stack(columns, axis=1).astype(np.float64)))  # [S, 3]
        if ranking.top_items is not None:
            struct.set("rec.items", torch.from_numpy(ranking.top_items[selected]))  # [S, n_top]
        return struct


def _require_ranking_metric(name: str) -> None:
    if name not in metrics_dict:
        near = get_close_matches(name, metrics_dict, n=1)
        ranking = sorted(known for known, kind in metric_types.items() if kind == EvaluatorType.RANKING)
        hint = f"did you mean {near[0]}" if near else f"there are {', '.join(ranking)}"
        raise ConfigError(f"metrics names {name!r}, which RecBole does not have: {hint}?")
    if metric_types[name] != EvaluatorType.RANKING or not _AVAILABLE.issuperset(metric_information[name]):
        raise ConfigError(
            f"metrics names {name!r}, which rates single scores and not rankings: "
            f"use ranking metrics here, such as Hit, NDCG, MRR, Recall or GAUC."
        )
