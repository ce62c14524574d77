"""Generate `atomic_data/douban`: a small synthetic sample in the schema of the Douban dataset.

Everything here is made up: users, books, movies, titles and times. The sample exists so that the package
runs at once; converting the real Douban files replaces it.

How it is made. 24 topics, each with three motifs, are shared by books and movies; a topic has words of its
own (`douban_sample_topics.yaml`), and an item's title, labels and description draw on the words of its
motif. A user likes two or three topics whose shares drift over time, stays with a topic (and mostly with a
motif of it) for a few steps, then moves on. Items are chosen by motif and by a long-tailed popularity that
knows nothing of topics. Text thus tells an item's motif even where few people have seen it; some titles,
labels and descriptions tell nothing.

The only source of chance is `random.Random.random()`, whose stream Python guarantees across versions: the
same script writes the same bytes everywhere. The generator was fixed before any model was compared on its
output and is not to be changed after.

    python tools/make_douban_sample.py [--out atomic_data]
"""

from __future__ import annotations

import argparse
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import pandas as pd
import yaml

from recbole_cdsr.data.atomic import staged_directory, write_atomic
from recbole_cdsr.data.card import DatasetCard, describe_interactions

NAME = "douban"
SEED = 2016
# The sample is frozen: its card names the version it was made for, not the one that happens to be installed.
MADE_FOR_VERSION = "0.1.0"
ITEMS = {"book": 1200, "movie": 1000}
N_USERS = 3000
OVERLAPPED_SHARE, BOOKS_ONLY_SHARE = 0.40, 0.33

MIN_LENGTH, MEAN_EXTRA_LENGTH, MAX_LENGTH = 5, 6.0, 40
STAY_WITH_TOPIC, STAY_WITH_MOTIF, FAVOURITE_MOTIF = 0.72, 0.70, 0.60
OFF_TOPIC = 0.08  # steps that follow popularity alone
SWITCH_DOMAIN = 0.45  # of an overlapped user, per step
SECOND_TOPIC = 0.30  # items with a second topic
SAME_TOPIC_PULL, SECOND_TOPIC_PULL = 0.25, 0.40  # against 1 for an item of the wanted motif
HEAD_FLATTENING = 30  # popularity is 1 / (rank + this): the head holds some 40 times the tail

START = int(datetime(2016, 1, 1, tzinfo=UTC).timestamp())
END = int(datetime(2017, 1, 1, tzinfo=UTC).timestamp())
MIN_GAP = 600  # seconds; more than a float32 timestamp's step of 128 s, so plain RecBole keeps the order too

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
    """One book or movie with what lies behind it."""

    token: str
    topic: int
    motif: str
    second_topic: int | None
    popularity: float


def load_topics() -> list[Topic]:
    """Read the words of all topics."""
    raw = yaml.safe_load((WORDS / "douban_sample_topics.yaml").read_text(encoding="utf-8"))
    return [Topic(t["labels"], t["adjectives"], list(t["motifs"]), t["motifs"]) for t in raw.values()]


def make_items(draw: Draw, topics: list[Topic]) -> dict[str, list[Item]]:
    """Return the items of each domain: topic, motif and popularity are independent of each other."""
    items: dict[str, list[Item]] = {}
    for domain, count in ITEMS.items():
        ranks = draw.shuffled(range(count))
        items[domain] = []
        for index in range(count):
            topic = int(draw.uniform() * len(topics))
            second = draw.other(range(len(topics)), topic) if draw.chance(SECOND_TOPIC) else None
            motif = draw.one(topics[topic].motifs)
            popularity = 1.0 / (ranks[index] + HEAD_FLATTENING)
            items[domain].append(Item(f"{domain}:{1001 + index}", topic, motif, second, popularity))
    return items


