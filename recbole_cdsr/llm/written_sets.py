"""What sets that an LLM wrote are called, and how a stored one is found.

The name of a set stands for everything that it was made from. Some of that cannot be seen on every machine: the hashes
of an encoder or of a local model are known only where its files are. A set is found there all the same, by its sidecar.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm import store

# Of these a sidecar may say more than can be seen now.
_SEEN_IN_PART = ("encoder", "generator")


def written_set_name(features_dir: Path, kind: str, expected: Mapping[str, Any]) -> str:
    """The name of the stored set that was made from what is expected; without one, the name it is to be given.

    Parameters
    ----------
    features_dir, kind
        As in `store.save_feature_set`.
    expected : mapping
        What the set's sidecar must say. Of `encoder` and `generator` the keys given are compared; the rest is equal.
    """
    prefix = f"{store.slug(expected['encoder']['name'])}-llm"
    text = json.dumps(expected, sort_keys=True)
    # Every model, wording and split has a set of its own, so that they do not replace each other's.
    name = f"{prefix}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    if store.feature_set_exists(features_dir, kind, name):
        return name
    wanted = json.loads(text)
    found = []
    for path in Path(features_dir).glob(f"{kind}-{prefix}-*.json"):
        try:
            sidecar = store.read_sidecar(path)
        except FeatureError:  # damaged, and so nobody's set
            continue
        if _says(sidecar, wanted):
            found.append((str(sidecar.get("date")), path.name.removeprefix(f"{kind}-").removesuffix(".json")))
    return max(found)[1] if found else name


def _says(sidecar: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    in_part = {key: value for key, value in wanted.items() if key in _SEEN_IN_PART}
    whole = {key: value for key, value in wanted.items() if key not in _SEEN_IN_PART}
    return all(sidecar.get(key) == value for key, value in whole.items()) and not store.first_difference(
        sidecar, in_part
    )
