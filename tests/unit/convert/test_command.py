from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from recbole_cdsr.convert.command import add_parser, run
from recbole_cdsr.errors import ConfigError


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="recbole-cdsr")
    add_parser(parser.add_subparsers(required=True))
    return parser.parse_args(["convert", "llmcdsr", *arguments])


def test_converts_and_prints_the_card(
    release: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = parse(
        "--raw", str(release()), "--name", "mini", "--domains", "food,kitchen",
        "--out", str(tmp_path / "out"), "--max-users", "2", "--seed", "9",
    )  # fmt: skip
    assert args.run is run
    assert run(args) == 0
    printed = capsys.readouterr().out
    assert "domain       kitchen: 2 items" in printed
    assert "2 of 4 training users" in printed
    assert "seed 9" in printed
    assert (tmp_path / "out" / "mini" / "mini.train.inter").read_text().count("\t0\n") == 2


def test_one_domain_is_refused(release: Callable[..., Path], tmp_path: Path) -> None:
    args = parse("--raw", str(release()), "--name", "mini", "--domains", "food", "--out", str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="two domains"):
        run(args)


def test_required_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--raw", "x", "--name", "mini")
    assert caught.value.code == 2
    assert "--domains" in capsys.readouterr().err
