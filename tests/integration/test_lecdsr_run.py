"""LeCDSR from atomic files to a result, its profiles of held-out users, and a run that goes on."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

import recbole_cdsr
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.data.loaders import prepare_loaders
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.quick_start import create_dataset
from recbole_cdsr.trainer.checkpoint import load_checkpoint

PROFILES = ("prefix", "training_part")
SAME = ("test", "best_valid", "best_valid_score", "best_epoch", "train_losses", "epochs")


@pytest.fixture
def settings(tiny, item_features):
    """Settings that make LeCDSR small."""
    return {
        "item_features_file": str(item_features(tiny)),
        "hidden_size": 16,
        "adapter_size": 16,
        "n_negatives": 9,
        "profile_clusters": 3,
        "learning_rate": 0.01,
    }


def test_a_run_learns(tiny, run, settings):
    result = run("LeCDSR", tiny, **settings, epochs=8, eval_candidates=["full", "uni10"])
    assert result["features"]["profiles"]["made_by"]
    assert result["config"]["learner"] == "adamw"
    assert result["train_losses"][-1] < 0.8 * result["train_losses"][0]
    # 20 items of the domain, some 3 of them in the history: chance puts 5 of 17 into the first five.
    assert result["test"]["overall"]["hit@5"] > 0.45
    assert result["test"]["uni10"]["overall"]["count"] == 60
    state = load_checkpoint(Path(result["run_dir"]) / "best.pth")["state_dict"]
    assert not {"text_table", "profile_table"} & state.keys()


def test_a_run_goes_on_as_if_it_had_not_stopped(tiny, run, settings):
    short = run("LeCDSR", tiny, **settings, epochs=2)
    longer = run("LeCDSR", tiny, **settings, epochs=4, resume=True)
    straight = run("LeCDSR", tiny, **settings, epochs=4, checkpoint_dir="elsewhere")
    assert longer["run_dir"] == short["run_dir"]
    assert {key: longer[key] for key in SAME} == {key: straight[key] for key in SAME}


@pytest.mark.parametrize(
    "switch",
    [
        {"use_text": False},
        {"use_profiles": False},
        {"profile_generator": "none"},
        {"use_fusion": False},
        {"align_weight": 0.0},
        {"mask_padding": False, "official_positions": True, "loss_reduction": "sum"},
        {"shared_negatives": True, "missing_profile": "learnt"},
        {"MAX_ITEM_LIST_LENGTH": 1},
        {"MAX_ITEM_LIST_LENGTH": 4, "train_batch_size": 1},
        {"select": "per_domain"},
    ],
    ids=lambda switch: ",".join(switch),
)
def test_switches(make_dataset, run, settings, switch):
    dataset = make_dataset(n_users=12, name="few")
    result = run("LeCDSR", dataset, **settings | switch, epochs=1)
    assert result["test"]["overall"]["count"] == 12
    assert np.isfinite(result["train_losses"]).all()


def test_recboles_own_entry_point_runs_it(tiny, run, settings, caplog):
    from recbole.quick_start import run_recbole

    recbole_cdsr.register()
    with caplog.at_level(logging.INFO):
        theirs = run_recbole(model="LeCDSR", dataset=tiny.name, config_dict=tiny.settings | settings | {"epochs": 1})
    assert any("FLOPs" in message and message.rstrip().split()[-1] not in ("0", "0.0") for message in caplog.messages)
    ours = run("LeCDSR", tiny, **settings, epochs=1)
    assert theirs["best_valid_result"] == ours["best_valid"]


def test_held_out_users_are_judged_by_the_profile_of_their_input_history(held_out, run, settings):
    """Protocol, point 9: what comes before the target, never the target itself."""
    result = run("LeCDSR", held_out, **settings, epochs=1)
    assert result["test"]["overall"]["count"] == 8

    config = CDSRConfig("LeCDSR", held_out.name, config_dict=held_out.settings | settings, command_line=[])
    data = create_dataset(config)
    train, _, test = prepare_loaders(config, data)
    profiles = data.llm_features.profiles
    rows = test._dataset.evaluation_rows()
    assert not np.isin(rows.users, train._dataset[:]["user_id"].numpy()).any()  # unseen in training
    assert profiles[rows.users].any(axis=1).all()

    # The same data with other targets: the profiles do not move.
    file = held_out.folder / f"{held_out.name}.test.inter"
    lines = file.read_text(encoding="utf-8").splitlines()
    cells = [line.split("\t") for line in lines[1:]]
    last = {row[0]: place for place, row in enumerate(cells)}
    for place in last.values():
        cells[place][1] = "books:0"
    file.write_text("\n".join([lines[0], *map("\t".join, cells)]) + "\n", encoding="utf-8")
    moved = create_dataset(config)
    moved.build()
    assert moved.log.items[moved.log.test.targets].tolist() != rows.targets.tolist()
    np.testing.assert_array_equal(moved.llm_features.profiles, profiles)


def test_a_training_rows_profile_is_made_of_what_comes_before_its_target(tiny, settings):
    of_prefixes = tiny.settings | settings | {"training_profiles": "prefix"}
    config = CDSRConfig("LeCDSR", tiny.name, config_dict=of_prefixes, command_line=[])
    data = create_dataset(config)
    train, valid, _ = prepare_loaders(config, data)
    rows = train._dataset.rows
    batch = train._dataset[np.arange(len(rows))]
    assert batch["user_profile"].shape == (len(rows), data.llm_features.profiles.shape[1])
    # One item before the target: the profile is that item's text, and nothing of the target's.
    items = torch.nn.functional.normalize(torch.from_numpy(data.llm_features.items), dim=1)
    single = batch["item_length"] == 1
    assert single.any()
    torch.testing.assert_close(batch["user_profile"][single], items[batch["item_id_list"][single, 0]])
    # A validation row's profile, of the whole training part, is what a training row with that target would have.
    judged = valid._dataset
    made = data.prefix_profiler.profiles(data.log.items, judged.rows)
    np.testing.assert_array_equal(made, data.llm_features.profiles[data.log.users[judged.rows.targets]])
    assert "user_profile" not in judged[np.arange(len(judged))].columns


def test_what_a_training_rows_profile_is_made_of_is_a_setting(tiny, run, settings, caplog):
    of_prefixes = run("LeCDSR", tiny, **settings, epochs=1, training_profiles="prefix")
    of_all = run("LeCDSR", tiny, **settings, epochs=1)
    without = [run("LeCDSR", tiny, **settings, epochs=1, use_profiles=False, training_profiles=p) for p in PROFILES]
    assert of_prefixes["train_losses"] != of_all["train_losses"]
    assert without[0]["train_losses"] == without[1]["train_losses"]
    caplog.clear()
    texts = {"profile_encoding": "text", "item_features_file": None}
    run("LeCDSR", tiny, **settings | texts, epochs=1, training_profiles="prefix")
    assert any("a training row's profile knows its target" in message for message in caplog.messages)
    with pytest.raises(ConfigError, match="training_profiles"):
        run("LeCDSR", tiny, **settings, training_profiles="all")
