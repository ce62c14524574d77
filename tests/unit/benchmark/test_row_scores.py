"""Per-row values from tables of ranks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recbole_cdsr.benchmark.collect import load_cells
from recbole_cdsr.benchmark.row_scores import hit, load_row_scores, ndcg
from recbole_cdsr.errors import DataError
from recbole_cdsr.evaluator.metrics import RankingMetrics


def test_values_of_ranks_are_those_of_recbole():
    ranks = np.arange(0, 30)
    settings = {"metrics": ["NDCG", "Hit"], "topk": [10, 20], "metric_decimal_place": 4}
    metrics = RankingMetrics(settings, np.ones(5, dtype=np.int64))
    assert ndcg(ranks) == pytest.approx(metrics.row_metric("ndcg@10", ranks))
    assert hit(ranks) == pytest.approx(metrics.row_metric("hit@10", ranks))


def test_rows_are_matched_by_their_key_and_averaged_over_seeds(tmp_path, cell):
    cell(tmp_path, "BPR", 1, {"book": [1, 20], "movie": [3]})
    cell(tmp_path, "BPR", 2, {"book": [3, 20], "movie": [1]})
    scores = load_row_scores(load_cells(tmp_path))
    assert scores.rows.tolist() == [100, 101, 102]
    assert scores.domains.tolist() == ["book", "book", "movie"]
    assert scores.values["full", "ndcg@10"].tolist() == pytest.approx([0.75, 0, 0.75])
    assert scores.values["full", "hit@10"].tolist() == [1, 0, 1]


def test_seeds_that_judged_other_rows_are_not_averaged(tmp_path, cell):
    cell(tmp_path, "BPR", 1, {"book": [1, 20]})
    cell(tmp_path, "BPR", 2, {"book": [1]})
    with pytest.raises(DataError, match="seed 2 judged other test rows than seed 1"):
        load_row_scores(load_cells(tmp_path))


def test_a_row_that_stands_twice_is_named(tmp_path, cell):
    path = cell(tmp_path, "BPR", 1, {"book": [1, 2]}) / "test_ranks.tsv"
    table = pd.read_csv(path, sep="\t")
    pd.concat([table, table[:1]]).to_csv(path, sep="\t", index=False)
    with pytest.raises(DataError, match="a row twice"):
        load_row_scores(load_cells(tmp_path))


def test_ranks_that_end_before_the_tenth_give_no_ndcg_at_10(tmp_path, cell):
    cell(tmp_path, "BPR", 1, {"book": [1, 0]}, config={"ties": "recbole", "topk": [1, 5]})
    with pytest.raises(DataError, match="ranks up to 5 only"):
        load_row_scores(load_cells(tmp_path))
