"""Windows against RecBole's own augmentation, row by row, and against plain Python."""

from __future__ import annotations

import random as python_random

import numpy as np
import pytest
import torch
from recbole.data.dataset import SequentialDataset

from recbole_cdsr.data.sequences import Rows
from recbole_cdsr.data.windows import WindowCutter, row_numbers

# Users of two, three and four interactions (RecBole leaves none, one and two out), and of more than a window holds.
LENGTHS = [2, 3, 4, 2, 3, 5, 8, 13, 21, 4, 30, 6]


def same_fields(ours, theirs, fields: list[str]) -> None:
    for field in fields:
        assert ours[field].dtype == theirs[field].dtype, field
        torch.testing.assert_close(ours[field], theirs[field], rtol=0, atol=0, msg=lambda text, f=field: f"{f}: {text}")


@pytest.mark.parametrize(("seed", "times", "max_length"), [(0, 1000, 50), (1, 12, 5), (2, 3, 1), (3, 40, 8)])
def test_rows_equal_recboles_augmentation(write_dataset, load, config_of, random_data, seed, times, max_length):
    items, rows = random_data(LENGTHS, times=times, seed=seed)
    write_dataset(items, rows)
    settings = {"MAX_ITEM_LIST_LENGTH": max_length}
    ours, theirs = load(**settings), SequentialDataset(config_of(**settings))
    our_parts, their_parts = ours.build(), theirs.build()
    assert list(ours.field2id_token["item_id"]) == list(theirs.field2id_token["item_id"])
    assert [len(part) for part in our_parts] == [len(part) for part in their_parts]
    assert all(len(part) for part in our_parts)
    for our_part, their_part in zip([ours, *our_parts], [theirs, *their_parts], strict=True):
        everything = slice(None)
        a, b = our_part[everything], their_part[everything]
        fields = ["user_id", "item_id", "timestamp", "item_length", "item_id_list", "timestamp_list", "domain"]
        assert set(b.interaction) == set(fields)
        assert set(a.interaction) - set(fields) <= {"target_domain", "row_id"}
        same_fields(a, b, fields)
        assert a["item_id_list"].shape == (len(b), max_length)
        np.testing.assert_array_equal(a["target_domain"], ours.item_domain[b["item_id"]])


def test_rows_equal_recboles_by_token_where_ids_differ(write_dataset, load, config_of, random_data):
    """Domains interleaved in the file: RecBole mixes the ids, the tokens agree."""
    items, rows = random_data(LENGTHS, sizes=(6, 5, 4), times=15, seed=5, alike=False)
    write_dataset(items, rows)
    ours, theirs = load(MAX_ITEM_LIST_LENGTH=7), SequentialDataset(config_of(MAX_ITEM_LIST_LENGTH=7))
    parts = list(zip(ours.build(), theirs.build(), strict=True))
    assert list(ours.field2id_token["item_id"]) != list(theirs.field2id_token["item_id"])
    for our_part, their_part in parts:
        a, b = our_part[:], their_part[:]
        for field in ("item_id", "item_id_list"):
            tokens = [dataset.id2token("item_id", of[field].numpy()) for dataset, of in ((ours, a), (theirs, b))]
            np.testing.assert_array_equal(*tokens)
        same_fields(a, b, ["user_id", "timestamp", "timestamp_list", "item_length"])


