"""LLM4CDSR from atomic files to a result, through our command and through RecBole's own entry point."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

import recbole_cdsr
from recbole_cdsr.trainer.checkpoint import load_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_run_writes_every_key_and_learns(tiny, run, small, item_features, read_json):
    result = run(
        "LLM4CDSR",
        tiny,
        **small,
        item_features_file=str(item_features(tiny)),
        epochs=12,
        learning_rate=0.005,
        eval_candidates=["full", "uni10"],
        result_file="out/result.json",
        seed=11,
    )
    written = read_json("out/result.json")
    assert written == read_json(Path(result["run_dir"]) / "result.json") == result
    keys = {
        "model",
        "dataset",
        "seed",
        "synthetic",
        "features",
        "best_valid",
        "test",
        "epochs",
        "seconds",
        "environment",
    }
    assert keys <= written.keys()
    assert (written["model"], written["dataset"], written["seed"]) == ("LLM4CDSR", "tiny", 11)
    assert "item_features_file" in written["features"]["items"]["made_by"]
    assert written["features"]["profiles"]["made_by"]
    assert {"overall", "domains", "groups", "full", "uni10"} == written["test"].keys()
    assert {"overlapped", "single_domain", "len_6_10", "head", "tail", "cold_target"} <= written["test"][
        "groups"
    ].keys()
    assert written["test"]["uni10"]["domains"].keys() == {"books", "movies"}
    assert {"features", "training", "evaluation", "total"} == written["seconds"].keys()
    parts = written["seconds"]["training"] + written["seconds"]["evaluation"]
    assert 0 < parts < written["seconds"]["total"]
    assert {"torch", "recbole", "numpy", "pandas", "python", "device"} <= written["environment"].keys()

    documented = (REPOSITORY / "docs" / "results_format.md").read_text(encoding="utf-8")
    assert not [key for key in written.keys() | written["features"].keys() if f"`{key}`" not in documented]
    # Nothing in it is of this machine: the data and the features lie below the working directory or are named only.
    assert str(tiny.folder.parent) not in json.dumps(written["features"])
    assert not Path(written["run_dir"]).is_absolute()

    # Users like one topic, which the features tell: the losses fall and the target is ranked above chance.
    # 20 items of the domain, some 3 of them in the history: chance puts 5 of 17 into the first five.
    assert written["epochs"] == 12
    assert written["train_losses"][-1] < 0.8 * written["train_losses"][0]
    assert written["test"]["overall"]["hit@5"] > 0.45
    assert written["best_valid"]["ndcg@10"] == written["best_valid_score"]
    assert 0 <= written["best_epoch"] < 12


def test_the_same_seed_gives_the_same_run_whether_features_were_there_or_not(make_dataset, run, small):
    dataset = make_dataset(n_users=30, n_items=20)
    assert not (dataset.folder / "features").exists()
    first = run("LLM4CDSR", dataset, **small)  # encodes 40 items with the default encoder
    assert (dataset.folder / "features").is_dir()
    second = run("LLM4CDSR", dataset, **small)

    assert "all-MiniLM-L6-v2" in first["features"]["items"]["encoder"]["name"]
    assert first["train_losses"] == second["train_losses"]
    assert first["test"] == second["test"]
    assert first["features"] == second["features"]
    assert first["run_dir"] != second["run_dir"]  # nothing trained is overwritten
    assert second["seconds"]["features"] < first["seconds"]["features"]

    other_seed = run("LLM4CDSR", dataset, **small, seed=5)
    assert other_seed["train_losses"] != first["train_losses"]


def test_text_of_other_items_trains_another_model(tiny, run, small, item_features):
    file = str(item_features(tiny))
    proper = run("LLM4CDSR", tiny, **small, item_features_file=file)
    permuted = run("LLM4CDSR", tiny, **small, item_features_file=file, llm_permute_seed=1)
    assert permuted["features"]["permute_seed"] == 1
    assert permuted["train_losses"] != proper["train_losses"]


def test_recboles_own_entry_point_runs_our_model(tiny, small, run, item_features, caplog):
    from recbole.quick_start import run_recbole

    ours_only = small | {"item_features_file": str(item_features(tiny)), "metrics": ["Hit", "NDCG"]}
    recbole_cdsr.register()
    with caplog.at_level(logging.INFO):
        theirs = run_recbole(model="LLM4CDSR", dataset=tiny.name, config_dict=tiny.settings | ours_only)
    assert any("FLOPs" in message and message.rstrip().split()[-1] not in ("0", "0.0") for message in caplog.messages)
    ours = run("LLM4CDSR", tiny, **ours_only)

    assert theirs["best_valid_score"] == ours["best_valid_score"]
    assert theirs["best_valid_result"] == ours["best_valid"]
    for key, value in theirs["test_result"].items():
        metric, _, domain = key.partition("_")
        cells = ours["test"]["domains"][domain] if domain else ours["test"]["overall"]
        assert cells[metric] == value, key
    first, second = sorted(Path("saved").iterdir())
    assert {path.name for path in first.iterdir()} >= {"last.pth", "best.pth", "config.yaml"}
    states = [load_checkpoint(path / "best.pth")["state_dict"] for path in (first, second)]
    for name, tensor in states[0].items():
        assert np.array_equal(tensor, states[1][name]), name


@pytest.mark.parametrize("switch", [{"use_local": False}, {"use_global": False}, {"freeze_emb": False}])
def test_switched_off_parts_train_too(tiny, run, small, item_features, switch):
    result = run("LLM4CDSR", tiny, **small, **switch, item_features_file=str(item_features(tiny)), epochs=1)
    assert result["test"]["overall"]["count"] == 60
    assert np.isfinite(result["train_losses"]).all()
