"""What a study has found: a table of its best trials, all trials as a file, the best settings as a config file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from tabulate import tabulate

from recbole_cdsr.config_values import Plain
from recbole_cdsr.files import replacing
from recbole_cdsr.tune import accounts
from recbole_cdsr.tune.job import Job
from recbole_cdsr.tune.space import Space

BEST = "best.yaml"
TRIALS = "trials.tsv"
# Below so many trials, shares of importance say nothing.
LEAST_FOR_IMPORTANCE = 10


def ranked(study: Study) -> list[FrozenTrial]:
    """Trials that ended by themselves, the best first; of equal ones the earlier first."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    return sorted(complete, key=lambda trial: (sign * trial.value, trial.number))


def best_table(study: Study, space: Space, metric: str, rows: int = 10) -> str:
    """The best trials as text, with what was drawn; scores are those of the validation rows."""
    lines = []
    for trial in ranked(study)[:rows]:
        attributes = trial.user_attrs
        lines.append(
            {
                "trial": trial.number,
                f"valid {metric}": f"{trial.value:.4f}",
                "best epoch": _epoch(attributes["best_epoch"]),
                "epochs": attributes["epochs"],
                "seconds": f"{attributes['seconds']:.0f}",
                **{key: _short(value) for key, value in space.settings(trial.params).items()},
            }
        )
    return tabulate(lines, headers="keys", disable_numparse=True, stralign="right", numalign="right")


def counts(study: Study) -> str:
    """How many trials came to what, in words."""
    states = [_state(trial) for trial in accounts.counted(study.get_trials(deepcopy=False))]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def provenance(trial: FrozenTrial) -> list[str]:
    """What must be said wherever its score is shown: that a program made the data up, who made the features."""
    sentences = []
    if trial.user_attrs["synthetic"]:
        sentences.append("SYNTHETIC data: scores on it say nothing about real users.")
    if trial.user_attrs["made_by"] is not None:
        sentences.append(f"Text features: {trial.user_attrs['made_by']}.")
    return sentences


def importance(study: Study) -> dict[str, float] | None:
    """The share of each parameter in what sets the best trials apart (PED-ANOVA), largest first.

    Returns
    -------
    dict or None
        None where there are too few trials, or nothing to tell apart.
    """
    complete = ranked(study)
    varied = len({trial.value for trial in complete}) > 1 and len(complete[0].params) > 1 if complete else False
    if len(complete) < LEAST_FOR_IMPORTANCE or not varied:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about how few trials there are; the caller says how many
        return optuna.importance.get_param_importances(study)


def write_files(study: Study, space: Space, job: Job, folder: Path) -> None:
    """Write `trials.tsv` and, once a trial has ended by itself, `best.yaml`; several processes may.

    Raises
    ------
    OSError
        They cannot be written.
    """
    frame = pd.DataFrame(_rows(study.get_trials(deepcopy=False), space))
    with replacing(folder / TRIALS, shared=True) as part:
        frame.to_csv(part, sep="\t", index=False)
    best = ranked(study)[:1]
    if not best:
        return
    settings = job.settings_with(space.settings(best[0].params))
    heading = (
        f"# The best of {len(ranked(study))} trials of the study {study.study_name}: trial {best[0].number}, "
        f"{job.fixed['valid_metric']} {best[0].value:.4f} on validation rows.\n"
    ) + "".join(f"# {sentence}\n" for sentence in provenance(best[0]))
    with replacing(folder / BEST, shared=True) as part:
        part.write_text(
            heading + yaml.safe_dump(settings, allow_unicode=True, sort_keys=False),
            encoding="utf-8",
        )


def _rows(trials: Sequence[FrozenTrial], space: Space) -> list[dict[str, Any]]:
    rows = []
    for trial in accounts.counted(trials):
        attributes = trial.user_attrs
        rows.append(
            {
                "trial": trial.number,
                "state": _state(trial),
                "valid_score": trial.value if trial.state == TrialState.COMPLETE else None,
                "last_valid_score": _last_score(trial),
                "best_epoch": _epoch(attributes.get("best_epoch")),
                "epochs": attributes.get("epochs"),
                "seconds": attributes.get("seconds"),
                **_drawn(trial, space),
                "continues": attributes.get(accounts.CONTINUES),
                "reason": accounts.failure(trial),
            }
        )
    whole = ("epochs", "continues")  # missing ones would make them real numbers
    return [{key: str(v) if key in whole and v is not None else v for key, v in row.items()} for row in rows]


def _drawn(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    drawn = space.settings(trial.params)
    return {parameter.name: drawn.get(parameter.name) for parameter in space.parameters}


def _last_score(trial: FrozenTrial) -> float | None:
    return None if trial.last_step is None else trial.intermediate_values[trial.last_step]


def _state(trial: FrozenTrial) -> str:
    if trial.state == TrialState.FAIL:
        return "failed" if accounts.failure(trial) is not None else "stopped"
    return trial.state.name.lower()


def _epoch(epoch: int | Mapping[str, int] | None) -> str:
    if isinstance(epoch, Mapping):
        return ", ".join(f"{domain} {number}" for domain, number in epoch.items())
    return "" if epoch is None else str(epoch)


def _short(value: Plain) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
