"""How far a running cell is, read off its log, and how long the rest of a benchmark may take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from recbole_cdsr.benchmark.cell import LOG, Cell

_TAIL = 1 << 15  # bytes; an epoch takes a few hundred
_EPOCH = re.compile(r"epoch (\d+) (?:training|evaluating)")
_PRETRAINING = re.compile(r"Pre-training of (\S+): epoch (\d+)")


def log_tail(path: Path, start: int = 0, longest: int = _TAIL) -> str:
    """The end of a log from the byte `start` on; "" where there is none."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(start, size - longest, 0))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def epochs_trained(folder: Path) -> str | None:
    """What a cell's log says of its progress, such as `epoch 12`, counted from 1; None before the first epoch."""
    tail = log_tail(folder / LOG)
    epochs = _EPOCH.findall(tail)
    if epochs:
        return f"epoch {int(epochs[-1]) + 1}"
    pretraining = _PRETRAINING.findall(tail)
    if pretraining:
        return f"pre-training {pretraining[-1][0]}, epoch {pretraining[-1][1]}"
    return None


@dataclass(frozen=True)
class TimeLeft:
    """An estimate of the wall-clock time until all cells are done.

    Attributes
    ----------
    seconds : float
    known : bool
        Whether there is a finished cell of every model that is left or running; else other models stood in for some.
    """

    seconds: float
    known: bool

    def __str__(self) -> str:
        return f"about {duration(self.seconds)} {'' if self.known else 'or more '}to go"


def time_left(
    left: Mapping[Cell, float], running: Mapping[Cell, float], finished: Mapping[Cell, float], jobs: int
) -> TimeLeft | None:
    """Estimate how long the rest takes.

    A cell is taken to need the mean of the finished ones of the same label and dataset; without any, of the same label
    elsewhere; without these, of the same dataset, or of all, but no less than a running cell of its label has taken.

    Parameters
    ----------
    left
        Cells to be started with the seconds that what they go on from took; 0 of those that begin.
    running
        Running cells with their seconds so far, earlier attempts included.
    finished
        Finished cells with the seconds they took.
    jobs
        Cells that run at once.

    Returns
    -------
    TimeLeft or None
        None before the first cell is finished.
    """
    if not finished:
        return None
    of_kind: dict[tuple[str | None, str | None], list[float]] = {}
    for cell, seconds in finished.items():
        for kind in _kinds(cell):
            of_kind.setdefault(kind, []).append(seconds)
    labels = {cell.label for cell in finished}
    longest: dict[str, float] = {}
    for cell, so_far in running.items():
        longest[cell.label] = max(so_far, longest.get(cell.label, 0.0))

    def needed(cell: Cell) -> float:
        seconds = mean(next(of_kind[kind] for kind in _kinds(cell) if kind in of_kind))
        return seconds if cell.label in labels else max(seconds, longest.get(cell.label, 0.0))

    rest = [max(needed(cell) - so_far, 0.0) for cell, so_far in (*running.items(), *left.items())]
    seconds = max(sum(rest) / jobs, max(rest, default=0.0))
    return TimeLeft(seconds, all(cell.label in labels for cell in (*left, *running)))


def _kinds(cell: Cell) -> tuple[tuple[str | None, str | None], ...]:
    return (cell.label, cell.dataset), (cell.label, None), (None, cell.dataset), (None, None)


def duration(seconds: float) -> str:
    """Seconds for people: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
