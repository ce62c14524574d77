from __future__ import annotations

import logging
import time
from typing import NamedTuple

import numpy as np
import pytest

from recbole_cdsr.llm import profiles
from recbole_cdsr.llm.profiles import cluster_items, interest_clusters, profile_texts, profile_vectors


class Flat(NamedTuple):
    user_ids: np.ndarray
    pointers: np.ndarray
    item_ids: np.ndarray


def flat(*histories: list[int]) -> Flat:
    return Flat(
        np.arange(1, len(histories) + 1),
        np.append(0, np.cumsum([len(history) for history in histories])).astype(np.int64),
        np.array([item for history in histories for item in history], dtype=np.int64),
    )


def random_data(n_users: int, n_items: int, width: int, clusters: int, seed: int):
    generator = np.random.default_rng(seed)
    items = generator.standard_normal((n_items, width)).astype(np.float32)
    items[0] = 0.0
    labels = generator.integers(0, clusters, n_items)
    labels[0] = -1
    # Few distinct items per user and many steps: repetitions and clusters of more than ten items occur.
    histories = [
        generator.choice(generator.integers(1, n_items, 60), size).tolist()
        for size in generator.integers(0, 80, n_users)
    ]
    return items, labels, histories


def representatives_one_by_one(items, labels, history, latest=10, kept=3) -> list[list[int]]:
    """The definition of the module's docstrings, word by word, for one user."""
    once = []
    for item in reversed(history):
        if item not in once:
            once.append(item)  # newest first
    groups = {}
    for item in once:
        groups.setdefault(labels[item], []).append(item)
    considered = {label: group[:latest] for label, group in groups.items()}
    chosen = []
    for _, group in sorted(considered.items(), key=lambda entry: (-len(entry[1]), entry[0])):
        vectors = items[group].astype(np.float64)
        distance = ((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1)
        order = sorted(range(len(group)), key=lambda place: (distance[place], place))
        chosen.append([group[place] for place in order[:kept]])
    return chosen


def vector_one_by_one(items, chosen) -> np.ndarray:
    if not chosen:
        return np.zeros(items.shape[1])
    mean = np.mean([items[group].astype(np.float64).mean(axis=0) for group in chosen], axis=0)
    return mean / np.linalg.norm(mean)


def chosen_of(interests, user: int) -> list[list[int]]:
    groups = range(interests.user_pointers[user], interests.user_pointers[user + 1])
    return [
        interests.item_ids[interests.item_pointers[group] : interests.item_pointers[group + 1]].tolist()
        for group in groups
    ]


@pytest.mark.parametrize("block", [32768, 40, 1])
@pytest.mark.parametrize("seed", [0, 1])
def test_profiles_are_those_of_the_definition(seed, block, monkeypatch):
    monkeypatch.setattr(profiles, "_BLOCK_INTERACTIONS", block)
    items, labels, histories = random_data(n_users=150, n_items=200, width=16, clusters=4, seed=seed)
    histories[0] = histories[-1] = []
    interests = interest_clusters(items, labels, flat(*histories))
    expected = [representatives_one_by_one(items, labels, history) for history in histories]
    assert [chosen_of(interests, user) for user in range(len(histories))] == expected
    assert max(len(group) for history in histories for group in [set(history)]) > 10
    vectors = profile_vectors(items, interests)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [vector_one_by_one(items, chosen) for chosen in expected], atol=1e-6)


def test_only_the_latest_ten_are_considered():
    generator = np.random.default_rng(0)
    items = generator.standard_normal((40, 8)).astype(np.float32)
    labels = np.zeros(40, dtype=np.int64)
    recent = list(range(20, 30))
    one, other = (
        interest_clusters(items, labels, flat(list(range(1, 15)) + recent)),
        interest_clusters(items, labels, flat(recent)),
    )
    assert chosen_of(one, 0) == chosen_of(other, 0)


def test_an_item_consumed_again_counts_once_and_as_new():
    items = np.eye(14, dtype=np.float32)
    labels = np.zeros(14, dtype=np.int64)
    interests = interest_clusters(items, labels, flat([1, *range(2, 13), 1, 1]), latest=1)
    assert chosen_of(interests, 0) == [[1]]


def test_every_cluster_weighs_the_same():
    items = np.array([[0, 0], [1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    interests = interest_clusters(items, np.array([-1, 0, 0, 0, 1]), flat([1, 2, 3, 4]))
    np.testing.assert_allclose(profile_vectors(items, interests), [[0.5**0.5, 0.5**0.5]], atol=1e-6)


def test_no_user_or_no_history_at_all():
    items, labels = np.eye(3, dtype=np.float32), np.array([-1, 0, 0])
    for histories in (flat(), flat([], [])):
        interests = interest_clusters(items, labels, histories)
        assert profile_vectors(items, interests).tolist() == [[0.0] * 3] * len(histories.user_ids)
        assert profile_texts(interests, ["", "a", "b"]) == [""] * len(histories.user_ids)


def test_texts_name_the_representatives_largest_cluster_first():
    items = np.array([[0, 0], [0, 1], [9, 9], [9, 8], [0, 2]], dtype=np.float32)
    labels = np.array([-1, 1, 0, 0, 1])
    titles = ["", "Tea", "Drill", "Saw", "x" * 90]
    interests = interest_clusters(items, labels, flat([3, 1], [], [2, 1, 4]))
    texts = profile_texts(interests, titles)
    assert texts == ["Interests: Saw; Tea", "", f"Interests: {'x' * 60}, Tea; Drill"]
    assert profile_texts(interests, titles, users=[2, 0]) == [texts[2], texts[0]]


def test_clusters_find_separate_groups_and_repeat_with_the_seed():
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((4, 12)) * 20
    matrix = (centres[np.arange(400) % 4] + generator.standard_normal((400, 12))).astype(np.float32)
    labels = cluster_items(matrix, 4, seed=3)
    assert [len(set(labels[group::4])) for group in range(4)] == [1] * 4
    assert len(set(labels)) == 4
    np.testing.assert_array_equal(labels, cluster_items(matrix, 4, seed=3))


def test_clusters_are_clamped_to_the_items_and_said(caplog):
    with caplog.at_level(logging.INFO):
        assert sorted(cluster_items(np.eye(3, dtype=np.float32), 10)) == [0, 1, 2]
    assert "clamped to 3" in caplog.text


def test_a_hundred_thousand_interactions_take_about_a_second():
    generator = np.random.default_rng(0)
    items = generator.standard_normal((5000, 64)).astype(np.float32)
    labels = generator.integers(0, 10, 5000)
    sizes = generator.integers(1, 16, 12_500)
    histories = Flat(np.arange(1, 12_501), np.append(0, np.cumsum(sizes)), generator.integers(1, 5000, sizes.sum()))
    started = time.process_time()
    vectors = profile_vectors(items, interest_clusters(items, labels, histories))
    assert time.process_time() - started < 2.0
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
