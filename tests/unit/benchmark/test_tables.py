"""What a benchmark shows of real folders of cells: a line for each event, a live table, the list at the end."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from recbole_cdsr.benchmark.cell import DONE, FAILED, RUNNING, Cell, CellRecord
from recbole_cdsr.benchmark.runner import Runner, RunOptions
from recbole_cdsr.benchmark.tables import Display, counted, list_of_cells

CELLS = [Cell(label, label, "shop", seed, {}) for seed in (1, 2) for label in ("BPR", "Pop", "LightGCN")]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """BPR stopped early, Pop cannot be judged, LightGCN failed; of seed 2, BPR was interrupted in its fifth epoch."""
    states = {CELLS[0]: DONE, CELLS[1]: DONE, CELLS[2]: FAILED, CELLS[3]: RUNNING}
    for cell, status in states.items():
        folder = cell.folder(tmp_path)
        folder.mkdir(parents=True)
        record = CellRecord.of(cell)
        record.status, record.attempts, record.seconds = status, 1, 120.0
        if status == FAILED:
            record.reason = "Killed by SIGKILL (signal 9)."
        record.write(folder)
        result = {"epochs": 30, "budget": True, "config": {"epochs": 30}, "test": {"overall": {"count": 9}}}
        if cell.label == "Pop":
            result |= {"epochs": 0, "budget": False, "test": {"overall": "n/a"}}
        if status == DONE:
            (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
        if status == RUNNING:
            (folder / "last.pth").write_bytes(b"")
            (folder / "cell.log").write_text("epoch 4 training [time: 0.1s]\n", encoding="utf-8")
    return Runner(dict.fromkeys(CELLS, 30), tmp_path, RunOptions(jobs=2))


def test_the_list_says_how_every_cell_stands(runner, tmp_path):
    lines = list_of_cells(runner.standings, runner.states(), tmp_path).splitlines()
    assert [line.split() for line in lines] == [
        ["dataset", "model", "seed", "state", "attempts", "time", "reason"],
        ["shop", "BPR", "1", "done,", "30", "epochs", "(budget)", "1", "2", "min"],
        ["shop", "Pop", "1", "n/a", "1", "2", "min"],
        ["shop", "LightGCN", "1", "failed", "1", "2", "min", "Killed", "by", "SIGKILL", "(signal", "9)."],
        ["shop", "BPR", "2", "interrupted,", "epoch", "5", "1", "2", "min"],
        ["shop", "Pop", "2", "left", "0"],
        ["shop", "LightGCN", "2", "left", "0"],
    ]
    assert counted(runner.states()) == "2 of 6 cells done, 1 failed, 1 interrupted, 2 left"


def test_without_a_terminal_an_event_is_a_line(runner, tmp_path, capsys):
    display = Display(tmp_path)
    with display.live():
        display(runner, None)
        display(runner, "BPR on shop, seed 1: done")
    assert capsys.readouterr().out == (
        "BPR on shop, seed 1: done. 2 of 6 cells done, 1 failed, 1 interrupted, 2 left, about 2 min or more to go.\n"
    )


def test_on_a_terminal_there_is_a_table_of_models_and_seeds(runner, tmp_path):
    screen = io.StringIO()
    display = Display(tmp_path, Console(file=screen, force_terminal=True, width=100, height=30, color_system=None))
    with display.live():
        display(runner, "BPR on shop, seed 1: done")
    shown = screen.getvalue()
    assert "2 of 6 cells done, 1 failed, 1 interrupted, 2 left, about 2 min or more to go" in shown
    assert "LightGCN on shop, seed 1: Killed by SIGKILL (signal 9)." in shown
    lines = [line.split("│") for line in shown.replace("┃", "│").splitlines()]
    rows = {line[0].strip(): line[1:] for line in lines if len(line) == 3}
    assert [part.strip() for part in rows["model"]] == ["seed 1", "seed 2"]
    assert [part.strip() for part in rows["BPR"]] == ["done, 30 epochs (budget)", "interrupted, epoch 5"]
    assert [part.strip() for part in rows["Pop"]] == ["n/a", "left"]


def test_cells_that_are_tried_again_are_part_of_the_estimate(tmp_path, runner, capsys):
    again = Runner(dict.fromkeys(CELLS, 30), tmp_path, RunOptions(jobs=1, retry_failed=True))
    Display(tmp_path)(again, "BPR on shop, seed 1: done")
    # Pop and LightGCN of seed 2 and LightGCN of seed 1, two minutes each.
    assert capsys.readouterr().out.endswith("1 interrupted, 2 left, about 6 min or more to go.\n")