class Writer:
    """Writes titles, labels and descriptions out of the words of a motif."""

    def __init__(self, draw: Draw, topics: list[Topic]) -> None:
        self.draw, self.topics = draw, topics
        self.phrases = yaml.safe_load((WORDS / "douban_sample_sentences.yaml").read_text(encoding="utf-8"))

    def fill(self, template: str, topic: Topic, motif: str) -> str:
        """Return a sentence or title made of a motif's words."""
        one, other, people = self.draw.one, self.draw.other, self.phrases["people"]
        noun, adjective, person = one(topic.nouns[motif]), one(topic.adjectives), one(people)
        words = {
            "noun": noun,
            "noun2": other(topic.nouns[motif], noun),
            "adjective": adjective,
            "adjective2": other(topic.adjectives, adjective),
        }
        words = {key: word.replace("-", " ") for key, word in words.items()}
        articled = {f"a_{key}": f"{'an' if word[0] in 'aeiou' else 'a'} {word}" for key, word in words.items()}
        titled = {key.capitalize(): word.title() for key, word in (words | articled).items()}
        names = {"Person": person, "Person2": other(people, person), "Place": one(self.phrases["places"])}
        return template.format(**words, **articled, **titled, **names, Neutral=one(self.phrases["neutral"]))

    def text_of(self, domain: str, item: Item, taken: set[str]) -> dict[str, str]:
        """Return title, labels and description of an item; each may tell nothing, as in life."""
        draw, topic, phrases = self.draw, self.topics[item.topic], self.phrases
        templates = phrases["neutral_titles" if draw.chance(0.15) else "titles"]
        title = self.fill(draw.one(templates), topic, item.motif)
        while title in taken:
            part = draw.one(("One", "Two", "Three"))
            title = f"{self.fill(draw.one(templates), topic, item.motif)}, Part {part}"
        taken.add(title)

        labels = [] if draw.chance(0.10) else [item.motif] * draw.chance(0.7) + [draw.one(topic.labels)]
        description = ""
        if not draw.chance(0.10):
            pool = phrases["neutral_descriptions" if draw.chance(0.15) else "descriptions"][domain]
            description = self.fill(draw.one(pool), topic, item.motif)
        if item.second_topic is not None:
            second = self.topics[item.second_topic]
            if labels:
                labels.append(draw.one(second.labels))
            if description:
                sentence = self.fill(draw.one(phrases["second_topic"]), second, draw.one(second.motifs))
                description = f"{description} {sentence}"
        return {"title": title, "labels": " ".join(labels), "description": description}


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


def domains_of_steps(draw: Draw, length: int) -> list[str]:
    """Return the domain of each of a user's steps; overlapped users have two or more in each domain."""
    kind = draw.uniform()
    if kind >= OVERLAPPED_SHARE:
        return ["book" if kind < OVERLAPPED_SHARE + BOOKS_ONLY_SHARE else "movie"] * length
    while True:
        steps = [draw.one(("book", "movie"))]
        while len(steps) < length:
            steps.append(draw.other(("book", "movie"), steps[-1]) if draw.chance(SWITCH_DOMAIN) else steps[-1])
        if min(steps.count("book"), steps.count("movie")) >= 2:
            return steps


def timestamps(draw: Draw, length: int) -> list[int]:
    """Return increasing times within 2016: a stretch of the year, steps at least `MIN_GAP` apart."""
    first = START + int(draw.uniform() * 0.6 * (END - START))
    span = int((0.15 + 0.85 * draw.uniform()) * (END - first)) - MIN_GAP * (length + 1)
    moments = sorted(int(draw.uniform() * span) for _ in range(length))
    return [first + moment + MIN_GAP * step for step, moment in enumerate(moments)]


