"""`recbole-cdsr benchmark`: every model of a grid on every dataset with every seed, resumable, and the report of it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_cdsr.errors import ConfigError

if TYPE_CHECKING:
    from recbole_cdsr.benchmark.cell import Cell, Standing
    from recbole_cdsr.benchmark.grid import Grid
    from recbole_cdsr.benchmark.runner import RunOptions

SOME_FAILED = 1


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `benchmark` to the command line; the parsed arguments go to `run`."""
    parser = subparsers.add_parser(
        "benchmark",
        help="run models x datasets x seeds, and report on them",
        description="Run every model on every dataset with every seed, each run in a process and a folder of its own. "
        "What is finished is never run again; whatever was stopped or killed goes on with the same command. "
        "docs/benchmark.md describes the grid.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "grid", nargs="?", type=Path, metavar="GRID", help="YAML file of models, datasets, seeds, settings"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the cells and the report")
    parser.add_argument("--models", metavar="A,B", help="instead of the grid's, e.g. LLM4CDSR,SASRec,SASRec+llm")
    parser.add_argument("--datasets", metavar="A,B", help="instead of the grid's")
    parser.add_argument("--seeds", metavar="1,2,3", help="instead of the grid's")
    parser.add_argument(
        "--override",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings of all cells, over those of the grid",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="cells at once (default: one, or one for each device)")
    parser.add_argument("--devices", metavar="cpu|0,1", help="where cells run: cpu, or GPUs by RecBole's gpu_id")
    parser.add_argument(
        "--keep",
        default="best",
        choices=["best", "all", "none"],
        help="checkpoints that a finished cell keeps: the selected ones (default), all, or none",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--retry-failed", action="store_true", help="run failed cells again, from their last whole epoch"
    )
    again.add_argument(
        "--restart-failed", action="store_true", help="begin failed cells anew: what they hold is deleted"
    )
    parser.add_argument(
        "--changed",
        default="refuse",
        choices=["refuse", "keep", "restart"],
        help="cells whose settings have changed since they were run: refuse (default), keep them, or begin them anew",
    )
    parser.add_argument("--dry-run", action="store_true", help="check the grid, list the cells and their state")
    parser.add_argument("--report-only", action="store_true", help="run nothing; report on what is there")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the benchmark and return the exit code: 0, or 1 where a cell has failed."""
    if args.report_only:
        return _report_only(args.output)
    from recbole_cdsr.benchmark.grid import read_overrides
    from recbole_cdsr.benchmark.grid_checks import check_grid
    from recbole_cdsr.benchmark.tables import list_of_cells

    options = _options(args)
    overrides = read_overrides(args.override)
    grid, source = _grid(args)
    grid = grid.with_overrides(overrides)
    checked = check_grid(grid, source)
    for warning in checked.warnings:
        print(f"recbole-cdsr: {warning}", file=sys.stderr)
    caps = {cell: checked.caps[cell.label, cell.dataset] for cell in grid.cells()}
    if args.dry_run:
        standings, states = _as_they_stand(caps, args.output)
        print(list_of_cells(standings, states, args.output))
        return 0
    is_part = any((args.models, args.datasets, args.seeds))  # what was asked for before is still planned
    return _run(grid, is_part, caps, args.output, options)


def _run(grid: Grid, is_part: bool, caps: dict[Cell, int], output: Path, options: RunOptions) -> int:
    from recbole_cdsr.benchmark.cell import FAILED
    from recbole_cdsr.benchmark.grid import GRID_FILE, read_grid
    from recbole_cdsr.benchmark.runner import Runner
    from recbole_cdsr.benchmark.tables import Display, counted, list_of_cells
    from recbole_cdsr.locks import one_at_a_time

    display = Display(output)
    runner = Runner(caps, output, options, display)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(output / "benchmark.lock", "The grid"):
            former = output / GRID_FILE
            planned = grid.added_to(read_grid(former)) if is_part and former.is_file() else grid
            planned.write(former)
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written ({error.strerror}); choose another folder.") from error
    with display.live():
        runner.run()
    states = runner.states()
    print(list_of_cells(runner.standings, states, output))
    print(f"{counted(states)}, in {output}.")
    if any(now.finished is not None for now in runner.standings.values()) or FAILED in states.values():
        _write_report(output)
    return SOME_FAILED if FAILED in states.values() else 0


def _grid(args: argparse.Namespace) -> tuple[Grid, str]:
    """The grid that the arguments name, and what it is called."""
    from recbole_cdsr.benchmark.grid import GRID_FILE, read_grid

    named = {key: _names(getattr(args, key), f"--{key}") for key in ("models", "datasets", "seeds")}
    path = args.grid
    if path is None and None in named.values() and (args.output / GRID_FILE).is_file():
        path = args.output / GRID_FILE  # of the latest benchmark in this folder
    return read_grid(path, **named), "the command line" if path is None else str(path)


def _names(text: str | None, option: str) -> list[str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"{option} is {text!r}; write one name or more, with commas between them.")
    return names


def _options(args: argparse.Namespace) -> RunOptions:
    from recbole_cdsr.benchmark.runner import CPU, RunOptions

    devices = tuple(_names(args.devices, "--devices") or ())
    if not all(device.isdecimal() for device in devices) and devices != (CPU,):
        raise ConfigError(f"--devices is {args.devices!r}; write cpu, or numbers of GPUs such as 0,1.")
    if len(set(devices)) < len(devices):
        raise ConfigError(f"--devices is {args.devices!r}; name each once, and let several share it with --jobs.")
    if absent := _absent(devices):
        raise ConfigError(f"--devices is {args.devices!r}, but {absent}; write cpu, or leave it to the settings.")
    jobs = max(1, len(devices)) if args.jobs is None else args.jobs
    if jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; it must be 1 or more.")
    return RunOptions(jobs, devices, args.keep, args.retry_failed, args.restart_failed, args.changed)


def _absent(devices: tuple[str, ...]) -> str | None:
    """Which of some GPUs PyTorch does not find, in words; RecBole would train on the processor without a word."""
    import torch

    numbers = [int(device) for device in devices if device.isdecimal()]
    found = torch.cuda.device_count()
    if not numbers or (found and max(numbers) < found):
        return None
    if not found:
        return "PyTorch finds no GPU here"
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return None  # gpu_id counts all GPUs, PyTorch those that are visible
    return f"PyTorch finds {found} here, numbered from 0"


def _as_they_stand(caps: dict[Cell, int], output: Path) -> tuple[dict[Cell, Standing], dict[Cell, str]]:
    from recbole_cdsr.benchmark.cell import ELSEWHERE, LOCK, standing
    from recbole_cdsr.locks import is_locked

    standings = {cell: standing(cell, output, cap) for cell, cap in caps.items()}
    states = {
        cell: ELSEWHERE if is_locked(cell.folder(output) / LOCK) else now.state for cell, now in standings.items()
    }
    return standings, states


def _report_only(output: Path) -> int:
    if not output.is_dir():
        raise ConfigError(f"--output {output} is no folder; --report-only takes that of a benchmark.")
    _write_report(output)
    return 0


def _write_report(output: Path) -> None:
    from recbole_cdsr.benchmark.report import write_report
    from recbole_cdsr.locks import one_at_a_time

    with one_at_a_time(output / "benchmark.lock", "The report"):
        written = write_report(output)
    print("Report: " + ", ".join(str(path) for path in written))
