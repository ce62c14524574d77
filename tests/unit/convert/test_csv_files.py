from __future__ import annotations

import gzip
import re
from pathlib import Path

import pandas as pd
import pytest

import recbole_cdsr  # isort: skip  # noqa: F401 - makes RecBole importable

from recbole.config import Config
from recbole.data import create_dataset

from recbole_cdsr.cli import main
from recbole_cdsr.convert import pipeline
from recbole_cdsr.convert.raw_file import RawFile
from recbole_cdsr.data.atomic import read_item_text
from recbole_cdsr.data.card import load_card

BOOKS = (
    "user,isbn,when,stars,title,Written By\n"
    'ann,b1,2016-01-01,5,"Emma, ""revised""\nedition",Austen\n'
    'bob,b2,1451606400,,Pan 5" wide,\n'
    "ann,b2,1451606401,3,a later title,X\n"
    "ann,b1,1451606401.5,4,,\n"
    "zoe,b9,1451606401,1,茶 🍵\tgreen,陆羽\n"
)
MOVIES = (
    "stars\tuser\twhen\tisbn\tname\n"
    '4\tann\t1451606401\tm1\t"Hello\n'
    "2\tbob\t2016-01-01T00:00:01+00:00\tm1\tz\n"
    "1\tann\t2016/01/01 00:00:09\tm2\tq\n"
)
COLUMNS = ["--user-col", "user", "--item-col", "isbn", "--time-col", "when"]


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b.csv").write_text(BOOKS, encoding="utf-8")
    Path("m.tsv.gz").write_bytes(gzip.compress(MOVIES.encode("utf-8")))


