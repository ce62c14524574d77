from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import recbole_cdsr  # isort: skip  # noqa: F401 - makes RecBole importable

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import run_recbole

from recbole_cdsr.convert import recbole_benchmark
from recbole_cdsr.convert.interactions import Interactions
from recbole_cdsr.convert.recbole_benchmark import write_recbole_benchmark
from recbole_cdsr.data.atomic import write_atomic
from recbole_cdsr.errors import ConfigError, DataError

HEADER = "user_id:token\titem_id_list:token_seq\titem_id:token\n"


def frame(*sequences: tuple[str, str]) -> pd.DataFrame:
    rows = [(user, item, float(k)) for user, items in sequences for k, item in enumerate(items.split())]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def numbered(**parts: pd.DataFrame) -> dict[str, Interactions]:
    """Frames as the converters hold them; the keyword `whole` stands for the one file of leave-one-out."""
    merged = pd.concat(parts.values(), ignore_index=True)
    users, user_tokens = pd.factorize(merged["user_id"])
    items, item_tokens = pd.factorize(merged["item_id"])
    stops = np.cumsum([len(part) for part in parts.values()])
    return {
        "" if part == "whole" else part: Interactions(
            users=users[stop - len(rows) : stop],
            items=items[stop - len(rows) : stop],
            times=rows["timestamp"].to_numpy(),
            ratings=None,
            user_tokens=user_tokens.to_numpy(dtype=object),
            item_tokens=item_tokens.to_numpy(dtype=object),
            item_domains=np.zeros(len(item_tokens), dtype=np.int64),
            domain_names=("b",),
        )
        for (part, rows), stop in zip(parts.items(), stops, strict=True)
    }


def written(folder: Path, name: str = "mini") -> dict[str, str]:
    return {
        part: (folder / f"{name}.recbole.{part}.inter").read_text(encoding="utf-8")
        for part in ("train", "valid", "test")
    }


def test_leave_one_out_exactly(tmp_path: Path) -> None:
    whole = frame(
        ("ann", "book:0 movie:0 book:1 movie:1 book:2"), ("茶", "movie:1 book:0 movie:2"), ("x", "book:2 book:1")
    )
    write_recbole_benchmark(tmp_path, "mini", numbered(whole=whole))
    assert written(tmp_path) == {
        "train": HEADER + "ann\tbook:0\tmovie:0\nann\tbook:0 movie:0\tbook:1\n茶\tmovie:1\tbook:0\nx\tbook:2\tbook:1\n",
        "valid": HEADER + "ann\tbook:0 movie:0 book:1\tmovie:1\n",
        "test": HEADER + "ann\tbook:0 movie:0 book:1 movie:1\tbook:2\n茶\tmovie:1 book:0\tmovie:2\n",
    }


def test_pre_split_exactly_with_the_last_items_of_a_list(tmp_path: Path) -> None:
    parts = {
        "train": frame(("a", "b:0 m:0 b:1 m:1"), ('the "b"', "m:10 b:0")),
        "valid": frame(("v", "b:1 m:0 b:0")),
        "test": frame(("t", "m:0 m:1 b:1 m:10")),
    }
    write_recbole_benchmark(tmp_path, "mini", numbered(**parts), max_length=2)
    assert written(tmp_path) == {
        "train": HEADER + 'a\tb:0\tm:0\na\tb:0 m:0\tb:1\na\tm:0 b:1\tm:1\n"the ""b"""\tm:10\tb:0\n',
        "valid": HEADER + "v\tb:1 m:0\tb:0\n",
        "test": HEADER + "t\tm:1 b:1\tm:10\n",
    }
    assert (tmp_path / "mini.recbole.yaml").read_text() == (
        "benchmark_filename:\n- recbole.train\n- recbole.valid\n- recbole.test\n"
        "load_col:\n  inter:\n  - user_id\n  - item_id_list\n  - item_id\n  item:\n  - item_id\n  - domain\n"
        "alias_of_item_id:\n- item_id_list\nMAX_ITEM_LIST_LENGTH: 2\n"
    )


