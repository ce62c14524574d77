from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.evaluator import Collector, Evaluator

from recbole_cdsr.errors import CDSRError, ConfigError
from recbole_cdsr.evaluator import (
    CandidateRanker,
    CandidateSampler,
    EvaluationRows,
    Ranking,
    RankingMetrics,
    parse_candidates,
)

RowsFactory = Callable[..., EvaluationRows]
SIZES = [(40, 25), (30, 12, 50)]


def ranker(rows: EvaluationRows, *names: str, **options: object) -> CandidateRanker:
    settings = {
        "eval_seed": 1,
        "exclude_history": True,
        "ties": "half",
        "candidate_domains": "target",
        "n_top": 10,
    }
    return CandidateRanker(rows, parse_candidates(list(names)), **(settings | options))


def tied_scores(rows: EvaluationRows, seed: int = 0, levels: int = 6) -> torch.Tensor:
    """Few distinct scores, −inf among them."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, levels, (len(rows), rows.n_items), generator=generator).float()
    scores[scores == levels - 1] = -torch.inf
    return scores


def naive_candidates(rows: EvaluationRows, row: int, name: str, exclude_history: bool, domains: str) -> set[int]:
    """Candidates of a row without its target."""
    target = int(rows.targets[row])
    if name != "full":
        items = CandidateSampler(parse_candidates(name)[0], 1, rows, domains).candidates(np.array([row]))[0]
        return set(items.tolist()) - {0}
    k = rows.target_domains[row]
    low, high = (1, rows.n_items) if domains == "all" else rows.domain_offsets[[k, k + 1]]
    items = set(range(low, high)) - {target}
    if exclude_history:
        start, stop = rows.history_pointers[row]
        items -= set(rows.flat_items[start:stop].tolist())
    return items


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("exclude_history", [True, False])
@pytest.mark.parametrize("domains", ["target", "all"])
def test_honest_ranks_equal_counting(
    random_rows: RowsFactory, sizes: tuple[int, ...], exclude_history: bool, domains: str
) -> None:
    rows = random_rows(sizes)
    scores = tied_scores(rows)
    names = ["full", "uni7", "pop20"]
    ranking = ranker(rows, *names, exclude_history=exclude_history, candidate_domains=domains)
    order = np.random.default_rng(3).permutation(len(rows))
    for batch in np.array_split(order, 3):
        found = ranking.rank(scores[batch], batch)
        assert list(found) == names
        for name in names:
            for place, row in enumerate(batch):
                others = naive_candidates(rows, row, name, exclude_history, domains)
                own = scores[row, rows.targets[row]].item()
                other_scores = [scores[row, item].item() for item in others]
                better = sum(score > own for score in other_scores)
                equal = sum(score == own for score in other_scores)
                assert found[name].ranks[place] == math.ceil(1 + better + equal / 2)
                assert found[name].mean_ranks[place] == 1 + better + equal / 2
                assert found[name].n_ranked[place] == len(others) + 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_scores_are_left_as_they_are_in_any_precision(random_rows: RowsFactory, dtype: torch.dtype) -> None:
    rows = random_rows()
    scores = tied_scores(rows)
    same = scores.to(dtype)
    found = ranker(rows, "full", "uni7", with_top_items=True, n_top=5)
    expected = found.rank(scores, np.arange(len(rows)))
    actual = found.rank(same, np.arange(len(rows)))
    for name in ("full", "uni7"):
        np.testing.assert_array_equal(actual[name].ranks, expected[name].ranks)
    assert torch.equal(same, scores.to(dtype))


@pytest.mark.parametrize("score", [0.0, -torch.inf, torch.inf])
def test_equal_scores_rank_in_the_middle(random_rows: RowsFactory, score: float) -> None:
    rows = random_rows((41, 20))
    found = ranker(rows, "full", "uni9", exclude_history=False).rank(
        torch.full((60, rows.n_items), score), np.arange(60)
    )
    np.testing.assert_array_equal(found["full"].ranks, np.where(rows.target_domains == 0, 21, 11))
    assert (found["uni9"].ranks == 6).all()


def test_a_target_in_the_history_stays_a_candidate(random_rows: RowsFactory) -> None:
    rows = random_rows(longest=12)
    rows = replace(
        rows,
        flat_items=np.concatenate([rows.targets, rows.flat_items]),
        history_pointers=np.stack([np.arange(60), np.arange(60) + 1], axis=1),
    )
    scores = torch.zeros(60, rows.n_items)
    scores[torch.arange(60), torch.from_numpy(rows.targets)] = 1
    found = ranker(rows, "full").rank(scores, np.arange(60))["full"]
    assert (found.ranks == 1).all()
    np.testing.assert_array_equal(found.n_ranked, np.where(rows.target_domains == 0, 40, 25))


def test_nan_among_the_candidates_is_refused_and_elsewhere_ignored(random_rows: RowsFactory) -> None:
    rows = random_rows()
    scores = torch.rand(60, rows.n_items)
    scores[:, 0] = torch.nan
    row = int(np.flatnonzero(rows.target_domains == 1)[4])
    scores[row, 3] = torch.nan  # an item of the other domain
    for ties in ("half", "recbole"):
        named = ranker(rows, "full", "uni7", ties=ties, model_name="GRU4Rec")
        found = named.rank(scores, np.arange(60))
        assert (found["full"].ranks[row] >= 1) or ties == "recbole"
        broken = scores.clone()
        broken[row, 45] = torch.nan
        where = f"GRU4Rec scored item 45 NaN for valid row {rows.row_keys[row]} .user {rows.users[row]}."
        with pytest.raises(CDSRError, match=where):
            named.rank(broken.flip(0), np.arange(60)[::-1].copy())


def masked_by_loops(
    rows: EvaluationRows, scores: torch.Tensor, name: str, exclude_history: bool, domains: str
) -> torch.Tensor:
    masked = torch.full_like(scores, -torch.inf)
    for row in range(len(rows)):
        kept = [*naive_candidates(rows, row, name, exclude_history, domains), int(rows.targets[row])]
        masked[row, kept] = scores[row, kept]
    return masked


def recbole_result(
    config: Config, rows: EvaluationRows, scores: torch.Tensor, batches: list[np.ndarray]
) -> dict[str, float]:
    """What RecBole's own collector and evaluator make of masked scores."""
    collector = Collector(config)
    collector.data_struct.set("data.num_items", torch.tensor(rows.n_items))
    for batch in batches:
        targets = torch.from_numpy(rows.targets[batch])
        collector.eval_batch_collect(scores[batch], None, torch.arange(len(batch)), targets)
    return Evaluator(config).evaluate(collector.get_data_struct())


