"""RecBole's own models by name, with RecBole's own YAML of each: train, be judged in the target's domain, be kept."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.trainer.checkpoint import load_checkpoint

# Sequential, general, counting; with a trainer of their own (RecVAE), a user table (HGN, FPMC), matrices instead of
# parameters (EASE, ItemKNN), a graph (LightGCN), sub-modules outside the state dict (FDSA would need features), masks
# drawn by a transform (BERT4Rec).
MODELS = ["SASRec", "GRU4Rec", "BERT4Rec", "BPR", "LightGCN", "Pop", "RecVAE", "HGN", "FPMC", "EASE", "ItemKNN"]
USER_TABLES = ["BPR", "LightGCN", "RecVAE", "HGN", "FPMC", "EASE", "ItemKNN"]
METRICS = ["hit@5", "hit@10", "ndcg@5", "ndcg@10", "mrr@5", "mrr@10"]


@pytest.mark.parametrize("model", MODELS)
def test_every_baseline_trains_and_is_judged_in_the_targets_domain(tiny, run, read_json, model):
    settings = {"train_neg_sample_args": None} if model in ("SASRec", "GRU4Rec", "BERT4Rec") else {}
    result = run(model, tiny, epochs=1, metrics=["Hit", "NDCG", "MRR"], eval_candidates=["full", "uni10"], **settings)

    assert result["epochs"] == 1
    assert result["synthetic"] is None  # this dataset has no card
    assert result["features"] is None
    assert set(result["best_valid"]) == {f"{m}{d}" for m in METRICS for d in ("", "_books", "_movies")}
    for cells in (result["test"], result["test"]["full"], result["test"]["uni10"]):
        assert cells["overall"]["count"] == 60
        assert sum(cell["count"] for cell in cells["domains"].values()) == 60
        # 20 items per domain, some of them in the history: the worst rank is far from the 40 of both domains.
        assert cells["overall"]["hit@10"] > 0.25
    assert result["test"]["overall"] == result["test"]["full"]["overall"]
    assert read_json(Path(result["run_dir"]) / "result.json")["test"] == result["test"]
    assert np.isfinite(result["train_losses"]).all()

    # The kept state is what was judged: a trainer that only loads it judges the same.
    again = run(model, tiny, epochs=1, eval_candidates=["full", "uni10"], run_dir=result["run_dir"], resume=True, **settings)
    assert again["test"] == result["test"]
    assert again["train_losses"] == result["train_losses"]


@pytest.mark.parametrize("model", USER_TABLES)
def test_a_user_table_is_trained_on_the_histories_of_held_out_users(held_out, run, model):
    folded = run(model, held_out, epochs=1, fold_in=True)
    assert folded["fold_in"] is True
    assert folded["test"]["overall"]["count"] == 8

    without = run(model, held_out, epochs=1, fold_in=False, result_file="out/result.json")
    assert without["fold_in"] is False
    assert without["best_valid"] == "n/a"
    assert without["test"]["overall"] == without["test"]["full"]["overall"] == "n/a"
    assert without["epochs"] == 0
    assert without["run_dir"] is None
    assert "8 validation and 8 test rows" in without["reason"]
    assert Path("out/result.json").is_file()
