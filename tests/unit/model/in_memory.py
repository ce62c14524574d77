"""A small cross-domain data set in memory with the attributes a model reads, and a configuration beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from recbole.data.interaction import Interaction

from recbole_cdsr.llm.features import LLMFeatures

PROPS = Path(__file__).parents[3] / "props" / "model"


class Settings(dict):
    """A configuration as RecBole's: a key that is not set reads as None."""

    def __missing__(self, key: str) -> None:
        return None


def settings(model: str, **overrides: Any) -> Settings:
    """The model's own props, RecBole's field names, and overrides."""
    fields = {
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "NEG_PREFIX": "neg_",
        "device": torch.device("cpu"),
    }
    return Settings({**fields, **yaml.safe_load((PROPS / f"{model}.yaml").read_text()), **overrides})


class InMemoryDataset:
    """Domains of the given sizes, text features and profiles."""

    def __init__(self, domain_sizes: list[int], items: np.ndarray, profiles: np.ndarray | None) -> None:
        self.domain_names = [f"domain{k}" for k in range(len(domain_sizes))]
        self.domain_offsets = np.concatenate([[1], 1 + np.cumsum(domain_sizes)]).astype(np.int64)
        self.item_domain = np.concatenate([[-1], np.repeat(np.arange(len(domain_sizes)), domain_sizes)])
        self.llm_features = LLMFeatures(items=items, profiles=profiles, provenance={})

    def num(self, field: str) -> int:
        assert field == "item_id"
        return len(self.item_domain)


def random_dataset(domain_sizes: list[int], n_users: int, width: int = 24, seed: int = 0) -> InMemoryDataset:
    """Random features; row 0 is zero, as the feature store has it."""
    random = np.random.default_rng(seed)
    items = random.normal(size=(1 + sum(domain_sizes), width)).astype(np.float32)
    profiles = random.normal(size=(1 + n_users, width - 4)).astype(np.float32)
    items[0] = profiles[0] = 0
    return InMemoryDataset(domain_sizes, items, profiles)


def random_training_batch(
    dataset: InMemoryDataset, lengths: list[int], seed: int = 0, n_negatives: int | None = None
) -> Interaction:
    """One row per user with input histories of the given lengths (≥ 1) and every training field."""
    random = np.random.default_rng(seed)
    n_rows, longest, n_items = len(lengths), max(lengths), len(dataset.item_domain)
    windows = random.integers(1, n_items, size=(n_rows, longest + 1))
    real = np.arange(longest) < np.array(lengths)[:, None]
    inputs, targets = np.where(real, windows[:, :-1], 0), np.where(real, windows[:, 1:], 0)
    domains = dataset.item_domain[targets]
    low, high = dataset.domain_offsets[domains], dataset.domain_offsets[domains + 1]
    shape = inputs.shape if n_negatives is None else (*inputs.shape, n_negatives)
    if n_negatives is not None:
        low, high, real = low[..., None], high[..., None], real[..., None]
    negatives = np.where(real, random.integers(low, np.maximum(high, low + 1), size=shape), 0)
    pairs = np.stack(
        [
            random.integers(dataset.domain_offsets[k], dataset.domain_offsets[k + 1], size=n_rows)
            * random.integers(0, 2, size=n_rows)
            for k in range(len(dataset.domain_names))
        ],
        axis=1,
    )
    n_users = len(dataset.llm_features.profiles)
    return Interaction(
        {
            "user_id": torch.from_numpy(random.permutation(np.arange(1, n_users))[:n_rows]),
            "item_id_list": torch.from_numpy(inputs),
            "item_length": torch.tensor(lengths),
            "target_id_list": torch.from_numpy(targets),
            "neg_item_id_list": torch.from_numpy(negatives),
            "domain_item_id": torch.from_numpy(pairs),
        }
    )
