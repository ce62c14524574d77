"""Raw files as blocks of lines, hashed and counted in one pass."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from recbole_cdsr.convert import raw_file
from recbole_cdsr.convert.raw_file import RawFile, find_raw_file
from recbole_cdsr.errors import DataError

LINES = b"\xef\xbb\xbfone\r\n\n  \ntwo\twith tab\n\xff\xfe not UTF-8\nlast without end"
EXPECTED = [(1, b"one"), (4, b"two\twith tab"), (5, b"\xff\xfe not UTF-8"), (6, b"last without end")]


@pytest.mark.parametrize("size", [3, 4, 7, 1 << 20])
@pytest.mark.parametrize("kind", ["plain", "gzip", "two gzip members", "gzip named plainly"])
def test_lines_and_their_numbers_do_not_depend_on_blocks_or_packing(tmp_path: Path, kind: str, size: int) -> None:
    path = tmp_path / ("a.txt" if kind in ("plain", "gzip named plainly") else "a.txt.gz")
    content = LINES
    if kind == "two gzip members":
        content = gzip.compress(LINES[:20]) + gzip.compress(LINES[20:])
    elif kind != "plain":
        content = gzip.compress(LINES)
    path.write_bytes(content)
    file = RawFile(path)
    blocks = list(file.blocks(size))
    assert [line for block in blocks for line in block.lines()] == EXPECTED
    assert [block.n_lines for block in blocks] == [
        block.data.count(b"\n") + (not block.data.endswith(b"\n")) for block in blocks
    ]
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert file.size == len(content)


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", gzip.compress(b"")])
def test_an_empty_file_has_no_lines(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    file = RawFile(tmp_path / "a")
    assert list(file.lines()) == []
    assert file.sha256 == hashlib.sha256(content).hexdigest()


def packed() -> bytes:
    return gzip.compress(b"".join(b"%d some text\n" % number for number in range(20_000)), mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packed()[:-5], r"a\.gz: the gzip file is cut short; download it again"),
        (packed()[: len(packed()) // 2], r"a\.gz: the gzip file is cut short"),
        (packed()[:15], r"a\.gz: the gzip file is cut short"),
        (packed()[:2000] + b"\0" * 50 + packed()[2050:], r"a\.gz: the gzip file is damaged"),
        (packed()[:-8] + b"\1\2\3\4" + packed()[-4:], r"a\.gz: the gzip file is damaged"),
        (b"\x1f\x8b but no gzip at all", r"a\.gz: the gzip file is"),
    ],
    ids=["no end", "half", "header only", "damaged inside", "wrong checksum", "no gzip"],
)
def test_a_broken_gzip_file_is_said_to_be_so(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(RawFile(tmp_path / "a.gz").blocks())
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(RawFile(tmp_path).blocks())


def test_a_file_without_lines_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_file, "LONGEST_LINE", 1 << 20)
    (tmp_path / "a").write_bytes(b"first\n" + b"x" * (3 << 20))
    with pytest.raises(DataError, match=r"a, line 2: longer than 1 MiB"):
        list(RawFile(tmp_path / "a").blocks(1 << 18))


def test_the_first_malformed_rows_are_described(tmp_path: Path) -> None:
    file = RawFile(tmp_path / "a.txt", rows=100)
    for number in range(10, 20):
        file.report_malformed(number, f"fault {number}")
    described = file.describe()
    assert described["rows"] == 100
    assert described["malformed"] == 10
    assert described["malformed_lines"] == [f"{number}: fault {number}" for number in range(10, 15)]
    assert "tmp" not in described["name"]


def test_a_file_whose_beginning_is_all_malformed_is_given_up(tmp_path: Path) -> None:
    file = RawFile(tmp_path / "a.txt")

    def read(file: RawFile) -> None:
        for number in range(2, 5000):
            file.rows += 1
            file.report_malformed(number, f"not {number}")

    with pytest.raises(DataError, match=r"first 1,000 rows are all malformed \(line 2: not 2\)"):
        read(file)
    assert file.rows == 1000
    one_good = RawFile(tmp_path / "a.txt", rows=1)
    read(one_good)
    assert one_good.malformed == 4998


def test_a_missing_file_is_named_with_its_published_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no a\.json or b\.csv \(plain or \.gz\); it is published as X of Y"):
        find_raw_file(tmp_path, ["a.json", "b.csv"], "X of Y")
    with pytest.raises(DataError, match="no such folder"):
        find_raw_file(tmp_path / "nowhere", ["a.json"], "X")
    (tmp_path / "b.csv.gz").write_bytes(b"")
    assert find_raw_file(tmp_path, ["a.json", "b.csv"], "X") == tmp_path / "b.csv.gz"
    (tmp_path / "a.json.gz").write_bytes(b"")
    assert find_raw_file(tmp_path, ["a.json", "b.csv"], "X") == tmp_path / "a.json.gz"
