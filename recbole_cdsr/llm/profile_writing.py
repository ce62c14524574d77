"""User profiles written by an LLM: LLM4CDSR's in two steps over interest clusters, LeCDSR's in one question.

Both see a user's input history only. Where the LLM has nothing for a user (a refusal, an empty answer, requests
given up), the offline extractive text takes its place, and is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.llm.asking import Asking
from recbole_cdsr.llm.chat_prompts import ChatPrompt
from recbole_cdsr.llm.generator import Answer, ChatRequest
from recbole_cdsr.llm.history_texts import HistoryTexts, ItemWords
from recbole_cdsr.llm.name_parsing import visible_text
from recbole_cdsr.llm.profiles import LATEST_PER_CLUSTER, latest_in_clusters


@dataclass(frozen=True)
class WrittenProfiles:
    """Profile texts and where they come from.

    Attributes
    ----------
    texts : list of str
        `[U]`; "" where the LLM has none.
    report : dict
        Plain data: users, texts of the LLM, users without one and why.
    """

    texts: list[str]
    report: dict[str, Any]


def write_hierarchical(
    asking: Asking,
    prompts: Mapping[str, ChatPrompt],
    words: ItemWords,
    histories: Histories,
    users: Sequence[str],
    item_cluster: np.ndarray,
    history_tokens: int,
) -> WrittenProfiles:
    """LLM4CDSR: a summary of each of a user's interest clusters, then one description made of them.

    Parameters
    ----------
    asking : Asking
        Whom to ask.
    prompts : mapping
        `analyser` and `summariser`.
    words : ItemWords
        Titles by internal item id.
    histories : Histories
        Input histories of U users.
    users : sequence of str
        `[U]`, tokens.
    item_cluster : np.ndarray
        int64 `[n_items]`.
    history_tokens : int
        The most tokens of a cluster's list of titles.
    """
    analyser, summariser = prompts["analyser"], prompts["summariser"]
    clusters = latest_in_clusters(item_cluster, histories, LATEST_PER_CLUSTER)
    texts = HistoryTexts(analyser, words, asking.cutting_counter())
    lists = texts.lists(clusters.item_pointers, clusters.item_ids, history_tokens)  # [G]
    owner = np.repeat(np.arange(len(users)), np.diff(clusters.user_pointers)).tolist()  # [G]
    requests = [
        ChatRequest(analyser.chat({"titles": titles}), analyser.version, users[user])
        for user, titles in zip(owner, lists, strict=True)
    ]
    summaries = asking.ask("Profiles, interest clusters", requests, analyser.limit or 50)
    interests: list[list[str]] = [[] for _ in users]
    for user, answer in zip(owner, summaries, strict=True):
        if text := one_line(answer):
            interests[user].append(text)
    asked = [user for user, found in enumerate(interests) if found]
    requests = [
        ChatRequest(
            summariser.chat({"interests": _listed(summariser, interests[user])}), summariser.version, users[user]
        )
        for user in asked
    ]
    answers = asking.ask("Profiles, descriptions", requests, summariser.limit or 100)
    written = [""] * len(users)
    for user, answer in zip(asked, answers, strict=True):
        written[user] = one_line(answer)
    clusters_report = {"asked": len(summaries), "answered": sum(map(len, interests))}
    return WrittenProfiles(written, _report(histories, written, asking, answers) | {"clusters": clusters_report})


def write_flat(
    asking: Asking,
    prompts: Mapping[str, ChatPrompt],
    words: ItemWords,
    histories: Histories,
    users: Sequence[str],
    domain_names: Sequence[str],
    history_tokens: int,
) -> WrittenProfiles:
    """LeCDSR: one question per user with the numbered list of titles and categories.

    Parameters as `write_hierarchical`; `prompts` needs `profile`.
    """
    prompt = prompts["profile"]
    texts = HistoryTexts(prompt, words, asking.cutting_counter())
    item_ids = np.asarray(histories.item_ids, dtype=np.int64)
    lists = texts.lists(histories.pointers, item_ids, history_tokens)  # [U]
    asked = [user for user, history in enumerate(lists) if history]
    domains = ", ".join(domain_names)
    requests = [
        ChatRequest(prompt.chat({"history": lists[user], "domains": domains}), prompt.version, users[user])
        for user in asked
    ]
    answers = asking.ask("Profiles", requests, prompt.limit or 150)
    written = [""] * len(users)
    for user, answer in zip(asked, answers, strict=True):
        written[user] = one_line(answer)
    return WrittenProfiles(written, _report(histories, written, asking, answers))


def one_line(answer: Answer) -> str:
    """An answer's text without thoughts, on one line; "" where there is none."""
    return " ".join(visible_text(answer.text or "").split())


def _listed(prompt: ChatPrompt, interests: Sequence[str]) -> str:
    return prompt.entries([{"interest": interest} for interest in interests])


def _report(histories: Histories, written: list[str], asking: Asking, answers: Sequence[Answer]) -> dict[str, Any]:
    with_history = int((np.diff(histories.pointers) > 0).sum())
    by_llm = sum(1 for text in written if text)
    return {
        "users": len(written),
        "by_llm": by_llm,
        "by_fallback": with_history - by_llm,
        "refused": sum(answer.refused for answer in answers),
        "truncated": sum(answer.truncated for answer in answers),
        "given_up": asking.given_up,
        "kinds": asking.kinds,
    }
