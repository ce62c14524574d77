"""The format of a file of recommendations; what stands in it is tested in `tests/integration/test_recommend.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.recommend.command import format_of


@pytest.mark.parametrize(
    ("kind", "output", "expected"),
    [
        (None, None, "table"),
        ("jsonl", None, "jsonl"),
        (None, "r.JSONL", "jsonl"),
        (None, "r.tsv", "tsv"),
        (None, "r.txt", "table"),
        (None, "r", "table"),
        ("tsv", "r.csv", "tsv"),
    ],
)
def test_a_format_is_asked_for_or_told_by_the_files_name(kind: str | None, output: str | None, expected: str) -> None:
    assert format_of(kind, output and Path(output)) == expected


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl.gz", "r.parquet"])
def test_a_name_that_promises_another_format_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--output {name}: write \.jsonl, \.tsv or \.txt \(a table\), or say"):
        format_of(None, Path(name))
