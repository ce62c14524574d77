"""How settings are drawn and hopeless trials recognised: Optuna's samplers and pruner, made repeatable.

What a trial draws depends on the seed, on its place among the trials and on what is known by then, never on how many
processes there are or which of them draws: processes that share a seed do not draw the same, and a study that is
continued draws what it would have drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.tune.accounts import place_of
from recbole_cdsr.tune.space import Space

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("median", "none")
MOST_GRID_POINTS = 1_000_000


def make_sampler(kind: str, space: Space, seed: int) -> BaseSampler:
    """One of `SAMPLERS`."""
    if kind == "grid":
        return GridInOrder(space, seed)
    if kind == "random":
        return SeededByPlace(lambda drawn: RandomSampler(seed=drawn), seed)
    # The liar takes what is still running for bad, so that processes do not all try the same corner.
    return SeededByPlace(lambda drawn: TPESampler(seed=drawn, multivariate=True, constant_liar=True), seed)


def make_pruner(kind: str, first_trials: int, first_epochs: int) -> BasePruner:
    """One of `PRUNERS`; nothing is stopped among the first trials, nor before an epoch (0-based)."""
    if kind == "none":
        return NopPruner()
    return MedianPruner(n_startup_trials=first_trials, n_warmup_steps=first_epochs)


def grid_size(space: Space) -> int:
    """How many different trials a space of finitely many values allows.

    Raises
    ------
    ConfigError
        Infinitely many, or more than anybody will run.
    """
    size = math.prod(parameter.grid_length() for parameter in space.parameters)
    if size > MOST_GRID_POINTS:
        raise ConfigError(f"The grid has {size:,} points; list fewer values, or take --sampler=tpe.")
    return size


class SeededByPlace(BaseSampler):
    """A new sampler for each trial, seeded by the trial's place.

    Parameters
    ----------
    make
        The sampler of a seed.
    seed
        Of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._sampler = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        place = place_of(trial, study.get_trials(deepcopy=False))
        self._sampler = self._make(int(np.random.SeedSequence([self._seed, place]).generate_state(1)[0]))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._sampler.after_trial(study, trial, state, values)


class GridInOrder(BaseSampler):
    """Every combination once, in an order drawn by the seed: the trial at place p has the p-th.

    Optuna's own grid sampler gives one combination to several processes, and counts a trial that was killed as done.

    Parameters
    ----------
    space
        Of finitely many values.
    seed
        Draws the order.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._order = np.random.default_rng(seed).permutation(grid_size(space))  # before a value of them is listed
        self._values = {parameter.name: parameter.grid() for parameter in space.parameters}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        combination = int(self._order[place_of(trial, study.get_trials(deepcopy=False))])
        for name, values in self._values.items():
            combination, chosen = divmod(combination, len(values))
            if name == param_name:
                break
        return values[chosen]
