from __future__ import annotations

import numpy as np
import pytest

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.evaluator.rows import EvaluationRows
from recbole_cdsr.trainer.selection import DomainSelection, check_valid_metric


def rows(target_domains: list[int]) -> EvaluationRows:
    """Validation rows in two domains of three items."""
    domains = np.array(target_domains, dtype=np.int64)
    return EvaluationRows(
        split="valid",
        users=np.arange(1, len(domains) + 1),
        targets=1 + 3 * domains,
        target_domains=domains,
        history_pointers=np.zeros((len(domains), 2), dtype=np.int64),
        flat_items=np.array([1]),
        user_item_keys=np.zeros(0, dtype=np.int64),
        train_item_counts=np.zeros(7, dtype=np.int64),
        domain_offsets=np.array([1, 4, 7]),
        domain_names=["a", "b"],
        row_keys=np.arange(len(domains)),
    )


@pytest.mark.parametrize(
    ("metric", "target_domains", "answer"),
    [
        ("NDCG@10", [0], None),
        ("NDCG@10_a", [0, 1], None),
        ("NDCG@10_b", [], None),
        ("NDCG@10_c", [0, 1], "there is no domain 'c'; the dataset has a, b"),
        ("NDCG@10_c", [], "there is no domain 'c'"),
        ("NDCG@10_b", [0, 0], "no validation row has its target in 'b'"),
    ],
)
def test_a_domain_to_select_by_must_be_there(metric, target_domains, answer):
    if answer is None:
        check_valid_metric(metric, ["a", "b"], rows(target_domains))
    else:
        with pytest.raises(ConfigError, match=answer):
            check_valid_metric(metric, ["a", "b"], rows(target_domains))


def test_each_domain_keeps_its_best_epoch_with_all_metrics():
    selection = DomainSelection("hit@1", bigger=True)
    # One domain's name is the end of the other's.
    scores = [
        selection.update(
            0, {"hit@1": 0.3, "mrr@1": 1, "hit@1_tv": 0.2, "mrr@1_tv": 2, "hit@1_old_tv": 0.4, "mrr@1_old_tv": 3}
        ),
        selection.update(
            1, {"hit@1": 0.2, "mrr@1": 4, "hit@1_tv": 0.3, "mrr@1_tv": 5, "hit@1_old_tv": 0.1, "mrr@1_old_tv": 6}
        ),
    ]
    assert selection.improved == ["tv"]
    assert not selection.overall_improved
    assert selection.epochs == {"tv": 1, "old_tv": 0}
    assert selection.results == {"tv": {"hit@1": 0.3, "mrr@1": 5}, "old_tv": {"hit@1": 0.4, "mrr@1": 3}}
    assert (selection.overall_score, selection.overall_epoch) == (0.3, 0)
    assert scores == pytest.approx([0.3, 0.35])


def test_the_score_reaches_its_best_exactly_when_a_domain_improves():
    """RecBole counts a validation as better when its score is at least the best before."""
    random = np.random.default_rng(0)
    selection, best = DomainSelection("ndcg@10", bigger=True), -np.inf
    seen: dict[str, float] = {}
    for epoch in range(300):
        present = {name: round(float(random.random() ** 3), 4) for name in ("a", "b", "c")}
        improved = any(present[name] >= seen.get(name, -np.inf) for name in present)
        result = {"ndcg@10": 0.0} | {f"ndcg@10_{name}": value for name, value in present.items()}
        score = selection.update(epoch, result)
        assert (score >= best) == improved, epoch
        best = max(best, score)
        seen = {name: max(value, seen.get(name, -np.inf)) for name, value in present.items()}
        assert selection.scores == seen


def test_smaller_is_better_where_the_metric_says_so():
    selection = DomainSelection("averagepopularity@5", bigger=False)
    key = "averagepopularity@5"
    selection.update(0, {key: 3.0, f"{key}_a": 3.0})
    selection.update(1, {key: 2.0, f"{key}_a": 2.0})
    selection.update(2, {key: 4.0, f"{key}_a": 4.0})
    assert selection.epochs == {"a": 1}
    assert selection.overall_epoch == 1


def test_the_state_survives_a_checkpoint():
    selection, other = DomainSelection("hit@1", bigger=True), DomainSelection("hit@1", bigger=True)
    selection.update(0, {"hit@1": 0.5, "hit@1_a": 0.5})
    other.restore(selection.state())
    following = {"hit@1": 0.4, "hit@1_a": 0.4}
    assert other.update(1, following) == selection.update(1, following)
    assert other.state() == selection.state()
