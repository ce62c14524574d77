from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_cdsr.cli import main
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.data.atomic import write_atomic
from recbole_cdsr.data.card import DatasetCard
from recbole_cdsr.errors import DataError
from recbole_cdsr.llm.store import save_feature_set
from recbole_cdsr.quick_start import create_dataset
from recbole_cdsr.stats import NOT_PUBLISHED, PUBLISHED, published_of, table

CARD = DatasetCard(
    name="fk",
    description="sequences",
    converter={"name": "llmcdsr", "options": {"domains": "food,kitchen", "overlap_ratio": 0.25}},
    split="official",
    filters=["8 of 9 users drawn"],
    rows={"read": 11, "kept": 9, "malformed": 2},
    domains=[
        {"name": "food", "items": 8661, "interactions": 10, "users": 7},
        {"name": "kitchen", "items": 4, "interactions": 1000, "users": 3},
    ],
    users=8,
    overlapped_users=2,
    single_domain_users=6,
    interactions=1010,
    density=0.00125,
    sequence_length={"min": 1.0, "median": 2.5},
    splits={"valid": {"users": 960, "interactions": 5}},
)


def test_the_table_exactly() -> None:
    assert table(CARD, {"training users of food only": 5}) == (
        "fk: sequences\n"
        "made by llmcdsr domains=food,kitchen overlap_ratio=0.25\n"
        "rows: 11 read, 9 kept, 2 malformed; split: official\n"
        "filter: 8 of 9 users drawn\n"
        "                                     here  published\n"
        "items of food                       8,661  8,661\n"
        "interactions of food                   10  not published\n"
        "users of food                           7  not published\n"
        "items of kitchen                        4  27,637\n"
        "interactions of kitchen             1,000  not published\n"
        "users of kitchen                        3  not published\n"
        "users                                   8  not published\n"
        "users of several domains                2  not published\n"
        "users of one domain                     6  not published\n"
        "interactions                        1,010  not published\n"
        "density                         1.250e-03  not published\n"
        "interactions of a user, mean       126.25  not published\n"
        "interactions of a user, min             1  not published\n"
        "interactions of a user, median       2.50  not published\n"
        "training users of food only             5  5,472\n"
        "users of valid                        960  960\n"
        "interactions of valid                   5  not published\n"
        "published: Food-Kitchen, the files that the authors of LLMCDSR released"
    )


@pytest.mark.parametrize(
    ("converter", "synthetic", "known"),
    [
        ({"name": "llmcdsr"}, False, True),
        ({"name": "llmcdsr"}, True, False),
        ({"name": "llmcdsr", "preset": "food-kitchen"}, False, False),
        ({"name": "csv"}, False, False),
        ({"name": "c2dsr", "preset": "toy-game"}, False, True),
        ({"name": "c2dsr", "preset": "toy-game, changed by --domains"}, False, False),
        ({"name": "amazon", "preset": "llm4cdsr-cloth-sport"}, False, False),
        ({}, False, False),
    ],
)
def test_whose_figures_are_known(converter: dict[str, str], synthetic: bool, known: bool) -> None:
    card = DatasetCard(**{**CARD.to_dict(), "converter": converter, "synthetic": synthetic})
    assert (published_of(card) is not None) is known
    printed = table(card, {})
    assert ("no figures of this dataset are known" in printed) is not known
    if not known:
        assert printed.count(NOT_PUBLISHED) == 16
    assert printed.startswith("SYNTHETIC DATA") is synthetic


def test_published_figures_belong_to_rows_of_the_table() -> None:
    """A figure under another name would never be shown."""
    for (_, names), published in PUBLISHED.items():
        domains = names.replace("-", ",").split(",")
        rows = {f"items of {domain}" for domain in domains} | {"users of valid", "users of test"}
        rows |= {f"training users of {domain} only" for domain in domains} | {"training users of several domains"}
        assert set(published.figures) <= rows


