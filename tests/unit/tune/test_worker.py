"""What a worker does with trials whose processes are killed, on runs that only keep files."""

from __future__ import annotations

import itertools
import os

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.engine import Engine

from recbole_cdsr.processes import ProcessMark
from recbole_cdsr.tune import accounts
from recbole_cdsr.tune.job import Job
from recbole_cdsr.tune.space import read_space
from recbole_cdsr.tune.worker import Worker


class Killed(BaseException):
    """Takes the place of SIGKILL: nothing is told to the study."""


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """`killed(model, keeps)`: the trials of a study with one place whose process is killed eight times.

    `keeps(directory, attempt)` names the file that a run of the model writes before.
    """
    monkeypatch.setattr(ProcessMark, "runs_here", lambda mark: False)
    (tmp_path / "hyper.test").write_text("learning_rate choice [0.1]\n", encoding="utf-8")
    space = read_space(tmp_path / "hyper.test")

    def killed(model, keeps):
        attempts = itertools.count()

        class KilledJob(Job):
            def run(self, drawn, directory, resume, on_validation):
                attempt = next(attempts)
                file = keeps(directory, attempt)
                if file is not None:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.touch()
                    os.utime(file, ns=(0, 10**9 + attempt))
                raise Killed

        job = KilledJob(model, "douban", [], [f"--llm_features_dir={tmp_path / 'features'}"])
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        for _ in range(8):
            try:
                Worker(study, space, job, 1, tmp_path / "tuned", 60, lambda: None).work()
            except Killed:
                continue
            break
        return study.trials

    return killed


def stops(trials):
    return sum(accounts.is_stopped(trial) or trial.state == TrialState.RUNNING for trial in trials)


@pytest.mark.parametrize("model", ["BPR", "LLMCDSR"])
def test_a_trial_that_keeps_nothing_more_is_given_up(killed, model):
    trials = killed(model, lambda directory, attempt: directory / "last.pth" if attempt == 0 else None)
    assert stops(trials) == accounts.MOST_STOPS + 1  # the first of them kept an epoch
    assert accounts.failure(trials[-1]).startswith("Its process was killed 3 times before another epoch was kept")
    assert trials[-1].user_attrs[accounts.KIND] == "CDSRError"


def test_epochs_that_are_not_validated_are_progress(killed):
    trials = killed("BPR", lambda directory, attempt: directory / "last.pth")
    assert stops(trials) == 8
    assert all(accounts.failure(trial) is None for trial in trials)


@pytest.mark.parametrize("suffix", ["unfinished", "pth"])
def test_epochs_of_pre_training_are_progress(killed, tmp_path, suffix):
    file = tmp_path / "features" / "pretraining" / f"books-0.{suffix}"
    assert stops(killed("LLMCDSR", lambda directory, attempt: file)) == 8


def test_pre_training_of_others_is_no_progress_of_a_model_without(killed, tmp_path):
    file = tmp_path / "features" / "pretraining" / "books-0.unfinished"
    assert stops(killed("BPR", lambda directory, attempt: file)) == accounts.MOST_STOPS


def test_an_interrupt_amid_a_query_leaves_no_lock(tmp_path):
    """The cursor it leaves open in its traceback kept the process from writing, until SQLite gave up waiting."""
    (tmp_path / "hyper.test").write_text("learning_rate choice [0.1]\n", encoding="utf-8")

    def interrupt(connection, cursor, statement, parameters, context, many):
        if statement.startswith("SELECT") and "trial" in statement:
            raise KeyboardInterrupt  # SQLite has stepped to the first row

    class InterruptedJob(Job):
        def run(self, drawn, directory, resume, on_validation):
            event.listen(Engine, "after_cursor_execute", interrupt)
            try:
                on_validation(0, 0.5)
                on_validation(1, 0.5)
            finally:
                event.remove(Engine, "after_cursor_execute", interrupt)

    url = f"sqlite:///{tmp_path / 'study.db'}"
    storage = optuna.storages.RDBStorage(
        url, engine_kwargs={"connect_args": {"timeout": 2.0}}, heartbeat_interval=1, grace_period=60
    )
    study = optuna.create_study(storage=storage, sampler=RandomSampler(seed=0))
    job = InterruptedJob("BPR", "douban", [], [])
    with pytest.raises(KeyboardInterrupt):
        Worker(study, read_space(tmp_path / "hyper.test"), job, 1, tmp_path / "tuned", 60, lambda: None).work()
    (trial,) = study.get_trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs[accounts.INTERRUPTED]
