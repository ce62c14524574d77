"""Whether a process that left a mark somewhere is still there, as far as that can be told from here."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class ProcessMark:
    """What tells a process from every other.

    Attributes
    ----------
    host
        Its machine, and on Linux the space in which its process id counts.
    pid
        Its id there.
    started
        When it was started, in seconds since 1970; ids are given again.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def of_this_process(cls) -> ProcessMark:
        """The mark of the process that calls."""
        return cls(_host(), os.getpid(), psutil.Process().create_time())

    def runs_here(self) -> bool | None:
        """Whether the process is running; None where it is another machine's, which cannot be looked at."""
        if self.host != _host():
            return None
        try:
            process = psutil.Process(self.pid)
            # A killed process stays as a zombie until whoever started it takes note.
            return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - self.started) < 2.0
        except psutil.AccessDenied:
            return True
        except psutil.NoSuchProcess:
            return False


def _host() -> str:
    try:
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()
