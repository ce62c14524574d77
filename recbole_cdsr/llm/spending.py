"""What the steps of one command have spent together: `llm_max_cost` bounds the command, not each of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Spending:
    """Money, in the currency of the prices.

    Attributes
    ----------
    spent : float
        On all answers so far.
    """

    spent: float = 0.0


_open: ContextVar[Spending | None] = ContextVar("spending", default=None)


@contextmanager
def spent_together() -> Iterator[Spending]:
    """Whatever is asked in here draws on one budget; within another of these, on that one's. Also a decorator."""
    outer = _open.get()
    if outer is not None:
        yield outer
        return
    token = _open.set(Spending())
    try:
        yield current_spending()
    finally:
        _open.reset(token)


def current_spending() -> Spending:
    """That of the command that is going on; a new one where none is."""
    spending = _open.get()
    return Spending() if spending is None else spending
