from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_cdsr.data.atomic import (
    check_dataset_name,
    check_domain_name,
    read_header,
    read_item_text,
    write_atomic,
)
from recbole_cdsr.errors import ConfigError, DataError

TYPES = {"item_id": "token", "domain": "token", "title": "token_seq", "description": "token_seq"}
AWKWARD = [
    "plain", "", " ", "  two  spaces  ", "tab\tinside", "line\nbreak", "carriage\rreturn", "dos\r\nbreak",
    'a 5" pan', '"', '""', '"quoted"', '"unclosed', "it's", "back\\slash", '\\"', "#hash", "a,b;c|d",
    "emoji 😀👩‍👩‍👧", "中文 书名", "עברית", "\u2028separator", "\x85next line", "\x0bvertical", "\x1cfile",
    "\ufeffmark",    "NA", "None", "nan", "null", "1e5", "007",
]  # fmt: skip


def frame_of(texts: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": [f"book:{index}" for index in range(len(texts))],
            "domain": "book",
            "title": texts,
            "description": texts[::-1],
        }
    )


def read_as_recbole(path: Path) -> pd.DataFrame:
    """Read as RecBole's `Dataset._load_feat` does, up to its empty cells, which it fills with ""."""
    with path.open(encoding="utf-8") as stream:
        header = stream.readline()[:-1].split("\t")
    frame = pd.read_csv(
        path,
        delimiter="\t",
        usecols=header,
        dtype=dict.fromkeys(header, str),
        encoding="utf-8",
        engine="python",
    )
    frame.columns = [name.split(":")[0] for name in header]
    return frame


def test_text_survives_our_reader(tmp_path: Path) -> None:
    frame = frame_of(AWKWARD)
    write_atomic(tmp_path / "x.item", frame, TYPES)
    pd.testing.assert_frame_equal(read_item_text(tmp_path, "x"), frame.astype(object))
    assert os.listdir(tmp_path) == ["x.item"]


def test_text_survives_recboles_reader(tmp_path: Path) -> None:
    frame = frame_of(AWKWARD)
    write_atomic(tmp_path / "x.item", frame, TYPES)
    theirs = read_as_recbole(tmp_path / "x.item")
    assert list(theirs["item_id"]) == list(frame["item_id"])
    # pandas takes these words for missing values, which RecBole fills with "": no writer can help that.
    expected = frame["title"].where(~frame["title"].isin(["", "NA", "None", "nan", "null"]), "")
    assert list(theirs["title"].fillna("")) == list(expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_any_text_survives_both_readers(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("any")
    write_atomic(folder / "x.item", frame_of(texts), TYPES)
    assert list(read_item_text(folder, "x")["title"]) == texts
    theirs = read_as_recbole(folder / "x.item")["title"]
    kept = theirs.notna().to_numpy()  # pandas takes some words for missing values
    assert [text for text, read in zip(texts, kept, strict=True) if read] == list(theirs[kept])


def test_only_cells_that_need_it_are_quoted(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x.item", frame_of(["a b", 'c"d', "e\tf"]), TYPES)
    assert (tmp_path / "x.item").read_bytes() == (
        b"item_id:token\tdomain:token\ttitle:token_seq\tdescription:token_seq\n"
        b'book:0\tbook\ta b\t"e\tf"\n'
        b'book:1\tbook\t"c""d"\t"c""d"\n'
        b'book:2\tbook\t"e\tf"\ta b\n'
    )


def test_numbers_lose_nothing(tmp_path: Path) -> None:
    values = [
        1451606400.0,
        0.1 + 0.2,
        np.nan,
        -3.0,
        1e-300,
        2.0**53 + 2,
        1.7976931348623157e308,
        -0.5,
        12345678901.25,
    ]
    frame = pd.DataFrame({"user_id": range(len(values)), "timestamp": values})
    write_atomic(tmp_path / "x.inter", frame, {"user_id": "token", "timestamp": "float"})
    lines = (tmp_path / "x.inter").read_text().splitlines()
    assert lines[:5] == [
        "user_id:token\ttimestamp:float",
        "0\t1451606400",
        "1\t0.30000000000000004",
        "2\t",
        "3\t-3",
    ]
    back = pd.read_csv(tmp_path / "x.inter", sep="\t", float_precision="round_trip")["timestamp:float"]
    np.testing.assert_array_equal(back, values)


def test_large_integers_and_nullable_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["a", "b"],
            "big": np.array([2**53 + 1, -(2**62) - 1]),
            "gap": pd.array([7, None], dtype="Int64"),
            "tags": ["x y", None],
        },
        index=[5, 5],  # rows are written in order, whatever their labels
    )
    types = {"user_id": "token", "big": "float", "gap": "float", "tags": "token_seq"}
    write_atomic(tmp_path / "x.inter", frame, types)
    assert (tmp_path / "x.inter").read_text().splitlines()[1:] == [
        "a\t9007199254740993\t7\tx y",
        "b\t-4611686018427387905\t\t",
    ]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("item_id", "", "item_id of row 2 is empty"),
        ("item_id", None, "item_id of row 2 is empty"),
        ("title", "a\0b", "title of row 2 holds a NUL"),
        ("title", "x" * 200_000, "title of row 2 is longer"),
        ("title", "half \ud83d", "half a character"),
    ],
)
def test_what_no_reader_gives_back_is_refused(tmp_path: Path, column: str, value: object, message: str) -> None:
    frame = frame_of(["a", "b"]).astype(object)
    frame.loc[1, column] = value
    with pytest.raises(DataError, match=message):
        write_atomic(tmp_path / "x.item", frame, TYPES)
    assert not os.listdir(tmp_path)


