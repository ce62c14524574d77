"""LLMCDSR through the whole job: every stage, ablations, bad input, and going on after a kill."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_cdsr.data.atomic import write_atomic
from recbole_cdsr.data.card import load_card
from recbole_cdsr.errors import CDSRError, ConfigError, DataError, FeatureError
from recbole_cdsr.trainer.checkpoint import load_checkpoint

from .small_models import SMALL_LLMCDSR

TYPES = {"user_id": "token", "item_id": "token", "timestamp": "float"}
SAME = ("test", "best_valid", "best_valid_score", "best_epoch", "train_losses", "epochs", "notes")


@pytest.fixture
def mixed(make_dataset, keep_one_domain, item_features):
    """A third of the users know books alone, a third movies alone; settings name the item features."""
    dataset = make_dataset(n_users=45, n_per_user=5)
    keep_one_domain(dataset, 0, 1)
    return dataset, SMALL_LLMCDSR | {"item_features_file": str(item_features(dataset))}


def messages(caplog, text: str) -> list[str]:
    return [message for message in caplog.messages if text in message]


def test_every_stage_runs_and_the_second_run_starts_at_stage_3(mixed, run, caplog):
    dataset, settings = mixed
    (dataset.folder / f"{dataset.name}.card.yaml").write_text("description: made for a test\n", encoding="utf-8")
    first = run("LLMCDSR", dataset, **settings)
    generator = "offline retrieval from overlapped users (no LLM)"
    assert first["pseudo_items"]["made_by"] == generator
    assert [entry["made_by"] for entry in first["card"]["features"]["pseudo"]] == [generator]
    assert load_card(dataset.folder, dataset.name).to_dict() == first["card"]
    assert first["notes"]["pre-training"].keys() == {"books", "movies"}
    assert len(messages(caplog, "Pre-training of books: done")) == 1
    state = load_checkpoint(Path(first["run_dir"]) / "best.pth")["state_dict"]
    assert state["recall_network.item_table"][1:].any(dim=1).all()

    caplog.clear()
    second = run("LLMCDSR", dataset, **settings)
    assert messages(caplog, "Pre-training of books: reused")
    assert not messages(caplog, "Pre-training of books: done")
    assert {key: first[key] for key in SAME} == {key: second[key] for key in SAME}
    last = [load_checkpoint(Path(result["run_dir"]) / "last.pth")["state_dict"] for result in (first, second)]
    assert all(torch.equal(value, last[1][name]) for name, value in last[0].items())
    assert last[0]["recall_network.pooling"].any(dim=1).all()  # both domains are recalled into, and learnt

    caplog.clear()
    run("LLMCDSR", dataset, **settings | {"pretrain_temperature": 0.5, "epochs": 1})
    assert messages(caplog, "Pre-training of books: done")  # another content


def test_a_pretraining_that_its_cap_ended_makes_a_budget_run(mixed, run):
    dataset, settings = mixed
    patient = settings | {"stopping_step": 1, "stopping_updates": 0, "epochs": 60, "learning_rate": 0.05}
    for _ in ("trained", "from the kept file"):
        result = run("LLMCDSR", dataset, **patient | {"pretrain_epochs": 2, "pretrain_stopping_step": 5})
        assert result["epochs"] < 60
        assert [of["capped"] for of in result["notes"]["pre-training"].values()] == [True, True]
        assert result["budget"] is True
    waited = run("LLMCDSR", dataset, **patient | {"pretrain_epochs": 60, "pretrain_stopping_step": 0})
    assert [of["capped"] for of in waited["notes"]["pre-training"].values()] == [False, False]
    assert waited["budget"] is False


def test_a_pretraining_that_nobody_can_validate_is_warned_of_and_makes_a_budget_run(mixed, run, caplog):
    dataset, settings = mixed
    settings |= {"stopping_step": 1, "stopping_updates": 0, "epochs": 60, "learning_rate": 0.05}
    for _ in ("trained", "from the kept file"):
        caplog.clear()
        result = run("LLMCDSR", dataset, **settings | {"pretrain_valid_users": 0, "pretrain_stopping_step": 0})
        assert result["epochs"] < 60
        for of in result["notes"]["pre-training"].values():
            assert (of["epochs"], of["best_epoch"], of["hit@10"], of["capped"]) == (2, 2, None, True)
        assert result["budget"] is True
        warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert (
            "Pre-training of books cannot be validated (pretrain_valid_users is 0): it takes all 2 epochs "
            "(pretrain_epochs) and keeps the last, and its runs are marked `budget`."
        ) in warned


def test_a_domain_of_short_sequences_cannot_validate_its_pretraining(make_dataset, item_features, run, caplog):
    dataset = make_dataset(n_users=30, n_per_user=4)
    frame = dataset.interactions.sort_values(["user_id", "timestamp"])
    of_books = frame["item_id"].str.startswith("books")
    kind = frame["user_id"].str[1:].astype(int) % 3  # of books, of movies, of both
    kept = frame[(kind == 2) | of_books.eq(kind == 0)].groupby("user_id").head(4)  # of which two are trained on
    write_atomic(dataset.folder / "tiny.inter", kept, TYPES)
    settings = SMALL_LLMCDSR | {"item_features_file": str(item_features(dataset)), "epochs": 1, "pseudo_min_names": 1}
    result = run("LLMCDSR", dataset, **settings)
    assert set(result["notes"]["pre-training"]) == {"books", "movies"}
    assert {of["hit@10"] for of in result["notes"]["pre-training"].values()} == {None}
    assert len(messages(caplog, "cannot be validated (no user has three training items there): it takes all 2")) == 2


def test_domains_in_another_order_are_pretrained_anew_for_their_seed_is_another(mixed, run, tmp_path, caplog):
    dataset, settings = mixed
    run("LLMCDSR", dataset, **settings)
    file = dataset.folder / f"{dataset.name}.item"
    header, *lines = file.read_text(encoding="utf-8").splitlines()
    half = len(lines) // 2
    file.write_text("\n".join([header, *lines[half:], *lines[:half]]) + "\n", encoding="utf-8")
    matrix = np.load(settings["item_features_file"])
    np.save(tmp_path / "swapped.npy", np.concatenate([matrix[half:], matrix[:half]]))
    caplog.clear()
    run("LLMCDSR", dataset, **settings | {"item_features_file": str(tmp_path / "swapped.npy")})
    assert messages(caplog, "Pre-training of books: done")
    assert not messages(caplog, "Pre-training of books: reused")


def test_one_checkpoint_per_domain(mixed, run):
    dataset, settings = mixed
    result = run("LLMCDSR", dataset, **settings, select="per_domain")
    assert result["best_epoch"].keys() == {"books", "movies"}
    assert (Path(result["run_dir"]) / "best_movies.pth").is_file()


@pytest.mark.parametrize(
    ("ablation", "pretrains", "learns"),
    [
        ({"meta_learning": False}, True, False),
        ({"alignment": False}, False, False),
        ({"augmentation": "random"}, False, False),
        ({"augmentation": "none"}, False, False),
        ({"meta_interval": 2}, True, True),
        ({"inner_optimizer": "adam", "inner_learning_rate": 0.001}, True, True),
    ],
)
def test_ablations(mixed, run, caplog, ablation, pretrains, learns):
    dataset, settings = mixed
    result = run("LLMCDSR", dataset, **settings | ablation)
    assert bool(messages(caplog, "Pre-training of")) == pretrains
    assert bool(messages(caplog, "meta-learning [meta loss")) == learns
    assert (result["pseudo_items"] is None) == (ablation.get("augmentation") == "none")
    state = load_checkpoint(Path(result["run_dir"]) / "best.pth")["state_dict"]
    assert bool(state["recall_network.pooling"].any()) == learns
    assert np.isfinite(result["train_losses"]).all()


def test_three_domains(tmp_path, run, make_dataset):
    dataset = make_dataset(n_users=60, n_per_user=6)
    frame = dataset.interactions
    third = (frame["item_id"].str.split(":").str[1].astype(int) % 3 == 0).to_numpy()
    items = pd.read_csv(dataset.folder / "tiny.item", sep="\t")
    number = items["item_id:token"].str.split(":").str[1].astype(int)
    items.loc[number % 3 == 0, "domain:token"] = "music"
    items = items.sort_values("domain:token", kind="stable")
    plain = items.rename(columns=lambda name: name.split(":")[0])
    types = {"item_id": "token", "domain": "token", "title": "token_seq"}
    write_atomic(dataset.folder / "tiny.item", plain, types)
    domain = np.where(third, "music", frame["item_id"].str.split(":").str[0])
    own = np.array(["books", "movies", "music"])[frame["user_id"].str[1:].astype(int) % 3]
    single = frame["user_id"].str[1:].astype(int) % 2 == 0
    write_atomic(dataset.folder / "tiny.inter", frame[~single | (domain == own)].copy(), TYPES)
    random = np.random.default_rng(0)
    np.save(tmp_path / "features.npy", random.normal(size=(len(items), 12)).astype(np.float32))
    settings = SMALL_LLMCDSR | {
        "item_features_file": str(tmp_path / "features.npy"),
        "user_inter_num_interval": "[4,inf)",
        "n_recalled": 4,
    }
    result = run("LLMCDSR", dataset, **settings)
    assert result["notes"]["pre-training"].keys() == {"books", "movies", "music"}
    pooling = load_checkpoint(Path(result["run_dir"]) / "last.pth")["state_dict"]["recall_network.pooling"]
    assert pooling.shape == (3, 16)
    assert pooling.any(dim=1).all()


# ---- what may be wrong with the data


def test_without_overlapped_users_there_is_no_meta_step_and_it_is_said(
    make_dataset, keep_one_domain, item_features, run, caplog
):
    dataset = make_dataset(n_users=30, n_per_user=5)
    keep_one_domain(dataset, 0, 1, of=2)
    result = run("LLMCDSR", dataset, **SMALL_LLMCDSR, item_features_file=str(item_features(dataset)))
    assert messages(caplog, "No training user has items of two domains, so nobody can judge a shadow step")
    # Retrieval, which takes names from overlapped users, has none to give either.
    assert messages(caplog, "trains its backbone without augmentation")
    assert not messages(caplog, "Pre-training of")
    assert not messages(caplog, "meta-learning [meta loss")
    assert result["epochs"] == 2


def test_a_domain_without_single_domain_users_is_said(make_dataset, keep_one_domain, item_features, run, caplog):
    dataset = make_dataset(n_users=30, n_per_user=5)
    keep_one_domain(dataset, 0, 99)
    result = run("LLMCDSR", dataset, **SMALL_LLMCDSR, item_features_file=str(item_features(dataset)))
    assert messages(caplog, "No training row has generated names for domain books: nothing is recalled into it.")
    assert messages(caplog, "Pre-training of movies")
    assert not messages(caplog, "Pre-training of books")
    pooling = load_checkpoint(Path(result["run_dir"]) / "last.pth")["state_dict"]["recall_network.pooling"]
    assert not pooling[0].any()
    assert pooling[1].any()


def test_fewer_items_than_are_recalled(mixed, run, caplog):
    dataset, settings = mixed
    result = run("LLMCDSR", dataset, **settings | {"n_recalled": 50, "MAX_ITEM_LIST_LENGTH": 30})
    assert messages(caplog, "Domain movies has 20 items, fewer than n_recalled")
    assert np.isfinite(result["train_losses"]).all()


def test_nan_in_features_is_refused(mixed, run, tmp_path):
    dataset, settings = mixed
    matrix = np.load(settings["item_features_file"])
    matrix[3, 1] = np.nan
    np.save(tmp_path / "broken.npy", matrix)
    with pytest.raises(FeatureError, match="NaN or infinite"):
        run("LLMCDSR", dataset, **settings | {"item_features_file": str(tmp_path / "broken.npy")})
    assert not Path("saved").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pretrain_learning_rate", 0.0),
        ("pretrain_temperature", 0.0),
        ("pretrain_stopping_updates", -5),
        ("augmentation", "some"),
        ("n_recalled", 0),
        ("hidden_size", 7),  # two heads
        ("positions", "col"),
    ],
)
def test_settings_are_refused_before_anything_is_made(mixed, run, key, value):
    dataset, settings = mixed
    with pytest.raises(ConfigError, match=key):
        run("LLMCDSR", dataset, **settings | {"n_heads": 2} | {key: value})
    assert not (dataset.folder / "features").exists()


def test_without_a_block_it_trains_all_the_same(mixed, run):
    dataset, settings = mixed
    result = run("LLMCDSR", dataset, **settings | {"n_layers": 0})
    assert np.isfinite(result["train_losses"]).all()


def test_a_diverged_backbone_is_not_put_down_to_the_shadow_step(mixed, run):
    dataset, settings = mixed
    with pytest.raises(CDSRError, match="learning_rate") as caught:
        run("LLMCDSR", dataset, **settings | {"learning_rate": 1e10, "epochs": 5})
    assert "inner_learning_rate" not in str(caught.value)


def test_the_backbone_alone_is_the_model_without_augmentation_given_its_optimiser(mixed, run):
    dataset, settings = mixed
    alone = run("LLMCDSR", dataset, **settings | {"augmentation": "none", "epochs": 3})
    shared = {key: value for key, value in settings.items() if key in ("hidden_size", "item_features_file")}
    backbone = run("SASRecBCE", dataset, **shared, epochs=3, adam_betas=[0.9, 0.98])
    assert backbone["train_losses"] == alone["train_losses"]
    assert backbone["test"] == alone["test"]
    own = run("SASRecBCE", dataset, **shared, epochs=3)
    assert own["train_losses"] != alone["train_losses"]


def test_users_with_a_single_training_item_are_said_to_be_left_out(mixed, run, caplog):
    """Possible in pre-split data alone: leave-one-out leaves two at least."""
    dataset, settings = mixed
    frame = dataset.interactions.sort_values(["user_id", "timestamp"])
    last = frame.groupby("user_id").cumcount(ascending=False)
    single = frame["user_id"].isin(frame["user_id"].unique()[:12])
    books = frame["item_id"].str.startswith("books")
    train = frame[(last > 1) & ~single]
    lonely = frame[single & books].groupby("user_id").head(1)
    for part, rows in {"train": pd.concat([train, lonely]), "valid": frame[~single], "test": frame[~single]}.items():
        rows = rows if part == "train" else rows.assign(user_id=part + rows["user_id"])
        write_atomic(dataset.folder / f"{dataset.name}.{part}.inter", rows, TYPES)
    (dataset.folder / f"{dataset.name}.inter").unlink()
    run("LLMCDSR", dataset, **settings)
    assert messages(caplog, "generated lists of names are of users with a single training interaction")


def test_a_domain_nobody_can_be_pretrained_on_is_named(make_dataset, item_features, run):
    dataset = make_dataset(n_users=20, n_per_user=4)
    frame = dataset.interactions
    is_movie = frame["item_id"].str.startswith("movies")
    # Half of the users have one movie each, the first thing they saw; the others shall have some recalled.
    movies = frame[is_movie & frame["user_id"].isin(frame["user_id"].unique()[:10])].groupby("user_id").head(1)
    write_atomic(dataset.folder / "tiny.inter", pd.concat([frame[~is_movie], movies.assign(timestamp=0)]), TYPES)
    settings = SMALL_LLMCDSR | {"pseudo_min_names": 1, "item_features_file": str(item_features(dataset))}
    with pytest.raises(DataError, match="Domain movies has no user with two training items"):
        run("LLMCDSR", dataset, **settings, user_inter_num_interval="[3,inf)")


# ---- stopped and gone on with


def wait_for(path: Path, process, ready, patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if path.is_file() and ready(path):
            return
        if process.poll() is not None:
            pytest.fail(f"the run ended by itself: {process.communicate()[1][-2000:]}")
        time.sleep(0.02)
    pytest.fail(f"{path} was not ready in {patience} s")


def test_a_killed_run_goes_on_exactly(mixed, run, start, arguments):
    dataset, settings = mixed
    settings |= {"stopping_step": 1000, "learning_rate": 0.003}
    process = start(arguments("LLMCDSR", dataset, **settings, epochs=1000, run_dir="run"))
    wait_for(Path("run/last.pth"), process, lambda last: load_checkpoint(last)["epoch"] >= 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    epochs = load_checkpoint(Path("run/last.pth"))["epoch"] + 4
    resumed = run("LLMCDSR", dataset, **settings, epochs=epochs, run_dir="run", resume=True)
    straight = run("LLMCDSR", dataset, **settings, epochs=epochs, run_dir="straight")
    assert set(straight["notes"]["pre-training"]) == {"books", "movies"}
    assert {key: resumed[key] for key in SAME} == {key: straight[key] for key in SAME}
    one, other = (load_checkpoint(Path(folder) / "last.pth") for folder in ("run", "straight"))
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())


def test_pretraining_waits_for_steps_where_an_epoch_has_few(mixed, run, caplog):
    dataset, settings = mixed
    del settings["pretrain_epochs"]
    settings |= {"pretrain_stopping_step": 1, "pretrain_stopping_updates": 40, "pretrain_learning_rate": 1e-9}
    run("LLMCDSR", dataset, **settings, epochs=1)
    begun = messages(caplog, "sequences, ")
    assert len(begun) == 2
    for line in begun:  # 40 steps of 16 sequences each
        steps = -(-int(re.search(r"(\d+) sequences", line)[1]) // 16)
        assert f"{-(-40 // steps)} without a better one" in line


def test_pretraining_that_was_killed_goes_on_exactly(mixed, run, start, arguments, caplog):
    dataset, settings = mixed
    settings |= {"pretrain_epochs": 400, "pretrain_stopping_step": 400, "epochs": 1}
    folder = dataset.folder / "features" / "pretraining"
    process = start(arguments("LLMCDSR", dataset, **settings))
    deadline = time.monotonic() + 120
    while not list(folder.glob("books-*.unfinished")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (unfinished,) = folder.glob("*.unfinished")
    killed_after = load_checkpoint(unfinished)["epoch"]
    assert killed_after < 400
    # What is trained in all is part of the content, so the rest is trained too; a copy is trained without a stop.
    resumed = run("LLMCDSR", dataset, **settings)
    assert messages(caplog, "going on after epoch")
    (kept,) = folder.glob("books-*.pth")
    content = load_checkpoint(kept)
    for file in folder.iterdir():
        file.unlink()
    straight = run("LLMCDSR", dataset, **settings)
    again = load_checkpoint(kept)
    assert all(torch.equal(content[name], again[name]) for name in ("projection", "items"))
    assert {key: resumed[key] for key in SAME} == {key: straight[key] for key in SAME}


def test_a_pretraining_that_its_cap_ended_goes_on_under_a_higher_one(mixed, run, caplog):
    dataset, settings = mixed
    settings |= {"pretrain_stopping_step": 30, "epochs": 1}
    folder = dataset.folder / "features" / "pretraining"
    run("LLMCDSR", dataset, **settings | {"pretrain_epochs": 3})
    assert len(list(folder.glob("*.unfinished"))) == 2
    raised = run("LLMCDSR", dataset, **settings | {"pretrain_epochs": 6})
    assert len(messages(caplog, "going on after epoch 3")) == 2
    went_on = {path.name: load_checkpoint(path) for path in folder.glob("*.pth")}
    assert len(went_on) == 4
    shutil.rmtree(folder)
    caplog.clear()
    straight = run("LLMCDSR", dataset, **settings | {"pretrain_epochs": 6})
    assert not messages(caplog, "going on")
    assert {key: raised[key] for key in SAME} == {key: straight[key] for key in SAME}
    for path in folder.glob("*.pth"):
        again = load_checkpoint(path)
        assert all(torch.equal(went_on[path.name][name], again[name]) for name in ("projection", "items"))


def test_a_pretraining_that_ended_by_itself_is_the_same_under_another_cap(mixed, run, caplog):
    dataset, settings = mixed
    settings |= {"pretrain_stopping_step": 1, "epochs": 1}
    folder = dataset.folder / "features" / "pretraining"
    first = run("LLMCDSR", dataset, **settings | {"pretrain_epochs": 60})
    taken = max(of["epochs"] for of in first["notes"]["pre-training"].values())
    assert 1 < taken < 60
    kept = sorted(folder.iterdir())
    assert [path.suffix for path in kept] == [".pth", ".pth"]
    for cap in (taken, 90):
        caplog.clear()
        again = run("LLMCDSR", dataset, **settings | {"pretrain_epochs": cap})
        assert len(messages(caplog, "reused")) >= 2
        assert {key: first[key] for key in SAME} == {key: again[key] for key in SAME}
    assert sorted(folder.iterdir()) == kept
    lower = run("LLMCDSR", dataset, **settings | {"pretrain_epochs": 1})
    assert {of["epochs"] for of in lower["notes"]["pre-training"].values()} == {1}


def test_a_pretraining_file_of_other_content_is_refused(mixed, run):
    dataset, settings = mixed
    run("LLMCDSR", dataset, **settings, epochs=1)
    folder = dataset.folder / "features" / "pretraining"
    books, movies = sorted(folder.glob("*.pth"))
    movies.write_bytes(books.read_bytes())
    with pytest.raises(FeatureError, match=re.escape(f"{movies.name} is not what its name says")):
        run("LLMCDSR", dataset, **settings, epochs=1)
    movies.write_bytes(books.read_bytes()[:-100])
    with pytest.raises(FeatureError, match=re.escape(f"{movies.name} is damaged or of another version; delete it")):
        run("LLMCDSR", dataset, **settings, epochs=1)


def test_other_pseudo_items_are_not_resumed_into_a_run(mixed, run):
    dataset, settings = mixed
    run("LLMCDSR", dataset, **settings, epochs=1, run_dir="run")
    from recbole_cdsr.errors import CheckpointError
    from recbole_cdsr.trainer import checkpoint

    last = load_checkpoint(Path("run/last.pth"))
    last["material"]["pseudo items"] = "0" * 64
    checkpoint.save_checkpoint(Path("run/last.pth"), {k: v for k, v in last.items() if k != "format"})
    with pytest.raises(CheckpointError, match="other pseudo items"):
        run("LLMCDSR", dataset, **settings, epochs=2, run_dir="run", resume=True)


@pytest.fixture(autouse=True)
def information(caplog):
    """What is logged as information is looked at too."""
    caplog.set_level(logging.INFO)
