"""Statistics over rows: worked examples, error rates under the null, coverage of intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recbole_cdsr.benchmark.significance import bootstrap_interval, bootstrap_intervals, holm, mean_over_seeds, wilcoxon


def test_wilcoxon_by_hand_with_pratt_zeros():
    # Differences 0, 0, 1, -2, 3, 4, 5, 6: |d| ranked with the zeros 1.5, 1.5, 3, 4, 5, 6, 7, 8.
    # Without the zeros W- is 4. Of the 2^6 ways to give signs to 3, 4, ..., 8, three have W- <= 4:
    # none negative, 3 alone, 4 alone. So p = 2 * 3 / 64.
    test = wilcoxon(np.array([0, 0, 1, -2, 3, 4, 5, 6], dtype=float), np.zeros(8))
    assert test.p_value == pytest.approx(6 / 64)
    assert (test.rows, test.differing) == (8, 6)
    assert test.difference == pytest.approx(17 / 8)


def test_many_rows_follow_the_normal_approximation_by_hand():
    # 40 zeros, then 1, -2, 3, -4, 5, 6, ..., 60: ranks 41, ..., 100; W- = 42 + 44 = 86. The mean of W is
    # (n(n+1) - m(m+1)) / 4 with n = 100, m = 40: (10100 - 1640) / 4 = 2115; its variance
    # (n(n+1)(2n+1) - m(m+1)(2m+1)) / 24 = (2030100 - 132840) / 24 = 79052.5.
    values = np.concatenate([np.zeros(40), [1, -2, 3, -4], np.arange(5, 61)]).astype(float)
    expected = 2 * stats.norm.cdf((86 - 2115) / np.sqrt(79052.5))
    assert wilcoxon(values, np.zeros(100)).p_value == pytest.approx(expected, rel=1e-6)


def test_wilcoxon_of_equal_models_is_no_evidence():
    values = np.random.default_rng(1).random(50)
    noise_of_summation = values + 1e-16
    assert wilcoxon(values, noise_of_summation).p_value == 1.0
    assert wilcoxon(values, noise_of_summation).differing == 0


def test_differences_that_are_equal_but_for_noise_share_a_rank():
    """Seeds that are averaged in another order: the same differences, told apart by their last places alone."""
    seeds = np.random.default_rng(5).choice([0.0, 1 / np.log2(3), 0.5, 1.0], size=(2, 3, 400))
    forward = wilcoxon(seeds[0].mean(axis=0), seeds[1].mean(axis=0))
    backward = wilcoxon(seeds[0, ::-1].mean(axis=0), seeds[1, ::-1].mean(axis=0))
    assert forward.p_value == backward.p_value
    exact = np.round(seeds[0].mean(axis=0) - seeds[1].mean(axis=0), 11)
    assert forward.p_value == stats.wilcoxon(exact, zero_method="pratt").pvalue


def test_the_error_rate_under_the_null_is_the_level():
    """1,000 pairs of models that are equally good: per-row NDCG@10 of ranks drawn alike, most of them 0."""
    random = np.random.default_rng(7)
    rejected = 0
    for _ in range(1000):
        ranks = random.geometric(0.05, size=(2, 300))
        ndcg = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0)
        rejected += wilcoxon(*ndcg).p_value < 0.05
    assert 0.03 <= rejected / 1000 <= 0.07


def test_a_better_model_is_found():
    random = np.random.default_rng(3)
    first = np.where(random.random(400) < 0.55, 1.0, 0.0)
    second = np.where(random.random(400) < 0.35, 1.0, 0.0)
    assert wilcoxon(first, second).p_value < 0.05


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, made monotone: 0.04, 0.06, 0.06, 0.06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_holm_keeps_the_chance_of_any_false_rejection():
    p_values = np.random.default_rng(5).random((2000, 8))
    any_rejected = np.mean([holm(family).min() <= 0.05 for family in p_values])
    assert any_rejected <= 0.065  # 0.05 and three standard errors of 2,000 draws


def test_intervals_cover_the_mean_as_often_as_they_say():
    random = np.random.default_rng(11)
    truth = np.where((ranks := np.arange(1, 100_000)) <= 10, 1 / np.log2(ranks + 1), 0.0)
    truth = float((truth * stats.geom.pmf(ranks, 0.08)).sum())
    covered = 0
    for trial in range(1000):
        ranks = random.geometric(0.08, size=300)
        low, high = bootstrap_interval(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0), draws=400, seed=trial)
        covered += low <= truth <= high
    assert 0.93 <= covered / 1000 <= 0.97


def test_an_interval_does_not_depend_on_the_size_of_a_block(monkeypatch):
    values = np.random.default_rng(2).random(100)
    whole = bootstrap_interval(values, draws=50)
    monkeypatch.setattr("recbole_cdsr.benchmark.significance._BLOCK", 700)
    assert bootstrap_interval(values, draws=50) == whole


def test_an_interval_by_hand():
    # Two rows, 0 and 1: the mean of a resample is 0, 1/2 or 1, each end with a chance of a quarter.
    assert bootstrap_interval(np.array([0.0, 1.0]), level=0.6) == (0.0, 1.0)  # quantiles 0.2 and 0.8
    assert bootstrap_interval(np.array([0.0, 1.0]), level=0.4) == (0.5, 0.5)  # quantiles 0.3 and 0.7


def test_columns_share_their_resamples():
    values = np.random.default_rng(4).random((60, 3))
    intervals = bootstrap_intervals(values, draws=200)
    assert intervals.shape == (3, 2)
    for column, interval in zip(values.T, intervals, strict=True):
        assert bootstrap_interval(column, draws=200) == pytest.approx(interval.tolist(), rel=1e-12)


def test_an_interval_of_equal_rows_is_their_value():
    assert bootstrap_interval(np.full(20, 0.25)) == (0.25, 0.25)


def test_seeds_are_averaged_row_by_row():
    assert mean_over_seeds([np.array([0.0, 1.0]), np.array([1.0, 1.0])]).tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilcoxon(np.zeros(3), np.zeros(4)),
        lambda: wilcoxon(np.zeros(0), np.zeros(0)),
        lambda: wilcoxon(np.array([np.nan]), np.array([1.0])),
        lambda: holm([0.5, 1.5]),
        lambda: bootstrap_interval(np.zeros(0)),
        lambda: bootstrap_interval(np.ones(3), level=1.0),
        lambda: bootstrap_interval(np.ones(3), draws=0),
        lambda: mean_over_seeds([]),
        lambda: mean_over_seeds([np.zeros(2), np.zeros(3)]),
    ],
)
def test_what_cannot_be_compared_is_refused(call):
    with pytest.raises(ValueError):
        call()
