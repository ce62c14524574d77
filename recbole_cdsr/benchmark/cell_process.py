"""The process of one cell: `recbole-cdsr run`, which ends when the benchmark that started it does.

The benchmark holds the other end of this process's standard input. However the benchmark ends, SIGKILL included, that
end is closed, and the run is interrupted as by Ctrl-C: its last whole epoch is kept.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run `recbole-cdsr` with these arguments and return its exit code."""
    # A shell starts commands in its background with interrupts ignored, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_interrupt_with_benchmark, daemon=True).start()
    sys.argv = ["recbole-cdsr", *arguments]  # results name the command
    from recbole_cdsr.cli import main as command_line

    return command_line(arguments)


def _interrupt_with_benchmark() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
