"""The comparison of protocol point 8, number by number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recbole_cdsr.benchmark.analysis import Analysis
from recbole_cdsr.benchmark.comparison import OVERALL, Comparison

MISS = 20
EIGHT_BETTER = 2 / 2**8  # no negative sign among eight: two-sided 2 of 256 patterns


def comparison_of(folder: Path) -> Comparison:
    (dataset,) = Analysis.of_folder(folder).datasets
    return dataset.comparisons["full"]


def test_the_worked_example(example):
    comparison = comparison_of(example)
    assert comparison.reference.label == "BPR"
    assert comparison.reference.counted == pytest.approx({"BPR": 0.4, "SASRec": 0.35})
    assert list(comparison.reference.counted) == ["BPR", "SASRec"]

    tests = comparison.tests.set_index(["label", "domain"])
    assert list(tests.index) == [
        (label, rows) for label in ("LLM4CDSR", "SASRec+llm") for rows in ("book", "movie", OVERALL)
    ]
    # Books: every row is (1 + 1/2 + 1/3) / 3 = 11/18 better.
    assert tests.loc[("LLM4CDSR", "book"), "difference"] == pytest.approx(11 / 18)
    assert tests.loc[("LLM4CDSR", "book"), "p_value"] == pytest.approx(EIGHT_BETTER)
    # Movies: differences 1/2, 1, 5/6, 0, 0 and -1/3. The zeros hold ranks 1.5, the others 3 (negative), 4, 5, 6: of 16
    # patterns of signs two have a negative sum of 3 or less, so p = 4/16.
    assert tests.loc[("LLM4CDSR", "movie"), "difference"] == pytest.approx(1 / 3)
    assert tests.loc[("LLM4CDSR", "movie"), "p_value"] == pytest.approx(4 / 16)
    assert tests.loc[("LLM4CDSR", "movie"), "differing"] == 4
    assert tests.loc[("SASRec+llm", "book"), "p_value"] == 1
    assert tests.loc[("SASRec+llm", "movie"), "difference"] == pytest.approx(3.5 / 6)
    assert tests.loc[("SASRec+llm", "movie"), "p_value"] == pytest.approx(2 / 2**6)
    # Holm over the four: 4 p1, 3 p2, 2 p3, p4.
    assert comparison.family == 4
    adjusted = [tests.loc[key, "adjusted"] for key in tests.index if key[1] != OVERALL]
    assert adjusted == pytest.approx([4 * EIGHT_BETTER, 2 * 0.25, 1, 3 / 32])
    # All rows: an interval, and no test.
    overall = tests.loc[("LLM4CDSR", OVERALL)]
    assert overall["difference"] == pytest.approx((8 * 11 / 18 + 6 / 3) / 14)
    assert overall["low"] < overall["difference"] < overall["high"]
    assert overall[["p_value", "adjusted"]].isna().all()

    marks = {key: mark for key, mark in tests["mark"].items() if mark}
    assert marks == {("LLM4CDSR", "book"): "*"}
    assert comparison.mark("LLM4CDSR", "book") == "*"
    assert comparison.no_claim == {"SASRec+llm": "2 finished seeds, a claim needs 3"}
    assert comparison.not_compared == {}


@pytest.mark.parametrize("label", ["LLM4CDSR", "BPR"])
def test_a_capped_cell_supports_no_claim_on_either_side(example, label):
    change(example, label, 2, budget=True)
    comparison = comparison_of(example)
    assert comparison.tests["adjusted"].min() == pytest.approx(4 * EIGHT_BETTER)
    assert set(comparison.tests["mark"]) == {""}
    assert "budget: the cap on epochs ended training of seed 2" in comparison.no_claim["LLM4CDSR"]
    assert comparison.no_claim["LLM4CDSR"].startswith("the reference BPR: ") == (label == "BPR")


def test_an_older_result_is_capped_when_it_used_all_its_epochs(example):
    path = example / "cells" / "shop" / "LLM4CDSR" / "seed-1" / "result.json"
    result = json.loads(path.read_text())
    del result["budget"], result["valid_scores"]
    path.write_text(json.dumps(result))
    assert comparison_of(example).mark("LLM4CDSR", "book") == "*"
    change(example, "LLM4CDSR", 1, epochs=100, budget=None)
    assert comparison_of(example).mark("LLM4CDSR", "book") == ""


def test_seeds_with_different_settings_support_no_claim(example):
    path = example / "cells" / "shop" / "LLM4CDSR" / "seed-2" / "cell.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"tau": 2.0}}))
    comparison = comparison_of(example)
    assert set(comparison.tests["mark"]) == {""}
    assert comparison.no_claim["LLM4CDSR"] == "its seeds ran with different settings"


def test_seeds_that_ran_differently_support_no_claim_whatever_the_grid_says(example):
    path = example / "cells" / "shop" / "LLM4CDSR" / "seed-2" / "result.json"
    content = json.loads(path.read_text())
    content["config"] |= {"hidden_size": 8, "gpu_id": "1", "seed": 2}
    path.write_text(json.dumps(content))
    assert comparison_of(example).no_claim["LLM4CDSR"] == "its seeds ran with different settings"
    del content["config"]["hidden_size"]  # where it ran and with which seed does not count
    path.write_text(json.dumps(content))
    assert "LLM4CDSR" not in comparison_of(example).no_claim


def test_recboles_exclusion_of_histories_is_what_it_comes_to(tmp_path, cell):
    recbole = {"exclude_history": "recbole"}
    for seed in (1, 2, 3):
        cell(tmp_path, "Pop", seed, {"book": [3] * 8}, config=recbole, excludes_history=True)
        cell(tmp_path, "LeCDSR", seed, {"book": [1] * 8}, config=recbole, excludes_history=False)
        cell(tmp_path, "LLM4CDSR", seed, {"book": [1] * 8}, excludes_history=True)
    comparison = comparison_of(tmp_path)
    assert comparison.not_compared == {"LeCDSR": "judged with another exclude_history than the reference"}
    assert comparison.mark("LLM4CDSR", "book") == "*"


@pytest.mark.parametrize("change", [{"candidate_domains": "all"}, {"eval_seed": 5}, {"ties": "recbole"}])
def test_validation_under_another_protocol_chooses_no_baseline(tmp_path, cell, change):
    for seed in (1, 2, 3):
        cell(tmp_path, "BPR", seed, {"book": [1] * 8}, best_valid_score=0.9, config=change)
        cell(tmp_path, "SASRec", seed, {"book": [1] * 8}, best_valid_score=0.3)
        cell(tmp_path, "LeCDSR", seed, {"book": [3] * 8})
    reference = comparison_of(tmp_path).reference
    assert reference.label is None
    assert reference.problem


def test_two_seeds_of_the_reference_support_no_claim(example):
    forget(example, "BPR", 3)
    comparison = comparison_of(example)
    assert comparison.reference.label == "BPR"
    assert set(comparison.tests["mark"]) == {""}
    assert comparison.no_claim["LLM4CDSR"] == "the reference BPR: 2 finished seeds, a claim needs 3"


def test_significantly_worse_has_a_sign_of_its_own(tmp_path, cell):
    for seed in (1, 2, 3):
        cell(tmp_path, "BPR", seed, {"book": [1] * 8})
        cell(tmp_path, "LeCDSR", seed, {"book": [3] * 8})
    assert comparison_of(tmp_path).mark("LeCDSR", "book") == "†"


def test_no_mark_where_mean_and_ranks_disagree(tmp_path, cell):
    # Fifteen rows a little worse, two much better: the mean is higher, and the rank sum is significantly lower.
    for seed in (1, 2, 3):
        cell(tmp_path, "BPR", seed, {"book": [9] * 15 + [MISS] * 2})
        cell(tmp_path, "LeCDSR", seed, {"book": [10] * 15 + [1] * 2})
    test = comparison_of(tmp_path).tests.iloc[0]
    assert test["difference"] > 0
    assert test["favours"] == -1
    assert test["adjusted"] <= 0.05
    assert test["mark"] == ""


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"model": "SASRecBCE"}, "baseline"),
        ({"model": "SASRecBCE", "features": {"made_by": "x"}}, "injected"),
        ({"model": "SASRec", "config": {"preload_weight": {"iid": "item_emb"}}}, "injected"),
        ({"model": "SASRec", "status": "failed", "ranks": None, "config": {"llm_injection": "init"}}, "injected"),
        ({"model": "LLMCDSR"}, "this package"),
    ],
)
def test_what_counts_as_a_baseline(tmp_path, cell, settings, kind):
    cell(tmp_path, "row", 1, **{"ranks": {"book": [1]}} | settings)
    assert Analysis.of_folder(tmp_path).cells[0].role == kind


def test_baselines_that_cannot_be_chosen_are_named(example, cell):
    for seed in (1, 2, 3):
        change(example, "SASRec", seed, best_valid_score=None)
        cell(example, "GRU4Rec", seed, status="failed", reason="out of memory")
    reference = comparison_of(example).reference
    assert reference.label == "BPR"
    assert reference.left_out == {"SASRec": "nothing was validated", "GRU4Rec": "no finished cell (failed)"}


def test_baselines_selected_by_other_scores_are_not_weighed_against_each_other(example):
    for seed in (1, 2, 3):
        change_config(example, "SASRec", seed, valid_metric="Hit@10")
    comparison = comparison_of(example)
    assert comparison.reference.label is None
    assert comparison.tests.empty
    assert comparison.not_compared["LLM4CDSR"] == "the baselines were selected by different validation scores"


def test_without_a_baseline_there_is_nothing_to_compare_with(tmp_path, cell):
    cell(tmp_path, "LeCDSR", 1, {"book": [1, 2]})
    comparison = comparison_of(tmp_path)
    assert comparison.not_compared == {"LeCDSR": "there is no baseline with a validation score"}


def test_other_rows_another_protocol_and_missing_ranks_are_not_compared(tmp_path, cell):
    for seed in (1, 2, 3):
        cell(tmp_path, "BPR", seed, {"book": [1, 2, 3]})
        cell(tmp_path, "LeCDSR", seed, {"book": [1, 2]})
        cell(tmp_path, "LLMCDSR", seed, {"book": [1, 2, 3]}, config={"ties": "recbole"})
        place = cell(tmp_path, "LLM4CDSR", seed, {"book": [1, 2, 3]})
    (place / "test_ranks.tsv").unlink()
    assert comparison_of(tmp_path).not_compared == {
        "LLM4CDSR": "seed 3 has no test_ranks.tsv",
        "LLMCDSR": "judged with another ties than the reference",
        "LeCDSR": "judged on other test rows than the reference",
    }


def change(folder: Path, label: str, seed: int, **result) -> None:
    path = folder / "cells" / "shop" / label / f"seed-{seed}" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | result))


def change_config(folder: Path, label: str, seed: int, **config) -> None:
    path = folder / "cells" / "shop" / label / f"seed-{seed}" / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"config": result["config"] | config}))


def forget(folder: Path, label: str, seed: int) -> None:
    place = folder / "cells" / "shop" / label / f"seed-{seed}"
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
