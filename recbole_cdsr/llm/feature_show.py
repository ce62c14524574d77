"""What `recbole-cdsr features show` prints: features as a person reads them, and who made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from recbole_cdsr.config_names import did_you_mean
from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.llm import profiles, store
from recbole_cdsr.llm.asking import Asking
from recbole_cdsr.llm.feature_list import text_table
from recbole_cdsr.llm.generator import Answer, ChatRequest, TextGenerator
from recbole_cdsr.llm.item_features import item_set_name
from recbole_cdsr.llm.item_table import ItemTable, item_table
from recbole_cdsr.llm.profile_llm import (
    TEXTS_SUFFIX,
    ask_profiles,
    expected_profiles,
)
from recbole_cdsr.llm.prompts import item_texts
from recbole_cdsr.llm.pseudo_features import stored_pseudo_items
from recbole_cdsr.llm.pseudo_items import NamedPairs
from recbole_cdsr.llm.pseudo_llm import ask_pseudo_items
from recbole_cdsr.llm.request_limits import RequestLimits
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.llm.stored_answers import stored_answers
from recbole_cdsr.llm.written_sets import written_set_name

_INDENT = "    "


def show_users(config: Any, dataset: Any, tokens: Sequence[str], prompts: bool = False) -> list[str]:
    """A block of text per user: history, profile, pseudo items, and who made them.

    Parameters
    ----------
    config, dataset
        As `build_llm_features`.
    tokens : sequence of str
        User tokens.
    prompts : bool
        Whether to add what an LLM is asked first about each.

    Raises
    ------
    ConfigError
        A token that the dataset does not have.
    """
    viewer = _Viewer(config, dataset)
    users = [viewer.internal_id(dataset.uid_field, token) for token in tokens]
    blocks = viewer.users(users, tokens)
    if prompts:
        blocks += viewer.prompts(tokens)
    return blocks


def show_items(config: Any, dataset: Any, tokens: Sequence[str], neighbours: int = 3) -> list[str]:
    """A block of text per item: what the encoder read, and the nearest items of every domain by cosine."""
    viewer = _Viewer(config, dataset)
    items = [viewer.internal_id(dataset.iid_field, token) for token in tokens]
    return [viewer.item(item, token, neighbours) for item, token in zip(items, tokens, strict=True)]


class _Viewer:
    """Looks things up in the features of one dataset; builds nothing but what costs nothing."""

    def __init__(self, config: Any, dataset: Any) -> None:
        self.settings = FeatureSettings(config, dataset.dataset_name)
        self.dataset = dataset

    def internal_id(self, field: str, token: str) -> int:
        """The internal id of a token; `ConfigError` with near ones otherwise."""
        known = self.dataset.field2token_id[field]
        if token not in known or token == "[PAD]":
            kind = "user" if field == self.dataset.uid_field else "item"
            hint = did_you_mean(token, list(known)[1:], 1)
            raise ConfigError(f"'{self.dataset.dataset_name}' has no {kind} {token!r}{hint}")
        return int(known[token])

    @cached_property
    def items(self) -> ItemTable:
        name = item_set_name(self.settings)
        given = self.settings.item_features_file is not None
        if not given and not store.feature_set_exists(self.settings.features_dir, "items", name):
            path, _ = store.feature_paths(self.settings.features_dir, "items", name)
            raise FeatureError(
                f"There are no item features yet ({path}); build them with `recbole-cdsr features build --dataset "
                f"{self.dataset.dataset_name}`."
            )
        return item_table(self.settings, self.dataset)

    @cached_property
    def titles(self) -> list[str]:
        return self.items.titles()

    def domain(self, item: int) -> str:
        return self.dataset.domain_names[self.dataset.item_domain[item]]

    # ------------------------------------------------------------------------------------------------ users
    def users(self, users: Sequence[int], tokens: Sequence[str]) -> list[str]:
        histories = self.dataset.training_histories()
        rows = np.searchsorted(histories.user_ids, users)
        found = [
            row < len(histories.user_ids) and histories.user_ids[row] == user
            for row, user in zip(rows, users, strict=True)
        ]
        profile_maker, profile_of = self._profiles(
            histories, [int(row) for row, there in zip(rows, found, strict=True) if there]
        )
        pseudo_lines = self._pseudo(users)
        width = max(10, *map(len, self.dataset.domain_names))
        blocks = []
        for row, token, there, pseudo in zip(rows.tolist(), tokens, found, pseudo_lines, strict=True):
            items = histories.item_ids[histories.pointers[row] : histories.pointers[row + 1]].tolist() if there else []
            blocks.append(
                "\n".join(
                    [
                        f"user {token}",
                        f"  history ({len(items)} items, oldest first)",
                        *(f"{_INDENT}{self.domain(item):<{width}} {self.titles[item]}" for item in items),
                        f"  profile, by {profile_maker}",
                        f"{_INDENT}{profile_of.get(row) or 'none: no input history'}",
                        *pseudo,
                    ]
                )
            )
        return blocks

    def _profiles(self, histories: Histories, rows: list[int]) -> tuple[str, dict[int, str]]:
        if not self.settings.use_profiles:
            return "nobody (profile_generator is none)", dict.fromkeys(rows, "none")
        if self.settings.profile_generator == "llm":
            return self._written_profiles(histories, rows)
        labels = profiles.cluster_items(self.items.source.matrix, self.settings.profile_clusters)
        interests = profiles.interest_clusters(self.items.vectors, self.items.by_id(labels, -1), histories)
        texts = profiles.profile_texts(interests, self.titles, rows)
        return profiles.EXTRACTIVE_PROFILER, dict(zip(rows, texts, strict=True))

    def _written_profiles(self, histories: Histories, rows: list[int]) -> tuple[str, dict[int, str]]:
        tokens = self._user_tokens(histories)
        expected = expected_profiles(self.settings, self.dataset, self.items, histories, tokens)
        name = written_set_name(self.settings.features_dir, "profiles", expected)
        if stored_answers(self.settings, "profiles", name) is None:
            return "an LLM that was not asked yet (features build)", dict.fromkeys(rows, "not built")
        _, sidecar = store.feature_paths(self.settings.features_dir, "profiles", name)
        path = store.text_path(sidecar, TEXTS_SUFFIX)
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
            entries = {row: json.loads(lines[row]) for row in rows}
        except (OSError, ValueError, IndexError) as error:
            raise FeatureError(f"{path} cannot be read ({error}); {store.remedy_for(sidecar)}.") from None
        who = {"llm": "", "extractive": f" [by the {profiles.EXTRACTIVE_PROFILER}]", "none": ""}
        texts = {row: entry["text"] + who[entry["by"]] for row, entry in entries.items()}
        return store.read_sidecar(sidecar)["made_by"], texts

    def _user_tokens(self, histories: Histories) -> list[str]:
        return list(map(str, self.dataset.id2token(self.dataset.uid_field, histories.user_ids)))

    def _pseudo(self, users: Sequence[int]) -> list[list[str]]:
        """Lines about each user's pseudo items: names, and the item of the domain that is nearest to each."""
        histories = self.dataset.training_histories(held_out=False)
        stored = stored_pseudo_items(self.settings, self.dataset, self.items)
        if stored is None:
            return [["  pseudo items: not built (features build --what=pseudo)"] for _ in users]
        pairs, names, vectors, provenance = stored
        lines = []
        for user in users:
            of_user = np.flatnonzero(histories.user_ids[pairs.users] == user)
            if not len(of_user):
                lines.append(["  pseudo items: none, for the user is not single-domain in the training part"])
                continue
            said = [f"  pseudo items, by {provenance['made_by']}"]
            for pair in of_user.tolist():
                said += self._pseudo_of(pairs, pair, names, vectors, provenance["min_names"])
            lines.append(said)
        return lines

    def _pseudo_of(
        self, pairs: NamedPairs, pair: int, names: Sequence[str], vectors: np.ndarray, min_names: int
    ) -> list[str]:
        into = int(pairs.into_domain[pair])
        rows = pairs.name_ids[pairs.pointers[pair] : pairs.pointers[pair + 1]]
        few = "" if len(rows) >= min_names else f" (fewer than {min_names}: the user is left out)"
        lines = [f"{_INDENT}into {self.dataset.domain_names[into]}{few}"]
        if not len(rows):
            return lines
        begin, end = self.dataset.domain_offsets[into : into + 2].tolist()
        item_tokens = self.dataset.field2id_token[self.dataset.iid_field]
        cosines = _unit(vectors[rows]) @ _unit(self.items.vectors[begin:end]).T  # [m, n_k]
        for row, nearest, cosine in zip(rows.tolist(), cosines.argmax(axis=1), cosines.max(axis=1), strict=True):
            title = self.titles[begin + int(nearest)]
            match = f"is the item {item_tokens[begin + int(nearest)]}"
            if title != names[row]:
                match = f"nearest item {item_tokens[begin + int(nearest)]} ({cosine:.2f}): {title}"
            lines.append(f"{_INDENT}  {names[row]}  -> {match}")
        return lines

    # ------------------------------------------------------------------------------------------------ prompts
    def prompts(self, tokens: Sequence[str]) -> list[str]:
        """What an LLM is asked first about users, whoever makes the features now."""
        blocks = []
        generator = self.settings.generator_settings().text_generator("nothing", asks=False)  # its tokens cut histories
        recorder = _Recorder(generator, frozenset(tokens))
        for feature, ask in (("profiles", ask_profiles), ("pseudo", ask_pseudo_items)):
            histories = self.dataset.training_histories(held_out=feature == "profiles")
            ask(self.settings, self.dataset, self.items, histories, self._user_tokens(histories), recorder)
        for step, request in recorder.recorded:
            messages = "\n".join(f"{message['role']}: {message['content']}" for message in request.chat)
            blocks.append(f"prompt about {request.label} ({step}, {request.prompt_version})\n{messages}")
        return blocks

    # ------------------------------------------------------------------------------------------------ items
    def item(self, item: int, token: str, neighbours: int) -> str:
        frame, row = self.items.frame, self.items.rows[item - 1]
        text = item_texts(frame.iloc[[row]], self.items.prompt)[0]
        provenance = self.items.provenance
        lines = [
            f"item {token} ({self.domain(item)})",
            f"  text, by the prompt {self.items.prompt.version}",
            f"{_INDENT}{text}",
        ]
        if neighbours:
            lines.append(f"  nearest items by {provenance['encoder']['name']} ({provenance['made_by']})")
            lines += [f"{_INDENT}{row}" for row in text_table(self._neighbours(item, neighbours))]
        return "\n".join(lines)

    def _neighbours(self, item: int, count: int) -> list[tuple[str, ...]]:
        """Rows of a table, its header first: the nearest items of every domain, the item itself left out."""
        rows = [("domain", "cosine", "item", "title")]
        vector = _unit(self.items.vectors[[item]])  # [1, D]
        tokens = self.dataset.field2id_token[self.dataset.iid_field]
        for domain, name in enumerate(self.dataset.domain_names):
            begin, end = self.dataset.domain_offsets[domain : domain + 2].tolist()
            cosines = (_unit(self.items.vectors[begin:end]) @ vector.T)[:, 0]  # [n_k]
            if begin <= item < end:
                cosines[item - begin] = -np.inf
            for place in np.argsort(-cosines, kind="stable")[: min(count, int(np.isfinite(cosines).sum()))]:
                other = begin + int(place)
                rows.append((name, f"{cosines[place]:.3f}", str(tokens[other]), self.titles[other]))
        return rows


class _Recorder(Asking):
    """Notes what would be asked about some users in a feature's first step, and answers nothing."""

    def __init__(self, generator: TextGenerator, users: frozenset[str]) -> None:
        super().__init__(generator, None, RequestLimits())
        self.users = users
        self.recorded: list[tuple[str, ChatRequest]] = []

    def ask(self, name: str, requests: Sequence[ChatRequest], guess_words: int = 100) -> list[Answer]:
        self.recorded += [(name, request) for request in requests if request.label in self.users]
        return [Answer(None)] * len(requests)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; zero stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)
