"""Why the process of a cell failed, in one sentence."""

from __future__ import annotations

import re
import signal

from recbole_cdsr.memory import OUT_OF_MEMORY

USERS_MISTAKE = 2  # exit code

_LONGEST = 500
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MISTAKE = "recbole-cdsr: "


def reason_of_failure(exit_code: int, log: str) -> str:
    """Say why a run failed.

    Parameters
    ----------
    exit_code
        Of its process; negative for the signal that ended it.
    log
        What the process wrote.

    Returns
    -------
    str
        One sentence: the run's own for exit code 2; else the signal, or the last line that was written.
    """
    lines = [line.strip() for line in _COLOUR.sub("", log).splitlines() if line.strip()]
    last = lines[-1] if lines else "nothing was written"
    own = [line.removeprefix(_MISTAKE) for line in lines if line.startswith(_MISTAKE)]
    memory = next((line for line in reversed(_at_the_end(lines, exit_code)) if OUT_OF_MEMORY.search(line)), None)
    if exit_code == USERS_MISTAKE and own:
        reason = own[-1]
    elif memory is not None:
        reason = f"Out of memory: {memory}"
    elif exit_code < 0:
        reason = f"Killed by {_name(-exit_code)}"
        if -exit_code == signal.SIGKILL:
            reason += ", as the system does when memory runs out"
    elif exit_code == 0:
        reason = "It ended without a result"
    elif exit_code == 130:
        reason = "Its process was interrupted (SIGINT) by somebody else than the benchmark"
    else:
        reason = f"It ended with exit code {exit_code}: {last}"
    if len(reason) > _LONGEST:
        reason = f"{reason[: _LONGEST - 1]}…"
    return reason if reason[-1] in ".…!?" else f"{reason}."


def _at_the_end(lines: list[str], exit_code: int) -> list[str]:
    """The lines that may say that memory ran out: of a Python error its last traceback, else all."""
    starts = [place for place, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    return lines[starts[-1] :] if starts and exit_code > 0 else lines


def _name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"
