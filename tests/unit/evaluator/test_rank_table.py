"""The table of ranks: what a run writes, and reading it back."""

from __future__ import annotations

import pandas as pd
import pytest

from recbole_cdsr.errors import DataError
from recbole_cdsr.evaluator.rank_table import load_rank_table, save_rank_table


def table(**columns) -> pd.DataFrame:
    keys = {"row": [0, 1], "user_id": ["NA", "007"], "item_id": ['a\t"b"', "null"], "domain": ["book", "movie"]}
    return pd.DataFrame(keys | columns)


def test_tokens_come_back_exactly(tmp_path):
    written = table(full=[3, 1], uni99=[2, 1])
    save_rank_table(tmp_path / "ranks.tsv", written)
    pd.testing.assert_frame_equal(load_rank_table(tmp_path / "ranks.tsv"), written, check_dtype=False)
    assert [path.name for path in tmp_path.iterdir()] == ["ranks.tsv"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user_id\tfull\nu\t1\n", "line 1"),
        ("row\tuser_id\titem_id\tdomain\n0\tu\ti\tbook\n", "line 1"),
        ("row\tuser_id\titem_id\tdomain\tfull\n0\tu\ti\tbook\tmany\n", "'full'"),
        ("", "cannot be read"),
    ],
)
def test_another_file_is_named(tmp_path, text, said):
    path = tmp_path / "ranks.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        load_rank_table(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(DataError, match="could not be written"):
        save_rank_table(tmp_path / "nowhere" / "ranks.tsv", table(full=[1, 2]))
