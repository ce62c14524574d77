"""Single-domain datasets of RecBole, merged into one of several domains.

    recbole-cdsr convert atomic --name shop --domain book=dataset/books --domain movie=dataset/movies

A folder holds `<folder's name>.inter` (or one other `.inter`) and, if there is any, the `.item` beside it. Item columns
of all domains come over with their types; an item's column that its domain lacks is empty. Users of the same token in
two datasets are taken for one person.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from recbole_cdsr.convert.csv_files import RESERVED_COLUMNS, paths_of_domains
from recbole_cdsr.convert.delimited import read_columns, read_header
from recbole_cdsr.convert.delimited_interactions import TIME_UNITS, read_interactions
from recbole_cdsr.convert.interactions import RowBatch
from recbole_cdsr.convert.options import add_output_options, add_selection_options, read_options
from recbole_cdsr.convert.pipeline import Source, convert
from recbole_cdsr.convert.raw_file import RawFile
from recbole_cdsr.data.atomic import COLUMN_NAME, FIELD_TYPES
from recbole_cdsr.errors import DataError

SEPARATOR = "\t"


@dataclass(frozen=True)
class AtomicDataset:
    """The files of one single-domain dataset.

    Parameters
    ----------
    inter : Path
        Its interactions.
    item : Path, optional
        Its item table; None if it has none.
    """

    inter: Path
    item: Path | None


def find_dataset(folder: Path) -> AtomicDataset:
    """Return the atomic files in a folder, plain or with `.gz`.

    Raises
    ------
    DataError
        When there is no such folder, no `.inter` in it, more than one, or one that is split already.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --domain NAME=DIR takes the folder of a RecBole dataset.")
    found = {path.name.removesuffix(".gz").removesuffix(".inter"): path for path in _with_suffix(folder, "inter")}
    if not found:
        raise DataError(f"{folder}: there is no .inter file; --domain NAME=DIR takes the folder of a RecBole dataset.")
    name = folder.resolve().name
    if name not in found:
        if len(found) > 1:
            files = ", ".join(sorted(path.name for path in found.values()))
            raise DataError(
                f"{folder}: holds {files}, and none is called {name}.inter; the interactions of a domain stand in one "
                "file, not split into several."
            )
        name = next(iter(found))
    items = [path for path in _with_suffix(folder, "item") if path.name.removesuffix(".gz") == f"{name}.item"]
    return AtomicDataset(found[name], items[0] if items else None)


def _with_suffix(folder: Path, suffix: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.removesuffix(".gz").endswith(f".{suffix}"))


class AtomicSource(Source):
    """Datasets of RecBole, one for each domain.

    Parameters
    ----------
    folders : Mapping[str, Path]
        By domain.
    user, item, time, rating : str
        RecBole's `USER_ID_FIELD`, `ITEM_ID_FIELD`, `TIME_FIELD` and `RATING_FIELD`; ratings are optional.
    time_unit : str, optional
        `s`, `ms` or `us` since 1970. None stands for seconds, and refuses numbers that all look like dates.

    Raises
    ------
    DataError
        For a folder that holds no such dataset, or columns that are missing or of other types.
    """

    name = "atomic"
    title = "single-domain datasets of RecBole"

    def __init__(
        self,
        folders: Mapping[str, Path],
        user: str = "user_id",
        item: str = "item_id",
        time: str = "timestamp",
        rating: str = "rating",
        time_unit: str | None = None,
    ) -> None:
        self._datasets = {domain: find_dataset(folder) for domain, folder in folders.items()}
        self._time_unit = time_unit
        self._inter_places: dict[Path, list[int]] = {}
        rated = []
        for dataset in self._datasets.values():
            types = read_types(dataset.inter)
            for column, kind in ((user, "token"), (item, "token"), (time, "float")):
                _check_column(dataset.inter, types, column, kind)
            rated.append(rating in types)
            if rating in types:
                _check_column(dataset.inter, types, rating, "float")
            columns = [user, item, time, *([rating] if rating in types else [])]
            self._inter_places[dataset.inter] = [list(types).index(column) for column in columns]
        self.has_ratings = any(rated)
        self.text_types: dict[str, str] = {}
        self._item_places: dict[Path, dict[str, int]] = {}  # of the item id under its own name, and of every column
        self._item = item
        for dataset in self._datasets.values():
            if dataset.item is not None:
                self._add_item_columns(dataset.item)

    def _add_item_columns(self, path: Path) -> None:
        types = read_types(path)
        _check_column(path, types, self._item, "token")
        self._item_places[path] = {}
        for place, (column, kind) in enumerate(types.items()):
            if column in RESERVED_COLUMNS and column != self._item:
                logging.getLogger().warning("%s: its column %s is left out; the domain is --domain's.", path, column)
                continue
            self._item_places[path][column] = place
            if column != self._item and self.text_types.setdefault(column, kind) != kind:
                raise DataError(
                    f"{path}, line 1: the column `{column}:{kind}` is of type {self.text_types[column]} in another "
                    "domain; give both one type."
                )

    def interaction_files(self, domain: str) -> Sequence[RawFile]:
        return [RawFile(self._datasets[domain].inter, domain)]

    def read_interactions(self, file: RawFile) -> Iterator[RowBatch]:
        return read_interactions(file, SEPARATOR, self._inter_places[file.path], self._time_unit)

    def item_files(self, domain: str) -> Sequence[RawFile]:
        path = self._datasets[domain].item
        return [] if path is None else [RawFile(path, domain)]

    def read_items(self, file: RawFile, wanted: Container[str]) -> Iterator[tuple[str, Sequence[str]]]:
        places = self._item_places[file.path]
        columns = list(places)
        item = columns.index(self._item)
        order = [columns.index(column) if column in places else -1 for column in self.text_types]
        numeric = [place for place, kind in zip(order, self.text_types.values(), strict=True) if kind == "float"]
        for numbers, found in read_columns(file, SEPARATOR, list(places.values())):
            for number, *cells in zip(numbers, *found, strict=True):
                cells[item] = cells[item].strip()  # as those of the interactions are
                if cells[item] not in wanted:
                    continue
                for place in numeric:
                    if place < 0:
                        continue
                    cells[place] = cells[place].strip()
                    if not _is_number(cells[place]):
                        file.report_malformed(number, f"{columns[place]} is {cells[place][:40]!r}, no number")
                        cells[place] = ""
                yield cells[item], [cells[place] if place >= 0 else "" for place in order]

    def item_types(self, items: pd.DataFrame) -> Mapping[str, str]:
        """Return the types of the datasets; a token that some item lacks becomes a sequence of tokens.

        RecBole reads an empty sequence as no token, and an empty token as a token of its own.
        """
        return {
            column: "token_seq" if kind == "token" and (items[column] == "").any() else kind
            for column, kind in self.text_types.items()
            if column in items
        }