def make_user(
    draw: Draw,
    topics: list[Topic],
    items: dict[str, list[Item]],
    pulls: dict[str, dict[tuple[int, str], list[float]]],
    popularity: dict[str, list[float]],
) -> list[tuple[str, int, int]]:
    """Return one user's interactions (item token, rating, time), oldest first."""
    length = MIN_LENGTH
    while length < MAX_LENGTH and draw.chance(MEAN_EXTRA_LENGTH / (1 + MEAN_EXTRA_LENGTH)):
        length += 1
    domains, times = domains_of_steps(draw, length), timestamps(draw, length)
    liked = draw.shuffled(range(len(topics)))[: 2 + draw.chance(0.5)]
    early, late = ([0.1 + draw.uniform() for _ in liked] for _ in range(2))
    favourite = {topic: draw.one(topics[topic].motifs) for topic in liked}

    interactions: list[tuple[str, int, int]] = []
    seen: set[str] = set()
    topic, motif = -1, ""
    for step, (domain, time) in enumerate(zip(domains, times, strict=True)):
        if topic < 0 or not draw.chance(STAY_WITH_TOPIC):
            progress = step / length
            shares = [(1 - progress) * a + progress * b for a, b in zip(early, late, strict=True)]
            topic = liked[draw.weighted(list(accumulate(shares)))]
            motif = favourite[topic] if draw.chance(FAVOURITE_MOTIF) else draw.one(topics[topic].motifs)
        elif not draw.chance(STAY_WITH_MOTIF):
            motif = draw.other(topics[topic].motifs, motif)
        off_topic = draw.chance(OFF_TOPIC)
        cumulative = popularity[domain] if off_topic else pulls[domain][topic, motif]
        item = items[domain][draw.weighted(cumulative)]
        while item.token in seen:
            item = items[domain][draw.weighted(cumulative)]
        seen.add(item.token)
        ratings = (1, 2, 3, 3, 4, 4, 5) if off_topic else (2, 3, 4, 4, 4, 5, 5)
        interactions.append((item.token, draw.one(ratings), time))
    return interactions


def make_frames(seed: int = SEED) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of `douban.inter` and of `douban.item`."""
    draw, topics = Draw(seed), load_topics()
    writer, items = Writer(draw, topics), make_items(draw, topics)
    rows = []
    for domain, pool in items.items():
        taken: set[str] = set()
        for item in pool:
            rows.append({"item_id": item.token, "domain": domain, **writer.text_of(domain, item, taken)})
    pulls = {domain: pull_tables(pool, topics) for domain, pool in items.items()}
    popularity = {domain: list(accumulate(item.popularity for item in pool)) for domain, pool in items.items()}
    interactions = [
        (str(user), *interaction)
        for user in range(1, N_USERS + 1)
        for interaction in make_user(draw, topics, items, pulls, popularity)
    ]
    columns = ["user_id", "item_id", "rating", "timestamp"]
    return pd.DataFrame(interactions, columns=columns), pd.DataFrame(rows)


def write_sample(out_dir: Path) -> Path:
    """Write the sample below `out_dir` and return its folder."""
    interactions, items = make_frames()
    card = DatasetCard(
        name=NAME,
        synthetic=True,
        description=(
            "SYNTHETIC sample in the schema of the Douban dataset (books and movies, 2016, English text); no "
            "real user, item or rating is in it, and converting the real files replaces it"
        ),
        source={"title": "tools/make_douban_sample.py of this package", "files": []},
        package_version=MADE_FOR_VERSION,
        converter={"name": "tools/make_douban_sample.py", "options": {"seed": SEED}},
        split="loo",
        rows={"read": len(interactions), "kept": len(interactions), "malformed": 0},
        **describe_interactions(interactions, items),
    )
    with staged_directory(out_dir / NAME) as folder:
        inter_types = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
        write_atomic(folder / f"{NAME}.inter", interactions, inter_types)
        item_types = {"item_id": "token", "domain": "token"}
        item_types.update(dict.fromkeys(("title", "labels", "description"), "token_seq"))
        write_atomic(folder / f"{NAME}.item", items, item_types)
        card.save(folder)
    return out_dir / NAME


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the synthetic sample atomic_data/douban.")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "atomic_data")
    folder = write_sample(parser.parse_args().out)
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
