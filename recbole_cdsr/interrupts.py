"""Ctrl-C and SIGTERM that are noted, not raised, where they could come between an answer and its place on the disk."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def first_interrupt_noted() -> Iterator[list[int]]:
    """A list that Ctrl-C and SIGTERM add their signal numbers to; a second one interrupts at once.

    Outside the main thread it stays empty. A SIGTERM for which somebody else has a handler is theirs.
    """
    interrupts: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return

    def note(number: int, frame: Any) -> None:
        if interrupts:
            raise interruption(number)
        interrupts.append(number)

    ours = [signal.SIGINT]
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        ours.append(signal.SIGTERM)
    before = [(number, signal.signal(number, note)) for number in ours]
    try:
        yield interrupts
    finally:
        for number, handler in before:
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # None: set outside Python


def interruption(number: int) -> BaseException:
    """What a signal that was noted becomes: the end of the process, with its files closed and the usual exit code."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
