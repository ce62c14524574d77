"""`tools/compare_runs.py` on tables of ranks written by hand."""

from __future__ import annotations

from pathlib import Path

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


def run_of(folder: Path, seed: int, best: int, rows: int = N) -> Path:
    """A run whose ranks lie between `best` and 20, its rows in an order of their own."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"row": np.arange(rows), "user_id": [f"u{row}" for row in range(rows)]})
    table["item_id"] = [f"i{row % 7}" for row in range(rows)]
    table["domain"] = np.where(np.arange(rows) % 2 == 0, "books", "movies")
    table["full"] = random.integers(best, 20, rows)
    folder.mkdir()
    save_rank_table(folder / "test_ranks.tsv", table.sample(frac=1, random_state=seed))
    return folder


def test_each_domain_is_tested_on_means_over_seeds(tool, tmp_path):
    ours = [run_of(tmp_path / f"a{seed}", seed, 1) for seed in (1, 2)]
    theirs = [run_of(tmp_path / f"b{seed}", seed + 10, 8) for seed in (1, 2)]
    frame = tool.compare(ours, theirs).set_index("domain")

    def scores(runs):
        tables = [pd.read_csv(run / "test_ranks.tsv", sep="\t").sort_values("row") for run in runs]
        return np.mean([ndcg(table.loc[table["domain"] == "books", "full"].to_numpy()) for table in tables], axis=0)

    books = frame.loc["books"]
    assert (books["rows"], books["ndcg@10"], books["against"]) == (N / 2, scores(ours).mean(), scores(theirs).mean())
    assert books["p"] == wilcoxon(scores(ours), scores(theirs)).p_value
    assert sorted(frame["holm"]) == pytest.approx([2 * frame["p"].min(), max(2 * frame["p"].min(), frame["p"].max())])


def test_the_table_is_printed(tool, tmp_path, monkeypatch, capsys):
    one, other = (run_of(tmp_path / name, seed, 1) for seed, name in enumerate(("a", "b")))
    monkeypatch.setattr("sys.argv", ["compare_runs.py", str(one), "--against", str(other)])
    tool.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["candidates", "domain", "rows", "ndcg@10", "against", "p", "holm"]
    assert [line.split()[:3] for line in lines[1:]] == [["full", "books", "20"], ["full", "movies", "20"]]


def test_runs_that_cannot_be_compared_are_named(tool, tmp_path):
    one, fewer = run_of(tmp_path / "a", 1, 1), run_of(tmp_path / "b", 2, 1, rows=N - 2)
    with pytest.raises(SystemExit, match=r"b judged other rows or candidates than .*a"):
        tool.compare([one], [fewer])
    with pytest.raises(SystemExit, match="nowhere is not the directory of a finished run"):
        tool.compare([one], [tmp_path / "nowhere"])
