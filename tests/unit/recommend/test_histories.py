"""Whose histories are served, from flat logs and from files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from recbole_cdsr.data.sequences import SequenceLog, leave_one_out, pre_split
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.recommend.histories import (
    given_histories,
    known_histories,
    read_histories,
    split_tokens,
    users_named,
)

ITEMS = ["[PAD]", "book:1", "book:2", "movie:1", "movie:2", "a,b"]
USERS = ["[PAD]", "ann", "bob", "cleo"]


@dataclass
class FlatDataset:
    """As much of a dataset as histories are read from."""

    log: SequenceLog
    is_pre_split: bool
    dataset_name: str = "flat"
    uid_field: str = "user_id"
    iid_field: str = "item_id"
    field2token_id: dict = field(
        default_factory=lambda: {
            "user_id": {token: number for number, token in enumerate(USERS)},
            "item_id": {token: number for number, token in enumerate(ITEMS)},
        }
    )

    def id2token(self, name, ids):
        return np.array(USERS if name == "user_id" else ITEMS)[ids]


def of(histories, name):
    row = histories.names.tolist().index(name)
    return histories.items[histories.pointers[row] : histories.pointers[row + 1]].tolist()


def test_all_of_a_users_interactions_in_order_of_time():
    log = leave_one_out(np.array([2, 1, 2, 1, 1]), np.array([3, 1, 4, 2, 1]), np.array([9.0, 5, 1, 3, 7]))
    histories = known_histories(FlatDataset(log, False))
    assert histories.names.tolist() == ["ann", "bob"]
    assert (of(histories, "ann"), of(histories, "bob")) == ([2, 1, 1], [4, 3])
    named = known_histories(FlatDataset(log, False), np.array([2, 1]))
    assert named.names.tolist() == ["bob", "ann"]
    assert named.items.tolist() == [4, 3, 2, 1, 1]
    assert named.take(np.array([1])).items.tolist() == [2, 1, 1]


def test_what_several_files_of_a_release_hold_counts_once():
    """ann's validation row repeats her training rows; bob is tested only, cleo's files follow each other."""
    users = np.array([1, 1, 3, 1, 1, 1, 2, 2, 3])
    items = np.array([1, 2, 1, 1, 2, 3, 4, 1, 4])
    times = np.array([1.0, 2, 1, 1, 2, 3, 1, 2, 1])
    log = pre_split(users, items, times, [3, 3, 3])
    histories = known_histories(FlatDataset(log, True))
    assert of(histories, "ann") == [1, 2, 3]
    assert of(histories, "bob") == [4, 1]
    assert of(histories, "cleo") == [1, 4]


def test_given_histories():
    log = leave_one_out(np.array([1]), np.array([1]), np.array([1.0]))
    data = FlatDataset(log, False)
    given = given_histories(data, [("x", ["movie:1", "book:2"]), ("y", ["a,b"])], ["here", "there"])
    assert given.user_ids.tolist() == [0, 0]
    assert (of(given, "x"), of(given, "y")) == ([3, 2], [5])
    with pytest.raises(DataError, match=r"there: There is no item of 'flat' named 'bok:1'; did you mean"):
        given_histories(data, [("x", ["book:1"]), ("y", ["bok:1"])], ["here", "there"])
    with pytest.raises(DataError, match=r"here: There is no item of 'flat' named '.PAD.'"):
        given_histories(data, [("x", ["[PAD]"])], ["here"])
    with pytest.raises(DataError, match="here: the history is empty"):
        given_histories(data, [("x", [])], ["here"])


def test_named_users():
    data = FlatDataset(leave_one_out(np.array([1]), np.array([1]), np.array([1.0])), False)
    assert users_named(data, ["cleo", "ann", "cleo"]).tolist() == [3, 1]
    with pytest.raises(ConfigError, match=r"There is no user of 'flat' named 'a', 'b', 'c', 'd', 'e', …\."):
        users_named(data, list("abcdef"))


def test_tokens_are_divided_at_commas_unless_they_are_tokens():
    known = {token: number for number, token in enumerate(ITEMS)}
    assert split_tokens(["book:1, movie:2", "a,b", "x,"], known) == ["book:1", "movie:2", "a,b", "x"]


def test_json_lines(tmp_path):
    file = tmp_path / "new.jsonl"
    file.write_text('\n{"user": "x", "items": ["book:1"]}\n{"items": [], "user": "y", "age": 7}\n', encoding="utf-8")
    assert read_histories(file) == ([("x", ["book:1"]), ("y", [])], [f"{file}, line 2", f"{file}, line 3"])


def test_json_lines_may_begin_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "new.jsonl"
    file.write_text('{"user": "x", "items": ["book:1"]}\n', encoding="utf-8-sig")
    assert read_histories(file)[0] == [("x", ["book:1"])]


@pytest.mark.parametrize(
    "line",
    [
        "book:1",
        "[]",
        '{"user": "x"}',
        '{"user": 7, "items": []}',
        "[" * 100_000,
        '{"user": "x", "items": "book:1"}',
        '{"user": "x", "items": [7]}',
    ],
)
def test_a_line_that_is_no_history_is_named(tmp_path, line):
    file = tmp_path / "new.jsonl"
    file.write_text(json.dumps({"user": "x", "items": ["book:1"]}) + f"\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"new\.jsonl, line 2: expected"):
        read_histories(file)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_histories(tmp_path / "none.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="it is not UTF-8 text"):
        read_histories(tmp_path / "bytes.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no history"):
        read_histories(tmp_path / "empty.jsonl")
