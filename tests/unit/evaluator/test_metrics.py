from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.evaluator import EvaluationRows, ProtocolEvaluator, Ranking, RankingMetrics

ConfigFactory = Callable[..., dict[str, Any]]
COUNTS = np.array([0, 3, 0, 1])


def ranking_of(ranks: list[int] | np.ndarray, n_ranked: int = 101) -> Ranking:
    ranks = np.asarray(ranks)
    return Ranking(ranks, ranks.astype(float), np.full(len(ranks), n_ranked))


def metrics(names: list[str], topk: list[int], decimals: int = 4) -> RankingMetrics:
    return RankingMetrics({"metrics": names, "topk": topk, "metric_decimal_place": decimals}, COUNTS)


def test_values_by_hand() -> None:
    found = metrics(["Hit", "NDCG", "MRR", "Recall", "Precision", "GAUC"], [1, 10])
    assert found.metrics_of(ranking_of([1, 3, 11, 0], n_ranked=11)) == {
        "hit@1": 0.25,
        "hit@10": 0.5,
        "ndcg@1": 0.25,
        "ndcg@10": 0.375,  # (1 + 1 / log2(4)) / 4
        "mrr@1": 0.25,
        "mrr@10": 0.3333,  # (1 + 1/3) / 4
        "recall@1": 0.25,
        "recall@10": 0.5,
        "precision@1": 0.25,
        "precision@10": 0.05,
        "gauc": pytest.approx((1.0 + 0.8 + 0.0 + 1.1) / 4),  # (n − rank) / (n − 1)
    }


def test_values_equal_recboles_evaluator(recbole_config: Config) -> None:
    ranks = np.random.default_rng(0).integers(1, 15, 400)
    settings = {key: recbole_config[key] for key in ("metrics", "topk", "metric_decimal_place")}
    struct = DataStruct()
    hits = ranks[:, None] == np.arange(1, 11)
    struct.set("rec.topk", torch.from_numpy(np.concatenate([hits, np.ones((400, 1))], axis=1).astype(np.int32)))
    means = np.stack([ranks, np.full(400, 101), np.ones(400)], axis=1)
    struct.set("rec.meanrank", torch.from_numpy(means.astype(np.float32)))
    theirs = Evaluator(recbole_config).evaluate(struct)
    ours = RankingMetrics(settings, COUNTS).metrics_of(ranking_of(ranks))
    assert list(ours) == list(theirs)
    assert ours == pytest.approx({key: float(value) for key, value in theirs.items()}, abs=1e-6)
    assert all(type(value) is float for value in ours.values())


def test_averages_over_some_rows() -> None:
    found = metrics(["MRR", "GAUC"], [5])
    ranking = ranking_of([2, 1, 4, 9])
    assert found.averages(ranking, {}, np.array([0, 2])) == {"mrr@5": 0.375, "gauc": 0.98}


def test_row_metric_is_not_rounded_and_averages_to_the_metric() -> None:
    found = metrics(["NDCG", "GAUC"], [3, 10], decimals=2)
    ranks = np.array([1, 2, 3, 4, 10, 11, 5000, 0])
    per_row = found.row_metric("NDCG@10", ranks)
    expected = [1 / math.log2(rank + 1) if 1 <= rank <= 10 else 0 for rank in ranks.tolist()]
    np.testing.assert_allclose(per_row, expected, rtol=1e-12)
    assert round(per_row.mean(), 2) == found.metrics_of(ranking_of(ranks))["ndcg@10"]
    assert found.row_metric("ndcg@3", ranks)[3] == 0
    for name in ("ndcg@5", "hit@10", "gauc", "ndcg"):
        with pytest.raises(KeyError, match=r"ndcg@3, ndcg@10"):
            found.row_metric(name, ranks)


@pytest.mark.parametrize("name", ["AUC", "LogLoss", "mae", "RMSE"])
def test_metrics_of_single_scores_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="rates single scores"):
        metrics(["NDCG", name], [10])


def test_unknown_metrics_are_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"'ndgc'.*did you mean ndcg"):
        metrics(["NDGC"], [10])
    with pytest.raises(ConfigError, match=r"'coverage_of_everything'.*there are averagepopularity, gauc"):
        metrics(["coverage_of_everything"], [10])


def test_a_constant_model_gets_no_ndcg(random_rows: Callable[..., EvaluationRows], config: ConfigFactory) -> None:
    """A list that keeps the target first among equals would give it 1."""
    rows = random_rows((200, 150), longest=10)
    judge = ProtocolEvaluator(config(eval_candidates=["full", "uni9"]), rows, exclude_history=True)
    judge.start()
    judge.add(torch.zeros(60, rows.n_items), np.arange(60))
    report = judge.finish()
    assert report.results["full"].overall == {
        "count": 60,
        **dict.fromkeys(["ndcg@1", "ndcg@5", "ndcg@10", "hit@1", "hit@5", "hit@10"], 0.0),
        **dict.fromkeys(["mrr@1", "mrr@5", "mrr@10"], 0.0),
    }
    assert report.results["uni9"].overall["ndcg@10"] == round(1 / math.log2(7), 4)
    assert report.results["uni9"].overall["mrr@10"] == round(1 / 6, 4)
