"""Whose turn it is at a service that answers some requests and turns others away until later."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOOK_SECONDS = 0.2


class Turns:
    """What the threads of a run know of each other's calls.

    A request that a rate limit turns away has done nothing wrong as long as the service answers others: it waits for
    its turn. Only when nobody is answered any more, and nobody is left who might be, there is no use in waiting.

    Attributes
    ----------
    answered : int
        Calls that were answered so far.
    """

    def __init__(self) -> None:
        self.answered = 0
        self._changed = threading.Condition()
        self._trying = 0  # calls that may be answered without waiting for another one
        self._standstills = 0

    @contextmanager
    def trying(self) -> Iterator[None]:
        """While a thread has a call to make, however often it tries."""
        with self._changed:
            self._trying += 1
        try:
            yield
        finally:
            with self._changed:
                self._one_less()

    def note_answer(self) -> None:
        """A call was answered."""
        with self._changed:
            self.answered += 1
            self._changed.notify_all()

    def another_is_answered(self, since: int, stopped: threading.Event) -> bool:
        """Wait until more than `since` calls are answered; False when those that are left all wait here, or at a stop.

        To be called within `trying`.
        """
        with self._changed:
            standstills = self._standstills
            self._one_less()
            while self.answered <= since and self._standstills == standstills and not stopped.is_set():
                self._changed.wait(_LOOK_SECONDS)
            self._trying += 1
            return self.answered > since

    def _one_less(self) -> None:
        self._trying -= 1
        if not self._trying:  # nobody is left to wait for: all who wait hear of it at once
            self._standstills += 1
            self._changed.notify_all()
