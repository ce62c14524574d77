"""Tab-separated, quoted files whose free text holds stray tabs, quotes and newlines, read line by line.

A CSV reader loses its place at the first quote that nobody doubled: it swallows rows until the next one. Here a row is
known by its other cells. Whatever stands between the columns left and right of the one column of free text is that
column's text, over several lines if need be; a line that begins as a row does begins a row, so that what is broken
costs itself and nothing after it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

# A cell in quotes or without; quotes inside it are text. Atomic, so that no row is tried in more than one way.
_CELL = r'(?> *"[^\t\n]*" *(?=\t|\Z)|(?! *")[^\t\n]*)'
# Longer than this, a row that is not complete yet never will be.
MOST_LINES, MOST_CHARACTERS = 1000, 1_000_000


class QuotedTable:
    """The rows of one file.

    Parameters
    ----------
    header : Sequence[str]
        The columns, in file order.
    wanted : Sequence[str]
        The columns to return.
    patterns : Mapping[str, str]
        What the cells of a column hold inside their quotes, as a regular expression without groups; a row with
        anything else there is broken. Cells of other columns hold any text; tabs and newlines only in a row whose
        quotes are all as CSV has them.
    free_text : str, optional
        The column whose cells may hold tabs, quotes and newlines.
    """

    def __init__(
        self, header: Sequence[str], wanted: Sequence[str], patterns: Mapping[str, str], free_text: str | None = None
    ) -> None:
        free = header.index(free_text) if free_text is not None else len(header)
        self.places = [header.index(column) for column in wanted]
        self.checks = {header.index(column): re.compile(pattern) for column, pattern in patterns.items()}
        self.header = list(header)
        self.n_columns, self.n_after = len(header), max(0, len(header) - 1 - free)
        self._ends_in_free_text = free == len(header) - 1
        cells = []
        for place, column in enumerate(header):
            if place == free:
                cells.append("(?s:.*)")
            elif column in patterns:
                cells.append(f' *(?:"(?:{patterns[column]})"|(?:{patterns[column]})) *')
            else:
                cells.append(_CELL)
        # The checked columns left of the free text tell where a row begins.
        left = [place for place in self.checks if place < free]
        self._begins = re.compile("\t".join(cells[: max(left) + 1]) + "\t").match if left else None
        self._matches = re.compile(
            "\t".join(f"({cell})" if place in self.places else cell for place, cell in enumerate(cells))
        ).fullmatch
        # A match returns the wanted cells in file order.
        self._order = [sorted(set(self.places)).index(place) for place in self.places]

    def rows(self, lines: Iterable[str]) -> Iterator[tuple[int, list[str] | str]]:
        """Yield the line number and the wanted cells of each row; in place of the cells of a broken one, its fault.

        Parameters
        ----------
        lines : Iterable[str]
            The lines after the header, the first of them line 2, with or without the newline at their end.
        """
        pending: list[str] = []  # the lines of a row that is not complete yet
        size = first = 0
        for number, line in enumerate(lines, start=2):
            line = line.rstrip("\r\n")
            cells = self._whole(line)
            completed = self._completed(pending, line)
            if completed is not None and cells is None:
                # Asked first: the end of a row may look like a beginning, where a comment broke between two quotes.
                yield first, completed
                pending = []
            elif self._is_beginning(line, pending) or (cells is not None and (not pending or self._begins is None)):
                if pending:
                    yield first, self._as_it_stands(pending)
                    pending = []
                if cells is not None:
                    yield number, cells
                else:
                    pending, first, size = [line], number, len(line)
            elif completed is not None:
                yield first, completed
                pending = []
            elif pending:
                pending.append(line)
                size += len(line)
                if len(pending) > MOST_LINES or size > MOST_CHARACTERS:
                    yield first, self._as_it_stands(pending)
                    pending = []
            elif line.strip(" "):  # tabs alone are a row that holds nothing
                if self._begins is None:
                    pending, first, size = [line], number, len(line)
                else:
                    yield number, self._fault([line])
        if pending:
            yield first, self._as_it_stands(pending)

    def _completed(self, pending: list[str], line: str) -> list[str] | None:
        """Return the wanted cells of the row that `line` completes, None if it completes none."""
        if not pending or line.count("\t") < self.n_after:
            return None
        return self._whole("\n".join([*pending, line]))

    def _whole(self, text: str) -> list[str] | None:
        """Return the wanted cells of a row; None if `text` is none, or its last cell goes on in the next line."""
        if self._ends_in_free_text and self._begins is not None:
            last = text.split("\t", self.n_columns - 1)[-1].lstrip(" ")
            if last.startswith('"') and last.count('"') % 2:
                return None
        return self._cells(text)

    def _as_it_stands(self, pending: list[str]) -> list[str] | str:
        """Return the cells of a row that nothing completed, if only a quote is open at its end; else its fault."""
        cells = self._cells("\n".join(pending)) if self._ends_in_free_text else None
        return self._fault(pending) if cells is None else cells

    def _is_beginning(self, line: str, pending: list[str]) -> bool:
        """Tell whether a row begins here; within a row of quoted cells, text without quotes begins none."""
        if self._begins is None or not self._begins(line):
            return False
        return not pending or line.lstrip(" ").startswith('"') or not pending[0].lstrip(" ").startswith('"')

    def _cells(self, text: str) -> list[str] | None:
        """Return the wanted cells of a whole row, or None if `text` is none."""
        if match := self._matches(text):
            groups = match.groups()
            return [unquoted(groups[place]) for place in self._order]
        if '"' not in text or text.count("\t") < self.n_columns - 1:
            return None
        # Tabs in another column are no harm where all quotes are as they should be.
        try:
            cells = next(csv.reader([text], delimiter="\t", strict=True))
        except (csv.Error, StopIteration):
            return None
        if len(cells) != self.n_columns:
            return None
        if any(not check.fullmatch(cells[place].strip()) for place, check in self.checks.items()):
            return None
        return [cells[place] for place in self.places]

    def _fault(self, lines: list[str]) -> str:
        """Say in a few words why `lines` are no row."""
        cells = "\n".join(lines).split("\t")
        if len(cells) < self.n_columns:
            return f"{len(cells)} of {self.n_columns} columns"
        for place, check in self.checks.items():
            from_the_end = place - self.n_columns if place >= self.n_columns - self.n_after else place
            cell = unquoted(cells[from_the_end])
            if not check.fullmatch(cell):
                return f"{self.header[place]} is {cell[:40]!r}"
        return "its quotes do not fit its columns"


def unquoted(cell: str) -> str:
    """Return what a cell holds: without its quotes, doubled and escaped ones inside it made single."""
    cell = cell.strip(" ")
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        cell = cell[1:-1]
        if '"' in cell:
            cell = cell.replace('\\"', '"').replace('""', '"')
    return cell
