from __future__ import annotations

import argparse
import csv
import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_cdsr.cli import main
from recbole_cdsr.convert.douban import Douban, add_parser, epoch, listed
from recbole_cdsr.data.atomic import read_item_text
from recbole_cdsr.data.card import load_card
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.llm.prompts import item_texts, item_titles

HEADERS = {
    "bookreviews": ["user_id", "book_id", "rating", "labels", "comment", "time", "ID"],
    "moviereviews": ["user_id", "movie_id", "rating", "comment", "time", "labels", "useful_num", "CategoryID", "ID"],
    "musicreviews": ["user_id", "music_id", "rating", "labels", "comment", "useful_num", "time", "ID"],
}
RAW = {
    "bookreviews_cleaned.txt": (
        '"user_id"\t"book_id"\t"rating"\t"labels"\t"comment"\t"time"\t"ID"\n'
        '"2"\t"11"\t"5"\t"小说|爱情"\t"好书 🍵"\t"2016-03-01"\t"1"\n'
        '"1"\t"10"\t"4"\t"小说|经典"\t"a stray\ttab and a "quote" here"\t"2016-01-02 03:04:05"\t"2"\n'
        '"1"\t"11"\t""\t"爱情"\t"three\n\nlines"\t"2016-01-02 03:04:06"\t"3"\n'
        '"3"\t"10"\t"2"\t"cut off\n'
        '"1"\t"12"\t"3.5"\t""\t""\t"2015-12-31 23:59:59"\t"4"\n'
        '"2"\t"10"\t"1"\t"经典|经典| "\t""\t"2016-12-31"\t"5"\n'
    ),
    "books_cleaned.txt": (
        '"book_id"\t"name"\t"summary"\t"author"\t"UID"\n'
        '"1000010"\t"红楼梦 \\"first\\""\t'
        '"A family 🌺.\nAnd a stone,\tboth &lt;falling&gt; &amp; <b>rising</b> <3"\t"曹雪芹"\t"10"\n'
        '"1000012"\t"Unread"\tNA\tNA\t"12"\n'
    ),
    "moviereviews_cleaned.txt": (
        "user_id\tmovie_id\trating\tcomment\ttime\tlabels\tuseful_num\tCategoryID\tID\n"
        '1\t10\t5\t"said ""no"""\t2016/1/2 3:04\t剧情|爱情\t7\t1\t1\n'
        "2\t20\tNA\t\t2016-05-05T06:07:08Z\t\t0\t1\t2\n"
        "2\t21\t3\t\t2016-05-05 06:07:08\t\t0\t1\t3\n"
        "2\t21\t3\t\t2016-13-05\t\t0\t1\t3\n"
    ),
    "movies_cleaned.txt": (
        "UID\tmovie_id\tname\trating\ttag\n"
        "10\t500\tTen\t7.9\t['剧情', \"child's\", 'a, b']\n"
        "20\t501\tTwenty\t\t剧情|爱情|\n"
        "21\t502\tTwenty-one\t8.1\t[]\n"
    ),
    "musicreviews_cleaned.txt": (
        '"user_id"\t"music_id"\t"rating"\t"labels"\t"comment"\t"useful_num"\t"time"\t"ID"\n'
        '"1"\t"10"\t"5"\t"jazz"\t""\t"0"\t"2016-06-01"\t"1"\n'
        '"3"\t"30"\t"5"\t"jazz"\t""\t"0"\t"2016-06-01"\t"2"\n'
    ),
    "music_cleaned.txt": '"music_id"\t"UID"\n"900"\t"10"\n"901"\t"30"\n',
}


@pytest.fixture
def raw(tmp_path: Path) -> Callable[..., Path]:
    """Write a small Douban release; keywords replace files, named without their ending; None drops one."""

    def write(**changed: str | None) -> Path:
        folder = tmp_path / "raw"
        folder.mkdir(exist_ok=True)
        for name, text in RAW.items():
            text = changed.get(name.removesuffix("_cleaned.txt"), text)
            if text is not None:
                (folder / name).write_text(text, encoding="utf-8", newline="")
        return folder

    return write


