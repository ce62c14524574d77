"""Cells as they lie on the disk."""

from __future__ import annotations

import json
import math

import pytest

from recbole_cdsr.benchmark.collect import cells_frame, load_cells, metrics_frame
from recbole_cdsr.errors import DataError


def test_cells_come_in_the_order_of_the_grid_and_missing_ones_are_there(example):
    cells = load_cells(example)
    assert [(cell.label, cell.seed, cell.state) for cell in cells[:7]] == [
        ("LLM4CDSR", 1, "done"),
        ("LLM4CDSR", 2, "done"),
        ("LLM4CDSR", 3, "done"),
        ("SASRec+llm", 1, "done"),
        ("SASRec+llm", 2, "done"),
        ("SASRec+llm", 3, "missing"),
        ("SASRec", 1, "done"),
    ]
    assert cells[5].reason == "not started yet"
    assert len(cells) == 12


def test_cells_without_figures_are_rows_that_say_why(tmp_path, cell):
    cell(tmp_path, "BPR", 1, status="failed", reason="training loss is nan")
    cell(tmp_path, "Pop", 1, status="running")
    test = {"overall": "n/a", "domains": "n/a", "groups": "n/a", "full": {}}
    cell(tmp_path, "NGCF", 1, {"book": [1]}, test=test, reason="users not seen in training")
    place = cell(tmp_path, "SASRec", 1, {"book": [1]})
    (place / "result.json").write_text("{", encoding="utf-8")
    place = cell(tmp_path, "GRU4Rec", 1, {"book": [1]})
    (place / "result.json").unlink()
    place = cell(tmp_path, "SASRec", 2)
    (place / "cell.json").write_text(json.dumps({"status": "done"}), encoding="utf-8")
    frame = cells_frame(load_cells(tmp_path)).set_index(["label", "seed"])
    assert frame["state"].to_dict() == {
        ("BPR", 1): "failed",
        ("GRU4Rec", 1): "failed",
        ("NGCF", 1): "n/a",
        ("Pop", 1): "running",
        ("SASRec", 1): "failed",
        ("SASRec", 2): "failed",
    }
    assert frame.loc[("BPR", 1), "reason"] == "training loss is nan"
    assert frame.loc[("NGCF", 1), "reason"] == "users not seen in training"
    assert frame.loc[("SASRec", 1), "reason"].startswith("result.json is not JSON")
    assert frame.loc[("GRU4Rec", 1), "reason"].startswith("result.json cannot be read")
    assert frame.loc[("SASRec", 2), "reason"] == "cell.json lacks the key 'dataset'; run the cell again"
    assert metrics_frame(load_cells(tmp_path)).empty


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("cell.json", {"settings": ["x"]}, "cell.json: settings is \"['x']\"; run the cell again"),
        ("cell.json", {"status": "ready"}, "cell.json says status 'ready'; run the cell again"),
        ("cell.json", {"seed": "one"}, "cell.json: seed is 'one'; run the cell again"),
        ("result.json", {"test": None}, "result.json: test is 'None'; run the cell again"),
        ("result.json", {"eval_candidates": ["uni99"]}, "result.json lacks the key 'test.uni99'; run the cell again"),
        ("result.json", {"epochs": None}, "result.json: epochs is 'None'; run the cell again"),
    ],
)
def test_a_cell_of_another_shape_is_a_row_that_says_so(tmp_path, cell, name, changes, reason):
    cell(tmp_path, "BPR", 2, {"book": [1, 3]})
    path = cell(tmp_path, "BPR", 1, {"book": [1, 3]}) / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")
    broken, whole = load_cells(tmp_path)
    assert (broken.state, broken.reason, whole.state) == ("failed", reason, "done")
    assert len(cells_frame([broken, whole])) == 2


def test_control_characters_of_a_log_are_left_out(tmp_path, cell):
    cell(tmp_path, "BPR", 1, status="failed", reason="killed\x00 by\x07 a\tsignal")
    assert load_cells(tmp_path)[0].reason == "killed by a\tsignal"


def test_figures_in_long_form(tmp_path, cell):
    cell(tmp_path, "BPR", 1, {"book": [1, 3], "movie": [20, 7]})
    frame = metrics_frame(load_cells(tmp_path))
    chosen = frame[frame["metric"] == "ndcg@10"].set_index("name")
    assert chosen["value"].drop("single_domain").to_dict() == pytest.approx(
        {"overall": (1 + 1 / 2 + 1 / 3) / 4, "book": 3 / 4, "movie": 1 / 6, "overlapped": (1 + 1 / 2 + 1 / 3) / 4}
    )
    assert math.isnan(chosen.loc["single_domain", "value"])
    assert chosen["count"].to_dict() == {"overall": 4, "book": 2, "movie": 2, "overlapped": 4, "single_domain": 0}
    assert chosen["scope"].to_dict()["movie"] == "domain"


def test_a_folder_that_is_no_benchmark_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no cells"):
        load_cells(tmp_path)


@pytest.mark.parametrize(
    "text", ["[1, 2]", "models: [", "datasets: [{name: shop, settings: {}}]\nmodels: [{}]\nseeds: [1]\nsettings: {}\n"]
)
def test_a_grid_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / "grid.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"grid\.yaml"):
        load_cells(tmp_path)
