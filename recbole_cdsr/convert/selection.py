"""Which interactions a dataset keeps: every filter of `recbole-cdsr convert`, in the order they are applied.

1. the domains read (`--domains`, and `--counted-domains` for the core `once`);
2. `--core once` only: users and items counted over everything read, before any other filter;
3. `--from`, `--to`;  4. `--min-rating`;
5. the domains kept, where more were read to be counted;
6. `--dedup`;  7. `--min-user`, `--min-item` (the other cores);  8. `--overlap-only`;  9. `--max-users`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from recbole_cdsr.convert.interactions import RowBatch, Rows
from recbole_cdsr.convert.times import show_time
from recbole_cdsr.errors import ConfigError, DataError

DEDUPS = ("none", "first", "last")
CORES = ("merged", "per-domain", "once", "llm4cdsr-amazon")


@dataclass(frozen=True)
class Selection:
    """What is kept of the raw rows.

    Parameters
    ----------
    since, until : float, optional
        First and last Unix second kept, both included.
    min_rating : float, optional
        Lowest rating kept; rows without a rating are dropped then.
    dedup : str
        Of several interactions of one user with one item keep the `first`, the `last` (by time, then source
        order), or all (`none`).
    min_user, min_item : int
        Fewest interactions of a user, of an item.
    core : str
        How these two are applied: `merged`, repeated on the data of all domains until nothing changes;
        `per-domain`, the same with a user counted in each domain apart; `once`, a single pass over everything
        read; `llm4cdsr-amazon`, the rule of LLM4CDSR's Amazon selections (see `llm4cdsr_core`).
    overlap_only : bool
        Keep only users with interactions in two domains or more.
    max_users : int, optional
        Keep that many users, drawn at random.
    seed : int
        Seed of that draw.
    """

    since: float | None = None
    until: float | None = None
    min_rating: float | None = None
    dedup: str = "none"
    min_user: int = 1
    min_item: int = 1
    core: str = "merged"
    overlap_only: bool = False
    max_users: int | None = None
    seed: int = 2026

    def __post_init__(self) -> None:
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ConfigError(f"--from {show_time(self.since)} is later than --to {show_time(self.until)}; swap them.")
        for option, value, known in (("--dedup", self.dedup, DEDUPS), ("--core", self.core, CORES)):
            if value not in known:
                raise ConfigError(f"{option}: {value!r} is unknown; choose one of {', '.join(known)}.")
        for option, number in (("--min-user", self.min_user), ("--min-item", self.min_item)):
            if number < 1:
                raise ConfigError(f"{option}: {number} is below 1; 1 keeps everything.")
        if self.max_users is not None and self.max_users < 1:
            raise ConfigError(f"--max-users: {self.max_users} leaves nobody; give 1 or more.")
        if self.min_rating is not None and not np.isfinite(self.min_rating):
            raise ConfigError(f"--min-rating: {self.min_rating:g} is no rating; give a number.")
        if self.seed < 0:
            raise ConfigError(f"--seed: {self.seed} is negative; give 0 or more.")

    @property
    def counts_first(self) -> bool:
        """Whether rows are counted before any other filter, so that none may be dropped while reading."""
        return self.core == "once" and (self.min_user > 1 or self.min_item > 1)


@dataclass
class FilterLog:
    """What each filter dropped, in order.

    Parameters
    ----------
    read : int
        Well-formed rows the first filter saw.
    steps : list[tuple[str, int, int]]
        Filter in words, rows before it and rows after it.
    remarks : list[str]
        What else the card says after them.
    """

    read: int = 0
    steps: list[tuple[str, int, int]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, filter_: str, before: int, after: int) -> None:
        """Remember one filter."""
        self.steps.append((filter_, before, after))

    def sentences(self) -> list[str]:
        """Return a line per filter and remark for the card."""
        filters = [f"{name}: kept {after:,} of {before:,} interactions" for name, before, after in self.steps]
        return [*filters, *self.remarks]

    def refuse_empty(self, left: int) -> None:
        """Raise `DataError` with what every filter dropped when nothing is `left`."""
        if left:
            return
        if not self.read:
            raise DataError("the raw files hold no interactions at all; check that they are the files you mean.")
        last = next(name for name, before, after in self.steps if before and not after)
        story = "; ".join(self.sentences())
        raise DataError(f"nothing is left of {self.read:,} interactions, {last} dropped the last of them ({story}).")


class StreamFilter:
    """The filters that judge a row by itself (`--from`, `--to`, `--min-rating`), applied while reading.

    Parameters
    ----------
    selection : Selection
        What is kept.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self.read = self._in_time = self._rated = 0

    def keep(self, batch: RowBatch) -> np.ndarray | None:
        """Return bool `[n]`, the rows to keep; None for all of them."""
        self.read += len(batch.users)
        if self._selection.counts_first:
            return None
        in_time = _within(self._selection, np.asarray(batch.times)) if batch.times is not None else None
        rated = None
        if self._selection.min_rating is not None and batch.ratings is not None:
            rated = np.asarray(batch.ratings, dtype=np.float32) >= np.float32(self._selection.min_rating)
        kept = in_time if rated is None else rated if in_time is None else in_time & rated
        self._in_time += len(batch.users) if in_time is None else int(in_time.sum())
        self._rated += len(batch.users) if kept is None else int(kept.sum())
        return kept

    def log(self) -> FilterLog:
        """Return the log with what was dropped so far."""
        log = FilterLog(self.read)
        if not self._selection.counts_first:
            if (window := _window_name(self._selection)) is not None:
                log.add(window, self.read, self._in_time)
            if self._selection.min_rating is not None:
                log.add(f"--min-rating {self._selection.min_rating:g}", self._in_time, self._rated)
        return log


