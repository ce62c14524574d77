"""The best of many scores, against a stable sort of whole rows."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_cdsr.recommend.ranking import best_places

SCORES = {
    "distinct": lambda random: torch.randn(40, 60, generator=random),
    "many equal": lambda random: torch.randint(0, 5, (40, 60), generator=random).float(),
    "nearly all equal": lambda random: (torch.rand(40, 60, generator=random) < 0.02).float(),
    "all equal": lambda random: torch.zeros(40, 60),
    "of both signs of zero": lambda random: torch.randint(-1, 2, (40, 60), generator=random) * 0.0,
}


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95, 1.0], ids=lambda share: f"{share:.0%} left out")
def test_equal_scores_come_in_the_order_of_their_places(kind, share):
    random = torch.Generator().manual_seed(0)
    scores = SCORES[kind](random)
    scores[torch.rand(scores.shape, generator=random) < share] = -math.inf
    ordered, order = scores.sort(dim=1, descending=True, stable=True)
    for topk in (1, 2, 3, 10, 59, 60):
        values, places = best_places(scores, topk)
        assert torch.equal(values, ordered[:, :topk])
        assert torch.equal(values, scores.gather(1, places))
        candidates = ~torch.isneginf(values)
        assert torch.equal(places[candidates], order[:, :topk][candidates])


def test_a_score_that_is_no_number_comes_first():
    scores = torch.tensor([[1.0, 1.0, math.nan, 1.0], [math.nan] * 4, [2.0, 2.0, 2.0, 1.0]])
    for topk in (1, 2, 3, 4):
        values, places = best_places(scores, topk)
        assert torch.isnan(values[:2, 0]).all()
        assert places[2].tolist() == [0, 1, 2, 3][:topk]


def test_no_candidates_at_all():
    values, places = best_places(torch.zeros(3, 0), 0)
    assert values.shape == places.shape == (3, 0)
