"""Ctrl-C that is noted, not raised, where it could come between an answer's arrival and its place on the disk."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def first_interrupt_noted() -> Iterator[list[int]]:
    """A list that Ctrl-C adds to; a second Ctrl-C interrupts as usual. Outside the main thread it stays empty."""
    interrupts: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return

    def note(number: int, frame: Any) -> None:
        if interrupts:
            raise KeyboardInterrupt
        interrupts.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)  # None: set outside Python
