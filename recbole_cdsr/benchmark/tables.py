"""What a benchmark shows: a live table on a terminal, lines elsewhere, and the table at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from recbole_cdsr.benchmark import cell as cells
from recbole_cdsr.benchmark.cell import Cell, Standing
from recbole_cdsr.benchmark.progress import duration, epochs_trained, time_left
from recbole_cdsr.benchmark.runner import Runner
from recbole_cdsr.llm.feature_list import text_table

_REFRESH_SECONDS = 1.0
_STYLES = {cells.DONE: "green", cells.FAILED: "red", cells.RUNNING: "cyan", cells.ELSEWHERE: "blue"}
_ORDER = (
    cells.DONE,
    cells.FAILED,
    cells.RUNNING,
    cells.ELSEWHERE,
    cells.CHANGED,
    cells.INTERRUPTED,
    cells.LEFT,
)


def described(state: str, now: Standing, folder: Path) -> str:
    """A cell in a few words: its state, its epochs, why it is no claim."""
    if now.finished is not None and state in (cells.DONE, cells.CHANGED):
        finished = now.finished
        other = ", other settings" if state == cells.CHANGED else ""
        if not finished.judged:
            return f"n/a{other}"
        epochs = f"{finished.epochs} epoch{'' if finished.epochs == 1 else 's'}"
        return f"done, {epochs}{' (budget)' if finished.budget else ''}{other}"
    if now.finished is not None and state == cells.LEFT:
        return f"goes on after epoch {now.finished.epochs}"
    if state in (cells.RUNNING, cells.ELSEWHERE, cells.INTERRUPTED, cells.CHANGED):
        trained = epochs_trained(folder)
        return f"{state}, {trained}" if trained else state
    return state


def list_of_cells(standings: Mapping[Cell, Standing], states: Mapping[Cell, str], output: Path) -> str:
    """Every cell on a line with its state, and for failed ones why."""
    rows = [("dataset", "model", "seed", "state", "attempts", "time", "reason")]
    for cell, now in standings.items():
        record = now.record
        rows.append(
            (
                cell.dataset,
                cell.label,
                str(cell.seed),
                described(states[cell], now, cell.folder(output)),
                str(record.attempts if record else 0),
                duration(record.seconds) if record else "",
                "; ".join(now.changes) or (record.reason or "" if record and states[cell] == cells.FAILED else ""),
            )
        )
    return "\n".join(text_table(rows))


def counted(states: Mapping[Cell, str]) -> str:
    """How many cells are in which state: `3 of 12 cells done, 1 failed, 2 running, 6 left`."""
    counts = {state: list(states.values()).count(state) for state in _ORDER}
    said = [f"{counts[state]} {state}" for state in _ORDER[1:] if counts[state]]
    return ", ".join([f"{counts[cells.DONE]} of {len(states)} cells done", *said])


class Display:
    """Shows a runner: live where the output is a terminal, a line for each event elsewhere.

    Parameters
    ----------
    output
        Folder of the benchmark.
    console
        Where to show it; None takes the standard output.
    """

    def __init__(self, output: Path, console: Console | None = None) -> None:
        self._output = output
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._live: Live | None = None
        self._shown = 0.0

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep a table at the end of the terminal while the block runs."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False, vertical_overflow="crop") as self._live:
            yield

    def __call__(self, runner: Runner, event: str | None) -> None:
        """Show how a runner stands; `event` is what has just happened, if anything has."""
        if event is None and (self._live is None or time.monotonic() - self._shown < _REFRESH_SECONDS):
            return
        states = runner.states()
        if self._live is None:
            print(f"{event.rstrip('.')}. {counted(states)}{_time_left(runner, states)}.", flush=True)
            return
        self._shown = time.monotonic()
        self._live.update(self._view(runner, states), refresh=True)

    def _view(self, runner: Runner, states: Mapping[Cell, str]) -> Group:
        # Totals and running cells come first: a terminal that is too low cuts the end.
        parts = [Text(f"{counted(states)}{_time_left(runner, states)}", style="bold")]
        for cell in runner.running():
            now = described(cells.RUNNING, runner.standings[cell], cell.folder(self._output))
            parts.append(Text(f"  {cell}: {now}, {duration(runner.seconds_of_attempt(cell))}", style="cyan"))
        for cell, now in runner.standings.items():
            if states[cell] == cells.FAILED:
                parts.append(Text(f"  {cell}: {now.record.reason}", style="red"))
        for dataset in dict.fromkeys(cell.dataset for cell in states):
            parts.append(self._table(dataset, runner, states))
        return Group(*parts)

    def _table(self, dataset: str, runner: Runner, states: Mapping[Cell, str]) -> Table:
        of_dataset = {(cell.label, cell.seed): cell for cell in states if cell.dataset == dataset}
        seeds = list(dict.fromkeys(seed for _, seed in of_dataset))
        table = Table(title=dataset, title_justify="left", show_edge=False, pad_edge=False)
        table.add_column("model")
        for seed in seeds:
            table.add_column(f"seed {seed}")
        for label in dict.fromkeys(label for label, _ in of_dataset):
            row = [of_dataset[label, seed] for seed in seeds]
            table.add_row(label, *(self._cell(cell, runner, states[cell]) for cell in row))
        return table

    def _cell(self, cell: Cell, runner: Runner, state: str) -> Text:
        text = described(state, runner.standings[cell], cell.folder(self._output))
        return Text(text, style=_STYLES.get(state, "dim"))


def _time_left(runner: Runner, states: Mapping[Cell, str]) -> str:
    finished = {
        cell: runner.standings[cell].record.seconds
        for cell, state in states.items()
        if state == cells.DONE and runner.standings[cell].finished.judged
    }
    running = {cell: _spent(runner, cell) + runner.seconds_of_attempt(cell) for cell in runner.running()}
    # What a failed or changed cell holds, or one that its cap ended, says nothing of how long it goes on.
    left = {cell: _spent(runner, cell) if states[cell] == cells.INTERRUPTED else 0.0 for cell in runner.pending()}
    estimate = time_left(left, running, finished, runner.jobs) if left or running else None
    return "" if estimate is None else f", {estimate}"


def _spent(runner: Runner, cell: Cell) -> float:
    record = runner.standings[cell].record
    return 0.0 if record is None else record.seconds
