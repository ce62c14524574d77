"""Run the cells of a grid, each in a process of its own, alone or beside other benchmarks in the same folder."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from recbole_cdsr.benchmark import cell as cells
from recbole_cdsr.benchmark.cell import Cell, CellRecord, FinishedRun, Standing, standing
from recbole_cdsr.benchmark.failures import USERS_MISTAKE, reason_of_failure
from recbole_cdsr.benchmark.progress import log_tail
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.interrupts import first_interrupt_noted
from recbole_cdsr.locks import HeldLock, is_locked, take_lock
from recbole_cdsr.trainer.run_directory import LAST

KEEP = ("best", "all", "none")
ON_CHANGE = ("refuse", "keep", "restart")
CPU = "cpu"

_POLL_SECONDS = 0.2
_SECONDS_TO_STOP = 30.0
_BYTES_OF_LOG = 1 << 20


@dataclass(frozen=True)
class RunOptions:
    """How the cells are run.

    Attributes
    ----------
    jobs : int
        Cells at once.
    devices : tuple of str
        `cpu` or numbers of GPUs, as RecBole's `gpu_id` takes them; empty leaves them to the settings.
    keep : {"best", "all", "none"}
        Checkpoints that a finished cell keeps.
    retry_failed : bool
        Run cells again that have failed before this benchmark was started, from their last whole epoch.
    restart_failed : bool
        The same, but begin them anew: what they hold is deleted.
    on_change : {"refuse", "keep", "restart"}
        What happens to cells that hold something made with other settings than the grid has now.
    """

    jobs: int = 1
    devices: tuple[str, ...] = ()
    keep: str = "best"
    retry_failed: bool = False
    restart_failed: bool = False
    on_change: str = "refuse"


@dataclass
class _Job:
    cell: Cell
    record: CellRecord
    process: subprocess.Popen
    lock: HeldLock
    device: str | None
    log_start: int


class Runner:
    """Runs what is left of a grid.

    Parameters
    ----------
    grid_cells
        Every cell of the grid with the value of `epochs` it would run with.
    output
        Folder of the benchmark.
    options
        How to run them.
    show
        Called a few times a second with this runner, and told of what has happened in the meantime.

    Attributes
    ----------
    standings : dict[Cell, Standing]
        How each cell stands; of a running one, what is recorded of it.

    Raises
    ------
    ConfigError
        Cells hold something made with other settings, and `on_change` is `refuse`.
    """

    def __init__(
        self,
        grid_cells: Mapping[Cell, int],
        output: Path,
        options: RunOptions,
        show: Callable[[Runner, str | None], None] = lambda runner, event: None,
    ) -> None:
        self._caps = dict(grid_cells)
        self._output, self._options, self._show = output, options, show
        self._jobs: list[_Job] = []
        self._elsewhere: set[Cell] = set()
        self.standings = {cell: standing(cell, output, cap) for cell, cap in self._caps.items()}
        if options.on_change == "refuse":
            refuse_changes(self.standings)
        self._attempts = {cell: now.record.attempts for cell, now in self.standings.items() if now.record is not None}
        self._pending = [cell for cell, now in self.standings.items() if self._is_to_run(cell, now)]

    @property
    def jobs(self) -> int:
        """Cells that run at once at most."""
        return self._options.jobs

    def running(self) -> list[Cell]:
        """Cells that a process of this benchmark is at work on."""
        return [job.cell for job in self._jobs]

    def pending(self) -> list[Cell]:
        """Cells that are still to be run, by this benchmark or by another that is at work on them."""
        return list(self._pending)

    def states(self) -> dict[Cell, str]:
        """How each cell stands at this moment."""
        states = {cell: now.state for cell, now in self.standings.items()}
        return states | dict.fromkeys(self._elsewhere, cells.ELSEWHERE)

    def seconds_of_attempt(self, cell: Cell) -> float:
        """Wall-clock seconds since the process of a running cell was started."""
        return next(time.time() - job.record.started for job in self._jobs if job.cell == cell)

    def run(self) -> None:
        """Run until every cell is done or has failed, here or in another benchmark.

        Raises
        ------
        KeyboardInterrupt
            On Ctrl-C, when the running cells have stopped; their last whole epochs are kept.
        ConfigError
            Nothing can be written, or no process started.
        """
        with first_interrupt_noted() as interrupts:
            try:
                while self._jobs or self._pending:
                    if interrupts:
                        raise KeyboardInterrupt
                    for job in [job for job in self._jobs if job.process.poll() is not None]:
                        self._conclude(job)
                    self._start_what_fits()
                    self._show(self, None)
                    if self._jobs or self._pending:
                        time.sleep(_POLL_SECONDS)
            finally:
                if self._jobs:
                    self._stop()

    # -- starting -----------------------------------------------------------------------------------------------

    def _is_to_run(self, cell: Cell, now: Standing) -> bool:
        if now.state == cells.FAILED:
            # Another benchmark may have tried it in the meantime: once is enough.
            again = self._options.retry_failed or self._options.restart_failed
            return again and now.record.attempts == self._attempts.get(cell)
        if now.state == cells.CHANGED:
            unfinished = now.finished is None
            return self._options.on_change == "restart" or (self._options.on_change == "keep" and unfinished)
        return now.state in (cells.LEFT, cells.INTERRUPTED)

    def _start_what_fits(self) -> None:
        for cell in list(self._pending):
            if len(self._jobs) < self._options.jobs:
                self._start_unless_taken(cell)
            elif is_locked(cell.folder(self._output) / cells.LOCK):
                self._elsewhere.add(cell)
            elif cell in self._elsewhere:
                self._elsewhere.discard(cell)
                self._is_still_to_run(cell)

    def _start_unless_taken(self, cell: Cell) -> None:
        lock = _lock_of(cell.folder(self._output))
        if lock is None:
            self._elsewhere.add(cell)
            return
        self._elsewhere.discard(cell)
        try:
            if self._is_still_to_run(cell):
                self._start(cell, lock)
                lock = None
        finally:
            if lock is not None:
                lock.release()

    def _is_still_to_run(self, cell: Cell) -> bool:
        """Look at a cell again that nobody is at work on; another benchmark may have finished it."""
        now = self.standings[cell] = standing(cell, self._output, self._caps[cell])
        if self._is_to_run(cell, now):
            return True
        self._pending.remove(cell)
        self._show(self, f"{cell}: {now.state} in another benchmark")
        return False

    def _start(self, cell: Cell, lock: HeldLock) -> None:
        folder, now = cell.folder(self._output), self.standings[cell]
        record = now.record
        changed = now.state == cells.CHANGED and self._options.on_change == "restart"
        if changed or (now.state == cells.FAILED and self._options.restart_failed):
            _empty(folder)
            record = None
        if record is None:
            record = CellRecord.of(cell)
        elif now.state != cells.CHANGED:
            record.model, record.settings = cell.model, dict(cell.settings)
        if record.status == cells.RUNNING and record.attempts and record.exit_code is None:
            record.seconds += _seconds_unseen(record, folder)
        record.status, record.reason, record.exit_code = cells.RUNNING, None, None
        record.attempts += 1
        record.started, record.host = time.time(), platform.node()
        record.write(folder)
        going_on = ", going on from its last epoch" if (folder / LAST).is_file() else ""
        self._jobs.append(self._launch(cell, record, lock))
        self._pending.remove(cell)
        self.standings[cell] = Standing(cells.RUNNING, record)
        self._show(self, f"{cell}: started{going_on}")

    def _launch(self, cell: Cell, record: CellRecord, lock: HeldLock) -> _Job:
        folder, log = cell.folder(self._output), cell.folder(self._output) / cells.LOG
        device = self._free_device()
        as_recorded = Cell(record.label, record.model, record.dataset, record.seed, record.settings)
        options = [*_where(folder), *_device_arguments(device)]
        if "show_progress" not in record.settings:  # bars are for terminals
            options.append("--show_progress=False")
        set_here = {option[2:].partition("=")[0] for option in options}
        command = ["run", *as_recorded.arguments(without=set_here), *options]
        try:
            log_start = log.stat().st_size if log.is_file() else 0
            with log.open("ab") as stream:
                process = subprocess.Popen(
                    [sys.executable, "-m", "recbole_cdsr.benchmark.cell_process", *command],
                    stdin=subprocess.PIPE,  # closed when this process ends, which the cell takes for an interrupt
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env=os.environ | threads_of_cells(self._options.jobs, os.environ) | {"PYTHONUNBUFFERED": "1"},
                    start_new_session=True,  # Ctrl-C comes here alone, and from here to the cells
                    pass_fds=(lock.descriptor,),  # the cell is locked as long as its process lives
                )
        except OSError as error:
            raise ConfigError(f"No process can be started for {cell} ({error.strerror or error}).") from error
        return _Job(cell, record, process, lock, device, log_start)

    def _free_device(self) -> str | None:
        used = [job.device for job in self._jobs]
        return min(self._options.devices, key=used.count, default=None)

    # -- ending -------------------------------------------------------------------------------------------------

    def _conclude(self, job: _Job, stopped: bool = False) -> None:
        """Record how the process of a cell has ended."""
        folder, record = job.cell.folder(self._output), job.record
        record.exit_code = job.process.wait()
        record.seconds += time.time() - record.started
        finished = FinishedRun.read(folder) if record.exit_code == 0 else None
        if finished is not None:
            record.status = cells.DONE
        elif not stopped:
            record.status = cells.FAILED
            written = log_tail(folder / cells.LOG, job.log_start, _BYTES_OF_LOG)
            record.reason = reason_of_failure(record.exit_code, written)
            if record.exit_code == USERS_MISTAKE and (folder / LAST).is_file():
                record.reason += " --retry-failed goes on with it once that is mended, --restart-failed begins it anew."
        record.write(folder)
        if finished is not None:
            remove_checkpoints(folder, self._options.keep, finished)
        self._jobs.remove(job)
        job.process.stdin.close()
        job.lock.release()
        state = {cells.DONE: cells.DONE, cells.FAILED: cells.FAILED}.get(record.status, cells.INTERRUPTED)
        self.standings[job.cell] = Standing(state, record, finished)
        self._show(self, f"{job.cell}: {state}{f': {record.reason}' if state == cells.FAILED else ''}")

    def _stop(self) -> None:
        """Interrupt the running cells and wait until they are gone; the stubborn ones are killed."""
        try:
            for job in self._jobs:
                job.process.send_signal(signal.SIGINT)
            deadline = time.monotonic() + _SECONDS_TO_STOP
            while time.monotonic() < deadline and any(job.process.poll() is None for job in self._jobs):
                time.sleep(0.05)
        finally:
            for job in list(self._jobs):
                job.process.kill()
                self._conclude(job, stopped=True)


def refuse_changes(standings: Mapping[Cell, Standing]) -> None:
    """Refuse a grid that has other settings than what its cells hold was made with.

    Raises
    ------
    ConfigError
        Naming the cells and what has changed.
    """
    changed = {cell: now for cell, now in standings.items() if now.state == cells.CHANGED}
    if not changed:
        return
    listed = [f"{cell} ({'; '.join(now.changes)})" for cell, now in list(changed.items())[:5]]
    more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
    counted = "1 cell" if len(changed) == 1 else f"{len(changed)} cells"
    raise ConfigError(
        f"{counted} of this grid would have other settings than what is there was made with: {', '.join(listed)}"
        f"{more}. Give the entry another name, or choose --changed=keep (what is finished stays, what is begun goes on "
        "as it was begun) or --changed=restart (what they hold is deleted)."
    )


def _lock_of(folder: Path) -> HeldLock | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return take_lock(folder / cells.LOCK)
    except OSError as error:
        raise ConfigError(
            f"The cell {folder} cannot be made or locked ({error.strerror or error}); choose another --output."
        ) from error


def threads_of_cells(jobs: int, given: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that divide the processor's cores among the cells.

    Parameters
    ----------
    jobs
        Cells at once.
    given
        The environment; a smaller OMP_NUM_THREADS in it is kept, and so is its OMP_WAIT_POLICY.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, asked = max(1, cores // jobs), given.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        threads = min(threads, int(asked))
    variables = {"OMP_NUM_THREADS": str(threads)}
    if jobs > 1:  # threads that wait for work leave the processor to other cells
        variables["OMP_WAIT_POLICY"] = given.get("OMP_WAIT_POLICY", "passive")
    return variables


def _where(folder: Path) -> list[str]:
    places = [f"--run_dir={folder}", f"--checkpoint_dir={folder}", f"--result_file={folder / cells.RESULT}"]
    if (folder / LAST).is_file():
        places.append("--resume=True")
    return places


def _device_arguments(device: str | None) -> list[str]:
    if device is None:
        return []
    return ["--use_gpu=False"] if device == CPU else ["--use_gpu=True", f"--gpu_id={device}"]


def _seconds_unseen(record: CellRecord, folder: Path) -> float:
    """How long the process of a killed benchmark was at work, up to its last line of log."""
    log = folder / cells.LOG
    return max(0.0, log.stat().st_mtime - record.started) if log.is_file() else 0.0


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == cells.LOCK:
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_checkpoints(folder: Path, keep: str, finished: FinishedRun) -> None:
    """Remove the checkpoints of a finished cell that are not to be kept.

    With `best`, a cell that the cap on epochs has ended keeps its latest epoch, from which a higher cap goes on.
    """
    if keep == "all":
        return
    for path in folder.glob("*.pth"):
        wanted = path.name.startswith("best") or (path.name == LAST and finished.at_cap)
        if keep == "none" or not wanted:
            path.unlink(missing_ok=True)
