"""User profiles of a loaded dataset: read from the store, or made by the offline extractive profiler (no LLM)."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.llm import profiles, store
from recbole_cdsr.llm.item_features import expected_encoder, said
from recbole_cdsr.llm.settings import FeatureSettings

_HOW = {
    "vectors": "mean of the vectors of item titles and attributes; no text was encoded anew",
    "text": "every user's profile text encoded",
}


def profile_table(
    settings: FeatureSettings,
    dataset: Any,
    source: store.FeatureSet,
    rows: np.ndarray,
    items: np.ndarray,
    titles: Sequence[str],
) -> tuple[np.ndarray, dict[str, Any]]:
    """Profiles by internal user id.

    Parameters
    ----------
    settings : FeatureSettings
        Of the run.
    dataset : CrossDomainDataset
        Gives `training_histories()`; nothing else of the interactions is read.
    source : FeatureSet
        The item features in the order of `.item`.
    rows : np.ndarray
        int64 `[n_items - 1]`, the row of `source` whose text each internal id from 1 has.
    items : np.ndarray
        float32 `[n_items, D]`, `source` by internal id.
    titles : sequence of str
        `[n_items]` by internal id.

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
    with_text = settings.profile_encoding == "text"
    encoder = expected_encoder(settings.encoder) if with_text else dict(source.provenance["encoder"])
    how = {
        "how": _HOW[settings.profile_encoding],
        "profiler": profiles.profiler_settings(settings.profile_clusters),
        "made_of_items": {
            "matrix_sha256": source.provenance["matrix_sha256"],
            "permute_seed": settings.permute_seed,
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
        started = time.perf_counter()
        # Clustered in the order of .item, so that every split and permutation has the same clusters.
        labels = profiles.cluster_items(source.matrix, settings.profile_clusters)
        interests = profiles.interest_clusters(items, np.append(-1, labels[rows]), histories)
        matrix = _encoded(settings, interests, titles) if with_text else profiles.profile_vectors(items, interests)
        store.save_feature_set(settings.features_dir, "profiles", name, matrix, user_tokens, extra=how, **made_from)
        word = f"made in {time.perf_counter() - started:.0f} s"
    found = store.load_feature_set(settings.features_dir, "profiles", name, user_tokens, expected=expected)
    logging.getLogger().info(said("User profiles", word, found, settings, name))
    table = np.zeros((dataset.user_num, found.matrix.shape[1]), dtype=np.float32)  # [n_users, D_u]
    table[histories.user_ids] = found.matrix
    return table, found.provenance


def _encoded(settings: FeatureSettings, interests: profiles.InterestClusters, titles: Sequence[str]) -> np.ndarray:
    texts = profiles.profile_texts(interests, titles)
    encoder = settings.text_encoder()
    logging.getLogger().info(f"User profiles: encoding {len(texts)} profile texts with {encoder.name} …")
    matrix = encoder.encode(texts, settings.show_progress)  # [U, D_u]
    matrix[np.array([not text for text in texts], dtype=bool)] = 0.0  # a user without items has no profile
    return matrix


def histories_sha256(user_tokens: list[str], histories: Histories, dataset: Any) -> str:
    """SHA-256 of who consumed what in which order, whatever the internal ids."""
    item_tokens = dataset.id2token(dataset.iid_field, histories.item_ids)
    digest = hashlib.sha256(np.asarray(histories.pointers, dtype="<i8").tobytes())
    digest.update(store.hash_strings(user_tokens).encode())
    digest.update(store.hash_strings(list(map(str, item_tokens))).encode())
    return digest.hexdigest()
