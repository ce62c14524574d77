"""Locks across real processes: exclusive, inherited, and gone with whoever held them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recbole_cdsr.locks import abandoned, hold, is_locked, one_at_a_time, take_lock

HOLD = """
import sys, time
from pathlib import Path
from recbole_cdsr.locks import take_lock
lock = take_lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""
HOLD_FOLDER = HOLD.replace("take_lock", "hold")
# Adds a line to a file in two steps, which nobody may come between.
APPEND = """
import sys, time
from pathlib import Path
from recbole_cdsr.locks import one_at_a_time
path = Path(sys.argv[1])
for _ in range(20):
    with one_at_a_time(path.with_suffix(".lock"), "Lines"):
        text = path.read_text()
        time.sleep(0.001)
        path.write_text(text + "x")
"""


@pytest.fixture
def start():
    processes = []

    def start(code: str, path: Path) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_lock_is_exclusive_and_ends_with_its_process(tmp_path, start):
    path = tmp_path / "cell.lock"
    assert not is_locked(path)
    process = start(HOLD, path)
    assert process.stdout.readline() == "held\n"
    assert take_lock(path) is None
    assert is_locked(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not is_locked(path)
    lock = take_lock(path)
    assert is_locked(path)
    lock.release()
    assert not path.exists()


def test_a_child_that_was_given_the_lock_goes_on_holding_it(tmp_path):
    path = tmp_path / "cell.lock"
    lock = take_lock(path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock.descriptor,))
    os.close(lock.descriptor)  # as when this process is killed
    assert take_lock(path) is None
    child.communicate(b"\n")
    taken = take_lock(path)
    assert taken is not None
    taken.release()


def test_who_waits_for_a_lock_that_is_released_gets_one_that_counts(tmp_path, start):
    path = tmp_path / "lines"
    path.write_text("")
    processes = [start(APPEND, path) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert path.read_text() == "x" * 60
    assert [file.name for file in tmp_path.iterdir()] == ["lines"]


def test_who_waits_says_for_what(tmp_path, start, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "features.lock"
    process = start(HOLD, path)
    assert process.stdout.readline() == "held\n"
    os.kill(process.pid, signal.SIGSTOP)
    began = time.monotonic()
    waiter = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(0.3); os.kill({process.pid}, 9)"])
    with one_at_a_time(path, "Features items"):
        assert time.monotonic() - began > 0.2
    waiter.wait()
    assert "Features items: another process is at it" in caplog.text


def test_where_nothing_can_be_written_nobody_waits(tmp_path):
    with one_at_a_time(tmp_path / "missing" / "a.lock", "Features"):
        pass
    with pytest.raises(OSError):
        take_lock(tmp_path / "missing" / "a.lock")


def test_what_a_killed_process_held_is_abandoned_and_held_while_it_is_dealt_with(tmp_path, start):
    at_work, left, gone = (tmp_path / name for name in ("at_work", "left", "gone"))
    at_work.mkdir()
    left.mkdir()
    process = start(HOLD_FOLDER, at_work)
    assert process.stdout.readline() == "held\n"
    for path in abandoned([at_work, left, gone]):
        assert path == left
        assert hold(left) is None
    os.close(hold(left))
    process.kill()
    process.wait()
    assert list(abandoned([at_work, left, gone])) == [at_work, left]
