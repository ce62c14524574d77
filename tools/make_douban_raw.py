"""Write SYNTHETIC raw files in the layout of the Douban dataset: reviews and details of books, movies and music.

Everything in them is made up: users, items, titles, comments and times. Converted, they are the bundled sample
`atomic_data/douban`, which lets the package run at once; converting the real files replaces it.

How they are made. 24 topics, each with three motifs, are shared by all domains; a topic has words of its own
(`douban_sample_topics.yaml`), and an item's title, labels and description draw on the words of its motif. A user likes
two or three topics whose shares drift over time, stays with a topic (and mostly with a motif of it) for some steps in
whatever domain, then moves on. Items are chosen by motif and by a mildly long-tailed popularity that knows nothing of
topics. Interactions are scarce, about five an item, as in review data. Text thus tells an item's motif even where few
people have seen it; some titles, labels and descriptions tell nothing.

The files have the faults of the real ones: stray tabs, quotes and newlines in comments, empty ratings, times with and
without a clock, movie tags in two styles, some rows that are broken beyond repair, some events outside 2016. A file
`SYNTHETIC.txt` beside them says what they are; the converter carries the word into the dataset's card.

The only source of chance is `random.Random.random()`, whose stream Python guarantees across versions: the same script
writes the same bytes everywhere. The population was fixed before any model was compared on it and is not to be changed.

    python tools/make_douban_raw.py --out DIR [--scale 0.1]
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from douban_population import N_USERS, WORDS, Draw, Item, Population, Review, Topic, load_topics, make_items

SEED = 2016
SMALLEST_SCALE = 0.05  # below it a domain could have fewer items than somebody takes

SILENT = 0.10  # titles, labels and descriptions that tell nothing
LABELLED_REVIEW, LABEL_USED, PERSONAL_LABEL = 0.70, 0.80, 0.15
NO_RATING = 0.05
STRAY_QUOTE, STRAY_TAB, STRAY_NEWLINE = 0.04, 0.03, 0.03
BROKEN_ROWS = 12  # in each file of reviews

REVIEW_FILES = {
    "book": "bookreviews_cleaned.txt",
    "movie": "moviereviews_cleaned.txt",
    "music": "musicreviews_cleaned.txt",
}
REVIEW_COLUMNS = {
    "book": ["user_id", "book_id", "rating", "labels", "comment", "time", "ID"],
    "movie": ["user_id", "movie_id", "rating", "comment", "time", "labels", "useful_num", "CategoryID", "ID"],
    "music": ["user_id", "music_id", "rating", "labels", "comment", "useful_num", "time", "ID"],
}
DETAIL_FILES = {"book": "books_cleaned.txt", "movie": "movies_cleaned.txt", "music": "music_cleaned.txt"}
DETAIL_COLUMNS = {
    "book": ["book_id", "name", "author", "summary", "UID"],
    "movie": ["movie_id", "name", "director", "summary", "country", "tag", "UID"],
    "music": ["music_id", "name", "artist", "summary", "UID"],
}
USER_COLUMNS = ["UID", "living_place", "join_time", "self_statement"]
MARKER = "SYNTHETIC.txt"


class Writer:
    """Writes titles, labels, descriptions and comments."""

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

    def name(self) -> str:
        return f"{self.draw.one(self.phrases['people'])} {self.draw.one(self.phrases['places'])}"

    def details(self, domain: str, item: Item, taken: set[str]) -> tuple[dict[str, Any], list[str]]:
        """Return an item's row of details and the labels its users give it; each may tell nothing, as in life."""
        draw, topic, phrases = self.draw, self.topics[item.topic], self.phrases
        templates = phrases["neutral_titles" if draw.chance(SILENT) else "titles"][domain]
        title = self.fill(draw.one(templates), topic, item.motif)
        while title in taken:
            part = draw.one(("One", "Two", "Three"))
            title = f"{self.fill(draw.one(templates), topic, item.motif)}, Part {part}"
        taken.add(title)

        labels = [] if draw.chance(SILENT) else [item.motif] * draw.chance(0.7) + [draw.one(topic.labels)]
        description = ""
        if not draw.chance(SILENT / 2):
            pool = phrases["neutral_descriptions" if draw.chance(SILENT / 2) else "descriptions"][domain]
            description = self.fill(draw.one(pool), topic, item.motif)
        if item.second_topic is not None:
            second = self.topics[item.second_topic]
            if labels:
                labels.append(draw.one(second.labels))
            if description:
                sentence = self.fill(draw.one(phrases["second_topic"]), second, draw.one(second.motifs))
                description = f"{description} {sentence}"
        row: dict[str, Any] = {"UID": item.uid, f"{domain}_id": 1_000_000 + 37 * item.uid, "name": title}
        row |= {"author": self.name(), "director": self.name(), "artist": self.name(), "summary": description}
        row["country"] = draw.one(phrases["countries"])
        row["tag"] = "|".join(labels) if draw.chance(0.5) else f"[{', '.join(map(repr, labels))}]"
        return row, labels

    def labels_of_review(self, labels: list[str]) -> str:
        draw = self.draw
        used = [label for label in labels if draw.chance(LABEL_USED)] if draw.chance(LABELLED_REVIEW) else []
        if draw.chance(PERSONAL_LABEL):
            used.append(draw.one(self.phrases["personal_labels"]))
        return "|".join(used)

    def comment(self) -> str:
        """Return a cell of comment as it stands in the file; stray quotes, tabs and newlines included."""
        draw, sentences = self.draw, self.phrases["comments"]
        first, second = draw.one(sentences), draw.one(sentences)
        stray = draw.uniform()
        if stray < STRAY_QUOTE:
            return f'"{first} "{second}" or so."'  # quotes that nobody doubled
        if stray < STRAY_QUOTE + STRAY_TAB:
            return quoted(f"{first}\t{second}")
        if stray < STRAY_QUOTE + STRAY_TAB + STRAY_NEWLINE:
            return quoted(f"{first}\n\n{second}")
        return quoted(first if draw.chance(0.7) else "")


