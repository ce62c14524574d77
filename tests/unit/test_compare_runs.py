"""`tools/compare_runs.py` on tables of ranks written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recbole_cdsr.benchmark.row_scores import ndcg
from recbole_cdsr.benchmark.significance import wilcoxon
from recbole_cdsr.evaluator.rank_table import save_rank_table

N = 40


@pytest.fixture
def tool(load_tool):
    return load_tool("compare_runs")


def write_run(folder: Path, seed: int, best: int, rows: int = N, config: dict[str, Any] | None = None, **said) -> Path:
    """A run whose ranks lie between `best` and 20, its rows in an order of their own."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"row": np.arange(rows), "user_id": [f"u{row}" for row in range(rows)]})
    table["item_id"] = [f"i{row % 7}" for row in range(rows)]
    table["domain"] = np.where(np.arange(rows) % 2 == 0, "books", "movies")
    table["full"] = random.integers(best, 20, rows)
    folder.mkdir()
    save_rank_table(folder / "test_ranks.tsv", table.sample(frac=1, random_state=seed))
    result = {"dataset": "tiny", "model": "SASRec", "seed": seed, "eval_candidates": ["full"], "budget": False} | said
    result["config"] = {"topk": [10], "ties": "half", "eval_seed": 2026} | (config or {})
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder


@pytest.fixture
def compare(tool):
    def compare(runs, against):
        return tool.compare([tool.run_of(run) for run in runs], [tool.run_of(run) for run in against])

    return compare


def test_each_domain_is_tested_on_means_over_seeds(compare, tmp_path):
    ours = [write_run(tmp_path / f"a{seed}", seed, 1) for seed in (1, 2)]
    theirs = [write_run(tmp_path / f"b{seed}", seed + 10, 8) for seed in (1, 2)]
    frame = compare(ours, theirs).set_index("domain")

    def scores(runs):
        tables = [pd.read_csv(run / "test_ranks.tsv", sep="\t").sort_values("row") for run in runs]
        return np.mean([ndcg(table.loc[table["domain"] == "books", "full"].to_numpy()) for table in tables], axis=0)

    books = frame.loc["books"]
    assert books["rows"] == N / 2
    assert (books["ndcg@10"], books["against"]) == pytest.approx(
        (scores(ours).mean(), scores(theirs).mean()), rel=1e-12
    )
    assert books["p"] == pytest.approx(wilcoxon(scores(ours), scores(theirs)).p_value, rel=1e-12)
    assert sorted(frame["holm"]) == pytest.approx([2 * frame["p"].min(), max(2 * frame["p"].min(), frame["p"].max())])


def test_the_table_is_printed_and_what_it_does_not_support(tool, tmp_path, monkeypatch, capsys):
    one = write_run(tmp_path / "a", 0, 1, budget=True, synthetic=True)
    other = write_run(tmp_path / "b", 1, 1)
    monkeypatch.setattr("sys.argv", ["compare_runs.py", str(one), "--against", str(other)])
    tool.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["candidates", "domain", "rows", "ndcg@10", "against", "p", "holm"]
    assert [line.split()[:3] for line in lines[1:3]] == [["full", "books", "20"], ["full", "movies", "20"]]
    assert lines[3] == f"budget: the cap on epochs ended {one}; no claim rests on them."
    assert lines[4].startswith("SYNTHETIC DATA")


def test_runs_that_cannot_be_compared_are_named(tool, compare, tmp_path):
    one = write_run(tmp_path / "a", 1, 1)
    with pytest.raises(SystemExit, match=r"b judged other rows than .*a"):
        compare([one], [write_run(tmp_path / "b", 2, 1, rows=N - 2)])
    with pytest.raises(SystemExit, match="nowhere is not the directory of a finished run"):
        compare([one], [tmp_path / "nowhere"])
    with pytest.raises(SystemExit, match=r"c was judged by other ties than .*a"):
        compare([one], [write_run(tmp_path / "c", 2, 1, config={"ties": "recbole"})])
    with pytest.raises(SystemExit, match=r"d was judged by other dataset or candidates"):
        compare([one], [write_run(tmp_path / "d", 2, 1, dataset="other")])
    with pytest.raises(SystemExit, match=r"A seed is there twice among .*a"):
        compare([one, one], [write_run(tmp_path / "e", 2, 1)])
    short = {"ties": "recbole", "topk": [5]}
    with pytest.raises(SystemExit, match=r"ranks up to 5 only \(ties: recbole\)"):
        compare([write_run(tmp_path / "f", 1, 1, config=short)], [write_run(tmp_path / "g", 2, 1, config=short)])


def test_a_row_that_stands_twice_is_refused(compare, tmp_path):
    one, other = write_run(tmp_path / "a", 1, 1), write_run(tmp_path / "b", 2, 1)
    table = pd.read_csv(other / "test_ranks.tsv", sep="\t")
    save_rank_table(other / "test_ranks.tsv", pd.concat([table, table.head(1)]))
    with pytest.raises(SystemExit, match="a row twice"):
        compare([one], [other])
