"""Conversions of the small raw files of Amazon, through the command line, and what came of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_cdsr import cli
from recbole_cdsr.data.card import DatasetCard, load_card


def converted(raw: Path, *more: str, domains: str = "cloth,sport", name: str = "mini") -> Path:
    out = raw.parent / "out"
    arguments = ["--raw", str(raw), "--name", name, "--out", str(out), *more]
    if domains:
        arguments += ["--domains", domains]
    assert cli.main(["convert", "amazon", *arguments]) == 0
    return out / name


def refused(raw: Path, capsys: pytest.CaptureFixture[str], *more: str, domains: str = "cloth,sport") -> str:
    """Run a conversion that must fail; return its one line, after checking that it left nothing."""
    out = raw.parent / "out"
    arguments = ["--raw", str(raw), "--name", "mini", "--out", str(out), *more]
    if domains:
        arguments += ["--domains", domains]
    assert cli.main(["convert", "amazon", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert not list(out.glob("*"))
    return said


def card_of(folder: Path) -> DatasetCard:
    card = load_card(folder, folder.name)
    assert card is not None
    return card


def text(folder: Path) -> str:
    return (folder / f"{folder.name}.inter").read_text(encoding="utf-8")
