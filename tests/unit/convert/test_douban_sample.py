from __future__ import annotations

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from recbole_cdsr import __version__
from recbole_cdsr.cli import main
from recbole_cdsr.data.atomic import read_item_text
from recbole_cdsr.data.card import load_card

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "atomic_data" / "douban"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("douban") / "raw"
    subprocess.run([sys.executable, ROOT / "tools" / "make_douban_raw.py", "--out", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def interactions() -> pd.DataFrame:
    frame = pd.read_csv(SAMPLE / "douban.inter", sep="\t", dtype={"user_id:token": str})
    return frame.rename(columns=lambda name: name.split(":")[0])


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    return read_item_text(SAMPLE, "douban")


def test_the_commands_of_the_readme_write_the_committed_bytes(raw: Path, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^python tools/make_douban_raw\.py --out raw", readme, re.MULTILINE)
    (options,) = re.findall(r"^recbole-cdsr convert douban --raw raw (--name douban .*)$", readme, re.MULTILINE)
    assert main(["convert", "douban", "--raw", str(raw), *options.split(), "--out", str(tmp_path)]) == 0

    written = {path.name: path.read_bytes() for path in (tmp_path / "douban").iterdir()}
    committed = {path.name: path.read_bytes() for path in SAMPLE.iterdir() if path.is_file()}
    # The committed card also says who makes its features by default, so that a first run does not change it.
    committed["douban.card.yaml"] = committed["douban.card.yaml"].partition(b"features:\n")[0]
    # The card names the version that wrote it, which the committed one keeps while versions go on.
    made_by = re.search(rb"^package_version: .*$", committed["douban.card.yaml"], re.MULTILINE)[0]
    ours = f"package_version: {__version__}".encode()
    written["douban.card.yaml"] = written["douban.card.yaml"].replace(ours, made_by)
    assert written == committed
    assert sum(map(len, committed.values())) < 3_000_000


def test_card_says_synthetic() -> None:
    card = load_card(SAMPLE, "douban")
    assert card is not None
    assert card.synthetic
    assert card.describe().startswith("SYNTHETIC")
    assert "SYNTHETIC" in card.source["title"]
    assert "no real user" in card.description


def test_raw_files_have_the_faults_of_real_ones(raw: Path) -> None:
    reviews = {path.name: path.read_text(encoding="utf-8") for path in raw.glob("*reviews_cleaned.txt")}
    assert len(reviews) == 3
    for text in reviews.values():
        lines = text.split("\n")
        tabs = lines[0].count("\t")
        assert sum(line.count("\t") > tabs for line in lines) > 100  # stray tabs
        assert sum(line == "" for line in lines) > 100  # newlines in comments
        assert re.search(r'\t"[^"\t]+ "[^"\t]+" or so\."\t', text)  # quotes that nobody doubled
        assert '\t""\t' in text
        assert re.search(r'\t"2016-[0-9-]{5}"\t', text)
        assert re.search(r'\t"2016-[0-9-]{5} [0-9:]{8}"\t', text)
    movies = (raw / "movies_cleaned.txt").read_text(encoding="utf-8")
    assert len(re.findall(r"\"\['", movies)) > 100
    assert len(re.findall(r"\t\"[a-z-]+\|", movies)) > 100
    assert (raw / "users_cleaned.txt").read_text(encoding="utf-8").count("\n") == 2401
    card = load_card(SAMPLE, "douban")
    assert card.rows["malformed"] == 36
    assert card.rows["kept"] < card.rows["read"] - 36  # some of other years


def test_a_smaller_population(tmp_path: Path) -> None:
    tool = [sys.executable, ROOT / "tools" / "make_douban_raw.py", "--out", tmp_path / "raw", "--scale"]
    subprocess.run([*tool, "0.05"], check=True, capture_output=True)
    assert (tmp_path / "raw" / "books_cleaned.txt").read_text(encoding="utf-8").count("\n") == 91
    assert "scale 0.05" in (tmp_path / "raw" / "SYNTHETIC.txt").read_text(encoding="utf-8")
    refused = subprocess.run([*tool, "0.01"], capture_output=True, text=True)
    assert refused.returncode
    assert "--scale: 0.01 is not within" in refused.stderr


def test_users(interactions: pd.DataFrame, items: pd.DataFrame) -> None:
    lengths = interactions.groupby("user_id").size()
    assert len(lengths) == 2400
    assert (lengths.min(), lengths.max()) == (5, 40)
    assert 9 <= lengths.mean() <= 10
    rows = interactions.merge(items[["item_id", "domain"]], on="item_id")
    per_domain = rows.groupby(["user_id", "domain"]).size()
    n_domains = per_domain.groupby("user_id").size()
    assert 0.52 < (n_domains > 1).mean() < 0.58
    assert 0.12 < (n_domains == 3).mean() < 0.25
    assert per_domain.min() >= 2
    for domain in ("book", "movie", "music"):
        alone = n_domains[rows.loc[rows["domain"] == domain, "user_id"].unique()] == 1
        assert 0.12 < alone.sum() / 2400 < 0.18
    assert not interactions.duplicated(["user_id", "item_id"]).any()
    assert set(interactions["rating"].dropna()) == {1, 2, 3, 4, 5}
    assert 0.03 < interactions["rating"].isna().mean() < 0.07


def test_times_are_in_2016_and_survive_float32(interactions: pd.DataFrame) -> None:
    years = pd.to_datetime(interactions["timestamp"], unit="s").dt.year
    assert set(years) == {2016}
    assert interactions["timestamp"].groupby(interactions["user_id"]).diff().min() >= 600
    coarse = interactions["timestamp"].astype(np.float32).astype(np.int64)
    assert (coarse.groupby(interactions["user_id"]).diff().dropna() > 0).all()


def test_interactions_are_scarce_and_popularity_has_a_mild_tail(
    interactions: pd.DataFrame, items: pd.DataFrame
) -> None:
    counts = interactions["item_id"].value_counts().reindex(items["item_id"], fill_value=0)
    assert 3 <= counts.median() <= 6
    head = counts.sort_values(ascending=False).iloc[: len(counts) // 5]
    assert 0.35 < head.sum() / counts.sum() < 0.6


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
    """Text tells what a user takes next, in another domain too: more topic words shared than at random."""
    topics = yaml.safe_load((ROOT / "tools" / "douban_sample_topics.yaml").read_text(encoding="utf-8"))
    known = {
        word.replace("-", " "): name
        for name, topic in topics.items()
        for word in [*topic["labels"], *topic["motifs"], *topic["adjectives"], *chain(*topic["motifs"].values())]
    }
    pattern = re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, known), key=len, reverse=True))})\b")
    text = items["title"] + " " + items["labels"] + " " + items["description"]
    found = text.str.lower().str.replace("-", " ").map(lambda cell: {known[word] for word in pattern.findall(cell)})
    told = dict(zip(items["item_id"], found, strict=True))
    domain = items.set_index("item_id")["domain"]
    following = interactions.groupby("user_id")["item_id"].shift(-1)
    pairs = pd.DataFrame({"now": interactions["item_id"], "next": following}).dropna()
    crossing = pairs[domain.loc[pairs["now"]].to_numpy() != domain.loc[pairs["next"]].to_numpy()]
    shuffled = crossing["next"].sample(frac=1, random_state=0).to_numpy()

    def sharing(now: pd.Series, then: np.ndarray) -> float:
        return float(np.mean([bool(told[a] & told[b]) for a, b in zip(now, then, strict=True)]))

    assert len(crossing) > 4000
    assert sharing(crossing["now"], crossing["next"].to_numpy()) > 3 * sharing(crossing["now"], shuffled)
