"""When a run ends because it is the service that fails, not the requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from recbole_cdsr.llm.response_cache import CacheEntry, GivenUp

# So many calls in a row, and none answered in between: it is the service, not the requests.
_HOPELESS = 10


def length_of(entry: CacheEntry) -> int:
    """Characters of what is asked."""
    content: Any = entry.content
    return len(content) if isinstance(content, str) else sum(len(message["content"]) for message in content)


class Patience:
    """Counts what is given up in a row.

    A call that was tried in vain says something of the service, and says it once, however many requests are in it. A
    request that is refused, such as a prompt that is too long, says something of itself; but where all are refused and
    nothing was ever answered, the shortest ones are tried, and when these are refused as well, it is not their length.

    Parameters
    ----------
    batch_size : int
        The most requests in one call.

    Attributes
    ----------
    refused : int
        Requests that were refused while nothing was answered.
    """

    def __init__(self, batch_size: int = 1) -> None:
        # One request that spoils every call it is in fails once for each halving before it stands alone.
        self._hopeless = _HOPELESS + (batch_size - 1).bit_length()
        self._in_vain = 0
        self.refused = 0
        self._answered = False
        self._probes: set[str] | None = None

    def note(self, answered: bool, in_vain: int, refused: Sequence[GivenUp]) -> str | None:
        """Take in what came of some requests; a sentence's beginning when the run had better end.

        Parameters
        ----------
        answered
            Whether any request was answered.
        in_vain
            Calls that failed at every attempt.
        refused
            That will never be answered.
        """
        self._answered = self._answered or answered
        self._in_vain = 0 if answered else self._in_vain + in_vain
        self.refused += len(refused)
        if self._in_vain >= self._hopeless:
            return f"{self._in_vain} requests in a row were given up"
        if self._probes is not None and not self._answered:
            self._probes -= {entry.key for entry in refused}
            if not self._probes:
                return f"{self.refused} requests were refused and none was answered, not even the shortest ones,"
        return None

    def shortest_first(self, pending: deque[CacheEntry]) -> None:
        """Move some of the shortest requests to the front when only refusals have come so far; once."""
        if self._answered or self._probes is not None or self.refused < _HOPELESS or not pending:
            return
        probes = sorted(pending, key=length_of)[:_HOPELESS]
        self._probes = {entry.key for entry in probes}
        rest = [entry for entry in pending if entry.key not in self._probes]
        pending.clear()
        pending.extend([*probes, *rest])
