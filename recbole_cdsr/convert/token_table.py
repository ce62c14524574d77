"""Strings as numbers, in the memory of their bytes.

A dictionary of a million ids of 14 characters takes 126 bytes for each, and a cache miss or three for each row. Ids are
short, so they are kept here as rows of 8-byte words, in a hash table of 4-byte slots that is probed for a whole batch
at a time: 34 bytes for each of the same million.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Bytes of an id in each of the fixed-width tables; longer ones are kept as Python strings.
_WIDTHS = (16, 32)
_FIRST_SLOTS = 1 << 12
_REHASHED_AT_ONCE = 1 << 18
# Odd multipliers, a word's place in the id choosing its own.
_MULTIPLIERS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], dtype=np.uint64
)
_FINISH = np.uint64(0xFF51AFD7ED558CCD)
_HALF = np.uint64(32)


class TokenTable:
    """Numbers strings 0, 1, 2, …; the numbers depend on nothing but the sequence of calls."""

    def __init__(self) -> None:
        self._tables = [_FixedWidthTable(width) for width in _WIDTHS]
        self._long: dict[str, int] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def codes(self, tokens: Sequence[str]) -> np.ndarray:
        """Return int32 `[n]`: the number of each token; new tokens get new numbers."""
        codes = np.empty(len(tokens), dtype=np.int32)
        if not len(tokens):
            return codes
        joined = "".join(tokens)
        if joined.isascii() and "\0" not in joined:
            longest = max(map(len, tokens))
            if longest <= _WIDTHS[0]:
                return self._fixed(0, np.array(tokens, dtype=f"S{_WIDTHS[0]}"))
            encoded: Sequence[str] | list[bytes] = tokens
            lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
        else:
            encoded = [token.encode("utf-8", "surrogatepass") for token in tokens]
            lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(tokens))
            # A fixed width is padded with NUL: ids with a NUL of their own are kept apart.
            lengths[[place for place, token in enumerate(encoded) if b"\0" in token]] = _WIDTHS[-1] + 1
        lower = -1
        for which, width in enumerate(_WIDTHS):
            places = np.flatnonzero((lengths > lower) & (lengths <= width))
            if len(places):
                codes[places] = self._fixed(which, np.array([encoded[i] for i in places.tolist()], dtype=f"S{width}"))
            lower = width
        for place in np.flatnonzero(lengths > lower).tolist():
            code = self._long.setdefault(tokens[place], self._size)
            self._size += code == self._size
            codes[place] = code
        return codes

    def tokens(self, codes: np.ndarray) -> np.ndarray:
        """Return object `[n]`: the strings of these numbers."""
        found = np.empty(len(codes), dtype=object)
        for table in self._tables:
            places, tokens = table.tokens(codes, self._size)
            found[places] = tokens
        if self._long:
            strings = {code: token for token, code in self._long.items()}
            for place in np.flatnonzero(np.isin(codes, list(strings))).tolist():
                found[place] = strings[int(codes[place])]
        return found

    def _fixed(self, which: int, tokens: np.ndarray) -> np.ndarray:
        codes, self._size = self._tables[which].codes(tokens, self._size)
        return codes


class _FixedWidthTable:
    """An open-addressing hash table of ids of up to `width` bytes, probed for many of them at once."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._words = np.zeros((0, width // 8), dtype=np.uint64)  # [capacity, words] ids, padded with NUL
        self._numbers = np.zeros(0, dtype=np.int32)  # [capacity] number of each id among all tables
        self._used = 0
        self._slots = np.full(_FIRST_SLOTS, -1, dtype=np.int32)  # row of `_words`, -1 for free

    def codes(self, tokens: np.ndarray, next_number: int) -> tuple[np.ndarray, int]:
        """Return int32 `[n]`, numbers of ids (bytes, `S<width>`), and the next free number."""
        words = tokens.view(np.uint64).reshape(len(tokens), -1)  # [n, words]
        self._make_room(len(tokens))
        before = self._used
        rows = self._rows(words)
        new = self._used - before
        self._numbers[before : self._used] = np.arange(next_number, next_number + new, dtype=np.int32)
        return self._numbers[rows], next_number + new

    def tokens(self, codes: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which of `codes` are in this table, and their strings."""
        row_of = np.full(size, -1, dtype=np.int32)
        row_of[self._numbers[: self._used]] = np.arange(self._used, dtype=np.int32)
        rows = row_of[codes]
        places = np.flatnonzero(rows >= 0)
        packed = self._words[rows[places]].view(f"S{self._width}").ravel()
        strings = [token.decode("utf-8", "surrogatepass") for token in packed.tolist()]
        return places, np.array([*strings, None], dtype=object)[:-1]

    def _rows(self, words: np.ndarray) -> np.ndarray:
        """Find or add ids; int64 `[n]`, their rows in `_words`."""
        mask = np.int64(len(self._slots) - 1)
        rows = np.empty(len(words), dtype=np.int64)
        pending = np.arange(len(words))
        slots = (_hashes(words) & np.uint64(mask)).astype(np.int64)  # [n], of those pending
        step = np.ones(len(words), dtype=np.int64)
        while len(pending):
            found = self._slots[slots]  # [p]
            free = np.flatnonzero(found < 0)
            if len(free):
                # Of several ids that want one slot the last writer gets it; the others find it taken and go on.
                wanted = slots[free]
                self._slots[wanted] = free
                won = free[self._slots[wanted] == free]
                added = np.arange(self._used, self._used + len(won))
                self._words[added] = words[pending[won]]
                self._slots[slots[won]] = added
                self._used += len(won)
                found = self._slots[slots]
            same = np.bitwise_or.reduce(self._words[found] ^ words[pending], axis=1) == 0
            rows[pending[same]] = found[same]
            differ = ~same
            pending, slots, step = pending[differ], slots[differ], step[differ]
            slots = (slots + step) & mask  # triangular steps visit every slot of a power of two
            step = step + 1
        return rows

    def _make_room(self, n_new: int) -> None:
        needed = self._used + n_new
        if needed > len(self._words):
            capacity = max(needed, len(self._words) + len(self._words) // 4, _FIRST_SLOTS)
            # In place: nothing else refers to these arrays, and a copy would double the peak.
            self._words.resize((capacity, self._words.shape[1]), refcheck=False)
            self._numbers.resize(capacity, refcheck=False)
        if 2 * needed <= len(self._slots):
            return
        n_slots = len(self._slots)
        while n_slots < 2 * needed:
            n_slots *= 2
        self._slots = np.full(n_slots, -1, dtype=np.int32)
        for start in range(0, self._used, _REHASHED_AT_ONCE):
            self._place(start, min(start + _REHASHED_AT_ONCE, self._used))

    def _place(self, start: int, stop: int) -> None:
        """Enter rows that are known to differ into free slots."""
        mask = np.int64(len(self._slots) - 1)
        pending = np.arange(start, stop)
        slots = (_hashes(self._words[start:stop]) & np.uint64(mask)).astype(np.int64)
        step = np.int64(1)
        while len(pending):
            free = self._slots[slots] < 0
            self._slots[slots[free]] = pending[free]
            lost = self._slots[slots] != pending
            pending, slots = pending[lost], (slots[lost] + step) & mask
            step += 1


def _hashes(words: np.ndarray) -> np.ndarray:
    """Return uint64 `[n]`: a hash of each row; padding adds nothing to it."""
    hashes = words @ _MULTIPLIERS[: words.shape[1]]
    hashes ^= hashes >> _HALF
    hashes *= _FINISH
    return hashes ^ (hashes >> _HALF)
