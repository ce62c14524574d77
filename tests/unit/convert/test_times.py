"""Dates and seconds on the command line."""

from __future__ import annotations

import pytest

from recbole_cdsr.convert.times import parse_moment, show_time
from recbole_cdsr.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "end", "second"),
    [
        ("2016-01-01", False, 1451606400),
        ("2016-01-01", True, 1451606400 + 86399),
        ("2016-12-31", True, 1483228799),
        ("2016-01-01T00:00:05", True, 1451606405),
        ("2016-01-01 08:00:00+08:00", False, 1451606400),
        ("1514736001", False, 1514736001),
        ("1514736001", True, 1514736001),
        (" -5 ", False, -5),
        ("2016.0", False, 2016),
        ("20161301", False, 20161301),
        ("201601011", False, 201601011),
    ],
)
def test_moments(text: str, end: bool, second: float) -> None:
    assert parse_moment(text, "--from", end) == second


@pytest.mark.parametrize("text", ["", "yesterday", "2016-13-01", "2016-02-30", "1e9", "nan", "01.02.2016"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--to: .* is no moment; give a date"):
        parse_moment(text, "--to")


@pytest.mark.parametrize(
    ("text", "date"),
    [("2018", "2018-01-01"), ("201612", "2016-12-01"), ("20160131", "2016-01-31"), ("20160230", "2016-02-29")],
)
def test_a_date_without_hyphens_is_not_taken_for_a_second(text: str, date: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_moment(text, "--from")
    assert str(refused.value) == (
        f"--from: '{text}' would be a second of 1970; write a date such as {date}, or the second as {text}.0."
    )


def test_moments_are_shown_as_dates() -> None:
    assert show_time(1451606400) == "2016-01-01T00:00:00"
    assert show_time(1e18) == "1e+18"
