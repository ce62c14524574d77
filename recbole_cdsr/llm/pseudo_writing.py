"""Pseudo items written by an LLM (LLMCDSR, first stage): a question with examples, then the names out of its answer.

Everything shown to the LLM is training rows: the user's own titles, and those of overlapped users as examples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.llm.asking import Asking
from recbole_cdsr.llm.chat_prompts import ChatPrompt
from recbole_cdsr.llm.generator import Answer, ChatRequest
from recbole_cdsr.llm.history_texts import HistoryTexts, ItemWords
from recbole_cdsr.llm.name_parsing import item_names
from recbole_cdsr.llm.pseudo_items import DomainUse, NamedPairs, in_domain_items
from recbole_cdsr.ranges import expand_ranges


@dataclass(frozen=True)
class PseudoLimits:
    """How pseudo items are asked for.

    Attributes
    ----------
    shots : int
        Overlapped users shown as examples.
    seed : int
        Of their draw.
    history_tokens : int
        The most tokens of a user's own titles; the lists of the examples share as many.
    min_names, max_names : int
        Fewer names than the first are too few; of more than the second the first ones are kept.
    extraction : {"llm", "parser"}
        Whether a second question takes the names out of the answer, as in the paper.
    """

    shots: int
    seed: int
    history_tokens: int
    min_names: int
    max_names: int
    extraction: str


@dataclass(frozen=True)
class WrittenPseudoItems:
    """Names by pair, and what came of asking.

    Attributes
    ----------
    pairs : NamedPairs
        Every single-domain user with every other domain; `name_ids` are places in `names`.
    names : list of str
        Different names.
    report : dict
        Plain data.
    """

    pairs: NamedPairs
    names: list[str]
    report: dict[str, Any]


def write_pseudo_items(
    asking: Asking,
    prompts: Mapping[str, ChatPrompt],
    words: ItemWords,
    histories: Histories,
    users: Sequence[str],
    item_domain: np.ndarray,
    domain_names: Sequence[str],
    limits: PseudoLimits,
) -> WrittenPseudoItems:
    """Ask for the pseudo items of every single-domain user and each other domain.

    Parameters
    ----------
    asking : Asking
        Whom to ask.
    prompts : mapping
        `generate` and `extract`.
    words : ItemWords
        Titles by internal item id.
    histories : Histories
        Training rows of U users.
    users : sequence of str
        `[U]`, tokens.
    item_domain : np.ndarray
        int64 `[n_items]`.
    domain_names : sequence of str
        K names.
    limits : PseudoLimits
        See there.
    """
    generate, extract = prompts["generate"], prompts["extract"]
    pairs, chats = _questions(asking, generate, words, histories, users, item_domain, domain_names, limits)
    asked = [place for place, chat in enumerate(chats) if chat is not None]
    requests = [ChatRequest(chats[place], generate.version, users[pairs[place][0]]) for place in asked]
    answers = asking.ask("Pseudo items, generation", requests, 12 * (generate.limit or 10))
    texts: dict[int, Answer] = dict(zip(asked, answers, strict=True))
    usable = [place for place in asked if (texts[place].text or "").strip()]
    extracted: dict[int, Answer] = {}
    if limits.extraction == "llm":
        requests = []
        for place in usable:
            user, own, into = pairs[place]
            values = {
                "answer": texts[place].text,
                "own_domain": domain_names[own],
                "other_domain": domain_names[into],
            }
            requests.append(ChatRequest(extract.chat(values), extract.version, users[user]))
        answers = asking.ask("Pseudo items, names", requests, 10 * (generate.limit or 10))
        extracted = dict(zip(usable, answers, strict=True))
    named, parsed_raw = [], 0
    for place in range(len(pairs)):
        names = _names(extracted.get(place), limits.max_names)
        if len(names) < limits.min_names:  # what the second question lost may stand in the answer to the first
            raw = _names(texts.get(place), limits.max_names)
            if len(raw) > len(names):
                names, parsed_raw = raw, parsed_raw + (place in extracted)
        named.append(names)
    report = {
        "asked": len(asked),
        "without_examples": len(pairs) - len(asked),
        "unanswered": len(asked) - len(usable),
        "refused": sum(answer.refused for answer in texts.values()),
        "truncated": sum(answer.truncated for answer in texts.values()),
        "names_from_first_answer": parsed_raw,
        "given_up": asking.given_up,
        "kinds": asking.kinds,
    }
    joined, names = _joined(pairs, named)
    return WrittenPseudoItems(joined, names, report)


def _names(answer: Answer | None, max_names: int) -> list[str]:
    return [] if answer is None else item_names(answer.text, max_names, answer.truncated)


def _joined(pairs: list[tuple[int, int, int]], named: list[list[str]]) -> tuple[NamedPairs, list[str]]:
    """Flat arrays, by user and domain, and the different names in the order in which they come first."""
    order = sorted(range(len(pairs)), key=lambda place: (pairs[place][0], pairs[place][2]))
    ids: dict[str, int] = {}
    flat = [ids.setdefault(name, len(ids)) for place in order for name in named[place]]
    sizes = [len(named[place]) for place in order]
    users, into = ([pairs[place][part] for place in order] for part in (0, 2))
    return (
        NamedPairs(
            np.array(users, dtype=np.int64),
            np.array(into, dtype=np.int64),
            np.append(0, np.cumsum(sizes, dtype=np.int64)).astype(np.int64),
            np.array(flat, dtype=np.int64),
        ),
        list(ids),
    )


def _questions(
    asking: Asking,
    prompt: ChatPrompt,
    words: ItemWords,
    histories: Histories,
    users: Sequence[str],
    item_domain: np.ndarray,
    domain_names: Sequence[str],
    limits: PseudoLimits,
) -> tuple[list[tuple[int, int, int]], list[list[dict[str, str]] | None]]:
    """(user, own domain, other domain) of each pair, and its chat; None where there is nobody for an example."""
    use = DomainUse(histories, item_domain, len(domain_names))
    texts = HistoryTexts(prompt, words, asking.cutting_counter())
    share = max(1, limits.history_tokens // (2 * max(1, limits.shots)))
    lists = {}  # (domain, budget) -> a list per user
    for domain in range(len(domain_names)):
        pointers, items = _oldest_first(*in_domain_items(histories, item_domain, domain))
        for budget in {limits.history_tokens, share}:
            lists[domain, budget] = texts.lists(pointers, items, budget)
    pairs, chats = [], []
    for own, into in use.directions():
        single, overlapped = use.single(own).tolist(), use.overlapped(own, into)
        shown = draw_examples([users[user] for user in single], len(overlapped), limits.shots, limits.seed, own, into)
        domains = {"own_domain": domain_names[own], "other_domain": domain_names[into]}
        for user, drawn in zip(single, overlapped[shown].tolist(), strict=True):
            examples = [
                {**domains, "own_titles": lists[own, share][other], "other_titles": lists[into, share][other]}
                for other in drawn
            ]
            values = {
                **domains,
                "examples": prompt.examples(examples),
                "history": lists[own, limits.history_tokens][user],
            }
            pairs.append((user, own, into))
            chats.append(prompt.chat(values) if examples or not limits.shots else None)
    return pairs, chats


def _oldest_first(pointers: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.diff(pointers)
    owners, places = expand_ranges(pointers[:-1], sizes)
    return pointers, items[pointers[owners] + pointers[owners + 1] - 1 - places]


def draw_examples(users: Sequence[str], n: int, shots: int, seed: int, own: int, into: int) -> np.ndarray:
    """Different overlapped users for each user: a function of seed, user and direction alone.

    Parameters
    ----------
    users : sequence of str
        `[S]`, tokens.
    n : int
        Overlapped users to draw from.
    shots : int
        How many to draw; all of them where there are fewer.
    seed, own, into : int
        Seed and direction of the draw.

    Returns
    -------
    np.ndarray
        int64 `[S, min(shots, n)]`, places from 0 to n - 1, each user's all different.
    """
    shots = min(shots, n)
    drawn = np.zeros((len(users), shots), dtype=np.int64)
    if not shots or not len(users):
        return drawn
    salt = f"{seed}/{own}/{into}/"
    starts = np.frombuffer(
        b"".join(hashlib.blake2b((salt + user).encode("utf-8", "replace"), digest_size=8).digest() for user in users),
        dtype="<u8",
    )
    for shot in range(shots):
        # One of the n - shot that are left, counted past those that were drawn before.
        value = (_mixed(starts + np.uint64(shot)) % np.uint64(n - shot)).astype(np.int64)
        for taken in np.sort(drawn[:, :shot], axis=1).T:
            value += value >= taken
        drawn[:, shot] = value
    return drawn


def _mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64: 64 well mixed bits of each value."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
