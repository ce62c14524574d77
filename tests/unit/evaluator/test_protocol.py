from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from recbole.config import Config

from recbole_cdsr.errors import CDSRError, ConfigError
from recbole_cdsr.evaluator import EvaluationReport, EvaluationRows, ProtocolEvaluator, RankingMetrics, groups

RowsFactory = Callable[..., EvaluationRows]
ConfigFactory = Callable[..., dict[str, Any]]


def random_scores(rows: EvaluationRows) -> torch.Tensor:
    scores = torch.rand(len(rows), rows.n_items, generator=torch.Generator().manual_seed(0))
    scores[torch.arange(len(rows)), torch.from_numpy(rows.targets)] += 0.3
    return scores


def one_pass(judge: ProtocolEvaluator, scores: torch.Tensor, batches: list[np.ndarray]) -> EvaluationReport:
    judge.start()
    for batch in batches:
        judge.add(scores[batch], batch)
    return judge.finish()


def test_order_and_batching_do_not_matter(random_rows: RowsFactory, config: ConfigFactory) -> None:
    rows = random_rows((30, 12, 50))
    scores = random_scores(rows)
    settings = config(eval_candidates=["uni7", "full"], metrics=["NDCG", "GAUC", "AveragePopularity"], topk=[5])
    judge = ProtocolEvaluator(settings, rows, exclude_history=True)
    first = one_pass(judge, scores, [np.arange(60)])
    shuffled = np.array_split(np.random.default_rng(0).permutation(60), 7)
    second = one_pass(judge, scores, shuffled)
    third = one_pass(ProtocolEvaluator(settings, rows, exclude_history=True), scores, shuffled[::-1])
    for other in (second, third):
        assert other.as_result_dict() == first.as_result_dict()
        np.testing.assert_array_equal(other.row_keys, rows.row_keys)
        for name in ("uni7", "full"):
            np.testing.assert_array_equal(other.ranks[name], first.ranks[name])


def test_a_report_covers_the_rows_added(random_rows: RowsFactory, config: ConfigFactory) -> None:
    rows = random_rows(n_rows=90, longest=25)
    scores = random_scores(rows)
    settings = config(eval_candidates=["full", "pop6"])
    judge = ProtocolEvaluator(settings, rows, exclude_history=True)
    everything = one_pass(judge, scores, [np.arange(90)])
    picked = np.array([70, 3, 12, 55, 8, 31, 77])
    report = one_pass(judge, scores, [picked[:4], picked[4:]])

    picked.sort()
    np.testing.assert_array_equal(report.row_indices, picked)
    np.testing.assert_array_equal(report.row_keys, rows.row_keys[picked])
    metrics = RankingMetrics(settings | {"metric_decimal_place": 4}, rows.train_item_counts)
    memberships = groups(rows)
    assert list(report.results) == ["full", "pop6"]
    for name, result in report.results.items():
        ranks = everything.ranks[name][picked]
        np.testing.assert_array_equal(report.ranks[name], ranks)
        cells = {"overall": (result.overall, np.full(7, True))}
        cells |= {
            domain: (result.domains[domain], rows.target_domains[picked] == k)
            for k, domain in enumerate(rows.domain_names)
        }
        cells |= {group: (result.groups[group], memberships[group][picked]) for group in memberships}
        assert len(cells) == 1 + 2 + 9
        for cell, member in cells.values():
            assert cell["count"] == member.sum()
            if not member.any():
                assert cell == {"count": 0}
                continue
            for key in ("ndcg@5", "hit@10", "mrr@1"):
                expected = metrics.row_metric(key, ranks[member]).mean()
                assert cell[key] == pytest.approx(round(expected, 4), abs=1e-12)
        assert report.row_metric("hit@10", name).tolist() == (ranks <= 10).tolist()


def test_result_dict_flat_form_and_table(random_rows: RowsFactory, config: ConfigFactory) -> None:
    rows = random_rows()
    judge = ProtocolEvaluator(config(eval_candidates=["uni7", "full"]), rows, exclude_history=True)
    only_movies = np.flatnonzero(rows.target_domains == 1)
    report = one_pass(judge, random_scores(rows), [only_movies])

    result = report.as_result_dict()
    assert list(result) == ["overall", "domains", "groups", "uni7", "full"]
    assert {key: result[key] for key in ("overall", "domains", "groups")} == result["uni7"]
    assert result["uni7"] != result["full"]
    assert result["domains"]["books"] == {"count": 0}
    assert result["domains"]["movies"] == result["overall"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result

    overall = result["overall"]
    assert report.flat("NDCG@10") == {"ndcg@10": overall["ndcg@10"], "ndcg@10_movies": overall["ndcg@10"]}
    everything = report.flat()
    assert set(everything) == {f"{k}{s}" for k in overall if k != "count" for s in ("", "_movies")}
    with pytest.raises(KeyError, match=r"ndcg@20 was not computed; there are ndcg@1, ndcg@5"):
        report.flat("ndcg@20")

    table = report.table()
    widths = {len(line) for line in table.split("\n") if line.startswith(("|", "+"))}
    assert len(widths) <= 2  # one per candidate set
    assert "valid, candidates: uni7\n" in table
    assert "valid, candidates: full\n" in table
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")]
    names = [key for key in overall if key != "count"]
    assert ["rows", "count", *names] in cells
    assert ["overall", str(len(only_movies)), *(f"{overall[key]:.4f}" for key in names)] in cells
    assert ["books", "0", *("-" for _ in names)] in cells


def test_a_pass_without_rows_reports_a_count_of_zero(random_rows: RowsFactory, config: ConfigFactory) -> None:
    judge = ProtocolEvaluator(config(), random_rows(), exclude_history=True)
    report = one_pass(judge, random_scores(random_rows()), [np.zeros(0, dtype=np.int64)])
    assert report.as_result_dict()["overall"] == {"count": 0}
    assert report.flat("ndcg@10") == {}
    assert "overall" in report.table()


def test_misuse_of_a_pass_is_refused(random_rows: RowsFactory, config: ConfigFactory) -> None:
    rows = random_rows()
    scores = random_scores(rows)
    judge = ProtocolEvaluator(config(), rows, exclude_history=True)
    with pytest.raises(RuntimeError, match="before start"):
        judge.add(scores, np.arange(60))
    with pytest.raises(RuntimeError, match="before start"):
        judge.finish()
    judge.start()
    judge.add(scores[:5], torch.arange(5))
    for rows_again in ([4], [10, 11, 10]):
        with pytest.raises(ValueError, match="added twice"):
            judge.add(scores[rows_again], rows_again)
    for missing in ([60], [-1]):
        with pytest.raises(ValueError, match="rows 0 to 59 only"):
            judge.add(scores[:1], missing)
    with pytest.raises(ValueError, match="Scores of shape"):
        judge.add(scores[:3], [7, 8])
    with pytest.raises(ValueError, match="Scores of shape"):
        judge.add(scores[:2, :-1], [7, 8])
    assert judge.finish().row_indices.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="before start"):
        judge.finish()


