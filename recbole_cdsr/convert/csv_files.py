"""One's own data: a file of interactions for each domain, delimited text with a header, plain or gzip.

    recbole-cdsr convert csv --name shop --domain book=books.csv --domain movie=movies.csv.gz \
        --user-col user --item-col isbn --time-col when --text-cols title author

Item text stands in the same file (`--text-cols`; the first row of an item counts) or in a file of its own (`--items
book=books_meta.csv`, by default all of its columns). Users of the same id in two files are taken for one person.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

from recbole_cdsr.convert.delimited import SEPARATORS, read_columns, read_header
from recbole_cdsr.convert.delimited_interactions import TIME_UNITS, read_interactions
from recbole_cdsr.convert.interactions import RowBatch
from recbole_cdsr.convert.options import add_output_options, add_selection_options, parse_domains, read_options
from recbole_cdsr.convert.pipeline import Source, convert
from recbole_cdsr.convert.raw_file import RawFile
from recbole_cdsr.errors import ConfigError, DataError

RESERVED_COLUMNS = ("item_id", "domain")


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
    time_unit : str, optional
        `s`, `ms` or `us` since 1970; dates may stand in the place of numbers. None stands for seconds, and refuses
        numbers that all look like dates.

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
        time_unit: str | None = None,
    ) -> None:
        self._files, self._separator = dict(files), separator
        self._columns = [user, item, time, *([rating] if rating else [])]
        self._item = item
        self._time_unit = time_unit
        self.has_ratings = rating is not None
        for path in files.values():
            self._places(path, self._columns)
        self._text: dict[str, tuple[Path, list[str]]] = {}  # by domain, the file of its item text and the columns
        for domain, path in {**(files if text else {}), **(items or {})}.items():
            header, _ = read_header(path, separator)
            columns = [column for column in text or header if column in header and column != item]
            self._places(path, [item, *columns])
            self._text[domain] = path, columns
        for column in text or ():
            if not any(column in columns for _, columns in self._text.values()):
                raise DataError(
                    f"--text-cols: no file has a column {column!r} ({', '.join(sorted(map(str, files.values())))})."
                )
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
        return read_interactions(file, separator, places, self._time_unit)

    def item_files(self, domain: str) -> Sequence[RawFile]:
        return [RawFile(self._text[domain][0], domain)] if domain in self._text else []

    def read_items(self, file: RawFile, wanted: Container[str]) -> Iterator[tuple[str, Sequence[str]]]:
        _, columns = self._text[file.domain]
        places, separator = self._places(file.path, [self._item, *columns])
        order = {self._names[column]: place for place, column in enumerate(columns, start=1)}
        for _, found in read_columns(file, separator, places):
            for cells in zip(*found, strict=True):
                if (item := cells[0].strip()) in wanted:
                    yield item, [cells[order[name]] if name in order else "" for name in self.text_types]


def text_column_name(column: str) -> str:
    """Return what a column of text is called in `.item`, whose names hold no spaces, colons or quotes."""
    name = re.sub(r'[\s:"]+', "_", column)
    return f"{name}_text" if name in RESERVED_COLUMNS else name


def add_parser(sources: argparse._SubParsersAction) -> None:
    """Add `convert csv` to the command line."""
    parser = sources.add_parser(
        "csv",
        help="one's own data: a delimited file for each domain",
        description="Convert delimited files with a header (CSV, TSV; plain or gzip), one for each domain, to a "
        "dataset of atomic files. Users of the same id in two files are one person.",
    )
    add_output_options(parser)
    add = parser.add_argument
    add("--domain", action="append", required=True, metavar="NAME=FILE", help="a domain and its interactions; repeat")
    add("--user-col", required=True, metavar="COLUMN", help="column of user ids")
    add("--item-col", required=True, metavar="COLUMN", help="column of item ids")
    add("--time-col", required=True, metavar="COLUMN", help="column of times: numbers (see --time-unit) or dates (UTC)")
    add("--rating-col", metavar="COLUMN", help="column of ratings")
    add(
        "--text-cols",
        action="extend",
        nargs="+",
        metavar="COLUMN",
        help="columns of item text (default: all of the files of --items)",
    )
    add("--items", action="extend", nargs="+", metavar="NAME=FILE", help="files of item text, by --item-col")
    add("--separator", metavar="CHAR", help="a character, or comma, tab, semicolon, bar (default: told by the header)")
    add("--time-unit", choices=list(TIME_UNITS), help="unit of times that are numbers (default s)")
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
    if args.time_unit is not None:
        options.given["time_unit"] = args.time_unit
    return convert(source, options)


def paths_of_domains(values: Mapping[str, str], option: str, kind: str) -> dict[str, Path]:
    """Return the path of each domain; `ConfigError` for a domain without."""
    for domain, value in values.items():
        if not value:
            raise ConfigError(f"{option}: {domain!r} has no {kind.lower()}; write {option} {domain}={kind}.")
    return {domain: Path(value) for domain, value in values.items()}
