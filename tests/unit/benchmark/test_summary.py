"""Figures over seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recbole_cdsr.benchmark.analysis import Analysis
from recbole_cdsr.benchmark.significance import bootstrap_interval


def test_mean_spread_and_interval(tmp_path, cell):
    cell(tmp_path, "BPR", 1, {"book": [1, 20], "movie": [3]})
    cell(tmp_path, "BPR", 2, {"book": [3, 20], "movie": [1]})
    analysis = Analysis.of_folder(tmp_path)
    book = analysis.figure("shop", "BPR", "full", "domain", "book")
    assert book.mean == pytest.approx((0.5 + 0.25) / 2)
    assert book.sd == pytest.approx(math.sqrt(2 * 0.125**2))  # n - 1 = 1
    assert (book.seeds, book.count) == (2, 2)
    assert (book.low, book.high) == pytest.approx(bootstrap_interval(np.array([0.75, 0.0])))
    overall = analysis.figure("shop", "BPR", "full", "overall", "overall", "hit@10")
    assert (overall.low, overall.high) == pytest.approx(bootstrap_interval(np.array([1.0, 0.0, 1.0])))
    group = analysis.figure("shop", "BPR", "full", "group", "overlapped")
    assert math.isnan(group.low)
    assert analysis.figure("shop", "BPR", "full", "group", "single_domain") is None


def test_one_seed_has_no_spread_and_no_ranks_give_no_interval(tmp_path, cell):
    place = cell(tmp_path, "BPR", 1, {"book": [1, 3]})
    (place / "test_ranks.tsv").unlink()
    figure = Analysis.of_folder(tmp_path).figure("shop", "BPR", "full", "overall", "overall")
    assert figure.mean == pytest.approx(0.75)
    assert math.isnan(figure.sd)
    assert math.isnan(figure.low)


def test_models_whose_rows_of_one_number_are_of_other_domains_have_intervals_of_their_own(tmp_path, cell):
    cell(tmp_path, "BPR", 1, {"book": [1, 1], "movie": [20, 20]})
    cell(tmp_path, "Pop", 1, {"movie": [1, 1], "book": [20, 20]})
    analysis = Analysis.of_folder(tmp_path)
    for label, domain, value in (("BPR", "book", 1), ("BPR", "movie", 0), ("Pop", "book", 0), ("Pop", "movie", 1)):
        figure = analysis.figure("shop", label, "full", "domain", domain)
        assert (figure.mean, figure.low, figure.high) == (value, value, value)
