"""Item details of every Amazon release, exactly."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import raw_amazon
from amazon_conversions import card_of, converted

from recbole_cdsr.data.atomic import read_item_text

CLOTH, SPORT = raw_amazon.FILES
ITEMS_2014 = {
    CLOTH: [
        "{'asin': 'B1', 'title': \"Kid's 'best' &amp; \\tshirt\", 'price': 12.5, 'brand': 'Café 中文',"
        " 'categories': [['Clothing, Shoes', 'Men'], ['Novelty', 'Funny']], 'imUrl': 'x', 'salesRank': {'A': 1},"
        " 'related': {'also_bought': ['B2', 'B3']}, 'description': 'One<br>two\\nthree \\'quoted\\' 🍜'}",
        '{"asin": "B2", "title": "double quoted", "description": "has \'asin\': \'B3\' in it"}',
        b"{'asin': 'B3', 'title': 'caf\xe9', 'categories': [['Only']]}",
        "{'asin': 'B1', 'title': 'a second row of B1'}",
        "{'asin': 'UNUSED', 'title': 'not kept'}",
    ],
    SPORT: ["{'asin': 'B1', 'title': 'ball'}"],
}
COLUMNS = ["title", "brand", "category", "price", "rating", "description"]


def test_item_details_of_2014(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = raw_amazon.write_items(raw_amazon.write_reviews(tmp_path / "raw", "2014"), "2014", ITEMS_2014)
    with caplog.at_level(logging.WARNING):
        folder = converted(raw)
    items = read_item_text(folder, "mini").set_index("item_id")
    assert items.columns.tolist() == ["domain", *COLUMNS]
    assert items.loc["cloth:B1", COLUMNS].tolist() == [
        "Kid's 'best' & \tshirt", "Café 中文", "Clothing, Shoes > Men | Novelty > Funny", "12.5", "",
        "One\ntwo\nthree 'quoted' 🍜",
    ]  # fmt: skip
    assert items.loc["cloth:B2", ["title", "description"]].tolist() == ["double quoted", "has 'asin': 'B3' in it"]
    assert items.loc["cloth:B3", COLUMNS].tolist() == ["café", "", "Only", "", "", ""]
    assert items.loc["sport:S9", COLUMNS].tolist() == [""] * 6
    assert "sport: 1 of the items have no details in meta_Sports_and_Outdoors.json.gz" in caplog.text
    card = card_of(folder)
    assert [domain.get("items_without_text", 0) for domain in card.domains] == [0, 1]
    assert [file.get("rows") for file in card.source["files"]] == [5, 2, 5, 1]


@pytest.mark.parametrize(
    "literal",
    [
        "{'asin': 'B1', 'title': __import__('os').mkdir('never')}",
        "{'asin': 'B1', 'title': open('never', 'w')}",
        "__import__('os').mkdir('never')",
        "{'asin': 'B1', 'title': 'never closed}",
        "{'title': 'no id'}",
        "{'asin': ['B1']}",
        "['asin', 'B1']",
        "'asin': 'B1'",
        "{'asin': 'B1', 'x': " + "[" * 3000 + "]" * 3000 + "}",
    ],
)
def test_literals_of_2014_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, literal: str) -> None:
    monkeypatch.chdir(tmp_path)
    items = {CLOTH: [literal, "{'asin': 'B2', 'title': 'good'}"], SPORT: ["{'asin': 'S9'}"]}
    raw = raw_amazon.write_items(raw_amazon.write_reviews(tmp_path / "raw", "2014"), "2014", items)
    folder = converted(raw, "--max-malformed", "20%")
    assert not (tmp_path / "never").exists()
    assert read_item_text(folder, "mini", ["title"])["title"].tolist() == ["", "good", "", "", ""]
    file = card_of(folder).source["files"][2]
    assert (file["malformed"], file["malformed_lines"][0][:3]) == (1, "1: ")


def test_item_details_of_2018(tmp_path: Path) -> None:
    lone_surrogate = r'{"asin": "B3", "title": "half \ud83c emoji", "main_cat": "Fallback"}'
    rows = {
        CLOTH: [
            json.dumps(
                {
                    "asin": "B1",
                    "title": 'Tab\there "quoted"\nnew line &amp; &quot;entity&quot; 中文 🍜',
                    "brand": "Nike",
                    "category": ["Clothing, Shoes & Jewelry", "Men &amp; Boys", "</span></span></span>"],
                    "price": "$19.99",
                    "description": ["<p>First.</p><p>Second &nbsp;part</p>", "", "I <3 it"],
                    "tech1": {"a": "b"},
                }
            ),
            json.dumps({"asin": "B2", "title": "css", "price": ".a-box-inner{background-color:#fff}" * 3}),
            lone_surrogate,
        ],
        SPORT: [b'{"asin": "B1", "title": "latin caf\xe9 \x93x\x94"}', '{"asin": "S9", "title": null, "brand": ["X"]}'],
    }
    raw = raw_amazon.write_items(raw_amazon.write_reviews(tmp_path / "raw", "2018"), "2018", rows)
    folder = converted(raw)
    items = read_item_text(folder, "mini").set_index("item_id")
    assert items.columns.tolist() == ["domain", *COLUMNS]
    assert items.loc["cloth:B1", COLUMNS].tolist() == [
        'Tab\there "quoted"\nnew line & "entity" 中文 🍜', "Nike", "Clothing, Shoes & Jewelry > Men & Boys", "$19.99",
        "", "First.\nSecond  part\nI <3 it",
    ]  # fmt: skip
    assert items.loc["cloth:B2", COLUMNS].tolist() == ["css", "", "", "", "", ""]
    assert items.loc["cloth:B3", ["title", "category"]].tolist() == ["half \N{REPLACEMENT CHARACTER} emoji", "Fallback"]
    assert items.loc["sport:B1", "title"] == "latin café “x”"
    assert items.loc["sport:S9", COLUMNS].tolist() == ["", "X", "", "", "", ""]
    assert card_of(folder).rows == {"read": 7, "kept": 7, "malformed": 0}


def test_scripts_of_scraped_pages_are_no_titles(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    page = "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();"
    titles = {
        CLOTH: {"B1": page, "B2": f'<script type="text/javascript">{page}', "B3": f"<script>{page}</script>Hat"},
        SPORT: {"B1": ["Ball", "x=new Date().getTime()"], "S9": "Var Ball = getTime, the document. Function (x)"},
    }
    rows = {
        category: [json.dumps({"asin": asin, "title": title, "brand": "N"}) for asin, title in some.items()]
        for category, some in titles.items()
    }
    raw = raw_amazon.write_items(raw_amazon.write_reviews(tmp_path / "raw", "2018"), "2018", rows)
    with caplog.at_level(logging.WARNING):
        folder = converted(raw)
    items = read_item_text(folder, "mini").set_index("item_id")
    assert items["title"].to_dict() == {
        "cloth:B1": "",
        "cloth:B2": "",
        "cloth:B3": "Hat",
        "sport:B1": "",
        "sport:S9": "Var Ball = getTime, the document. Function (x)",
    }
    assert set(items["brand"]) == {"N"}
    assert [file.get("titles_of_script") for file in card_of(folder).source["files"]] == [None, None, 2, 1]
    assert "cloth: 2 of the items have JavaScript of the scraped page for a title in meta_" in caplog.text


def test_item_details_of_2023(tmp_path: Path) -> None:
    full = {
        "parent_asin": "B1", "asin": "OTHER", "title": "T", "store": "S", "main_category": "M",
        "categories": ["A", "B"], "features": ["f1", "f2"], "description": ["d1", "d2"], "price": 9.5,
        "average_rating": 4.3, "rating_number": 10,
    }  # fmt: skip
    rows = {CLOTH: [json.dumps(full), json.dumps({"parent_asin": "B2", "price": None, "main_category": "M"})]}
    raw = raw_amazon.write_items(raw_amazon.write_reviews(tmp_path / "raw", "2023"), "2023", rows)
    items = read_item_text(converted(raw), "mini").set_index("item_id")
    columns = [*COLUMNS[:-1], "features", "description"]
    assert items.columns.tolist() == ["domain", *columns]
    assert items.loc["cloth:B1", columns].tolist() == ["T", "S", "A > B", "9.5", "4.3", "f1\nf2", "d1\nd2"]
    assert items.loc["cloth:B2", columns].tolist() == ["", "", "M", "", "", "", ""]