def write(folder: Path, **parts: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True)
    items = pd.DataFrame({"item_id": ["a:1", "a:2", "b:1"], "domain": ["a", "a", "b"], "title": ['x\n"y"', "", "z"]})
    write_atomic(folder / f"{folder.name}.item", items, {"item_id": "token", "domain": "token", "title": "token_seq"})
    for part, rows in parts.items():
        frame = pd.DataFrame([(u, i, float(k)) for k, (u, i) in enumerate(rows)], columns=["user_id", "item_id", "t"])
        name = f"{folder.name}.inter" if part == "whole" else f"{folder.name}.{part}.inter"
        write_atomic(folder / name, frame, {"user_id": "token", "item_id": "token", "t": "float"})


def test_a_dataset_without_card_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [("u", "a:1"), ("u", "a:2"), ("v", "a:1"), ("v", "b:1"), ("w", "b:1")]
    write(Path("atomic_data/mine"), whole=rows)
    assert main(["stats", "mine"]) == 0
    out = capsys.readouterr().out
    assert "users of several domains           1  not published" in out
    assert "no figures of this dataset are known" in out
    # A card written by hand may say what the data are and count nothing.
    Path("atomic_data/mine/mine.card.yaml").write_text("name: mine\nsynthetic: true\n")
    assert main(["stats", "mine"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("SYNTHETIC DATA")
    assert said.endswith(out.removeprefix("mine\n"))
    write(Path("here/split"), train=rows, valid=[("x", "a:1"), ("x", "b:1")], test=[("y", "a:1"), ("y", "b:1")])
    assert main(["stats", "split", "--data-path", "here"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = {" ".join(line[:-3]): line[-3] for line in lines if line[-2:] == ["not", "published"]}
    assert found["training users of a only"] == "1"
    assert found["training users of b only"] == "1"
    assert found["training users of several domains"] == "1"
    assert (found["users"], found["users of train"], found["interactions of test"]) == ("5", "3", "2")


def test_who_made_the_features_beside_the_data_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "mine", whole=[("u", "a:1"), ("u", "b:1"), ("v", "b:1")])
    made = {"made_by": "a generator (no LLM)", "texts_sha256": "0", "prompt_version": "1", "encoder": {"name": "none"}}
    matrix = np.ones((2, 3), dtype=np.float32)
    save_feature_set(tmp_path / "mine" / "features", "items", "mine", matrix, ["a:1", "b:1"], **made)
    assert main(["stats", "mine", "--data-path", str(tmp_path)]) == 0
    kinds = capsys.readouterr().out.partition("features of mine:\n")[2].splitlines()
    assert [line.split("  ")[0] for line in kinds] == ["kind", "items"]
    assert "a generator (no LLM)" in kinds[1]
    assert "2 x 3" in kinds[1]


@pytest.mark.parametrize(
    ("parts", "with_card"),  # of a single file with a card the items are not read
    [(("whole",), False), (("train", "valid", "test"), False), (("train", "valid", "test"), True)],
)
def test_an_item_that_stands_twice_is_told_as_loading_tells_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: tuple[str, ...], with_card: bool
) -> None:
    folder = tmp_path / "mine"
    write(folder, **{part: [("u", "a:1"), ("u", "b:1")] for part in parts})
    with (folder / "mine.item").open("a") as stream:
        stream.write("a:2\tb\tagain\n")
    if with_card:
        DatasetCard("mine", domains=[{"name": "a"}, {"name": "b"}]).save(folder)
    assert main(["stats", "mine", "--data-path", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{folder}/mine.item, line 6: item 'a:2' stands here a second time; keep one of the rows.")
    with pytest.raises(DataError, match=re.escape(line[line.index(str(folder)) :])):
        create_dataset(
            CDSRConfig("BPR", "mine", config_dict={"data_path": str(tmp_path), "TIME_FIELD": "t", "use_gpu": False})
        )


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["stats"], "the following arguments are required: NAME"),
        (["stats", "nope"], "Dataset 'nope' is not there"),
        (["stats", "a/b"], "'a/b' is not the name of a folder"),
        (["stats", "bad"], "bad.card.yaml: the dataset card"),
        (["stats", "blank"], "blank.item, line 1"),
    ],
)
def test_mistakes_get_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    answer: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("atomic_data/bad"), whole=[("u", "a:1")])
    Path("atomic_data/bad/bad.card.yaml").write_text("- no mapping\n")
    write(Path("atomic_data/blank"), whole=[("u", "a:1")])
    Path("atomic_data/blank/blank.item").write_text("\n")
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert answer in line
