from __future__ import annotations

import gzip
import logging
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import recbole_cdsr  # isort: skip  # noqa: F401 - makes RecBole importable

from recbole.config import Config
from recbole.data import create_dataset

from recbole_cdsr.cli import main
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.convert.llmcdsr import SEQUENCE_FILES, convert_llmcdsr
from recbole_cdsr.data.card import load_card
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.quick_start import create_dataset as create_cdsr_dataset

Release = Callable[..., Path]
DOMAINS = ("food", "kitchen")
HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"


def inter(*sequences: tuple[str, str]) -> str:
    """Return the `.inter` text of (user, 'a0 b1 ...') sequences."""
    domain = {"A": "food", "B": "kitchen"}
    return HEADER + "".join(
        f"{user}\t{domain[item[0]]}:{item}\t{position}\n"
        for user, items in sequences
        for position, item in enumerate(items.split())
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_official_split_exactly(release: Release, tmp_path: Path) -> None:
    folder = convert_llmcdsr(release(), "mini", DOMAINS, tmp_path / "out")
    assert folder == tmp_path / "out" / "mini"
    files = {name: content.decode("utf-8") for name, content in contents(folder).items()}
    assert set(files) == {
        "mini.train.inter", "mini.valid.inter", "mini.test.inter", "mini.item", "mini.card.yaml"
    }  # fmt: skip
    assert files["mini.train.inter"] == inter(
        ("A:1", "A0 A1 A2"), ("A:2", "A2 A0 A1"), ("B:1", "B0 B1 B0"), ("AB:1", "A0 B0 A1 B1")
    )
    assert files["mini.valid.inter"] == inter(("valid:1", "A2 B0 A0"), ("valid:2", "B1 B0 A1 A2"))
    assert files["mini.test.inter"] == inter(("test:1", "B0 A0 B1"))
    assert files["mini.item"] == (
        "item_id:token\tdomain:token\ttitle:token_seq\n"
        'food:A0\tfood\t"Miso\npaste"\n'
        'food:A1\tfood\t"Pan 5"" wide"\n'
        'food:A2\tfood\t"Tea &amp; \t茶 🍵"\n'
        "kitchen:B0\tkitchen\tWok\n"
        "kitchen:B1\tkitchen\t\n"
    )
    assert os.listdir(tmp_path / "out") == ["mini"]


def test_loo_holds_every_user_with_the_full_sequence(release: Release, tmp_path: Path) -> None:
    folder = convert_llmcdsr(release(), "mini", DOMAINS, tmp_path / "out", split="loo")
    assert set(contents(folder)) == {"mini.inter", "mini.item", "mini.card.yaml"}
    assert (folder / "mini.inter").read_text(encoding="utf-8") == inter(
        ("A:1", "A0 A1 A2"),
        ("A:2", "A2 A0 A1"),
        ("B:1", "B0 B1 B0"),
        ("AB:1", "A0 B0 A1 B1"),
        ("valid:1", "A2 B0 A0"),
        ("valid:2", "B1 B0 A1 A2"),
        ("test:1", "B0 A0 B1"),
    )


def test_card_counts(release: Release, tmp_path: Path) -> None:
    raw = release()
    card = load_card(convert_llmcdsr(raw, "mini", DOMAINS, tmp_path / "out"), "mini")
    assert card is not None
    assert (card.synthetic, card.split, card.users, card.interactions) == (False, "official", 7, 23)
    assert (card.overlapped_users, card.single_domain_users) == (4, 3)
    assert card.domains == [
        {"name": "food", "items": 3, "interactions": 13, "users": 6},
        {"name": "kitchen", "items": 2, "interactions": 10, "users": 5, "items_without_text": 1},
    ]
    assert card.splits == {
        "train": {"users": 4, "interactions": 13},
        "valid": {"users": 2, "interactions": 7},
        "test": {"users": 1, "interactions": 3},
    }
    assert card.rows == {"read": 7, "kept": 7, "malformed": 0}
    assert card.density == pytest.approx(23 / 35, rel=1e-5)
    assert len(card.source["files"]) == 10
    assert card.source["files"][0]["bytes"] == len("3\n2")
    assert str(tmp_path) not in (tmp_path / "out/mini/mini.card.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "changed",
    [
        {"num__txt": "3 2\n\n"},
        {"num__txt": "3\r\n2\r\n", "train_A__txt": "1\t0,1,2\r\n2\t2,0,1\r\n"},
        {"train_A__txt": "\ufeff1\t0,1,2\n\n2\t2, 0 ,1"},
        {"train_B__txt": "1\t3,4,3\n   \n\n"},
    ],
    ids=["one line", "CRLF", "BOM, blank line, spaces, no last newline", "blank end"],
)
def test_quirks_of_releases_change_nothing(release: Release, tmp_path: Path, changed: dict[str, str]) -> None:
    folder = convert_llmcdsr(release(**changed), "mini", DOMAINS, tmp_path / "out")
    assert (folder / "mini.train.inter").read_text(encoding="utf-8") == inter(
        ("A:1", "A0 A1 A2"), ("A:2", "A2 A0 A1"), ("B:1", "B0 B1 B0"), ("AB:1", "A0 B0 A1 B1")
    )


def test_a_named_user_of_one_file_is_not_a_number_of_another(
    release: Release, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = release(train_A__txt="B:1\t0,1,2\nB1\t0,1,2\nanna k\t1,2\n", train_B__txt="1\t3,4\nanna k\t4,3\n")
    with caplog.at_level(logging.WARNING):
        folder = convert_llmcdsr(raw, "mini", DOMAINS, tmp_path / "out")
    train = pd.read_csv(folder / "mini.train.inter", sep="\t")
    assert list(train["user_id:token"].unique()) == ["A:B:1", "A:B1", "A:anna k", "B:1", "B:anna k", "AB:1"]
    assert "1 named users stand in several files" in caplog.text


def test_an_empty_single_domain_file_is_no_error(release: Release, tmp_path: Path) -> None:
    folder = convert_llmcdsr(release(train_A__txt=""), "mini", DOMAINS, tmp_path / "out")
    assert (folder / "mini.train.inter").read_text(encoding="utf-8") == inter(
        ("B:1", "B0 B1 B0"), ("AB:1", "A0 B0 A1 B1")
    )


@pytest.mark.parametrize("split", ["official", "loo"])
def test_max_users_draws_whole_users_by_seed(release: Release, tmp_path: Path, split: str) -> None:
    raw = release(train_A__txt="".join(f"{user}\t0,1,2\n" for user in range(1, 201)))
    part = "" if split == "loo" else "train."

    def drawn(name: str, seed: int, max_users: int | None = 20) -> list[str]:
        folder = convert_llmcdsr(raw, name, DOMAINS, tmp_path, split=split, max_users=max_users, seed=seed)
        rows = pd.read_csv(folder / f"{name}.{part}inter", sep="\t")
        assert (rows.groupby("user_id:token").size() >= 3).all()
        assert rows.groupby("user_id:token", sort=False)["timestamp:float"].is_monotonic_increasing.all()
        return list(rows["user_id:token"].unique())

    everyone = drawn("all", 1, max_users=None)
    first, again, second = drawn("s1", 1), drawn("s1b", 1), drawn("s2", 2)
    assert len(first) == len(second) == 20
    assert first == again != second
    assert first == [user for user in everyone if user in set(first)]  # the order of the release stays
    assert drawn("huge", 1, max_users=10_000) == everyone
    card = load_card(tmp_path / "s1", "s1")
    assert card is not None
    assert f"20 of {len(everyone)}" in card.filters[0]
    assert [domain["items"] for domain in card.domains] == [3, 2]  # items stay, drawn or not
    if split == "official":
        assert card.splits["valid"]["users"] == 2
        assert card.splits["test"]["users"] == 1


@pytest.mark.parametrize("split", ["official", "loo"])
def test_same_input_same_bytes(release: Release, tmp_path: Path, split: str) -> None:
    raw = release()
    once, twice = (
        contents(convert_llmcdsr(raw, "mini", DOMAINS, tmp_path / out, split=split, max_users=3, seed=5))
        for out in ("one", "two")
    )
    assert once == twice


def code() -> bytes:
    class Run:
        def __reduce__(self):
            return os.mkdir, ("never",)

    return pickle.dumps({"A0": Run()})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num__txt": None}, r"num\.txt missing.*LLMCDSR release"),
        ({"text_A__pkl": None, "test__txt": None}, r"test\.txt, text_A\.pkl missing"),
        ({"num__txt": "3\n"}, r"num\.txt: expected two positive item counts, found '3'"),
        ({"num__txt": "3\nx"}, r"num\.txt: expected two positive"),
        ({"num__txt": "0\n2"}, r"num\.txt: expected two positive"),
        ({"num__txt": "4\n2"}, r"item_set_A\.pkl: holds 3 items, but num\.txt counts 4"),
        (
            {"train_A__txt": "1\t0,1,2\n2 0,1,2\n"},
            r"train_A\.txt, line 2: expected user<TAB>items, found 1 col",
        ),
        ({"train_A__txt": "1\t0,1,2\n\n2\t9\t0,1\n"}, r"train_A\.txt, line 3: .*found 3 column"),
        ({"valid__txt": "1\t\n"}, r"valid\.txt, line 1: user '1' has no items"),
        ({"valid__txt": " \t1,2\n"}, r"valid\.txt, line 1: the user is empty"),
        (
            {"test__txt": "1\t0,1.5\n"},
            r"test\.txt, line 1: expected item numbers joined by commas, found '0,1\.5'",
        ),
        ({"test__txt": "1\t0,-1\n"}, r"test\.txt, line 1: expected item numbers"),
        ({"test__txt": "1\t0,,1\n"}, r"test\.txt, line 1: expected item numbers"),
        ({"test__txt": f"1\t0,{10**30}\n"}, r"test\.txt, line 1: expected item numbers"),
        ({"test__txt": "1\t0,1\n\n2\t1,5,0\n"}, r"test\.txt, line 3: item 5 is out of range.* 0 to 4"),
        (
            {"train_A__txt": "1\t0,3,1\n"},
            r"train_A\.txt, line 1: item 3 is out of range.* of food are 0 to 2",
        ),
        (
            {"train_B__txt": "1\t3,4,0\n"},
            r"train_B\.txt, line 1: item 0 is out of range.* of kitchen are 3 to 4",
        ),
        ({"valid__txt": "1\t0,1\n2\t3\n"}, r"valid\.txt, line 2: user '2' has 1 item\(s\)"),
        ({"train_A__txt": "7\t0,1\n7\t1,2\n"}, r"train_A\.txt, line 2: user '7' stands in this file twice"),
        ({"train_A__txt": b"1\t0,1\n\xff\t1,2\n"}, r"train_A\.txt: cannot be read as UTF-8"),
        ({"valid__txt": ""}, r"valid\.txt: has no rows"),
        ({"train_A__txt": "", "train_B__txt": "", "train_overlap__txt": ""}, "are all empty"),
        ({"item_set_A__pkl": {"A0": 0, "A1": 1, "A2": 3}}, r"item_set_A\.pkl: the indices are not 0 to 2"),
        ({"item_set_A__pkl": {"A0": 0, "A1": 1, "A2": 1}}, r"item_set_A\.pkl: the indices are not 0 to 2"),
        ({"item_set_A__pkl": {"A0": 0, "A1": 1, "A 2": 2}}, r"item_set_A\.pkl: 'A 2' cannot be an item id"),
        ({"text_B__pkl": {"B0": "Wok"}}, r"text_B\.pkl: 1 items of item_set_B\.pkl have no title.*'B1'"),
        ({"text_B__pkl": {"B0": "Wok", "B1": float("nan")}}, r"text_B\.pkl: the value of 'B1' is a float"),
        ({"text_B__pkl": {"B0": "half \ud83c", "B1": ""}}, "half a character"),
        ({"text_A__pkl": code()}, r"text_A\.pkl: the pickle asks for"),
    ],
)
def test_bad_release_is_refused_in_one_line_and_leaves_nothing(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = release(**changed)
    with pytest.raises(DataError, match=message) as caught:
        convert_llmcdsr(raw, "mini", DOMAINS, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "mini").exists()
    assert not list(tmp_path.glob("out/*"))
    assert not (tmp_path / "never").exists()


def test_leave_one_out_trains_on_users_of_two_items(release: Release, tmp_path: Path) -> None:
    raw = release(train_A__txt="1\t0,1,2\n2\t0,1\n")
    for split in ("official", "loo"):
        convert_llmcdsr(raw, "mini", DOMAINS, tmp_path / "out", split=split)
        card = load_card(tmp_path / "out" / "mini", "mini")
        assert card is not None
        assert card.rows == {"read": 7, "kept": 7, "malformed": 0}
    assert "A:2\tfood:A0\t0\nA:2\tfood:A1\t1\n" in (tmp_path / "out/mini/mini.inter").read_text(encoding="utf-8")
    dataset = create_cdsr_dataset(
        CDSRConfig("SASRecBCE", "mini", config_dict={"data_path": str(tmp_path / "out"), "use_gpu": False})
    )
    _, valid, test = dataset.build()
    judged = [set(part.id2token("user_id", part[:]["user_id"].numpy()).tolist()) for part in (valid, test)]
    assert judged == [{"AB:1", "valid:2"}, {"A:1", "B:1", "AB:1", "valid:1", "valid:2", "test:1"}]


@pytest.mark.parametrize("split", ["official", "loo"])
def test_a_user_of_one_item_is_refused(release: Release, tmp_path: Path, split: str) -> None:
    with pytest.raises(DataError, match=r"train_A\.txt, line 2: user '2' has 1 item\(s\).* at least 2; remove"):
        convert_llmcdsr(release(train_A__txt="1\t0,1,2\n2\t0\n"), "mini", DOMAINS, tmp_path / "out", split=split)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domains": ("food",)}, "has two domains, 1 given"),
        ({"domains": ("food", "food")}, "both domains are called 'food'"),
        ({"domains": ("Food", "kitchen")}, "'Food' cannot name a domain"),
        ({"domains": ("food", "")}, "'' cannot name a domain"),
        ({"name": "../evil"}, "cannot name a dataset"),
        ({"name": ""}, "cannot name a dataset"),
        ({"split": "random"}, "--split: 'random'"),
        ({"max_users": 0}, "--max-users: 0"),
        ({"seed": -1}, "--seed: -1"),
    ],
)
def test_options_that_cannot_be_honoured(release: Release, tmp_path: Path, options: dict, message: str) -> None:
    arguments = {"name": "mini", "domains": DOMAINS, "out_dir": tmp_path / "out", **options}
    with pytest.raises(ConfigError, match=message):
        convert_llmcdsr(release(), **arguments)
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_written(release: Release, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="choose another --out"):
        convert_llmcdsr(release(), "mini", DOMAINS, tmp_path / "file" / "out")
    with pytest.raises(DataError, match="no such folder"):
        convert_llmcdsr(tmp_path / "nowhere", "mini", DOMAINS, tmp_path / "out")


