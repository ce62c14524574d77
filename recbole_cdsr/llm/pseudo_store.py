"""Sets of pseudo items in the feature store.

A set is `pseudo-<name>.safetensors` with `users` int64 `[P]` (places in the token order that the sidecar's
`tokens_sha256` stands for), `into_domain` int64 `[P]`, `pointers` int64 `[P+1]`, `name_ids` int64 `[M]` and
`vectors` float32 `[V, D]`; `pseudo-<name>.names.txt` with the V names, one per line; and the JSON sidecar.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm import store
from recbole_cdsr.llm.matrix import check_finite, map_safetensors
from recbole_cdsr.llm.pseudo_items import NamedPairs

NAMES_SUFFIX = "names.txt"


def save_pseudo_items(
    features_dir: Path,
    name: str,
    pairs: NamedPairs,
    names: Sequence[str],
    vectors: np.ndarray,
    tokens: Sequence[str],
    made_from: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a set of pseudo items.

    Parameters
    ----------
    features_dir, name
        As in `store.save_feature_set`.
    pairs : NamedPairs
        Every pair that was asked for, those with few names or none included.
    names : sequence of str
        `[V]`, without line breaks.
    vectors : np.ndarray
        float32 `[V, D]`.
    tokens : sequence of str
        The users' tokens in the order that `pairs.users` counts in.
    made_from : mapping
        Plain data for the sidecar.

    Returns
    -------
    dict
        The sidecar's content.

    Raises
    ------
    FeatureError
        When a vector is not finite, or the folder cannot be written.
    """
    tensors = {
        "users": np.ascontiguousarray(pairs.users, dtype=np.int64),
        "into_domain": np.ascontiguousarray(pairs.into_domain, dtype=np.int64),
        "pointers": np.ascontiguousarray(pairs.pointers, dtype=np.int64),
        "name_ids": np.ascontiguousarray(pairs.name_ids, dtype=np.int64),
        "vectors": np.ascontiguousarray(vectors, dtype=np.float32),
    }
    path, _ = store.feature_paths(features_dir, "pseudo", name)
    check_finite(tensors["vectors"], f"{path} would hold", "nothing was written")
    digest = hashlib.sha256(store.hash_strings(names).encode())
    for tensor in tensors.values():
        digest.update(tensor.data)
    sidecar = {
        "format": store.FORMAT,
        "kind": "pseudo",
        "tokens_sha256": store.hash_strings(tokens),
        **made_from,
        "pairs": len(pairs.users),
        "names": len(names),
        "names_sha256": store.hash_strings(names),
        "shape": list(tensors["vectors"].shape),
        "matrix_sha256": digest.hexdigest(),
    }
    return store.write_set(features_dir, "pseudo", name, tensors, sidecar, {NAMES_SUFFIX: names})


def load_pseudo_items(
    features_dir: Path, name: str, tokens: Sequence[str], expected: Mapping[str, Any]
) -> tuple[NamedPairs, list[str], np.ndarray, dict[str, Any]]:
    """Open a set of pseudo items and make sure that it is what it should be.

    Returns
    -------
    (pairs, names, vectors, sidecar)
        `vectors` is mapped into memory, not read.

    Raises
    ------
    FeatureError
        When the set is missing, damaged, not finite, or stale; as `store.load_feature_set`.
    """
    from safetensors import safe_open

    path, sidecar_path = store.feature_paths(features_dir, "pseudo", name)
    sidecar = store.check_set(features_dir, "pseudo", name, tokens, expected)
    remedy = store.remedy_for(sidecar_path)
    names_path = store.text_path(sidecar_path, NAMES_SUFFIX)
    try:
        names = names_path.read_bytes().decode("utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise FeatureError(f"{names_path} cannot be read as text ({error}); {remedy}.") from None
    if store.hash_strings(names) != sidecar.get("names_sha256"):
        raise FeatureError(f"{names_path} does not hold the names that {sidecar_path.name} describes; {remedy}.")
    try:
        with safe_open(path, framework="numpy") as stream:
            flat = {key: stream.get_tensor(key) for key in ("users", "into_domain", "pointers", "name_ids")}
    except Exception as error:  # safetensors raises a class of its own for whatever a damaged file holds
        raise FeatureError(f"{path} is not a set of pseudo items ({error}); {remedy}.") from None
    vectors = map_safetensors(path, "vectors")
    pairs = NamedPairs(**flat)
    if not _fits(pairs, len(names), len(tokens)) or list(vectors.shape) != sidecar.get("shape"):
        raise FeatureError(f"{path} holds pointers that fit neither its names nor its users; {remedy}.")
    check_finite(vectors, f"{path} holds", remedy)
    return pairs, names, vectors, sidecar


def _fits(pairs: NamedPairs, n_names: int, n_users: int) -> bool:
    """Whether every pointer of a set points at something."""
    return (
        len(pairs.users) == len(pairs.into_domain) == len(pairs.pointers) - 1
        and pairs.pointers[0] == 0
        and pairs.pointers[-1] == len(pairs.name_ids)
        and bool((np.diff(pairs.pointers) >= 0).all())
        and _within(pairs.users, n_users)
        and _within(pairs.name_ids, n_names)
    )


def _within(values: np.ndarray, stop: int) -> bool:
    return not len(values) or (int(values.min()) >= 0 and int(values.max()) < stop)
