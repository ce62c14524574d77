"""Seconds and memory of a piece of work, as every benchmark here measures them."""

from __future__ import annotations

import resource
from time import perf_counter, process_time


class Stopwatch:
    """Wall-clock and processor seconds of the block under it: `wall` and `processor`, all threads together."""

    def __enter__(self) -> Stopwatch:
        self.wall = self.processor = 0.0
        self._begun = perf_counter(), process_time()
        return self

    def __exit__(self, *exception: object) -> None:
        self.wall, self.processor = perf_counter() - self._begun[0], process_time() - self._begun[1]


def peak_mib() -> float:
    """Largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
