"""The files of a report."""

from __future__ import annotations

import pandas as pd
import pytest

from recbole_cdsr.benchmark.report import write_report
from recbole_cdsr.errors import DataError

NAMES = ["report.html", "report.md", "tables.tex", "results.csv", "comparison.csv", "cells.csv"]


def test_all_files_are_written_and_the_same_again(example):
    paths = write_report(example)
    assert [path.name for path in paths] == NAMES
    assert {path.parent for path in paths} == {example / "report"}
    before = {path: path.read_bytes() for path in paths}
    write_report(example)
    assert {path: path.read_bytes() for path in paths} == before
    assert sorted(path.name for path in (example / "report").iterdir()) == sorted(NAMES)


def test_csv_files_hold_every_figure_test_and_cell(example, tmp_path):
    folder = tmp_path / "elsewhere"
    write_report(example, folder)
    results = pd.read_csv(folder / "results.csv")
    keys = ["dataset", "label", "candidates", "scope", "name", "metric"]
    assert list(results.columns) == [*keys, "mean", "sd", "seeds", "count", "low", "high"]
    assert not results.duplicated(keys).any()
    row = results.set_index(keys).loc[("shop", "LLM4CDSR", "full", "domain", "book", "ndcg@10")]
    assert row[["mean", "seeds", "count"]].tolist() == pytest.approx([11 / 18, 3, 8])
    tests = pd.read_csv(folder / "comparison.csv").set_index(["label", "domain"])
    assert tests.loc[("LLM4CDSR", "book"), ["reference", "family", "mark"]].tolist() == ["BPR", 4, "*"]
    assert tests.loc[("SASRec+llm", "movie"), "no_claim"] == "2 finished seeds, a claim needs 3"
    cells = pd.read_csv(folder / "cells.csv")
    assert cells["state"].value_counts().to_dict() == {"done": 11, "missing": 1}


def test_a_failed_cell_is_a_row_everywhere(tmp_path, cell):
    cell(tmp_path, "BPR", 1, {"book": [1, 2]})
    cell(tmp_path, "LightGCN", 1, status="failed", reason="out of memory | 50 %")
    html, markdown, latex, _, _, cells = [path.read_text(encoding="utf-8") for path in write_report(tmp_path)]
    assert "1: failed (out of memory | 50 %)" in html
    assert "| shop | LightGCN | 1 | failed | out of memory \\| 50 % | 1 |" in markdown
    assert "| LightGCN | 0 of 1 | – |" in markdown
    assert r"shop & LightGCN & 1 & failed & out of memory \textbar{} 50 \% & 1 \\" in latex
    assert "shop,LightGCN,LightGCN,1,failed,out of memory | 50 %,1,baseline" in cells


def test_a_benchmark_without_a_finished_cell_is_reported_too(tmp_path, cell):
    cell(tmp_path, "BPR", 1, status="failed", reason="training loss is nan")
    cell(tmp_path, "SASRec", 1, status="failed", reason="out of memory")
    html, markdown, latex, results, comparison, cells = [
        path.read_text(encoding="utf-8") for path in write_report(tmp_path)
    ]
    for reason in ("training loss is nan", "out of memory"):
        assert all(reason in text for text in (html, markdown, latex, cells))
    assert len(results.splitlines()) == len(comparison.splitlines()) == 1  # headings alone


def test_a_folder_that_is_no_benchmark_gets_no_report(tmp_path):
    with pytest.raises(DataError, match="holds no cells"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(example):
    (example / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot be written to .*taken"):
        write_report(example, example / "taken")