def select_rows(rows: Rows, selection: Selection, log: FilterLog, kept_domains: int | None = None) -> Rows:
    """Apply every filter that needs more than one row, and those of `StreamFilter` if they had to wait.

    Parameters
    ----------
    rows : Rows
        In source order, as `StreamFilter` let them through.
    selection : Selection
        What is kept.
    log : FilterLog
        Told what each filter dropped.
    kept_domains : int, optional
        Rows of the first so many domains are kept; the others were only read to be counted.

    Returns
    -------
    Rows
        In source order.
    """

    def apply(name: str, kept: Callable[[Rows], np.ndarray]) -> None:
        nonlocal rows
        before = len(rows)
        rows = rows.take(kept(rows))
        log.add(name, before, len(rows))

    thresholds = f"--min-user {selection.min_user} --min-item {selection.min_item}"
    if selection.counts_first:
        apply(f"{thresholds} --core once", lambda r: _often_enough(r, selection.min_user, selection.min_item))
        if (window := _window_name(selection)) is not None:
            apply(window, lambda r: _within(selection, r.times))
        if selection.min_rating is not None:
            apply(f"--min-rating {selection.min_rating:g}", lambda r: r.ratings >= np.float32(selection.min_rating))
    if kept_domains is not None and kept_domains <= int(rows.item_domains.max(initial=0)):
        apply("--domains", lambda r: r.domains < kept_domains)
    if selection.dedup != "none":
        apply(f"--dedup {selection.dedup}", lambda r: _deduplicated(r, last=selection.dedup == "last"))
    if selection.core != "once" and (selection.min_user > 1 or selection.min_item > 1):
        core = {"merged": k_core, "per-domain": k_core_per_domain, "llm4cdsr-amazon": llm4cdsr_core}[selection.core]
        suffix = "" if selection.core == "merged" else f" --core {selection.core}"
        apply(f"{thresholds}{suffix}", lambda r: core(r, selection.min_user, selection.min_item))
    if selection.overlap_only:
        apply("--overlap-only", _of_overlapped_users)
    return rows


def k_core(rows: Rows, min_user: int, min_item: int) -> np.ndarray:
    """Find the largest set of rows in which every user has `min_user` and every item `min_item` interactions.

    It is unique, so the order in which users and items are dropped does not matter.

    Returns
    -------
    np.ndarray
        int64, indices of the rows kept, ascending.
    """
    return _fixpoint(rows, rows.users, min_user, min_item)


