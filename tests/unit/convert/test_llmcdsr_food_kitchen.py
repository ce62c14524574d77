"""The real release of Food-Kitchen, item by item and user by user."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_cdsr.convert.llmcdsr import SEQUENCE_FILES, convert_llmcdsr
from recbole_cdsr.convert.safe_pickle import PlainUnpickler
from recbole_cdsr.data.atomic import read_item_text
from recbole_cdsr.data.card import load_card

DOMAINS = ("food", "kitchen")
FOOD_KITCHEN = Path(
    os.environ.get(
        "RECBOLE_CDSR_FOOD_KITCHEN", Path(__file__).resolve().parents[4] / "shared" / "data" / "food-kitchen"
    )
)


@pytest.mark.skipif(
    not (FOOD_KITCHEN / "num.txt").is_file(),
    reason="the real Food-Kitchen release is not here; set RECBOLE_CDSR_FOOD_KITCHEN to its folder",
)
class TestFoodKitchen:
    def test_official(self, tmp_path: Path) -> None:
        folder = convert_llmcdsr(FOOD_KITCHEN, "fk", DOMAINS, tmp_path)
        items = read_item_text(folder, "fk")
        assert items["domain"].value_counts().to_dict() == {"food": 8661, "kitchen": 27637}
        assert list(items["domain"].unique()) == ["food", "kitchen"]
        assert (items["title"] != "").all()
        card = load_card(folder, "fk")
        assert card is not None
        assert {part: count["users"] for part, count in card.splits.items()} == {
            "train": 51164, "valid": 960, "test": 937
        }  # fmt: skip
        train = pd.read_csv(folder / "fk.train.inter", sep="\t")
        users = train["user_id:token"].drop_duplicates().str.partition(":")[0]
        assert users.value_counts().to_dict() == {"A": 5472, "B": 38191, "AB": 7501}

        # Items one by one: the index of each, its asin and its title.
        numbers: dict[str, int] = {}
        for side, domain in zip("AB", DOMAINS, strict=True):
            with (FOOD_KITCHEN / f"item_set_{side}.pkl").open("rb") as stream:
                indices = PlainUnpickler(stream, Path(stream.name)).load()
            with (FOOD_KITCHEN / f"text_{side}.pkl").open("rb") as stream:
                titles = PlainUnpickler(stream, Path(stream.name)).load()
            offset = len(numbers)
            numbers.update({f"{domain}:{asin}": offset + index for asin, index in indices.items()})
            of_domain = items[items["domain"] == domain]
            assert of_domain["item_id"].tolist() == [f"{domain}:{asin}" for asin in sorted(indices, key=indices.get)]
            assert of_domain["title"].tolist() == [titles[token.partition(":")[2]] for token in of_domain["item_id"]]
        assert [numbers[token] for token in items["item_id"]] == list(range(36_298))

        # Users, sequences and splits one by one: the flat rows put together again are the release's lines.
        files = {"train": ["A", "B", "AB"], "valid": ["valid"], "test": ["test"]}
        for part, prefixes in files.items():
            rows = pd.read_csv(folder / f"fk.{part}.inter", sep="\t", dtype=str)
            assert (rows["timestamp:float"].astype(int) == rows.groupby("user_id:token").cumcount()).all()
            sequence = rows["item_id:token"].map(numbers).astype(str)
            lines = sequence.groupby(rows["user_id:token"], sort=False).agg(",".join)
            rebuilt = [f"{user}\t{items_}" for user, items_ in lines.items()]
            released = [
                f"{prefix}:{line}"
                for prefix in prefixes
                for line in (FOOD_KITCHEN / SEQUENCE_FILES[prefix]).read_text().split("\n")
                if line
            ]
            assert rebuilt == released

    def test_eight_thousand_users(self, tmp_path: Path) -> None:
        folder = convert_llmcdsr(FOOD_KITCHEN, "fk8", DOMAINS, tmp_path, max_users=8000, seed=2026)
        card = load_card(folder, "fk8")
        assert card is not None
        assert {part: count["users"] for part, count in card.splits.items()} == {
            "train": 8000, "valid": 960, "test": 937
        }  # fmt: skip
        train = pd.read_csv(folder / "fk8.train.inter", sep="\t")
        share = train["user_id:token"].drop_duplicates().str.startswith("AB:").mean()
        assert np.isclose(share, 7501 / 51164, atol=0.015)  # plain sampling keeps the proportions
