"""Moments on the command line: dates or Unix seconds, always UTC."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta

from recbole_cdsr.errors import ConfigError

_SECONDS = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# A year, a month or a day without hyphens: seconds of 1970, which nobody means.
_COMPACT_DATE = re.compile(r"((?:19|20)[0-9]{2})(0[1-9]|1[0-2])?(?(2)(0[1-9]|[12][0-9]|3[01])?)")


def parse_moment(text: str, option: str, end: bool = False) -> float:
    """Return the Unix second that an option names.

    Parameters
    ----------
    text : str
        `2016-01-31`, `2016-01-31T12:00:00` (or with a space) or Unix seconds such as `1577807999`; UTC. Whole seconds
        that read as a year, a month or a day (`2016`, `201601`, `20160131`) are refused.
    option : str
        The option, named in the error.
    end : bool
        Whether it closes a window: a date then stands for its last second, as a whole day is included.
    """
    text = text.strip()
    if compact := _COMPACT_DATE.fullmatch(text):
        year, month, day = compact.groups(default="01")
        day = min(int(day), monthrange(int(year), int(month))[1])
        raise ConfigError(
            f"{option}: {text!r} would be a second of 1970; write a date such as {year}-{month}-{day:02}, or the "
            f"second as {text}.0."
        )
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except ValueError as error:
        raise ConfigError(
            f"{option}: {text!r} is no moment; give a date such as 2016-12-31, or Unix seconds such as 1483228799."
        ) from error
    if end and _DATE.fullmatch(text):
        moment += timedelta(days=1, seconds=-1)
    return moment.timestamp()


def show_time(moment: float) -> str:
    """Return a Unix second as a date where it is one, with the clock where it has one, as seconds where neither."""
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    except (ValueError, OverflowError, OSError):
        return f"{moment:g}"
