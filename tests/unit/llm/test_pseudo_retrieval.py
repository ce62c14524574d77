"""The offline pseudo items against a version that compares every user with every other."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.llm import pseudo_retrieval
from recbole_cdsr.llm.pseudo_items import DomainUse, in_domain_items
from recbole_cdsr.llm.pseudo_retrieval import nearest, retrieve_pseudo_items


def some_histories(seed: int, n_domains: int, n_users: int = 60, per_domain: int = 12):
    """Users of one domain, of two, of all; now and then an item twice. Ids are contiguous per domain, 0 is padding."""
    random = np.random.default_rng(seed)
    item_domain = np.append(-1, np.repeat(np.arange(n_domains), per_domain))
    histories = []
    for _ in range(n_users):
        known = random.choice(n_domains, random.integers(1, n_domains + 1), replace=False)
        items = 1 + random.choice(known, random.integers(2, 14)) * per_domain
        histories.append(items + random.integers(0, per_domain, len(items)))
    pointers = np.append(0, np.cumsum([len(history) for history in histories]))
    vectors = random.standard_normal((len(item_domain), 5)).astype(np.float32)
    vectors[0] = 0
    names = np.arange(len(item_domain))
    names[2] = names[1]  # two items of the first domain share a title
    return Histories(np.arange(n_users) + 1, pointers, np.concatenate(histories)), item_domain, vectors, names


def naively(histories, item_domain, vectors, names, n_domains, max_names, min_names):
    consumed = np.split(histories.item_ids, histories.pointers[1:-1])

    def of(user, domain):
        return [item for item in consumed[user] if item_domain[item] == domain]

    def distinct(user, domain):
        newest, seen = [], set()
        for item in reversed(of(user, domain)):
            if names[item] not in seen:
                seen.add(names[item])
                newest.append(item)
        return newest

    def mean(user, domain):
        vector = vectors[of(user, domain)].astype(np.float64).mean(axis=0)
        return vector / np.linalg.norm(vector)

    found = {}
    for user in range(len(consumed)):
        known = {item_domain[item] for item in consumed[user]}
        if len(known) > 1:
            continue
        (own,) = known
        for into in range(n_domains):
            donors = [v for v in range(len(consumed)) if of(v, own) and len(distinct(v, into)) >= min_names]
            if into == own:
                continue
            best = max(donors, key=lambda v: mean(user, own) @ mean(v, own), default=None)
            found[user, into] = [] if best is None else distinct(best, into)[:max_names]
    return found


def as_dict(pairs):
    return {
        (user, into): pairs.name_ids[pairs.pointers[pair] : pairs.pointers[pair + 1]].tolist()
        for pair, (user, into) in enumerate(zip(pairs.users.tolist(), pairs.into_domain.tolist(), strict=True))
    }


@pytest.mark.parametrize("n_domains", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_comparing_everybody_gives(seed, n_domains, monkeypatch):
    monkeypatch.setattr(pseudo_retrieval, "_BLOCK_USERS", 7)
    monkeypatch.setattr(pseudo_retrieval, "_BLOCK_VECTORS", 11)
    histories, item_domain, vectors, names = some_histories(seed, n_domains)
    pairs = retrieve_pseudo_items(vectors, names, histories, item_domain, n_domains, max_names=4, min_names=3)
    expected = naively(histories, item_domain, vectors, names, n_domains, 4, 3)
    assert as_dict(pairs) == expected
    assert any(len(named) == 4 for named in expected.values())
    # By user, then by domain.
    assert list(as_dict(pairs)) == sorted(expected)


def test_the_size_of_a_block_changes_nothing(monkeypatch):
    histories, item_domain, vectors, names = some_histories(9, 3)
    whole = retrieve_pseudo_items(vectors, names, histories, item_domain, 3)
    monkeypatch.setattr(pseudo_retrieval, "_BLOCK_USERS", 1)
    monkeypatch.setattr(pseudo_retrieval, "_BLOCK_VECTORS", 1)
    assert as_dict(retrieve_pseudo_items(vectors, names, histories, item_domain, 3)) == as_dict(whole)


def test_without_overlapped_users_every_pair_is_there_and_empty():
    item_domain = np.array([-1, 0, 0, 1, 1])
    histories = Histories(np.array([1, 2]), np.array([0, 2, 4]), np.array([1, 2, 3, 4]))
    pairs = retrieve_pseudo_items(np.ones((5, 3), np.float32), np.arange(5), histories, item_domain, 2)
    assert as_dict(pairs) == {(0, 1): [], (1, 0): []}
    assert len(pairs.with_at_least(1).users) == 0


def test_with_at_least_keeps_the_names_of_those_it_keeps():
    histories, item_domain, vectors, names = some_histories(3, 2)
    pairs = retrieve_pseudo_items(vectors, names, histories, item_domain, 2, min_names=1)
    kept = pairs.with_at_least(5)
    assert as_dict(kept) == {pair: named for pair, named in as_dict(pairs).items() if len(named) >= 5}
    assert 0 < len(kept.users) < len(pairs.users)


def test_memory_does_not_grow_with_users_times_users():
    import tracemalloc

    random = np.random.default_rng(0)
    asking, offered = (random.standard_normal((n, 4)).astype(np.float32) for n in (20_000, 4_000))
    tracemalloc.start()
    found = nearest(asking, offered)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6  # all products at once would take 320 MB
    assert found[123] == np.argmax(offered @ asking[123])


def test_who_is_single_and_who_is_overlapped():
    item_domain = np.array([-1, 0, 1, 2])
    histories = Histories(np.arange(1, 5), np.array([0, 2, 3, 5, 6]), np.array([1, 1, 2, 1, 3, 3]))
    use = DomainUse(histories, item_domain, 3)
    assert [use.single(domain).tolist() for domain in range(3)] == [[0], [1], [3]]
    assert use.overlapped(0, 2).tolist() == use.overlapped(2, 0).tolist() == [2]
    assert use.counts.tolist() == [[2, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1]]
    assert use.directions() == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]


def test_items_of_a_domain_newest_first_each_once():
    item_domain = np.array([-1, 0, 0, 0, 1])
    histories = Histories(np.array([1, 2]), np.array([0, 6, 7]), np.array([1, 2, 4, 1, 3, 4, 4]))
    pointers, items = in_domain_items(histories, item_domain, 0)
    assert (pointers.tolist(), items.tolist()) == ([0, 3, 3], [3, 1, 2])
    same_title = np.array([0, 7, 8, 7, 9])  # items 1 and 3: the newest of them stands for both
    pointers, items = in_domain_items(histories, item_domain, 0, same_title)
    assert (pointers.tolist(), items.tolist()) == ([0, 2, 2], [3, 2])
