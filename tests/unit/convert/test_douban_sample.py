from __future__ import annotations

import importlib.util
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from recbole_cdsr.data.atomic import read_item_text
from recbole_cdsr.data.card import load_card

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "atomic_data" / "douban"


def load_generator():
    spec = importlib.util.spec_from_file_location("make_douban_sample", ROOT / "tools" / "make_douban_sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def interactions() -> pd.DataFrame:
    frame = pd.read_csv(SAMPLE / "douban.inter", sep="\t", dtype={"user_id:token": str})
    return frame.rename(columns=lambda name: name.split(":")[0])


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    return read_item_text(SAMPLE, "douban")


def test_generator_writes_the_committed_bytes(tmp_path: Path) -> None:
    folder = load_generator().write_sample(tmp_path)
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    committed = {path.name: path.read_bytes() for path in SAMPLE.iterdir() if path.is_file()}
    assert written == committed
    assert sum(map(len, committed.values())) < 3_000_000


def test_card_says_synthetic() -> None:
    card = load_card(SAMPLE, "douban")
    assert card is not None
    assert card.synthetic
    assert card.describe().startswith("SYNTHETIC")


def test_users(interactions: pd.DataFrame, items: pd.DataFrame) -> None:
    lengths = interactions.groupby("user_id").size()
    assert len(lengths) == 3000
    assert lengths.min() >= 5
    assert 8 <= lengths.mean() <= 14
    domains = interactions.merge(items[["item_id", "domain"]], on="item_id").groupby("user_id")["domain"].nunique()
    assert 0.35 < (domains == 2).mean() < 0.45
    assert not interactions.duplicated(["user_id", "item_id"]).any()
    assert set(interactions["rating"]) == {1, 2, 3, 4, 5}


def test_times_are_in_2016_and_survive_float32(interactions: pd.DataFrame) -> None:
    years = pd.to_datetime(interactions["timestamp"], unit="s").dt.year
    assert set(years) == {2016}
    coarse = interactions["timestamp"].astype(np.float32).astype(np.int64)
    assert (coarse.groupby(interactions["user_id"]).diff().dropna() > 0).all()


def test_popularity_is_long_tailed(interactions: pd.DataFrame, items: pd.DataFrame) -> None:
    counts = interactions["item_id"].value_counts().reindex(items["item_id"], fill_value=0)
    assert 6 <= counts.median() <= 10
    head = counts.sort_values(ascending=False).iloc[: len(counts) // 5]
    assert head.sum() / counts.sum() > 0.45


def test_no_word_belongs_to_two_topics() -> None:
    topics = yaml.safe_load((ROOT / "tools" / "douban_sample_topics.yaml").read_text(encoding="utf-8"))
    words = [
        {*topic["labels"], *topic["adjectives"], *topic["motifs"], *chain(*topic["motifs"].values())}
        for topic in topics.values()
    ]
    assert len(words) == 24
    assert len(set.union(*words)) == sum(map(len, words))


def test_neighbouring_items_of_a_user_share_words_across_domains(
    interactions: pd.DataFrame, items: pd.DataFrame
) -> None:
    """Text tells what a user takes next, in the other domain too: more labels shared than at random."""
    labels = items.set_index("item_id")["labels"].str.split().map(set)
    domain = items.set_index("item_id")["domain"]
    following = interactions.groupby("user_id")["item_id"].shift(-1)
    pairs = pd.DataFrame({"now": interactions["item_id"], "next": following}).dropna()
    crossing = pairs[domain.loc[pairs["now"]].to_numpy() != domain.loc[pairs["next"]].to_numpy()]
    shuffled = crossing["next"].sample(frac=1, random_state=0).to_numpy()

    def sharing(now: pd.Series, then: np.ndarray) -> float:
        return float(np.mean([bool(a & b) for a, b in zip(labels.loc[now], labels.loc[then], strict=True)]))

    assert sharing(crossing["now"], crossing["next"].to_numpy()) > 4 * sharing(crossing["now"], shuffled)
