"""The ranks that a run leaves beside its result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.evaluator.rank_table import load_rank_table


def test_a_run_leaves_the_ranks_its_metrics_come_from(tiny, run):
    result = run("BPR", tiny, eval_candidates=["full", "uni10"], metrics=["NDCG", "MRR"], topk=[10])
    ranks = load_rank_table(Path(result["run_dir"]) / "test_ranks.tsv")
    assert len(ranks) == result["test"]["overall"]["count"]
    for candidates in ("full", "uni10"):
        value = np.where(ranks[candidates] <= 10, 1 / np.log2(ranks[candidates] + 1), 0.0)
        assert value.mean() == pytest.approx(result["test"][candidates]["overall"]["ndcg@10"], abs=5e-5)
        for domain, cell in result["test"][candidates]["domains"].items():
            of_domain = (ranks["domain"] == domain).to_numpy()
            assert of_domain.sum() == cell["count"]
            assert value[of_domain].mean() == pytest.approx(cell["ndcg@10"], abs=5e-5)
    last = tiny.interactions.sort_values("timestamp", kind="stable").groupby("user_id").item_id.last()
    assert dict(zip(ranks["user_id"], ranks["item_id"], strict=True)) == last.to_dict()