def test_failed_reconversion_leaves_the_earlier_dataset(release: Release, tmp_path: Path) -> None:
    raw = release()
    folder = convert_llmcdsr(raw, "mini", DOMAINS, tmp_path / "out")
    before = contents(folder)
    (raw / "test.txt").write_text("1\t0,99\n")
    with pytest.raises(DataError):
        convert_llmcdsr(raw, "mini", DOMAINS, tmp_path / "out")
    assert contents(folder) == before


def test_a_few_malformed_lines_are_counted_and_said(
    release: Release, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = "".join(f"{user}\t0,1,2\n" for user in range(300))
    raw = release(train_A__txt=good + "300\t0,9\n", train_B__txt="1\t3,4,3\n2 3,4\n")
    folder = convert_llmcdsr(raw, "mini", DOMAINS, tmp_path / "out")
    card = load_card(folder, "mini")
    assert card is not None
    assert card.rows == {"read": 307, "kept": 305, "malformed": 2}
    described = {file["name"]: file for file in card.source["files"]}
    assert described["train_A.txt"]["rows"] == 301
    assert described["train_A.txt"]["malformed_lines"] == [
        "301: item 9 is out of range: by num.txt the items of food are 0 to 2."
    ]
    assert described["train_B.txt"]["malformed_lines"] == ["2: expected user<TAB>items, found 1 column(s)."]
    assert "2 of 307 rows are malformed and left out" in caplog.text
    with pytest.raises(DataError, match=r"line 301: item 9 .*\(2 of 307 rows are malformed, at most 0\.10%"):
        convert_llmcdsr(raw, "mini", DOMAINS, tmp_path / "out", max_malformed=0.001)


def test_gzip_files_are_read_as_well(release: Release, tmp_path: Path) -> None:
    raw = release()
    plain = contents(convert_llmcdsr(raw, "mini", DOMAINS, tmp_path / "out"))
    for file in SEQUENCE_FILES.values():
        (raw / f"{file}.gz").write_bytes(gzip.compress((raw / file).read_bytes()))
        (raw / file).unlink()
    packed = contents(convert_llmcdsr(raw, "mini", DOMAINS, tmp_path / "out"))
    assert {name for name in plain if plain[name] != packed[name]} == {"mini.card.yaml"}
    (raw / "test.txt.gz").write_bytes((raw / "test.txt.gz").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"test\.txt\.gz: the gzip file is cut short"):
        convert_llmcdsr(raw, "mini", DOMAINS, tmp_path / "out")


@pytest.mark.parametrize("split", ["official", "loo"])
def test_overlap_ratios_change_training_rows_only(release: Release, tmp_path: Path, split: str) -> None:
    lines = "".join(f"{user}\t0,3,1,4,2\n" for user in range(20))
    raw = release(train_overlap__txt=lines)
    training, evaluated = [], set()
    for ratio in ("0.25", "0.5", "1"):
        given = ["--raw", raw, "--name", "mini", "--domains", "food,kitchen", "--out", tmp_path / "out"]
        given += ["--split", split, "--overlap-ratio", ratio, "--recbole-benchmark"]
        assert main(["convert", "llmcdsr", *map(str, given)]) == 0
        files = contents(tmp_path / "out" / "mini")
        training.append({line.split("\t")[0] for line in files["mini.train.inter"].decode().splitlines()[1:]})
        evaluated.add((files["mini.valid.inter"], files["mini.test.inter"], files["mini.item"]))
        assert files["mini.recbole.valid.inter"].startswith(b"user_id:token\titem_id_list:token_seq\titem_id:token\n")
    assert len(evaluated) == 1
    kept = [{user for user in users if re.fullmatch(r"AB:\d+", user)} for users in training]
    assert kept[0] < kept[1] < kept[2]
    # Under leave-one-out three users of the evaluation files are overlapped in their training part, too.
    assert [len(found) for found in kept][-1] == 20
    assert {f"{user}@{domain}" for user in kept[2] - kept[0] for domain in DOMAINS} <= training[0]
    card = load_card(tmp_path / "out" / "mini", "mini")
    assert card is not None
    assert card.split == split
    assert card.splits["train"]["users"] == len(training[2])
    assert card.converter["options"]["overlap_ratio"] == 1.0


def test_plain_recbole_loads_the_single_file(release: Release, tmp_path: Path) -> None:
    convert_llmcdsr(release(), "mini", DOMAINS, tmp_path / "out", split="loo")
    settings = {"data_path": str(tmp_path / "out"), "use_gpu": False, "train_neg_sample_args": None}
    settings["load_col"] = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "domain"]}
    dataset = create_dataset(Config("GRU4Rec", "mini", config_dict=settings))
    assert (dataset.user_num, dataset.item_num, dataset.inter_num) == (8, 6, 23)
    train, valid, test = dataset.build()
    assert (len(train), len(valid), len(test)) == (7, 2, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--overlap-ratio", "2"], "--overlap-ratio: 2 is no share"),
        (["--recbole-benchmark", "0"], "--recbole-benchmark: lists of 0 items"),
        (["--max-malformed", "much"], "--max-malformed: 'much' is no share"),
        (["--split", "random"], "invalid choice: 'random'"),
        (["--domains", "food"], "--domains: an LLMCDSR release has two domains"),
        (["--raw", "nowhere"], "nowhere: no such folder; --raw takes the folder of an unpacked LLMCDSR release"),
    ],
)
def test_mistakes_on_the_command_line_get_one_line(
    release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    given = ["--raw", str(release()), "--name", "mini", "--domains", "food,kitchen", "--out", str(tmp_path / "out")]
    assert main(["convert", "llmcdsr", *given, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()
