"""Users' histories as lists of lines for a prompt, cut to a token budget with the newest items kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.llm import store
from recbole_cdsr.llm.chat_prompts import ChatPrompt
from recbole_cdsr.llm.tokens import TokenCounter
from recbole_cdsr.ranges import expand_ranges


@dataclass(frozen=True)
class ItemWords:
    """What a prompt can say of each item, by internal id.

    Attributes
    ----------
    titles, categories, domains : sequence of str
        `[n_items]` each; "" for padding, and for an item without category.
    """

    titles: Sequence[str]
    categories: Sequence[str]
    domains: Sequence[str]

    def of(self, item: int) -> dict[str, str]:
        """What an entry is filled with."""
        return {"title": self.titles[item], "category": self.categories[item], "domain": self.domains[item]}


class HistoryTexts:
    """Writes lists of items in the words of one prompt.

    Parameters
    ----------
    prompt : ChatPrompt
        Words the entries and orders them.
    words : ItemWords
        Of the dataset's items.
    counter : TokenCounter
        Counts an entry's tokens.
    """

    def __init__(self, prompt: ChatPrompt, words: ItemWords, counter: TokenCounter) -> None:
        self.prompt = prompt
        self.words = words
        self._counter = counter
        self._costs = np.full(len(words.titles), -1, dtype=np.int64)
        self._empty = counter.count([{"role": "user", "content": ""}])

    def costs(self, items: np.ndarray) -> np.ndarray:
        """Tokens of each item's entry, int64 `[N]`; an item is counted when it is first met."""
        for item in np.unique(items[self._costs[items] < 0]).tolist():
            line = self.prompt.entries([self.words.of(item)]) + self.prompt.entry_separator
            self._costs[item] = max(1, self._counter.count([{"role": "user", "content": line}]) - self._empty)
        return self._costs[items]

    def lists(self, pointers: np.ndarray, items: np.ndarray, budget: int) -> list[str]:
        """One list per history, cut to the newest items that fit.

        Parameters
        ----------
        pointers, items : np.ndarray
            int64 `[U+1]` and `[N]`, each history oldest first.
        budget : int
            Tokens of a list at most; the newest item stays even if it alone has more.

        Returns
        -------
        list of str
            `[U]`, "" for an empty history.
        """
        pointers, kept = newest_within(pointers, self.costs(items), budget)
        ids = items[kept].tolist()
        step = -1 if self.prompt.newest_first else 1
        return [
            self.prompt.entries([self.words.of(item) for item in ids[begin:end][::step]])
            for begin, end in zip(pointers[:-1].tolist(), pointers[1:].tolist(), strict=True)
        ]


def newest_within(pointers: np.ndarray, costs: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """The newest entries of each list whose costs add up to no more than a budget.

    Parameters
    ----------
    pointers : np.ndarray
        int64 `[U+1]`, list j is `costs[pointers[j]:pointers[j+1]]`, oldest first.
    costs : np.ndarray
        int64 `[N]`, 1 or more.
    budget : int
        Of each list.

    Returns
    -------
    pointers, kept : np.ndarray
        int64 `[U+1]` and `[N']`: places of the entries kept, in their order. The last of a list is always kept.
    """
    sizes = np.diff(pointers)
    before = np.append(0, np.cumsum(costs))  # [N+1]
    to_the_end = np.repeat(before[pointers[1:]], sizes) - before[:-1]  # [N], cost of an entry and all newer ones
    newest = np.zeros(len(costs), dtype=bool)
    newest[pointers[1:][sizes > 0] - 1] = True
    kept = np.flatnonzero((to_the_end <= budget) | newest)
    counts = np.searchsorted(kept, pointers)  # kept before each list
    return counts.astype(np.int64), kept


def latest(pointers: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the last `most` entries of each list: pointers int64 `[U+1]` and places int64 `[N']`."""
    sizes = np.diff(pointers)
    taken = np.minimum(sizes, most)
    _, places = expand_ranges(pointers[1:] - taken, taken)
    return np.append(0, np.cumsum(taken)).astype(np.int64), places


def shown_words(prompts: Iterable[ChatPrompt], words: ItemWords, domain_names: Sequence[str]) -> dict[str, Any]:
    """What prompts can show of the items of a dataset besides titles, as plain data: hashes, and the domains' names.

    What no prompt shows is left out, so that a change of it makes no new features.
    """
    prompts = list(prompts)
    shown: dict[str, Any] = {}
    for placeholder, of_items in (("category", words.categories), ("domain", words.domains)):
        if any(prompt.shows(placeholder) for prompt in prompts):
            shown[f"{placeholder}_sha256"] = store.hash_strings(of_items)
    if any(prompt.shows("domains") for prompt in prompts):
        shown["domains"] = list(domain_names)
    return shown


def histories_sha256(user_tokens: list[str], histories: Histories, dataset: Any) -> str:
    """SHA-256 of who consumed what in which order, whatever the internal ids."""
    item_tokens = dataset.id2token(dataset.iid_field, histories.item_ids)
    digest = hashlib.sha256(np.asarray(histories.pointers, dtype="<i8").tobytes())
    digest.update(store.hash_strings(user_tokens).encode())
    digest.update(store.hash_strings(list(map(str, item_tokens))).encode())
    return digest.hexdigest()
