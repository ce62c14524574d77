"""What one process does in a study: begin trials while places are left, continue those that were stopped."""

from __future__ import annotations

import gc
import logging
import os
import re
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna import Study, Trial
from optuna.exceptions import OptunaError, TrialPruned, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from recbole.utils.logger import RemoveColorFilter
from tqdm import tqdm

from recbole_cdsr.errors import CDSRError, ConfigError
from recbole_cdsr.locks import hold
from recbole_cdsr.processes import ProcessMark
from recbole_cdsr.trainer.run_directory import LAST
from recbole_cdsr.tune import accounts
from recbole_cdsr.tune.job import Job
from recbole_cdsr.tune.space import Space

# So many failures of one kind, and nothing else, are no accident of what was drawn.
HOPELESS = 3
_POLL_SECONDS = 1.0


class Surplus(Exception):
    """A trial that began when all places were taken."""


@dataclass
class Worker:
    """Runs trials of a study until all of its places have ended, here or elsewhere.

    Attributes
    ----------
    study, space, job
        What is run.
    n_trials
        The places of the study, over all processes.
    output
        The folder of `trials/<number>/`.
    grace_period
        Seconds of silence after which a trial without any sign of its process is taken for stopped.
    after_trial
        Called when a trial has ended here.
    """

    study: Study
    space: Space
    job: Job
    n_trials: int
    output: Path
    grace_period: int
    after_trial: Callable[[], None]
    _number: int = -1
    _unmarked_since: dict[int, float] = field(default_factory=dict)
    _waited_for: list[int] = field(default_factory=list)

    def work(self) -> None:
        """Run trials.

        Raises
        ------
        CDSRError
            The first trials all fail for the same mistake.
        """
        while True:
            self._recover()
            trials = self.study.get_trials(deepcopy=False)
            waiting = any(trial.state == TrialState.WAITING for trial in trials)
            running = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
            if waiting or len(accounts.placed(trials)) < self.n_trials:
                self._run_one()
                self.after_trial()
                self._give_up_if_hopeless()
            elif running:
                if running != self._waited_for:
                    print(f"Nothing left to begin; waiting for {_listed(running)} of other processes.", flush=True)
                self._waited_for = running
                time.sleep(min(_POLL_SECONDS, self.grace_period / 4))
            else:
                return

    # ------------------------------------------------------------------------------------------------- the stopped
    def _recover(self) -> None:
        """Fail the trials of processes that are gone, and enqueue what continues them."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_gone(trial):
                with suppress(UpdateFinishedTrialError, ValueError):  # another process was faster
                    self.study.tell(trial.number, state=TrialState.FAIL)
        optuna.storages.fail_stale_trials(self.study)  # those of other machines, by their silence
        for trial in accounts.to_continue(self.study.get_trials(deepcopy=False), self.n_trials):
            self.study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    intermediate_values=trial.intermediate_values,
                    user_attrs=dict(accounts.continuation(trial)),
                )
            )

    def _is_gone(self, trial: FrozenTrial) -> bool:
        mark = trial.user_attrs.get(accounts.PROCESS)
        if mark is not None:
            return ProcessMark(**mark).runs_here() is False
        # A process may be killed between beginning a trial and leaving its mark, and heartbeats begin later too.
        since = self._unmarked_since.setdefault(trial.number, time.monotonic())
        return time.monotonic() - since > self.grace_period

    # ------------------------------------------------------------------------------------------------- one trial
    def _run_one(self) -> None:
        self._number = -1
        try:
            self.study.optimize(self._objective, n_trials=1, catch=(Exception,))
        except (ValueError, AssertionError):  # how Optuna answers what is told of a trial that has ended
            # This process was silent for so long that another one took the trial over.
            if self._number < 0 or self.study.get_trials(deepcopy=False)[self._number].state == TrialState.RUNNING:
                raise
            print(f"trial {self._number}: given to another process, after a long silence of this one", flush=True)
        finally:
            gc.collect()  # what a failed trial's traceback held
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()

    def _objective(self, trial: Trial) -> float:
        try:
            return self._trained(trial)
        except KeyboardInterrupt as interrupt:
            # It may have come amid a query, and a cursor that its traceback holds would keep SQLite's lock: from what
            # is written here, and from the thread of heartbeats that Optuna waits for on the way out.
            traceback.clear_frames(interrupt.__traceback__)
            trial.set_user_attr(accounts.INTERRUPTED, True)
            raise

    def _trained(self, trial: Trial) -> float:
        self._number = trial.number
        trial.set_user_attr(accounts.PROCESS, asdict(ProcessMark.of_this_process()))
        trials = self.study.get_trials(deepcopy=False)
        own = trials[trial.number]
        if accounts.is_surplus(own, trials, self.n_trials):
            trial.set_user_attr(accounts.SURPLUS, True)
            raise Surplus
        drawn = {parameter.name: parameter.draw(trial) for parameter in self.space.parameters}
        self._announce(own, accounts.place_of(own, trials), drawn)
        directory = self._directory(own)
        self._begin_with_what_is_kept(trial, own, directory)
        started = time.time()
        try:
            with _own_log(directory / f"{self._log_name(trial.number)}.log"):
                result = self._result(trial, own, directory, drawn)
        except TrialPruned as pruned:
            trial.set_user_attr("seconds", time.time() - started)
            print(f"trial {trial.number}: {pruned}", flush=True)
            raise
        except OptunaError:
            raise  # of the storage, not of the trial, which is continued
        except Exception as error:
            self._note_failure(trial, error)
            raise
        for key in ("best_epoch", "epochs", "synthetic"):
            trial.set_user_attr(key, result[key])
        trial.set_user_attr("made_by", (result["features"] or {}).get("made_by"))
        trial.set_user_attr("seconds", result["seconds"]["total"])
        score = result["best_valid_score"]
        if score is None:
            reason = ConfigError(result.get("reason") or "Nothing was validated, so that there is nothing to tune by.")
            self._note_failure(trial, reason)
            raise reason
        print(f"trial {trial.number}: {self._metric} {score:.4f}, {result['epochs']} epochs", flush=True)
        return score

    def _begin_with_what_is_kept(self, trial: Trial, own: FrozenTrial, directory: Path) -> None:
        """Note what the trial begins with; fail it when its processes die again and again before they keep more."""
        kept = [-1 if own.last_step is None else own.last_step, *self.job.kept(directory)]
        reason = accounts.killed_in_vain(own, kept)
        if reason is not None:
            error = CDSRError(reason)
            self._note_failure(trial, error)
            raise error
        trial.set_user_attr(accounts.BEGAN_WITH, kept)

    def _result(self, trial: Trial, own: FrozenTrial, directory: Path, drawn: dict[str, Any]) -> dict[str, Any]:
        metric, known = self._metric, set(own.intermediate_values)
        epochs = drawn.get("epochs", self.job.fixed["epochs"])
        with tqdm(total=epochs, desc=f"trial {trial.number}", leave=False, disable=None) as bar:

            def on_validation(epoch: int, score: float) -> None:
                bar.n = epoch + 1
                bar.set_postfix({metric: f"{score:.4f}"})
                if epoch in known:
                    return  # continued where its checkpoint is not
                trial.report(score, epoch)
                if trial.should_prune():
                    trial.set_user_attr("epochs", epoch + 1)
                    raise TrialPruned(f"pruned after epoch {epoch}, {metric} {score:.4f}")

            return self.job.run(drawn, directory, (directory / LAST).is_file(), on_validation)

    @property
    def _metric(self) -> str:
        return self.job.fixed["valid_metric"]

    def _note_failure(self, trial: Trial, error: Exception) -> None:
        known = isinstance(error, CDSRError)
        reason = " ".join(str(error).split()) if known else f"{type(error).__name__}: {str(error).strip()}"
        trial.set_user_attr(accounts.KIND, type(error).__name__)
        trial.set_user_attr(accounts.REASON, reason[:2000])
        print(f"trial {trial.number}: failed: {reason}", flush=True)

    def _announce(self, trial: FrozenTrial, place: int, drawn: dict[str, Any]) -> None:
        goes_on = ""
        if accounts.CONTINUES in trial.user_attrs:
            goes_on = f", goes on with trial {trial.user_attrs[accounts.CONTINUES]}"
        shown = ", ".join(f"{name} {_short(value)}" for name, value in drawn.items())
        print(f"trial {trial.number} ({place + 1} of {self.n_trials}{goes_on}): {shown}", flush=True)

    # ------------------------------------------------------------------------------------------------- its directory
    def _directory(self, trial: FrozenTrial) -> Path:
        """The trial's own; that of the trial it continues is moved there."""
        own = self.output / "trials" / str(trial.number)
        continued = trial.user_attrs.get(accounts.CONTINUES)
        if continued is not None and not own.exists():
            left = self.output / "trials" / str(continued)
            if _is_left(left):
                with suppress(FileNotFoundError):
                    os.rename(left, own)
        own.mkdir(parents=True, exist_ok=True)
        return own

    def _log_name(self, number: int) -> str:
        # RecBole names the folder of TensorBoard's curves after it, up to the first dot.
        return f"{self.output.absolute().name.replace('.', '-')}-{number}"

    def _give_up_if_hopeless(self) -> None:
        """End when nothing but one mistake has come of the first trials."""
        trials = accounts.counted(self.study.get_trials(deepcopy=False))
        ended = [trial for trial in trials if trial.state.is_finished() and not accounts.is_stopped(trial)]
        reasons = [accounts.failure(trial) for trial in ended]
        kinds = {trial.user_attrs.get(accounts.KIND) for trial in ended}
        if len(reasons) < HOPELESS or None in reasons or kinds & {None, CDSRError.__name__}:
            return
        if len({re.sub(r"[-+]?\d[\d.e+-]*", "#", reason) for reason in reasons}) == 1:
            raise ConfigError(f"All of the first {len(reasons)} trials failed alike: {reasons[-1]}")


def _is_left(directory: Path) -> bool:
    """Whether a run's directory lies here and nobody trains in it; a process may have been silent and not dead."""
    try:
        held = hold(directory)
    except OSError:  # a file system without locks
        return directory.is_dir()
    if held is None:
        return False
    os.close(held)
    return True


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _listed(numbers: Sequence[int]) -> str:
    return f"trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


@contextmanager
def _own_log(file: Path) -> Iterator[None]:
    """All that is logged goes to a file of the trial's, in RecBole's form, and with an error its traceback."""
    logger = logging.getLogger()
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)-15s %(levelname)s  %(message)s", "%a %d %b %Y %H:%M:%S"))
    handler.addFilter(RemoveColorFilter())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    except (KeyboardInterrupt, OptunaError):
        raise
    except Exception:
        logger.error(traceback.format_exc())
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