def test_infinite_numbers_and_bad_names_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": ["a", "b"], "t": [1.0, np.inf], "a:b": ["x", "y"]})
    with pytest.raises(DataError, match="t of row 2 is infinite"):
        write_atomic(tmp_path / "x.inter", frame, {"user_id": "token", "t": "float"})
    with pytest.raises(DataError, match="'a:b' cannot be named so"):
        write_atomic(tmp_path / "x.inter", frame, {"user_id": "token", "a:b": "token"})
    with pytest.raises(DataError, match="cannot be written"):
        write_atomic(tmp_path / "nowhere" / "x.inter", frame, {"user_id": "token"})


def test_chosen_columns(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x.item", frame_of(["a"]), TYPES)
    assert list(read_item_text(tmp_path, "x", ["title"]).columns) == ["item_id", "domain", "title"]
    assert list(read_item_text(tmp_path, "x", ["domain"]).columns) == ["item_id", "domain"]
    assert read_header(tmp_path / "x.item") == TYPES
    with pytest.raises(DataError, match=r"x\.item: there is no column 'price'; it has item_id, domain, title"):
        read_item_text(tmp_path, "x", ["price"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("item_id\tdomain\n1\tbook\n", "line 1: expected tab-separated"),
        ("", "line 1: expected tab-separated"),
        ("item_id:token,domain:token\n", "line 1: expected tab-separated"),
        ("domain:token\ttitle:token_seq\nbook\ta\n", "no column `item_id:token`"),
        ('item_id:token\ttitle:token_seq\n1\t"open\n2\tb\n', r"quotes or newlines must be quoted"),
        ("item_id:token\ttitle:token_seq\n1\ta\n2\tb\tc\td\n", r"line 3"),
        ("item_id:token\ttitle:token_seq\n1\ta\n1\tb\n", "item '1' stands there twice"),
    ],
)
def test_broken_item_file_is_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.item").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_item_text(tmp_path, "x")
    assert str(tmp_path / "x.item") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_short_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.item: no such file"):
        read_item_text(tmp_path, "x")
    (tmp_path / "x.item").write_text("item_id:token\ttitle:token_seq\tprice:float\n1\ta\n2\tb\t3.50\n")
    frame = read_item_text(tmp_path, "x")
    assert frame.to_dict("list") == {"item_id": ["1", "2"], "title": ["a", "b"], "price": ["", "3.50"]}


def test_names() -> None:
    assert check_domain_name("home-and_kitchen2") == "home-and_kitchen2"
    for bad in ("Book", "a b", "", "a/b", "book\n", "書"):
        with pytest.raises(ConfigError, match="cannot name a domain"):
            check_domain_name(bad)
    for word in ("nan", "null"):  # its items would have no domain when they are loaded
        with pytest.raises(ConfigError, match="missing cell"):
            check_domain_name(word)
    with pytest.raises(DataError, match=r"x\.item, line 3: 'A B'"):
        check_domain_name("A B", "x.item, line 3", DataError)
    assert check_dataset_name("Food-Kitchen.v2") == "Food-Kitchen.v2"
    for bad in ("", ".hidden", "..", "a/b", "-x", "a\n"):
        with pytest.raises(ConfigError, match="cannot name a dataset"):
            check_dataset_name(bad)
