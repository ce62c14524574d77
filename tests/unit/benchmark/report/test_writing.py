"""The files of a report."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from recbole_cdsr.benchmark.report import write_report
from recbole_cdsr.errors import DataError

from ..benchmark_folder import diluted_card

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


def figures(*names: str) -> dict:
    """What a result holds of two rows, by these metrics."""
    of_rows = {"count": 2, **dict.fromkeys(names, 0.5)}
    own = {"overall": of_rows, "domains": {"book": of_rows}, "groups": {"overlapped": of_rows}}
    return own | {"full": own}


def test_datasets_judged_by_different_metrics_are_reported_together(tmp_path, cell):
    for dataset, names in (("shop", ("ndcg@10",)), ("games", ("ndcg@5", "hit@5"))):
        for label in ("BPR", "LeCDSR"):
            cell(tmp_path, label, 1, {"book": [1, 3]}, dataset=dataset, test=figures(*names))
    html, markdown, *_ = [path.read_text(encoding="utf-8") for path in write_report(tmp_path)]
    for text in (html, markdown):
        assert "NDCG@10" in text
        assert "NDCG@5" in text


def test_a_seed_without_the_main_metric_is_named(tmp_path, cell):
    cell(tmp_path, "BPR", 1, {"book": [1, 3]})
    cell(tmp_path, "LeCDSR", 1, {"book": [1, 3]})
    cell(tmp_path, "LeCDSR", 2, {"book": [1, 3]}, test=figures("ndcg@5"), config={"topk": [5]})
    markdown = write_report(tmp_path)[1].read_text(encoding="utf-8")
    assert "Seeds without NDCG@10, which figures and means leave out: LeCDSR." in markdown


def test_odd_cards_of_older_results_do_not_stop_a_report(tmp_path, cell):
    odd = diluted_card("shop", None, source={"files": ["rows.csv", {"bytes": 3}]})
    cell(tmp_path, "BPR", 1, {"book": [1, 3]}, card=odd)
    cell(tmp_path, "LeCDSR", 1, {"book": [1, 3]}, card=None, fold_in=True)
    assert "rows.csv" in write_report(tmp_path)[0].read_text(encoding="utf-8")


def test_a_study_with_a_cell_of_an_older_card_is_reported(dilemma):
    for path in dilemma.glob("cells/shop0.5/BPR/seed-1/result.json"):
        content = json.loads(path.read_text()) | {"card": {"name": "shop0.5", "split": "loo"}}
        path.write_text(json.dumps(content))
    assert "by share of overlapped training users" in write_report(dilemma)[1].read_text(encoding="utf-8")


def test_a_cell_that_cannot_be_judged_counts_as_finished(tmp_path, cell):
    cell(tmp_path, "BPR", 1, {"book": [1, 3]})
    cell(tmp_path, "NGCF", 1, {"book": [1]}, test={"overall": "n/a", "domains": "n/a", "groups": "n/a", "full": {}})
    assert "2 of 2 cells are finished" in write_report(tmp_path)[0].read_text(encoding="utf-8")


def test_control_characters_reach_no_page(tmp_path, cell):
    cell(tmp_path, "BPR", 1, {"book": [1, 3]}, command="run\x07 --model=BPR\x00")
    html = write_report(tmp_path)[0].read_text(encoding="utf-8")
    assert "run --model=BPR" in html
    assert not {"\x00", "\x07"} & set(html)


def test_a_folder_that_is_no_benchmark_gets_no_report(tmp_path):
    with pytest.raises(DataError, match="holds no cells"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(example):
    (example / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot be written to .*taken"):
        write_report(example, example / "taken")