def read_types(path: Path) -> dict[str, str]:
    """Return the type of each column of an atomic file, plain or gzip, in order; `DataError` without such a header."""
    header, _ = read_header(path, SEPARATOR)
    types = dict(cell.rpartition(":")[::2] for cell in header)
    if len(types) < len(header) or not all(COLUMN_NAME.fullmatch(n) and k in FIELD_TYPES for n, k in types.items()):
        raise DataError(
            f"{path}, line 1: expected tab-separated `name:type`, each name once, with a type of "
            f"{', '.join(FIELD_TYPES)}, found {SEPARATOR.join(header)[:80]!r}."
        )
    return types


def _check_column(path: Path, types: Mapping[str, str], column: str, kind: str) -> None:
    if types.get(column) != kind:
        found = ", ".join(f"{name}:{type_}" for name, type_ in types.items())
        raise DataError(
            f"{path}, line 1: there is no column `{column}:{kind}` among {found[:300]}; "
            "name the columns with --user-field, --item-field, --time-field and --rating-field."
        )


def _is_number(cell: str) -> bool:
    try:  # Python's float reads underscores and the digits of every script
        return not cell or (math.isfinite(float(cell)) and "_" not in cell and cell.isascii())
    except ValueError:
        return False


def add_parser(sources: argparse._SubParsersAction) -> None:
    """Add `convert atomic` to the command line."""
    parser = sources.add_parser(
        "atomic",
        help="single-domain datasets of RecBole, merged",
        description="Merge single-domain datasets of RecBole (.inter with times, .item with any columns) into one of "
        "several domains. Users of the same token in two datasets are one person.",
    )
    add_output_options(parser)
    add = parser.add_argument
    add("--domain", action="append", required=True, metavar="NAME=DIR", help="a domain and its dataset; repeat")
    for role, default in (("user", "user_id"), ("item", "item_id"), ("time", "timestamp"), ("rating", "rating")):
        add(f"--{role}-field", default=default, metavar="FIELD", help=f"RecBole's name of it (default {default})")
    add("--time-unit", choices=list(TIME_UNITS), help="unit of the times (default s)")
    add_selection_options(parser, {})
    parser.set_defaults(convert=_convert, domains=None)


def _convert(args: argparse.Namespace) -> Path:
    options, args = read_options(args, {})
    folders = paths_of_domains({**options.domains, **options.counted_domains}, "--domain", "DIR")
    for role, default in (("user", "user_id"), ("item", "item_id"), ("time", "timestamp"), ("rating", "rating")):
        if (field := getattr(args, f"{role}_field")) != default:
            options.given[f"{role}_field"] = field
    if args.time_unit is not None:
        options.given["time_unit"] = args.time_unit
    source = AtomicSource(folders, args.user_field, args.item_field, args.time_field, args.rating_field, args.time_unit)
    return convert(source, options)
