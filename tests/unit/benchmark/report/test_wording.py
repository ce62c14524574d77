"""How names and numbers of a report are written."""

from __future__ import annotations

import pytest

from recbole_cdsr.benchmark.report.wording import listed


@pytest.mark.parametrize(
    ("names", "text"), [(["book"], "book"), (["book", "movie"], "book and movie"), (list("abc"), "a, b and c")]
)
def test_several_names_in_a_sentence(names: list[str], text: str) -> None:
    assert listed(names) == text
