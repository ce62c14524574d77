"""The part of the dataset's contract that this room reads, over plain Python lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Histories(NamedTuple):
    user_ids: np.ndarray
    pointers: np.ndarray
    item_ids: np.ndarray


class FlatDataset:
    uid_field, iid_field = "user_id", "item_id"

    def __init__(
        self,
        name: str,
        items: Mapping[str, Sequence[str]],
        histories: Mapping[str, Sequence[str]],
        users_without_history: Sequence[str] = (),
    ) -> None:
        self.dataset_name = name
        self.domain_names = list(items)
        sizes = [len(of) for of in items.values()]
        self.domain_offsets = np.append(1, 1 + np.cumsum(sizes))
        self.item_domain = np.append(-1, np.repeat(np.arange(len(sizes)), sizes))
        item_tokens = ["[PAD]", *(token for of in items.values() for token in of)]
        self.tokens = {"item_id": item_tokens, "user_id": ["[PAD]", *histories, *users_without_history]}
        self.histories = histories

    @property
    def item_num(self) -> int:
        return len(self.tokens["item_id"])

    @property
    def user_num(self) -> int:
        return len(self.tokens["user_id"])

    def id2token(self, field: str, ids: np.ndarray) -> np.ndarray:
        return np.array(self.tokens[field])[ids]

    def training_histories(self) -> Histories:
        id_of = {token: place for place, token in enumerate(self.tokens["item_id"])}
        pointers = np.append(0, np.cumsum([len(history) for history in self.histories.values()]))
        items = np.array([id_of[token] for history in self.histories.values() for token in history])
        return Histories(np.arange(1, len(self.histories) + 1), pointers, items)
