"""Statistics over judged rows: paired tests, their correction for many, and intervals (protocol, point 8).

The unit is the test row. A model's value of a row is its metric averaged over seeds: seeds make a value steadier, and
the sample no larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

# A block of resampled indices holds about this many of them, whatever the number of rows.
_BLOCK = 4_000_000
# Decimals that differences of metrics are told apart by: sums of a few values below 1 are right to 15.
DECIMALS = 11


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same rows.

    Attributes
    ----------
    difference : float
        Mean over rows of (first − second).
    p_value : float
        Two-sided, in (0, 1]; 1 where no row differs.
    rows : int
        Rows compared.
    differing : int
        Rows whose values differ; rows without a difference take part as Pratt has it.
    favours : int
        What the sum of signed ranks, which the p-value is of, speaks for: 1 the first, −1 the second, 0 neither. The
        mean may speak for the other where few rows differ much and many a little.
    """

    difference: float
    p_value: float
    rows: int
    differing: int
    favours: int


def wilcoxon(first: np.ndarray, second: np.ndarray) -> PairedTest:
    """Two-sided Wilcoxon signed-rank test, rows without a difference treated as Pratt has it.

    They are ranked with the others and their ranks are then left out: to drop them before ranking, as Wilcoxon did,
    overstates the rest where most rows are alike, as they are for ranks beyond the cut-off of a metric.

    Parameters
    ----------
    first, second : np.ndarray
        float ``[R]``, a value per row and model, in the same order of rows.

    Returns
    -------
    PairedTest
        Exact for few rows, by SciPy's rule, else by the normal approximation.

    Raises
    ------
    ValueError
        The two have other lengths, no row, or a value that is not finite.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"Values of the same rows are compared; got {first.shape} and {second.shape}.")
    # Metrics of equal ranks, averaged over seeds in another order, may differ in the last place: that is no difference,
    # and two differences which differ there alone share a rank.
    difference = np.round(first - second, DECIMALS)  # [R]
    if not np.isfinite(difference).all():
        raise ValueError("A value to compare is not finite.")
    differing = int(np.count_nonzero(difference))
    p_value = 1.0
    if differing:
        p_value = float(stats.wilcoxon(difference, zero_method="pratt", alternative="two-sided").pvalue)
    signed_ranks = float(np.sign(difference) @ stats.rankdata(np.abs(difference)))
    return PairedTest(float(np.mean(first - second)), p_value, len(first), differing, int(np.sign(signed_ranks)))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down correction of a family of tests.

    Parameters
    ----------
    p_values
        ``[M]``, each in [0, 1].

    Returns
    -------
    np.ndarray
        float64 ``[M]``, adjusted p-values in the order given: to reject where they are at most α keeps the chance of
        any false rejection in the family at α or below (Holm 1979).

    Raises
    ------
    ValueError
        A p-value lies outside [0, 1].
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("p-values lie in [0, 1].")
    order = np.argsort(values, kind="stable")
    steps = (len(values) - np.arange(len(values))) * values[order]  # the smallest is multiplied by M, the next by M-1
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 2026
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over rows: `bootstrap_intervals` of a single column.

    Parameters
    ----------
    values : np.ndarray
        float ``[R]``: a model's value per row, or the difference of two models per row.

    Returns
    -------
    tuple[float, float]
        Lower and upper bound; both the mean itself where all rows are equal.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"One value per row is needed; got shape {values.shape}.")
    ((low, high),) = bootstrap_intervals(values[:, None], level, draws, seed)
    return float(low), float(high)


def bootstrap_intervals(values: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 2026) -> np.ndarray:
    """Percentile bootstrap intervals of means over the same rows, all from the same resamples.

    Parameters
    ----------
    values : np.ndarray
        float ``[R, C]``: what each of C models (or differences of two) got in each row.
    level : float
        Coverage, in (0, 1).
    draws : int
        Resamples of R rows with replacement.
    seed : int
        Of the resampling; with as many rows, the resamples are the same in another call.

    Returns
    -------
    np.ndarray
        float64 ``[C, 2]``, lower and upper bounds.

    Raises
    ------
    ValueError
        There is no row, one is not finite, or `level` or `draws` are out of range.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"Finite values of one row or more are needed; got shape {values.shape}.")
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level {level} must lie in (0, 1) and draws {draws} be 1 or more.")
    random = np.random.default_rng(seed)
    n_rows = len(values)
    means = np.empty((draws, values.shape[1]))
    at_once = max(1, _BLOCK // n_rows)
    for start in range(0, draws, at_once):
        block = min(at_once, draws - start)
        chosen = random.integers(0, n_rows, size=(block, n_rows), dtype=np.int64)  # [block, R]
        chosen += np.arange(block)[:, None] * n_rows
        times = np.bincount(chosen.ravel(), minlength=block * n_rows).reshape(block, n_rows)  # how often a row is drawn
        # Not a matrix product: its last places depend on the size of the block.
        means[start : start + block] = np.einsum("br,rc->bc", times.astype(np.float64), values, optimize=False) / n_rows
    return np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0).T


def mean_over_seeds(values: Sequence[np.ndarray]) -> np.ndarray:
    """A model's value per row, averaged over its seeds.

    Parameters
    ----------
    values
        One float ``[R]`` per seed, rows in the same order.

    Returns
    -------
    np.ndarray
        float64 ``[R]``.

    Raises
    ------
    ValueError
        There is none, or they cover different numbers of rows.
    """
    if not len(values) or len({len(one) for one in values}) != 1:
        raise ValueError(f"Every seed must judge the same rows; got {[len(one) for one in values]}.")
    return np.mean(np.stack([np.asarray(one, dtype=np.float64) for one in values]), axis=0)
