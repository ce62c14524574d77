"""Who made a dataset's features is noted in its card, and nothing else of the card changes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from recbole_cdsr.data.card import DatasetCard, load_card
from recbole_cdsr.data.card_features import note_features

OWN = """# my data
description: with a comment
features:   # of earlier
  items:
  - made_by: a human
    encoder: paper

# the split follows
split: loo   # and a last word"""


def made(by: str, encoder: str = "tiny") -> dict[str, object]:
    return {"made_by": by, "encoder": {"name": encoder, "weights_sha256": "0"}}


def entry(by: str, encoder: str = "tiny") -> dict[str, str]:
    return {"made_by": by, "encoder": encoder}


def test_a_converted_card_gets_its_makers(tmp_path: Path) -> None:
    path = DatasetCard(name="mini", split="loo").save(tmp_path)
    before = path.read_bytes()
    card = load_card(tmp_path, "mini")
    note_features(tmp_path, "mini", card, "items", made("encoder alone"))
    note_features(tmp_path, "mini", card, "pseudo", made("offline retrieval"))
    assert card.features == {"items": [entry("encoder alone")], "pseudo": [entry("offline retrieval")]}
    assert load_card(tmp_path, "mini") == card
    assert path.read_bytes().startswith(before)
    assert "  features     pseudo items made by offline retrieval with tiny" in card.describe().splitlines()
    assert os.listdir(tmp_path) == ["mini.card.yaml"]


def test_another_maker_stands_beside_the_first_and_each_but_once(tmp_path: Path) -> None:
    path = DatasetCard(name="mini").save(tmp_path)
    for by in ("offline retrieval", "openai:some-model", "offline retrieval", "openai:some-model"):
        note_features(tmp_path, "mini", load_card(tmp_path, "mini"), "pseudo", made(by))
    assert load_card(tmp_path, "mini").features["pseudo"] == [entry("offline retrieval"), entry("openai:some-model")]
    written = path.stat()
    note_features(tmp_path, "mini", load_card(tmp_path, "mini"), "pseudo", made("offline retrieval"))
    assert path.stat().st_mtime_ns == written.st_mtime_ns


def test_what_a_person_wrote_stays(tmp_path: Path) -> None:
    path = tmp_path / "mini.card.yaml"
    path.write_text(OWN, encoding="utf-8")
    card = load_card(tmp_path, "mini")
    note_features(tmp_path, "mini", card, "profiles", made("profiler"))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# my data\ndescription: with a comment\nfeatures:\n")
    assert text.endswith("# the split follows\nsplit: loo   # and a last word")
    assert load_card(tmp_path, "mini") == card
    assert card.features == {"items": [entry("a human", "paper")], "profiles": [entry("profiler")]}


@pytest.mark.parametrize(
    "text",
    [
        '{"description": "as JSON", "split": "loo"}',
        "  description: indented\n  split: loo\n",
        "description: with an end\n...\n",
        "features: {items: [\n{made_by: a human, encoder: paper}]}\n",
        "features:\n  items:\n# by hand\n  - {made_by: a human, encoder: paper}\nsplit: loo\n",
        "features:\n  items:\n\n  - {made_by: a human, encoder: paper}\nsplit: loo\n",
    ],
)
def test_a_card_that_no_section_fits_into_stays_what_it_is(tmp_path: Path, text: str, caplog) -> None:
    path = tmp_path / "mini.card.yaml"
    path.write_text(text, encoding="utf-8")
    card = load_card(tmp_path, "mini")
    before = list(card.features.get("items", []))
    with caplog.at_level(logging.WARNING):
        note_features(tmp_path, "mini", card, "items", made("us"))
    assert card.features == {"items": [*before, entry("us")]}
    if path.read_text(encoding="utf-8") == text:
        assert "mini.card.yaml cannot be written (its YAML" in caplog.text
    else:
        assert load_card(tmp_path, "mini") == card


def test_line_ends_stay(tmp_path: Path) -> None:
    path = tmp_path / "mini.card.yaml"
    path.write_bytes(b"# mine\r\ndescription: of another system\r\n")
    note_features(tmp_path, "mini", load_card(tmp_path, "mini"), "items", made("us"))
    content = path.read_bytes()
    assert content.startswith(b"# mine\r\ndescription: of another system\r\nfeatures:\r\n")
    assert content.count(b"\n") == content.count(b"\r\n")
    assert load_card(tmp_path, "mini").features == {"items": [entry("us")]}


def test_a_last_line_without_an_end_and_another_name_inside(tmp_path: Path) -> None:
    path = tmp_path / "mini.card.yaml"
    path.write_text("name: a copy of maxi", encoding="utf-8")
    note_features(tmp_path, "mini", load_card(tmp_path, "mini"), "items", made("us"))
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert written == {"name": "a copy of maxi", "features": {"items": [entry("us")]}}


def test_no_card_stays_no_card(tmp_path: Path) -> None:
    note_features(tmp_path, "mini", None, "items", made("us"))
    assert os.listdir(tmp_path) == []
    card = DatasetCard(name="mini")  # deleted since it was loaded
    note_features(tmp_path, "mini", card, "items", made("us"))
    assert os.listdir(tmp_path) == []
    assert card.features == {"items": [entry("us")]}


def test_a_card_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    path = DatasetCard(name="mini").save(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(tempfile, "mkdtemp", full)  # where the new content would be written
    card = load_card(tmp_path, "mini")
    with caplog.at_level(logging.WARNING):
        note_features(tmp_path, "mini", card, "items", made("us"))
    assert "mini.card.yaml cannot be written (No space left on device)" in caplog.text
    assert card.features == {"items": [entry("us")]}
    assert path.read_bytes() == before


def test_processes_that_note_at_once_lose_nothing(tmp_path: Path) -> None:
    DatasetCard(name="mini").save(tmp_path)
    code = (
        "import sys\nfrom pathlib import Path\nfrom recbole_cdsr.data.card import load_card\n"
        "from recbole_cdsr.data.card_features import note_features\n"
        "folder, who = Path(sys.argv[1]), sys.argv[2]\n"
        "for turn in range(10):\n"
        "    made = {'made_by': f'{who} {turn}', 'encoder': {'name': 'tiny'}}\n"
        "    note_features(folder, 'mini', load_card(folder, 'mini'), 'pseudo', made)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, tmp_path, f"process {n}"]) for n in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    noted = load_card(tmp_path, "mini").features["pseudo"]
    assert sorted(each["made_by"] for each in noted) == sorted(
        f"process {n} {turn}" for n in range(4) for turn in range(10)
    )
    assert os.listdir(tmp_path) == ["mini.card.yaml"]