def command(*options: str, domains: tuple[str, ...] = ("book=b.csv", "movie=m.tsv.gz")) -> list[str]:
    given = [part for domain in domains for part in ("--domain", domain)]
    return ["convert", "csv", "--name", "shop", "--out", "out", *given, *COLUMNS, *options]


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Run a command that is a mistake; its one line, after checking that nothing was left behind."""
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == ""
    assert not list(Path("out").glob("*"))
    return line


def test_two_files_exactly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("--rating-col", "stars", "--text-cols", "title", "Written By")) == 0
    assert Path("out/shop/shop.inter").read_text(encoding="utf-8") == (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "ann\tbook:b1\t5\t1451606400\n"
        "ann\tbook:b2\t3\t1451606401\n"
        "ann\tmovie:m1\t4\t1451606401\n"
        "ann\tbook:b1\t4\t1451606401.5\n"
        "ann\tmovie:m2\t1\t1451606409\n"
        "bob\tbook:b2\t\t1451606400\n"
        "bob\tmovie:m1\t2\t1451606401\n"
        "zoe\tbook:b9\t1\t1451606401\n"
    )
    assert Path("out/shop/shop.item").read_text(encoding="utf-8") == (
        "item_id:token\tdomain:token\ttitle:token_seq\tWritten_By:token_seq\n"
        'book:b1\tbook\t"Emma, ""revised""\nedition"\tAusten\n'
        'book:b2\tbook\t"Pan 5"" wide"\t\n'
        'book:b9\tbook\t"茶 🍵\tgreen"\t陆羽\n'
        "movie:m1\tmovie\t\t\n"
        "movie:m2\tmovie\t\t\n"
    )
    card = load_card(Path("out/shop"), "shop")
    assert card is not None
    assert (card.users, card.overlapped_users, card.interactions, card.split) == (3, 2, 8, "loo")
    assert card.rows == {"read": 8, "kept": 8, "malformed": 0}
    assert card.converter["options"] == {
        "domains": "book=b.csv,movie=m.tsv.gz", "user_col": "user", "item_col": "isbn", "time_col": "when",
        "rating_col": "stars", "text_cols": "title,Written By",
    }  # fmt: skip
    assert "dataset shop" in capsys.readouterr().out


def test_item_text_from_files_of_its_own() -> None:
    Path("books.csv").write_text('isbn;title;"pages:n"\nb2;Two;7\nb1;"One;\nmore";\nb1;again;1\n', encoding="utf-8")
    Path("movies.csv").write_text("year,isbn,title\n1999,m1,M\n2001,m2,N\n", encoding="utf-8")
    assert main(command("--items", "book=books.csv", "movie=movies.csv")) == 0
    items = read_item_text(Path("out/shop"), "shop")
    assert items.to_dict("list") == {
        "item_id": ["book:b1", "book:b2", "book:b9", "movie:m1", "movie:m2"],
        "domain": ["book", "book", "book", "movie", "movie"],
        "title": ["One;\nmore", "Two", "", "M", "N"],
        "pages_n": ["", "7", "", "", ""],
        "year": ["", "", "", "1999", "2001"],
    }
    assert Path("out/shop/shop.inter").read_text(encoding="utf-8").startswith("user_id:token\titem_id:token\ttimestamp")


def test_the_common_filters_apply() -> None:
    arguments = [
        "--rating-col",
        "stars",
        "--dedup",
        "last",
        "--overlap-only",
        "--min-rating",
        "2",
        "--to",
        "2016-01-01",
    ]
    assert main(command(*arguments, "--min-user", "2")) == 0
    rows = pd.read_csv("out/shop/shop.inter", sep="\t")
    assert rows["user_id:token"].tolist() == ["ann"] * 3
    assert rows["item_id:token"].tolist() == ["book:b2", "movie:m1", "book:b1"]


def test_plain_recbole_loads_it(tmp_path: Path) -> None:
    assert main(command("--rating-col", "stars", "--text-cols", "title")) == 0
    columns = {"inter": ["user_id", "item_id", "rating", "timestamp"], "item": ["item_id", "domain", "title"]}
    settings = {
        "data_path": str(tmp_path / "out"),
        "use_gpu": False,
        "load_col": columns,
        "train_neg_sample_args": None,
    }
    dataset = create_dataset(Config("GRU4Rec", "shop", config_dict=settings))
    assert (dataset.user_num, dataset.item_num, dataset.inter_num) == (4, 6, 8)
    assert list(dataset.field2id_token["domain"]) == ["[PAD]", "book", "movie"]
    assert sum(map(len, dataset.build())) == 4 + 1  # ann has four rows with a history, bob one


def test_an_overlap_ratio_exactly() -> None:
    assert main(command("--overlap-ratio", "0.1", "--recbole-benchmark", "2", "--seed", "7")) == 0
    files = {path.name: path.read_text(encoding="utf-8").splitlines()[1:] for path in Path("out/shop").glob("*.inter")}
    zoe = "zoe\tbook:b9\t1451606401"
    ann = [
        "ann\tbook:b1\t1451606400",
        "ann\tbook:b2\t1451606401",
        "ann\tmovie:m1\t1451606401",
        "ann\tbook:b1\t1451606401.5",
        "ann\tmovie:m2\t1451606409",
    ]
    bob = ["bob\tbook:b2\t1451606400", "bob\tmovie:m1\t1451606401"]
    split = [re.sub("^(ann|bob)(?=.*(book|movie))", r"\1@\2", row) for row in ann[:3] + bob]
    assert files == {
        "shop.train.inter": [*split, zoe],
        "shop.valid.inter": ann[:4],
        "shop.test.inter": ann,
        "shop.recbole.train.inter": ["ann@book\tbook:b1\tbook:b2"],
        "shop.recbole.valid.inter": ["ann\tbook:b2 movie:m1\tbook:b1"],
        "shop.recbole.test.inter": ["ann\tmovie:m1 book:b1\tmovie:m2"],
    }
    card = load_card(Path("out/shop"), "shop")
    assert card is not None
    assert (card.split, card.users, card.interactions) == ("loo", 3, 8)
    assert card.splits["train"] == {"users": 5, "interactions": 6}
    assert card.converter["options"]["seed"] == 7
    assert "0 of 2 overlapped training users stay overlapped, the others are 4 single-domain users" in card.filters[-1]


def test_milliseconds_and_three_domains_and_byte_identity(caplog: pytest.LogCaptureFixture) -> None:
    Path("x.csv").write_text("user|isbn|when\nann|x1|1451606400500\nann|x2|1451606401000\n", encoding="utf-8")
    for name in ("y.csv", "z.csv"):
        Path(name).write_text("user|isbn|when\nann|x1|1451606400250\n", encoding="utf-8")
    domains = ("x=x.csv", "y=y.csv", "z=z.csv")
    assert main(command("--time-unit", "ms", domains=domains)) == 0
    once = {path.name: path.read_bytes() for path in Path("out/shop").iterdir()}
    assert once["shop.inter"].decode().splitlines()[1:] == [
        "ann\ty:x1\t1451606400.25", "ann\tz:x1\t1451606400.25", "ann\tx:x1\t1451606400.5", "ann\tx:x2\t1451606401",
    ]  # fmt: skip
    assert "milliseconds" not in caplog.text
    assert main(command("--time-unit", "ms", domains=domains)) == 0
    assert {path.name: path.read_bytes() for path in Path("out/shop").iterdir()} == once
    assert main(command(domains=domains)) == 0
    assert "if they are milliseconds, give --time-unit ms" in caplog.text


def test_a_few_malformed_rows_are_counted_and_said() -> None:
    lines = [f"u{n},b{n % 3},{n},5,t,a" for n in range(500)]
    lines[7], lines[150], lines[151] = "u7,b1,soon,5,t,a", ",b1,150,5,t,a", "u151,b1,151,great,t,a"
    lines[160], lines[161] = "u\x00160,b1,160,5,t,a", f"u161,{'b' * 70_000},161,5,t,a"
    Path("b.csv").write_text(BOOKS.split("\n")[0] + "\n" + "\n".join(lines), encoding="utf-8")
    assert main(command("--rating-col", "stars")) == 0
    card = load_card(Path("out/shop"), "shop")
    assert card is not None
    assert card.rows == {"read": 503, "kept": 498, "malformed": 5}
    assert card.source["files"][0]["malformed_lines"] == [
        "9: the time is 'soon', neither a number nor a date such as 2016-12-31",
        "152: the user is empty",
        "153: the rating is 'great', no number",
        r"162: the user is 'u\x00160', which holds a NUL character",
        "163: the item is longer than 65,536 characters",
    ]


def test_dates_without_hyphens_are_no_seconds(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    blocks = RawFile.blocks
    monkeypatch.setattr(RawFile, "blocks", lambda file: blocks(file, 16))  # rows come in several batches
    dates = [f"2016{1 + n % 12:02}{1 + n % 28:02}" for n in range(40)]
    Path("b.csv").write_text("user,isbn,when\n" + "".join(f"u{n},b1,{date}\n" for n, date in enumerate(dates)))
    for options in ((), ("--from", "2016-01-01")):
        assert refused(capsys, command(*options)).endswith(
            "b.csv: every time is a calendar date without hyphens, the first is 20160101, and would be read as a "
            "second of 1970; write dates as 2016-01-01, or give --time-unit s if they are seconds."
        )
    assert main(command("--time-unit", "s")) == 0
    rows = pd.read_csv("out/shop/shop.inter", sep="\t").set_index("user_id:token")["timestamp:float"]
    assert rows["u1"] == 20160202
    card = load_card(Path("out/shop"), "shop")
    assert card is not None
    assert card.converter["options"]["time_unit"] == "s"
    for other in ("20161301", "20160100", "20160132", "20160131.5", "21000101", "18991231", "2016-01-31"):
        Path("b.csv").write_text(f"user,isbn,when\nann,b1,20160131\nann,b1,{other}\n")
        assert main(command()) == 0


@pytest.mark.parametrize("others", ["", "ann,b3,never,5,t,a\n"], ids=["at once", "row by row"])
def test_words_for_no_rating_are_no_rating(others: str) -> None:
    words = ["NULL", "NA", "", r"\N", "null", "nan", "None", "4"]
    lines = [f"u{n},b1,{n},{word},t,a" for n, word in enumerate(words)]
    Path("b.csv").write_text(BOOKS.split("\n")[0] + "\n" + "\n".join(lines) + "\n" + others, encoding="utf-8")
    assert main(command("--rating-col", "stars", "--max-malformed", "10%")) == 0
    card = load_card(Path("out/shop"), "shop")
    assert card is not None
    assert card.rows["malformed"] == len(others.splitlines())
    rows = pd.read_csv("out/shop/shop.inter", sep="\t").set_index("user_id:token")["rating:float"]
    assert rows[[f"u{n}" for n in range(len(words))]].isna().tolist() == [True] * 7 + [False]


@pytest.mark.parametrize(
    ("options", "domains", "answer"),
    [
        ([], ("book=b.csv", "movie=none.csv"), r"none\.csv: no such file"),
        ([], ("book=b.csv", "movie"), r"--domain: 'movie' has no file; write --domain movie=FILE"),
        ([], ("book=b.csv", "book=m.tsv.gz"), r"'book' is named twice"),
        ([], ("Book=b.csv", "movie=m.tsv.gz"), r"'Book' cannot name a domain"),
        (["--user-col", "reader"], None, r"b\.csv, line 1: there is no column 'reader'; it has user, isbn, when"),
        (["--rating-col", "score"], None, r"there is no column 'score'"),
        (["--text-cols", "plot"], None, r"--text-cols: no file has a column 'plot'"),
        (["--text-cols", "Written By,written_By", "Written_By"], None, r"no file has a column 'written_By'"),
        (["--items", "music=b.csv"], None, r"--items: 'music' is no domain"),
        (["--items", "book=none.csv"], None, r"none\.csv: no such file"),
        (["--separator", "tab and more"], None, r"--separator: 'tab and more' is no separator"),
        (["--separator", "tab"], None, r"b\.csv, line 1: there is no column 'user'"),
        (["--min-rating", "3"], None, r"--min-rating: delimited files has no ratings"),
        (["--min-user", "9"], None, r"nothing is left of 8 interactions, --min-user 9 --min-item 1 dropped"),
        (["--max-malformed", "2"], None, r"--max-malformed: '2' is no share"),
        (["--overlap-ratio", "0"], None, r"--overlap-ratio: 0 is no share"),
        (["--overlap-ratio", "half"], None, r"--overlap-ratio: invalid float"),
        (["--recbole-benchmark", "0"], None, r"--recbole-benchmark: lists of 0 items"),
        (["--raw", "x"], None, r"does not know --raw x"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(
    capsys: pytest.CaptureFixture[str], options: list[str], domains: tuple[str, ...] | None, answer: str
) -> None:
    arguments = command(*options) if domains is None else command(*options, domains=domains)
    line = refused(capsys, arguments)
    assert re.search(answer, line), line


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (gzip.compress(MOVIES.encode() * 50)[:-30], r"m\.tsv\.gz: the gzip file is cut short"),
        (b"", r"m\.tsv\.gz, line 1: there is no header"),
        (b"stars\tuser\twhen\tisbn\n", r"nothing is left of domain 'movie', of which m\.tsv\.gz holds 0 rows"),
        (
            b"stars\tuser\twhen\tisbn\n1\tann\tx\tm1\n",
            r"1 of 6 rows \(16\.67%\) are malformed.*line 2: the time is 'x'",
        ),
        (b"stars\tuser\twhen\tisbn\n1\tann\tm1\n", r"line 2: expected 4 columns, found 3"),
        (b"stars\tuser\twhen\tisbn\n1\tann\tinf\tm1\n", r"the time is 'inf'"),
        (b"stars\tuser\twhen\tisbn\n1\t \t5\tm1\n", r"line 2: the user is empty"),
    ],
)
def test_broken_files_get_one_line(capsys: pytest.CaptureFixture[str], content: bytes, answer: str | None) -> None:
    Path("m.tsv.gz").write_bytes(content)
    line = refused(capsys, command())
    assert re.search(answer, line), line


def test_a_folder_that_is_not_replaced_is_told_before_files_are_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("out/shop").mkdir(parents=True)
    Path("out/shop/.DS_Store").write_text("")
    monkeypatch.setattr(pipeline, "read_rows", lambda *_: pytest.fail("must not get as far"))
    assert main(command()) == 2
    assert "holds '.DS_Store', which no converter writes for a dataset 'shop'" in capsys.readouterr().err


def test_one_file_for_two_domains_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("link.csv").symlink_to("b.csv")
    line = refused(capsys, command(domains=("book=b.csv", "novel=link.csv")))
    assert line.endswith("link.csv is the file of both 'book' and 'novel'; name one for each.")


def test_users_of_two_files_who_are_nobody_in_common_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    assert main(command()) == 0
    assert "No user has interactions in two domains" not in caplog.text
    Path("m.csv").write_text("user,isbn,when\n1.0,m1,5\n2.0,m1,6\n", encoding="utf-8")
    assert main(command(domains=("book=b.csv", "movie=m.csv"))) == 0
    assert "No user has interactions in two domains" in caplog.text


def test_a_failed_conversion_leaves_the_earlier_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command()) == 0
    before = {path.name: path.read_bytes() for path in Path("out/shop").iterdir()}
    Path("b.csv").write_text("user,isbn,when\nann,b1,never\n", encoding="utf-8")
    assert main(command()) == 2
    assert {path.name: path.read_bytes() for path in Path("out/shop").iterdir()} == before
    assert [path.name for path in Path("out").iterdir()] == ["shop"]


def test_users_called_like_a_missing_cell_are_users(caplog: pytest.LogCaptureFixture) -> None:
    """Plain RecBole drops a user called `null`, in quotes or not, with all their interactions."""
    users = ["null", "NA", "null_", "007", "7", "nan", "ann b", "12345678901234567890123"]
    rows = [f"{user},{item},{place}\n" for place, item in enumerate(("null", "b2", "NA")) for user in users]
    for name in ("n.csv", "o.csv"):
        Path(name).write_text("user,isbn,when\n" + "".join(rows), encoding="utf-8")
    assert main(command("--overlap-only", domains=("book=n.csv", "movie=o.csv"))) == 0
    config = Config(model="Pop", dataset="shop", config_dict={"data_path": "out", "load_col": None})
    dataset = create_dataset(config)
    assert dataset.inter_num == 2 * len(rows)
    names = {"null": "null__", "NA": "NA_", "nan": "nan_"}
    assert set(dataset.field2id_token["user_id"][1:]) == {names.get(user, user) for user in users}
    assert len(dataset.field2id_token["item_id"]) == 1 + 6
    said = [f"user {user!r} is written {name!r}, as RecBole reads {user} as missing" for user, name in names.items()]
    assert sorted(load_card(Path("out/shop"), "shop").filters[1:]) == sorted(said)
    assert all(f"{sentence}." in caplog.messages for sentence in said)


def test_a_header_after_blank_lines() -> None:
    Path("b.csv").write_text("\n \n" + BOOKS, encoding="utf-8")
    assert main(command("--rating-col", "stars")) == 0
    assert Path("out/shop/shop.inter").read_text(encoding="utf-8").count("book:") == 5
