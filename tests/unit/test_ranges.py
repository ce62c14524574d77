"""Runs and ranges of flat arrays."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_cdsr.ranges import expand_ranges, places_in_ranges, runs

few = st.integers(0, 4)


@given(st.lists(st.tuples(st.integers(0, 50), few)))
def test_ranges_are_laid_end_to_end(ranges: list[tuple[int, int]]):
    starts, lengths = np.array(ranges, dtype=np.int64).reshape(-1, 2).T
    owners, indices = expand_ranges(starts, lengths)
    expected = [(b, start + i) for b, (start, length) in enumerate(ranges) for i in range(length)]
    assert list(zip(owners.tolist(), indices.tolist(), strict=True)) == expected
    assert places_in_ranges(lengths).tolist() == [i for _, length in ranges for i in range(length)]


@given(st.lists(st.tuples(few, few)))
def test_a_run_ends_where_any_key_changes(pairs: list[tuple[int, int]]):
    starts, stops = runs(*np.array(pairs, dtype=np.int64).reshape(-1, 2).T)
    found = [pairs[start:stop] for start, stop in zip(starts, stops, strict=True)]
    assert found == [list(group) for _, group in groupby(pairs)]


@pytest.mark.parametrize("function", [lambda none: expand_ranges(none, none)[1], places_in_ranges])
def test_no_ranges_have_no_indices(function):
    assert function(np.zeros(0, dtype=np.int64)).dtype == np.int64
