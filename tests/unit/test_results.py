"""What a result says of where things lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recbole_cdsr.results import _from_here


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{here}", "."),
        ("{here}/", "."),
        ("{here}/data", "data"),
        ("{here}//data/a", "data/a"),
        ("{here}2/data", "{here}2/data"),
        ("/mnt{here}/data", "/mnt{here}/data"),
        ("data", "data"),
        ("/elsewhere/data", "/elsewhere/data"),
        ("run.py --data_path={here}/data --run_dir={here}", "run.py --data_path=data --run_dir=."),
        ("run.py '--config_files={here}/a.yaml {here}/b.yaml'", "run.py '--config_files=a.yaml b.yaml'"),
        ("run.py --topk='[5, 10]'", "run.py --topk='[5, 10]'"),
    ],
)
def test_paths_below_the_working_directory_lose_its_name(tmp_path: Path, monkeypatch, text: str, expected: str):
    here = tmp_path / "it's (mine) + yours"
    here.mkdir()
    for folder in (tmp_path, here):
        monkeypatch.chdir(folder)
        assert _from_here(text.format(here=os.getcwd())) == expected.format(here=os.getcwd())


def test_a_file_system_root_is_nobodys_folder(monkeypatch):
    monkeypatch.chdir("/")
    assert _from_here("run.py --data_path=/data/a b//c") == "run.py --data_path=/data/a b//c"