def test_columns_of_every_kind_are_windowed_as_recbole_does(tmp_path, load, config_of):
    """Further columns of `.inter`: float, float as (value, index) of numerical features, token and sequences."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    random = np.random.default_rng(0)
    users, chosen = np.repeat(np.arange(6), 7), np.sort(random.integers(0, 9, 42))
    (folder / "tiny.item").write_text(
        "item_id:token\tdomain:token\n" + "".join(f"i{i}\t{'a' if i < 5 else 'b'}\n" for i in range(9))
    )
    header = "user_id:token item_id:token timestamp:float rating:float price:float device:token"
    header += " tags:token_seq vec:float_seq"
    lines = ["\t".join(header.split())]
    for user, item in zip(random.permutation(users), chosen, strict=True):
        tags = " ".join(f"t{t}" for t in random.integers(0, 5, random.integers(0, 4)))
        vector = " ".join(f"{x:.2f}" for x in random.normal(size=random.integers(1, 3)))
        numbers = f"{random.integers(0, 99)}\t{random.integers(1, 6)}\t{random.integers(1, 6)}"
        lines.append(f"u{user}\ti{item}\t{numbers}\td{random.integers(0, 3)}\t{tags}\t{vector}")
    (folder / "tiny.inter").write_text("\n".join(lines) + "\n")
    columns = [column.split(":")[0] for column in header.split()]
    settings = {"MAX_ITEM_LIST_LENGTH": 4, "load_col": {"inter": columns, "item": ["item_id", "domain"]}}
    settings["numerical_features"] = ["price"]
    ours, theirs = load(**settings).build(), SequentialDataset(config_of(**settings)).build()
    for our_part, their_part in zip(ours, theirs, strict=True):
        assert len(our_part)
        a, b = our_part[:], their_part[:]
        same_fields(a, b, list(b.interaction))
    assert a["tags_list"].ndim == 3
    assert a["price_list"].shape[-1] == 2


def test_unused_columns_are_dropped_as_recbole_drops_them(write_dataset, load, config_of, random_data):
    write_dataset(*random_data(LENGTHS))
    settings = {"unused_col": {"inter": ["timestamp"]}, "MAX_ITEM_LIST_LENGTH": 6}
    train, their_train = load(**settings).build()[0], SequentialDataset(config_of(**settings)).build()[0]
    a, b = train[:], their_train[:]
    assert "timestamp" not in a
    assert set(b.interaction) == set(a.interaction) - {"target_domain"}
    same_fields(a, b, list(b.interaction))


@pytest.mark.parametrize("fixed", [True, False])
def test_windows_of_random_rows_against_plain_python(fixed):
    random = np.random.default_rng(7)
    column = torch.from_numpy(random.integers(1, 100, 60))
    pairs = torch.from_numpy(random.normal(size=(60, 2)).astype(np.float32))
    starts = random.integers(0, 40, 25)
    rows = Rows(starts, starts + random.integers(1, 20, 25))
    windows = WindowCutter({"x": column, "pair": pairs}, 6, fixed_length=fixed).cut(rows)
    lengths = [min(t - s, 6) for s, t in zip(rows.starts, rows.targets, strict=True)]
    width = 6 if fixed else max(lengths)
    for shift in (0, 1):
        values, both = windows.values("x", shift), windows.values("pair", shift)
        assert values.shape == (25, width)
        assert both.shape == (25, width, 2)
        for r, (target, length) in enumerate(zip(rows.targets, lengths, strict=True)):
            expected = column[target - length + shift : target + shift].tolist()
            assert values[r].tolist() == expected + [0] * (width - length)
            torch.testing.assert_close(both[r, :length], pairs[target - length + shift : target + shift])
            assert not both[r, length:].any()
    assert windows.lengths.tolist() == lengths


def test_batches_of_sequence_to_sequence_models_end_at_their_longest_window():
    column = torch.arange(1, 11)
    cutter = WindowCutter({"x": column}, 4, fixed_length=False)
    short = cutter.cut(Rows(np.array([0, 0]), np.array([1, 2])))
    assert short.values("x").tolist() == [[1, 0], [1, 2]]
    assert short.values("x", shift=1).tolist() == [[2, 0], [2, 3]]
    longer = cutter.cut(Rows(np.array([0, 3]), np.array([9, 5])))
    assert longer.values("x").tolist() == [[6, 7, 8, 9], [4, 5, 0, 0]]
    assert cutter.cut(Rows(np.zeros(0, int), np.zeros(0, int))).values("x").shape == (0, 1)


def test_cutting_does_not_write_into_the_columns():
    column = torch.arange(1, 7)
    cutter = WindowCutter({"x": column}, 3, fixed_length=True)
    cutter.cut(Rows(np.array([0]), np.array([1]))).values("x").fill_(-1)
    assert column.tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(None), [0, 1, 2, 3, 4]),
        (slice(1, 4, 2), [1, 3]),
        (slice(-2, None), [3, 4]),
        (slice(3, 100), [3, 4]),
        ([4, 0, 4], [4, 0, 4]),
        ([], []),
        (np.array([-1, 1]), [4, 1]),
        (torch.tensor([2]), [2]),
        (torch.tensor([True, False, False, True, False]), [0, 3]),
        (range(2), [0, 1]),
    ],
)
def test_row_numbers(index, expected):
    assert row_numbers(index, 5).tolist() == expected


def test_row_numbers_of_one_row_and_beyond():
    assert row_numbers(3, 5).shape == ()
    assert row_numbers(torch.tensor(-1), 5) == 4
    for index in ([5], [-6], 7, [0, 9]):
        with pytest.raises(IndexError):
            row_numbers(index, 5)


def test_fearec_reads_windows_off_the_training_data(write_dataset, load, random_data):
    """FEARec takes `dataset.inter_feat[item_id_list][row]` of rows with the same target."""
    write_dataset(*random_data(LENGTHS))
    train = load("FEARec", MAX_ITEM_LIST_LENGTH=6).build()[0]
    column, every = train.inter_feat["item_id_list"], train[:]["item_id_list"]
    assert len(column) == len(train)
    for row in (0, np.int64(5), len(train) - 1):
        torch.testing.assert_close(column[row], every[int(row)], rtol=0, atol=0)
    torch.testing.assert_close(column[[3, 1]], every[[3, 1]], rtol=0, atol=0)
    torch.testing.assert_close(column[:], every, rtol=0, atol=0)

    python_random.seed(0)
    torch.manual_seed(0)
    model = train.config.model_class(train.config, train)
    loss = model.calculate_loss(train[np.arange(32)])
    loss.backward()
    assert torch.isfinite(loss)
    assert model.item_embedding.weight.grad.abs().sum() > 0
