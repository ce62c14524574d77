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
    card = None

    def __init__(
        self,
        name: str,
        items: Mapping[str, Sequence[str]],
        histories: Mapping[str, Sequence[str]],
        users_without_history: Sequence[str] = (),
        held_out_users: Sequence[str] = (),
    ) -> None:
        self.dataset_name = name
        self.domain_names = list(items)
        sizes = [len(of) for of in items.values()]
        self.domain_offsets = np.append(1, 1 + np.cumsum(sizes))
        self.item_domain = np.append(-1, np.repeat(np.arange(len(sizes)), sizes))
        item_tokens = ["[PAD]", *(token for of in items.values() for token in of)]
        self.tokens = {"item_id": item_tokens, "user_id": ["[PAD]", *histories, *users_without_history]}
        self.histories = histories
        self.held_out_users = frozenset(held_out_users)

    @property
    def item_num(self) -> int:
        return len(self.tokens["item_id"])

    @property
    def user_num(self) -> int:
        return len(self.tokens["user_id"])

    def id2token(self, field: str, ids: np.ndarray) -> np.ndarray:
        return np.array(self.tokens[field])[ids]

    def training_histories(self, held_out: bool = True) -> Histories:
        id_of = {token: place for place, token in enumerate(self.tokens["item_id"])}
        chosen = [user for user in self.histories if held_out or user not in self.held_out_users]
        users = [self.tokens["user_id"].index(user) for user in chosen]
        pointers = np.append(0, np.cumsum([len(self.histories[user]) for user in chosen]))
        items = np.array([id_of[token] for user in chosen for token in self.histories[user]], dtype=np.int64)
        return Histories(np.array(users, dtype=np.int64), pointers, items)