def our_result(
    config: Config,
    rows: EvaluationRows,
    scores: torch.Tensor,
    batches: list[np.ndarray],
    ranks: CandidateRanker,
) -> dict[str, dict[str, float]]:
    settings = {key: config[key] for key in ("metrics", "topk", "metric_decimal_place")}
    metrics = RankingMetrics(settings, rows.train_item_counts)
    parts = [ranks.rank(scores[batch], batch) for batch in batches]
    result = {}
    for name in parts[0]:
        fields = ("ranks", "mean_ranks", "n_ranked")
        joined = {field: np.concatenate([getattr(part[name], field) for part in parts]) for field in fields}
        result[name] = metrics.metrics_of(Ranking(**joined))
    return result


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("exclude_history", "domains"), [(False, "all"), (True, "all"), (True, "target")])
def test_recbole_ties_give_recboles_numbers(
    random_rows: RowsFactory,
    recbole_config: Config,
    sizes: tuple[int, ...],
    exclude_history: bool,
    domains: str,
) -> None:
    rows = random_rows(sizes, n_rows=150)
    scores = tied_scores(rows, levels=9)
    scores[torch.arange(150), torch.from_numpy(rows.targets)] += 2  # so that there is something to count
    batches = np.array_split(np.arange(150), 4)
    names = ["full", "uni15"]
    ranks = ranker(rows, *names, exclude_history=exclude_history, candidate_domains=domains, ties="recbole")
    ours = our_result(recbole_config, rows, scores, batches, ranks)
    for name in names:
        masked = masked_by_loops(rows, scores, name, exclude_history, domains)
        theirs = recbole_result(recbole_config, rows, masked, batches)
        assert list(ours[name]) == list(theirs)
        assert ours[name] == pytest.approx({key: float(value) for key, value in theirs.items()}, abs=1e-6)
    assert 0.05 < ours["full"]["hit@10"] < 1


def test_without_ties_both_rules_agree(random_rows: RowsFactory, recbole_config: Config) -> None:
    rows = random_rows((40, 35), n_rows=150)
    scores = torch.rand(150, rows.n_items, generator=torch.Generator().manual_seed(1))
    batches = [np.arange(150)]
    recboles = our_result(recbole_config, rows, scores, batches, ranker(rows, "full", "uni15", ties="recbole"))
    honest = our_result(recbole_config, rows, scores, batches, ranker(rows, "full", "uni15"))
    assert honest == recboles
    assert honest["full"]["ndcg@10"] > 0.05


@pytest.mark.parametrize("domains", ["target", "all"])
def test_metrics_of_recommended_items_equal_recboles(random_rows: RowsFactory, domains: str) -> None:
    names = ["ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage", "NDCG"]
    rows = random_rows((40, 35), n_rows=80)
    settings = {"metrics": names, "topk": [3, 7], "use_gpu": False, "tail_ratio": 0.3}
    config = Config(model="BPR", dataset="rows", config_dict=settings)
    scores = torch.rand(80, rows.n_items, generator=torch.Generator().manual_seed(2))
    metrics = RankingMetrics(settings | {"metric_decimal_place": 4}, rows.train_item_counts)
    found = ranker(rows, "full", "uni15", candidate_domains=domains, with_top_items=metrics.reads_top_items, n_top=7)
    ranked = found.rank(scores, np.arange(80))
    for name in ("full", "uni15"):
        masked = masked_by_loops(rows, scores, name, True, domains)
        collector = Collector(config)
        collector.eval_batch_collect(masked, None, torch.arange(80), torch.from_numpy(rows.targets))
        struct = collector.get_data_struct()
        struct.set("data.num_items", rows.n_items)
        counted = np.flatnonzero(rows.train_item_counts)
        struct.set("data.count_items", {int(item): int(rows.train_item_counts[item]) for item in counted})
        theirs = Evaluator(config).evaluate(struct)
        assert metrics.metrics_of(ranked[name]) == pytest.approx({k: float(v) for k, v in theirs.items()})


def test_too_few_candidates_for_a_list_of_recommendations_are_refused(random_rows: RowsFactory) -> None:
    rows = random_rows()
    with pytest.raises(ConfigError, match=r"needs 10 of them.* 5 candidates under uni4"):
        ranker(rows, "uni4", with_top_items=True).rank(torch.rand(60, rows.n_items), np.arange(60))


def test_recbole_ties_need_as_many_items_as_topk(random_rows: RowsFactory) -> None:
    with pytest.raises(ConfigError, match="topk reaches 100, but there are 65 items"):
        ranker(random_rows(), "full", ties="recbole", n_top=100)
