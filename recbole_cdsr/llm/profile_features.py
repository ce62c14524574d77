"""User profiles of a loaded dataset: read from the store, or made by the offline extractive profiler or an LLM."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from typing import Any

import numpy as np

from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.llm import profiles, store
from recbole_cdsr.llm.history_texts import histories_sha256
from recbole_cdsr.llm.item_features import expected_encoder, said
from recbole_cdsr.llm.item_table import ItemTable
from recbole_cdsr.llm.kept_vectors import KeptVectors
from recbole_cdsr.llm.profile_llm import encoded_texts, llm_profiles
from recbole_cdsr.llm.prompts import item_titles
from recbole_cdsr.llm.settings import FeatureSettings

_HOW = {
    "vectors": "mean of the vectors of item titles and attributes; no text was encoded anew",
    "text": "every user's profile text encoded",
}


def profile_table(settings: FeatureSettings, dataset: Any, items: ItemTable) -> tuple[np.ndarray, dict[str, Any]]:
    """Profiles by internal user id.

    Parameters
    ----------
    settings : FeatureSettings
        Of the run.
    dataset : CrossDomainDataset
        Gives `training_histories()`; nothing else of the interactions is read.
    items : ItemTable
        The items' vectors and titles.

    Returns
    -------
    np.ndarray
        float32 `[n_users, D_u]`; zero for padding and for users without training history.
    dict
        Provenance.

    Raises
    ------
    FeatureError
        When a stored set is damaged, or none can be written.
    """
    histories = dataset.training_histories()
    user_tokens = list(map(str, dataset.id2token(dataset.uid_field, histories.user_ids)))
    make = llm_profiles if settings.profile_generator == "llm" else _extractive_profiles
    found = make(settings, dataset, items, histories, user_tokens)
    table = np.zeros((dataset.user_num, found.matrix.shape[1]), dtype=np.float32)  # [n_users, D_u]
    table[histories.user_ids] = found.matrix
    return table, found.provenance


def _extractive_profiles(
    settings: FeatureSettings, dataset: Any, items: ItemTable, histories: Histories, user_tokens: list[str]
) -> store.FeatureSet:
    source = items.source
    with_text = settings.profile_encoding == "text"
    made_with = source.provenance
    encoder = expected_encoder(settings.encoder, made_with) if with_text else dict(made_with["encoder"])
    # Vectors that were made here know the titles by what they were made from; those of the user's own know nothing.
    titles = item_titles(items.frame, items.prompt) if with_text and settings.item_features_file is not None else None
    how = {
        "how": _HOW[settings.profile_encoding],
        "profiler": profiles.profiler_settings(settings.profile_clusters),
        "made_of_items": {
            "matrix_sha256": source.provenance["matrix_sha256"],
            "permute_seed": settings.permute_seed,
            **({} if titles is None else {"titles_sha256": store.hash_strings(titles)}),
        },
    }
    made_from = {
        "texts_sha256": histories_sha256(user_tokens, histories, dataset),
        "prompt_version": profiles.profile_prompt_version() if with_text else "none",
        "made_by": profiles.EXTRACTIVE_PROFILER,
        "encoder": encoder,
    }
    expected = made_from | how
    # Every split and setting has a set of its own, so that they do not replace each other's.
    digest = hashlib.sha256(json.dumps(expected, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{store.slug(encoder['name'])}-{digest}"
    word = "reused"
    if not store.feature_set_exists(settings.features_dir, "profiles", name):
        store.check_writable(settings.features_dir)
        with store.sole_maker(settings.features_dir, "profiles", name):
            if not store.feature_set_exists(settings.features_dir, "profiles", name):  # made while this one waited
                started = time.perf_counter()
                with KeptVectors(settings.features_dir) as kept:
                    matrix = extractive_profiles(settings, items, histories, kept)
                    store.save_feature_set(
                        settings.features_dir, "profiles", name, matrix, user_tokens, extra=how, **made_from
                    )
                word = f"made in {time.perf_counter() - started:.0f} s"
    found = store.load_feature_set(settings.features_dir, "profiles", name, user_tokens, expected=expected)
    logging.getLogger().info(said("User profiles", word, found, settings, name))
    return found


def extractive_profiles(
    settings: FeatureSettings, items: ItemTable, histories: Histories, kept: KeptVectors | None = None
) -> np.ndarray:
    """Profiles of U users by the offline extractive profiler, float32 ``[U, D_u]``; no set is read or stored."""
    # Clustered in the order of .item, so that every split and permutation has the same clusters.
    labels = profiles.cluster_items(items.source.matrix, settings.profile_clusters)
    interests = profiles.interest_clusters(items.vectors, items.by_id(labels, -1), histories)
    if settings.profile_encoding == "text":
        return encoded_texts(settings, profiles.profile_texts(interests, items.titles()), kept)
    return profiles.profile_vectors(items.vectors, interests)
