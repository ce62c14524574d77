"""Reasons of failures, from real processes that fail in these ways."""

from __future__ import annotations

import subprocess
import sys

import pytest

from recbole_cdsr.benchmark.failures import reason_of_failure


def reason_of(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return reason_of_failure(done.returncode, done.stdout)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import sys; print('epoch 0'); print('recbole-cdsr: The loss became nan; try less.'); sys.exit(2)",
            "The loss became nan; try less.",
        ),
        (
            "import os; os.kill(os.getpid(), 9)",
            "Killed by SIGKILL (signal 9), as the system does when memory runs out.",
        ),
        ("import os; os.kill(os.getpid(), 15)", "Killed by SIGTERM (signal 15)."),
        ("raise MemoryError('too much')", "Out of memory: MemoryError: too much."),
        (
            "import sys; print('torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB'); sys.exit(1)",
            "Out of memory: torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB.",
        ),
        (
            "print('cache allocator: out of memory, retrying'); raise ValueError('bad')",
            "It ended with exit code 1: ValueError: bad.",
        ),
        ("print('\\x1b[1;31mstart\\x1b[0m'); 1 / 0", "It ended with exit code 1: ZeroDivisionError: division by zero."),
        ("raise SystemExit(3)", "It ended with exit code 3: nothing was written."),
        ("pass", "It ended without a result."),
    ],
)
def test_the_reason_is_one_sentence(code, reason):
    assert reason_of(code) == reason


def test_a_long_reason_is_cut():
    assert len(reason_of_failure(1, "x" * 5000)) == 500
