"""Profiles of users whom a model does not know, for a model that scores with profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from logging import getLogger

import numpy as np
from torch import nn

from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.llm.item_table import item_table
from recbole_cdsr.llm.profile_features import extractive_profiles
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.model.lecdsr import LeCDSR
from recbole_cdsr.recommend.histories import ServedHistories
from recbole_cdsr.trained_run import TrainedRun


def with_profiles(run: TrainedRun, models: Sequence[nn.Module], histories: ServedHistories) -> ServedHistories:
    """Give LeCDSR the profiles of new users, made of their histories as those of training users were.

    Profiles that an LLM wrote are not asked for anew: such users are scored as users without a profile, with a warning.

    Parameters
    ----------
    run
        The run.
    models
        Its models; their tables of profiles grow.
    histories
        Of R new users.

    Returns
    -------
    ServedHistories
        The same with the users' places in the tables; as it was for any other model.
    """
    reading = [model for model in models if isinstance(model, LeCDSR) and model.use_profiles]
    if not reading:
        return histories
    settings = FeatureSettings(run.config, run.data.dataset_name)
    if settings.profile_generator == "llm":
        getLogger().warning(
            "New users have no profile, for the profiles of this run were written by an LLM, which is not asked here: "
            "LeCDSR scores them as users without one."
        )
        return histories
    of_users = Histories(np.arange(len(histories)), histories.pointers, histories.items)
    profiles = extractive_profiles(settings, item_table(settings, run.data), of_users)
    first = min(model.add_profiles(profiles) for model in reading)  # the same in all of them
    return replace(histories, user_ids=first + np.arange(len(histories)))
