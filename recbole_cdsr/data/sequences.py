"""The interactions of all users as one flat array, and the splits cut out of it.

A *segment* is a run of the flat array that belongs to one user, in time order: the user's whole sequence under
leave-one-out, or the user's rows of one file of a pre-split release. A *row* is a target inside a segment; everything
of the segment before it is the row's input history. Nothing is copied per row: a row is two integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRAIN, VALID, TEST = 0, 1, 2
LEAVE_ONE_OUT = ("valid_and_test", "valid_only", "test_only")


@dataclass(frozen=True, eq=False)
class Rows:
    """Targets with their input histories.

    Parameters
    ----------
    starts
        int64 ``[R]``, flat index of the first interaction of the row's segment.
    targets
        int64 ``[R]``, flat index of the target; the input history is ``starts[r] .. targets[r] - 1``.
    """

    starts: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: np.ndarray) -> Rows:
        """The rows at some positions, in that order."""
        return Rows(self.starts[index], self.targets[index])


@dataclass(frozen=True, eq=False)
class SequenceLog:
    """All interactions, ordered by segment and time.

    Parameters
    ----------
    order
        int64 ``[N]``, place of each flat entry in the loaded table.
    users, items
        int64 ``[N]``, internal ids.
    times
        float64 ``[N]``, seconds or per-user positions, as the file states them (never cast to float32).
    segment_starts, segment_stops
        int64 ``[S]``: segment s is ``flat[starts[s]:stops[s]]``.
    segment_parts
        int64 ``[S]``: `TRAIN`, or the file a held-out sequence comes from (`VALID`, `TEST`).
    train_stops
        int64 ``[S]``: the segment's training interactions are ``flat[starts[s]:train_stops[s]]``.
    valid, test
        The rows that are judged.
    """

    order: np.ndarray
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    segment_starts: np.ndarray
    segment_stops: np.ndarray
    segment_parts: np.ndarray
    train_stops: np.ndarray
    valid: Rows
    test: Rows

    @property
    def segment_users(self) -> np.ndarray:
        """int64 ``[S]``, the user of each segment."""
        return self.users[self.segment_starts]

    def history_stops(self, fold_in: bool) -> np.ndarray:
        """Where each segment's interactions end that a model may be trained on.

        Parameters
        ----------
        fold_in
            Whether the input histories of held-out users count (never their targets; protocol, point 3).

        Returns
        -------
        numpy.ndarray
            int64 ``[S]``.
        """
        if not fold_in:
            return self.train_stops
        held_out = self.segment_parts != TRAIN
        return np.where(held_out, self.segment_stops - 1, self.train_stops)

    def prefix_rows(self, fold_in: bool) -> Rows:
        """One training row per interaction that has a history, in RecBole's order.

        RecBole sorts rows by time and then groups them by user, users in the order of their first row.
        """
        lengths = self.history_stops(fold_in) - self.segment_starts
        flat, segments = _flat_positions(self.segment_starts, lengths)
        has_history = flat > self.segment_starts[segments]
        rows = Rows(self.segment_starts[segments[has_history]], flat[has_history])
        return rows.take(recbole_order(self.users[rows.targets], self.times[rows.targets]))

    def user_rows(self, fold_in: bool) -> Rows:
        """One training row per segment with two training interactions or more; the target is the last of them."""
        stops = self.history_stops(fold_in)
        long_enough = stops - self.segment_starts >= 2
        return Rows(self.segment_starts[long_enough], stops[long_enough] - 1)

    def training_positions(self, fold_in: bool) -> np.ndarray:
        """int64 ``[M]``, flat positions of the training interactions, by segment and time."""
        flat, _ = _flat_positions(self.segment_starts, self.history_stops(fold_in) - self.segment_starts)
        return flat


def _flat_positions(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.maximum(lengths, 0)
    owners = np.repeat(np.arange(len(starts)), lengths)
    first = np.cumsum(lengths) - lengths
    return np.arange(len(owners)) + np.repeat(starts - first, lengths), owners


def recbole_order(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """RecBole's order of rows after its time ordering and its grouping by user.

    Parameters
    ----------
    users, times
        ``[R]``, one entry per row; equal times keep their order.

    Returns
    -------
    numpy.ndarray
        int64 ``[R]``: users by their earliest row, each user's rows by time.
    """
    by_time = np.argsort(times, kind="stable")
    in_time = users[by_time]
    _, first, group = np.unique(in_time, return_index=True, return_inverse=True)
    return by_time[np.argsort(first[group], kind="stable")]


def leave_one_out(users: np.ndarray, items: np.ndarray, times: np.ndarray, mode: str) -> SequenceLog:
    """Split every user's mixed sequence: last interaction = test, last but one = validation.

    As in RecBole's sequential datasets, a user needs one training row more than rows left out: with three
    interactions the last is tested and none validated, with two both are for training.

    Parameters
    ----------
    users, items
        int64 ``[N]``, internal ids in file order.
    times
        float64 ``[N]``; equal times keep file order.
    mode
        One of `LEAVE_ONE_OUT`.
    """
    order = np.lexsort((np.arange(len(users)), times, users))
    users, items, times = users[order], items[order], times[order]
    starts, stops = _runs(users)
    n_rows = stops - starts - 1
    left_out = np.minimum(2 if mode == "valid_and_test" else 1, np.maximum(n_rows - 1, 0))
    last, last_but_one = stops - 1, stops - 2
    nothing = Rows(starts[:0], starts[:0])
    one, two = left_out >= 1, left_out >= 2
    valid = Rows(starts[two], last_but_one[two]) if mode == "valid_and_test" else nothing
    test = Rows(starts[one], last[one])
    if mode == "valid_only":
        valid, test = test, nothing
    parts = np.full(len(starts), TRAIN)
    return SequenceLog(order, users, items, times, starts, stops, parts, stops - left_out, valid, test)


def pre_split(users: np.ndarray, items: np.ndarray, times: np.ndarray, sizes: list[int]) -> SequenceLog:
    """Take over the split of a release: whole files for training, validation and test.

    Parameters
    ----------
    users, items
        int64 ``[N]``, internal ids, the three files one after the other.
    times
        float64 ``[N]``; equal times keep file order.
    sizes
        Rows of the training, validation and test file. In the latter two a user's last row is the target.
    """
    parts = np.repeat(np.array([TRAIN, VALID, TEST]), sizes)
    order = np.lexsort((np.arange(len(users)), times, users, parts))
    users, items, times, parts = users[order], items[order], times[order], parts[order]
    starts, stops = _runs(users, parts)
    segment_parts = parts[starts]
    train_stops = np.where(segment_parts == TRAIN, stops, starts)
    judged = {part: Rows(starts[segment_parts == part], stops[segment_parts == part] - 1) for part in (VALID, TEST)}
    return SequenceLog(
        order, users, items, times, starts, stops, segment_parts, train_stops, judged[VALID], judged[TEST]
    )


def _runs(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    changes = np.zeros(len(keys[0]), dtype=bool)
    changes[:1] = True
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    starts = np.flatnonzero(changes)
    return starts, np.append(starts[1:], len(changes))
