"""When a run ends because it is the service that fails, not the requests."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

from recbole_cdsr.llm.response_cache import CacheEntry

# So many calls in a row, and none answered in between: it is the service, not the requests.
_HOPELESS = 10


def length_of(entry: CacheEntry) -> int:
    """Characters of what is asked."""
    content: Any = entry.content
    return len(content) if isinstance(content, str) else sum(len(message["content"]) for message in content)


class Patience:
    """Counts what fails in a row.

    A call that was tried in vain says something of the service, and says it once, however many requests are in it. A
    request that is refused, such as a prompt that is too long, says something of itself; but where all are refused and
    nothing was ever answered, the shortest ones are tried, and when these are refused as well, it is not their length.

    Parameters
    ----------
    requests : sequence of CacheEntry
        All that are to be asked.
    batch_size : int
        The most of them in one call.

    Attributes
    ----------
    shortest : set of str
        Keys of the shortest requests, those that were given up left out.
    """

    def __init__(self, requests: Sequence[CacheEntry], batch_size: int = 1) -> None:
        # One request that spoils every call it is in fails once for each halving before it stands alone.
        self._hopeless = _HOPELESS + (batch_size - 1).bit_length()
        self._in_vain = self._refused = 0
        self._answered = False
        self._last_refusal = ""
        self._judges = True
        self.shortest = {entry.key for entry in heapq.nsmallest(_HOPELESS, requests, key=length_of)}

    @property
    def in_doubt(self) -> bool:
        """Whether all was refused so far, and more than a few, so that the shortest have to tell why."""
        return not self._answered and self._refused >= _HOPELESS and self._judges

    def judge_by(self, keys: Iterable[str]) -> None:
        """Of the shortest requests other runs ask some: these are the ones that this run asks, if any."""
        self.shortest = set(keys)
        self._judges = bool(self.shortest)

    def note(
        self,
        answered: bool,
        in_vain: Sequence[str] = (),
        refused: Sequence[str] = (),
        given_up: Iterable[str] = (),
    ) -> str | None:
        """Take in what came of some calls; a sentence's beginning when the run had better end.

        Parameters
        ----------
        answered
            Whether any request was answered.
        in_vain
            Why calls failed at every attempt.
        refused
            Why requests, or several in one call, will never be answered.
        given_up
            Keys of requests that will not be tried again.
        """
        self._answered = self._answered or answered
        self._in_vain = 0 if answered else self._in_vain + len(in_vain)
        self._refused += len(refused)
        self._last_refusal = refused[-1] if refused else self._last_refusal
        self.shortest.difference_update(given_up)
        if self._in_vain >= self._hopeless and in_vain:
            return f"{self._in_vain} requests in a row were given up ({in_vain[-1]})"
        if self.in_doubt and not self.shortest:
            return (
                f"{self._refused} requests were refused and none was answered, not even the shortest ones, "
                f"({self._last_refusal})"
            )
        return None
