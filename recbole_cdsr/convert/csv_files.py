"""One's own data: a file of interactions for each domain, delimited text with a header, plain or gzip.

    recbole-cdsr convert csv --name shop --domain book=books.csv --domain movie=movies.csv.gz \
        --user-col user --item-col isbn --time-col when --text-cols title author

Item text stands in the same file (`--text-cols`; the first row of an item counts) or in a file of its own (`--items
book=books_meta.csv`, by default all of its columns). Users of the same id in two files are taken for one person.
"""

from __future__ import annotations

import argparse
import logging
import math
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from recbole_cdsr.convert.delimited import SEPARATORS, read_header, read_rows
from recbole_cdsr.convert.interactions import RowBatch
from recbole_cdsr.convert.options import add_output_options, add_selection_options, parse_domains, read_options
from recbole_cdsr.convert.pipeline import Source, convert
from recbole_cdsr.convert.raw_file import RawFile
from recbole_cdsr.errors import ConfigError, DataError

TIME_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6}
RESERVED_COLUMNS = ("item_id", "domain")
_ROWS_AT_ONCE = 20_000
# Second 10^11 is in the year 5138: such times count something smaller.
_TOO_LATE = 1e11


class CsvSource(Source):
    """Delimited files, one for each domain.

    Parameters
    ----------
    files : Mapping[str, Path]
        Interactions by domain.
    user, item, time : str
        Their columns.
    rating : str, optional
        The column of ratings.
    text : Sequence[str], optional
        Columns of item text; None takes all of the files in `items` and none of other files.
    items : Mapping[str, Path], optional
        Files of item text by domain; a domain without takes it from its interactions.
    separator : str, optional
        One character; None tells it by each file's header.
    time_unit : str
        `s`, `ms` or `us` since 1970; dates may stand in the place of numbers.

    Raises
    ------
    DataError
        For a file that is missing or has not the columns, naming those it has.
    """

    name = "csv"
    title = "delimited files"

    def __init__(
        self,
        files: Mapping[str, Path],
        user: str,
        item: str,
        time: str,
        rating: str | None = None,
        text: Sequence[str] | None = None,
        items: Mapping[str, Path] | None = None,
        separator: str | None = None,
        time_unit: str = "s",
    ) -> None:
        self._files, self._separator = dict(files), separator
        self._columns = [user, item, time, *([rating] if rating else [])]
        self._item = item
        self._unit = TIME_UNITS[time_unit]
        self.has_ratings = rating is not None
        for path in files.values():
            self._places(path, self._columns)
        self._text: dict[str, tuple[Path, list[str]]] = {}  # by domain, the file of its item text and the columns
        for domain, path in {**(files if text else {}), **(items or {})}.items():
            header, _ = read_header(path, separator)
            columns = list(text) if text else [column for column in header if column != item]
            self._places(path, [item, *columns])
            self._text[domain] = path, columns
        named = dict.fromkeys(column for _, columns in self._text.values() for column in columns)
        self._names = {column: text_column_name(column) for column in named}
        if len(set(self._names.values())) < len(self._names):
            raise ConfigError(f"--text-cols: two of {', '.join(named)} would be called the same in .item; rename one.")
        self.text_types = dict.fromkeys(self._names.values(), "token_seq")

    def _places(self, path: Path, columns: Sequence[str]) -> tuple[list[int], str]:
        header, separator = read_header(path, self._separator)
        if absent := [column for column in columns if column not in header]:
            raise DataError(
                f"{path}, line 1: there is no column {absent[0]!r}; it has {', '.join(header)[:300]}. Name the columns "
                "with --user-col, --item-col, --time-col, --rating-col and --text-cols, and the separator with "
                "--separator."
            )
        return [header.index(column) for column in columns], separator

    def interaction_files(self, domain: str) -> Sequence[RawFile]:
        return [RawFile(self._files[domain], domain)]

    def read_interactions(self, file: RawFile) -> Iterator[RowBatch]:
        places, separator = self._places(file.path, self._columns)
        numbers: list[int] = []
        rows: list[list[str]] = []
        for number, cells in read_rows(file, separator, places):
            numbers.append(number)
            rows.append(cells)
            if len(rows) == _ROWS_AT_ONCE:
                yield self._batch(file, numbers, rows)
                numbers, rows = [], []
        if rows:
            yield self._batch(file, numbers, rows)

    def _batch(self, file: RawFile, numbers: list[int], rows: list[list[str]]) -> RowBatch:
        return row_batch(file, numbers, rows, self._unit)

    def item_files(self, domain: str) -> Sequence[RawFile]:
        return [RawFile(self._text[domain][0], domain)] if domain in self._text else []

    def read_items(self, file: RawFile, wanted: Container[str]) -> Iterator[tuple[str, Sequence[str]]]:
        _, columns = self._text[file.domain]
        places, separator = self._places(file.path, [self._item, *columns])
        order = {self._names[column]: place for place, column in enumerate(columns, start=1)}
        for _, cells in read_rows(file, separator, places):
            if (item := cells[0].strip()) in wanted:
                yield item, [cells[order[name]] if name in order else "" for name in self.text_types]


