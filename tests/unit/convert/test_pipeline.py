"""The whole path, from files to files, against a plain version of it."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import raw_amazon
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_cdsr import cli
from recbole_cdsr.data.card import load_card

Event = tuple[str, str, float, int]
EVENT = st.tuples(
    st.integers(0, 5).map(lambda n: f"U{n * 7 % 12}"),
    st.integers(0, 5).map(lambda n: f"B{n * 5 % 11}"),
    st.integers(1, 5).map(float),
    st.integers(100, 110),
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "--from": st.integers(100, 110),
        "--min-rating": st.integers(1, 4),
        "--dedup": st.sampled_from(["first", "last"]),
        "--min-user": st.integers(1, 3),
        "--min-item": st.integers(1, 3),
        "--overlap-only": st.just(""),
    },
)


def plainly(files: dict[str, list[Event]], options: dict) -> str | None:
    """Return the `.inter` file that is expected, None where nothing is left of a domain."""
    rows = [
        (user, f"{domain}:{item}", rating, second)
        for domain, some in files.items()
        for user, item, rating, second in some
    ]
    rows = [row for row in rows if row[3] >= options.get("--from", 0) and row[2] >= options.get("--min-rating", 0)]
    rows.sort(key=lambda row: (row[0], row[3]))  # stable: the order of the source breaks ties
    if (dedup := options.get("--dedup")) is not None:
        seen: dict[tuple[str, str], Event] = {}
        for row in rows if dedup == "first" else reversed(rows):
            seen.setdefault(row[:2], row)
        rows = list(seen.values()) if dedup == "first" else list(reversed(seen.values()))
    while True:
        users, items = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
        kept = [
            row
            for row in rows
            if users[row[0]] >= options.get("--min-user", 1) and items[row[1]] >= options.get("--min-item", 1)
        ]
        if len(kept) == len(rows):
            break
        rows = kept
    if "--overlap-only" in options:
        domains = {(user, item.partition(":")[0]) for user, item, _, _ in rows}
        rows = [row for row in rows if sum((row[0], domain) in domains for domain in files) > 1]
    if any(not any(row[1].startswith(f"{domain}:") for row in rows) for domain in files):
        return None
    return raw_amazon.HEADER + "".join(
        f"{user}\t{item}\t{math.floor(rating)}\t{second}\n" for user, item, rating, second in rows
    )


@settings(max_examples=80, deadline=None)
@given(st.lists(EVENT, max_size=25), st.lists(EVENT, max_size=25), OPTIONS)
def test_conversion_is_the_plain_one(
    tmp_path_factory: pytest.TempPathFactory, cloth: list[Event], sport: list[Event], options: dict
) -> None:
    folder = tmp_path_factory.mktemp("generated")
    files = {"cloth": cloth, "sport": sport}
    for category, rows in zip(raw_amazon.FILES, files.values(), strict=True):
        raw_amazon.write(folder / f"{category}.json", [raw_amazon.review("2018", *row) for row in rows], packed=False)
    given_options = [str(part) for pair in options.items() for part in pair if part != ""]
    arguments = ["--raw", str(folder), "--name", "a", "--out", str(folder / "out"), "--domains", "cloth,sport"]
    code = cli.main(["convert", "amazon", *arguments, "--without-text", *given_options])
    expected = plainly(files, options)
    if expected is None:
        assert code == 2
        assert not list(folder.glob("out/*"))
    else:
        assert code == 0
        assert (folder / "out" / "a" / "a.inter").read_text(encoding="utf-8") == expected
        events = [
            (user, item, second) for user, item, _, second in (line.split("\t") for line in expected.split("\n")[1:-1])
        ]
        repeats = len(events) - len(set(events))
        said = f"{repeats:,} of {len(events):,} interactions repeat another of the same user, item and time"
        card = load_card(folder / "out" / "a", "a")
        assert card is not None
        assert [sentence.startswith(said) for sentence in card.filters if "repeat" in sentence] == [True] * bool(
            repeats
        )


def test_repeated_rows_are_kept_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("u", "a", 5.0, 9), ("u", "b", 5.0, 9), ("u", "a", 1.0, 9), ("u", "a", 5.0, 9), ("u", "a", 5.0, 8)]
    for category in raw_amazon.FILES:
        raw_amazon.write(tmp_path / f"{category}.json", [raw_amazon.review("2018", *row) for row in rows])
    arguments = ["--raw", tmp_path, "--name", "a", "--out", tmp_path / "out", "--domains", "cloth,sport"]
    assert cli.main(["convert", "amazon", *map(str, arguments), "--without-text"]) == 0
    sentence = (
        "4 of 10 interactions repeat another of the same user, item and time, and are kept (--dedup keeps one "
        "interaction of a user with an item)"
    )
    assert sentence in caplog.text
    assert f"filter       {sentence}" in capsys.readouterr().out
    caplog.clear()
    assert cli.main(["convert", "amazon", *map(str, arguments), "--without-text", "--dedup", "last"]) == 0
    assert "repeat" not in caplog.text
