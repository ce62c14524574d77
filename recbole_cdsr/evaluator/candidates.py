"""Which items a target is ranked against: ``full``, ``uniN`` and ``popN``.

Sampled candidates are a function of (``eval_seed``, split, row key) alone. Each (row, item) pair has its own
64-bit hash, read as a uniform number u, and an exponential arrival time −log(1 − u) / w with w the weight of
the item; the N admissible items that arrive first are the candidates. That is successive drawing without
replacement with probabilities proportional to w (Efraimidis & Spirakis, 2006, "Weighted random sampling with
a reservoir"), and needs no generator whose state could depend on batches, passes or models. It follows that
``uni100`` is a subset of ``uni999``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from logging import getLogger

import numpy as np

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.evaluator.rows import EvaluationRows
from recbole_cdsr.ranges import expand_ranges, places_in_ranges

# Constants of splitmix64 (Steele, Lea & Flood, 2014, "Fast splittable pseudorandom number generators").
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

# Hashes of one chunk: 2 MiB of uint64, so that the passes of the mixer stay in the cache.
_CHUNK_HASHES = 1 << 18

# What is kept of the candidates of a split: uni999 of 268,000 rows. Those of further rows are drawn in every pass, at
# 0.12 to 0.25 ms of CPU a row (two domains, 36,000 to 100,000 items together); scoring it from 64 columns takes 0.19 to
# 0.5 ms, ranking it 0.03 to 0.07.
_KEPT_BYTES = 1 << 30

# Items with a weight of 1 or more arrive before time 37; those without any come after this time.
_AFTER_ALL_WEIGHTED = 1e3


@dataclass(frozen=True)
class CandidateSpec:
    """One entry of ``eval_candidates``: ``kind`` is ``full``, ``uni`` or ``pop``, ``size`` N (0 for full)."""

    name: str
    kind: str
    size: int


def parse_candidates(value: str | list[str]) -> list[CandidateSpec]:
    """Read the config key ``eval_candidates``.

    Parameters
    ----------
    value
        A list of ``full``, ``uniN``, ``popN`` with N >= 1; a bare string is a list of one.

    Raises
    ------
    ConfigError
        On an empty list, an entry listed twice, and anything that is not such an entry.
    """
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, (list, tuple)) or not entries:
        raise ConfigError(
            f"eval_candidates is {value!r}: list at least one of full, uniN, popN, such as [full, uni999]."
        )
    specs: list[CandidateSpec] = []
    for entry in entries:
        match = re.fullmatch(r"full|(uni|pop)([1-9][0-9]*)", entry) if isinstance(entry, str) else None
        if match is None:
            raise ConfigError(
                f"eval_candidates holds {entry!r}: use full, uniN or popN with N >= 1, as in [full, uni999]."
            )
        specs.append(CandidateSpec(entry, match[1] or "full", int(match[2] or 0)))
    if len({spec.name for spec in specs}) < len(specs):
        raise ConfigError(f"eval_candidates lists an entry twice: {list(entries)}; name each once.")
    return specs


def candidate_blocks(rows: EvaluationRows, candidate_domains: str) -> tuple[np.ndarray, np.ndarray]:
    """The contiguous block of items that each row's candidates come from.

    Parameters
    ----------
    rows
        The split.
    candidate_domains
        ``"target"``: the target's domain; ``"all"``: every domain.

    Returns
    -------
    row_blocks, block_offsets
        int64 ``[R]`` and ``[n_blocks + 1]``: row r's items are ``offsets[b] .. offsets[b + 1] - 1``,
        ``b = row_blocks[r]``.
    """
    if candidate_domains == "all":
        return np.zeros(len(rows), dtype=np.int64), np.array([1, rows.n_items], dtype=np.int64)
    return rows.target_domains, rows.domain_offsets


class CandidateSampler:
    """Sampled candidates of every row of a split, the same for every model, batch, pass and order.

    A row's candidates are N items of its target's domain (of all domains with ``candidate_domains="all"``),
    drawn without replacement, never one of the user's items of any split and never the target. ``uniN`` draws
    uniformly. ``popN`` draws with probabilities proportional to the training interactions of an item; items
    without any are drawn only when the others are used up, then uniformly. Where the domain admits fewer than
    N items the row gets all of them, which a warning says once.

    Parameters
    ----------
    spec
        A ``uniN`` or ``popN`` entry.
    eval_seed
        Any integer.
    rows
        The split.
    candidate_domains
        ``"target"`` or ``"all"``.

    Attributes
    ----------
    n_candidates
        int64 ``[R]``, candidates of each row, the target not counted: N, or less where N was clamped.
    """

    def __init__(
        self, spec: CandidateSpec, eval_seed: int, rows: EvaluationRows, candidate_domains: str = "target"
    ) -> None:
        if spec.kind not in ("uni", "pop"):
            raise ValueError(f"{spec.name} is not sampled.")
        self.spec = spec
        self._rows = rows
        self._row_blocks, self._block_offsets = candidate_blocks(rows, candidate_domains)
        self._row_states = _row_states(eval_seed, rows)  # uint64 [R]
        self._user_ranges = self._find_user_ranges()
        self.n_candidates = np.minimum(spec.size, self._count_admissible())
        self._say_clamping()
        self._arrivals = [
            _BlockArrivals(low, high, self._weights(low, high), spec.size)
            for low, high in pairwise(self._block_offsets.tolist())
        ]
        self._width = int(self.n_candidates.max(initial=0))
        self._n_kept = min(len(rows), _KEPT_BYTES // (4 * max(1, self._width)))
        self._table: np.ndarray | None = None  # int32 [n_kept, width] of the first rows, filled when first asked for
        self._filled = np.zeros(self._n_kept, dtype=bool)

    def candidates(self, row_indices: np.ndarray) -> np.ndarray:
        """Candidates of some rows.

        Parameters
        ----------
        row_indices
            int64 ``[B]``.

        Returns
        -------
        np.ndarray
            int32 ``[B, width]``, width = the largest of ``n_candidates``; ascending item ids, then 0 where N
            was clamped. Drawn when a row is first asked for and kept from then on, as far as a gibibyte goes.
        """
        if self._table is None:
            self._table = np.zeros((self._n_kept, self._width), dtype=np.int32)
        is_kept = row_indices < self._n_kept
        kept = row_indices[is_kept]
        missing = np.unique(kept[~self._filled[kept]])
        self._draw(missing, self._table, missing)
        self._filled[missing] = True
        if is_kept.all():
            return self._table[kept]
        others, places = np.unique(row_indices[~is_kept], return_inverse=True)
        drawn = np.zeros((len(others), self._width), dtype=np.int32)
        self._draw(others, drawn, np.arange(len(others)))
        found = np.empty((len(row_indices), self._width), dtype=np.int32)
        found[is_kept], found[~is_kept] = self._table[kept], drawn[places]
        return found

    def _draw(self, rows: np.ndarray, table: np.ndarray, places: np.ndarray) -> None:
        """Draw the candidates of ``rows`` (int64 ``[M]``) into the rows ``places`` of a table, which are 0."""
        if not len(rows) or not self._width:
            return
        for block, arrivals in enumerate(self._arrivals):
            of_block = np.flatnonzero(self._row_blocks[rows] == block)
            step = max(1, _CHUNK_HASHES // arrivals.n_items)
            for start in range(0, len(of_block), step):
                chunk = of_block[start : start + step]
                self._fill(rows[chunk], table, places[chunk], arrivals)

    def _find_user_ranges(self) -> np.ndarray:
        """int64 ``[R, 2]``: where ``user_item_keys`` holds the row's user with items of the row's block."""
        first_key = self._rows.users * self._rows.n_items
        low, high = self._block_offsets[self._row_blocks], self._block_offsets[self._row_blocks + 1]
        bounds = np.stack([first_key + low, first_key + high], axis=1)  # [R, 2]
        return np.searchsorted(self._rows.user_item_keys, bounds)

    def _count_admissible(self) -> np.ndarray:
        """int64 ``[R]``: items of the row's block that are neither the user's nor the target."""
        keys = self._rows.user_item_keys
        target_keys = self._rows.users * self._rows.n_items + self._rows.targets
        found = np.minimum(np.searchsorted(keys, target_keys), max(len(keys) - 1, 0))
        target_is_users = keys[found] == target_keys if len(keys) else np.zeros(len(self._rows), dtype=bool)
        block_sizes = np.diff(self._block_offsets)[self._row_blocks]
        users_items = self._user_ranges[:, 1] - self._user_ranges[:, 0]
        return block_sizes - users_items - ~target_is_users

    def _say_clamping(self) -> None:
        clamped = self.n_candidates < self.spec.size
        if clamped.any():
            getLogger().warning(
                f"{self.spec.name}: {clamped.sum()} of {len(clamped)} {self._rows.split} rows have fewer "
                f"admissible items than that in their domain (down to {self.n_candidates.min()}) and are "
                f"ranked against all of them."
            )

    def _weights(self, low: int, high: int) -> np.ndarray:
        """float64 ``[high - low]``, relative probability of each item of a block."""
        if self.spec.kind == "uni":
            return np.ones(high - low)
        return self._rows.train_item_counts[low:high].astype(np.float64)

    def _fill(self, chunk: np.ndarray, table: np.ndarray, places: np.ndarray, arrivals: _BlockArrivals) -> None:
        """Draw the candidates of rows ``chunk`` (int64 ``[C]``, all of one block) into rows ``places`` of a table."""
        starts, stops = self._user_ranges[chunk].T
        owners, flat = expand_ranges(starts, stops - starts)
        users_items = self._rows.user_item_keys[flat] % self._rows.n_items
        excluded = np.zeros((len(chunk), arrivals.n_items), dtype=bool)  # [C, n]
        excluded[owners, users_items - arrivals.low] = True
        excluded[np.arange(len(chunk)), self._rows.targets[chunk] - arrivals.low] = True
        hashes = arrivals.hashes(self._row_states[chunk])  # uint64 [C, n]

        uncertain = np.arange(len(chunk))
        if np.isfinite(arrivals.horizon):
            uncertain = self._keep_first(table, places, hashes, excluded, arrivals, early_only=True)
        if len(uncertain):
            places, hashes, excluded = places[uncertain], hashes[uncertain], excluded[uncertain]
            self._keep_first(table, places, hashes, excluded, arrivals, early_only=False)

    def _keep_first(
        self,
        table: np.ndarray,
        table_rows: np.ndarray,
        hashes: np.ndarray,
        excluded: np.ndarray,
        arrivals: _BlockArrivals,
        early_only: bool,
    ) -> np.ndarray:
        """Write the first N arrivals of each row into rows ``table_rows`` (int64 ``[C]``) of a table.

        With ``early_only`` only the items that arrive before the block's horizon are looked at, slightly over
        N. That is a matter of speed: which items are the first N does not depend on it.

        Returns
        -------
        np.ndarray
            int64, positions in ``table_rows`` of the rows that must be done again without ``early_only``.
        """
        size = self.spec.size
        n_rows = len(table_rows)
        seen = ~excluded
        if early_only:
            seen &= hashes < arrivals.early_limits
        counts = np.count_nonzero(seen, axis=1)  # [C]
        owners = np.repeat(np.arange(n_rows), counts)  # [S]
        columns = np.flatnonzero(seen) - owners * arrivals.n_items  # [S]
        times = arrivals.times(hashes[owners, columns], columns)  # [S]

        places = places_in_ranges(counts)  # [S]
        last_time = np.full(n_rows, np.inf)  # [C], when the N-th arrives
        if counts.max(initial=0) > size:
            by_row = np.full((n_rows, counts.max()), np.inf)
            by_row[owners, places] = times
            last_time = np.partition(by_row, size - 1, axis=1)[:, size - 1]
        kept = times <= last_time[owners]
        owners, columns = owners[kept], columns[kept]
        places = places_in_ranges(np.bincount(owners, minlength=n_rows))
        # Two equal times at the very end would leave N + 1 items: the one with the larger id goes.
        fits = places < size
        table[table_rows] = 0
        table[table_rows[owners[fits]], places[fits]] = columns[fits] + arrivals.low
        # Rows with fewer than N early items, or the N-th so near the horizon that rounding decides its side.
        return np.flatnonzero(last_time >= arrivals.horizon * (1 - 1e-9))


class _BlockArrivals:
    """Arrival times of the items ``low .. high - 1``; slightly over N of them arrive before the horizon."""

    def __init__(self, low: int, high: int, weights: np.ndarray, size: int) -> None:
        self.low = low
        self.n_items = high - low
        self._weights = weights
        self._strides = np.arange(low, high, dtype=np.uint64) * _GAMMA  # [n]
        wanted = size + 6 * np.sqrt(size) + 16
        self.horizon = _horizon(weights, wanted)
        share = -np.expm1(-weights * self.horizon) if np.isfinite(self.horizon) else np.ones(self.n_items)
        limits = np.full(self.n_items, np.iinfo(np.uint64).max)
        below_one = share < 1 - 2.0**-50
        limits[below_one] = (share[below_one] * 2.0**64).astype(np.uint64)
        self.early_limits = limits  # uint64 [n]: an item arrives before the horizon if its hash is below

    def hashes(self, row_states: np.ndarray) -> np.ndarray:
        """uint64 ``[C]`` row states to uint64 ``[C, n]``: one hash per row and item."""
        return _mix(row_states[:, None] + self._strides)

    def times(self, hashes: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Arrival times, float64 ``[S]``, of items ``low + columns[s]`` with hash ``hashes[s]``."""
        uniform = ((hashes >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52  # in (0, 1)
        exponential = -np.log1p(-uniform)
        weights = self._weights[columns]
        weightless = weights == 0
        return np.where(weightless, _AFTER_ALL_WEIGHTED + exponential, exponential / np.where(weightless, 1, weights))


def _horizon(weights: np.ndarray, wanted: float) -> float:
    """The time t by which ``wanted`` items are expected, Σ (1 − exp(−w t)) = wanted; inf if too few are."""
    weighted = weights[weights > 0]
    if wanted >= len(weighted):
        return np.inf
    below, above = 0.0, wanted / weighted.min()
    while -np.expm1(-weighted * above).sum() < wanted:
        above *= 2
    for _ in range(50):
        middle = (below + above) / 2
        if -np.expm1(-weighted * middle).sum() < wanted:
            below = middle
        else:
            above = middle
    return above


def _row_states(eval_seed: int, rows: EvaluationRows) -> np.ndarray:
    """uint64 ``[R]``, the start of each row's own hash sequence."""
    digest = blake2b(f"{eval_seed}/{rows.split}".encode(), digest_size=8).digest()
    base = np.array(int.from_bytes(digest, "little"), dtype=np.uint64)
    return _mix(base + _mix(rows.row_keys.astype(np.uint64) * _GAMMA + _GAMMA))


def _mix(values: np.ndarray) -> np.ndarray:
    """The output function of splitmix64, a bijection of 64-bit numbers; works in place on ``values``."""
    shifted = np.empty_like(values)
    for shift, factor in ((30, _MIX_1), (27, _MIX_2), (31, None)):
        np.right_shift(values, np.uint64(shift), out=shifted)
        np.bitwise_xor(values, shifted, out=values)
        if factor is not None:
            np.multiply(values, factor, out=values)
    return values
