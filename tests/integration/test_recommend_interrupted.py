"""An interrupted or killed `recommend`: the same command goes on, another one begins anew."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from recbole_cdsr.cli import main
from recbole_cdsr.recommend import recommender
from recbole_cdsr.recommend.output import JsonLinesWriter

from .small_models import SMALL


def test_new_items_of_another_text_go_on_with_nothing(tiny, run, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(recommender, "USERS_AT_ONCE", 7)
    items = pd.read_csv(tiny.folder / "tiny.item", sep="\t").assign(**{"category:token": "war"})
    items.to_csv(tiny.folder / "tiny.item", sep="\t", index=False)
    place = run("LLM4CDSR", tiny, epochs=1, **SMALL)["run_dir"]
    new, output = tmp_path / "new.tsv", tmp_path / "r.jsonl"
    command = ["recommend", "--run", place, "--all-users", "--new-items", str(new), "--output", str(output)]
    new.write_text("item_id\tdomain\ttitle\tcategory\nmovies:n\tmovies\tOne\twar\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(JsonLinesWriter, "text", _interrupted_after(JsonLinesWriter.text, 2))
        assert main(command) == 130
    new.write_text("item_id\tdomain\ttitle\tcategory\nmovies:n\tmovies\tOne\tlove\n", encoding="utf-8")
    assert main(command) == 0
    assert "goes on behind them" not in caplog.text


KILLED = """
import os, signal, sys
from recbole_cdsr.recommend import continued_file, recommender
from recbole_cdsr.cli import main
recommender.USERS_AT_ONCE = 7
write = continued_file.ContinuedFile.write

def write_two(file, text, done):
    if done > 14:
        os.kill(os.getpid(), signal.SIGKILL)
    write(file, text, done)

continued_file.ContinuedFile.write = write_two
main(sys.argv[1:])
"""


@pytest.mark.parametrize("name", ["r.jsonl", "r.tsv"])
def test_what_a_killed_command_wrote_is_gone_on_with(trained, tmp_path, monkeypatch, caplog, name):
    monkeypatch.setattr(recommender, "USERS_AT_ONCE", 7)
    command = ["recommend", "--run", str(trained("SASRec")["run_dir"]), "--all-users", "--topk", "3"]
    assert main([*command, "--output", str(tmp_path / f"whole-{name}")]) == 0
    output = tmp_path / name
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *command, "--output", str(output)], timeout=300, check=False, capture_output=True
    )
    assert killed.returncode == -9, killed.stderr.decode()
    assert not output.exists()

    caplog.clear()
    assert main([*command, "--output", str(output)]) == 0
    assert "14 of 40 users are in it" in caplog.text
    told, whole = (file.read_text(encoding="utf-8").splitlines() for file in (output, tmp_path / f"whole-{name}"))
    score = r"-?[0-9]+\.[0-9]+(?:e-?[0-9]+)?"  # its last digits are another process's, with threads of its own
    assert [re.sub(score, "", line) for line in told] == [re.sub(score, "", line) for line in whole]
    scores = [[float(found) for line in lines for found in re.findall(score, line)] for lines in (told, whole)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5, abs=1e-6)
    assert {path.name for path in tmp_path.glob("*r.*")} == {name, f"whole-{name}"}


def test_other_choices_go_on_with_nothing(trained, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(recommender, "USERS_AT_ONCE", 7)
    command = ["recommend", "--run", str(trained("SASRec")["run_dir"]), "--all-users", "--output"]
    with monkeypatch.context() as patch:
        patch.setattr(JsonLinesWriter, "text", _interrupted_after(JsonLinesWriter.text, 2))
        assert main([*command, str(tmp_path / "r.jsonl")]) == 130
    assert (tmp_path / ".r.jsonl.part.json").exists()
    assert main([*command, str(tmp_path / "r.jsonl"), "--topk", "3"]) == 0
    assert "goes on behind them" not in caplog.text
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 40
    assert {entry["rank"] for line in lines for entry in line["recommendations"]} == {1, 2, 3}


def _interrupted_after(text, calls):
    made = iter(range(calls))

    def interrupted(*arguments):
        if next(made, None) is None:
            raise KeyboardInterrupt
        return text(*arguments)

    return interrupted
