"""The Douban dataset: reviews of books, movies and music by the same users, with item details.

Files, tab-separated and quoted, each with a header (columns are found by name, their order differs):

- `bookreviews_cleaned.txt`, `moviereviews_cleaned.txt`, `musicreviews_cleaned.txt`: `user_id`, `book_id` | `movie_id` |
  `music_id`, `rating` (may be empty), `labels` (`剧情|爱情`), `comment`, `time` (a date, with or without a clock), …;
- `books_cleaned.txt`, `movies_cleaned.txt`, `music_cleaned.txt`: details by `UID`, the id the reviews use.

Comments hold stray tabs, quotes and newlines, see `quoted_table.py`. They are read over and never kept. An item's
labels are those its reviewers gave it, the most frequent first.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from recbole_cdsr.convert.interactions import RowBatch
from recbole_cdsr.convert.options import (
    Preset,
    add_domain_options,
    add_output_options,
    add_selection_options,
    read_options,
)
from recbole_cdsr.convert.pipeline import Source, convert
from recbole_cdsr.convert.quoted_table import QuotedTable, unquoted
from recbole_cdsr.convert.raw_file import RawFile, find_raw_file
from recbole_cdsr.convert.text import decode, plain_text
from recbole_cdsr.errors import ConfigError, DataError

DOMAINS = ("book", "movie", "music")
REVIEW_FILES = {domain: f"{domain}reviews_cleaned.txt" for domain in DOMAINS}
DETAIL_FILES = {"book": "books_cleaned.txt", "movie": "movies_cleaned.txt", "music": "music_cleaned.txt"}
MOST_LABELS = 10  # of an item
ROWS_AT_ONCE = 20_000

MARKER = "SYNTHETIC.txt"  # a file beside files that a program made
PUBLISHED = "in the folder `douban_dataset(text information)` of the Douban dataset of ratings, reviews and details"
PRESETS: dict[str, Preset] = {
    # Users with more than one and items with more than two interactions over all years and domains, counted once.
    "llm4cdsr-douban": {
        "domains": "book,movie",
        "counted_domains": "music",
        "core": "once",
        "min_user": 2,
        "min_item": 3,
        "since": "2016-01-01",
        "until": "2016-12-31",
    },
}

_FREE_TEXT = ("comment", "summary", "description", "content")
_MISSING = ("", "NA", "NaN", "nan", "NULL", "null", r"\N")
_ID = r'[^\s"\0]+'
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_RATING = rf"(?:{_NUMBER}|{'|'.join(map(re.escape, _MISSING))})"
_TIME = r"[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}(?:[ T]+[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?Z?)?"
# Columns of details that have another name among the text columns of every dataset.
_TEXT_NAMES = {
    "name": "title",
    "tag": "tags",
    "summary": "description",
    "rating": "average_rating",
    **{f"{domain}_id": "id" for domain in DOMAINS},
}
_TAKEN = ("user_id", "item_id", "domain", "timestamp")
_LISTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""")


