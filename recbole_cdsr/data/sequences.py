"""The interactions of all users as one flat array, and the splits cut out of it.

A *segment* is a run of the flat array that belongs to one user, in time order: the user's whole sequence under
leave-one-out, or the user's rows of one file of a pre-split release. A *row* is a target inside a segment; everything
of the segment before it is the row's input history. Nothing is copied per row: a row is two integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbole_cdsr.ranges import expand_ranges, runs

TRAIN, VALID, TEST = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Histories:
    """Flat training histories.

    Parameters
    ----------
    user_ids
        int64 ``[U]``, internal ids, ascending and distinct.
    pointers
        int64 ``[U + 1]``: user ``user_ids[j]`` consumed ``item_ids[pointers[j]:pointers[j + 1]]``, oldest first.
    item_ids
        int64 ``[N]``.
    """

    user_ids: np.ndarray
    pointers: np.ndarray
    item_ids: np.ndarray


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

        A user's interactions count once: those of the training file, or else the input history of the validation file,
        or else that of the test file. A later file may repeat what an earlier one holds, and hold its target.

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
        folded = np.zeros(len(self.segment_starts), dtype=bool)  # [S]
        folded[np.unique(self.segment_users, return_index=True)[1]] = True  # segments stand file by file
        folded &= self.segment_parts != TRAIN
        return np.where(folded, self.segment_stops - 1, self.train_stops)

    def histories(self, held_out: bool = True) -> Histories:
        """Every user's input history: the training part, or everything before the target of a held-out user.

        Without `held_out` only the training part, so that users who are there for evaluation alone are left out.
        """
        flat = self.training_positions(fold_in=held_out)
        users, items = self.users[flat], self.items[flat]
        by_user = np.argsort(users, kind="stable")
        user_ids, first = np.unique(users[by_user], return_index=True)
        return Histories(user_ids, np.append(first, len(users)), items[by_user])

    def all_rows(self) -> Rows:
        """One row per interaction that has a history, whatever it is for, in order of time as RecBole leaves them."""
        rows = self._rows_before(self.segment_stops)
        return rows.take(np.argsort(self.times[rows.targets], kind="stable"))

    def prefix_rows(self, fold_in: bool) -> Rows:
        """One training row per interaction that has a history, in RecBole's order.

        RecBole sorts rows by time and then groups them by user, users in the order of their first row.
        """
        rows = self._rows_before(self.history_stops(fold_in))
        return rows.take(recbole_order(self.users[rows.targets], self.times[rows.targets]))

    def _rows_before(self, stops: np.ndarray) -> Rows:
        segments, targets = expand_ranges(self.segment_starts, stops - self.segment_starts)
        starts = self.segment_starts[segments]
        has_history = targets > starts
        return Rows(starts[has_history], targets[has_history])

    def user_rows(self, fold_in: bool) -> Rows:
        """One training row per segment with two training interactions or more; the target is the last of them."""
        stops = self.history_stops(fold_in)
        long_enough = stops - self.segment_starts >= 2
        return Rows(self.segment_starts[long_enough], stops[long_enough] - 1)

    def training_positions(self, fold_in: bool) -> np.ndarray:
        """int64 ``[M]``, flat positions of the training interactions, by segment and time."""
        _, flat = expand_ranges(self.segment_starts, self.history_stops(fold_in) - self.segment_starts)
        return flat


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


def leave_one_out(users: np.ndarray, items: np.ndarray, times: np.ndarray) -> SequenceLog:
    """Split every user's mixed sequence: last interaction = test, last but one = validation.

    As in RecBole's sequential datasets, a user needs one training row more than rows left out: with three
    interactions the last is tested and none validated, with two both are for training.

    Parameters
    ----------
    users, items
        int64 ``[N]``, internal ids in file order.
    times
        float64 ``[N]``; equal times keep file order.
    """
    order = np.lexsort((times, users))
    users, items, times = users[order], items[order], times[order]
    starts, stops = runs(users)
    left_out = np.clip(stops - starts - 2, 0, 2)
    tested, validated = left_out >= 1, left_out >= 2
    valid = Rows(starts[validated], stops[validated] - 2)
    test = Rows(starts[tested], stops[tested] - 1)
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
        Rows of the training, validation and test file. In the latter two a user's last row in order of time is the
        target.

    Judged rows come in the order of their file, whatever the training file holds: their places are the identities that
    candidates are drawn by.
    """
    parts = np.repeat(np.array([TRAIN, VALID, TEST]), sizes)
    order = np.lexsort((times, users, parts))
    users, items, times, parts = users[order], items[order], times[order], parts[order]
    starts, stops = runs(users, parts)
    segment_parts = parts[starts]
    train_stops = np.where(segment_parts == TRAIN, stops, starts)
    in_file_order = np.argsort(np.minimum.reduceat(order, starts), kind="stable")  # [S]
    judged = {}
    for part in (VALID, TEST):
        segments = in_file_order[segment_parts[in_file_order] == part]
        judged[part] = Rows(starts[segments], stops[segments] - 1)
    return SequenceLog(
        order, users, items, times, starts, stops, segment_parts, train_stops, judged[VALID], judged[TEST]
    )
