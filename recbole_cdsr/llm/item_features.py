"""Item features of a dataset folder: read from the store, made with an encoder, or given by the user."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_cdsr.data.atomic import read_item_text
from recbole_cdsr.llm import store
from recbole_cdsr.llm.encoder_settings import EncoderSettings
from recbole_cdsr.llm.encoder_sources import DEFAULT_ENCODER, file_sha256
from recbole_cdsr.llm.kept_vectors import KeptVectors
from recbole_cdsr.llm.matrix import load_matrix
from recbole_cdsr.llm.prompts import item_texts, load_item_prompt, warn_of_unread_script
from recbole_cdsr.llm.settings import FeatureSettings


def build_item_features(
    dataset_dir: str | os.PathLike[str],
    dataset_name: str,
    *,
    features_dir: str | os.PathLike[str] | None = None,
    encoder: str | os.PathLike[str] | None = None,
    device: Any = "cpu",
    batch_size: int = 128,
    show_progress: bool = True,
    force: bool = False,
) -> store.FeatureSet:
    """The item feature set of a dataset folder: the stored one if it is up to date, else made now.

    Parameters
    ----------
    dataset_dir, dataset_name
        Folder and name of the dataset; `<dataset_name>.item` is read, no interactions are.
    features_dir : path, optional
        Where sets are kept; `<dataset_dir>/features` when omitted.
    encoder : str or path, optional
        As `SentenceTransformerEncoder` takes it.
    device, batch_size, show_progress
        For encoding.
    force : bool
        Make it anew even if one is stored.

    Returns
    -------
    FeatureSet
        Rows in the order of `.item`.

    Raises
    ------
    FeatureError
        As `build_llm_features`.
    """
    settings = FeatureSettings(
        {
            "data_path": os.fspath(dataset_dir),
            "llm_features_dir": None if features_dir is None else os.fspath(features_dir),
            "llm_encoder": None if encoder is None else os.fspath(encoder),
            "device": device,
            "llm_batch_size": batch_size,
            "show_progress": show_progress,
        },
        dataset_name,
    )
    return encoded_items(settings, read_items(settings), force)


def read_items(settings: FeatureSettings) -> pd.DataFrame:
    """The `.item` file as text, the domain in the column `domain` whatever the file calls it."""
    frame = read_item_text(settings.dataset_dir, settings.dataset_name)
    if settings.domain_field != "domain":  # a column of that name is something else
        frame = frame.drop(columns="domain", errors="ignore").rename(columns={settings.domain_field: "domain"})
    return frame


def item_source(settings: FeatureSettings, frame: pd.DataFrame) -> store.FeatureSet:
    """Item features in the order of `.item`: the user's own, or `encoded_items`."""
    if settings.item_features_file is None:
        return encoded_items(settings, frame)
    path = Path(settings.item_features_file).expanduser()
    if not path.is_absolute() and not path.exists():
        path = settings.dataset_dir / path
    matrix = load_matrix(path, len(frame))
    tokens = frame["item_id"].tolist()
    provenance = {
        "kind": "items",
        "made_by": "given by the user (item_features_file)",
        "encoder": {"name": path.name, "weights_sha256": None},
        "tokens_sha256": store.hash_strings(tokens),
        "shape": list(matrix.shape),
        "matrix_sha256": file_sha256(path),
    }
    logging.getLogger().info(f"Item features: {len(matrix)} x {matrix.shape[1]}, given by the user ({path}).")
    return store.FeatureSet(matrix, tokens, provenance)


def encoded_items(settings: FeatureSettings, frame: pd.DataFrame, force: bool = False) -> store.FeatureSet:
    """Item features made of the item texts: the stored set, checked, or a new one."""
    logger = logging.getLogger()
    encoder_called = settings.encoder.name
    prompt = settings.item_prompt()
    name = item_set_name(settings)
    tokens, texts = frame["item_id"].tolist(), item_texts(frame, prompt)
    if encoder_called == DEFAULT_ENCODER:
        warn_of_unread_script(texts)
    made_from = {
        "texts_sha256": store.hash_strings(texts),
        "prompt_version": prompt.version,
        "made_by": settings.encoder.made_by,
    }
    if not force and store.feature_set_exists(settings.features_dir, "items", name):
        return _stored_items(settings, name, tokens, made_from)
    store.check_writable(settings.features_dir)
    with store.sole_maker(settings.features_dir, "items", name):
        if not force and store.feature_set_exists(settings.features_dir, "items", name):  # made while this one waited
            return _stored_items(settings, name, tokens, made_from)
        encoder = settings.text_encoder()
        logger.info(f"Item features: encoding {len(texts)} item texts with {encoder.name} on {settings.device} …")
        started = time.perf_counter()
        with KeptVectors(settings.features_dir) as kept:
            matrix = encoder.encode(texts, settings.show_progress, kept)
            store.save_feature_set(
                settings.features_dir, "items", name, matrix, tokens, encoder=encoder.provenance(), **made_from
            )
        made = store.load_feature_set(settings.features_dir, "items", name, tokens, expected=made_from)
    logger.info(said("Item features", f"made in {time.perf_counter() - started:.0f} s", made, settings, name))
    return made


def _stored_items(
    settings: FeatureSettings, name: str, tokens: list[str], made_from: dict[str, Any]
) -> store.FeatureSet:
    expected = made_from | {"encoder": expected_encoder(settings.encoder)}
    found = store.load_feature_set(settings.features_dir, "items", name, tokens, expected=expected)
    logging.getLogger().info(said("Item features", "reused", found, settings, name))
    return found


def item_set_name(settings: FeatureSettings) -> str:
    """What the item features of an encoder and a wording are filed under."""
    name = store.slug(settings.encoder.name)
    version = settings.item_prompt().version
    # So that languages and wordings do not replace each other's.
    return name if version == load_item_prompt().version else f"{name}-{store.slug(version)}"


def expected_encoder(encoder: EncoderSettings, items: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a stored set must say of its encoder; see `EncoderSettings.expected`.

    Where the encoder is not on this machine, the item features with the provenance `items` say which one it was.
    """
    return encoder.expected((items or {}).get("encoder"))


def said(what: str, how: str, found: store.FeatureSet, settings: FeatureSettings, name: str) -> str:
    """The log line about a feature set: its size, how it came here, who made it, where it lies."""
    matrix_path, _ = store.feature_paths(settings.features_dir, found.provenance["kind"], name)
    return (
        f"{what}: {found.matrix.shape[0]} x {found.matrix.shape[1]}, {how}, made by "
        f"{found.provenance['made_by']} with {found.provenance['encoder']['name']} ({matrix_path})."
    )


def permutation(frame: pd.DataFrame, seed: int) -> np.ndarray:
    """The row of `.item` whose text each row gets: int64 `[n]`, a random order within each domain."""
    generator = np.random.default_rng(seed)
    domain = pd.factorize(frame["domain"])[0]  # [n]
    by_domain = np.argsort(domain, kind="stable")  # [n]
    shuffled = np.lexsort((generator.random(len(frame)), domain))  # [n]
    order = np.empty(len(frame), dtype=np.int64)
    order[by_domain] = shuffled
    return order