def add_parser(sources: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `convert douban` to the sources of the command line."""
    parser = sources.add_parser(
        "douban",
        help="the Douban dataset: books, movies and music",
        description="Convert the Douban dataset (bookreviews_cleaned.txt, books_cleaned.txt and so on) to a dataset of "
        "atomic files. All three domains are kept unless --domains or a preset names others.",
    )
    parser.add_argument("--raw", type=Path, required=True, metavar="DIR", help="folder of the raw files, plain or gzip")
    add_output_options(parser)
    add_domain_options(parser, "KIND", "domains to keep, of book, movie and music")
    add_selection_options(parser, PRESETS)
    parser.set_defaults(convert=convert_douban)
    return parser


def convert_douban(args: argparse.Namespace) -> Path:
    """Convert as the command line asks and return the dataset's folder; errors as of `pipeline.convert`."""
    if args.preset is None and not args.domains and not args.domain:
        args.domains = ",".join(DOMAINS)
    options, args = read_options(args, PRESETS)
    source = Douban(args.raw, options.domains, options.counted_domains)
    if (marker := source.marker()) or options.synthetic:
        source.title = "SYNTHETIC files in the layout of the Douban dataset"
        options = replace(options, synthetic=True, description=marker)
    return convert(source, options)


class Douban(Source):
    """The files of a folder.

    Parameters
    ----------
    raw_dir : Path
        The folder.
    domains : Mapping[str, str]
        What each domain of the dataset is of Douban's `DOMAINS`, by its name; "" where it has the same name.
    counted_domains : Mapping[str, str]
        The same for domains of which only the reviews are read.
    """

    name = "douban"
    title = "the Douban dataset"

    def __init__(
        self, raw_dir: Path, domains: Mapping[str, str], counted_domains: Mapping[str, str] | None = None
    ) -> None:
        self.raw_dir, self.domains = Path(raw_dir), tuple(domains)
        self._kinds = {name: kind or name for name, kind in {**domains, **(counted_domains or {})}.items()}
        if unknown := [name for name, kind in self._kinds.items() if kind not in DOMAINS]:
            raise ConfigError(
                f"--domains: Douban has no {self._kinds[unknown[0]]!r}, only {', '.join(DOMAINS)}; write one of them, "
                "or NAME=one of them."
            )
        self._texts: dict[str, str] | None = None

    def marker(self) -> str:
        """Return what `SYNTHETIC.txt` says of these files, "" where there is no such file."""
        path = self.raw_dir / MARKER
        if not path.is_file():
            return ""
        said = " ".join(decode(path.read_bytes()[:1000]).split())
        return said if "synthetic" in said.lower() else f"SYNTHETIC: {said}"

    @property
    def text_types(self) -> Mapping[str, str]:
        """The usual text columns, then whatever else the files of details have, under its own name."""
        if self._texts is None:
            columns = ["title", "labels", "tags", "description"]
            for domain in self.domains:
                for file in self.item_files(domain):
                    columns += _text_columns(_header(file)).values()
            self._texts = dict.fromkeys(columns, "token_seq")
        return self._texts

    def interaction_files(self, domain: str) -> list[RawFile]:
        name = REVIEW_FILES[self._kinds[domain]]
        return [RawFile(find_raw_file(self.raw_dir, [name], f"{name} {PUBLISHED}"), domain)]

    def read_interactions(self, file: RawFile) -> Iterator[RowBatch]:
        item = f"{self._kinds[file.domain]}_id"
        patterns = {"user_id": _ID, item: _ID, "rating": _RATING, "time": _TIME}
        batch: list[tuple[str, str, float, float]] = []  # user, item, time, rating
        for number, cells in _rows(file, list(patterns), patterns, _FREE_TEXT):
            file.rows += 1
            if isinstance(cells, str):
                file.report_malformed(number, cells)
                continue
            user, item, rating, time = cells
            if (moment := epoch(time)) is None:
                file.report_malformed(number, f"time is {time!r}")
                continue
            batch.append((user, item, moment, math.nan if rating in _MISSING else float(rating)))
            if len(batch) == ROWS_AT_ONCE:
                yield RowBatch(*zip(*batch, strict=True))
                batch = []
        if batch:
            yield RowBatch(*zip(*batch, strict=True))

    def item_files(self, domain: str) -> list[RawFile]:
        name = DETAIL_FILES[self._kinds[domain]]
        return [RawFile(find_raw_file(self.raw_dir, [name], f"{name} {PUBLISHED}"), domain)]

    def read_items(self, file: RawFile, wanted: Container[str]) -> Iterator[tuple[str, Sequence[str]]]:
        # The reviews are read a second time for the labels of the items that are left: memory follows what is kept.
        labels = self._labels(file.domain, wanted)
        names = _text_columns(_header(file))
        for number, cells in _rows(file, ["UID", *names], {"UID": _ID}, _FREE_TEXT):
            file.rows += 1
            if isinstance(cells, str):
                file.report_malformed(number, cells)
            elif cells[0] in wanted:
                texts = dict(zip(names.values(), map(_text, cells[1:]), strict=True))
                texts["labels"] = labels.pop(cells[0], "") or texts.get("labels", "")
                texts["tags"] = ", ".join(listed(texts.get("tags", "")))
                yield cells[0], [texts.get(column, "") for column in self.text_types]
        for item, text in labels.items():
            yield item, [text if column == "labels" else "" for column in self.text_types]

    def _labels(self, domain: str, wanted: Container[str]) -> dict[str, str]:
        """Return the labels reviewers gave items most often, joined by commas; of equals the one given first."""
        (file,) = self.interaction_files(domain)
        if "labels" not in _header(file):
            return {}
        item = f"{self._kinds[domain]}_id"
        patterns = {"user_id": _ID, item: _ID, "rating": _RATING, "time": _TIME}
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for _, cells in _rows(file, [item, "labels"], patterns, _FREE_TEXT):
            if not isinstance(cells, str) and cells[1] and cells[0] in wanted:
                counts[cells[0]].update(listed(cells[1]))
        return {
            item: ", ".join(label for label, _ in count.most_common(MOST_LABELS))
            for item, count in counts.items()
            if count
        }


def epoch(text: str) -> float | None:
    """Return the Unix second of a time in `_TIME`'s layout, UTC; None if no calendar has that day or clock."""
    date, _, clock = text.replace("T", " ").removesuffix("Z").partition(" ")
    day = _day(date)
    if day is None or not clock:
        return day
    hours, minutes, seconds = (float(part) for part in [*clock.strip().split(":"), "0"][:3])
    return day + 3600 * hours + 60 * minutes + seconds if hours < 24 and minutes < 60 and seconds < 61 else None


@lru_cache(maxsize=100_000)
def _day(date: str) -> float | None:
    year, month, day = (int(part) for part in date.replace("/", "-").split("-"))
    try:
        return datetime(year, month, day, tzinfo=UTC).timestamp()
    except ValueError:
        return None


def listed(cell: str) -> list[str]:
    """Return the entries of `a|b` or of `['a', 'b']`, each once, blank ones left out."""
    cell = cell.strip()
    if cell.startswith("[") and cell.endswith("]"):
        entries = [single or double for single, double in _LISTED.findall(cell)] or cell[1:-1].split(",")
        entries = [re.sub(r"\\(.)", r"\1", entry) for entry in entries]
    else:
        entries = cell.split("|")
    entries = [" ".join(plain_text(entry).split()) for entry in entries]
    return [entry for entry in dict.fromkeys(entries) if entry not in _MISSING]


def _lines(file: RawFile) -> Iterator[str]:
    """Yield every line, blank ones included: comments have them."""
    for block in file.blocks():
        yield from decode(block.data.removesuffix(b"\n")).split("\n")


def _header(file: RawFile) -> list[str]:
    return _cells_of_header(next(_lines(RawFile(file.path)), ""))


def _cells_of_header(line: str) -> list[str]:
    return [unquoted(cell.strip()) for cell in line.split("\t")]


def _rows(
    file: RawFile, wanted: list[str], patterns: Mapping[str, str], free_text: Sequence[str]
) -> Iterator[tuple[int, list[str] | str]]:
    """Yield line number and wanted cells of each row of a file, or the fault of a malformed one."""
    lines = _lines(file)
    header = _cells_of_header(next(lines, ""))
    if missing := [column for column in wanted if column not in header]:
        raise DataError(
            f"{file.path}, line 1: there is no column {missing[0]!r}, only {', '.join(header)[:200] or 'nothing'}; "
            "check that this is the file of that name in the Douban dataset."
        )
    free = next((column for column in free_text if column in header), None)
    yield from QuotedTable(header, wanted, patterns, free).rows(lines)


def _text_columns(header: Sequence[str]) -> dict[str, str]:
    """Return column of details: its name in the dataset, where no interaction or item has a column of that name."""
    names = {}
    for column in header:
        name = _TEXT_NAMES.get(column) or re.sub(r'[\s:"]+', "_", column)
        if name and column != "UID":
            names[column] = f"douban_{name}" if name in _TAKEN else name
    return names


def _text(cell: str) -> str:
    return "" if cell in _MISSING else plain_text(cell)
