"""Which trials of a study count, which were stopped, and what is left to do.

A study of N trials has N places. The trial that takes a place may be stopped: its process is killed, or interrupted.
It is then failed without a reason, and a new trial with its parameters continues it at the same place. What a trial is
follows from the study alone, so that any process may die between any two writes:

- *placed*: begins a place; *continuing*: continues the trial whose number its attribute `continues` holds;
- *surplus*: begun although all places were taken, or although another one continues the same trial; it is not run;
- *stopped*: failed without a reason, surplus aside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

# Attributes of a trial.
CONTINUES = "continues"
FIRST = "first"  # the number of the trial that began the place
BEGAN_WITH = "began_with"  # what was kept of the place then, as a list of whole numbers
REACHED = "reached"  # `BEGAN_WITH` of each killed trial of the place since the last interruption
REASON = "reason"  # why it failed
KIND = "kind"  # the class of that error
INTERRUPTED = "interrupted"  # by Ctrl-C or SIGTERM
SURPLUS = "surplus"
PROCESS = "process"
# A trial whose process dies so often and keeps nothing more takes its processes with it.
MOST_STOPS = 3


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """All but surplus ones."""
    return [trial for trial in trials if SURPLUS not in trial.user_attrs]


def placed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those that began a place, in the order of their places."""
    return [trial for trial in counted(trials) if CONTINUES not in trial.user_attrs]


def place_of(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """The place of a trial, from 0."""
    first = trial.user_attrs.get(FIRST, trial.number)
    return sum(other.number < first for other in placed(trials))


def is_surplus(trial: FrozenTrial, trials: Sequence[FrozenTrial], n_trials: int) -> bool:
    """Whether a trial that has just begun is one too many: what several processes begin at once is seen by all."""
    if CONTINUES not in trial.user_attrs:
        return place_of(trial, trials) >= n_trials
    continued = trial.user_attrs[CONTINUES]
    return any(
        other.number < trial.number and other.user_attrs.get(CONTINUES) == continued for other in counted(trials)
    )


def is_stopped(trial: FrozenTrial) -> bool:
    """Whether a trial ended before its run did."""
    return trial.state == TrialState.FAIL and not {REASON, SURPLUS} & trial.user_attrs.keys()


def reached(trial: FrozenTrial) -> list[list[int]]:
    """`REACHED` of a trial that would continue this one; an interruption is nobody's fault and begins anew."""
    if trial.user_attrs.get(INTERRUPTED):
        return []
    began_with = trial.user_attrs.get(BEGAN_WITH)  # None: killed before anything was run
    return [*trial.user_attrs.get(REACHED, []), *([] if began_with is None else [began_with])]


def killed_in_vain(trial: FrozenTrial, kept: Sequence[int]) -> str | None:
    """Why a trial that begins with `kept` is not worth beginning: those before it died and kept nothing more."""
    latest = trial.user_attrs.get(REACHED, [])[-MOST_STOPS:]
    if len(latest) < MOST_STOPS or any(began_with != list(kept) for began_with in latest):
        return None
    return f"Its process was killed {MOST_STOPS} times before another epoch was kept; is there enough memory?"


def failure(trial: FrozenTrial) -> str | None:
    """Why a trial failed for good; None where it did not."""
    return trial.user_attrs.get(REASON)


def to_continue(trials: Sequence[FrozenTrial], n_trials: int) -> list[FrozenTrial]:
    """Stopped trials that nothing continues yet.

    One that was killed before it was found surplus is none of them.
    """
    continued = {trial.user_attrs.get(CONTINUES) for trial in counted(trials)}
    stopped = [trial for trial in trials if is_stopped(trial) and trial.number not in continued]
    return [
        trial for trial in stopped if place_of(trial, trials) < n_trials and not is_surplus(trial, trials, n_trials)
    ]


def continuation(trial: FrozenTrial) -> Mapping[str, Any]:
    """Attributes of the trial that continues this one."""
    return {
        CONTINUES: trial.number,
        FIRST: trial.user_attrs.get(FIRST, trial.number),
        REACHED: reached(trial),
    }
