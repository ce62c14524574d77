from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

import recbole_cdsr  # isort: skip  # noqa: F401 - makes RecBole importable

from recbole.config import Config
from recbole.data import create_dataset

from recbole_cdsr.cli import main
from recbole_cdsr.data.atomic import read_item_text
from recbole_cdsr.data.card import load_card

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
BOOKS = {
    "books.inter": INTER + "ann\t1\t5\t30\nbob\t2\t3\t10\nann\t2\t4\t10\nann\t1\t4.5\t10\n",
    "books.item": "title:token_seq\titem_id:token\tyear:float\tclass:token\tlanguage:token\n"
    '"Emma ""x"""\t1\t1815\tnovel\ten\n"unclosed\t2\t\tpoem\tde\nnever read\t3\t1900.50\tx\ten\n',
    "books.user": "user_id:token\tage:float\nann\t30\n",
}
FILMS = {
    "films.inter": "timestamp:float\tuser_id:token\titem_id:token\n20\tann\t1\n5\tbob\t7\n20\tbob\t1\n",
    "films.item": "item_id:token\tclass:token\tgenre:token_seq\tdomain:token\n"
    "1\tfilm\tDrama War\told\n7\tserial\t茶\told\n",
}


@pytest.fixture(autouse=True)
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, files in (("books", BOOKS), ("films", FILMS)):
        Path(folder).mkdir()
        for name, content in files.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")


def command(*options: str, domains: tuple[str, ...] = ("book=books", "movie=films/")) -> list[str]:
    given = [part for domain in domains for part in ("--domain", domain)]
    return ["convert", "atomic", "--name", "shop", "--out", "out", *given, *options]


def test_two_datasets_exactly(caplog: pytest.LogCaptureFixture) -> None:
    assert main(command()) == 0
    assert Path("out/shop/shop.inter").read_text(encoding="utf-8") == (
        INTER
        + "ann\tbook:2\t4\t10\nann\tbook:1\t4.5\t10\nann\tmovie:1\t\t20\nann\tbook:1\t5\t30\n"
        + "bob\tmovie:7\t\t5\nbob\tbook:2\t3\t10\nbob\tmovie:1\t\t20\n"
    )
    assert Path("out/shop/shop.item").read_text(encoding="utf-8") == (
        "item_id:token\tdomain:token\ttitle:token_seq\tyear:float\tclass:token\tlanguage:token_seq\tgenre:token_seq\n"
        'book:1\tbook\t"Emma ""x"""\t1815\tnovel\ten\t\n'
        'book:2\tbook\t"""unclosed"\t\tpoem\tde\t\n'
        "movie:1\tmovie\t\t\tfilm\t\tDrama War\n"
        "movie:7\tmovie\t\t\tserial\t\t茶\n"
    )
    assert "its column domain is left out" in caplog.text
    card = load_card(Path("out/shop"), "shop")
    assert card is not None
    assert [file["name"] for file in card.source["files"]] == ["books.inter", "films.inter", "books.item", "films.item"]
    assert card.converter == {"name": "atomic", "options": {"domains": "book=books,movie=films"}}


def test_blanks_around_numbers_and_ids_of_items_mean_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"t{n}\t{n}\t1\tnovel\ten\n" for n in range(3, 300)]
    Path("books/books.item").write_text(
        BOOKS["books.item"].splitlines(keepends=True)[0]
        + "Emma\t 1 \t \tnovel\ten\nPan\t2\t １２\tnovel\ten\n"
        + "".join(rows),
        encoding="utf-8",
    )
    assert main(command("--max-malformed", "0.2")) == 0
    lines = Path("out/shop/shop.item").read_text(encoding="utf-8").splitlines()
    assert lines[1:3] == ["book:1\tbook\tEmma\t\tnovel\ten\t", "book:2\tbook\tPan\t\tnovel\ten\t"]
    assert "line 3: year is '１２', no number" in caplog.text