def converted(raw_dir: Path, *options: str) -> Path:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    out = raw_dir.parent / "out"
    required = ["--raw", str(raw_dir), "--name", "mini", "--out", str(out)]
    args = parser.parse_args(["douban", *required, *options])
    return args.convert(args)


def test_every_quirk_exactly(raw: Callable[..., Path]) -> None:
    folder = converted(raw(), "--max-malformed", "20%")
    assert (folder / "mini.inter").read_text(encoding="utf-8") == (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "1\tbook:12\t3.5\t1451606399\n"
        "1\tmovie:10\t5\t1451703840\n"
        "1\tbook:10\t4\t1451703845\n"
        "1\tbook:11\t\t1451703846\n"
        "1\tmusic:10\t5\t1464739200\n"
        "2\tbook:11\t5\t1456790400\n"
        "2\tmovie:20\t\t1462428428\n"
        "2\tmovie:21\t3\t1462428428\n"  # a tie: the order of the file
        "2\tbook:10\t1\t1483142400\n"
        "3\tmusic:30\t5\t1464739200\n"
    )
    assert (folder / "mini.item").read_text(encoding="utf-8") == (
        "item_id:token\tdomain:token\ttitle:token_seq\tlabels:token_seq\ttags:token_seq\tdescription:token_seq\t"
        "id:token_seq\tauthor:token_seq\taverage_rating:token_seq\n"
        'book:10\tbook\t"红楼梦 ""first"""\t经典, 小说\t\t"A family 🌺.\nAnd a stone,\tboth <falling> & rising <3"\t'
        "1000010\t曹雪芹\t\n"
        "book:11\tbook\t\t爱情, 小说\t\t\t\t\t\n"
        "book:12\tbook\tUnread\t\t\t\t1000012\t\t\n"
        "movie:10\tmovie\tTen\t剧情, 爱情\t剧情, child's, a, b\t\t500\t\t7.9\n"
        "movie:20\tmovie\tTwenty\t\t剧情, 爱情\t\t501\t\t\n"
        "movie:21\tmovie\tTwenty-one\t\t\t\t502\t\t8.1\n"
        "music:10\tmusic\t\tjazz\t\t\t900\t\t\n"
        "music:30\tmusic\t\tjazz\t\t\t901\t\t\n"
    )
    card = load_card(folder, "mini")
    assert not card.synthetic
    assert card.rows == {"read": 12, "kept": 10, "malformed": 2}
    faults = {file["name"]: file.get("malformed_lines") for file in card.source["files"]}
    assert faults["bookreviews_cleaned.txt"] == ["7: 4 of 7 columns"]
    assert faults["moviereviews_cleaned.txt"] == ["5: time is '2016-13-05'"]
    assert card.overlapped_users == 2


def test_prompts_find_the_columns(raw: Callable[..., Path]) -> None:
    items = read_item_text(converted(raw(), "--max-malformed", "20%"), "mini")
    texts = dict(zip(items["item_id"], item_texts(items), strict=True))
    assert texts["book:10"] == (
        '红楼梦 "first"; brand: 曹雪芹; tags: 经典, 小说; '
        "description: A family 🌺. And a stone, both <falling> & rising <3"
    )
    assert texts["movie:10"] == "Ten; tags: 剧情, child's, a, b; rating: 7.9"
    assert texts["music:10"] == "tags: jazz"
    assert item_titles(items)[3] == "Ten"


def test_domains_in_the_order_and_under_the_names_asked_for(raw: Callable[..., Path]) -> None:
    folder = converted(raw(bookreviews=None, books=None), "--domains", "album=music,movie", "--max-malformed", "20%")
    items = read_item_text(folder, "mini")
    assert items["item_id"].tolist() == ["album:10", "album:30", "movie:10", "movie:20", "movie:21"]
    assert items["domain"].tolist() == ["album"] * 2 + ["movie"] * 3
    with pytest.raises(ConfigError, match="Douban has no 'games', only book, movie, music"):
        converted(raw(), "--domains", "book,games")