def random_dataset(folder: Path, name: str, n_users: int = 40) -> pd.DataFrame:
    random = np.random.default_rng(0)
    items = [f"{domain}:{i}" for domain in ("book", "movie") for i in range(15)]
    whole = frame(*((f"u{user}", " ".join(random.choice(items, 4 + user % 9))) for user in range(n_users)))
    folder.mkdir(parents=True)
    table = pd.DataFrame({"item_id": items, "domain": [item.split(":")[0] for item in items]})
    write_atomic(folder / f"{name}.item", table, {"item_id": "token", "domain": "token"})
    return whole


def test_small_chunks_write_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = random_dataset(tmp_path / "mini", "mini")
    write_recbole_benchmark(tmp_path / "mini", "mini", numbered(whole=whole))
    at_once = written(tmp_path / "mini")
    monkeypatch.setattr(recbole_benchmark, "_CHUNK_ITEMS", 64)
    write_recbole_benchmark(tmp_path / "mini", "mini", numbered(whole=whole))
    assert written(tmp_path / "mini") == at_once


def test_plain_recbole_reads_the_rows_and_trains_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    whole = random_dataset(tmp_path / "data" / "mini", "mini")
    write_recbole_benchmark(tmp_path / "data" / "mini", "mini", numbered(whole=whole), max_length=5)
    settings = {
        "data_path": str(tmp_path / "data"), "train_neg_sample_args": None, "epochs": 1, "use_gpu": False,
        "show_progress": False, "hidden_size": 8, "inner_size": 8, "n_heads": 1, "n_layers": 1,
    }  # fmt: skip
    files = [str(tmp_path / "data" / "mini" / "mini.recbole.yaml")]
    config = Config("SASRec", "mini", config_file_list=files, config_dict=settings)
    assert type(config) is Config
    parts = create_dataset(config).build()
    for part, rows in zip(parts, written(tmp_path / "data" / "mini").values(), strict=True):
        expected = [line.split("\t") for line in rows.splitlines()[1:]]
        lists, items = part.inter_feat["item_id_list"].numpy(), part.field2id_token["item_id"]
        seen = [
            [user, " ".join(items[ids[:length]]), item]
            for user, ids, length, item in zip(
                part.id2token("user_id", part.inter_feat["user_id"].numpy()),
                lists,
                part.inter_feat["item_length"].numpy(),
                part.id2token("item_id", part.inter_feat["item_id"].numpy()),
                strict=True,
            )
        ]
        assert seen == expected
    assert parts[0].item_num == 31  # the catalogue and padding
    assert len(data_preparation(config, create_dataset(config))) == 3
    result = run_recbole(model="SASRec", dataset="mini", config_file_list=files, config_dict=settings, saved=False)
    assert 0 <= result["test_result"]["recall@10"] <= 1


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--recbole-benchmark: lists of 0 items"):
        write_recbole_benchmark(tmp_path, "mini", numbered(whole=frame(("a", "b:0 b:1 m:0 m:1"))), max_length=0)
    spaced = frame(("a", "b:0 b:1 m:0 m:1")).replace("b:1", "b:1 x")
    with pytest.raises(DataError, match="item 'b:1 x' holds white space"):
        write_recbole_benchmark(tmp_path, "mini", numbered(whole=spaced))
    with pytest.raises(DataError, match=r"mini\.recbole\.valid\.inter would be empty"):
        write_recbole_benchmark(tmp_path, "mini", numbered(whole=frame(("a", "b:0 b:1 m:0"))))
    with pytest.raises(DataError, match="cannot be written"):
        write_recbole_benchmark(tmp_path / "nowhere", "mini", numbered(whole=frame(("a", "b:0 b:1 m:0 m:1"))))
