"""Amazon reviews of every release, exactly."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
import raw_amazon
from amazon_conversions import card_of, converted, refused, text

import recbole_cdsr  # isort: skip  # noqa: F401 - makes RecBole importable

from recbole.config import Config
from recbole.data import create_dataset

from recbole_cdsr.convert.amazon import PRESETS

CLOTH, SPORT = raw_amazon.FILES


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
@pytest.mark.parametrize("five_core", [False, True], ids=["all", "5-core"])
@pytest.mark.parametrize("release", ["2014", "2018"])
def test_reviews_of_2014_and_2018(tmp_path: Path, release: str, five_core: bool, packed: bool) -> None:
    raw = raw_amazon.write_reviews(tmp_path / "raw", release, five_core, packed)
    folder = converted(raw, "--without-text")
    assert text(folder) == raw_amazon.INTER
    assert (folder / "mini.item").read_text(encoding="utf-8") == (
        "item_id:token\tdomain:token\ncloth:B1\tcloth\ncloth:B2\tcloth\ncloth:B3\tcloth\nsport:B1\tsport\nsport:S9\tsport\n"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["mini.card.yaml", "mini.inter", "mini.item"]
    assert card_of(folder).converter["options"]["release"] == release


def test_reviews_of_2023_join_on_the_parent_and_keep_milliseconds(tmp_path: Path) -> None:
    folder = converted(raw_amazon.write_reviews(tmp_path / "raw", "2023"), "--without-text")
    assert text(folder) == "".join(
        line.replace("\n", ".25\n") if number else line
        for number, line in enumerate(raw_amazon.INTER.splitlines(keepends=True))
    )


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
@pytest.mark.parametrize("release", ["2014", "2018", "2023"])
def test_ratings_alone_say_the_same_as_reviews(tmp_path: Path, release: str, packed: bool) -> None:
    ratings = converted(raw_amazon.write_ratings(tmp_path / "ratings", release, packed), "--without-text", name="a")
    reviews = converted(raw_amazon.write_reviews(tmp_path / "reviews", release), "--without-text", name="b")
    assert text(ratings) == text(reviews)
    assert card_of(ratings).converter["options"]["release"] == release
    assert card_of(ratings).rows == {"read": 7, "kept": 7, "malformed": 0}


def test_names_of_domains_and_categories(tmp_path: Path) -> None:
    raw = raw_amazon.write_reviews(tmp_path / "raw", "2018")
    as_given = text(converted(raw, "--without-text", domains=f"wear={CLOTH},{SPORT}"))
    assert as_given == raw_amazon.INTER.replace("cloth:", "wear:").replace("sport:", "sports_and_outdoors:")
    pairs = ["--domain", f"sport={SPORT}", "--domain", "cloth"]
    folder = converted(raw, "--without-text", *pairs, domains="")
    # Another order of domains: items follow it, and so does a tie in time.
    assert text(folder) == raw_amazon.INTER.replace(
        "U1\tcloth:B1\t5\t1520000001\nU1\tsport:B1\t2\t1520000001\n",
        "U1\tsport:B1\t2\t1520000001\nU1\tcloth:B1\t5\t1520000001\n",
    )
    assert [domain["name"] for domain in card_of(folder).domains] == ["sport", "cloth"]


def test_full_reviews_come_before_the_5_core_and_ratings(tmp_path: Path) -> None:
    raw = raw_amazon.write_reviews(tmp_path / "raw", "2018")
    for category in raw_amazon.FILES:
        raw_amazon.write(raw / f"{category}_5.json", [raw_amazon.review("2018", "Z", "B1", 1.0, 7)])
        raw_amazon.write(raw / f"{category}.csv", ["B1,Y,1.0,7"], packed=False)
    assert text(converted(raw, "--without-text")) == raw_amazon.INTER
    assert text(converted(raw, "--without-text", "--files", "5-core")).count("Z\t") == 2
    assert text(converted(raw, "--without-text", "--files", "ratings", "--release", "2018")).count("Y\t") == 2


def test_files_of_all_domains_are_of_one_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    raw = raw_amazon.write_reviews(tmp_path / "raw", "2018")
    (raw / f"{CLOTH}.json.gz").rename(raw / f"{CLOTH}_5.json.gz")
    message = refused(raw, capsys, "--without-text")
    assert "of 'cloth' there is the 5-core alone" in message
    assert f"found {CLOTH}_5.json.gz of cloth, {SPORT}.json.gz of sport" in message
    raw_amazon.write(raw / f"{SPORT}_5.json", [raw_amazon.review("2018", "Z", "S9", 1.0, 7)])
    folder = converted(raw, "--without-text")
    names = [f"{CLOTH}_5.json.gz", f"{SPORT}_5.json.gz"]
    assert [file["name"] for file in card_of(folder).source["files"]] == names
    assert f"sport: {SPORT}_5.json.gz is read and not {SPORT}.json.gz, as files of all domains must be" in caplog.text
    # Without a kind in common, complete files stand side by side.
    (raw / f"{SPORT}_5.json.gz").unlink()
    raw_amazon.write(raw / f"{CLOTH}.csv", ["B1,Y,1.0,7"], packed=False)
    folder = converted(raw, "--without-text")
    assert [file["name"] for file in card_of(folder).source["files"]] == [f"{CLOTH}.csv", f"{SPORT}.json.gz"]


def test_filters_reach_the_rows(tmp_path: Path) -> None:
    raw = raw_amazon.write_reviews(tmp_path / "raw", "2018")
    folder = converted(
        raw, "--without-text", "--from", "1520000001", "--to", "2018-03-02", "--dedup", "last", "--min-user", "3",
        domains="cloth,sport",
    )  # fmt: skip
    assert text(folder) == raw_amazon.HEADER + (
        "U1\tsport:B1\t2\t1520000001\nU1\tcloth:B3\t2.5\t1520000002\nU1\tcloth:B1\t1\t1520000009\n"
    )
    assert card_of(folder).filters == [
        "--from 2018-03-02T14:13:21 --to 2018-03-02T23:59:59: kept 4 of 7 interactions",
        "--dedup last: kept 3 of 4 interactions",
        "--min-user 3 --min-item 1: kept 3 of 3 interactions",
    ]


def with_bad_rows(folder: Path, bad: list[str | bytes], n_good: int = 1000) -> Path:
    """Write reviews of 2018 with bad rows in the middle of many good ones, in one category."""
    good = [raw_amazon.review("2018", f"U{number % 50}", f"B{number % 40}", 3.0, number) for number in range(n_good)]
    raw_amazon.write(folder / f"{CLOTH}.json", [*good[:10], *bad, *good[10:]])
    raw_amazon.write(folder / f"{SPORT}.json", [raw_amazon.review("2018", "U1", "B1", 3.0, 5)])
    return folder


@pytest.mark.parametrize(
    "bad",
    [
        '{"reviewerID": "U1", "asin": "B1", "overall": 5.0, "unixRevi',
        '{"reviewerID": "U1", "asin": "B1", "overall": 5.0}',
        '{"reviewerID": "U1", "overall": 5.0, "unixReviewTime": 3}',
        '{"reviewerID": "", "asin": "B1", "overall": 5.0, "unixReviewTime": 3}',
        '{"reviewerID": "U1", "asin": "", "overall": 5.0, "unixReviewTime": 3}',
        '{"reviewerID": "U\\u00001", "asin": "B1", "overall": 5.0, "unixReviewTime": 3}',
        '{"reviewerID": "U1", "asin": "B1", "overall": 5.0, "unixReviewTime": "soon"}',
        '{"reviewerID": "U1", "asin": "B1", "overall": 5.0, "unixReviewTime": NaN}',
        '{"reviewerID": "U1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1e999}',
        '{"reviewerID": "U1", "asin": "B1", "overall": "five", "unixReviewTime": 3}',
        raw_amazon.review("2018", "U1", "B1", 3.0, 3) * 2,
        '["reviewerID", "U1"]',
        "not JSON",
        "[" * 100_000,
    ],
)
def test_a_broken_row_costs_itself_only(tmp_path: Path, bad: str) -> None:
    good = text(converted(with_bad_rows(tmp_path / "good", []), "--without-text", name="good"))
    folder = converted(with_bad_rows(tmp_path / "bad", [bad]), "--without-text", name="bad")
    assert text(folder) == good
    card = card_of(folder)
    assert card.rows == {"read": 1002, "kept": 1001, "malformed": 1}
    assert card.source["files"][0]["malformed_lines"][0].startswith("11: ")


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    good = text(converted(with_bad_rows(tmp_path / "good", []), "--without-text", name="good"))
    folder = converted(with_bad_rows(tmp_path / "raw", ["", "  ", "\r"]), "--without-text")
    assert text(folder) == good
    assert card_of(folder).rows == {"read": 1001, "kept": 1001, "malformed": 0}


def test_bytes_that_are_no_utf8_cost_nothing(tmp_path: Path) -> None:
    odd = b'{"reviewerID": "U\xe9", "asin": "B1", "overall": 5, "unixReviewTime": 3, "reviewText": "\xff \\ud83c"}'
    folder = converted(with_bad_rows(tmp_path / "raw", [odd]), "--without-text")
    assert "Ué\tcloth:B1\t5\t3\n" in text(folder)
    assert card_of(folder).rows["malformed"] == 0


def test_too_many_malformed_rows_are_fatal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = with_bad_rows(tmp_path / "raw", ["bad"] * 11)
    said = refused(raw, capsys, "--without-text")
    assert "11 of 1,012 rows (1.09%) are malformed" in said
    assert f"{CLOTH}.json.gz (line 11:" in said
    assert "at most 1.00% are accepted, see --max-malformed" in said
    assert card_of(converted(raw, "--without-text", "--max-malformed", "0.02")).rows["malformed"] == 11
    assert card_of(converted(with_bad_rows(tmp_path / "fewer", ["bad"] * 10), "--without-text")).rows["malformed"] == 10


def test_malformed_item_details_count_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = with_bad_rows(tmp_path / "raw", [])
    raw_amazon.write_items(raw, "2018", {CLOTH: ["broken"] * 12 + ['{"asin": "B1"}']})
    assert "12 of 1,016 rows (1.18%) are malformed" in refused(raw, capsys)


@pytest.mark.parametrize("release", ["2014", "2018", "2023"])
def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], release: str) -> None:
    raw = raw_amazon.write_reviews(tmp_path / "raw", release)
    said = refused(raw, capsys)
    assert f"there is no meta_{CLOTH}.json" in said
    assert f"({release})" in said or "Amazon Reviews 2023" in said
    sport = next(raw.glob(f"*{SPORT}*"))
    sport.unlink()
    said = refused(raw, capsys, "--without-text")
    assert f"there is no {sport.name.removesuffix('.gz')}" in said
    assert "it is published as" in said


def test_other_ways_to_ask_for_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = raw_amazon.write_reviews(tmp_path / "raw", "2018")
    assert "there is no file of Pet_Supplies in any release" in refused(raw, capsys, domains="pet=Pet_Supplies")
    assert "no such folder" in refused(raw / "nowhere", capsys)
    assert "domains is missing" in refused(raw, capsys, domains="")
    assert "'a b' cannot name a domain" in refused(raw, capsys, domains="a b")
    assert "'cloth' is named twice" in refused(raw, capsys, domains="cloth,cloth")
    assert "--max-malformed: '5' is no share" in refused(raw, capsys, "--max-malformed", "5")
    assert "--counted-domains" in refused(raw, capsys, "--counted-domains", "toy")
    message = refused(raw, capsys, "--release", "2023", "--files", "5-core")
    assert "--files 5-core: Amazon Reviews 2023 has no such files" in message
    assert "--without-text does without" in refused(raw, capsys)
    raw_amazon.write_reviews(raw, "2014")
    assert "choose one with --release" in refused(raw, capsys, "--without-text")


def test_a_truncated_download_is_no_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = raw_amazon.write_reviews(tmp_path / "raw", "2018")
    path = raw / f"{SPORT}.json.gz"
    path.write_bytes(path.read_bytes()[:-6])
    assert f"{SPORT}.json.gz: the gzip file is cut short" in refused(raw, capsys, "--without-text")


@pytest.mark.parametrize(
    ("release", "lines", "message"),
    [
        ("2023", ["parent_asin,user,rating,timestamp", "a,b,1,2"], "line 1: expected a header with user_id"),
        ("2018", ["a,b,1"], r"line 1: expected item,user,rating,timestamp, found 3 column"),
        ("2018", ["a,b,1,x", "a,b,1,nan", ",b,1,2", "a,b,1,2,3", "a,b,1,2"], r"4 of 6 rows \(66.67%\) are malformed"),
        ("2018", ["a,b,1,2"] * 2000 + ["x"], None),
    ],
)
def test_ratings_with_wrong_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], release: str, lines: list[str], message: str | None
) -> None:
    raw = tmp_path / "raw"
    raw_amazon.write(raw / f"{CLOTH}.csv", lines)
    raw_amazon.write(raw / f"{SPORT}.csv", ["user_id,parent_asin,rating,timestamp"] * (release == "2023") + ["a,b,1,2"])
    if message is None:
        assert card_of(converted(raw, "--without-text")).rows == {"read": 2002, "kept": 2001, "malformed": 1}
    else:
        said = refused(raw, capsys, "--without-text", "--release", release)
        assert pd.Series([said]).str.contains(message).all(), said


def test_an_empty_result_says_which_filter_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = raw_amazon.write_reviews(tmp_path / "raw", "2018")
    said = refused(raw, capsys, "--without-text", "--min-rating", "2", "--from", "2020-01-01")
    assert "nothing is left of 7 interactions, --from 2020-01-01T00:00:00 dropped the last of them" in said
    said = refused(raw, capsys, "--without-text", "--min-rating", "2", "--min-user", "9")
    assert "--min-user 9 --min-item 1 dropped the last of them (--min-rating 2: kept 6 of 7 interactions; " in said
    said = refused(raw, capsys, "--without-text", "--from", "1520000002")
    assert "nothing is left of domain 'sport'" in said
    raw_amazon.write(raw / f"{CLOTH}.json", [])
    raw_amazon.write(raw / f"{SPORT}.json", [])
    assert "hold no interactions" in refused(raw, capsys, "--without-text")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_the_papers_selections(tmp_path: Path, preset: str) -> None:
    first, second, since, until = {
        "llm4cdsr-cloth-sport": (CLOTH, SPORT, 1514736000, 1577808000),
        "llm4cdsr-elec-phone": ("Electronics", "Cell_Phones_and_Accessories", 1500000000, 1600000000),
    }[preset]
    # Users with more than five rows in the open window stay; the rows at its ends are outside.
    inside = [(user, item, 1.0, since + 1 + item) for user in "ab" for item in range(3)]
    inside += [(user, item, 5.0, until - 1 - item) for user in "ab" for item in range(3)]
    outside = [("a", 0, 1.0, since), ("a", 1, 1.0, until), ("c", 0, 1.0, since - 5)]
    raw = tmp_path / "raw"
    for category in (first, second):
        rows = [
            raw_amazon.review("2018", user, f"I{item}", rating, second)
            for user, item, rating, second in inside + outside
        ]
        raw_amazon.write(raw / f"{category}.json", rows)
    folder = converted(raw, "--without-text", "--preset", preset, domains="")
    card = card_of(folder)
    assert card.converter["preset"] == preset
    assert card.rows == {"read": 30, "kept": 24, "malformed": 0}
    assert card.users == card.overlapped_users == 2
    assert "c\t" not in text(folder)
    assert [domain["name"] for domain in card.domains] == preset.split("-")[1:]


def test_an_option_overrides_a_preset_and_the_card_says_so(tmp_path: Path) -> None:
    raw = raw_amazon.write_reviews(tmp_path / "raw", "2018")
    folder = converted(
        raw, "--without-text", "--preset", "llm4cdsr-cloth-sport", "--min-user", "1", "--min-item", "1", domains=""
    )
    card = card_of(folder)
    assert text(folder) == raw_amazon.INTER
    assert card.converter["preset"] == "llm4cdsr-cloth-sport, changed by --min-user, --min-item"
    assert card.converter["options"]["min_user"] == 1


def test_the_card_records_the_sources(tmp_path: Path) -> None:
    import hashlib

    raw = raw_amazon.write_items(raw_amazon.write_reviews(tmp_path / "raw", "2018"), "2018")
    card = card_of(converted(raw, "--max-users", "2", "--seed", "5"))
    for file in card.source["files"]:
        content = (raw / file["name"]).read_bytes()
        assert (file["sha256"], file["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
        assert file["rows"] == len(gzip.decompress(content).splitlines())
    assert len(card.source["files"]) == 4
    assert card.converter == {
        "name": "amazon",
        "options": {"domains": "cloth,sport", "max_users": 2, "seed": 5, "release": "2018"},
    }
    assert card.filters[0].startswith("--max-users 2 (seed 5): kept ")
    assert str(tmp_path) not in json.dumps(card.to_dict())


def test_same_input_same_bytes_wherever_it_lies(tmp_path: Path) -> None:
    once, twice = (
        converted(
            raw_amazon.write_items(raw_amazon.write_reviews(tmp_path / place / "raw", "2018"), "2018"),
            "--max-users", "2",
        )
        for place in ("one", "two")
    )  # fmt: skip
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (once, twice)]
    assert contents[0] == contents[1]


def test_plain_recbole_loads_the_output(tmp_path: Path) -> None:
    rows = {
        CLOTH: [
            json.dumps({"asin": "B1", "title": 'tab\t "quote"\nline 中文 🍜', "description": ['an "unclosed quote']})
        ]
    }
    raw = raw_amazon.write_items(raw_amazon.write_reviews(tmp_path / "raw", "2018"), "2018", rows)
    folder = converted(raw)
    config = Config(
        model="SASRec",
        dataset="mini",
        config_dict={
            "data_path": str(folder.parent),
            "load_col": None,
            "train_neg_sample_args": None,
            "use_gpu": False,
        },
    )
    dataset = create_dataset(config)
    assert (dataset.user_num, dataset.item_num, dataset.inter_num) == (4, 6, 7)  # padding counts as one
    assert dataset.item_num == len(dataset.item_feat)
    names = [dataset.id2token("item_id", item) for item in dataset.inter_feat["item_id"]]
    assert names == [line.split("\t")[1] for line in raw_amazon.INTER.splitlines()[1:]]
    titles = {
        dataset.id2token("item_id", item): dataset.field2id_token["title"][title].tolist()
        for item, title in zip(dataset.item_feat["item_id"], dataset.item_feat["title"], strict=True)
        if item
    }
    assert [word for word in titles["cloth:B1"] if word != "[PAD]"] == ["tab\t", '"quote"\nline', "中文", "🍜"]


def test_a_terminal_shows_the_bytes_read(tmp_path: Path) -> None:
    import os
    import pty
    import subprocess
    import sys
    import termios

    raw = raw_amazon.write_reviews(tmp_path / "raw", "2018")
    outer, inner = pty.openpty()
    termios.tcsetwinsize(inner, (24, 120))
    arguments = ["--raw", str(raw), "--name", "mini", "--out", str(tmp_path / "out"), "--domains", "cloth,sport"]
    command = [sys.executable, "-m", "recbole_cdsr.cli", "convert", "amazon", *arguments, "--without-text"]
    done = subprocess.run(command, stderr=inner, stdout=subprocess.PIPE, check=False)
    os.set_blocking(outer, False)
    shown = os.read(outer, 1 << 16).decode()
    os.close(inner)
    os.close(outer)
    assert done.returncode == 0
    size = (raw / f"{SPORT}.json.gz").stat().st_size
    assert f"{SPORT}.json.gz:" in shown
    assert f"/{size}" in shown
    silent = subprocess.run([*command, "--name", "again"], capture_output=True, check=False)
    assert silent.stderr == b""
