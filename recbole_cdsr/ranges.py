"""Runs and ranges of flat arrays, without a loop over them."""

from __future__ import annotations

import numpy as np


def expand_ranges(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of many ranges, laid end to end.

    Parameters
    ----------
    starts, lengths
        int64 ``[B]``, range b covers ``starts[b] .. starts[b] + lengths[b] - 1``; lengths may be 0.

    Returns
    -------
    owners, indices
        int64 ``[sum(lengths)]`` each: the range an index belongs to, and the index.
    """
    owners = np.repeat(np.arange(len(starts)), lengths)
    first_of_range = np.cumsum(lengths) - lengths
    indices = np.arange(len(owners)) + np.repeat(starts - first_of_range, lengths)
    return owners, indices


def places_in_ranges(lengths: np.ndarray) -> np.ndarray:
    """0, 1, 2, … within each of many ranges laid end to end.

    Parameters
    ----------
    lengths
        int64 ``[B]``, may be 0.

    Returns
    -------
    numpy.ndarray
        int64 ``[sum(lengths)]``.
    """
    first_of_range = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) - np.repeat(first_of_range, lengths)


def runs(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the entries of an array stay the same.

    Parameters
    ----------
    keys
        ``[N]`` each; a run ends where any of them changes.

    Returns
    -------
    starts, stops
        int64 ``[G]`` each: run g is ``starts[g] .. stops[g] - 1``.
    """
    changes = np.zeros(len(keys[0]), dtype=bool)
    changes[:1] = True
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    starts = np.flatnonzero(changes)
    return starts, np.append(starts, len(changes))[1:]
