"""Histories in prompts: cut to a budget, the newest kept, in the order of the prompt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_cdsr.llm.chat_prompts import load_chat_prompt
from recbole_cdsr.llm.history_texts import HistoryTexts, ItemWords, newest_within
from recbole_cdsr.llm.profiles import latest_in_clusters
from recbole_cdsr.llm.tokens import TokenCounter

from .flat_dataset import Histories

WORDS = ItemWords(["", *(f"title {i}" for i in range(1, 30))], [""] * 30, ["", *["d"] * 29])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), max_size=8), max_size=8), st.integers(1, 25))
def test_the_newest_that_fit_and_never_without_the_newest(lists, budget):
    pointers = np.append(0, np.cumsum([len(costs) for costs in lists])).astype(np.int64)
    costs = np.array([cost for of in lists for cost in of], dtype=np.int64)
    kept_pointers, kept = newest_within(pointers, costs, budget)
    for number, of in enumerate(lists):
        taken = kept[kept_pointers[number] : kept_pointers[number + 1]] - pointers[number]
        n = 0
        while n < len(of) and sum(of[len(of) - n - 1 :]) <= budget:
            n += 1
        assert taken.tolist() == list(range(len(of)))[len(of) - max(n, min(1, len(of))) :]


def test_lists_are_in_the_order_of_the_prompt(tmp_path):
    oldest = load_chat_prompt("profile")
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: own\nversion: 1\norder: newest_first\nentry: '{number} {title}'\n"
        "messages: [{role: user, content: '{history}'}]\n"
    )
    newest = load_chat_prompt("profile", file=str(path))
    pointers, items = np.array([0, 3, 3, 4]), np.array([5, 6, 7, 8])
    lists = HistoryTexts(oldest, WORDS, TokenCounter()).lists(pointers, items, 1000)
    assert lists == ["1. title 5\n2. title 6\n3. title 7", "", "1. title 8"]
    lists = HistoryTexts(newest, WORDS, TokenCounter()).lists(pointers, items, 1000)
    assert lists == ["1 title 7\n2 title 6\n3 title 5", "", "1 title 8"]
    assert HistoryTexts(newest, WORDS, TokenCounter()).lists(pointers, items, 1) == ["1 title 7", "", "1 title 8"]


@pytest.mark.parametrize("budget", [1, 12, 25, 1000])
def test_a_list_has_no_more_tokens_than_the_budget_by_the_models_own_count(budget):
    def count(chat: list[dict[str, str]]) -> int:
        return 7 + sum(len(message["content"].split()) for message in chat)  # a template, and a token per word

    prompt = load_chat_prompt("profile")
    texts = HistoryTexts(prompt, WORDS, TokenCounter(count))
    (text,) = texts.lists(np.array([0, 10]), np.arange(1, 11), budget)
    assert len(text.split()) <= max(budget, 3)
    assert text.endswith("title 10")
    assert len(text.splitlines()) == max(1, min(10, budget // 3))


def test_clusters_keep_their_latest_items_oldest_first_and_the_largest_cluster_first():
    clusters = np.array([-1, 0, 0, 1, 1, 1, 0])
    histories = Histories(np.array([1, 2]), np.array([0, 7, 8]), np.array([3, 1, 4, 2, 3, 5, 6, 2]))
    found = latest_in_clusters(clusters, histories, latest=2)
    assert found.user_pointers.tolist() == [0, 2, 3]
    groups = np.split(found.item_ids, found.item_pointers[1:-1])
    # Items 3 (its second time), 4, 5 of cluster 1 and 1, 2, 6 of cluster 0: the two latest of each.
    assert [group.tolist() for group in groups] == [[2, 6], [3, 5], [2]]