def k_core_per_domain(rows: Rows, min_user: int, min_item: int) -> np.ndarray:
    """The `k_core` of each domain by itself: a user is counted, and dropped, in each domain apart."""
    n_domains = int(rows.item_domains.max(initial=0)) + 1
    return _fixpoint(rows, rows.users.astype(np.int64) * n_domains + rows.domains, min_user, min_item)


def llm4cdsr_core(rows: Rows, min_user: int, min_item: int) -> np.ndarray:
    """LLM4CDSR's core filter on Amazon, kept as its authors run it.

    Stop when every user has at least `min_user` and every item at least `min_item` interactions; otherwise drop
    the interactions of users with `min_user` or fewer **or** of items with `min_item` or fewer, and repeat. A round
    so drops more than the condition asks for.
    """
    kept = np.arange(len(rows))
    users, items = rows.users, rows.items
    while len(kept):
        of_user, of_item = np.bincount(users)[users], np.bincount(items)[items]  # [n]
        if of_user.min() >= min_user and of_item.min() >= min_item:
            break
        good = (of_user > min_user) & (of_item > min_item)
        kept, users, items = kept[good], users[good], items[good]
    return kept


def _fixpoint(rows: Rows, users: np.ndarray, min_user: int, min_item: int) -> np.ndarray:
    kept = np.arange(len(rows))
    items = rows.items
    of_user, of_item = np.bincount(users), np.bincount(items)
    while len(kept):
        good = (of_user[users] >= min_user) & (of_item[items] >= min_item)  # [n]
        if good.all():
            break
        of_user -= np.bincount(users[~good], minlength=len(of_user))
        of_item -= np.bincount(items[~good], minlength=len(of_item))
        kept, users, items = kept[good], users[good], items[good]
    return kept


def draw_users(users: np.ndarray, n_users: int, max_users: int, seed: int) -> np.ndarray:
    """Return bool `[N]`: the rows of `max_users` users drawn at random out of `n_users`, by seed.

    Parameters
    ----------
    users : np.ndarray
        int `[N]`, user of each row, numbered 0 .. n_users - 1 in an order that does not depend on the files'.
    """
    drawn = np.zeros(n_users, dtype=bool)
    drawn[np.random.default_rng(seed).choice(n_users, size=min(max_users, n_users), replace=False)] = True
    return drawn[users]


def _often_enough(rows: Rows, min_user: int, min_item: int) -> np.ndarray:
    return (np.bincount(rows.users)[rows.users] >= min_user) & (np.bincount(rows.items)[rows.items] >= min_item)


def _deduplicated(rows: Rows, last: bool) -> np.ndarray:
    """Indices of the rows kept, ascending; of equal times the earlier row of the source counts as first."""
    order = np.lexsort((rows.times, rows.items, rows.users))  # stable: source order breaks ties
    users, items = rows.users[order], rows.items[order]
    differs = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
    edge = np.append(differs, True) if last else np.insert(differs, 0, True)
    return np.sort(order[edge[: len(order)]])


def _of_overlapped_users(rows: Rows) -> np.ndarray:
    n_domains = int(rows.item_domains.max(initial=0)) + 1
    seen = np.zeros((int(rows.users.max(initial=-1)) + 1, n_domains), dtype=bool)  # [U, K]
    seen[rows.users, rows.domains] = True
    return (seen.sum(axis=1) > 1)[rows.users]


def _within(selection: Selection, times: np.ndarray) -> np.ndarray | None:
    within = None
    if selection.since is not None:
        within = times >= selection.since
    if selection.until is not None:
        before = times < np.floor(selection.until) + 1  # the last second counts as a whole
        within = before if within is None else within & before
    return within


def _window_name(selection: Selection) -> str | None:
    parts = [
        f"{option} {show_time(moment)}"
        for option, moment in (("--from", selection.since), ("--to", selection.until))
        if moment is not None
    ]
    return " ".join(parts) or None