def test_plain_gzip_and_carriage_returns_are_read_alike(raw: Callable[..., Path]) -> None:
    folder = raw()
    plain = {
        p.name: p.read_bytes() for p in converted(folder, "--max-malformed", "20%").iterdir() if "card" not in p.name
    }
    for path in folder.iterdir():
        content = path.read_bytes()
        if path.name.startswith("music"):
            content = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
        path.unlink()
    again = converted(folder, "--max-malformed", "20%")
    assert {path.name: path.read_bytes() for path in again.iterdir() if "card" not in path.name} == plain


def test_marked_files_stay_synthetic_in_the_card(raw: Callable[..., Path]) -> None:
    folder = raw()
    (folder / "SYNTHETIC.txt").write_text("SYNTHETIC files\nof a test\n")
    card = load_card(converted(folder, "--max-malformed", "20%"), "mini")
    assert card.synthetic
    assert card.description == "SYNTHETIC files of a test"
    assert card.source["title"].startswith("SYNTHETIC")
    (folder / "SYNTHETIC.txt").write_text("made up\n")
    assert load_card(converted(folder, "--max-malformed", "20%"), "mini").description == "SYNTHETIC: made up"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"moviereviews": None}, r"no moviereviews_cleaned\.txt \(plain or \.gz\).*the Douban dataset"),
        ({"music": None}, r"no music_cleaned\.txt"),
        (
            {"bookreviews": '"user_id"\t"movie_id"\t"rating"\t"time"\n'},
            r"bookreviews_cleaned\.txt, line 1: there is no column 'book_id', only user_id, movie_id, rating, time",
        ),
        ({"movies": "movie_id\tname\n1\ta\n"}, r"movies_cleaned\.txt, line 1: there is no column 'UID'"),
        ({"musicreviews": ""}, r"musicreviews_cleaned\.txt, line 1: there is no column 'user_id'"),
    ],
)
def test_bad_input_is_told_in_one_line(
    raw: Callable[..., Path], changed: dict[str, str | None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = raw(**changed)
    out = folder.parent / "out"
    with pytest.raises(DataError, match=message):
        converted(folder, "--max-malformed", "20%")
    command = ["convert", "douban", "--raw", str(folder), "--name", "mini", "--out", str(out), "--max-malformed", "20%"]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not out.exists() or not any(out.iterdir())


def test_labels_where_only_the_details_have_them(raw: Callable[..., Path]) -> None:
    reviews = "user_id\tmusic_id\trating\ttime\n1\t10\t-1\t2016-01-01\n"
    details = "UID\ttitle\tlabels\n10\tAn album\tjazz\n"
    folder = converted(raw(musicreviews=reviews, music=details), "--domains", "music")
    assert (folder / "mini.item").read_text(encoding="utf-8").splitlines()[1] == "music:10\tmusic\tAn album\tjazz\t\t"
    assert "1\tmusic:10\t-1\t1451606400\n" in (folder / "mini.inter").read_text(encoding="utf-8")


def test_too_many_broken_rows_are_fatal(raw: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"2 of 12 rows \(16\.67%\) are malformed"):
        converted(raw())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01", 0),
        ("1970-1-2", 86_400),
        ("2016-02-29", 1456704000),
        ("2016/02/29 23:59:59", 1456790399),
        ("2016-02-29T23:59:59Z", 1456790399),
        ("2016-02-29 9:05", 1456736700),
        ("2016-02-29 09:05:01.5", 1456736701.5),
        ("2015-02-29", None),
        ("0000-00-00", None),
        ("2016-02-29 24:00:00", None),
        ("2016-02-29 23:60", None),
    ],
)
def test_times(text: str, seconds: float | None) -> None:
    assert epoch(text) == seconds


@pytest.mark.parametrize(
    ("cell", "entries"),
    [
        ("", []),
        ("[]", []),
        ("剧情|爱情|", ["剧情", "爱情"]),
        ("a|b|a| |NA", ["a", "b"]),
        ("['a', \"b's\", 'c\\'d']", ["a", "b's", "c'd"]),
        ("[a, b]", ["a", "b"]),
        ("one", ["one"]),
        ("R&amp;B|rock  roll", ["R&B", "rock roll"]),
    ],
)
def test_entries_of_labels_and_tags(cell: str, entries: list[str]) -> None:
    assert listed(cell) == entries


