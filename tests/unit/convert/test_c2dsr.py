from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.cli import main
from recbole_cdsr.data.atomic import read_item_text
from recbole_cdsr.data.card import load_card

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"
NOW = 1_400_000_000
# Tied times, events a second apart, lines that are not in order, several lines of one user.
FILES = {
    "Alist.txt": "7\tA2x\t2\n9\tA0x\t0\n3\tA1x\t1",
    "Blist.txt": "1\tB0x\t3\n2\tA0x\t4\n",
    "traindata_new.txt": f"0\t5\t0|{NOW}\t3|{NOW + 1}\t1|{NOW + 1}\n"
    f"1\t2\t4|{NOW + 9}\t2|{NOW + 2}\n"
    f"0\t5\t3|{NOW - 50}\t0|{NOW - 40}\n",
    "validdata_new.txt": f"0\t3\t1|{NOW + 20}\t2|{NOW + 21}\t4|{NOW + 21}\n7\t1\t0|5\t3|6\n",
    "testdata_new.txt": f"0\t3\t1|{NOW + 30}\t2|{NOW + 31}\n0\t4\t0|{NOW + 40}\t3|{NOW + 41}\n",
}
META_2014 = (
    "{'asin': 'A0x', 'title': \"Tea 'n' toast\", 'price': 3.5, 'categories': [['Food', 'Tea']], 'brand': 'B&amp;B'}\n"
    "{'asin': 'other', 'title': 'x'}\n"
    "{'asin': 'A2x', 'description': 'hot <b>and</b>\\ncold'}\n"
)
META_2018 = "".join(
    json.dumps(row) + "\n" for row in [{"asin": "B0x", "title": "茶壶\t🍵", "category": ["Kitchen"]}, {"asin": "q"}]
)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write a miniature release to `raw/`; keywords replace files (`Alist__txt="..."`), `None` drops one."""
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()

    def write(**changed: str | bytes | None) -> None:
        replaced = {name.replace("__", "."): content for name, content in changed.items()}
        for name, content in {**FILES, **replaced}.items():
            if content is not None:
                content = content.encode("utf-8") if isinstance(content, str) else content
                (Path("raw") / name).write_bytes(content)

    return write


def command(*options: str, preset: str | None = "food-kitchen") -> list[str]:
    chosen = ["--preset", preset] if preset else []
    return ["convert", "c2dsr", "--raw", "raw", "--name", "fk", "--out", "out", *chosen, *options]


def written(part: str) -> str:
    return Path(f"out/fk/fk.{part}.inter").read_text(encoding="utf-8").removeprefix(HEADER)


def rows(user: str, *events: tuple[str, int]) -> str:
    domain = {"A": "food:", "B": "kitchen:", "a": "kitchen:"}
    return "".join(f"{user}\t{domain[item[0]]}{item.replace('a', 'A')}\t{time}\n" for item, time in events)


EVALUATED = {
    "valid": (("A1x", NOW + 20), ("A2x", NOW + 21), ("a0x", NOW + 21)),
    "test": (("A1x", NOW + 30), ("A2x", NOW + 31)),
    "test#2": (("A0x", NOW + 40), ("B0x", NOW + 41)),
}


def test_every_line_a_sequence_exactly(release: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    release()
    assert main(command()) == 0
    assert written("train") == (
        rows("train:0", ("A0x", NOW), ("B0x", NOW + 1), ("A1x", NOW + 1))
        + rows("train:1", ("A2x", NOW + 2), ("a0x", NOW + 9))
        + rows("train:0#2", ("B0x", NOW - 50), ("A0x", NOW - 40))
    )
    assert written("valid") == rows("valid:0", *EVALUATED["valid"]) + rows("valid:7", ("A0x", 5), ("B0x", 6))
    assert written("test") == rows("test:0", *EVALUATED["test"]) + rows("test:0#2", *EVALUATED["test#2"])
    assert Path("out/fk/fk.item").read_text(encoding="utf-8") == (
        "item_id:token\tdomain:token\nfood:A0x\tfood\nfood:A1x\tfood\nfood:A2x\tfood\n"
        "kitchen:B0x\tkitchen\nkitchen:A0x\tkitchen\n"
    )
    assert "1 lines are not in order of time and are sorted" in caplog.text
    assert "items have no text without --metadata" in caplog.text
    card = load_card(Path("out/fk"), "fk")
    assert card is not None
    assert card.converter == {
        "name": "c2dsr", "preset": "food-kitchen", "options": {"domains": "food,kitchen", "sequences": "lines"},
    }  # fmt: skip
    assert (card.split, card.rows) == ("official", {"read": 7, "kept": 7, "malformed": 0})
    assert [file["name"] for file in card.source["files"]] == list(FILES)
    assert card.splits == {
        "train": {"users": 3, "interactions": 7},
        "valid": {"users": 2, "interactions": 5},
        "test": {"users": 2, "interactions": 4},
    }


def test_the_lines_of_a_user_joined(release: Callable[..., None]) -> None:
    release()
    assert main(command("--sequences", "users")) == 0
    earlier = rows("0", ("B0x", NOW - 50), ("A0x", NOW - 40), ("A0x", NOW), ("B0x", NOW + 1), ("A1x", NOW + 1))
    assert written("train") == earlier + rows("1", ("A2x", NOW + 2), ("a0x", NOW + 9))
    assert written("valid") == rows("0", *EVALUATED["valid"]) + rows("7", ("A0x", 5), ("B0x", 6))
    assert written("test") == rows("0", *EVALUATED["test"]) + rows("0#2", *EVALUATED["test#2"])


def test_the_other_layout_is_the_same(release: Callable[..., None]) -> None:
    release()
    assert main(command("--domains", "food,kitchen", preset=None)) == 0
    once = [written(part) for part in ("train", "valid", "test")]
    for path in list(Path("raw").iterdir()):
        content = path.read_bytes()
        path.unlink()
        if path.name.endswith("list.txt"):
            cells = [line.split("\t") for line in content.decode().splitlines()]
            lines = [f"{row},{int(index) % 3},{asin}" for row, (_, asin, index) in enumerate(cells)]
            Path(f"raw/{path.stem}.csv").write_text("\n".join([",asin_index,asin", *lines]) + "\r\n")
        else:  # the third layout writes a readable date behind each time, and a last tab
            content = re.sub(rb"\|([0-9]+)(?=[\t\n])", rb"|\1|2014-05-13 16:53:20|", content).replace(b"\n", b"\t\r\n")
            Path(f"raw/{path.name.replace('_new', '')}.gz").write_bytes(gzip.compress(content))
    assert main(command()) == 0
    assert [written(part) for part in ("train", "valid", "test")] == once


def test_which_of_both_variants_is_read(release: Callable[..., None]) -> None:
    release()
    for part in ("train", "valid", "test"):
        Path(f"raw/{part}data.txt").write_text("5\t1\t0|1\t3|2\n")
    assert main(command()) == 0
    assert written("train").startswith("train:0\t")
    assert main(command("--variant", "plain")) == 0
    assert written("train") == "train:5\tfood:A0x\t1\ntrain:5\tkitchen:B0x\t2\n"


def test_text_is_joined_from_details_of_two_releases(release: Callable[..., None]) -> None:
    release()
    Path("meta_Grocery_and_Gourmet_Food.json.gz").write_bytes(gzip.compress(META_2014.encode()))
    Path("meta_Home_and_Kitchen.json").write_text(META_2018, encoding="utf-8")
    assert main(command("--metadata", ".")) == 0
    items = read_item_text(Path("out/fk"), "fk")
    assert list(items) == ["item_id", "domain", "title", "brand", "category", "price", "rating", "description"]
    assert items["title"].tolist() == ["Tea 'n' toast", "", "", "茶壶\t🍵", ""]  # A0x of the kitchen is another item
    assert items["description"].tolist() == ["", "", "hot and\ncold", "", ""]
    assert items.loc[0, ["brand", "category", "price"]].tolist() == ["B&B", "Food > Tea", "3.5"]
    assert items["category"].tolist()[3] == "Kitchen"
    card = load_card(Path("out/fk"), "fk")
    assert card is not None
    assert [domain["items_without_text"] for domain in card.domains] == [1, 1]
    once = {path.name: path.read_bytes() for path in Path("out/fk").iterdir()}
    files = ["food=meta_Grocery_and_Gourmet_Food.json.gz", "kitchen=meta_Home_and_Kitchen.json"]
    assert main(command("--metadata", *files)) == 0
    assert {path.name: path.read_bytes() for path in Path("out/fk").iterdir()} == once
    assert main(command("--metadata", ".", "--without-text")) == 0
    assert list(read_item_text(Path("out/fk"), "fk")) == ["item_id", "domain"]


@pytest.mark.parametrize("sequences", ["lines", "users"])
def test_overlap_ratios_and_benchmark_rows(release: Callable[..., None], sequences: str) -> None:
    random = np.random.default_rng(1)
    lines = [
        f"{user}\t0\t" + "\t".join(f"{random.integers(0, 5)}|{time}" for time in range(6)) for user in range(20)
    ] * 2
    release(traindata_new__txt="\n".join(lines))
    evaluated, names = [], []
    for ratio in ("0.25", "0.5", "0.75", "1"):
        assert main(command("--overlap-ratio", ratio, "--sequences", sequences, "--recbole-benchmark", "3")) == 0
        evaluated.append((written("valid"), written("test")))
        names.append({line.split("\t")[0] for line in written("train").splitlines()})
        assert len(Path("out/fk/fk.recbole.test.inter").read_text().splitlines()) == 3
    assert len(set(evaluated)) == 1
    # A person is kept or split with both lines; the judged ones train under another name, kept or not.
    split = [{re.split("[@#]", name)[0] for name in found if re.search("@(food|kitchen)", name)} for found in names]
    assert [len(found) for found in split] == [15, 10, 5, 0]
    assert split[0] > split[1] > split[2]
    if sequences == "users":
        assert all({"0", "7"}.isdisjoint(found) for found in names)


def test_drawn_users_come_with_all_their_lines(release: Callable[..., None]) -> None:
    release()
    assert main(command("--max-users", "1", "--seed", "3")) == 0
    users = {line.split("\t")[0] for line in written("train").splitlines()}
    assert users in ({"train:0", "train:0#2"}, {"train:1"})
    assert written("test").count("\n") == 4
    assert len(read_item_text(Path("out/fk"), "fk")) == 5


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not list(Path("out").glob("*"))
    return line


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({"Alist__txt": None}, r"raw: there is no Alist\.txt or Alist\.csv .*it is published as a part of"),
        ({"testdata_new__txt": None}, r"raw: there is no testdata_new\.txt \(plain or \.gz\); it is published"),
        ({"Alist__txt": ""}, r"Alist\.txt: lists no items"),
        ({"Alist__txt": "1\tA0\t0\t9\n"}, r"Alist\.txt, line 1: expected id<TAB>asin<TAB>index"),
        ({"Alist__txt": "1\tA0\t0\n2\tA1\tx\n"}, r"Alist\.txt, line 2: expected an asin and an index"),
        ({"Alist__txt": "1\tA0\t0\n2\tA0\t1\n"}, r"Alist\.txt, line 2: the asin 'A0' or the index 1 stands there"),
        ({"Alist__txt": "1\tA0\t0\n2\tA1\t2\n"}, r"Alist\.txt: the indices of its 2 items should be 0 to 1, but"),
        ({"Blist__txt": "1\tB0\t1\n2\tB1\t2\n"}, r"Blist\.txt: .* 0 to 1, or 3 to 4, but are from 1 to 2"),
        ({"traindata_new__txt": ""}, r"traindata_new\.txt: has no rows"),
        ({"traindata_new__txt": "0\t1\t0|1\t9|2\n"}, r"traindata_new\.txt, line 1: item 9 is out of range.* 0 to 4\.$"),
        ({"traindata_new__txt": "0\t1\t0|1\t2;3\n"}, r"new\.txt, line 1: expected item\|time, found .2;3.\.$"),
        ({"validdata_new__txt": "\t1\t0|1\t2|3\n"}, r"validdata_new\.txt, line 1: the user is missing\.$"),
        ({"validdata_new__txt": "\n3\t1\t0|1\n"}, r"validdata_new\.txt, line 2: user '3' has 1 item\|time, at least 2"),
        ({"traindata_new__txt": "a\nb\n"}, r"line 1: user 'a' has 0 .*\(2 of 6 rows are malformed, at most 1\.00%"),
        ({"testdata_new__txt": gzip.compress(b"0\t1\t0|1\t3|2\n" * 99)[:-20]}, r"testdata_new\.txt: the gzip file is"),
    ],
)  # fmt: skip
def test_a_bad_release_gets_one_line(
    release: Callable[..., None], capsys: pytest.CaptureFixture[str], changed: dict, answer: str
) -> None:
    release(**changed)
    line = refused(capsys, command())
    assert re.search(answer, line), line


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["--domains", "food"], r"--domains: a release has two domains, A and B"),
        (["--domains", "food,food"], r"--domains: a release has two domains"),
        (["--domains", "Food,kitchen"], r"'Food' cannot name a domain"),
        (["--metadata", "none"], r"none: no such folder; --metadata takes"),
        (["--metadata", "raw"], r"raw: there is no meta_Grocery_and_Gourmet_Food\.json or .* published as"),
        (["--metadata", "food=none"], r"none: no such file; --metadata takes"),
        (["--metadata", "tea=raw/Alist.txt"], r"--metadata: 'tea' is no domain of food,kitchen"),
        (["--metadata", "food=raw/Alist.txt"], r"rows \(100\.00%\) are malformed"),
        (["--domains", "tea,kitchen", "--metadata", "raw"], r"--metadata: no category of Amazon is known for 'tea'"),
        (["--max-users", "0"], r"--max-users: 0 leaves nobody"),
        (["--seed", "-1"], r"--seed: -1"),
        (["--overlap-ratio", "1.5"], r"--overlap-ratio: 1\.5 is no share"),
        (["--max-malformed", "x"], r"--max-malformed: 'x' is no share"),
        (["--sequences", "rows"], r"--sequences: invalid choice"),
        (["--name", "../x"], r"cannot name a dataset"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(
    release: Callable[..., None], capsys: pytest.CaptureFixture[str], options: list[str], answer: str
) -> None:
    release()
    line = refused(capsys, command(*options))
    assert re.search(answer, line), line


def test_a_few_malformed_lines_are_counted_and_said(release: Callable[..., None]) -> None:
    good = "".join(f"{user}\t0\t0|1\t3|2\n" for user in range(300))
    release(traindata_new__txt=good + "300\t0\tnothing\n")
    assert main(command()) == 0
    card = load_card(Path("out/fk"), "fk")
    assert card is not None
    assert card.rows == {"read": 305, "kept": 304, "malformed": 1}
    (train,) = [file for file in card.source["files"] if file["name"] == "traindata_new.txt"]
    assert train["malformed_lines"] == ["301: user '300' has 0 item|time, at least 1 are needed"]
    assert os.listdir("out") == ["fk"]


def test_a_user_called_like_a_missing_cell_is_a_user(release: Callable[..., None]) -> None:
    lines = f"null\t3\t1|{NOW}\t3|{NOW + 1}\t4|{NOW + 2}\n"
    release(traindata_new__txt=lines, validdata_new__txt=lines, testdata_new__txt=lines)
    assert main(command("--sequences", "users")) == 0
    for part in ("train", "valid", "test"):
        assert {line.split("\t")[0] for line in written(part).splitlines()} == {"null_"}
    assert load_card(Path("out/fk"), "fk").filters == [
        "user 'null' is written 'null_', as RecBole reads null as missing"
    ]
