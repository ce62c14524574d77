"""Rows of delimited text, quoted as CSV does or not at all, as people have them.

A row without quotes is split at its separators. One with quotes is read as strict CSV, over several lines if need be;
where that does not give the columns of the header, its first line is split as it stands and the quotes are text. So a
quote that nobody closed costs one row at most, and nothing after it. Blocks in which every line is a row, which most
are, are read at once.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from recbole_cdsr.convert.raw_file import RawFile
from recbole_cdsr.convert.text import decode
from recbole_cdsr.errors import DataError

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "bar": "|"}
# A quoted cell over more lines than this was never meant to be one.
MOST_LINES = 1000
# A header says where the columns are; what is longer is no header.
LONGEST_HEADER = 1 << 16


def read_header(path: Path, separator: str | None = None) -> tuple[list[str], str]:
    """Return the columns of a file, plain or gzip, and what separates them.

    Parameters
    ----------
    path : Path
        The file.
    separator : str, optional
        One character; None takes the one of `SEPARATORS` that makes most columns.

    Raises
    ------
    DataError
        For a file that is missing, empty, or has a column without name or twice.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    _, line = next(RawFile(path).lines(), (1, b""))
    if not line or len(line) > LONGEST_HEADER:
        raise DataError(f"{path}, line 1: there is no header; the first line must name the columns.")
    text = decode(line)
    if separator is None:
        separator = max(SEPARATORS.values(), key=text.count)
    columns = [cell.strip() for cell in _split(text, separator)]
    if unnamed := [place for place, column in enumerate(columns, start=1) if not column]:
        # pandas writes its index as a first column without a name
        columns = [column or f"column {place}" for place, column in enumerate(columns, start=1)]
        if len(unnamed) == len(columns):
            raise DataError(f"{path}, line 1: the header names no column.")
    if twice := [column for place, column in enumerate(columns) if column in columns[:place]]:
        raise DataError(f"{path}, line 1: the column {twice[0]!r} stands there twice; rename one of the two.")
    return columns, separator


def read_columns(
    file: RawFile, separator: str, wanted: Sequence[int]
) -> Iterator[tuple[Sequence[int], list[Sequence[str]]]]:
    """Yield line numbers and the cells of each wanted column, block by block, of every row after the header.

    Counts `file.rows` and reports rows that have not as many columns as the header.

    Parameters
    ----------
    file : RawFile
        The file.
    separator : str
        One character.
    wanted : Sequence[int]
        Places of the columns to return, in the order to return them.
    """
    lines = _Lines(file)
    header = next((line for _, line in lines if line and not line.isspace()), "")  # after blank lines, as `read_header`
    n_columns = len(_split(header, separator))
    while (block := lines.block()) is not None:
        numbers, text = block
        rows = _rows_at_once(text, separator, n_columns)
        if rows is None:
            lines.give_back(list(zip(numbers, text, strict=True)))
            numbers, rows = _rows_one_by_one(file, lines, separator, n_columns)
        file.rows += len(rows)
        columns = list(zip(*rows, strict=True)) if rows else [()] * n_columns
        yield numbers, [columns[place] for place in wanted]


class _Lines:
    """The lines of a file with their numbers; some may be given back."""

    def __init__(self, file: RawFile) -> None:
        self._blocks = file.blocks()
        self._waiting: deque[tuple[int, str]] = deque()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self

    def __next__(self) -> tuple[int, str]:
        """Return the next line, blank or not."""
        if not self._waiting:
            block = self._next_block()
            if block is None:
                raise StopIteration
            self._waiting.extend(zip(*block, strict=True))
        return self._waiting.popleft()

    def __bool__(self) -> bool:
        """Whether lines of a block that was begun are left."""
        return bool(self._waiting)

    def block(self) -> tuple[Sequence[int], list[str]] | None:
        """Return all lines at hand, or those of the next block; None at the end of the file."""
        if not self._waiting:
            return self._next_block()
        numbers, text = zip(*self._waiting, strict=True)
        self._waiting.clear()
        return numbers, list(text)

    def give_back(self, lines: Sequence[tuple[int, str]]) -> None:
        self._waiting.extendleft(reversed(lines))

    def _next_block(self) -> tuple[Sequence[int], list[str]] | None:
        if (block := next(self._blocks, None)) is None:
            return None
        text = decode(block.data).removesuffix("\n").split("\n")
        if b"\r" in block.data:
            text = [line.removesuffix("\r") for line in text]
        return range(block.number, block.number + len(text)), text


def _rows_at_once(text: list[str], separator: str, n_columns: int) -> list[list[str]] | None:
    """Return the cells of lines that are a row each; None if some are not."""
    if any('"' in line for line in text):
        try:
            rows = list(csv.reader(text, delimiter=separator, strict=True))
        except csv.Error:
            return None
    else:
        rows = [line.split(separator) for line in text]
    if len(rows) != len(text) or set(map(len, rows)) - {n_columns}:
        return None
    return rows


def _rows_one_by_one(file: RawFile, lines: _Lines, separator: str, n_columns: int) -> tuple[list[int], list[list[str]]]:
    """Return line numbers and cells of the lines at hand (a row may reach into the next block); report the others."""
    numbers, rows = [], []
    while lines:
        number, line = next(lines)
        if not line or line.isspace():
            continue
        cells = line.split(separator)
        if '"' in line:
            cells = _quoted(line, lines, separator, n_columns) or [_unquoted(cell) for cell in cells]
        if len(cells) == n_columns:
            numbers.append(number)
            rows.append(cells)
        else:
            file.rows += 1
            file.report_malformed(number, f"expected {n_columns} columns, found {len(cells)}")
    return numbers, rows


def _quoted(line: str, lines: _Lines, separator: str, n_columns: int) -> list[str] | None:
    """Return the cells of the strict CSV row that begins with `line`; None if it is none, then no line is used up."""
    used: list[tuple[int, str]] = []

    def following() -> Iterator[str]:
        yield line + "\n"
        while len(used) < MOST_LINES:
            try:
                used.append(next(lines))
            except StopIteration:
                return
            yield used[-1][1] + "\n"

    try:
        cells = next(csv.reader(following(), delimiter=separator, strict=True))
    except csv.Error:  # a quote in the wrong place, or one that nothing closes
        cells = []
    if len(cells) == n_columns:
        return cells
    lines.give_back(used)
    return None


def _split(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, strict=True))
    except (csv.Error, StopIteration):
        return [_unquoted(cell) for cell in line.split(separator)]


def _unquoted(cell: str) -> str:
    inside = cell[1:-1]
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inside.replace('""', ""):
        return inside.replace('""', '"')
    return cell
