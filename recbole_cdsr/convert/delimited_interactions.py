"""Interactions out of delimited text: user, item, time and rating, each row checked by itself."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import numpy as np

from recbole_cdsr.convert.delimited import read_columns
from recbole_cdsr.convert.interactions import RowBatch
from recbole_cdsr.convert.raw_file import RawFile
from recbole_cdsr.convert.text import are_ids, fault_in_ids
from recbole_cdsr.data.atomic import MISSING_WORDS
from recbole_cdsr.errors import DataError

TIME_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6}
# Second 10^11 is in the year 5138: such times count something smaller.
_TOO_LATE = 1e11
# A rating that is none: what RecBole reads as missing, and the word of MySQL's exports.
_NO_RATING = MISSING_WORDS | {"", r"\N"}


def read_interactions(
    file: RawFile, separator: str, places: Sequence[int], time_unit: str | None = None
) -> Iterator[RowBatch]:
    """Yield the interactions of a delimited file with a header, in file order.

    Parameters
    ----------
    file : RawFile
        The file; malformed rows are reported to it.
    separator : str
        One character.
    places : Sequence[int]
        Where user, item, time and, if there is one, rating stand in a row.
    time_unit : str, optional
        What times that are numbers count, see `TIME_UNITS`; dates are read as well (UTC). None stands for seconds, and
        for nobody having said so.

    Raises
    ------
    DataError
        At the end of a file whose times all look like calendar dates without hyphens, where nobody said what they are.
    """
    unit = TIME_UNITS[time_unit or "s"]
    latest = -math.inf
    first: float | None = None  # of the times, as long as all of them look like compact dates
    only_dates = time_unit is None
    for numbers, columns in read_columns(file, separator, places):
        batch = row_batch(file, numbers, columns, unit)
        latest = max(latest, float(np.max(batch.times, initial=latest)))
        if only_dates and len(batch.times):
            first = float(batch.times[0]) if first is None else first
            only_dates = bool(_are_compact_dates(np.asarray(batch.times, dtype=np.float64)).all())
        yield batch
    if only_dates and first is not None:
        raise DataError(
            f"{file.path}: every time is a calendar date without hyphens, the first is {first:.0f}, and would be read "
            f"as a second of 1970; write dates as {_with_hyphens(first)}, or give --time-unit s if they are seconds."
        )
    if latest > _TOO_LATE:
        logging.getLogger().warning(
            "%s: times reach second %.0f, thousands of years from now; if they are milliseconds, give --time-unit ms.",
            file.path.name,
            latest,
        )


def _are_compact_dates(times: np.ndarray) -> np.ndarray:
    """Return bool `[n]`: which numbers read as a day of 1900 to 2099 written as `20160131`."""
    years, days = np.divmod(times, 10_000)
    months, days = np.divmod(days, 100)
    found = (years >= 1900) & (years < 2100) & (months >= 1) & (months <= 12)
    return found & (days >= 1) & (days <= 31) & (days == np.floor(days))


def _with_hyphens(time: float) -> str:
    digits = f"{time:.0f}"
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"


def row_batch(file: RawFile, numbers: Sequence[int], columns: Sequence[Sequence[str]], unit: float) -> RowBatch:
    """Return the rows that can be understood; the others are reported to `file`.

    Parameters
    ----------
    file : RawFile
        Where they come from.
    numbers : Sequence[int]
        `[n]` line numbers.
    columns : Sequence[Sequence[str]]
        `[n]` each: users, items, times and, for a source with ratings, ratings.
    unit : float
        What a second is worth in the numbers of the time column.
    """
    users, items, times, *ratings = (list(map(str.strip, column)) for column in columns)
    moments = _numbers(times)
    stars = _numbers(ratings[0], missing=math.nan) if ratings else None
    if moments is not None and (stars is not None or not ratings) and are_ids(users) and are_ids(items):
        return RowBatch(users, items, moments / unit, stars)
    rows = zip(users, items, times, *ratings, strict=True)
    understood = [_row(file, number, row, unit) for number, row in zip(numbers, rows, strict=True)]
    kept = [row for row in understood if row is not None]
    users, items, moments, stars = (list(column) for column in zip(*kept, strict=True)) if kept else ([], [], [], [])
    return RowBatch(users, items, moments, stars if ratings else None)


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


def _numbers(cells: list[str], missing: float | None = None) -> np.ndarray | None:
    """Return float64 `[n]`; None where a cell is no number. Cells without a rating are `missing`, if that is given."""
    if missing is not None and not _NO_RATING.isdisjoint(cells):
        cells = ["nan" if cell in _NO_RATING else cell for cell in cells]
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
    user, item, time, *rest = row
    if fault := fault_in_ids(user, item):
        file.report_malformed(number, fault)
        return None
    try:
        moment = parse_time(time, unit)
    except (ValueError, OverflowError):
        file.report_malformed(number, f"the time is {time[:40]!r}, neither a number nor a date such as 2016-12-31")
        return None
    try:
        rating = float(rest[0]) if rest and rest[0] not in _NO_RATING else math.nan
        if math.isinf(rating):
            raise ValueError
    except ValueError:
        file.report_malformed(number, f"the rating is {rest[0][:40]!r}, no number")
        return None
    return user, item, moment, rating
