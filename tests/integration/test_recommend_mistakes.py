"""What `recommend`, `evaluate` and `explain` say of a mistake: one line, and nothing is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from recbole_cdsr.cli import main
from recbole_cdsr.data.atomic import write_atomic
from recbole_cdsr.trainer.checkpoint import load_checkpoint, save_checkpoint

TYPES = {"user_id": "token", "item_id": "token", "timestamp": "float"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--users", "u7,u444"], "There is no user of 'tiny' named 'u444'"),
        (["--users", "u77"], "did you mean u7"),
        (["--users", "x", "y"], "named 'x', 'y'"),
        (["--history", "books:1,books:99"], "There is no item of 'tiny' named 'books:99'"),
        (["--history", ","], "the history is empty"),
        (["--users", "u1", "--domain", "book"], "has no domain 'book'; did you mean books?"),
        (["--users", "u1", "--topk", "0"], "--topk is 0"),
        (["--users", ""], "--users names no user"),
        (["--users", "[PAD]"], "There is no user of 'tiny' named '[PAD]'."),
        (["--users", "u1", "--domain", ","], "--domain names no domain; there are books, movies."),
        (["--users", "u1", "--output", "/dev/null"], "--output /dev/null is no regular file"),
        (["--users", "u1", "--only-new"], "belong to --new-items"),
        (["--users", "u1", "--hidden_size=8"], "hidden_size is no setting it could change"),
        (["--users", "u1", "--dataset=douban"], "recommend uses the data that the model was trained on"),
        (["--users", "u1", "--output", "nowhere/r.tsv"], "its folder is not there"),
        ([], "one of the arguments --users --all-users --history --histories is required"),
    ],
)
def test_mistakes_end_in_one_line(trained, capsys, arguments, words):
    assert main(["recommend", "--run", trained("SASRec")["run_dir"], *arguments]) == 2
    output = capsys.readouterr()
    assert words in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


def test_a_failure_leaves_the_former_file(trained, tmp_path, capsys):
    state = load_checkpoint(Path(trained("SASRec")["run_dir"]) / "best.pth")
    state["state_dict"]["item_embedding.weight"][3:] = float("nan")
    save_checkpoint(tmp_path / "broken.pth", {key: value for key, value in state.items() if key != "format"})
    (tmp_path / "r.tsv").write_text("former", encoding="utf-8")
    arguments = ["--checkpoint", str(tmp_path / "broken.pth"), "--all-users", "--output", str(tmp_path / "r.tsv")]
    assert main(["recommend", *arguments]) == 2
    assert "gives scores that are not finite numbers" in capsys.readouterr().err
    assert (tmp_path / "r.tsv").read_text(encoding="utf-8") == "former"
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("command", ["recommend", "evaluate", "explain"])
@pytest.mark.parametrize("option", ["--run", "--checkpoint"])
def test_a_run_without_a_name(command, option, capsys):
    who = {"recommend": ["--all-users"], "explain": ["--all"], "evaluate": []}
    assert main([command, option, "", *who[command]]) == 2
    said = "names nothing; give the directory of a run or a checkpoint in it."
    assert capsys.readouterr().err == f"recbole-cdsr: {option} {said}\n"


def test_half_a_character_is_no_user(trained, tmp_path, capsys):
    file = tmp_path / "new.jsonl"
    file.write_text('{"user": "\\ud800", "items": ["books:1"]}\n', encoding="utf-8")
    assert main(["recommend", "--run", trained("SASRec")["run_dir"], "--histories", str(file)]) == 2
    assert "line 1: the user '\\ud800' is no text that a file can hold" in capsys.readouterr().err


def test_a_user_who_has_done_nothing_is_named(tiny, run, capsys):
    (tiny.folder / "tiny.user").write_text("user_id:token\nu1\nidle\n", encoding="utf-8")
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "domain"], "user": ["user_id"]}
    for model in ("SASRec", "BPR"):
        place = run(model, tiny, epochs=1, load_col=columns)["run_dir"]
        assert main(["recommend", "--run", place, "--users", "idle", "u1"]) == 2
        assert "User 'idle' has no interactions; give a history with --history." in capsys.readouterr().err


def test_an_output_that_cannot_say_a_title(tiny, run):
    items = pd.read_csv(tiny.folder / "tiny.item", sep="\t")
    items["title:token_seq"] = "書"
    items.to_csv(tiny.folder / "tiny.item", sep="\t", index=False)
    place = run("SASRec", tiny, epochs=1)["run_dir"]
    told = subprocess.run(
        [sys.executable, "-m", "recbole_cdsr.cli", "recommend", "--run", place, "--users", "u1"],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert told.returncode == 2
    assert told.stderr.splitlines()[-1].startswith("recbole-cdsr: the output is latin-1, which has no '\\u66f8'; set")
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("model", ["EASE", "Pop", "SASRec"])
def test_a_catalogue_that_has_grown_is_refused(tiny, run, capsys, model):
    place = run(model, tiny, epochs=1)["run_dir"]
    with (tiny.folder / "tiny.item").open("a", encoding="utf-8") as file:
        file.write("movies:new\tmovies\tA new one\tdrama\n")
    for command in (["evaluate"], ["recommend", "--all-users"]):
        assert main([*command, "--run", place]) == 2
        assert "Traceback" not in capsys.readouterr().err


def test_other_interactions_than_those_of_training_are_refused(tiny, run, capsys):
    place = run("SASRec", tiny, epochs=1)["run_dir"]
    file = tiny.folder / "tiny.inter"
    frame = tiny.interactions.copy()
    frame.loc[frame.index[-1], "item_id"] = "movies:0"
    write_atomic(file, frame, TYPES)
    assert main(["recommend", "--run", place, "--users", "u1"]) == 2
    assert "was trained on other interactions than those of 'tiny' now" in capsys.readouterr().err
