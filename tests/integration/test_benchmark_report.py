"""The report of real runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_cdsr.benchmark.analysis import Analysis
from recbole_cdsr.benchmark.report import write_report

SEEDS = (1, 2, 3)


@pytest.fixture
def benchmark(tmp_path, tiny, run, item_features) -> Path:
    """BPR, and the backbone with features in it, with three seeds of two epochs, as cells of a benchmark."""
    features = str(item_features(tiny))
    rows = {
        "SASRecBCE+llm": ("SASRecBCE", {"hidden_size": 16, "llm_injection": "init", "item_features_file": features}),
        "BPR": ("BPR", {}),
    }
    folder = tmp_path / "bench"
    for label, (model, settings) in rows.items():
        for seed in SEEDS:
            result = run(model, tiny, seed=seed, eval_candidates=["full", "uni5"], **settings)
            cell = folder / "cells" / "tiny" / label / f"seed-{seed}"
            cell.mkdir(parents=True)
            for name in ("result.json", "test_ranks.tsv"):
                shutil.copy(Path(result["run_dir"]) / name, cell / name)
            stated: dict[str, Any] = {"label": label, "model": model, "dataset": "tiny", "seed": seed}
            stated |= {"settings": settings, "status": "done", "reason": None, "attempts": 1, "seconds": 1.0}
            (cell / "cell.json").write_text(json.dumps(stated), encoding="utf-8")
    return folder


def test_figures_tests_and_files_of_real_runs(benchmark, tiny):
    analysis = Analysis.of_folder(benchmark)
    (dataset,) = analysis.datasets
    assert (dataset.domains, dataset.labels) == (["books", "movies"], ["BPR", "SASRecBCE+llm"])
    for (_, label), scores in analysis.scores.items():
        for candidates in ("full", "uni5"):
            for metric in ("ndcg@10", "hit@10"):
                # Ranks and metrics are two ways to the same figure; metrics are rounded to four decimals.
                figure = analysis.figure("tiny", label, candidates, "overall", "overall", metric)
                values = scores.values[candidates, metric]
                assert values.mean() == pytest.approx(figure.mean, abs=1e-4)
                assert figure.low <= values.mean() <= figure.high
                assert figure.count == len(values) == tiny.interactions["user_id"].nunique()
    for comparison in dataset.comparisons.values():
        assert comparison.reference.label == "BPR"
        assert comparison.family == 2
        # Two epochs are a cap.
        assert "budget: the cap on epochs ended training of seed 1, 2, 3" in comparison.no_claim["SASRecBCE+llm"]
        assert set(comparison.tests["mark"]) == {""}
        assert np.isfinite(comparison.tests.loc[comparison.tests["domain"] == "books", "adjusted"]).all()

    html, markdown, *_ = [path.read_text(encoding="utf-8") for path in write_report(benchmark)]
    assert len(html) < 200_000
    assert "SASRecBCE+llm, seed 2: best 0." in html
    assert "what made them is not recorded" in html  # the matrix is the user's own
    assert "given by the user (item_features_file)" in html
    assert "| SASRecBCE+llm | 3 (budget) |" in markdown
