"""Amazon reviews of 2014, 2018 and 2023: which files a domain is made of, and how their rows parse.

| release | reviews (JSON lines) | ratings only (CSV) | item details |
|---|---|---|---|
| 2014 | `reviews_<Category>[_5].json.gz` | `ratings_<Category>.csv`: user,item,rating,time | `meta_<Category>.json.gz`, Python literals |
| 2018 | `<Category>[_5].json.gz` | `<Category>.csv`: item,user,rating,time | `meta_<Category>.json.gz`, JSON lines |
| 2023 | `<Category>.jsonl.gz` | `<Category>.csv` with a header | `meta_<Category>.jsonl.gz`, JSON lines |

Times of 2023 are milliseconds, and its items are known by `parent_asin`.
"""  # noqa: E501

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import msgspec

from recbole_cdsr.convert import amazon_items
from recbole_cdsr.convert.interactions import RowBatch
from recbole_cdsr.convert.json_lines import JsonLines
from recbole_cdsr.convert.options import (
    Preset,
    add_domain_options,
    add_output_options,
    add_selection_options,
    read_options,
)
from recbole_cdsr.convert.pipeline import Source, convert
from recbole_cdsr.convert.raw_file import LineBlock, RawFile, find_raw_file
from recbole_cdsr.convert.text import are_ids, decode, fault_in_ids
from recbole_cdsr.errors import ConfigError, DataError

RELEASES = ("2014", "2018", "2023")
KINDS = ("reviews", "5-core", "ratings")
COLLECTIONS = {
    "2014": "Amazon product data (2014)",
    "2018": "Amazon review data (2018)",
    "2023": "Amazon Reviews 2023",
}
# Names of files by release and kind; `.gz` may follow each.
FILES = {
    ("2014", "reviews"): "reviews_{}.json",
    ("2014", "5-core"): "reviews_{}_5.json",
    ("2014", "ratings"): "ratings_{}.csv",
    ("2014", "items"): "meta_{}.json",
    ("2018", "reviews"): "{}.json",
    ("2018", "5-core"): "{}_5.json",
    ("2018", "ratings"): "{}.csv",
    ("2018", "items"): "meta_{}.json",
    ("2023", "reviews"): "{}.jsonl",
    ("2023", "ratings"): "{}.csv",
    ("2023", "items"): "meta_{}.jsonl",
}
# Short names of domains that the papers use; any other domain names its category: --domain pet=Pet_Supplies.
CATEGORIES = {
    "book": "Books",
    "cloth": "Clothing_Shoes_and_Jewelry",
    "elec": "Electronics",
    "food": "Grocery_and_Gourmet_Food",
    "game": "Video_Games",
    "kitchen": "Home_and_Kitchen",
    "movie": "Movies_and_TV",
    "music": "CDs_and_Vinyl",
    "phone": "Cell_Phones_and_Accessories",
    "sport": "Sports_and_Outdoors",
    "toy": "Toys_and_Games",
}
_LLM4CDSR: Preset = {"release": "2018", "min_user": 5, "min_item": 3, "core": "llm4cdsr-amazon"}
PRESETS: Mapping[str, Preset] = {
    # The paper's windows are open on both sides; ours include both ends.
    "llm4cdsr-cloth-sport": {"domains": "cloth,sport", "since": "1514736001", "until": "1577807999", **_LLM4CDSR},
    "llm4cdsr-elec-phone": {"domains": "elec,phone", "since": "1500000001", "until": "1599999999", **_LLM4CDSR},
}
# Columns of the ratings-only files, in their order; those of 2023 have a header that says so.
RATING_COLUMNS = {
    "2014": ("user", "item", "rating", "timestamp"),
    "2018": ("item", "user", "rating", "timestamp"),
    "2023": ("user_id", "parent_asin", "rating", "timestamp"),
}


_ROLE = {"user": 0, "user_id": 0, "item": 1, "parent_asin": 1, "rating": 2, "timestamp": 3}


class _Review(msgspec.Struct, gc=False):
    """A review of 2014 or 2018, as far as it is read; everything else in the line is skipped over."""

    user: str = msgspec.field(name="reviewerID")
    item: str = msgspec.field(name="asin")
    time: float = msgspec.field(name="unixReviewTime")
    rating: float | None = msgspec.field(name="overall", default=None)


class _Review2023(msgspec.Struct, gc=False):
    user: str = msgspec.field(name="user_id")
    item: str = msgspec.field(name="parent_asin")
    time: float = msgspec.field(name="timestamp")
    rating: float | None = msgspec.field(name="rating", default=None)


