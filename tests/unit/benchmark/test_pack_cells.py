"""`tools/pack_cells.py`: a benchmark without its checkpoints, which reports as the whole one does."""

from __future__ import annotations

import json
import tarfile

import pandas as pd
import pytest

from recbole_cdsr.benchmark.analysis import Analysis
from recbole_cdsr.benchmark.collect import cells_frame, load_cells
from recbole_cdsr.cli import main

from .benchmark_folder import write_cell


@pytest.fixture
def tool(load_tool):
    return load_tool("pack_cells")


def test_what_is_unpacked_reports_as_what_was_packed(tool, example, tmp_path):
    for folder in (path.parent for path in example.glob("cells/*/*/*/cell.json")):
        (folder / "best.pth").write_bytes(b"0" * 100_000)
        record = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
        (folder / "cell.json").write_text(json.dumps(record | {"host": "desk"}), encoding="utf-8")
    archive = tmp_path / "bench.tar.xz"
    assert tool.pack(example, archive) == 1 + 3 * 11
    assert archive.stat().st_size < 20_000
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "elsewhere", filter="data")
    unpacked = tmp_path / "elsewhere" / "bench"
    pd.testing.assert_frame_equal(cells_frame(load_cells(unpacked)), cells_frame(load_cells(example)))
    ours, theirs = (Analysis.of_folder(folder).datasets[0].comparisons for folder in (unpacked, example))
    assert repr(ours) == repr(theirs)
    assert main(["benchmark", "--output", str(unpacked), "--report-only"]) == 0
    assert not list(unpacked.rglob("*.pth"))
    assert {json.loads(path.read_text(encoding="utf-8"))["host"] for path in unpacked.rglob("cell.json")} == {None}


def test_the_same_cells_give_the_same_bytes_and_unfinished_ones_stay_out(tool, example, tmp_path):
    tool.pack(example, tmp_path / "one.tar.xz")
    write_cell(example, "GRU4Rec", 1, status="failed", reason="out of memory")
    write_cell(example, "GRU4Rec", 2, status="running")
    tool.pack(example, tmp_path / "two.tar.xz")
    assert (tmp_path / "one.tar.xz").read_bytes() == (tmp_path / "two.tar.xz").read_bytes()


def test_folders_of_this_machine_are_not_told(tool, example, tmp_path, monkeypatch):
    place = write_cell(example, "Pop", 1, {"book": [1] * 8, "movie": [1] * 6}, command=f"run --run_dir={tmp_path}/runs")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"Pop/seed-1/result\.json names folders of this machine"):
        tool.pack(example, tmp_path / "bench.tar.xz")
    assert place.is_dir()
    assert not (tmp_path / "bench.tar.xz").exists()


def test_what_is_no_benchmark_is_said(tool, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pack_cells.py", str(tmp_path), str(tmp_path / "a.tar.xz")])
    with pytest.raises(SystemExit, match="cannot be packed"):
        tool.main()
