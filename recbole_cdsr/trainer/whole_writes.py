"""A TensorBoard writer that Ctrl-C cannot stop halfway."""

from __future__ import annotations

import signal
from functools import wraps
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from recbole_cdsr.interrupts import first_interrupt_noted, interruption


class WholeWrites:
    """Hands everything on to a writer; an interrupt waits until what was called has returned.

    The writer passes events to a thread of its own through a queue. Ctrl-C in the midst of that can leave the queue so
    that the thread is never woken again, and closing the writer, as an interrupted run does, waits for ever.

    Parameters
    ----------
    writer : SummaryWriter
        As RecBole has made it.
    """

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._writer, name)
        if not callable(found):
            return found

        @wraps(found)
        def whole(*arguments: Any, **named: Any) -> Any:
            if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a job in a shell's background
                return found(*arguments, **named)
            with first_interrupt_noted() as interrupts:
                returned = found(*arguments, **named)
            if interrupts:
                raise interruption(interrupts[0])
            return returned

        return whole