def test_plain_recbole_loads_it_with_every_column(tmp_path: Path) -> None:
    assert main(command()) == 0
    load = {"inter": ["user_id", "item_id", "rating", "timestamp"], "item": "*"}
    settings = {"data_path": str(tmp_path / "out"), "use_gpu": False, "load_col": load}
    dataset = create_dataset(Config("BPR", "shop", config_dict=settings))
    assert (dataset.user_num, dataset.item_num, dataset.inter_num) == (3, 5, 7)
    row = dataset.item_feat.set_index("item_id").loc[dataset.token2id("item_id", "book:1")]
    assert dataset.id2token("class", int(row["class"])) == "novel"
    assert row["year"] == 1815
    assert list(dataset.id2token("language", row["language"])) == ["en"]
    title = read_item_text(tmp_path / "out" / "shop", "shop", ["title"])["title"].tolist()
    assert title == ['Emma "x"', '"unclosed', "", ""]


def test_other_names_other_units_gzip_and_no_item_file() -> None:
    Path("films/films.item").unlink()
    Path("films/films.inter").unlink()
    content = "uid:token\tbid:token\twhen:float\nann\t1\t20000\nbob\t7\t5000\n"
    Path("films/other.inter.gz").write_bytes(gzip.compress(content.encode()))
    Path("books/books.item").unlink()
    Path("books/books.inter").write_text("bid:token\tuid:token\twhen:float\tstars:float\n1\tann\t9500\t2\n")
    fields = ["--user-field", "uid", "--item-field", "bid", "--time-field", "when", "--rating-field", "stars"]
    assert main(command(*fields, "--time-unit", "ms")) == 0
    assert Path("out/shop/shop.inter").read_text().splitlines()[1:] == [
        "ann\tbook:1\t2\t9.5", "ann\tmovie:1\t\t20", "bob\tmovie:7\t\t5",
    ]  # fmt: skip
    assert Path("out/shop/shop.item").read_text().splitlines()[0] == "item_id:token\tdomain:token"


def write(path: str, content: str | None) -> None:
    if content is None:
        Path(path).unlink()
    else:
        Path(path).write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "content", "answer"),
    [
        ("films/films.inter", None, r"films: there is no \.inter file"),
        ("films/films.train.inter", "", None),
        ("films/films.inter", "", r"films\.inter, line 1: there is no header"),
        ("films/films.inter", "user,item,time\n1,2,3\n", r"films\.inter, line 1: expected tab-separated `name:type`"),
        ("films/films.inter", INTER.replace("\ttimestamp:float", ""), r"there is no column `timestamp:float` among"),
        ("films/films.inter", INTER.replace("timestamp:float", "timestamp:token"), r"no column `timestamp:float`"),
        ("films/films.inter", INTER.replace("rating:float", "rating:token"), r"no column `rating:float`"),
        ("films/films.inter", INTER, r"nothing is left of domain 'movie'"),
        ("films/films.inter", INTER + "ann\t1\t5\t\n", r"films\.inter \(line 2: the time is ''"),
        ("films/films.item", "item_id:token\tyear:token\n1\t5\n", r"films\.item, line 1: the column `year:token`"),
        ("films/films.item", "iid:token\tyear:float\n1\t5\n", r"films\.item, line 1: .* column `item_id:token`"),
        ("films/films.item", "item_id:token\tyear:float\n1\tlate\n", r"films\.item \(line 2: year is 'late'"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(
    capsys: pytest.CaptureFixture[str], path: str, content: str | None, answer: str | None
) -> None:
    write(path, content)
    if answer is None:  # the folder's own file is taken, others beside it are none of ours
        assert main(command()) == 0
        return
    assert main(command()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(answer, line), line
    assert not list(Path("out").glob("*"))


def test_which_of_several_files_is_not_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("films/films.inter").rename("films/films.train.inter")
    Path("films/films.test.inter").write_text(INTER)
    assert main(command()) == 2
    assert "holds films.test.inter, films.train.inter, and none is called films.inter" in capsys.readouterr().err
    assert main(command(domains=("book=books", "movie=nowhere"))) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_dates_without_hyphens_are_no_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    Path("books/books.inter").write_text(INTER + "ann\t1\t5\t20160131\nbob\t2\t3\t20151231\n", encoding="utf-8")
    assert main(command()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "books.inter: every time is a calendar date without hyphens" in line
    assert "write dates as 2016-01-31, or give --time-unit s" in line
    assert main(command("--time-unit", "s")) == 0
