"""Profiles of training rows, made of what comes before their target.

A user's profile is made of their whole training part. Where a model scores with it, as LeCDSR does, each training row
is so shown its own target, which no judged row is: its profile ends before the target. The offline profiler needs no
LLM, so that it can be asked for every row.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from recbole_cdsr.data.sequences import Histories, Rows
from recbole_cdsr.llm.item_table import item_table
from recbole_cdsr.llm.profiles import cluster_items, interest_clusters, profile_vectors
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.ranges import expand_ranges

USER_PROFILE = "user_profile"


class PrefixProfiler:
    """The offline extractive profiler (`llm/profiles.py`) over rows instead of users.

    Parameters
    ----------
    items : np.ndarray
        float32 `[n_items, D]` by internal id, zero for padding.
    item_cluster : np.ndarray
        int64 `[n_items]`, interest cluster of each item.
    """

    def __init__(self, items: np.ndarray, item_cluster: np.ndarray) -> None:
        self._items, self._item_cluster = items, item_cluster

    def profiles(self, flat_items: np.ndarray, rows: Rows) -> np.ndarray:
        """Profiles of the input histories of rows.

        Parameters
        ----------
        flat_items : np.ndarray
            int64 `[N]`, the interactions that rows are places in.
        rows : Rows
            B rows; the history of each is everything of its segment before its target.

        Returns
        -------
        np.ndarray
            float32 `[B, D]` of length 1; what `profile_vectors` gives for a user of that history.
        """
        lengths = rows.targets - rows.starts
        _, places = expand_ranges(rows.starts, lengths)
        histories = Histories(np.arange(len(rows)), np.append(0, np.cumsum(lengths)), flat_items[places])
        return profile_vectors(self._items, interest_clusters(self._items, self._item_cluster, histories))


def prefix_profiler(config: Mapping[str, Any], dataset: Any) -> PrefixProfiler | None:
    """The profiler that made a dataset's user profiles, for its training rows; None where there are none or an LLM did.

    Parameters
    ----------
    config : mapping or RecBole Config
        As `build_llm_features`.
    dataset : CrossDomainDataset
        With the same features.
    """
    settings = FeatureSettings(config, dataset.dataset_name)
    if not settings.use_profiles:
        return None
    if settings.profile_generator == "llm" or settings.profile_encoding != "vectors":
        logging.getLogger().warning(
            "Profiles that are texts are written once for each user, from the whole training part: a training row's "
            "profile knows its target, and the model may learn to read it there. Compare with use_profiles=False."
        )
        return None
    items = item_table(settings, dataset)
    labels = cluster_items(items.source.matrix, settings.profile_clusters)
    return PrefixProfiler(items.vectors, items.by_id(labels, -1))
