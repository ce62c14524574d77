"""Ids as numbers: the same as a dictionary, whatever the ids are and however they are batched."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_cdsr.convert.token_table import TokenTable

IDS = st.one_of(
    st.sampled_from(["a", "a\0", "\0", "A" * 16, "A" * 17, "A" * 32, "A" * 33, "é" * 8, "é" * 9, "\ud83c"]),
    st.text(max_size=40),
    st.integers(0, 50).map(str),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(IDS, max_size=30), max_size=8))
def test_equal_ids_and_only_they_share_a_number(batches: list[list[str]]) -> None:
    table = TokenTable()
    codes = [table.codes(batch) for batch in batches]
    ids = [token for batch in batches for token in batch]
    flat = np.concatenate([*codes, np.zeros(0, dtype=np.int32)])
    assert flat.dtype == np.int32
    assert table.tokens(flat).tolist() == ids
    assert len(table) == len(set(ids))
    assert sorted(set(flat.tolist())) == list(range(len(table)))


def test_many_ids_in_batches_that_make_the_table_grow() -> None:
    draws = np.random.default_rng(0).integers(0, 60_000, 200_000)
    ids = [f"A{number:013X}" for number in draws.tolist()]
    table = TokenTable()
    codes = np.concatenate([table.codes(ids[start : start + 7001]) for start in range(0, len(ids), 7001)])
    assert len(table) == len(set(ids))
    assert table.tokens(codes).tolist() == ids
    again = TokenTable()
    assert (
        np.concatenate([again.codes(ids[start : start + 7001]) for start in range(0, len(ids), 7001)]) == codes
    ).all()