def quoted(cell: Any) -> str:
    return '"' + str(cell).replace('"', '""') + '"'


def clock(review: Review) -> str:
    moment = datetime.fromtimestamp(review.time, UTC)
    return moment.strftime("%Y-%m-%d" if review.date_only else "%Y-%m-%d %H:%M:%S")


def review_lines(
    draw: Draw, writer: Writer, domain: str, reviews: list[Review], items: list[Item], labels: list
) -> list:
    """Return the lines of a file of reviews, some of them broken."""
    columns = REVIEW_COLUMNS[domain]
    lines = []
    for number, review in enumerate(reviews, start=1):
        cells = {
            "user_id": review.user,
            f"{domain}_id": items[review.item].uid,
            "rating": "" if draw.chance(NO_RATING) else review.rating,
            "labels": writer.labels_of_review(labels[review.item]),
            "time": clock(review),
            "useful_num": int(draw.uniform() ** 4 * 30),
            "CategoryID": 1,
            "ID": number,
        }
        written = {column: quoted(cell) for column, cell in cells.items()} | {"comment": writer.comment()}
        lines.append("\t".join(written[column] for column in columns))
    for number in range(BROKEN_ROWS):
        kind, place = number % 4, int(draw.uniform() * len(lines))
        cells = {"user_id": 900_000 + number, f"{domain}_id": 1001, "rating": 3, "labels": "", "time": "2016-05-05"}
        cells |= {"comment": "", "useful_num": 0, "CategoryID": 1, "ID": 900_000 + number}
        cells |= ({}, {"user_id": ""}, {"time": "0000-00-00"}, {"rating": "unknown"})[kind]
        row = [quoted(cells[column]) for column in columns]
        lines.insert(place, "\t".join(row) if kind else "\t".join(row[:3]) + '\t"cut off in the mid')
    return lines


def write_table(path: Path, columns: list[str], lines: list[str]) -> None:
    header = "\t".join(map(quoted, columns))
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8", newline="\n")


def write_raw(out_dir: Path, scale: float = 1.0, seed: int = SEED) -> Path:
    """Write the raw files below `out_dir`, for `scale` times the users and items of the sample; return the folder."""
    if not SMALLEST_SCALE <= scale <= 1.0:
        raise SystemExit(f"--scale: {scale} is not within {SMALLEST_SCALE} and 1.")
    out_dir.mkdir(parents=True, exist_ok=True)
    draw, topics = Draw(seed), load_topics()
    items = make_items(draw, topics, scale)
    population = Population(draw, topics, items)
    users = range(1, round(N_USERS * scale) + 1)
    # A site's own order: as things happened. (Times may tie between users; the sort is stable.)
    reviews = sorted((review for user in users for review in population.reviews_of(user)), key=lambda each: each.time)
    writer = Writer(draw, topics)
    for domain, pool in items.items():
        taken: set[str] = set()
        rows, labels = zip(*(writer.details(domain, item, taken) for item in pool), strict=True)
        columns = DETAIL_COLUMNS[domain]
        write_table(out_dir / DETAIL_FILES[domain], columns, ["\t".join(quoted(r[c]) for c in columns) for r in rows])
        own = [review for review in reviews if review.domain == domain]
        lines = review_lines(draw, writer, domain, own, pool, list(labels))
        write_table(out_dir / REVIEW_FILES[domain], REVIEW_COLUMNS[domain], lines)
    profiles = [
        (u, draw.one(writer.phrases["places"]), "2010-03-01", draw.one(writer.phrases["comments"])) for u in users
    ]
    write_table(out_dir / "users_cleaned.txt", USER_COLUMNS, ["\t".join(map(quoted, row)) for row in profiles])
    (out_dir / MARKER).write_text(
        "SYNTHETIC files in the layout of the Douban dataset, made by tools/make_douban_raw.py of recbole-cdsr "
        f"(seed {seed}, scale {scale:g}); no real user, item, rating or comment is in them\n",
        encoding="utf-8",
        newline="\n",
    )
    return out_dir


def main() -> None:
    parser = argparse.ArgumentParser(description="Write synthetic raw files in the layout of the Douban dataset.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the raw files")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the sample's users and items (default 1)")
    options = parser.parse_args()
    print(f"written to {write_raw(options.out, options.scale)}")


if __name__ == "__main__":
    main()
