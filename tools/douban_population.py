"""The population behind the synthetic sample: items with topics and motifs, users with one taste over all domains.

It was fixed before any model was compared on it and is not to be changed. `make_douban_raw.py` puts it into words and
files. The only source of chance is `random.Random.random()`, whose stream Python guarantees across versions.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import yaml

ITEMS = {"book": 1800, "movie": 1500, "music": 1200}
N_USERS = 2400
SINGLE_DOMAIN_SHARE, THREE_DOMAINS_SHARE = 0.45, 0.40  # of all users; of the users of several domains

MIN_LENGTH, MEAN_EXTRA_LENGTH, MAX_LENGTH = 5, 4.5, 40  # within 2016
OUTSIDE_SHARE, MOST_OUTSIDE = 0.10, 3  # users with one to three further steps in 2015; as many with some in 2017
STAY_WITH_TOPIC, STAY_WITH_MOTIF, FAVOURITE_MOTIF = 0.72, 0.70, 0.60
OFF_TOPIC = 0.05  # steps that follow popularity alone
SWITCH_DOMAIN = 0.45  # of a user of several domains, per step
SECOND_TOPIC = 0.30  # items with a second topic
SAME_TOPIC_PULL, SECOND_TOPIC_PULL = 0.25, 0.40  # against 1 for an item of the wanted motif
HEAD_FLATTENING = 150  # popularity is 1 / (rank + this)
MOST_TRIES = 1000  # to find an item the user has not taken, before any item will do
DATE_ONLY = 0.50  # times without their clock, where the order bears it
MIN_GAP = 600  # seconds; more than a float32 timestamp's step of 128 s, so plain RecBole keeps the order too
YEARS = {year: int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in range(2015, 2019)}

WORDS = Path(__file__).parent

T = TypeVar("T")


class Draw:
    """Draws that use nothing but `random.Random.random()`."""

    def __init__(self, seed: int) -> None:
        self.uniform = random.Random(seed).random

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def one(self, options: Sequence[T]) -> T:
        return options[int(self.uniform() * len(options))]

    def other(self, options: Sequence[T], than: T) -> T:
        return self.one([option for option in options if option != than])

    def weighted(self, cumulative: Sequence[float]) -> int:
        """Return an index with the probability of its step in the running sums `cumulative`."""
        return min(bisect_right(cumulative, self.uniform() * cumulative[-1]), len(cumulative) - 1)

    def shuffled(self, options: Sequence[T]) -> list[T]:
        keyed = [(self.uniform(), index) for index in range(len(options))]
        return [options[index] for _, index in sorted(keyed)]


@dataclass(frozen=True)
class Topic:
    """One topic: words of its own, and per motif a label and nouns."""

    labels: list[str]
    adjectives: list[str]
    motifs: list[str]
    nouns: dict[str, list[str]]


@dataclass(frozen=True)
class Item:
    """One book, movie or album with what lies behind it."""

    uid: int
    topic: int
    motif: str
    second_topic: int | None
    popularity: float


@dataclass(frozen=True)
class Review:
    """One interaction, before it is put into words."""

    user: int
    domain: str
    item: int  # index among the items of the domain
    rating: int
    time: int
    date_only: bool


def load_topics() -> list[Topic]:
    """Read the words of all topics."""
    raw = yaml.safe_load((WORDS / "douban_sample_topics.yaml").read_text(encoding="utf-8"))
    return [Topic(t["labels"], t["adjectives"], list(t["motifs"]), t["motifs"]) for t in raw.values()]


def make_items(draw: Draw, topics: list[Topic], scale: float) -> dict[str, list[Item]]:
    """Return the items of each domain: topic, motif and popularity are independent of each other."""
    items: dict[str, list[Item]] = {}
    for domain, full_count in ITEMS.items():
        count = round(full_count * scale)
        ranks = draw.shuffled(range(count))
        items[domain] = []
        for index in range(count):
            topic = int(draw.uniform() * len(topics))
            second = draw.other(range(len(topics)), topic) if draw.chance(SECOND_TOPIC) else None
            motif = draw.one(topics[topic].motifs)
            popularity = 1.0 / (ranks[index] + HEAD_FLATTENING)
            items[domain].append(Item(1001 + index, topic, motif, second, popularity))
    return items


def pull_tables(items: list[Item], topics: list[Topic]) -> dict[tuple[int, str], list[float]]:
    """Return per (topic, motif) the running sums of how strongly each item of a domain draws."""
    return {
        (index, motif): list(
            accumulate(
                item.popularity
                * (
                    (1.0 if item.motif == motif else SAME_TOPIC_PULL)
                    if item.topic == index
                    else (SECOND_TOPIC_PULL if item.second_topic == index else 0.0)
                )
                for item in items
            )
        )
        for index, topic in enumerate(topics)
        for motif in topic.motifs
    }


class Population:
    """Users and what they take, from one shared taste over all domains."""

    def __init__(self, draw: Draw, topics: list[Topic], items: dict[str, list[Item]]) -> None:
        self.draw, self.topics, self.items = draw, topics, items
        self.pulls = {domain: pull_tables(pool, topics) for domain, pool in items.items()}
        self.popularity = {domain: list(accumulate(item.popularity for item in pool)) for domain, pool in items.items()}

    def reviews_of(self, user: int) -> list[Review]:
        """Return one user's reviews, oldest first."""
        draw = self.draw
        length = MIN_LENGTH
        while length < MAX_LENGTH and draw.chance(MEAN_EXTRA_LENGTH / (1 + MEAN_EXTRA_LENGTH)):
            length += 1
        before, after = (1 + int(draw.uniform() * MOST_OUTSIDE) if draw.chance(OUTSIDE_SHARE) else 0 for _ in range(2))
        domains = self.domains_of_steps(before, length, after)
        times = self.timestamps(before, length, after)
        steps = self.walk(domains)
        reviews: list[Review] = []
        for domain, time, (item, rating) in zip(domains, times, steps, strict=True):
            # A day without its clock is its first second: only where that leaves the order as it is.
            midnight = time - time % 86_400
            free = not reviews or midnight >= reviews[-1].time + MIN_GAP
            date_only = draw.chance(DATE_ONLY) and free
            reviews.append(Review(user, domain, item, rating, midnight if date_only else time, date_only))
        return reviews

    def domains_of_steps(self, before: int, length: int, after: int) -> list[str]:
        """Return the domain of each step; users of several domains have two or more of 2016 in each."""
        draw, total = self.draw, before + length + after
        order = draw.shuffled(list(ITEMS))
        if draw.chance(SINGLE_DOMAIN_SHARE):
            return order[:1] * total
        own = order[: 3 if draw.chance(THREE_DOMAINS_SHARE) and length >= 6 else 2]
        while True:
            steps = [draw.one(own)]
            while len(steps) < total:
                steps.append(draw.other(own, steps[-1]) if draw.chance(SWITCH_DOMAIN) else steps[-1])
            if min(steps[before : before + length].count(domain) for domain in own) >= 2:
                return steps

    def timestamps(self, before: int, length: int, after: int) -> list[int]:
        """Return increasing times, `MIN_GAP` apart or more: some in 2015, a stretch of 2016, some in 2017."""
        draw, times = self.draw, []
        for year, count in ((2015, before), (2016, length), (2017, after)):
            start, end = YEARS[year], YEARS[year + 1]
            first = start + int(draw.uniform() * 0.6 * (end - start))
            # A day's margin at the end: no time, with or without its clock, leaves its year.
            span = int((0.15 + 0.85 * draw.uniform()) * (end - first)) - MIN_GAP * (count + 1) - 86_400
            moments = sorted(int(draw.uniform() * span) for _ in range(count))
            times += [first + moment + MIN_GAP * step for step, moment in enumerate(moments)]
        return times

    def walk(self, domains: list[str]) -> Iterator[tuple[int, int]]:
        """Yield item (its index in its domain) and rating of each step."""
        draw, topics = self.draw, self.topics
        liked = draw.shuffled(range(len(topics)))[: 2 + draw.chance(0.5)]
        early, late = ([0.1 + draw.uniform() for _ in liked] for _ in range(2))
        favourite = {topic: draw.one(topics[topic].motifs) for topic in liked}
        seen: set[tuple[str, int]] = set()
        topic, motif = -1, ""
        for step, domain in enumerate(domains):
            if topic < 0 or not draw.chance(STAY_WITH_TOPIC):
                progress = step / len(domains)
                shares = [(1 - progress) * a + progress * b for a, b in zip(early, late, strict=True)]
                topic = liked[draw.weighted(list(accumulate(shares)))]
                motif = favourite[topic] if draw.chance(FAVOURITE_MOTIF) else draw.one(topics[topic].motifs)
            elif not draw.chance(STAY_WITH_MOTIF):
                motif = draw.other(topics[topic].motifs, motif)
            off_topic = draw.chance(OFF_TOPIC)
            cumulative = self.popularity[domain] if off_topic else self.pulls[domain][topic, motif]
            item, tries = draw.weighted(cumulative), 1
            while (domain, item) in seen:
                item, tries = draw.weighted(self.popularity[domain] if tries > MOST_TRIES else cumulative), tries + 1
            seen.add((domain, item))
            yield item, draw.one((1, 2, 3, 3, 4, 4, 5) if off_topic else (2, 3, 4, 4, 4, 5, 5))
