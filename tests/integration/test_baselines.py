"""RecBole's own models by name, with RecBole's own YAML of each: train, be judged in the target's domain, be kept."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import recbole
import yaml
from recbole.config import Config

from recbole_cdsr.errors import ConfigError

# Besides the usual ones: masks drawn by a transform (BERT4Rec), a trainer and optimisers of its own (RecVAE), user
# tables (HGN, FPMC), matrices instead of parameters (EASE), no scores of all items at once (NeuMF), a sub-module that
# RecBole keeps beside the parameters (GRU4RecF).
MODELS = [
    "SASRec",
    "GRU4Rec",
    "BERT4Rec",
    "BPR",
    "LightGCN",
    "Pop",
    "RecVAE",
    "HGN",
    "FPMC",
    "EASE",
    "NeuMF",
    "GRU4RecF",
]
USER_TABLES = ["BPR", "LightGCN", "HGN", "FPMC", "EASE"]
METRICS = ["hit@5", "hit@10", "ndcg@5", "ndcg@10", "mrr@5", "mrr@10"]


@pytest.mark.parametrize("model", MODELS)
def test_every_baseline_trains_and_is_judged_in_the_targets_domain(tiny, run, read_json, model):
    settings = {"eval_candidates": ["full", "uni10"], "epochs": 1}
    if model == "GRU4RecF":
        settings["selected_features"] = ["domain"]
    result = run(model, tiny, **settings)

    properties = (Path(recbole.__file__).parent / f"properties/model/{model}.yaml").read_text(encoding="utf-8")
    untouched = yaml.load(properties, Loader=Config._build_yaml_loader(None)) or {}
    assert {key: result["config"][key] for key in untouched if key not in settings} == {
        key: value for key, value in untouched.items() if key not in settings
    }
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
    again = run(model, tiny, **settings, run_dir=result["run_dir"], resume=True)
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
    assert folded.keys() <= without.keys()
    assert without["test"]["overall"] == without["test"]["full"]["overall"] == "n/a"
    assert without["epochs"] == 0
    assert without["run_dir"] is None
    assert "8 validation and 8 test rows" in without["reason"]
    assert Path("out/result.json").is_file()


@pytest.mark.parametrize("model", ["SASRec", "Pop"])
def test_models_without_a_user_table_are_judged_without_folding_in(held_out, run, model):
    result = run(model, held_out, epochs=1, fold_in=True)
    assert result["fold_in"] is False
    assert result["test"]["overall"]["count"] == 8


def test_a_model_with_rows_of_its_own_is_refused(tiny, run):
    with pytest.raises(ConfigError, match="DIEN takes rows that only RecBole's DIENDataset makes"):
        run("DIEN", tiny)


@pytest.mark.skipif(importlib.util.find_spec("faiss") is not None, reason="faiss is installed")
def test_a_package_that_a_model_lacks_is_named(tiny, run):
    with pytest.raises(ConfigError, match="NCL needs the package faiss"):
        run("NCL", tiny)


def test_settings_that_recbole_refuses_come_as_one_sentence(tiny, run):
    with pytest.raises(ConfigError, match=r"SASRec cannot be built .*hidden size \(10\) is not a multiple"):
        run("SASRec", tiny, hidden_size=10, n_heads=3)
    assert not Path("saved").exists()
