"""Studies of real runs: what they find, that nothing stops them, and that several processes share one."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from recbole_cdsr.cli import main
from recbole_cdsr.trainer.checkpoint import load_checkpoint
from recbole_cdsr.tune import accounts

PATIENCE = 300  # seconds, for a machine that is busy with other things
# Epochs enough for the test to come in time to stop the process.
LONG = {"epochs": 25, "stopping_step": 1000}


@pytest.fixture
def options(tiny, arguments):
    """`options("space.yaml", "tuned", trials=4, key=value, …)`: the command line of a study of BPR."""

    def options(space, output, *, dataset=tiny, model="BPR", own=(), **settings):
        return ["tune", f"--space={space}", f"--output={output}", *own, *arguments(model, dataset, **settings)]

    return options


class Begun:
    """The command in a process of its own, which has loaded its libraries already: it was forked from this one."""

    def __init__(self, given, folder):
        self._printed = [folder / "stdout", folder / "stderr"]
        self._process = multiprocessing.get_context("fork").Process(target=self._run, args=(given,))
        self._process.start()
        self.pid = self._process.pid

    def _run(self, given):
        for stream, file in zip((1, 2), self._printed, strict=True):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))  # not pytest's
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are deaf to it
        sys.exit(main(given))

    @property
    def returncode(self):
        return self._process.exitcode

    def send(self, number):
        os.kill(self.pid, number)

    def wait(self, patience=PATIENCE):
        self._process.join(patience)
        assert self.returncode is not None, "still running"

    def end(self):
        if self.returncode is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGKILL)
            self._process.join()

    def printed(self):
        return tuple(file.read_text(encoding="utf-8") for file in self._printed)


@pytest.fixture
def begin(tmp_path):
    """Start the command in a process of its own; whatever still runs at the end is killed."""
    begun = []

    def begin(given):
        folder = tmp_path / f"process-{len(begun)}"
        folder.mkdir()
        begun.append(Begun(given, folder))
        return begun[-1]

    yield begin
    for process in begun:
        process.end()


def study_in(output, name="BPR-tiny"):
    return optuna.load_study(study_name=name, storage=f"sqlite:///{output}/study.db")


def catch(process, output, least=1):
    """Stop a process (SIGSTOP) in the midst of a trial of at least so many epochs; returns the trial's number.

    In the middle of a write, a process that sleeps lets nobody else into the database: it is woken again. A
    thread of it may come to a write after the look at the lock, for the signal takes its time.
    """
    database = Path(output) / "study.db"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(0.02)
        assert process.returncode is None, process.printed()
        if not database.is_file() or not list(Path(output).glob("trials/*/last.pth")):
            continue
        process.send(signal.SIGSTOP)
        with suppress(OperationalError, StorageInternalError):  # Optuna's, where the lock is met at the end of a read
            for trial in [] if is_locked(database) else study_in(output).get_trials(states=(TrialState.RUNNING,)):
                reached = epoch_of(f"{output}/trials/{trial.number}")
                own = trial.user_attrs.get(accounts.PROCESS, {}).get("pid") == process.pid
                if own and least <= reached < LONG["epochs"] - 2:
                    return trial.number
        process.send(signal.SIGCONT)
    pytest.fail(f"no trial of {least} epochs in time: {process.printed()}")


def is_locked(database):
    with closing(sqlite3.connect(database, timeout=0.5)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.rollback()
        return False


def epoch_of(directory):
    file = Path(directory) / "last.pth"
    return load_checkpoint(file)["epoch"] if file.is_file() else -1


def refused(capsys, given):
    """The one line that a mistake is answered with."""
    assert main(given) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    return line.removeprefix("recbole-cdsr: "), captured.out


def test_a_study_of_recboles_lines_finds_the_best_validation_score(tiny, options, capsys, read_json, run):
    Path("hyper.test").write_text("learning_rate loguniform -8,-1\nembedding_size choice [8, 16]\n", encoding="utf-8")
    Path("mine.yaml").write_text("stopping_step: 3\nlearning_rate: 7\n", encoding="utf-8")  # what is drawn wins
    own = ["--trials=4", "--sampler=random", "--config_files=mine.yaml"]
    assert main(options("hyper.test", "tuned", own=own, valid_metric="MRR@5")) == 0
    printed = capsys.readouterr().out

    results = {number: read_json(f"tuned/trials/{number}/result.json") for number in range(4)}
    trials = study_in("tuned").trials
    for number, result in results.items():
        trial = trials[number]
        assert trial.state == TrialState.COMPLETE
        assert trial.value == result["best_valid_score"] == result["best_valid"]["mrr@5"]
        assert trial.params == {key: result["config"][key] for key in trial.params}
        assert trial.intermediate_values == {entry["epoch"]: entry["score"] for entry in result["valid_scores"]}
        assert result["run_dir"] == f"tuned/trials/{number}"
        log = Path(f"tuned/trials/{number}/tuned-{number}.log").read_text(encoding="utf-8")
        assert log.count("The running environment of this training") == 1
    assert len({result["config"]["learning_rate"] for result in results.values()}) == 4
    assert not list(Path("log").rglob("*.log"))

    frame = pd.read_csv("tuned/trials.tsv", sep="\t")
    assert list(frame["state"]) == ["complete"] * 4
    assert list(frame["valid_score"]) == [result["best_valid_score"] for result in results.values()]
    assert list(frame["seconds"]) == pytest.approx([result["seconds"]["total"] for result in results.values()])
    order = sorted(results, key=lambda number: (-results[number]["best_valid_score"], number))
    table = printed[printed.index("valid MRR@5") :]
    assert [int(number) for number in re.findall(r"^ +(\d) +0\.", table, re.MULTILINE)] == order
    assert "4 complete" in printed
    assert "test" not in table.partition("recbole-cdsr run")[0]

    best = results[order[0]]
    written = yaml.safe_load(Path("tuned/best.yaml").read_text(encoding="utf-8"))
    assert written["stopping_step"] == 3
    assert main(["run", "--config_files=tuned/best.yaml", "--result_file=again.json"]) == 0
    again = read_json("again.json")
    for key in ("best_valid_score", "best_valid", "test", "train_losses"):
        assert again[key] == best[key]


def test_a_killed_study_goes_on_with_the_killed_trial(tiny, options, begin, run, capsys, read_json):
    Path("space.yaml").write_text("learning_rate: {log_uniform: [1e-3, 1e-1]}\nembedding_size: [8, 16]\n")
    given = options("space.yaml", "tuned", own=["--trials=3", "--sampler=random", "--pruner=none"], **LONG)
    process = begin(given)
    while catch(process, "tuned", least=2) != 1:
        process.send(signal.SIGCONT)
    process.send(signal.SIGKILL)
    process.wait()
    killed_after = epoch_of("tuned/trials/1")

    assert main(given) == 0
    assert "goes on with trial 1" in capsys.readouterr().out
    trials = study_in("tuned").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[2].params == trials[1].params
    # An epoch is kept before its score is reported, and the process may have been killed in between.
    assert set(range(LONG["epochs"])) - trials[2].intermediate_values.keys() <= {killed_after}
    assert list(pd.read_csv("tuned/trials.tsv", sep="\t")["state"]) == ["complete", "stopped", "complete", "complete"]
    assert sorted(path.name for path in Path("tuned/trials").iterdir()) == ["0", "2", "3"]
    log = Path("tuned/trials/2/tuned-2.log").read_text(encoding="utf-8")
    assert f"Resume from epoch {killed_after + 1}." in log
    continued = read_json("tuned/trials/2/result.json")
    straight = run("BPR", tiny, **LONG, **trials[1].params)
    for key in ("train_losses", "valid_scores", "best_valid_score", "test"):
        assert continued[key] == straight[key]

    # The same command finds nothing left to do; a study that was never stopped draws the same.
    before = {path: path.stat().st_mtime_ns for path in Path("tuned/trials").rglob("*")}
    assert main(given) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("tuned/trials").rglob("*")} == before
    quick = [f"--epochs={1}" if each.startswith("--epochs") else each for each in given]
    assert main([each.replace("tuned", "whole") for each in quick]) == 0
    drawn = [trial.params for trial in study_in("whole").trials]
    assert drawn == [trials[number].params for number in (0, 1, 3)]


def test_two_processes_share_a_grid_and_one_is_killed(options, begin, read_json):
    Path("space.yaml").write_text("learning_rate: [0.001, 0.01, 0.1]\nembedding_size: [8, 16]\n")
    own = ["--sampler=exhaustive", "--pruner=none"]
    given = options("space.yaml", "tuned", own=own, **LONG)
    one, other = begin(given), begin(given)

    catch(one, "tuned")
    one.send(signal.SIGKILL)
    other.wait()
    out, err = other.printed()
    assert other.returncode == 0, err
    assert "Traceback" not in err

    trials = study_in("tuned").trials
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    points = Counter(tuple(sorted(trial.params.items())) for trial in complete)
    assert len(points) == 6
    assert set(points.values()) == {1}
    (stopped,) = (trial for trial in trials if accounts.is_stopped(trial))
    (after,) = (trial for trial in trials if trial.user_attrs.get(accounts.CONTINUES) == stopped.number)
    assert after.params == stopped.params
    assert {trial.user_attrs[accounts.PROCESS]["pid"] for trial in trials} == {one.pid, other.pid}
    assert all(read_json(f"tuned/trials/{trial.number}/result.json")["epochs"] == LONG["epochs"] for trial in complete)
    assert "6 complete, 1 stopped" in out or "1 stopped, 6 complete" in out


def test_a_process_that_was_silent_gives_its_trial_away(options, begin, capsys, read_json):
    """Stopped, not killed, as a machine that sleeps: of a process elsewhere nothing but its silence would be known."""
    Path("space.yaml").write_text("learning_rate: [0.001, 0.01]\n")
    given = options("space.yaml", "tuned", own=["--trials=1", "--pruner=none", "--grace_period=2"], **LONG)
    process = begin(given)
    catch(process, "tuned")
    assert main(given) == 0
    assert "goes on with trial 0" in capsys.readouterr().out

    process.send(signal.SIGCONT)
    process.wait()
    out, err = process.printed()
    assert process.returncode == 0, err
    assert "trial 0: given to another process" in out
    assert "Traceback" not in err
    first, second = study_in("tuned").trials
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert first.params == second.params
    assert second.intermediate_values.keys() == set(range(LONG["epochs"]))
    # The directory belongs to a process that lives; the other one began anew, to the same scores.
    assert sorted(path.name for path in Path("tuned/trials").iterdir()) == ["0", "1"]
    assert read_json("tuned/trials/1/result.json")["epochs"] == LONG["epochs"]
    assert first.intermediate_values.items() <= second.intermediate_values.items()


def test_hopeless_trials_are_pruned(options, capsys):
    Path("space.yaml").write_text("learning_rate: [0.1, 0.05, 1e-7, 1e-8]\n")
    own = ["--sampler=grid", "--pruner_trials=2", "--pruner_epochs=1"]
    assert main(options("space.yaml", "tuned", own=own, **LONG | {"epochs": 8, "seed": 1})) == 0
    printed = capsys.readouterr().out
    trials = study_in("tuned").trials
    assert [trial.params["learning_rate"] for trial in trials[:2]] == [0.1, 0.05]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert {trial.params["learning_rate"] for trial in pruned} == {1e-7, 1e-8}
    for trial in pruned:
        assert trial.last_step == epoch_of(f"tuned/trials/{trial.number}") < 7
        assert f"trial {trial.number}: pruned after epoch {trial.last_step}" in printed
        assert trial.user_attrs["epochs"] == trial.last_step + 1
        assert not Path(f"tuned/trials/{trial.number}/result.json").exists()
        others = [other.intermediate_values[trial.last_step] for other in trials[:2]]
        assert max(trial.intermediate_values.values()) < max(others)
    frame = pd.read_csv("tuned/trials.tsv", sep="\t")
    assert list(frame["state"]) == ["complete", "complete", "pruned", "pruned"]


def test_a_trial_that_cannot_be_trained_is_a_row_with_its_reason(options, capsys):
    Path("space.yaml").write_text("n_heads: [2, 3]\nlearning_rate: [0.001, 1e30]\n")
    own = ["--sampler=grid", "--pruner=none"]
    assert main(options("space.yaml", "tuned", own=own, model="SASRecBCE", hidden_size=8, epochs=1)) == 0
    frame = pd.read_csv("tuned/trials.tsv", sep="\t").set_index(["n_heads", "learning_rate"])
    assert frame.loc[(2, 0.001), "state"] == "complete"
    assert set(frame.drop(index=(2, 0.001))["state"]) == {"failed"}
    assert "became nan in epoch 0; try a smaller learning_rate" in frame.loc[(2, 1e30), "reason"]
    assert "multiple of n_heads" in frame.loc[(3, 0.001), "reason"]
    printed = capsys.readouterr().out
    assert "failed: The training loss of SASRecBCE became nan" in printed
    assert re.search(r"\b3 failed", printed)
    nan = frame.loc[(2, 1e30), "trial"]
    log = Path(f"tuned/trials/{nan}/tuned-{nan}.log").read_text(encoding="utf-8")
    assert "CDSRError: The training loss" in log


def test_one_mistake_in_the_first_trials_ends_the_study(options, capsys, small):
    Path("space.yaml").write_text("alpha: {uniform: [0, 1]}\n")
    mistaken = small | {"item_features_file": str(Path("missing.npy").absolute())}
    line, printed = refused(capsys, options("space.yaml", "tuned", model="LLM4CDSR", **mistaken))
    assert line.startswith("All of the first 3 trials failed alike: ")
    assert "missing.npy" in line
    assert printed.count("failed:") == 3
    assert len(study_in("tuned", "LLM4CDSR-tiny").trials) == 3


@pytest.mark.parametrize(
    ("space", "settings", "answer"),
    [
        ("learning_rat: [0.1]", {}, "space.yaml, line 1: learning_rat is not a known setting; did you mean learning_r"),
        ("learning_rate: [0.1, -1]", {}, "learning_rate is -1 in space.yaml, line 1; it must be"),
        ("embedding_size: {uniform: [8, 16]}", {}, "embedding_size is 8.0 in space.yaml, line 1; it must be a whole"),
        ("seed: [1, 2]", {}, "seed is the same for all trials"),
        ("run_dir: [a]", {}, "run_dir is nothing to tune"),
        ("benchmark_filename: [[a]]", {}, "benchmark_filename (in space.yaml, line 1) cannot be used"),
        ("learning_rate: [0.1]", {"learning_rate": 0.2}, "learning_rate is fixed on the command line too"),
        ("learning_rate: [0.1]", {"run_dir": "x"}, "run_dir is each trial's own"),
        ("learning_rate: [0.1]", {"data_path": "nowhere"}, "nowhere"),
        ("learning_rate: [0.1]", {"topk": "none"}, "topk"),
        ("learning_rate: eval('1')", {}, "write a list of values"),
    ],
)
def test_a_mistake_is_answered_before_anything_is_made(options, capsys, space, settings, answer):
    Path("space.yaml").write_text(space + "\n")
    line, _ = refused(capsys, options("space.yaml", "tuned", **settings))
    assert answer in line
    assert not Path("tuned").exists()


def test_a_study_goes_on_with_its_own_settings_only(options, capsys):
    Path("space.yaml").write_text("learning_rate: [0.1, 0.01, 0.001]\n")
    given = options("space.yaml", "tuned", own=["--sampler=random"], epochs=1)
    assert main([*given, "--trials=1"]) == 0
    assert main([*given, "--trials=2", "--loss_decimal_place=6"]) == 0  # changes no score
    assert len(study_in("tuned").trials) == 2
    line, _ = refused(capsys, [*given, "--trials=3", "--embedding_size=8"])
    assert "embedding_size is 8, was 64" in line
    Path("space.yaml").write_text("learning_rate: [0.1, 0.01]\n")
    line, _ = refused(capsys, [*given, "--trials=3"])
    assert "was begun with other settings" in line
    assert "the space differs in learning_rate" in line
    line, _ = refused(capsys, [*given, "--trials=3", "--storage=elsewhere.db"])
    assert "holds trial 0, of which the study 'BPR-tiny' knows nothing" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupt_ends_in_one_line_and_the_study_goes_on(options, begin, read_json, number):
    Path("space.yaml").write_text("learning_rate: [0.001, 0.01]\n")
    given = options("space.yaml", "tuned", own=["--trials=1", "--pruner=none"], **LONG)
    process = begin(given)
    catch(process, "tuned")
    process.send(number)
    process.send(signal.SIGCONT)
    process.wait()
    _, err = process.printed()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("recbole-cdsr: interrupted; what was finished is kept, the same command")
    assert main(given) == 0
    assert read_json("tuned/trials/1/result.json")["epochs"] == LONG["epochs"]
    first, second = study_in("tuned").trials
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert first.user_attrs[accounts.INTERRUPTED]
    assert second.user_attrs[accounts.REACHED] == []


def test_each_domain_may_have_its_own_best_epoch(options, capsys):
    Path("space.yaml").write_text("learning_rate: [0.01]\n")
    assert main(options("space.yaml", "tuned", own=["--trials=1"], select="per_domain", epochs=1)) == 0
    assert "books 0, movies 0" in capsys.readouterr().out


def test_storages_that_cannot_be_used(options, capsys):
    Path("space.yaml").write_text("learning_rate: [0.01]\n")
    Path("text.db").write_text("this is no database, whatever its name says " * 30)
    for storage, answer in (
        ("sqlite://", "lies in the memory of one process"),
        ("text.db", "cannot be used (file is not a database)"),
        ("oracel://user:secret@host/db", "names no database that SQLAlchemy knows"),
        ("postgresql+psycopg2://user:secret@host/db", "needs the package psycopg2; install it"),
    ):
        line, printed = refused(capsys, options("space.yaml", "tuned", own=[f"--storage={storage}"]))
        assert answer in line
        assert "secret" not in line + printed
