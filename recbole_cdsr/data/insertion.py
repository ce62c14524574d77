"""Where pseudo items go in a user's sequence: the layout of noisy training rows, for a whole batch at once.

The layout does not depend on which items are recalled, so it is made when a batch is fetched; the model fills it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbole_cdsr.ranges import expand_ranges, places_in_ranges


@dataclass(frozen=True, eq=False)
class InsertionLayout:
    """Noisy rows laid end to end, as inputs and targets.

    Attributes
    ----------
    lengths
        int64 ``[R]``, input tokens of each row, ≥ 1.
    items
        int64 ``[T]``, input items; 0 where a pseudo item stands.
    sources
        int64 ``[T]``, number of the pseudo item that stands there, −1 for a real item.
    targets
        int64 ``[T]``, next item of each position; 0 where that is a pseudo item, which nothing learns.
    rows
        int64 ``[T]``, row of each token.
    """

    lengths: np.ndarray
    items: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    rows: np.ndarray


def insert_before(
    items: np.ndarray, kept: np.ndarray, cut_off: np.ndarray, owners: np.ndarray, places: np.ndarray, longest: int
) -> InsertionLayout:
    """Insert pseudo items into sequences, keep the latest tokens, and split them into inputs and targets.

    Parameters
    ----------
    items
        int64 ``[S]``, the latest items of each row's sequence, row by row, oldest first: the whole sequence, or its
        last ``longest + 1`` items (inserting only pushes items out, never back in).
    kept
        int64 ``[R]``, how many of `items` each row owns, ≥ 2.
    cut_off
        int64 ``[R]``, how many older items each row's sequence has before those.
    owners
        int64 ``[P]``, row of each pseudo item.
    places
        float64 ``[P]``, in [0, n) with n the length of the row's whole sequence: the pseudo item goes before item
        ``floor(place)``, those of equal floor in the order of their places. Hence never after the last item.
    longest
        L; of each row the last L + 1 tokens are kept, inputs are all but the last, targets all but the first.

    Returns
    -------
    InsertionLayout
    """
    n_rows = len(kept)
    places = places - cut_off[owners]
    inserted = np.flatnonzero(places >= 0)  # the others stand before items that fell off
    owners, places = owners[inserted], places[inserted]
    row_of_item = np.repeat(np.arange(n_rows), kept)
    # An item stands at the end of its unit interval: after what goes before it, before what goes before the next one.
    row = np.concatenate([row_of_item, owners])
    key = np.concatenate([places_in_ranges(kept) + 1.0, places])
    is_pseudo = np.concatenate([np.zeros(len(items), dtype=bool), np.ones(len(owners), dtype=bool)])
    order = np.lexsort((is_pseudo, key, row))
    tokens = np.concatenate([items, np.zeros(len(owners), dtype=np.int64)])[order]
    sources = np.concatenate([np.full(len(items), -1), inserted])[order]

    totals = np.bincount(row, minlength=n_rows)
    lengths = np.minimum(totals, longest + 1) - 1  # [R]
    last = np.cumsum(totals) - 1
    rows, inputs = expand_ranges(last - lengths, lengths)
    return InsertionLayout(lengths, tokens[inputs], sources[inputs], tokens[inputs + 1], rows)