def row_batch(file: RawFile, numbers: Sequence[int], rows: Sequence[Sequence[str]], unit: float) -> RowBatch:
    """Return the rows that can be understood; the others are reported to `file`.

    Parameters
    ----------
    file : RawFile
        Where they come from.
    numbers : Sequence[int]
        `[n]` line numbers.
    rows : Sequence[Sequence[str]]
        `[n]` of user, item, time and, for a source with ratings, rating.
    unit : float
        What a second is worth in the numbers of the time column.
    """
    users, items, times, *ratings = (list(map(str.strip, column)) for column in zip(*rows, strict=True))
    moments = _numbers(times)
    stars = _numbers(ratings[0], missing=math.nan) if ratings else None
    if moments is None or (ratings and stars is None) or not (all(users) and all(items)):
        understood = [_row(file, number, row, unit) for number, row in zip(numbers, rows, strict=True)]
        understood = [row for row in understood if row is not None]
        columns = list(zip(*understood, strict=True)) if understood else [()] * 4
        return RowBatch(columns[0], columns[1], columns[2], columns[3] if ratings else None)
    return RowBatch(users, items, moments / unit, stars)


def parse_time(text: str, unit: float) -> float:
    """Return Unix seconds of a number in `unit`s a second or of a date (UTC); `ValueError` if it is neither."""
    try:
        if "_" in text:
            raise ValueError
        moment = float(text) / unit
    except ValueError:
        date = datetime.fromisoformat(text.replace("/", "-"))
        moment = (date.replace(tzinfo=UTC) if date.tzinfo is None else date).timestamp()
    if not math.isfinite(moment):
        raise ValueError(f"{text!r} is no moment")
    return moment


def text_column_name(column: str) -> str:
    """Return what a column of text is called in `.item`, whose names hold no spaces, colons or quotes."""
    name = re.sub(r'[\s:"]+', "_", column)
    return f"{name}_text" if name in RESERVED_COLUMNS else name


def _numbers(cells: list[str], missing: float | None = None) -> np.ndarray | None:
    """Return float64 `[n]`; None where a cell is no number. Empty cells are `missing`, if that is given."""
    if missing is not None and not all(cells):
        cells = [cell or "nan" for cell in cells]
    try:
        values = np.array(list(map(float, cells)), dtype=np.float64)
    except ValueError:
        return None
    if missing is None and not np.isfinite(values).all():
        return None
    if np.isinf(values).any() or "_" in "".join(cells):
        return None
    return values


