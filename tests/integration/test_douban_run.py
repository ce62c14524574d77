"""Three domains from raw files to a result: generated Douban files, converted, trained on, judged domain by domain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recbole_cdsr.cli import main
from recbole_cdsr.data.card import load_card

REPOSITORY = Path(__file__).resolve().parents[2]
DOMAINS = ["book", "movie", "music"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dataset `douban-small`: 192 users, 144 books, 120 movies, 96 albums at most."""
    folder = tmp_path_factory.mktemp("douban")
    tool = REPOSITORY / "tools" / "make_douban_raw.py"
    subprocess.run([sys.executable, tool, "--out", folder / "raw", "--scale", "0.08"], check=True)
    command = [
        "convert",
        "douban",
        "--raw",
        str(folder / "raw"),
        "--name",
        "douban-small",
        "--out",
        str(folder / "data"),
    ]
    window = ["--from", "2016-01-01", "--to", "2016-12-31", "--min-user", "5"]
    # The share of broken rows is that of the sample times 1 / 0.08.
    assert main([*command, *window, "--max-malformed", "3%"]) == 0
    return folder / "data"


def interactions_of(data: Path) -> pd.DataFrame:
    rows = pd.read_csv(data / "douban-small" / "douban-small.inter", sep="\t", dtype={"user_id:token": str})
    return rows.rename(columns=lambda name: name.split(":")[0])


def test_three_domains_end_to_end(data: Path, run: Any, small: dict[str, Any], read_json: Any) -> None:
    from recbole_cdsr.quick_start import run_recbole_cdsr

    settings = {
        "data_path": str(data), "use_gpu": False, "show_progress": False, "epochs": 4, "train_batch_size": 64,
        "learning_rate": 0.005, "topk": [5, 10], "eval_candidates": ["full", "uni20"], "result_file": "result.json",
        **small,
    }  # fmt: skip
    result = run_recbole_cdsr("LLM4CDSR", "douban-small", config_dict=settings, command_line=[])
    written = read_json("result.json")
    assert written == result
    assert written["synthetic"] is True
    assert written["epochs"] == 4
    assert written["train_losses"][-1] < written["train_losses"][0]

    # Each domain is judged on the users whose last interaction is in it, by what the files say.
    rows = interactions_of(data)
    last = rows.groupby("user_id").tail(1)["item_id"].str.split(":").str[0].value_counts()
    for part in (written["test"], written["test"]["uni20"]):
        domains = part["domains"]
        assert list(domains) == DOMAINS
        assert {name: domains[name]["count"] for name in DOMAINS} == last.to_dict()
        assert all(0 <= domains[name][metric] <= 1 for name in DOMAINS for metric in ("ndcg@10", "hit@5", "mrr@10"))
        weighted = sum(domains[name]["ndcg@10"] * domains[name]["count"] for name in DOMAINS)
        assert part["overall"]["ndcg@10"] == pytest.approx(weighted / last.sum(), abs=1e-4)
    assert {f"ndcg@10_{name}" for name in DOMAINS} <= written["best_valid"].keys()
    # 20 drawn candidates and the target: a shuffled list would have it among the first ten in 10 of 21 rows.
    assert written["test"]["uni20"]["overall"]["hit@10"] > 10 / 21


def test_plain_recbole_loads_every_column_unchanged(data: Path) -> None:
    import recbole_cdsr  # noqa: F401 - makes RecBole importable

    from recbole.config import Config  # isort: skip
    from recbole.data import create_dataset  # isort: skip

    settings = {"data_path": str(data), "load_col": None, "use_gpu": False, "show_progress": False}
    config = Config("BPR", "douban-small", config_dict=settings)
    assert type(config) is Config
    dataset = create_dataset(config)
    rows, card = interactions_of(data), load_card(data / "douban-small", "douban-small")
    assert card.synthetic
    assert dataset.inter_num == len(rows) == card.interactions
    assert dataset.user_num == card.users + 1
    assert dataset.item_num == sum(domain["items"] for domain in card.domains) + 1
    assert {"domain", "title", "labels", "tags", "description"} <= set(dataset.item_feat.columns)
    assert dataset.id2token("user_id", dataset.inter_feat["user_id"].to_numpy()).tolist() == rows["user_id"].tolist()
    assert dataset.id2token("item_id", dataset.inter_feat["item_id"].to_numpy()).tolist() == rows["item_id"].tolist()
    # RecBole keeps times in float32; each user's order survives it.
    times = pd.Series(dataset.inter_feat["timestamp"].to_numpy().astype(np.int64))
    assert (times.groupby(rows["user_id"]).diff().dropna() > 0).all()
