"""What is said and written of a study, on studies written trial by trial."""

from __future__ import annotations

import re

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState, create_trial

from recbole_cdsr.tune import report
from recbole_cdsr.tune.job import Job
from recbole_cdsr.tune.space import read_space

ENDED = {"best_epoch": 2, "epochs": 5, "seconds": 12.3, "synthetic": None, "made_by": None}


@pytest.fixture
def space(tmp_path):
    (tmp_path / "space.yaml").write_text(
        "learning_rate: {uniform: [0, 1]}\nmlp_hidden_size: [[8, 8], [16]]\n", encoding="utf-8"
    )
    return read_space(tmp_path / "space.yaml")


@pytest.fixture
def add(space):
    """`add(study, 0.4, learning_rate=0.1)`: a trial of the study; no score for one that failed."""

    def add(study, score, *, learning_rate=0.1, width="[16]", state=None, **attributes):
        if state is None:
            state = TrialState.FAIL if score is None else TrialState.COMPLETE
        distributions = {parameter.name: parameter.distribution for parameter in space.parameters}
        study.add_trial(
            create_trial(
                state=state,
                value=score,
                params={"learning_rate": learning_rate, "mlp_hidden_size": width},
                distributions=distributions,
                user_attrs=(ENDED if score is not None else {}) | attributes,
            )
        )

    return add


@pytest.mark.parametrize(("direction", "order"), [("maximize", [2, 0, 3, 1]), ("minimize", [1, 0, 3, 2])])
def test_the_best_stand_first_and_the_earlier_of_equal_ones(space, add, direction, order):
    study = optuna.create_study(direction=direction)
    for score in (0.3, 0.1, 0.5, 0.3):
        add(study, score)
    add(study, None, reason="nan")
    assert [trial.number for trial in report.ranked(study)] == order
    table = report.best_table(study, space, "MRR@5", rows=3).splitlines()
    assert re.split(r"  +", table[0].strip())[:5] == ["trial", "valid MRR@5", "best epoch", "epochs", "seconds"]
    assert [int(line.split()[0]) for line in table[2:]] == order[:3]


def test_all_trials_stand_in_a_file_with_their_state_and_reason(tmp_path, space, add):
    study = optuna.create_study(direction="maximize")
    add(study, 0.3, width="[8, 8]")
    add(study, None, reason="The loss\tbecame nan.")
    add(study, None)
    add(study, 0.4, continues=2, first=2, best_epoch={"books": 1, "movies": 3})
    add(study, None, surplus=True)
    add(study, None, state=TrialState.RUNNING)
    report.write_files(study, space, Job("NeuMF", "tiny", [], ["--topk=[5]", "--valid_metric=MRR@5"]), tmp_path)

    frame = pd.read_csv(tmp_path / "trials.tsv", sep="\t", keep_default_na=False)
    assert list(frame["state"]) == ["complete", "failed", "stopped", "complete", "running"]
    assert list(frame["trial"]) == [0, 1, 2, 3, 5]
    assert list(frame["mlp_hidden_size"]) == ["[8, 8]", "[16]", "[16]", "[16]", "[16]"]
    assert list(frame["reason"]) == ["", "The loss\tbecame nan.", "", "", ""]
    assert list(frame["continues"]) == ["", "", "", "2", ""]
    assert list(frame["best_epoch"]) == ["2", "", "", "books 1, movies 3", ""]
    assert report.counts(study) == "2 complete, 1 failed, 1 stopped, 1 running"

    text = (tmp_path / "best.yaml").read_text(encoding="utf-8")
    assert text.startswith("# The best of 2 trials of the study")
    assert yaml.safe_load(text) == {
        "model": "NeuMF",
        "dataset": "tiny",
        "topk": [5],
        "valid_metric": "MRR@5",
        "learning_rate": 0.1,
        "mlp_hidden_size": [16],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.yaml", "space.yaml", "trials.tsv"]


def test_without_a_trial_that_ended_there_is_no_best(tmp_path, space, add):
    study = optuna.create_study(direction="maximize")
    add(study, None, reason="nan")
    report.write_files(study, space, Job("BPR", "tiny", [], []), tmp_path)
    assert not (tmp_path / "best.yaml").exists()
    assert report.importance(study) is None


def test_synthetic_data_and_features_without_an_llm_are_called_that(tmp_path, space, add):
    study = optuna.create_study(direction="maximize")
    add(study, 0.3, synthetic=True, made_by="text encoder only (no LLM)")
    sentences = report.provenance(study.trials[0])
    assert sentences[0].startswith("SYNTHETIC data")
    assert "no LLM" in sentences[1]
    report.write_files(study, space, Job("NeuMF", "tiny", [], []), tmp_path)
    assert (tmp_path / "best.yaml").read_text(encoding="utf-8").count("\n# ") == 2


def test_importance_names_what_matters(add):
    random = np.random.default_rng(0)
    study = optuna.create_study(direction="maximize")
    for _ in range(9):
        add(study, 0.5, learning_rate=float(random.random()))
    assert report.importance(study) is None  # too few
    for _ in range(30):
        rate, width = float(random.random()), random.choice(["[8, 8]", "[16]"])
        add(study, 1 - rate, learning_rate=rate, width=str(width))
    shares = report.importance(study)
    assert next(iter(shares)) == "learning_rate"
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["learning_rate"] > 0.6
