from __future__ import annotations

import collections
import copyreg
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.convert.safe_pickle import load_plain_dict
from recbole_cdsr.errors import DataError


class Touch:
    """On unpickling by the standard library, creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_dictionaries_of_every_protocol_are_read_in_order(tmp_path: Path, protocol: int) -> None:
    content = {"b": "茶 🍵", "a": "", "c": "x" * 70_000}
    (tmp_path / "text.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    assert list(load_plain_dict(tmp_path / "text.pkl", str).items()) == list(content.items())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_pickle_is_not_run(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "victim"
    payload = pickle.dumps({"a": Touch(victim)}, protocol=protocol)
    (tmp_path / "text.pkl").write_bytes(payload)
    with pytest.raises(DataError, match=r"text\.pkl.*\.mkdir"):
        load_plain_dict(tmp_path / "text.pkl", str)
    assert not victim.exists()
    pickle.loads(payload)  # the same bytes do harm where they are trusted
    assert victim.exists()


def test_extension_registry_is_no_way_round(tmp_path: Path) -> None:
    copyreg.add_extension("collections", "OrderedDict", 0x70000001)
    try:
        (tmp_path / "text.pkl").write_bytes(pickle.dumps(collections.OrderedDict(a="b"), protocol=2))
        with pytest.raises(DataError, match=r"collections\.OrderedDict"):
            load_plain_dict(tmp_path / "text.pkl", str)
    finally:
        copyreg.remove_extension("collections", "OrderedDict", 0x70000001)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (pickle.dumps(["a"]), "holds a list"),
        (pickle.dumps({1: "a"}), "key 1 is a int"),
        (pickle.dumps({"a": 1}), "the value of 'a' is a int, expected str"),
        (pickle.dumps({"a": None}), "is a NoneType"),
        (pickle.dumps({"a": np.int64(3)}), "asks for"),
        (pickle.dumps({"a": "b"})[:-4], "not a readable pickle"),
        (b"", "not a readable pickle"),
        (b"hello", "not a readable pickle"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "not a readable pickle"),  # a forged string length
        (b"\x80\x04Pxyz\n.", "outside object"),  # a persistent id
    ],
)
def test_anything_else_is_refused_in_one_sentence(tmp_path: Path, payload: bytes, message: str) -> None:
    (tmp_path / "text.pkl").write_bytes(payload)
    with pytest.raises(DataError, match=message) as caught:
        load_plain_dict(tmp_path / "text.pkl", str)
    assert str(tmp_path / "text.pkl") in str(caught.value)


def test_flags_are_no_indices(tmp_path: Path) -> None:
    (tmp_path / "item_set.pkl").write_bytes(pickle.dumps({"a": True}))
    with pytest.raises(DataError, match="is a bool, expected int"):
        load_plain_dict(tmp_path / "item_set.pkl", int)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.pkl"):
        load_plain_dict(tmp_path / "nothing.pkl", str)
