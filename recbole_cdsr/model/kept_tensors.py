"""Tensors that are costly to make and wanted again, kept up to so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields
from threading import Lock
from typing import Any, TypeVar

Made = TypeVar("Made")


class KeptTensors:
    """Dataclasses of tensors by key; when they are too large together, those used longest ago are dropped.

    Parameters
    ----------
    most_bytes : int
        Of all tensors together. What was asked for last is kept whatever its size.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()  # by key, what was used last at the end
        self._lock = Lock()  # autograd runs backward passes in threads of its own
        self.n_bytes = 0

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is kept under the key, else what `make` gives."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        made = make()
        # Of a view all that it keeps in memory.
        size = sum(getattr(made, field.name).untyped_storage().nbytes() for field in fields(made))
        with self._lock:
            if key not in self._kept:  # two threads may have made the same
                self._kept[key] = made, size
                self.n_bytes += size
            while self.n_bytes > self._most_bytes and len(self._kept) > 1:
                self.n_bytes -= self._kept.popitem(last=False)[1][1]
        return made
