"""What a runner decides before it starts anything, and what it leaves of a finished cell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recbole_cdsr.benchmark.cell import DONE, FAILED, RUNNING, Cell, CellRecord, FinishedRun
from recbole_cdsr.benchmark.runner import Runner, RunOptions, remove_checkpoints, threads_of_cells
from recbole_cdsr.errors import ConfigError

CORES = len(os.sched_getaffinity(0))
CHECKPOINTS = ("best.pth", "best_books.pth", "last.pth", "S3Rec-tiny-pretrain-10.pth")


def begun(output: Path, cell: Cell, status: str = RUNNING) -> Path:
    """A cell that has finished an epoch."""
    folder = cell.folder(output)
    folder.mkdir(parents=True)
    record = CellRecord.of(cell)
    record.status = status
    record.write(folder)
    (folder / "last.pth").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("keep", "finished", "kept"),
    [
        ("best", FinishedRun(20, 300, False, True), {"best.pth", "best_books.pth"}),
        ("best", FinishedRun(300, 300, True, True), {"best.pth", "best_books.pth", "last.pth"}),
        ("all", FinishedRun(20, 300, False, True), set(CHECKPOINTS)),
        ("none", FinishedRun(300, 300, True, True), set()),
    ],
)
def test_a_finished_cell_keeps_the_checkpoints_asked_for(tmp_path, keep, finished, kept):
    for name in (*CHECKPOINTS, "result.json"):
        (tmp_path / name).write_bytes(b"")
    remove_checkpoints(tmp_path, keep, finished)
    assert {path.name for path in tmp_path.iterdir()} == kept | {"result.json"}


@pytest.mark.parametrize(
    ("jobs", "given", "variables"),
    [
        (1, {}, {"OMP_NUM_THREADS": str(CORES)}),
        (10_000, {}, {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}),
        (1, {"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "1"}),
        (1, {"OMP_NUM_THREADS": "100000"}, {"OMP_NUM_THREADS": str(CORES)}),
        (1, {"OMP_NUM_THREADS": "4,2"}, {"OMP_NUM_THREADS": str(CORES)}),
        (10_000, {"OMP_WAIT_POLICY": "active"}, {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "active"}),
    ],
)
def test_the_cores_are_divided_among_the_jobs(jobs, given, variables):
    assert threads_of_cells(jobs, given) == variables


def test_changed_cells_are_refused_with_what_has_changed(tmp_path):
    was = [Cell("BPR", "BPR", "shop", seed, {"embedding_size": 64}) for seed in range(8)]
    now = [Cell("BPR", "BPR", "shop", seed, {"embedding_size": 32}) for seed in range(8)]
    for cell in was:
        begun(tmp_path, cell)
    with pytest.raises(ConfigError) as caught:
        Runner(dict.fromkeys(now, 300), tmp_path, RunOptions())
    message = str(caught.value)
    assert "8 cells of this grid would have other settings" in message
    assert "BPR on shop, seed 4 (embedding_size is 32, was 64) and 3 more" in message
    assert "--changed=keep" in message
    assert "--changed=restart" in message
    Runner(dict.fromkeys(was, 300), tmp_path, RunOptions())  # as they were begun


def test_failed_cells_are_left_alone(tmp_path):
    cell = Cell("BPR", "BPR", "shop", 1, {})
    folder = begun(tmp_path, cell, FAILED)
    before = (folder / "cell.json").read_bytes()
    runner = Runner({cell: 300}, tmp_path, RunOptions())
    runner.run()
    assert runner.states() == {cell: FAILED}
    assert (folder / "cell.json").read_bytes() == before


@pytest.mark.parametrize("restart", [False, True])
def test_a_failed_cell_goes_on_or_begins_anew(tmp_path, restart):
    cell = Cell("BPR", "BPR", "no-such-dataset", 1, {})
    folder = begun(tmp_path, cell, FAILED)
    runner = Runner({cell: 300}, tmp_path, RunOptions(retry_failed=not restart, restart_failed=restart))
    runner.run()
    record = CellRecord.read(folder)
    assert (record.status, record.attempts, record.exit_code) == (FAILED, 1, 2)
    assert (folder / "last.pth").is_file() != restart
    assert ("--restart-failed begins it anew" in record.reason) != restart
    assert "no-such-dataset" in record.reason


def test_kept_changes_leave_a_finished_cell_as_it_is(tmp_path):
    was, now = (Cell("BPR", "BPR", "shop", 1, {"embedding_size": size}) for size in (64, 32))
    folder = begun(tmp_path, was, DONE)
    (folder / "result.json").write_text(
        '{"epochs": 9, "budget": false, "config": {"epochs": 300}, "test": {"overall": {"count": 1}}}'
    )
    runner = Runner({now: 300}, tmp_path, RunOptions(on_change="keep"))
    runner.run()
    assert runner.standings[now].finished.epochs == 9
    assert CellRecord.read(folder).settings == {"embedding_size": 64}
