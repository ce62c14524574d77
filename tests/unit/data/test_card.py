from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pandas as pd
import pytest
import yaml

from recbole_cdsr.data.card import DatasetCard, describe_interactions, load_card, source_files
from recbole_cdsr.errors import DataError

ITEMS = pd.DataFrame({"item_id": ["m:1", "b:1", "b:2"], "domain": ["movie", "book", "book"]})
INTERACTIONS = pd.DataFrame(
    {
        "user_id": ["u", "u", "u", "v", "v", "w"],
        "item_id": ["b:1", "m:1", "b:1", "b:1", "b:2", "m:1"],
    }
)


def full_card() -> DatasetCard:
    return DatasetCard(
        name="mini",
        synthetic=True,
        description="a test: with a colon, 中文 and 'quotes'",
        source={"title": "nowhere", "files": [{"name": "a.txt", "sha256": "00123e45", "bytes": 3}]},
        package_version="0.1.0",
        converter={"name": "llmcdsr", "options": {"split": "loo", "max_users": 3}},
        split="loo",
        filters=["3 of 7 users drawn"],
        rows={"read": 9, "kept": 6, "malformed": 3},
        **describe_interactions(INTERACTIONS, ITEMS),
    )


def test_counts() -> None:
    counts = describe_interactions(INTERACTIONS, ITEMS)
    assert counts["domains"] == [
        {"name": "movie", "items": 1, "interactions": 2, "users": 2},
        {"name": "book", "items": 2, "interactions": 4, "users": 2},
    ]
    assert (counts["users"], counts["overlapped_users"], counts["single_domain_users"]) == (3, 1, 2)
    assert counts["interactions"] == 6
    assert counts["density"] == pytest.approx(6 / 9, rel=1e-5)
    lengths = {"min": 1.0, "q25": 1.5, "median": 2.0, "q75": 2.5, "q95": pytest.approx(2.9), "max": 3.0}
    assert counts["sequence_length"] == lengths
    assert "splits" not in counts


def test_counts_of_parts() -> None:
    parts = {"train": INTERACTIONS.iloc[:3], "valid": INTERACTIONS.iloc[3:5], "test": INTERACTIONS.iloc[5:]}
    counts = describe_interactions(parts, ITEMS)
    whole = describe_interactions(INTERACTIONS, ITEMS)
    assert counts.pop("splits") == {
        "train": {"users": 1, "interactions": 3},
        "valid": {"users": 1, "interactions": 2},
        "test": {"users": 1, "interactions": 1},
    }
    assert counts == whole


def test_no_interactions_and_unknown_items() -> None:
    counts = describe_interactions(INTERACTIONS.iloc[:0], ITEMS)
    assert (counts["users"], counts["interactions"], counts["density"]) == (0, 0, 0.0)
    assert counts["sequence_length"] == {}
    assert [domain["items"] for domain in counts["domains"]] == [1, 2]
    with pytest.raises(DataError, match=r"item 'm:1' has interactions but does not stand in \.item"):
        describe_interactions(INTERACTIONS, ITEMS.iloc[1:])


def test_saved_card_comes_back(tmp_path: Path) -> None:
    card = full_card()
    assert card.save(tmp_path) == tmp_path / "mini.card.yaml"
    assert load_card(tmp_path, "mini") == card
    assert yaml.safe_load((tmp_path / "mini.card.yaml").read_text(encoding="utf-8")) == card.to_dict()
    assert os.listdir(tmp_path) == ["mini.card.yaml"]
    with pytest.raises(DataError, match="cannot be written"):
        card.save(tmp_path / "nowhere")


def test_no_card_is_legal_and_a_short_one_too(tmp_path: Path) -> None:
    assert load_card(tmp_path, "mini") is None
    (tmp_path / "mini.card.yaml").write_text("description: my own data\n")
    card = load_card(tmp_path, "mini")
    assert card == DatasetCard(name="mini", description="my own data")
    assert card.describe() == "dataset mini: my own data"


def test_description_shouts_if_synthetic() -> None:
    lines = full_card().describe().splitlines()
    assert lines[0].startswith("SYNTHETIC DATA")
    text = "\n".join(lines)
    for piece in (
        "movie: 1 items, 2 interactions of 2 users",
        "3 malformed",
        "1 overlapped, 2 single",
        "3 of 7",
    ):
        assert piece in text
    honest = full_card()
    honest.synthetic = False
    assert "SYNTHETIC" not in honest.describe()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: [unclosed", "not readable YAML"),
        ("description: 2021-13-45", "not readable YAML"),
        ("name: !!python/object/apply:os.mkdir [never]", "not readable YAML"),
        ("just text", "must be a mapping"),
        ("", "must be a mapping"),
        ("synthetic: 'no'", "synthetic must be a bool, found 'no'"),
        ("users: many", "users must be a int"),
        ("users: true", "users must be a int, found True"),
        ("domains: {book: 3}", "domains must be a list"),
        ("domains: [book]", "every entry of domains must be a mapping with a name"),
        ("domains: [{name: a, items: many}]", "rows, domains, splits and sequence_length hold numbers, found 'many'"),
        ("domains: [{name: a, items: null}]", "hold numbers, found None"),
        ("rows: {malformed: some}", "hold numbers, found 'some'"),
        ("sequence_length: {min: x}", "hold numbers, found 'x'"),
        ("splits: {train: 5}", "every entry of splits must be a mapping of counts, found 5"),
        ("splits: {train: {users: true}}", "hold numbers, found True"),
        ("converter: {options: [a]}", r"converter\.options must be a dict, found \['a'\]"),
        ("source: {files: 3}", r"source\.files must be a list, found 3"),
        ("source: {files: [rows.csv]}", r"source\.files must be a mapping with a name, found 'rows\.csv'"),
        ("features: {items: us}", "every kind in features must list made_by and encoder as text, found 'us'"),
        ("features: {items: [{made_by: us}]}", "every kind in features must list made_by and encoder"),
        ("sythetic: true", "unknown key 'sythetic'; known are name, synthetic"),
    ],
)
def test_broken_card_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini.card.yaml").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_card(tmp_path, "mini")
    assert str(tmp_path / "mini.card.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "never").exists()


def test_source_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc")
    assert source_files([tmp_path / "a.txt"]) == [
        {"name": "a.txt", "sha256": hashlib.sha256(b"abc").hexdigest(), "bytes": 3}
    ]
