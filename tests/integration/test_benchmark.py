"""Benchmarks as users run them: real cells in real processes, killed, interrupted, continued, two at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from recbole_cdsr.cli import main
from recbole_cdsr.trainer.checkpoint import load_checkpoint

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 500
LONG = 100_000  # epochs that nobody waits for


@pytest.fixture
def grid(make_dataset) -> Path:
    """BPR, and BPR with a loss that becomes NaN, with two seeds."""
    tiny = make_dataset(n_users=30)
    settings = {key: value for key, value in tiny.settings.items() if key not in ("dataset", "epochs")}
    content = {
        "models": ["BPR", {"name": "diverging", "model": "BPR", "settings": {"learning_rate": 1e30}}],
        "datasets": [tiny.name],
        "seeds": [1, 2],
        "settings": settings | {"stopping_step": LONG, "epochs": LONG},
    }
    Path("grid.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return Path("grid.yaml")


@pytest.fixture
def start() -> Iterator:
    """Start `recbole-cdsr benchmark` as a process of its own; whatever still runs at the end is killed."""
    started: list[subprocess.Popen] = []

    def start(*arguments: str | Path) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "recbole_cdsr.cli", "benchmark", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()  # its cells end with it
        process.communicate()


def folder_of(label: str, seed: int) -> Path:
    return Path("out", "cells", "tiny", label, f"seed-{seed}")


def wait_until(holds, benchmark: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if holds():
            return
        if benchmark is not None and benchmark.poll() is not None:
            pytest.fail(f"the benchmark ended by itself: {benchmark.communicate()}")
        time.sleep(0.02)
    pytest.fail(f"not reached in {PATIENCE} s")


@contextmanager
def when(holds, act) -> Iterator[None]:
    """Act once as soon as something holds, while this thread does the block."""
    thread = threading.Thread(target=lambda: (wait_until(holds), act()), daemon=True)
    thread.start()
    yield
    thread.join(timeout=PATIENCE)


def epoch_of(folder: Path) -> int:
    last = folder / "last.pth"
    return load_checkpoint(last)["epoch"] if last.is_file() else -1


def cell_process_of(benchmark: subprocess.Popen, folder: Path) -> psutil.Process:
    (process,) = [
        child
        for child in psutil.Process(benchmark.pid).children()
        if any(argument == f"--run_dir={folder}" for argument in child.cmdline())
    ]
    return process


def attempts(read_json) -> dict[str, tuple[str, int]]:
    """Label and seed of each cell -> status and attempts."""
    records = [read_json(path) for path in sorted(Path("out").glob("cells/*/*/*/cell.json"))]
    return {f"{record['label']} {record['seed']}": (record["status"], record["attempts"]) for record in records}


@pytest.mark.slow
def test_a_benchmark_goes_on_whatever_is_killed(grid, start, read_json, capsys):
    first, second = folder_of("BPR", 1), folder_of("BPR", 2)

    # A cell is killed: a row that says so, and the others go on; the loss that is NaN is another.
    benchmark = start(grid, "--output", "out")
    wait_until(lambda: epoch_of(first) >= 2, benchmark)
    cell_process_of(benchmark, first).send_signal(signal.SIGKILL)
    wait_until(lambda: epoch_of(second) >= 2, benchmark)
    killed = read_json(first / "cell.json")
    assert (killed["status"], killed["exit_code"]) == ("failed", -9)
    assert killed["reason"].startswith("Killed by SIGKILL (signal 9)")
    diverged = read_json(folder_of("diverging", 1) / "cell.json")
    assert (diverged["status"], diverged["exit_code"]) == ("failed", 2)
    assert re.fullmatch(r"The training loss of BPR became nan in epoch 0; try .*\.", diverged["reason"])

    # The benchmark is killed: its cell ends too, keeps its last epoch, and is free for the next benchmark.
    cell = cell_process_of(benchmark, second)
    benchmark.kill()
    wait_until(lambda: not cell.is_running() or cell.status() == psutil.STATUS_ZOMBIE)
    assert "recbole-cdsr: interrupted" in (second / "cell.log").read_text(encoding="utf-8")
    assert read_json(second / "cell.json")["status"] == "running"
    killed_after = epoch_of(second)

    # It is continued and interrupted: one line, and the cell has kept its last epoch.
    with when(lambda: epoch_of(second) > killed_after, lambda: os.kill(os.getpid(), signal.SIGINT)):
        assert main(["benchmark", "--output", "out"]) == 130
    output = capsys.readouterr()
    assert output.err == (
        "\nrecbole-cdsr: interrupted; finished cells and the last epochs of running ones are kept, the same command "
        "goes on.\n"
    )
    assert "BPR on tiny, seed 2: started, going on from its last epoch" in output.out
    assert attempts(read_json) == {
        "BPR 1": ("failed", 1),
        "BPR 2": ("running", 2),
        "diverging 1": ("failed", 1),
    }
    interrupted_after = epoch_of(second)
    assert interrupted_after > killed_after

    # Two at once share what is left, and each cell is run once.
    epochs = max(interrupted_after, epoch_of(first)) + 3
    command = ["--output", "out", "--override", f"epochs={epochs}", "--retry-failed"]
    other = start(*command)
    wait_until(lambda: read_json(first / "cell.json")["attempts"] == 2, other)
    assert main(["benchmark", *command]) == 1
    outputs = [capsys.readouterr().out, other.communicate(timeout=PATIENCE)[0]]
    assert other.returncode == 1
    assert attempts(read_json) == {
        "BPR 1": ("done", 2),
        "BPR 2": ("done", 3),
        "diverging 1": ("failed", 2),
        "diverging 2": ("failed", 1),
    }
    assert [len(re.findall(": started", output)) for output in outputs] in ([1, 3], [2, 2], [3, 1]), outputs
    for folder in (first, second):
        result = read_json(folder / "result.json")
        assert result["epochs"] == epochs
        assert result["command"].startswith("recbole-cdsr run --model=BPR --dataset=tiny --seed=")
        assert "Resume from epoch" in (folder / "cell.log").read_text(encoding="utf-8")
        assert len((folder / "test_ranks.tsv").read_text(encoding="utf-8").splitlines()) == 31
    assert not [path for path in Path("out").rglob("*") if path.suffix in (".lock", ".part")]
    assert yaml.safe_load(Path("out/grid.yaml").read_text(encoding="utf-8"))["seeds"] == [1, 2]

    # What is finished is never run again.
    before = {path: path.stat().st_mtime_ns for path in Path("out/cells").rglob("*") if path.is_file()}
    assert main(["benchmark", "--output", "out"]) == 1
    assert "2 of 4 cells done, 2 failed, in out." in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path("out/cells").rglob("*") if path.is_file()} == before

    # A grid whose settings have changed is refused, and what would go on beyond its cap is listed.
    assert main(["benchmark", "--output", "out", "--override", "embedding_size=8"]) == 2
    refusal = capsys.readouterr().err
    assert "BPR on tiny, seed 1 (embedding_size is 8, was not set)" in refusal
    assert "2 cells of this grid would have other settings" in refusal
    assert main(["benchmark", "--output", "out", "--override", f"epochs={epochs + 1}", "--dry-run"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row for row in rows if "BPR" in row and f"goes on after epoch {epochs}" in row]
    assert {path: path.stat().st_mtime_ns for path in Path("out/cells").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--models=BPR,SASRek"], r"SASRek on tiny: There is no model named 'SASRek'; did you mean SASRec[^?]*\?$"),
        (["--datasets=tiny,tinny"], r"BPR on tinny, diverging on tinny: Dataset 'tinny' is not there"),
        (
            ["--override", "epochs=many"],
            r"BPR on tiny, diverging on tiny: epochs is 'many' from --override; it must be a whole",
        ),
        (["--override", "clip_grad_norm={max_norm: .inf}"], r"clip_grad_norm holds NaN or infinity from --override"),
        (["--override", "note=[1, .nan]"], r"note holds NaN or infinity from --override"),
        (["--models=BPR,LLM4CDSR+llm"], r"LLM4CDSR\+llm on tiny: llm_injection is 'adapter', but LLM4CDSR is built on"),
        (["--override", "trim_windows=True"], r"trim_windows: BPR is not known to give the same results"),
        (["--models=GRU4RecKG"], r"GRU4RecKG takes rows that only RecBole's GRU4RecKGDataset makes"),
        (["--models=LLM4CDSR", "--override", "alpha=-1"], r"LLM4CDSR on tiny: alpha is -1"),
        (["--models=,"], r"--models is ','; write one name or more"),
        (["--seeds=1,x"], r"seeds hold 'x'; a seed is a whole number"),
        (["--jobs=0"], r"--jobs is 0; it must be 1 or more"),
        (["--devices=cpu,0"], r"--devices is 'cpu,0'; write cpu, or numbers of GPUs"),
        (["--devices=7000"], r"--devices is '7000', but PyTorch finds (no GPU|\d+) here"),
        (["--epochs=3"], r"benchmark does not know --epochs=3"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(grid, capsys, arguments, answer):
    before = set(Path().rglob("*"))
    assert main(["benchmark", str(grid), "--output", "out", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("recbole-cdsr: ")
    assert re.search(answer, line), line
    assert set(Path().rglob("*")) == before


def test_all_mistakes_are_told_at_once(grid, capsys):
    arguments = ["--models=BPR,SASRek,Popp", "--override", "hidden_size=wide", "no_such_key=1"]
    assert main(["benchmark", str(grid), "--output", "out", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "grid.yaml has 2 mistakes: (1)" in line
    assert "'SASRek'" in line
    assert "'Popp'" in line


def test_what_models_read_themselves_is_checked_before_the_first_cell(grid, capsys):
    given = ["--models=SASRecBCE,LLM4CDSR", "--override", "positions=x", "prompt_language=de"]
    assert main(["benchmark", str(grid), "--output", "out", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "positions is 'x' from --override; it must be one of count, column" in line
    assert "prompt_language is 'de' from --override; it must be one of" in line
    assert not Path("out").exists()


def test_a_dry_run_lists_the_cells_and_makes_nothing(grid, capsys):
    arguments = ["--models=BPR,diverging,SASRec+llm-init", "--dry-run", "--override", "lerning_rate=0.1"]
    assert main(["benchmark", str(grid), "--output", "out", *arguments]) == 0
    output = capsys.readouterr()
    rows = [line.split() for line in output.out.splitlines()[1:]]
    assert [row[1:4] for row in rows] == [
        [label, seed, "left"] for seed in ("1", "2") for label in ("BPR", "diverging", "SASRec+llm-init")
    ]
    assert "lerning_rate (from --override) is not a known setting; did you mean learning_rate?" in output.err
    assert not Path("out").exists()
