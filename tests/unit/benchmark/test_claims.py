"""What a claim needs besides a p-value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recbole_cdsr.benchmark.analysis import Analysis

from .benchmark_folder import CARD, FEATURES, diluted_card

BETTER, BASE = [1] * 8, [3] * 8


@pytest.fixture
def bench(tmp_path, cell, grid):
    """Three seeds of a contender and its reference: a claim."""
    for seed in (1, 2, 3):
        cell(tmp_path, "LeCDSR", seed, {"book": BETTER}, features=FEATURES)
        cell(tmp_path, "BPR", seed, {"book": BASE})
    grid(tmp_path, ["LeCDSR", "BPR"], [1, 2, 3])
    return tmp_path


def outcome(folder: Path) -> tuple[str, str]:
    """The contender's mark, and why it has none."""
    (dataset,) = Analysis.of_folder(folder).datasets
    comparison = dataset.comparisons["full"]
    return comparison.mark("LeCDSR", "book"), comparison.no_claim.get("LeCDSR", "")


def edit(folder: Path, label: str, seed: int, name: str = "result.json", **changes) -> None:
    path = folder / "cells" / "shop" / label / f"seed-{seed}" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_three_seeds_each_make_a_claim(bench):
    assert outcome(bench) == ("*", "")


def test_more_seeds_than_the_reference_has_make_none(bench, cell):
    for seed in (4, 5):
        cell(bench, "LeCDSR", seed, {"book": BETTER}, features=FEATURES)
    assert outcome(bench) == ("", "5 finished seeds against 3, a claim needs as many of both")
    for seed in (4, 5):
        cell(bench, "BPR", seed, {"book": BASE})
    assert outcome(bench) == ("*", "")


def test_a_raised_cap_and_where_a_cell_ran_are_no_other_settings(bench):
    edit(bench, "BPR", 3, "cell.json", settings={"epochs": 200, "eval_batch_size": 64, "use_gpu": False})
    assert outcome(bench) == ("*", "")


@pytest.mark.parametrize("settings", [{"stopping_step": 3}, {"hidden_size": 8}])
def test_another_patience_and_other_sizes_are(bench, settings):
    edit(bench, "BPR", 3, "cell.json", settings=settings)
    assert outcome(bench) == ("", "the reference BPR: its seeds ran with different settings")


def test_a_key_that_an_earlier_release_did_not_know_is_off(bench):
    path = bench / "cells" / "shop" / "BPR" / "seed-3" / "result.json"
    result = json.loads(path.read_text())
    result["config"] |= {"llm_injection_whiten": False, "llm_adapter_hidden": None}
    path.write_text(json.dumps(result))
    assert outcome(bench) == ("*", "")


def test_a_zero_is_not_off(bench):
    edit(bench, "BPR", 3, "cell.json", settings={"reg_weight": 0.0})
    assert outcome(bench) == ("", "the reference BPR: its seeds ran with different settings")


class TestChoiceOfTheReference:
    @pytest.mark.parametrize("status", ["failed", "running"])
    def test_a_planned_baseline_without_figures_leaves_it_open(self, bench, cell, grid, status):
        for seed in (1, 2, 3):
            cell(bench, "SASRec", seed, status=status)
        grid(bench, ["LeCDSR", "BPR", "SASRec"], [1, 2, 3])
        assert outcome(bench) == ("", "the reference may change: SASRec has 0 finished seeds")
        grid(bench, ["LeCDSR", "BPR"], [1, 2, 3])  # given up
        assert outcome(bench) == ("*", "")

    def test_one_of_its_seeds_does_too(self, bench, cell, grid):
        cell(bench, "SASRec", 1, {"book": BASE}, best_valid_score=0.2)
        grid(bench, ["LeCDSR", "BPR", "SASRec"], [1, 2, 3])
        assert outcome(bench) == ("", "the reference may change: SASRec has 1 finished seed")

    def test_a_cap_that_ended_it_does_too(self, bench, cell, grid):
        for seed in (1, 2, 3):
            cell(bench, "SASRec", seed, {"book": BASE}, best_valid_score=0.49, budget=seed == 2)
        grid(bench, ["LeCDSR", "BPR", "SASRec"], [1, 2, 3])
        assert outcome(bench) == (
            "",
            "the reference may change: the cap on epochs ended training of seed 2 of SASRec",
        )

    def test_a_baseline_that_cannot_be_judged_does_not(self, bench, cell, grid):
        path = cell(bench, "Pop", 1, {"book": BASE}) / "result.json"
        result = json.loads(path.read_text())
        result["test"]["overall"] = "n/a"
        path.write_text(json.dumps(result))
        grid(bench, ["LeCDSR", "BPR", "Pop"], [1])
        assert "Pop" not in outcome(bench)[1]

    def test_contenders_that_are_not_finished_do_not(self, bench, cell, grid):
        cell(bench, "LLMCDSR", 1, status="failed")
        grid(bench, ["LeCDSR", "BPR", "LLMCDSR"], [1, 2, 3])
        assert outcome(bench) == ("*", "")


class TestData:
    def test_a_dataset_that_was_converted_anew_from_other_files_makes_no_claim(self, bench):
        other = diluted_card("shop", None, source={"files": [{"name": "rows.csv", "sha256": "ff", "bytes": 9}]})
        for seed in (1, 2, 3):
            edit(bench, "LeCDSR", seed, card=other)
        assert outcome(bench) == ("", "they ran on different data: the dataset was converted anew in between")
        edit(bench, "LeCDSR", 3, card=CARD)
        assert outcome(bench)[1].startswith("its seeds ran on different data: the dataset was converted anew")

    def test_one_made_anew_from_the_same_files_does(self, bench):
        edit(bench, "LeCDSR", 3, card=CARD | {"package_version": "9.9", "features": {"items": []}})
        assert outcome(bench) == ("*", "")

    def test_features_of_other_texts_make_none(self, bench):
        edit(bench, "LeCDSR", 3, features=with_items(texts_sha256="bb"))
        assert outcome(bench) == ("", "its seeds ran with different LLM features")

    def test_features_made_anew_of_the_same_texts_do(self, bench):
        for seed in (1, 2, 3):
            made = {"matrix_sha256": f"{seed}", "date": f"2026-11-{seed}", "package": f"{seed}"}
            encoder = {"name": "MiniLM", "weights_sha256": "cd", "library": f"{seed}"}
            edit(bench, "LeCDSR", seed, features=with_items(texts_sha256="aa", encoder=encoder, **made))
        assert outcome(bench) == ("*", "")

    def test_a_matrix_of_the_users_own_is_told_by_its_content(self, bench):
        for seed in (1, 2, 3):
            edit(bench, "LeCDSR", seed, features=with_items(matrix_sha256="aa" if seed < 3 else "bb"))
        assert outcome(bench)[1] == "its seeds ran with different LLM features"


def with_items(**changes) -> dict:
    return FEATURES | {"items": FEATURES["items"] | changes}
