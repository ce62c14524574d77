"""The view of what LLMCDSR recalls, on a trained run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_cdsr.cli import main
from recbole_cdsr.data.atomic import write_atomic
from recbole_cdsr.explain.recall_view import RecallView, checkpoint_of_run
from recbole_cdsr.explain.text import user_text
from recbole_cdsr.trainer.checkpoint import load_checkpoint, save_checkpoint

TYPES = {"user_id": "token", "item_id": "token", "timestamp": "float"}
SETTINGS = {
    "hidden_size": 16,
    "n_recalled": 6,
    "noisy_batch_size": 8,
    "meta_batch_size": 16,
    "pretrain_epochs": 2,
    "epochs": 1,
}


@pytest.fixture
def trained(make_dataset, item_features, run):
    """Every other user knows books alone in training; each of these tests a movie."""
    dataset = make_dataset(n_users=40, n_per_user=5)
    frame = dataset.interactions
    is_movie = frame["item_id"].str.startswith("movies")
    single = frame["user_id"].str[1:].astype(int) % 2 == 0
    last_movies = frame[single & is_movie].groupby("user_id").tail(1).assign(timestamp=1e9)
    kept = pd.concat([frame[~(single & is_movie)], last_movies])
    write_atomic(dataset.folder / "tiny.inter", kept, TYPES)
    result = run("LLMCDSR", dataset, **SETTINGS, item_features_file=str(item_features(dataset)))
    tested = dict(zip(last_movies["user_id"], last_movies["item_id"], strict=True))
    return dataset, Path(result["run_dir"]), tested


def test_a_user_is_explained(trained):
    dataset, run_dir, tested = trained
    view = RecallView.from_checkpoint(checkpoint_of_run(run_dir))
    titles = pd.read_csv(dataset.folder / "tiny.item", sep="\t").set_index("item_id:token")["title:token_seq"]
    hits = 0
    for token, movie in tested.items():
        user = view.user(token)
        (into,) = user.recalled
        assert (into.domain, user.n_held_out, into.held_out) == ("movies", 2, [titles[movie]])
        assert {domain for _, domain in user.history} == {"books"}
        assert sum(weight for _, weight in into.names) == pytest.approx(1)
        assert len({name for name, _ in into.names}) == len(into.names) >= 3
        cosines = [cosine for _, cosine, _ in into.items]
        assert cosines == sorted(cosines, reverse=True)
        assert len(into.items) == 6
        assert all(hit == (title == titles[movie]) for title, _, hit in into.items)
        hits += any(hit for *_, hit in into.items)
    (summary,) = view.summary()
    assert (summary.domain, summary.n_users) == ("movies", 20)
    assert summary.hit_rate == pytest.approx(hits / 20)
    assert summary.by_chance == pytest.approx(6 / 20)


def test_the_weights_are_those_of_the_checkpoint(trained):
    _, run_dir, tested = trained
    path, token = checkpoint_of_run(run_dir), next(iter(tested))
    state = load_checkpoint(path)
    state["state_dict"]["recall_network.pooling"] = torch.randn(2, 16) * 5
    save_checkpoint(run_dir / "other.pth", {key: value for key, value in state.items() if key != "format"})
    before, after = (RecallView.from_checkpoint(file).user(token).recalled[0] for file in (path, run_dir / "other.pth"))
    assert {name for name, _ in before.names} == {name for name, _ in after.names}
    assert not np.allclose([w for _, w in before.names], [w for _, w in after.names], atol=1e-3)


def test_the_command_prints_users_and_the_count(trained, capsys):
    _, run_dir, tested = trained
    token = next(iter(tested))
    assert main(["explain", "--run", str(run_dir), "--users", f"{token},u3", "u1", "--random", "1", "--all"]) == 0
    printed = capsys.readouterr().out
    assert "names by offline retrieval from overlapped users (no LLM)" in printed
    assert "into movies: cosine, recalled item (* = held out)" in printed
    assert printed.count("no pseudo items") == 2  # u1 and u3 know both domains
    assert "of 20 users with held-out items there" in printed
    user = RecallView.from_checkpoint(checkpoint_of_run(run_dir)).user(token)
    assert user_text(user, 10) in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--users", "u4000"], "There is no user 'u4000'"),
        ([], "explain: name users with --users"),
        (["--users", "[PAD]"], "There is no user '[PAD]'"),
        (["--random", "-1"], "--random is -1; it must be 0 or more"),
        (["--random", "1", "--seed", "-1"], "--seed is -1"),
        (["--users", "u4", "--history", "-1"], "--history is -1"),
    ],
)
def test_mistakes_end_in_one_line(trained, capsys, arguments, words):
    _, run_dir, _ = trained
    assert main(["explain", "--run", str(run_dir), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_checkpoints_of_others_are_refused(trained, capsys, tmp_path):
    _, run_dir, _ = trained
    state = load_checkpoint(checkpoint_of_run(run_dir))
    save_checkpoint(tmp_path / "other.pth", {"model": "SASRecBCE", "state_dict": {}})
    assert main(["explain", "--checkpoint", str(tmp_path / "other.pth"), "--all"]) == 2
    state["config"]["augmentation"] = "random"
    save_checkpoint(tmp_path / "random.pth", {key: value for key, value in state.items() if key != "format"})
    assert main(["explain", "--checkpoint", str(tmp_path / "random.pth"), "--all"]) == 2
    assert main(["explain", "--run", str(tmp_path), "--all"]) == 2
    error = capsys.readouterr().err
    assert "is a checkpoint of SASRecBCE" in error
    assert "augmentation: random; nothing is recalled" in error
    assert "holds no best.pth" in error


def test_other_pseudo_items_than_those_of_training_are_refused(trained, capsys):
    _, run_dir, _ = trained
    state = load_checkpoint(run_dir / "best.pth")
    material = load_checkpoint(run_dir / "last.pth")["material"] | {"pseudo items": "0" * 64}
    content = {key: value for key, value in state.items() if key != "format"} | {"material": material}
    save_checkpoint(run_dir / "best.pth", content)
    assert main(["explain", "--run", str(run_dir), "--all"]) == 2
    assert "was trained on other pseudo items than those of 'tiny' now" in capsys.readouterr().err
