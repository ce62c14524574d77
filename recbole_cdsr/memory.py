"""How libraries say that there is no memory left, in their errors and in a log of them."""

from __future__ import annotations

import re

OUT_OF_MEMORY = re.compile(
    r"OutOfMemoryError|\bMemoryError\b|out of memory|can't allocate memory|std::bad_alloc|"
    r"[Ss]torage size calculation overflowed"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: PyTorch's are RuntimeErrors, on a processor without a type of own."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}") is not None
    )
