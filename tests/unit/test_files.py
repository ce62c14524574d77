"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from recbole_cdsr.files import replacing


@pytest.mark.parametrize("shared", [False, True])
def test_the_former_content_stays_until_the_new_one_is_complete(tmp_path: Path, shared: bool):
    path = tmp_path / "a.json"
    path.write_text("former", encoding="utf-8")
    with replacing(path, shared) as part:
        part.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "former"
    assert path.read_text(encoding="utf-8") == "new"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_everything_as_it_was(tmp_path: Path, interruption: type[BaseException]):
    path = tmp_path / "a.json"
    path.write_text("former", encoding="utf-8")

    def write() -> None:
        with replacing(path) as part:
            part.write_text("half of the n", encoding="utf-8")
            raise interruption

    with pytest.raises(interruption):
        write()
    assert path.read_text(encoding="utf-8") == "former"
    assert os.listdir(tmp_path) == ["a.json"]


def test_what_a_killed_writer_left_is_overwritten(tmp_path: Path):
    (tmp_path / "a.json.part").write_text("what is left of a longer one", encoding="utf-8")
    with replacing(tmp_path / "a.json") as part:
        assert part.read_bytes() == b""
        part.write_text("new", encoding="utf-8")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_two_writers_of_a_shared_file_do_not_meet(tmp_path: Path):
    path = tmp_path / "a.json"
    with replacing(path, shared=True) as one, replacing(path, shared=True) as other:
        other.write_text("of the other", encoding="utf-8")
        one.write_text("of the one", encoding="utf-8")
        assert other.read_text(encoding="utf-8") == "of the other"
    assert path.read_text(encoding="utf-8") == "of the one"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.filterwarnings("ignore:This process")
def test_what_killed_writers_of_a_shared_file_left_is_removed(tmp_path: Path):
    for _ in range(2):
        if (child := os.fork()) == 0:
            with replacing(tmp_path / "a.json", shared=True) as part:
                part.write_text("half of the n", encoding="utf-8")
                os.kill(os.getpid(), signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert len(os.listdir(tmp_path)) == 1
    with replacing(tmp_path / "a.json", shared=True) as part:
        part.write_text("new", encoding="utf-8")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_link_stays_and_its_file_is_written(tmp_path: Path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "there" / "a.json")
    with replacing(tmp_path / "link.json") as part:
        part.write_text("new", encoding="utf-8")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "there" / "a.json").read_text(encoding="utf-8") == "new"
    assert os.listdir(tmp_path / "there") == ["a.json"]


def test_a_pipe_stays_a_pipe(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"), replacing(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


def test_the_users_mask_decides_who_may_read_it(tmp_path: Path):
    with replacing(tmp_path / "a.json") as part:
        part.unlink()
        part.touch(mode=0o600)
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_is_not_there_is_the_callers_to_explain(tmp_path: Path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "a.json"):
        pass
