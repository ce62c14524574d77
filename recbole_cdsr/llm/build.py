"""From a dataset and its configuration to `LLMFeatures`: build what is missing, check what is there."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.llm import profiles, store
from recbole_cdsr.llm.encoder import SentenceTransformerEncoder, TextEncoder
from recbole_cdsr.llm.encoder_sources import (
    DEFAULT_ENCODER,
    EncoderNotFoundError,
    encoder_name,
    file_sha256,
    locate_encoder,
)
from recbole_cdsr.llm.features import LLMFeatures
from recbole_cdsr.llm.matrix import load_matrix
from recbole_cdsr.llm.prompts import item_texts, item_titles, load_item_prompt, warn_of_unread_script

ENCODER_ONLY = "text encoder only (no LLM)"
GENERATORS = ("extractive", "none")
ENCODINGS = ("vectors", "text")
_HOW = {
    "vectors": "mean of the vectors of item titles and attributes; no text was encoded anew",
    "text": "every user's profile text encoded",
}


def build_llm_features(config: Any, dataset: Any) -> LLMFeatures:
    """LLM features of a dataset by internal id; what its lazy `llm_features` calls.

    Parameters
    ----------
    config : mapping or RecBole Config
        Read by `config[key]`; a missing key or None means the default: `data_path` (the dataset's folder),
        `llm_encoder` (all-MiniLM-L6-v2), `llm_batch_size` (128), `llm_features_dir` (`<data_path>/features`),
        `item_features_file` (none: encode the item text), `use_profiles` (true), `profile_generator`
        (`extractive` or `none`), `profile_encoding` (`vectors` or `text`), `profile_clusters` (10),
        `llm_permute_seed` (none; an integer permutes the items' text within each domain, a control
        experiment), `device` (`cpu`), `show_progress` (true).
    dataset : CrossDomainDataset
        Needs `dataset_name`, `iid_field`, `uid_field`, `id2token`, `item_num`, `user_num`, and for profiles
        `training_histories()`.

    Returns
    -------
    LLMFeatures

    Raises
    ------
    FeatureError
        When stored features are stale or damaged, an item has none, the encoder is refused, or nothing can be
        written.
    ConfigError
        When a key has a value it cannot have.
    """
    settings = _Settings(config, dataset.dataset_name)
    frame = _read_items(settings)
    source = _item_source(settings, frame)
    order = _permutation(frame, settings.permute_seed)  # [n], rows of .item
    matrix = source.matrix if order is None else source.matrix[order]
    ids = np.arange(1, dataset.item_num)
    tokens = dataset.id2token(dataset.iid_field, ids)
    items = np.zeros((dataset.item_num, matrix.shape[1]), dtype=np.float32)  # [n_items, D]
    items[1:] = store.align(matrix, source.tokens, tokens)
    item_provenance = source.provenance
    if order is not None:
        logging.getLogger().warning(
            f"Control experiment: llm_permute_seed={settings.permute_seed} gives the items of each domain "
            "each other's text."
        )
        item_provenance = item_provenance | {"permute_seed": settings.permute_seed}
    made_by = f"items: {item_provenance['made_by']}, {item_provenance['encoder']['name']}"
    table, profile_provenance = None, None
    if settings.use_profiles:
        titles = pd.Series(item_titles(frame), index=pd.Index(source.tokens, dtype=object))
        if order is not None:
            titles = pd.Series(titles.to_numpy()[order], index=titles.index)
        table, profile_provenance = _profiles(
            settings, dataset, items, titles.reindex(tokens), item_provenance
        )
        made_by += f"; profiles: {profile_provenance['made_by']}"
    provenance = {
        "made_by": made_by,
        "llm": None,
        "items": item_provenance,
        "profiles": profile_provenance,
        "permute_seed": settings.permute_seed,
    }
    return LLMFeatures(items, table, provenance)


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
    settings = _Settings(
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
    return _encoded_items(settings, _read_items(settings), force)


class _Settings:
    """The configuration keys of this room, read once and checked."""

    def __init__(self, config: Any, dataset_name: str) -> None:
        def read(key: str, default: Any = None) -> Any:
            try:
                value = config[key]
            except KeyError:
                value = None
            return default if value is None else value

        self.dataset_name = dataset_name
        self.dataset_dir = Path(read("data_path", "."))
        self.features_dir = Path(read("llm_features_dir", self.dataset_dir / "features")).expanduser()
        self.encoder: str | None = read("llm_encoder")
        self.batch_size = _positive("llm_batch_size", read("llm_batch_size", 128))
        self.item_features_file: str | None = read("item_features_file")
        generator = _one_of("profile_generator", read("profile_generator", "extractive"), GENERATORS)
        self.use_profiles = bool(read("use_profiles", True)) and generator != "none"
        self.profile_encoding = _one_of("profile_encoding", read("profile_encoding", "vectors"), ENCODINGS)
        self.profile_clusters = _positive("profile_clusters", read("profile_clusters", 10))
        self.permute_seed: int | None = read("llm_permute_seed")
        if self.permute_seed is not None and (type(self.permute_seed) is not int or self.permute_seed < 0):
            raise ConfigError(
                f"llm_permute_seed must be a whole number from 0 or empty, not {self.permute_seed!r}."
            )
        for key, value in (("llm_encoder", self.encoder), ("item_features_file", self.item_features_file)):
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"{key} must be a name or path, not {value!r}.")
        self.device = read("device", "cpu")
        self.show_progress = bool(read("show_progress", True))

    def text_encoder(self) -> TextEncoder:
        return SentenceTransformerEncoder(self.encoder, device=self.device, batch_size=self.batch_size)


def _positive(key: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ConfigError(f"{key} must be a whole number from 1, not {value!r}.")
    return value


def _one_of(key: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ConfigError(f"{key} must be one of {', '.join(choices)}, not {value!r}.")
    return value


def _read_items(settings: _Settings) -> pd.DataFrame:
    from recbole_cdsr.data.atomic import read_item_text

    return read_item_text(settings.dataset_dir, settings.dataset_name)


def _item_source(settings: _Settings, frame: pd.DataFrame) -> store.FeatureSet:
    if settings.item_features_file is None:
        return _encoded_items(settings, frame)
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


def _encoded_items(settings: _Settings, frame: pd.DataFrame, force: bool = False) -> store.FeatureSet:
    logger = logging.getLogger()
    encoder_called = encoder_name(settings.encoder)
    name = store.slug(encoder_called)
    prompt = load_item_prompt()
    tokens, texts = frame["item_id"].tolist(), item_texts(frame, prompt)
    if encoder_called == DEFAULT_ENCODER:
        warn_of_unread_script(texts)
    made_from = {
        "texts_sha256": store.hash_strings(texts),
        "prompt_version": prompt.version,
        "made_by": ENCODER_ONLY,
    }
    if not force and store.feature_set_exists(settings.features_dir, "items", name):
        expected = made_from | {"encoder": _expected_encoder(settings.encoder)}
        found = store.load_feature_set(settings.features_dir, "items", name, tokens, expected=expected)
        logger.info(_said("Item features", "reused", found, settings, name))
        return found
    store.check_writable(settings.features_dir)
    encoder = settings.text_encoder()
    logger.info(f"Item features: encoding {len(texts)} item texts with {encoder.name} on {settings.device} …")
    started = time.perf_counter()
    matrix = encoder.encode(texts, settings.show_progress)
    store.save_feature_set(
        settings.features_dir, "items", name, matrix, tokens, encoder=encoder.provenance(), **made_from
    )
    made = store.load_feature_set(settings.features_dir, "items", name, tokens, expected=made_from)
    logger.info(
        _said("Item features", f"made in {time.perf_counter() - started:.0f} s", made, settings, name)
    )
    return made


def _expected_encoder(name_or_path: str | None) -> dict[str, Any]:
    """What a stored set must say of its encoder: its name, and the hashes when it is here to be hashed."""
    try:
        identity = locate_encoder(name_or_path, download=False).identity()
    except EncoderNotFoundError:
        return {"name": encoder_name(name_or_path)}
    # The same weights and settings give the same vectors wherever they were found.
    by_hash = identity["weights_sha256"] is not None
    return {key: identity[key] for key in ("name", "weights_sha256", "setup_sha256")} | (
        {} if by_hash else {"revision": identity["revision"]}
    )


def _said(what: str, how: str, found: store.FeatureSet, settings: _Settings, name: str) -> str:
    matrix_path, _ = store.feature_paths(settings.features_dir, found.provenance["kind"], name)
    return (
        f"{what}: {found.matrix.shape[0]} x {found.matrix.shape[1]}, {how}, made by "
        f"{found.provenance['made_by']} with {found.provenance['encoder']['name']} ({matrix_path})."
    )


def _permutation(frame: pd.DataFrame, seed: int | None) -> np.ndarray | None:
    """Row of the text each row of `.item` gets: a random order within each domain."""
    if seed is None:
        return None
    generator = np.random.default_rng(seed)
    domain = pd.factorize(frame["domain"])[0]  # [n]
    by_domain = np.argsort(domain, kind="stable")  # [n]
    shuffled = np.lexsort((generator.random(len(frame)), domain))  # [n]
    order = np.empty(len(frame), dtype=np.int64)
    order[by_domain] = shuffled
    return order


def _profiles(
    settings: _Settings,
    dataset: Any,
    items: np.ndarray,
    titles: pd.Series,
    item_provenance: Mapping[str, Any],
) -> tuple[np.ndarray, dict[str, Any]]:
    """Profile table `[n_users, D_u]` and its provenance, from the store or made now.

    `titles` `[n_items - 1]` are those of the internal ids from 1, permuted as `items` is.
    """
    logger = logging.getLogger()
    histories = dataset.training_histories()
    user_tokens = list(map(str, dataset.id2token(dataset.uid_field, histories.user_ids)))
    with_text = settings.profile_encoding == "text"
    encoder = _expected_encoder(settings.encoder) if with_text else dict(item_provenance["encoder"])
    made_from = {
        "texts_sha256": _histories_sha256(user_tokens, histories, dataset),
        "prompt_version": profiles.profile_prompt_version() if with_text else "none",
        "made_by": profiles.EXTRACTIVE_PROFILER,
        "encoder": encoder,
        "how": _HOW[settings.profile_encoding],
        "clusters": settings.profile_clusters,
        "made_of_items": {
            "matrix_sha256": item_provenance["matrix_sha256"],
            "permute_seed": settings.permute_seed,
        },
    }
    # Every split, seed of permutation and setting has a set of its own, so that they do not replace each
    # other's.
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{store.slug(encoder['name'])}-{digest}"
    if store.feature_set_exists(settings.features_dir, "profiles", name):
        found = store.load_feature_set(
            settings.features_dir, "profiles", name, user_tokens, expected=made_from
        )
        how = "reused"
    else:
        store.check_writable(settings.features_dir)
        started = time.perf_counter()
        labels = profiles.cluster_items(items, settings.profile_clusters)
        interests = profiles.interest_clusters(items, labels, histories)
        if with_text:
            matrix = _encoded_profiles(settings, interests, ["", *titles])
        else:
            matrix = profiles.profile_vectors(items, interests)  # [U, D]
        kept = {key: made_from[key] for key in ("how", "clusters", "made_of_items")}
        store.save_feature_set(
            settings.features_dir,
            "profiles",
            name,
            matrix,
            user_tokens,
            texts_sha256=made_from["texts_sha256"],
            encoder=encoder,
            prompt_version=made_from["prompt_version"],
            made_by=made_from["made_by"],
            extra=kept,
        )
        found = store.load_feature_set(
            settings.features_dir, "profiles", name, user_tokens, expected=made_from
        )
        how = f"made in {time.perf_counter() - started:.0f} s"
    logger.info(_said("User profiles", how, found, settings, name))
    table = np.zeros((dataset.user_num, found.matrix.shape[1]), dtype=np.float32)  # [n_users, D_u]
    table[histories.user_ids] = found.matrix
    return table, found.provenance


def _encoded_profiles(
    settings: _Settings, interests: profiles.InterestClusters, titles: list[str]
) -> np.ndarray:
    texts = profiles.profile_texts(interests, titles)
    encoder = settings.text_encoder()
    logging.getLogger().info(f"User profiles: encoding {len(texts)} profile texts with {encoder.name} …")
    matrix = encoder.encode(texts, settings.show_progress)  # [U, D_u]
    matrix[np.array([not text for text in texts], dtype=bool)] = 0.0  # a user without items has no profile
    return matrix


def _histories_sha256(user_tokens: list[str], histories: profiles.FlatHistories, dataset: Any) -> str:
    item_tokens = dataset.id2token(dataset.iid_field, histories.item_ids)
    if len(item_tokens) != histories.pointers[-1]:
        raise FeatureError(
            "The dataset's training histories are inconsistent: pointers do not end at the last item."
        )
    digest = hashlib.sha256(np.asarray(histories.pointers, dtype="<i8").tobytes())
    digest.update(store.hash_strings(user_tokens).encode())
    digest.update(store.hash_strings(list(map(str, item_tokens))).encode())
    return digest.hexdigest()
