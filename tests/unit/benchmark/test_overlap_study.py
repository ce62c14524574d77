"""Which datasets form a study of the overlap dilemma."""

from __future__ import annotations

from recbole_cdsr.benchmark.analysis import Analysis
from recbole_cdsr.benchmark.overlap_study import percent

from .benchmark_folder import diluted_card as card

RANKS = {"book": [1, 3, 20, 7]}


def test_cards_that_differ_in_the_ratio_alone_make_a_study(dilemma, cell):
    cell(dilemma, "SASRecBCE", 1, RANKS, dataset="single", card=card("single", None))
    cell(dilemma, "SASRecBCE", 1, RANKS, dataset="other", card=card("other", 0.75, source={"title": "another"}))
    (study,) = Analysis.of_folder(dilemma).studies
    assert list(study.datasets.items()) == [(0.25, "shop0.25"), (0.5, "shop0.5"), (1.0, "shop1")]


def test_a_table_of_users_that_is_folded_in_is_not_diluted(dilemma):
    (study,) = Analysis.of_folder(dilemma).studies
    assert study.undiluted == {"BPR"}


def test_held_out_users_are_folded_in_without_undoing_the_ratio(tmp_path, cell):
    for ratio in (1, 0.25):
        name = f"shop{ratio}"
        cell(tmp_path, "BPR", 1, RANKS, dataset=name, card=card(name, ratio, split="official"), fold_in=True)
    (study,) = Analysis.of_folder(tmp_path).studies
    assert study.undiluted == set()


def test_one_ratio_is_no_study(tmp_path, cell):
    cell(tmp_path, "BPR", 1, RANKS, card=card("shop", 0.25))
    assert Analysis.of_folder(tmp_path).studies == []


def test_ratios_that_differ_look_different():
    assert [percent(ratio) for ratio in (0.005, 0.12, 0.125, 0.29, 1.0)] == ["0.5%", "12%", "12.5%", "29%", "100%"]
