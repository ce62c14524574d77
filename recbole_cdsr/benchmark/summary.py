"""Figures over seeds: mean, standard deviation and, where ranks are there, an interval over test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from recbole_cdsr.benchmark.row_scores import RowScores
from recbole_cdsr.benchmark.significance import bootstrap_intervals

KEYS = ["dataset", "label", "candidates", "scope", "name", "metric"]


def summarise(metrics: pd.DataFrame, scores: Mapping[tuple[str, str], RowScores | str]) -> pd.DataFrame:
    """One row per dataset, label, candidate set, domain or group, and metric.

    Parameters
    ----------
    metrics
        What `collect.metrics_frame` returned.
    scores
        By dataset and label, the rows of the finished cells, or why there are none.

    Returns
    -------
    pd.DataFrame
        `collect.metrics_frame`'s columns without `seed` and `value`; `mean` over seeds, `sd` (n − 1; NaN of a single
        seed), `seeds`, `count` of rows, and `low` and `high`, the 95 % bootstrap interval over rows of the seeds' mean,
        for NDCG@10 and Hit@10 overall and by domain (NaN elsewhere). In the order of the grid.
    """
    grouped = metrics.groupby(KEYS, sort=False)
    frame = grouped.agg(mean=("value", "mean"), sd=("value", "std"), seeds=("seed", "nunique"), count=("count", "max"))
    intervals = pd.DataFrame(_intervals(scores), columns=[*KEYS, "low", "high"]).set_index(KEYS)
    return frame.join(intervals).reset_index()


class Summary(NamedTuple):
    """A figure over seeds: a row of `summarise` without its keys; `sd`, `low` and `high` may be NaN."""

    mean: float
    sd: float
    seeds: int
    count: int
    low: float
    high: float


def by_keys(summary: pd.DataFrame) -> dict[tuple[str, ...], Summary]:
    """The rows of a summary by `KEYS`, without those that no row was judged for."""
    judged = summary[summary["mean"].notna()]
    keys = judged[KEYS].itertuples(index=False, name=None)
    values = judged[list(Summary._fields)].itertuples(index=False, name=None)
    return {key: Summary(*value) for key, value in zip(keys, values, strict=True)}


def main_metric(metrics: Sequence[str]) -> str:
    """The metric that figures show: NDCG@10, else the first that was computed; NDCG@10 also where none was."""
    return metrics[0] if metrics and "ndcg@10" not in metrics else "ndcg@10"


def _intervals(scores: Mapping[tuple[str, str], RowScores | str]) -> list[tuple]:
    """Keys of a summary with lower and upper bounds; labels with the same rows are resampled together."""
    together: dict[tuple[str, bytes, tuple[str, ...]], dict[str, RowScores]] = {}
    for (dataset, label), rows in scores.items():
        if not isinstance(rows, str):
            # Rows of the same numbers may be of other domains, where a dataset was converted anew between labels.
            together.setdefault((dataset, rows.rows.tobytes(), tuple(rows.domains)), {})[label] = rows
    found = []
    for (dataset, _, _), by_label in together.items():
        columns = [(label, *key) for label, rows in by_label.items() for key in rows.values]
        values = np.stack([values for rows in by_label.values() for values in rows.values.values()], axis=1)  # [R, C]
        domains = next(iter(by_label.values())).domains
        scopes = {("overall", "overall"): np.ones(len(domains), dtype=bool)}
        scopes |= {("domain", name): domains == name for name in dict.fromkeys(domains.tolist())}
        for scope, chosen in scopes.items():
            bounds = bootstrap_intervals(values[chosen])
            found += [
                (dataset, label, candidates, *scope, metric, *pair)
                for (label, candidates, metric), pair in zip(columns, bounds.tolist(), strict=True)
            ]
    return found