class AmazonSource(Source):
    """One release of the Amazon reviews in a folder.

    Parameters
    ----------
    raw_dir : Path
        The folder with the files of all categories.
    categories : Mapping[str, str]
        Domain to category; "" takes the category known for that domain.
    release : str, optional
        `2014`, `2018` or `2023`; None tells it by the files that are there.
    kind : str, optional
        `reviews`, `5-core` or `ratings`; None takes the first of them that is there for every domain.
    """

    name = "amazon"

    def __init__(
        self, raw_dir: Path, categories: Mapping[str, str], release: str | None = None, kind: str | None = None
    ) -> None:
        self._raw_dir = raw_dir
        self._kind = kind
        self._categories = {
            domain: category or CATEGORIES.get(domain, domain) for domain, category in categories.items()
        }
        self.release = release or self._detect_release()
        self.title = COLLECTIONS[self.release]
        self.text_types = amazon_items.text_types(self.release)

    def _detect_release(self) -> str:
        if not self._raw_dir.is_dir():
            raise DataError(f"{self._raw_dir}: no such folder; --raw takes the folder that holds the raw files.")
        category = next(iter(self._categories.values()))
        found: dict[str, str] = {}
        for (release, kind), pattern in FILES.items():
            if kind == "items" or kind != (self._kind or kind):
                continue
            for name in (pattern.format(category), f"{pattern.format(category)}.gz"):
                path = self._raw_dir / name
                # 2018 and 2023 call their ratings the same, but only those of 2023 have a header.
                if path.is_file() and (pattern != "{}.csv" or _has_header(path) == (release == "2023")):
                    found.setdefault(release, name)
        if len(found) > 1:
            raise ConfigError(f"{self._raw_dir}: holds {' and '.join(found.values())}; choose one with --release.")
        if found:
            return next(iter(found))
        expected = ", ".join(
            dict.fromkeys(pattern.format(category) for (_, kind), pattern in FILES.items() if kind != "items")
        )
        raise DataError(
            f"{self._raw_dir}: there is no file of {category} in any release (looked for {expected}; plain or .gz); "
            "it is published in Amazon product data (2014), Amazon review data (2018) and Amazon Reviews 2023."
        )

    def interaction_files(self, domain: str) -> Sequence[RawFile]:
        path = self._paths[domain]
        logging.getLogger().info("%s: %s", domain, path.name)
        return [RawFile(path, domain)]

    @cached_property
    def _paths(self) -> dict[str, Path]:
        """The file of each domain: of the first kind that all of them have, as a 5-core beside complete files skews."""
        kinds = [kind for kind in KINDS if (self.release, kind) in FILES and kind == (self._kind or kind)]
        if not kinds:
            raise ConfigError(f"--files {self._kind}: {self.title} has no such files; choose reviews or ratings.")
        found = {domain: self._files_by_kind(domain, kinds) for domain in self._categories}
        shared = next((kind for kind in kinds if all(kind in some for some in found.values())), None)
        chosen = {}
        for domain, some in found.items():
            # Without a shared kind, reviews and ratings may stand side by side: both hold all ratings.
            kind = shared or next((kind for kind in some if kind != "5-core"), None)
            if kind is None:
                names = ", ".join(f"{next(iter(each.values())).name} of {name}" for name, each in found.items())
                raise DataError(
                    f"{self._raw_dir}: of {domain!r} there is the 5-core alone, and other domains have none (found "
                    f"{names}); beside complete files it would skew what is learned of the domains. "
                    "Download files of one kind for all of them."
                )
            chosen[domain] = some[kind]
            if kind != next(iter(some)):
                logging.getLogger().warning(
                    "%s: %s is read and not %s, as files of all domains must be of one kind; see --files.",
                    domain,
                    some[kind].name,
                    next(iter(some.values())).name,
                )
        return chosen

    def _files_by_kind(self, domain: str, kinds: Sequence[str]) -> dict[str, Path]:
        """The files of a domain's category that are there, in the order of `kinds`, at least one."""
        names = {kind: FILES[self.release, kind].format(self._categories[domain]) for kind in kinds}
        found = {}
        for kind, name in names.items():
            candidates = (self._raw_dir / name, self._raw_dir / f"{name}.gz")
            if (path := next(filter(Path.is_file, candidates), None)) is not None:
                found[kind] = path
        if not found:
            published = f"{names[kinds[0]]}.gz in {self.title}"
            find_raw_file(self._raw_dir, list(names.values()), published)  # says what is missing
        return found

    def item_files(self, domain: str) -> Sequence[RawFile]:
        name = FILES[self.release, "items"].format(self._categories[domain])
        published = f"{name}.gz in {self.title}, and --without-text does without"
        return [RawFile(find_raw_file(self._raw_dir, [name], published), domain)]

    def read_interactions(self, file: RawFile) -> Iterator[RowBatch]:
        if ".csv" in file.path.suffixes:
            return read_ratings(file, self.release)
        return read_reviews(file, self.release)

    def read_items(self, file: RawFile, wanted: Container[str]) -> Iterator[tuple[str, Sequence[str]]]:
        return amazon_items.read_items(file, self.release, wanted)


