"""A file in pieces: complete or not there, and gone on with by the command that began it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.recommend.continued_file import ContinuedFile


def write(path: Path, pieces: int, of: str = "command", fail_after: int | None = None) -> int:
    """Write what is missing of some pieces; the number of the first one written. `fail_after` are in the file."""
    file = ContinuedFile(path, of)
    with file.opened():
        begin = file.done
        for piece in range(begin, pieces):
            if piece == fail_after:
                raise KeyboardInterrupt
            file.write(f"piece {piece} of {of}, é\n", piece + 1)
    return begin


def content(pieces: int, of: str = "command") -> str:
    return "".join(f"piece {piece} of {of}, é\n" for piece in range(pieces))


def test_nothing_but_the_file_is_left(tmp_path: Path) -> None:
    assert write(tmp_path / "out", 3) == 0
    assert (tmp_path / "out").read_text(encoding="utf-8") == content(3)
    assert os.listdir(tmp_path) == ["out"]


def test_the_same_command_goes_on(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("former", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", 5, fail_after=3)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "former"
    assert write(tmp_path / "out", 5) == 3
    assert (tmp_path / "out").read_text(encoding="utf-8") == content(5)
    assert os.listdir(tmp_path) == ["out"]


def test_another_command_begins_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", 5, fail_after=3)
    assert write(tmp_path / "out", 2, of="other") == 0
    assert (tmp_path / "out").read_text(encoding="utf-8") == content(2, "other")


def test_what_came_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", 5, fail_after=0)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("record", ["", "{}", "[]", "not JSON", '{"of": "command", "done": 1, "bytes": 10000}'])
def test_a_record_that_says_nothing_true_is_not_believed(tmp_path: Path, record: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", 5, fail_after=3)
    (tmp_path / ".out.part.json").write_text(record, encoding="utf-8")
    assert write(tmp_path / "out", 4) == 0
    assert (tmp_path / "out").read_text(encoding="utf-8") == content(4)


@pytest.mark.parametrize("place", ["between pieces", "behind the text of a piece", "within the text of a piece"])
def test_a_killed_process_loses_no_whole_piece(tmp_path: Path, place: str) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
from recbole_cdsr.recommend.continued_file import ContinuedFile
kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
file = ContinuedFile(Path(sys.argv[1]), "command")
with file.opened():
    for piece in range(5):
        text = f"piece {{piece}} of command, é\\n"
        if piece == 3:
            if {place!r} == "within the text of a piece":
                text = text[:7]
            if {place!r} != "between pieces":
                file._stream.write(text.encode("utf-8"))
                file._to_disk()
            kill()
        file.write(text, piece + 1)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], timeout=120, check=False)
    assert killed.returncode == -9
    assert json.loads((tmp_path / ".out.part.json").read_text(encoding="utf-8"))["done"] == 3
    assert not (tmp_path / "out").exists()
    assert write(tmp_path / "out", 5) == 3
    assert (tmp_path / "out").read_text(encoding="utf-8") == content(5)


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    with ContinuedFile(tmp_path / "out", "command").opened() as first:
        first.write(content(1), 1)
        with pytest.raises(ConfigError, match="Another process is writing"):
            write(tmp_path / "out", 3)
        first.write("the last piece\n", 2)
    assert (tmp_path / "out").read_text(encoding="utf-8") == content(1) + "the last piece\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_keeps_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_on_a_full_disk(tmp_path / "out")
    assert write(tmp_path / "out", 2) == 1
    assert (tmp_path / "out").read_text(encoding="utf-8") == content(2)


def write_on_a_full_disk(path: Path) -> None:
    """The disk has room for one piece."""
    with ContinuedFile(path, "command").opened() as file, Path("/dev/full").open("wb", buffering=0) as full:
        file.write(content(1), 1)
        file._stream = full
        file.write("more", 2)
