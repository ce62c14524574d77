"""Which trials count, which were stopped and what continues them, on studies written trial by trial."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from recbole_cdsr.tune import accounts


@pytest.fixture
def study():
    return optuna.create_study(direction="maximize")


def add(study, state, **attributes):
    """A trial of the study, as the storage gives it back."""
    values = {"value": 0.1} if state == TrialState.COMPLETE else {}
    study.add_trial(create_trial(state=state, user_attrs=attributes, **values))
    return study.trials[-1]


def test_a_stopped_trial_keeps_its_place_for_what_continues_it(study):
    add(study, TrialState.COMPLETE)
    stopped = add(study, TrialState.FAIL, began_with=[-1, 0])
    add(study, TrialState.RUNNING)
    assert [trial.number for trial in accounts.to_continue(study.trials, 3)] == [1]

    again = add(study, TrialState.FAIL, began_with=[3, 17], **accounts.continuation(stopped))
    assert [trial.number for trial in accounts.to_continue(study.trials, 3)] == [3]
    last = add(study, TrialState.WAITING, **accounts.continuation(again))
    assert accounts.to_continue(study.trials, 3) == []
    assert [accounts.place_of(trial, study.trials) for trial in study.trials] == [0, 1, 2, 1, 1]
    assert last.user_attrs == {"continues": 3, "first": 1, "reached": [[-1, 0], [3, 17]]}
    assert [trial.number for trial in accounts.placed(study.trials)] == [0, 1, 2]


def test_of_trials_begun_at_once_the_first_have_the_places(study):
    trials = [add(study, TrialState.RUNNING) for _ in range(5)]
    assert [accounts.is_surplus(trial, study.trials, 3) for trial in trials] == [False, False, False, True, True]
    study = optuna.create_study()
    add(study, TrialState.RUNNING)
    add(study, TrialState.FAIL, surplus=True)
    late = add(study, TrialState.RUNNING)
    assert not accounts.is_surplus(late, study.trials, 2)  # a study that was given more places later
    assert accounts.place_of(late, study.trials) == 1


def test_a_trial_killed_before_it_was_found_surplus_is_not_continued(study):
    for _ in range(2):
        add(study, TrialState.COMPLETE)
    killed = add(study, TrialState.FAIL)
    assert accounts.to_continue(study.trials, 2) == []
    assert accounts.to_continue(study.trials, 3) == [killed]  # a study that was given more places later


def test_of_two_that_continue_one_trial_the_first_is_run(study):
    stopped = add(study, TrialState.FAIL)
    first, second = (add(study, TrialState.WAITING, **accounts.continuation(stopped)) for _ in range(2))
    assert not accounts.is_surplus(first, study.trials, 1)
    assert accounts.is_surplus(second, study.trials, 1)
    killed = add(study, TrialState.FAIL, **accounts.continuation(stopped))  # before it was found surplus
    assert killed not in accounts.to_continue(study.trials, 1)


def test_a_failure_has_a_reason_and_is_not_continued(study):
    add(study, TrialState.FAIL, reason="The loss became nan.")
    add(study, TrialState.FAIL, surplus=True)
    add(study, TrialState.PRUNED)
    assert accounts.to_continue(study.trials, 3) == []
    assert [accounts.failure(trial) for trial in study.trials] == ["The loss became nan.", None, None]


@pytest.mark.parametrize(
    ("kept", "gives_up"),
    [
        ([[-1, 0]] * 4, True),
        ([[2, 5]] * 4, True),
        ([[-1, 0], [2, 5], [2, 5], [2, 5], [2, 5]], True),
        ([[-1, 0]] * 3, False),
        ([[-1, 0]] * 3 + [[-1, 7]], False),  # an epoch that was not validated
        ([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]], False),
        ([[2, 5], [2, 5], [3, 5], [3, 5]], False),
        ([None] * 5 + [[-1, 0]], False),  # killed before anything was run
    ],
)
def test_what_kills_its_process_again_and_again_fails(study, kept, gives_up):
    """`kept`: what each trial of a place begins with; all but the last are killed."""
    before = {}
    for begins_with in kept[:-1]:
        began = {} if begins_with is None else {"began_with": begins_with}
        killed = add(study, TrialState.FAIL, **before, **began)
        assert [trial.number for trial in accounts.to_continue(study.trials, 1)] == [killed.number]
        before = accounts.continuation(killed)
    last = add(study, TrialState.RUNNING, **before)
    assert (accounts.killed_in_vain(last, kept[-1]) is not None) == gives_up


def test_interruptions_are_never_given_up(study):
    trial = add(study, TrialState.FAIL, began_with=[-1, 0])
    for _ in range(5):
        trial = add(study, TrialState.FAIL, interrupted=True, began_with=[-1, 0], **accounts.continuation(trial))
    killed = add(study, TrialState.FAIL, began_with=[-1, 0], **accounts.continuation(trial))
    assert killed.user_attrs["reached"] == []
    assert accounts.killed_in_vain(killed, [-1, 0]) is None
    assert [other.number for other in accounts.to_continue(study.trials, 1)] == [killed.number]


def test_any_order_of_deaths_ends_in_as_many_trials_as_there_are_places(study):
    """Processes that begin and die at any time, drawn 200 times: 4 places, each ended exactly once."""
    random = np.random.default_rng(0)
    for _ in range(200):
        study = optuna.create_study(direction="maximize")
        for _ in range(200):
            trials = study.get_trials(deepcopy=False)
            for stopped in accounts.to_continue(trials, 4):
                for _ in range(int(random.integers(1, 3))):  # two processes may see the same
                    study.add_trial(
                        create_trial(
                            state=TrialState.WAITING,
                            user_attrs=dict(accounts.continuation(stopped)),
                        )
                    )
            waiting = any(trial.state == TrialState.WAITING for trial in study.trials)
            running = [trial for trial in study.trials if trial.state == TrialState.RUNNING]
            if waiting or len(accounts.placed(study.trials)) < 4:
                begun = [study.ask() for _ in range(int(random.integers(1, 3)))]
                for trial in begun:
                    now = study.trials
                    if random.random() < 0.1:  # killed before it looks
                        study.tell(trial, state=TrialState.FAIL)
                    elif accounts.is_surplus(now[trial.number], now, 4):
                        trial.set_user_attr(accounts.SURPLUS, True)
                        study.tell(trial, state=TrialState.FAIL)
            elif running:
                ended = running[int(random.integers(len(running)))]
                if random.random() < 0.5:
                    study.tell(ended.number, state=TrialState.FAIL)
                else:
                    study.tell(ended.number, 0.1)
            else:
                break
        complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
        assert sorted(accounts.place_of(trial, study.trials) for trial in complete) == [0, 1, 2, 3]