def _has_header(path: Path) -> bool:
    _, first = next(RawFile(path).lines(), (1, b""))
    return b"parent_asin" in first


def read_reviews(file: RawFile, release: str) -> Iterator[RowBatch]:
    """Yield the interactions of a file of reviews (JSON lines), block by block; the text is never decoded."""
    of_2023 = release == "2023"
    reader = JsonLines(
        _Review2023 if of_2023 else _Review,
        lambda rows: are_ids([row.user for row in rows]) and are_ids([row.item for row in rows]),
        lambda row: fault_in_ids(row.user, row.item),
    )
    for rows in reader.read(file):
        times = [row.time for row in rows]
        yield RowBatch(
            users=[row.user for row in rows],
            items=[row.item for row in rows],
            times=[time / 1000 for time in times] if of_2023 else times,
            ratings=[math.nan if row.rating is None else row.rating for row in rows],
        )


def read_ratings(file: RawFile, release: str) -> Iterator[RowBatch]:
    """Yield the interactions of a ratings-only CSV file, block by block; a header names its columns."""
    columns = list(RATING_COLUMNS[release])
    time_unit = 1000.0 if release == "2023" else 1.0
    for block in file.blocks():
        data, number = block.data, block.number
        if number == 1:
            head, _, rest = data.partition(b"\n")
            cells = [cell.strip().lower() for cell in decode(head).split(",")]
            if release == "2023" or set(cells) == set(columns):
                if not set(columns) <= set(cells):
                    raise DataError(
                        f"{file.path}, line 1: expected a header with {', '.join(columns)}, found "
                        f"{decode(head)[:80]!r}; check --release."
                    )
                columns, data, number = cells, rest, 2
            elif len(cells) != len(columns):
                raise DataError(
                    f"{file.path}, line 1: expected {','.join(columns)}, found {len(cells)} column(s): "
                    f"{decode(head)[:80]!r}; check --release."
                )
        yield _parse_ratings(file, LineBlock(number, data, block.n_lines), columns, time_unit)


def _parse_ratings(file: RawFile, block: LineBlock, columns: Sequence[str], time_unit: float) -> RowBatch:
    places = [columns.index(name) for name in sorted(columns, key=_ROLE.get) if name in _ROLE]
    user, item, rating, time = places
    users, items, ratings, times = [], [], [], []
    for number, line in block.lines():
        file.rows += 1
        cells = line.split(b",")
        try:
            if len(cells) != len(columns):
                raise ValueError(f"expected {len(columns)} columns, found {len(cells)}")
            stars, moment = float(cells[rating]), float(cells[time])
            if not math.isfinite(moment) or not math.isfinite(stars):
                raise ValueError("the rating or the time is no finite number")
            own = decode(cells[user]), decode(cells[item])
            if fault := fault_in_ids(*own):
                raise ValueError(fault)
        except ValueError as error:
            file.report_malformed(number, str(error))
            continue
        users.append(own[0])
        items.append(own[1])
        ratings.append(stars)
        times.append(moment / time_unit)
    return RowBatch(users, items, times, ratings)


def add_parser(sources: argparse._SubParsersAction) -> None:
    """Add `convert amazon` to the command line."""
    parser = sources.add_parser(
        "amazon",
        help="Amazon reviews of 2014, 2018 or 2023",
        description="Convert Amazon reviews (2014, 2018 or 2023; JSON lines or ratings-only CSV, plain or gzip) and "
        "item details to a dataset of atomic files.",
    )
    parser.add_argument("--raw", type=Path, required=True, metavar="DIR", help="folder of the raw files")
    add_output_options(parser)
    known = ", ".join(f"{name} = {category}" for name, category in CATEGORIES.items())
    add_domain_options(
        parser, "CATEGORY", f"domains of the dataset: {known}; or a category as Amazon writes it, or name=Category"
    )
    parser.add_argument("--release", choices=RELEASES, help="default: told by the files that are there")
    parser.add_argument(
        "--files", choices=KINDS, help="which of a category's files to read (default: first there is of all)"
    )
    add_selection_options(parser, PRESETS)
    parser.set_defaults(convert=_convert)


def _convert(args: argparse.Namespace) -> Path:
    options, args = read_options(args, PRESETS, capitals=True)
    categories = {**options.domains, **options.counted_domains}
    source = AmazonSource(args.raw, categories, args.release, args.files)
    options.given["release"] = source.release
    if args.files:
        options.given["files"] = args.files
    return convert(source, options)
