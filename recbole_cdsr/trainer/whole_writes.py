"""A TensorBoard writer that Ctrl-C cannot stop halfway, and that does not end a run where its disk is full."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from recbole_cdsr.interrupts import first_interrupt_noted, interruption


class WholeWrites:
    """Hands everything on to a writer; an interrupt waits until what was called has returned.

    The writer passes events to a thread of its own through a queue. Ctrl-C in the midst of that can leave the queue so
    that the thread is never woken again, and closing the writer, as an interrupted run does, waits for ever. Once the
    thread could not write, every call fails: training goes on without curves.

    Parameters
    ----------
    writer : SummaryWriter
        As RecBole has made it.
    """

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer
        self._failed = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._writer, name)
        if not callable(found):
            return found

        @wraps(found)
        def whole(*arguments: Any, **named: Any) -> Any:
            if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a job in a shell's background
                return self._called(found, *arguments, **named)
            with first_interrupt_noted() as interrupts:
                returned = self._called(found, *arguments, **named)
            if interrupts:
                raise interruption(interrupts[0])
            return returned

        return whole

    def _called(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        except OSError as error:
            if not self._failed:
                logging.getLogger().warning(
                    f"TensorBoard's curves in {self._writer.log_dir} cannot be written ({error.strerror}); the run "
                    "goes on without them."
                )
            self._failed = True
            return None
