"""What the command answers before it opens a study."""

from __future__ import annotations

import sys

import pytest

from recbole_cdsr.cli import main

GIVEN = ["tune", "--model=BPR", "--dataset=douban", "--space=hyper.test", "--output=tuned"]


def test_without_optuna_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(GIVEN) == 2
    assert capsys.readouterr().err == (
        "recbole-cdsr: tune needs the package optuna; install it: pip install 'recbole-cdsr[tune]'.\n"
    )


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("--trials=0", "0 is less than 1"),
        ("--trials=many", "invalid number value: 'many'"),
        ("--grace_period=0", "0 is less than 1"),
        ("--sampler=hyperopt", "invalid choice: 'hyperopt'"),
        ("--space=nowhere.test", "The search space nowhere.test does not exist"),
        ("--storage=postgresql://user:secret@", "--storage"),
        ("--storage=://secret", "--storage is no URL"),
    ],
)
def test_a_mistaken_option_is_answered_in_one_line(tmp_path, monkeypatch, capsys, option, answer):
    monkeypatch.chdir(tmp_path)
    assert main([*GIVEN, option]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert answer in line
    assert "secret" not in line
    assert list(tmp_path.iterdir()) == []
