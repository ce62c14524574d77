"""The files of C2DSR's layout: lists of items, and sequences whose items carry their times."""

from __future__ import annotations

import csv
import logging
import re

import numpy as np

from recbole_cdsr.convert.raw_file import RawFile
from recbole_cdsr.convert.release import Sequences, report_faults
from recbole_cdsr.convert.text import decode
from recbole_cdsr.errors import DataError

# More may follow the time after another bar, such as a readable date.
_EVENT = re.compile(r" *([0-9]{1,18}) *\| *([0-9]{1,18}(?:\.[0-9]+)?) *(?:\|.*)?")


def read_item_list(file: RawFile, offset: int) -> list[str]:
    """Return the asins of a domain by their index.

    Parameters
    ----------
    file : RawFile
        `Alist.txt` or `Blist.txt`, in either layout.
    offset : int
        Items of the domain before; the list may count it in or not.

    Raises
    ------
    DataError
        Naming the line.
    """
    asins: dict[int, str] = {}
    seen: set[str] = set()
    places: tuple[int, int] | None = None  # of asin and index
    separator = "\t"
    for number, raw in file.lines():
        line = decode(raw)
        where = f"{file.path}, line {number}"
        if places is None and {"asin", "asin_index"} <= set(header := next(csv.reader([line]))):
            separator, places = ",", (header.index("asin"), header.index("asin_index"))
            continue
        cells = [cell.strip() for cell in line.split(separator)]
        places = places or ((len(cells) - 2, len(cells) - 1) if len(cells) in (2, 3) else None)
        if places is None or len(cells) <= max(places):
            raise DataError(
                f"{where}: expected id<TAB>asin<TAB>index, or a header asin,asin_index, found {line[:80]!r}."
            )
        asin, index = cells[places[0]], cells[places[1]]
        if not re.fullmatch(r"\S+", asin) or not re.fullmatch("[0-9]{1,18}", index):
            raise DataError(f"{where}: expected an asin and an index, found {asin[:40]!r} and {index[:40]!r}.")
        if asin in seen or int(index) in asins:
            raise DataError(f"{where}: the asin {asin!r} or the index {index} stands there a second time.")
        seen.add(asin)
        asins[int(index)] = asin
        file.rows += 1
    if not asins:
        raise DataError(f"{file.path}: lists no items.")
    first = min(asins)
    if first not in (0, offset) or max(asins) - first != len(asins) - 1:
        raise DataError(
            f"{file.path}: the indices of its {len(asins):,} items should be 0 to {len(asins) - 1:,}"
            + (f", or {offset:,} to {offset + len(asins) - 1:,}" if offset else "")
            + f", but are from {first:,} to {max(asins):,}."
        )
    return [asins[index] for index in range(first, first + len(asins))]


def read_lines(file: RawFile, n_items: int, shortest: int) -> Sequences:
    """Return a file's lines in order of time, users as the file names them; malformed ones are reported to it.

    Parameters
    ----------
    file : RawFile
        One of the three files.
    n_items : int
        Items of both domains.
    shortest : int
        Fewest items of a line.
    """
    users: list[str] = []
    line_numbers: list[int] = []
    lengths: list[int] = []
    items: list[int] = []
    times: list[float] = []
    faults: dict[int, str] = {}
    for number, raw in file.lines():
        file.rows += 1
        cells = decode(raw).rstrip().split("\t")
        first = next((place for place, cell in enumerate(cells) if "|" in cell), len(cells))
        events = [_EVENT.fullmatch(cell) for cell in cells[first:]]
        if not first or not cells[0].strip():
            faults[number] = "the user is missing"
        elif not all(events):
            odd = cells[first + events.index(None)]
            faults[number] = f"expected item|time, found {odd[:80]!r}"
        elif len(events) < shortest:
            faults[number] = f"user {cells[0]!r} has {len(events)} item|time, at least {shortest} are needed"
        elif outside := [event[1] for event in events if int(event[1]) >= n_items]:
            faults[number] = f"item {outside[0]} is out of range: by Alist and Blist the items are 0 to {n_items - 1}"
        else:
            users.append(cells[0].strip())
            line_numbers.append(number)
            lengths.append(len(events))
            items += [int(event[1]) for event in events]
            times += [float(event[2]) for event in events]
    report_faults(file, faults)
    counts = np.array(lengths, dtype=np.int64)  # [U]
    owners = np.repeat(np.arange(len(counts)), counts)  # [N]
    moments = np.array(times, dtype=np.float64)  # [N]
    order = np.lexsort((moments, owners))
    if moved := len(np.unique(owners[order != np.arange(len(order))])):
        first = line_numbers[int(owners[order != np.arange(len(order))][0])]
        logging.getLogger().warning(
            "%s: %d lines are not in order of time and are sorted, as the release's own code does; the first is line "
            "%d.",
            file.path,
            moved,
            first,
        )
    names = np.array([*users, None], dtype=object)[:-1]
    return Sequences(names, counts, np.array(items, dtype=np.int64)[order], moments[order])
