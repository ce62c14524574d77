"""LLM features in RecBole's own models: every mode through the whole job, with text that says who likes what."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.quick_start import run_recbole

from recbole_cdsr.data.atomic import write_atomic
from recbole_cdsr.errors import CheckpointError, ConfigError
from recbole_cdsr.llm.build import build_llm_features
from recbole_cdsr.registration import register
from recbole_cdsr.trainer.checkpoint import load_checkpoint

MODES = ["init", "adapter", "concat", "frozen"]
# Windows, a recurrent net, a mask token, pairs, a graph, our own.
USUAL = {
    "SASRec": ["item_embedding"],
    "GRU4Rec": ["item_embedding"],
    "BERT4Rec": ["item_embedding"],
    "BPR": ["item_embedding", "user_embedding"],
    "LightGCN": ["item_embedding", "user_embedding"],
    "SASRecBCE": ["item_embedding"],
}
# Two tables of items, two pairs of tables, an autoencoder with items, a table of another name, vectors of length 1,
# features of RecBole's beside ours.
UNUSUAL = {
    "HGN": ["item_embedding", "item_embedding_for_prediction", "user_embedding"],
    "NeuMF": ["item_mf_embedding", "item_mlp_embedding", "user_mf_embedding", "user_mlp_embedding"],
    "MacridVAE": ["item_embedding"],
    "RepeatNet": ["item_matrix"],
    "CORE": ["item_embedding"],
    "GRU4RecF": ["item_embedding"],
}
SETTINGS = {"GRU4RecF": {"selected_features": ["domain"]}}


@pytest.mark.parametrize(("model", "mode"), [*product(USUAL, MODES), *product(UNUSUAL, ["concat"])])
def test_every_model_with_a_table_of_items_takes_features(tiny, run, item_features, model, mode):
    settings = {"epochs": 1, "llm_injection": mode, "item_features_file": str(item_features(tiny))}
    result = run(model, tiny, **settings | SETTINGS.get(model, {}))

    assert (result["model"], result["variant"]) == (model, f"{model}+llm-{mode}")
    injected = result["injection"]
    assert injected["mode"] == mode
    expected = [name for name in (USUAL | UNUSUAL)[model] if mode != "frozen" or name.startswith("item")]
    assert sorted(table["name"] for table in injected["tables"]) == sorted(expected)
    rows = {"items": 40, "users": 60}
    assert all(table["rows"] == rows[table["of"]] for table in injected["tables"])
    own = {"BERT4Rec": 2}.get(model, 1)  # padding, and BERT4Rec's mask token
    assert all(table["own_rows"] == own for table in injected["tables"])
    assert (result["features"]["profiles"] is not None) == any(name.startswith("user") for name in expected)
    assert np.isfinite(result["train_losses"]).all()
    assert result["test"]["overall"]["count"] == 60
    assert 0 < result["test"]["overall"]["hit@10"] <= 1

    # What is kept holds no features, and a new model built from it judges the same.
    state = load_checkpoint(Path(result["run_dir"]) / "best.pth")["state_dict"]
    assert not [name for name in state if name.endswith((".features", ".vectors", ".known"))]
    again = run(model, tiny, **settings | SETTINGS.get(model, {}), run_dir=result["run_dir"], resume=True)
    assert again["test"] == result["test"]
    assert again["train_losses"] == result["train_losses"]


@pytest.mark.parametrize("model", ["Pop", "EASE", "RecVAE", "DMF"])
def test_a_model_without_a_table_of_items_is_refused(tiny, run, item_features, model):
    with pytest.raises(ConfigError, match=f"{model} has no embedding with a row for each item; remove llm_injection"):
        run(model, tiny, llm_injection="init", item_features_file=str(item_features(tiny)))
    assert not Path("saved").exists()


def test_tables_that_no_name_gives_away_can_be_named(tiny, run, item_features):
    settings = {"epochs": 1, "llm_injection": "init", "item_features_file": str(item_features(tiny))}
    with pytest.raises(ConfigError, match=r"as in llm_item_tables: \[IU_emb, LI_emb, IL_emb\]\."):
        run("FPMC", tiny, **settings)
    result = run("FPMC", tiny, **settings, llm_item_tables="[IU_emb, LI_emb, IL_emb]")
    assert [table["name"] for table in result["injection"]["tables"]] == ["IU_emb", "LI_emb", "IL_emb"]


def test_a_model_made_of_features_is_refused(tiny, run):
    with pytest.raises(ConfigError, match="LLM4CDSR is built on LLM features already; remove llm_injection"):
        run("LLM4CDSR", tiny, llm_injection="adapter")


def test_switched_off_nothing_is_read_and_nothing_is_said(tiny, run):
    result = run("SASRec", tiny, epochs=1, llm_injection="none")
    assert (result["variant"], result["injection"], result["features"]) == ("SASRec", None, None)
    assert not (tiny.folder / "features").exists()


def test_three_domains(tmp_path, make_dataset, run, item_features):
    dataset = make_dataset(n_users=40, n_items=15)
    file = dataset.folder / f"{dataset.name}.item"
    items = pd.read_csv(file, sep="\t")
    items.columns = [name.split(":")[0] for name in items.columns]
    items.loc[items.index % 3 == 2, "domain"] = "music"
    write_atomic(file, items, {"item_id": "token", "domain": "token", "title": "token_seq"})
    result = run("SASRec", dataset, llm_injection="adapter", item_features_file=str(item_features(dataset)))
    assert list(result["test"]["domains"]) == ["books", "music", "movies"]
    assert result["injection"]["tables"][0]["rows"] == 30


def test_text_that_tells_helps_where_interactions_are_few(make_dataset, run, item_features):
    dataset = make_dataset(n_users=60, n_items=60)
    given = {"epochs": 4, "learning_rate": 0.01, "hidden_size": 16, "inner_size": 32, "seed": 5, "saved": False}
    given["item_features_file"] = str(item_features(dataset))
    reached = {
        mode: run("SASRec", dataset, llm_injection=mode, **given)["test"]["overall"]["ndcg@10"]
        for mode in ("none", *MODES)
    }
    assert min(reached[mode] for mode in MODES) > reached["none"]


def test_what_is_frozen_stays_frozen(tiny, run, item_features):
    settings = {"item_features_file": str(item_features(tiny)), "epochs": 2, "learning_rate": 0.05}
    states = {}
    for mode in ("frozen", "adapter"):
        result = run("SASRec", tiny, llm_injection=mode, **settings)
        states[mode] = load_checkpoint(Path(result["run_dir"]) / "last.pth")
    assert states["frozen"]["state_dict"]["item_embedding.own"].shape == (1, 64)  # padding only
    assert states["adapter"]["state_dict"]["item_embedding.adapter.weight"].shape == (64, 24)
    table = [name for name in states["frozen"]["state_dict"] if name.startswith("item_embedding")]
    assert table == ["item_embedding.own"]


class TestGoingOn:
    def test_a_run_goes_on_where_it_stopped(self, tiny, run, item_features):
        settings = {"llm_injection": "concat", "item_features_file": str(item_features(tiny))}
        whole = run("SASRec", tiny, epochs=3, **settings)
        part = run("SASRec", tiny, epochs=1, checkpoint_dir="other", **settings)
        rest = run("SASRec", tiny, epochs=3, run_dir=part["run_dir"], resume=True, **settings)
        assert rest["train_losses"] == whole["train_losses"]
        assert rest["test"] == whole["test"]

    def test_other_features_are_refused(self, tiny, run, item_features):
        settings = {"llm_injection": "adapter", "epochs": 1}
        first = run("SASRec", tiny, **settings, item_features_file=str(item_features(tiny)))
        changed = settings | {"item_features_file": str(item_features(tiny, seed=9)), "epochs": 2}
        with pytest.raises(CheckpointError, match="other item features"):
            run("SASRec", tiny, **changed, run_dir=first["run_dir"], resume=True)

    def test_another_mode_is_another_run(self, tiny, run, item_features):
        settings = {"epochs": 1, "item_features_file": str(item_features(tiny))}
        runs = {mode: run("SASRec", tiny, llm_injection=mode, **settings)["run_dir"] for mode in ("none", *MODES)}
        assert len({Path(path).name for path in runs.values()}) == 5
        with pytest.raises(CheckpointError, match="llm_injection is 'adapter', was 'init'"):
            run("SASRec", tiny, llm_injection="adapter", run_dir=runs["init"], resume=True, **settings)

    def test_features_made_now_or_before_make_no_difference(self, tiny, run, item_features, monkeypatch):
        """Making them draws random numbers; the run must not notice."""
        calls = []

        def build(config, dataset):
            if not calls:
                torch.randn(3), np.random.rand(3), random.random()
            calls.append(dataset)
            return build_llm_features(config, dataset)

        monkeypatch.setattr("recbole_cdsr.data.cross_domain.build_llm_features", build)
        settings = {"epochs": 1, "llm_injection": "adapter", "item_features_file": str(item_features(tiny))}
        first, second = (run("BPR", tiny, saved=False, **settings) for _ in range(2))
        assert first["train_losses"] == second["train_losses"]
        assert len(calls) == 2


def test_recboles_own_entry_point_says_that_it_does_not_inject(tiny, item_features):
    register()
    settings = tiny.settings | {"llm_injection": "adapter", "item_features_file": str(item_features(tiny))}
    with pytest.raises(ConfigError, match="nothing was injected into this SASRecBCE; train it by run_recbole_cdsr"):
        run_recbole(model="SASRecBCE", dataset=tiny.name, config_dict=settings)
