from __future__ import annotations

import logging
import re
import time
from importlib import resources

import pandas as pd
import pytest

from recbole_cdsr.data.atomic import read_item_text
from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.prompts import (
    item_texts,
    item_titles,
    load_item_prompt,
    non_latin_share,
    warn_of_unread_script,
)


def frame(**columns: list[str]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"item_id": [f"a:{i}" for i in range(n)], "domain": ["a"] * n} | columns, dtype=object)


def test_filled_columns_are_worded_in_order_and_empty_ones_leave_no_trace():
    texts = item_texts(
        frame(
            description=["A cup.", "", "Steel."],
            brand=["Acme", "", ""],
            title=["Tea cup", "Green tea", ""],
            price=["3.50", "", "9"],
        )
    )
    assert texts == [
        "Tea cup; brand: Acme; price: 3.50; description: A cup.",
        "Green tea",
        "price: 9; description: Steel.",
    ]


def test_lengths_are_those_of_the_specification():
    [text] = item_texts(frame(title=["t" * 300], category=["c" * 300], tags=["g" * 300], description=["d" * 300]))
    assert text == f"{'t' * 100}; category: {'c' * 128}; tags: {'g' * 100}; description: {'d' * 128}"


def test_first_filled_column_of_a_field_is_used():
    texts = item_texts(frame(title=["A", "B"], category=["", "tea"], genres=["drama", "never"]))
    assert texts == ["A; category: drama", "B; category: tea"]


def test_columns_that_no_field_names_are_worded_by_their_name_and_urls_are_not_text():
    texts = item_texts(frame(title=["A", "B"], release_year=["1999", ""], url=["http://x", "http://y"]))
    assert texts == ["A; release year: 1999", "B"]


def test_white_space_is_collapsed_and_entities_are_resolved():
    texts = item_texts(frame(title=["  Salt &amp;\t Pepper\n set ", "R&D"]))
    assert texts == ["Salt & Pepper set", "R&D"]


def test_items_without_text_get_their_domain_and_are_counted(caplog):
    data = frame(title=["A", "", ""])
    data["domain"] = ["book", "book", "movie"]
    with caplog.at_level(logging.WARNING):
        texts = item_texts(data)
    assert texts[1:] == [f"an item of the domain {name} without description" for name in ("book", "movie")]
    assert "2 of 3 items have no text" in caplog.text


def test_missing_values_and_foreign_row_labels_do_no_harm():
    data = frame(title=["A", None, "C"], brand=[float("nan"), "x", ""])
    data.index = [7, 3, 3]
    assert item_texts(data) == ["A", "brand: x", "C"]


def test_titles_fall_back_to_the_whole_text():
    assert item_titles(frame(title=["A", ""], brand=["x", "y"])) == ["A", "brand: y"]


def test_text_of_an_item_file_arrives_as_written(tmp_path):
    rows = 'item_id:token\tdomain:token\ttitle:token_seq\na:1\ta\t"A ""quoted""\ttab"\na:2\ta\t\n'
    (tmp_path / "toy.item").write_text(rows, encoding="utf-8")
    assert item_texts(read_item_text(tmp_path, "toy"))[0] == 'A "quoted" tab'


def test_an_own_prompt_file_with_another_wording(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(
        'name: own\nversion: 3\nfields: [{columns: [title], text: "<{value}>", max_chars: 2}]\n'
        'separator: " "\nempty: nothing\n',
        encoding="utf-8",
    )
    prompt = load_item_prompt(str(own))
    assert re.fullmatch("own-3-[0-9a-f]{8}", prompt.version)
    assert item_texts(frame(title=["abc", ""], brand=["x", "y"]), prompt) == ["<ab>", "nothing"]


@pytest.mark.parametrize("name", ["item_en", "item_zh", "item_lecdsr_en"])
def test_an_edited_copy_of_a_packaged_prompt_is_another_version(tmp_path, name):
    packaged = load_item_prompt(name)
    assert packaged.version == f"{name}-1"  # stored sets say so
    text = (resources.files("recbole_cdsr.llm") / "prompt_files" / f"{name}.yaml").read_text(encoding="utf-8")
    versions = {packaged.version}
    for number, separator in enumerate([" | ", " / "]):
        copy = tmp_path / f"{number}.yaml"
        copy.write_text(re.sub("(?m)^separator:.*$", f'separator: "{separator}"', text), encoding="utf-8")
        assert load_item_prompt(str(copy)).separator == separator
        versions.add(load_item_prompt(str(copy)).version)
    assert len(versions) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "not valid YAML"),
        ("a: 2021-13-45", "not valid YAML"),
        ("name: x", "`name` and `version`"),
        ("name: x\nversion: 1", "lacks a key"),
        ("name: x\nversion: 1\nfields: [{columns: [t], text: no, max_chars: 3}]", "lacks a key"),
    ],
)
def test_broken_prompt_files_are_refused(tmp_path, content, message):
    (tmp_path / "own.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(FeatureError, match=message):
        load_item_prompt(str(tmp_path / "own.yaml"))


def test_unknown_prompt_names_those_there_are():
    with pytest.raises(FeatureError, match="item_en"):
        load_item_prompt("item_xx")


def test_share_of_other_scripts():
    assert non_latin_share(["Crème brûlée 12", "½ kg ™"]) == 0.0
    assert non_latin_share(["霸王别姬", "活着"]) == 1.0
    assert non_latin_share(["霸王 ab"]) == 0.5
    assert non_latin_share(["123 !?"]) == 0.0


def test_warns_of_a_script_the_default_encoder_cannot_read(caplog):
    assert not warn_of_unread_script(["Farewell My Concubine"])
    assert not caplog.records
    assert warn_of_unread_script(["霸王别姬 (1993)"])
    assert "paraphrase-multilingual-MiniLM-L12-v2" in caplog.text


def test_forty_thousand_items_take_less_than_a_second():
    n = 40_000
    data = frame(title=[f"Title &amp; number {i}" for i in range(n)], brand=["x", ""] * (n // 2), price=["1"] * n)
    item_texts(data.head(10))
    started = time.process_time()
    assert len(item_texts(data)) == n
    assert time.process_time() - started < 1.0