def _row(file: RawFile, number: int, row: Sequence[str], unit: float) -> tuple[str, str, float, float] | None:
    user, item, time, *rest = (cell.strip() for cell in row)
    if not user or not item:
        file.report_malformed(number, f"the {'item' if user else 'user'} is empty")
        return None
    try:
        moment = parse_time(time, unit)
    except (ValueError, OverflowError):
        file.report_malformed(number, f"the time is {time[:40]!r}, neither a number nor a date such as 2016-12-31")
        return None
    try:
        rating = float(rest[0]) if rest and rest[0] else math.nan
        if math.isinf(rating):
            raise ValueError
    except ValueError:
        file.report_malformed(number, f"the rating is {rest[0][:40]!r}, no number")
        return None
    return user, item, moment, rating


def warn_of_late_times(last: float, option: str) -> None:
    """Log that times of the far future probably count milliseconds."""
    if last > _TOO_LATE:
        logging.getLogger().warning(
            "times reach %.0f, which is after the year 5000 if they are seconds; if they are milliseconds, give %s.",
            last,
            option,
        )


def add_parser(sources: argparse._SubParsersAction) -> None:
    """Add `convert csv` to the command line."""
    parser = sources.add_parser(
        "csv",
        help="one's own data: a delimited file for each domain",
        description="Convert delimited files with a header (CSV, TSV; plain or gzip), one for each domain, to a dataset "
        "of atomic files. Users of the same id in two files are one person.",
    )
    add_output_options(parser)
    add = parser.add_argument
    add("--domain", action="append", required=True, metavar="NAME=FILE", help="a domain and its interactions; repeat")
    add("--user-col", required=True, metavar="COLUMN", help="column of user ids")
    add("--item-col", required=True, metavar="COLUMN", help="column of item ids")
    add("--time-col", required=True, metavar="COLUMN", help="column of times: numbers (see --time-unit) or dates (UTC)")
    add("--rating-col", metavar="COLUMN", help="column of ratings")
    add("--text-cols", nargs="+", metavar="COLUMN", help="columns of item text (default: all of the files of --items)")
    add("--items", action="extend", nargs="+", metavar="NAME=FILE", help="files of item text, by --item-col")
    add("--separator", metavar="CHAR", help="a character, or comma, tab, semicolon, bar (default: told by the header)")
    add("--time-unit", choices=list(TIME_UNITS), default="s", help="unit of times that are numbers (default s)")
    add_selection_options(parser, {})
    parser.set_defaults(convert=_convert, domains=None)


def _convert(args: argparse.Namespace) -> Path:
    options, args = read_options(args, {})
    files = paths_of_domains({**options.domains, **options.counted_domains}, "--domain", "FILE")
    items = paths_of_domains(parse_domains(None, args.items, "--items"), "--items", "FILE") if args.items else {}
    if unknown := [domain for domain in items if domain not in options.domains]:
        raise ConfigError(f"--items: {unknown[0]!r} is no domain of --domain ({', '.join(options.domains)}).")
    text = [column for entry in args.text_cols for column in entry.split(",")] if args.text_cols else None
    separator = SEPARATORS.get(args.separator, args.separator)
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise ConfigError(f"--separator: {args.separator!r} is no separator; give one character.")
    source = CsvSource(
        files, args.user_col, args.item_col, args.time_col, args.rating_col, text, items, separator, args.time_unit
    )
    columns = {"user_col": args.user_col, "item_col": args.item_col, "time_col": args.time_col}
    options.given.update(columns)
    if args.rating_col:
        options.given["rating_col"] = args.rating_col
    if text:
        options.given["text_cols"] = ",".join(text)
    if items:
        options.given["items"] = ",".join(f"{domain}={path.name}" for domain, path in items.items())
    if args.time_unit != "s":
        options.given["time_unit"] = args.time_unit
    return convert(source, options)


def paths_of_domains(values: Mapping[str, str], option: str, kind: str) -> dict[str, Path]:
    """Return the path of each domain; `ConfigError` for a domain without."""
    for domain, value in values.items():
        if not value:
            raise ConfigError(f"{option}: {domain!r} has no {kind.lower()}; write {option} {domain}={kind}.")
    return {domain: Path(value) for domain, value in values.items()}
