"""Moments on the command line: dates or Unix seconds, always UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from recbole_cdsr.errors import ConfigError

_SECONDS = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_moment(text: str, option: str, end: bool = False) -> float:
    """Return the Unix second that an option names.

    Parameters
    ----------
    text : str
        `2016-01-31`, `2016-01-31T12:00:00` (or with a space) or Unix seconds such as `1577807999`; UTC.
    option : str
        The option, named in the error.
    end : bool
        Whether it closes a window: a date then stands for its last second, as a whole day is included.
    """
    text = text.strip()
    # A bare number is seconds; ISO's compact dates (20160131) are not read, they would be taken for seconds.
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