def test_rows_of_a_refused_batch_are_not_counted(random_rows: RowsFactory, config: ConfigFactory) -> None:
    rows = random_rows()
    scores = random_scores(rows)
    judge = ProtocolEvaluator(config(), rows, exclude_history=True)
    judge.start()
    with pytest.raises(CDSRError, match="Random scored item 1 NaN"):
        judge.add(torch.full_like(scores, torch.nan), np.flatnonzero(rows.target_domains >= 0))
    judge.add(scores, np.arange(60))
    assert judge.finish().results["full"].overall["count"] == 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval_candidates": ["uni"]}, "eval_candidates"),
        ({"eval_seed": "2026"}, "eval_seed is '2026'"),
        ({"eval_seed": True}, "eval_seed is True"),
        ({"ties": "first"}, "ties is 'first'; it must be one of half, recbole"),
        ({"candidate_domains": "source"}, "candidate_domains is 'source'"),
        ({"topk": []}, "topk is"),
        ({"topk": [0, 5]}, "topk is"),
        ({"topk": "10"}, "topk is"),
        ({"topk": True}, "topk is"),
        ({"metrics": []}, "metrics is"),
        ({"metrics": [10]}, "metrics is"),
        ({"metrics": ["AUC"]}, "rates single scores"),
        ({"metric_decimal_place": -1}, "metric_decimal_place is -1"),
    ],
)
def test_wrong_keys_are_named(
    random_rows: RowsFactory, config: ConfigFactory, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ProtocolEvaluator(config(**changes), random_rows(), exclude_history=True)


def test_an_unresolved_history_rule_is_refused(random_rows: RowsFactory, config: ConfigFactory) -> None:
    with pytest.raises(ConfigError, match="exclude_history is 'recbole'"):
        ProtocolEvaluator(config(), random_rows(), exclude_history="recbole")


def test_recboles_config_object_serves(random_rows: RowsFactory, recbole_config: Config) -> None:
    rows = random_rows()
    judge = ProtocolEvaluator(recbole_config, rows, exclude_history=True)
    report = one_pass(judge, random_scores(rows), [np.arange(60)])
    assert list(report.results) == ["full"]
    assert list(report.results["full"].overall)[:4] == ["count", "hit@1", "hit@5", "hit@10"]
    by_default = ProtocolEvaluator(
        {"metrics": "Hit", "topk": 10, "eval_seed": 2026, "eval_candidates": "full", "ties": None},
        rows,
        exclude_history=True,
    )
    again = one_pass(by_default, random_scores(rows), [np.arange(60)])
    assert again.results["full"].overall["hit@10"] == report.results["full"].overall["hit@10"]


def test_rows_that_do_not_fit_together_are_refused(random_rows: RowsFactory) -> None:
    rows = random_rows()
    fields = {name: getattr(rows, name) for name in EvaluationRows.__dataclass_fields__}
    for changes, message in (
        ({"targets": rows.targets[:-1]}, "targets has 59 rows"),
        ({"target_domains": 1 - rows.target_domains}, "outside its target_domain"),
        ({"train_item_counts": rows.train_item_counts[1:]}, "train_item_counts"),
        ({"domain_offsets": rows.domain_offsets - 1}, "domain_offsets"),
    ):
        with pytest.raises(ValueError, match=message):
            EvaluationRows(**(fields | changes))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("ties", ["half", "recbole"])
def test_scores_on_a_gpu_give_the_same_report(random_rows: RowsFactory, config: ConfigFactory, ties: str) -> None:
    rows = random_rows((80, 50, 60))
    scores = random_scores(rows)
    settings = config(eval_candidates=["full", "uni20"], ties=ties, metrics=["NDCG", "GAUC", "ItemCoverage"])
    judge = ProtocolEvaluator(settings, rows, exclude_history=True)
    on_cpu = one_pass(judge, scores, [np.arange(60)])
    on_gpu = one_pass(judge, scores.cuda(), [np.arange(60)])
    assert on_gpu.as_result_dict() == on_cpu.as_result_dict()