def test_columns_of_details_do_not_clash_with_those_of_interactions(tmp_path: Path) -> None:
    (tmp_path / "books_cleaned.txt").write_text("UID\tdomain\trating\tplace of print\ttimestamp\n")
    types = Douban(tmp_path, {"book": ""}).text_types
    assert list(types)[4:] == ["douban_domain", "average_rating", "place_of_print", "douban_timestamp"]


class TestPreset:
    def random_release(self, folder: Path, seed: int) -> dict[str, pd.DataFrame]:
        """Write well-formed files over three years and return the reviews."""
        rng, tables = np.random.default_rng(seed), {}
        folder.mkdir()
        for domain, details in (("book", "books"), ("movie", "movies"), ("music", "music")):
            n = 120
            days = pd.to_datetime("2015-06-01") + pd.to_timedelta(rng.integers(0, 800, n), unit="D")
            seconds = pd.to_timedelta(rng.integers(0, 86_400, n), unit="s")
            table = pd.DataFrame(
                {
                    "user_id": rng.integers(0, 90, n),
                    f"{domain}_id": rng.integers(0, 50, n),
                    "rating": rng.integers(1, 6, n),
                    "labels": "a|b",
                    "comment": 'tab\t, "quote"\nand line',
                    "time": (days + seconds).strftime("%Y-%m-%d %H:%M:%S"),
                    "useful_num": 0,
                    "CategoryID": 1,
                    "ID": range(n),
                }
            )[HEADERS[f"{domain}reviews"]]
            table.to_csv(folder / f"{domain}reviews_cleaned.txt", sep="\t", index=False, quoting=csv.QUOTE_ALL)
            ids = pd.DataFrame({"UID": range(50), f"{domain}_id": range(50)})
            ids.to_csv(folder / f"{details}_cleaned.txt", sep="\t", index=False)
            tables[domain] = table.rename(columns={f"{domain}_id": "item"}).assign(domain=domain)
        return tables

    @pytest.mark.parametrize("seed", range(3))
    def test_selects_as_a_plain_pandas_version_does(self, tmp_path: Path, seed: int) -> None:
        tables = self.random_release(tmp_path / "raw", seed)
        folder = converted(tmp_path / "raw", "--preset", "llm4cdsr-douban")

        merged = pd.concat(tables.values())
        merged["item_id"] = merged["domain"] + ":" + merged["item"].astype(str)
        of_user = merged.groupby("user_id")["item_id"].transform("size")
        of_item = merged.groupby("item_id")["user_id"].transform("size")
        kept = merged[(of_user > 1) & (of_item > 2)]
        kept = kept[kept["time"].str.startswith("2016-") & (kept["domain"] != "music")]
        expected = pd.DataFrame(
            {
                "user_id": kept["user_id"].astype(str),
                "item_id": kept["item_id"],
                "rating": kept["rating"],
                "timestamp": pd.to_datetime(kept["time"]).astype("datetime64[s]").astype("int64"),
            }
        ).sort_values(["user_id", "timestamp"], kind="stable", ignore_index=True)

        written = pd.read_csv(folder / "mini.inter", sep="\t", dtype={"user_id:token": str})
        written.columns = list(expected)
        assert 0 < len(expected) < len(merged) / 2
        pd.testing.assert_frame_equal(written, expected)
        card = load_card(folder, "mini")
        assert card.converter["preset"] == "llm4cdsr-douban"
        assert [domain["name"] for domain in card.domains] == ["book", "movie"]
        assert card.rows["read"] == len(merged)

    def test_needs_the_music_reviews_but_no_details_of_music(self, tmp_path: Path) -> None:
        self.random_release(tmp_path / "raw", 0)
        (tmp_path / "raw" / "music_cleaned.txt").unlink()
        converted(tmp_path / "raw", "--preset", "llm4cdsr-douban")
        (tmp_path / "raw" / "musicreviews_cleaned.txt").unlink()
        with pytest.raises(DataError, match=r"no musicreviews_cleaned\.txt"):
            converted(tmp_path / "raw", "--preset", "llm4cdsr-douban")
