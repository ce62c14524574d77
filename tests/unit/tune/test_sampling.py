"""What is drawn depends on seed and place, not on processes; a grid gives each combination once."""

from __future__ import annotations

import itertools

import optuna
import pytest
from optuna.trial import TrialState

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.tune.accounts import continuation
from recbole_cdsr.tune.sampling import grid_size, make_sampler
from recbole_cdsr.tune.space import read_space

MIXED = "a uniform 0,1\nb choice [1,2,3]\nc loguniform -8,0\n"


@pytest.fixture
def space_of(tmp_path):
    def space_of(text):
        (tmp_path / "hyper.test").write_text(text, encoding="utf-8")
        return read_space(tmp_path / "hyper.test")

    return space_of


def draw(study, space):
    trial = study.ask()
    return trial, {parameter.name: parameter.draw(trial) for parameter in space.parameters}


def score(values):
    return -((values["a"] - 0.3) ** 2) + values["b"] / 10


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_a_study_that_was_stopped_and_continued_draws_the_same(space_of, kind):
    space = space_of(MIXED)
    whole = optuna.create_study(direction="maximize", sampler=make_sampler(kind, space, 7))
    drawn = []
    for _ in range(16):
        trial, values = draw(whole, space)
        whole.tell(trial, score(values))
        drawn.append(values)
    assert len({values["a"] for values in drawn}) == 16

    storage = optuna.storages.InMemoryStorage()
    again = []
    for number in range(16):  # a new process, so to say, for each trial
        study = optuna.create_study(
            study_name="s",
            storage=storage,
            direction="maximize",
            sampler=make_sampler(kind, space, 7),
            load_if_exists=True,
        )
        trial, values = draw(study, space)
        if number == 5:  # killed, and continued
            study.tell(trial, state=TrialState.FAIL)
            dead = study.trials[trial.number]
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.WAITING,
                    params=dead.params,
                    distributions=dead.distributions,
                    user_attrs=dict(continuation(dead)),
                )
            )
            trial, repeated = draw(study, space)
            assert repeated == values
        study.tell(trial, score(values))
        again.append(values)
    assert again == drawn


def test_another_seed_draws_other_values_and_processes_at_once_do_not_draw_the_same(space_of):
    space = space_of(MIXED)
    storage = optuna.storages.InMemoryStorage()
    one, other = (
        optuna.create_study(
            study_name="s", storage=storage, sampler=make_sampler("random", space, 7), load_if_exists=True
        )
        for _ in range(2)
    )
    first = [draw(study, space)[1]["a"] for study in (one, other, one, other)]
    assert len(set(first)) == 4
    reseeded = optuna.create_study(sampler=make_sampler("random", space, 8))
    assert draw(reseeded, space)[1]["a"] not in first


def test_tpe_learns_where_the_good_values_are(space_of):
    space = space_of(MIXED)
    means = {}
    for kind in ("tpe", "random"):
        study = optuna.create_study(direction="maximize", sampler=make_sampler(kind, space, 1))
        late = []
        for number in range(60):
            trial, values = draw(study, space)
            study.tell(trial, score(values))
            if number >= 40:
                late.append(score(values))
        means[kind] = sum(late) / len(late)
    assert means["tpe"] > means["random"] + 0.03


def test_a_grid_gives_every_combination_once_in_an_order_of_the_seed(space_of):
    space = space_of("a choice [1,2,3]\nb choice ['x','y']\nc quniform 0,1,0.5\n")
    assert grid_size(space) == 18
    orders = []
    for seed in (0, 0, 1):
        study = optuna.create_study(sampler=make_sampler("grid", space, seed))
        orders.append([tuple(draw(study, space)[1].values()) for _ in range(18)])
        assert set(orders[-1]) == set(itertools.product([1, 2, 3], "xy", [0.0, 0.5, 1.0]))
    assert orders[0] == orders[1] != orders[2]


def test_a_grid_too_large_or_without_end_is_refused(space_of):
    with pytest.raises(ConfigError, match=r"The grid has 10,000,000 points"):
        grid_size(space_of("a quniform 1,10000,1\nb quniform 1,1000,1\n"))
    for kind in ("a quniform 0,1e14,1", "a quniform 0,1e6,1e-6"):  # which no list could hold
        for refuse in (grid_size, lambda space: make_sampler("grid", space, 0)):
            with pytest.raises(ConfigError, match=r"The grid has (100,000,000,000,001|1,000,000,000,001)"):
                refuse(space_of(f"{kind}\n"))
    with pytest.raises(ConfigError, match=r"line 2: a grid needs values to count, and b may be any number"):
        make_sampler("grid", space_of("a choice [1]\nb uniform 0,1\n"), 0)
