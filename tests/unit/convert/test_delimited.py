from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_cdsr.convert import delimited
from recbole_cdsr.convert.delimited import read_columns, read_header
from recbole_cdsr.convert.raw_file import RawFile
from recbole_cdsr.errors import DataError


def rows(path: Path, separator: str = ",", wanted: tuple[int, ...] = (0, 1, 2)) -> tuple[list, RawFile]:
    file = RawFile(path)
    batches = list(read_columns(file, separator, wanted))
    found = [
        (number, list(cells)) for numbers, columns in batches for number, *cells in zip(numbers, *columns, strict=True)
    ]
    return found, file


def test_a_quote_nobody_closed_costs_its_own_row_at_most(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"\xef\xbb\xbfa,b,c\r\n"
        b'1,"x, ""y""\nz",2\n'
        b'2,"never closed,3\n'
        b"\n"
        b'3,Pan 5" wide,4\n'
        b'4,"too","many","cells"\n'
        b"5,caf\xe9,\xe8\x8c\xb6\n"
        b'6,"end",'
    )
    found, file = rows(path)
    assert found == [
        (2, ["1", 'x, "y"\nz', "2"]),
        (4, ["2", '"never closed', "3"]),
        (6, ["3", 'Pan 5" wide', "4"]),
        (8, ["5", "café", "茶"]),
        (9, ["6", "end", ""]),
    ]
    assert (file.rows, file.malformed) == (6, 1)
    assert file.malformed_lines == [(7, "expected 3 columns, found 4")]


def test_a_cell_over_too_many_lines_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "MOST_LINES", 3)
    path = tmp_path / "a.csv"
    path.write_text('a,b,c\n1,"2\n\n3",4\n5,"6\n7,8,9\n1,2,3\n4,5,6\n7,8,9\n8,8,8",8\n', encoding="utf-8")
    found, file = rows(path)
    assert [number for number, _ in found] == [2, 6, 7, 8, 9]
    assert [number for number, _ in file.malformed_lines] == [5, 10]


def test_rows_that_reach_into_the_next_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n" + "".join(f'{n},"x\n{n}",{n}\n{n},plain,{n}\n' for n in range(50)), encoding="utf-8")
    at_once, _ = rows(path)
    blocks = RawFile.blocks
    monkeypatch.setattr(RawFile, "blocks", lambda file: blocks(file, 16))
    in_pieces, file = rows(path)
    assert in_pieces == at_once
    assert [cells[1] for _, cells in at_once] == [cell for n in range(50) for cell in (f"x\n{n}", "plain")]
    assert (file.rows, file.malformed) == (100, 0)


CELLS = st.text(st.sampled_from('ab,"\n é'), max_size=6)


@settings(max_examples=150, deadline=None)
@given(table=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=8), packed=st.booleans())
def test_whatever_csv_writes_is_read_back(tmp_path_factory, table: list[tuple[str, ...]], packed: bool) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["a", "b", "c"])
    writer.writerows(table)
    content = stream.getvalue().encode("utf-8")
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(gzip.compress(content) if packed else content)
    found, file = rows(path)
    assert [tuple(cells) for _, cells in found] == table
    assert file.malformed == 0


@pytest.mark.parametrize(("text", "expected"), [
    ("a;b;c\n", (["a", "b", "c"], ";")),
    ("a,b\tc d\te\n", (["a,b", "c d", "e"], "\t")),
    ('"a, b",c\n', (["a, b", "c"], ",")),
    (",c\n0,1\n", (["column 1", "c"], ",")),
])  # fmt: skip
def test_headers(tmp_path: Path, text: str, expected: tuple[list[str], str]) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    assert read_header(tmp_path / "a.csv") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "there is no header"), ("a,b,a\n", "the column 'a' stands there twice"), (",,\n", "names no column")],
)
def test_headers_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=rf"a\.csv, line 1: .*{message}"):
        read_header(tmp_path / "a.csv")
    with pytest.raises(DataError, match="no such file"):
        read_header(tmp_path / "b.csv")
