"""The golden files, and what a model is made of and held against them with.

The folder is `$RECBOLE_CDSR_GOLDEN`, by default this one; all sizes and settings come from each file's `meta`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from recbole_cdsr.llm.features import LLMFeatures

FOLDER = Path(os.environ.get("RECBOLE_CDSR_GOLDEN", Path(__file__).parent))
PROPS = Path(__file__).parents[2] / "props" / "model"
# Of an array's own scale, its largest absolute value, by the precision of the file.
TOLERANCES = {np.dtype("float32"): 2e-6, np.dtype("float64"): 1e-9}


def files_of(model: str) -> list[Path]:
    """The files of a model, by its name in lower case."""
    return sorted(FOLDER.glob(f"{model}*.npz"))


def results_of(files: list[Path]) -> list[tuple[Path, str]]:
    """Every result that the files hold."""
    return sorted({(f, key) for f in files for key in np.load(f, allow_pickle=False) if key.startswith("out/")})


def read(file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A file's arrays and its `meta`; what a model computes from is in double precision, results are as they are."""
    with np.load(file, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    meta = json.loads(str(arrays.pop("meta")))
    for key, value in arrays.items():
        if value.dtype == np.float32 and not key.startswith("out/"):
            arrays[key] = value.astype(np.float64)
    return arrays, meta


def part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


class Settings(dict):
    """A configuration as RecBole's, of a model's defaults and what a file says: a key that is not set reads as None."""

    def __init__(self, model: str, **own: Any) -> None:
        super().__init__(
            yaml.safe_load((PROPS / f"{model}.yaml").read_text()),
            USER_ID_FIELD="user_id",
            ITEM_ID_FIELD="item_id",
            LIST_SUFFIX="_list",
            ITEM_LIST_LENGTH_FIELD="item_length",
            NEG_PREFIX="neg_",
            device=torch.device("cpu"),
        )
        self.update(own)

    def __missing__(self, key: str) -> None:
        return None


class GoldenDataset:
    """What a model reads of a data set: two domains of the golden sizes, features to be overwritten.

    `items` and `profiles` are the shapes of the features, the padding row included; no `profiles`, no profiles.
    """

    def __init__(self, meta: dict[str, Any], items: tuple[int, int], profiles: tuple[int, int] | None = None) -> None:
        sizes = [meta["nA"], meta["nB"]]
        self.domain_names = ["a", "b"]
        self.domain_offsets = np.concatenate([[1], 1 + np.cumsum(sizes)])
        self.item_domain = np.concatenate([[-1], np.repeat([0, 1], sizes)])
        self.llm_features = LLMFeatures(
            items=np.zeros(items, dtype=np.float32),
            profiles=None if profiles is None else np.zeros(profiles, dtype=np.float32),
            provenance={},
        )

    def num(self, field: str) -> int:
        return len(self.item_domain)


def largest(values: np.ndarray) -> float:
    """Largest absolute value, 0 of nothing."""
    return float(np.abs(values).max(initial=0))


def assert_same(
    actual: torch.Tensor,
    expected: np.ndarray,
    tolerance: float | None = None,
    dtype: type = np.float64,
    rounding: float = 0.0,
) -> None:
    """Computed in `dtype`, equal within the tolerance of the array's own scale; where all is zero, 1 is the scale.

    The tolerance is by default that of the file's precision. `rounding` is an absolute difference that is allowed in
    any case, for arrays whose own scale says nothing about it.
    """
    actual = actual.detach().numpy()
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    scale = largest(expected) or 1.0
    bound = (TOLERANCES[expected.dtype] if tolerance is None else tolerance) * scale
    worst = largest(actual.astype(np.float64) - expected)
    assert worst <= max(bound, rounding), f"off by {worst / scale:.2e} of the scale {scale:.3g}"
