"""Filters against naive versions that are short enough to be seen right."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_cdsr.convert.interactions import RowBatch, Rows
from recbole_cdsr.convert.selection import (
    FilterLog,
    Selection,
    StreamFilter,
    draw_users,
    k_core,
    k_core_per_domain,
    llm4cdsr_core,
    select_rows,
)
from recbole_cdsr.errors import ConfigError, DataError

Event = tuple[int, int, float, float]  # user, item (odd items are of domain 1), time, rating
EVENTS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 7), st.integers(0, 9).map(float), st.integers(1, 5).map(float)),
    max_size=60,
)
FEWEST = st.integers(1, 5)


def table(events: list[Event]) -> Rows:
    columns = list(zip(*events, strict=True)) or [(), (), (), ()]
    # Items of a domain stand together, as the collector numbers them.
    items = np.array(columns[1], dtype=np.int32)
    return Rows(
        users=np.array(columns[0], dtype=np.int32),
        items=np.where(items % 2, 4 + items // 2, items // 2).astype(np.int32),
        times=np.array(columns[2], dtype=np.float64),
        ratings=np.array(columns[3], dtype=np.float32),
        item_domains=np.repeat([0, 1], 4).astype(np.uint8),
    )


def naive_core(events: list[Event], min_user: int, min_item: int, per_domain: bool) -> list[int]:
    """Drop one bad row at a time until there is none."""
    kept = list(range(len(events)))

    def user(row: int) -> tuple[int, ...]:
        return (events[row][0], events[row][1] % 2) if per_domain else (events[row][0],)

    while True:
        users, items = Counter(map(user, kept)), Counter(events[row][1] for row in kept)
        bad = [row for row in kept if users[user(row)] < min_user or items[events[row][1]] < min_item]
        if not bad:
            return kept
        kept.remove(bad[0])


@settings(max_examples=300, deadline=None)
@given(EVENTS, FEWEST, FEWEST)
def test_k_core_is_the_naive_fixpoint(events: list[Event], min_user: int, min_item: int) -> None:
    assert k_core(table(events), min_user, min_item).tolist() == naive_core(events, min_user, min_item, False)
    assert k_core_per_domain(table(events), min_user, min_item).tolist() == naive_core(events, min_user, min_item, True)


@settings(max_examples=300, deadline=None)
@given(EVENTS, FEWEST, FEWEST)
def test_llm4cdsr_core_follows_its_rule(events: list[Event], min_user: int, min_item: int) -> None:
    kept = list(range(len(events)))
    while True:
        users, items = Counter(events[row][0] for row in kept), Counter(events[row][1] for row in kept)
        if all(n >= min_user for n in users.values()) and all(n >= min_item for n in items.values()):
            break
        bad_users = {user for user, n in users.items() if n <= min_user}
        bad_items = {item for item, n in items.items() if n <= min_item}
        kept = [row for row in kept if events[row][0] not in bad_users and events[row][1] not in bad_items]
    assert llm4cdsr_core(table(events), min_user, min_item).tolist() == kept


def test_llm4cdsr_core_drops_more_than_its_condition_asks_for() -> None:
    # User 0 has exactly five rows, which the condition accepts; user 1 with one row starts a round that drops both.
    events = [(0, item, 0.0, 1.0) for item in (0, 0, 0, 0, 0)] + [(2, 0, 0.0, 1.0)] * 6 + [(1, 0, 0.0, 1.0)]
    assert llm4cdsr_core(table(events[:-1]), 5, 3).tolist() == list(range(11))
    assert llm4cdsr_core(table(events), 5, 3).tolist() == list(range(5, 11))


def selected(events: list[Event], selection: Selection, kept_domains: int | None = None) -> tuple[list[int], FilterLog]:
    """Run the whole selection as the pipeline does; return the places of the rows kept."""
    rows = table(events)
    stream = StreamFilter(selection)
    keep = stream.keep(RowBatch([""] * len(events), [""] * len(events), rows.times, rows.ratings))
    places = np.arange(len(events)) if keep is None else np.flatnonzero(keep)
    log = stream.log()
    marked = Rows(rows.users, rows.items, rows.times, rows.ratings, rows.item_domains).take(places)
    kept = select_rows(marked, selection, log, kept_domains)
    # Filters keep the order, so rows of equal content are matched in that order, too.
    columns = ("users", "items", "times", "ratings")
    before, after = (
        list(zip(*(getattr(each, name).astype(str) for name in columns), strict=True)) for each in (marked, kept)
    )
    found, at = [], -1
    for row in after:
        at = before.index(row, at + 1)
        found.append(int(places[at]))
    return found, log


EXAMPLE: list[Event] = [
    (0, 0, 5.0, 4.0),  # 0
    (0, 1, 6.0, 2.0),  # 1
    (0, 0, 5.0, 3.0),  # 2: the same time as 0
    (1, 0, 9.0, 5.0),  # 3
    (1, 2, 1.0, float("nan")),  # 4
    (0, 0, 4.0, 1.0),  # 5
    (2, 1, 7.0, 3.0),  # 6
]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"since": 5.0}, [0, 1, 2, 3, 6]),
        ({"until": 5.0}, [0, 2, 4, 5]),
        ({"since": 5.0, "until": 6.0}, [0, 1, 2]),
        ({"min_rating": 3.0}, [0, 2, 3, 6]),
        ({"dedup": "first"}, [1, 3, 4, 5, 6]),
        ({"dedup": "last"}, [1, 2, 3, 4, 6]),
        ({"since": 5.0, "dedup": "first"}, [0, 1, 3, 6]),
        ({"min_user": 2}, [0, 1, 2, 3, 4, 5]),
        ({"min_item": 2}, [0, 1, 2, 3, 5, 6]),
        ({"overlap_only": True}, [0, 1, 2, 5]),
        # Deduplicated first, so that user 0 has two rows, not four.
        ({"dedup": "first", "min_user": 3}, []),
        # Counted before the window: user 1 counts two although one row is outside.
        ({"core": "once", "min_user": 2, "min_item": 2, "since": 6.0}, [1, 3]),
        ({"core": "merged", "min_user": 2, "min_item": 1, "since": 6.0}, []),
        ({"core": "per-domain", "min_user": 2}, [0, 2, 3, 4, 5]),
    ],
)
def test_filters_and_their_order(selection: dict, expected: list[int]) -> None:
    found, _ = selected(EXAMPLE, Selection(**selection))
    assert found == expected


def test_the_last_second_of_a_window_counts_as_a_whole() -> None:
    events = [(0, 0, time, 1.0) for time in (4.999, 5.0, 5.001, 6.0, 6.999, 7.0)]
    assert selected(events, Selection(since=5.0, until=6.0))[0] == [1, 2, 3, 4]


def test_domains_that_are_only_counted_are_dropped_after_the_count() -> None:
    selection = Selection(core="once", min_user=3)
    assert selected(EXAMPLE, selection, kept_domains=1)[0] == [0, 2, 5]  # row 1 is of the other domain
    assert selected([EXAMPLE[0], EXAMPLE[5]], selection, kept_domains=1)[0] == []


def test_every_filter_says_what_it_dropped() -> None:
    _, log = selected(EXAMPLE, Selection(since=5.0, min_rating=3.0, dedup="last", min_item=2, overlap_only=True))
    assert log.sentences() == [
        "--from 1970-01-01T00:00:05: kept 5 of 7 interactions",
        "--min-rating 3: kept 4 of 5 interactions",
        "--dedup last: kept 3 of 4 interactions",
        "--min-user 1 --min-item 2: kept 2 of 3 interactions",
        "--overlap-only: kept 0 of 2 interactions",
    ]
    with pytest.raises(DataError, match=r"nothing is left of 7 interactions, --overlap-only dropped the last of them"):
        log.refuse_empty(0)
    log.refuse_empty(1)
    with pytest.raises(DataError, match="the raw files hold no interactions at all; check"):
        FilterLog().refuse_empty(0)


def test_drawn_users_follow_the_seed() -> None:
    users = np.repeat(np.arange(1000), 3)
    first, again, other = (draw_users(users, 1000, 100, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert first.sum() == other.sum() == 300
    assert len(np.unique(users[first])) == 100
    assert draw_users(users, 1000, 5000, 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"since": 5.0, "until": 4.0}, "--from .* is later than --to"),
        ({"dedup": "some"}, "--dedup: 'some'"),
        ({"core": "odd"}, "--core: 'odd'"),
        ({"min_user": 0}, "--min-user: 0"),
        ({"min_item": -1}, "--min-item: -1"),
        ({"max_users": 0}, "--max-users: 0"),
        ({"min_rating": float("nan")}, "--min-rating: nan is no rating"),
        ({"seed": -1}, "--seed: -1"),
    ],
)
def test_selections_that_cannot_be_honoured(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Selection(**options)
