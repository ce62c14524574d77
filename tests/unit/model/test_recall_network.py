"""The recall network against loops, in three domains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_cdsr.model.recall_network import RecallNetwork, largest, padded_names

OFFSETS = np.array([1, 7, 11, 19])


def network(aligned: bool = True, n_recalled: int = 3) -> RecallNetwork:
    torch.manual_seed(0)
    made = RecallNetwork(OFFSETS, text_width=6, width=4 if aligned else 6, n_recalled=n_recalled, aligned=aligned)
    with torch.no_grad():
        made.pooling.normal_()
        made.item_table[1:].normal_()
        if aligned:
            made.projections.normal_()
    return made.double()


def test_pooling_weighs_real_texts_only() -> None:
    made = network()
    texts, counts, into = torch.randn(3, 5, 6).double(), torch.tensor([5, 1, 2]), torch.tensor([2, 0, 1])
    projected = torch.stack([made.project(t, o) for t, o in zip(texts, into.tolist(), strict=True)])
    pooled, weights = made.pool(projected, counts, into)
    for row, (count, domain) in enumerate(zip(counts.tolist(), into.tolist(), strict=True)):
        z = texts[row, :count] @ made.projections[domain].T
        expected = torch.softmax(z @ made.pooling[domain], dim=0)
        assert torch.allclose(weights[row, :count], expected)
        assert not weights[row, count:].any()
        assert torch.allclose(pooled[row], expected @ z)


@pytest.mark.parametrize("aligned", [True, False])
def test_recall_takes_the_nearest_items_of_the_domain_by_cosine(aligned: bool) -> None:
    made = network(aligned)
    into = torch.tensor([0, 1, 2, 2])
    pooled = torch.randn(4, made.pooling.shape[1], dtype=torch.float64)
    items, cosines = made.recall(pooled, into)
    for row, domain in enumerate(into.tolist()):
        candidates = np.arange(OFFSETS[domain], OFFSETS[domain + 1])
        similarity = F.cosine_similarity(pooled[row][None], made.item_table[candidates])
        nearest = similarity.argsort(descending=True)[:3]
        assert items[row].tolist() == candidates[nearest.numpy()].tolist()
        assert torch.allclose(cosines[row], similarity[nearest])


def test_a_domain_with_fewer_items_gives_them_all() -> None:
    made = network(n_recalled=5)
    assert made.recall_sizes == [5, 4, 5]
    items, cosines = made.recall(torch.randn(1, 4, dtype=torch.float64), torch.tensor([1]))
    assert sorted(items[0].tolist()) == [0, 7, 8, 9, 10]
    assert (items[0, -1], cosines[0, -1]) == (0, -torch.inf)
    drawn = made.recalled_at_random(torch.tensor([1] * 50 + [2] * 50))
    assert set(drawn[:50, :4].flatten().tolist()) == {7, 8, 9, 10}
    assert not drawn[:50, 4].any()
    assert set(drawn[50:].flatten().tolist()) == set(range(11, 19))


def test_a_new_table_is_recalled_from_at_once() -> None:
    made = network()
    wanted = torch.eye(4, dtype=torch.float64)[:1]
    before, _ = made.recall(wanted, torch.tensor([0]))
    table = torch.full((6, 4), -1.0)
    table[2, 0] = 1
    made.set_domain(0, made.projections[0], table)
    after, _ = made.recall(wanted, torch.tensor([0]))
    assert after[0, 0] == 3
    assert before.shape == after.shape


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_autocast_recalls_what_is_recalled_without_it(precision: torch.dtype) -> None:
    torch.manual_seed(0)
    made = RecallNetwork(np.array([1, 3001, 6001]), text_width=6, width=16, n_recalled=10)
    with torch.no_grad():
        made.pooling.normal_()
        made.item_table[1:] = torch.randn(6000, 16) + torch.randn(16)
    projected, counts = torch.randn(8, 5, 16), torch.tensor([5, 1, 2, 3, 4, 5, 5, 5])
    into = torch.tensor([0, 1] * 4)
    pooled, weights = made.pool(projected, counts, into)
    items, cosines = made.recall(pooled, into)
    with torch.autocast("cpu", dtype=precision):
        pooled_within, weights_within = made.pool(projected, counts, into)
        items_within, cosines_within = made.recall(pooled_within, into)
    assert torch.equal(pooled_within, pooled)
    assert torch.equal(weights_within, weights)
    assert torch.equal(items_within, items)
    assert torch.equal(cosines_within, cosines)


@pytest.mark.parametrize("n_columns", [9, 64 * 12, 64 * 12 + 1, 1999])
def test_the_largest_of_long_rows_are_found_by_blocks(n_columns: int) -> None:
    generator = torch.Generator().manual_seed(n_columns)
    values = torch.stack([torch.randperm(n_columns, generator=generator) for _ in range(20)]).double()
    values[0] = torch.arange(n_columns)  # all in one block, or in what is left after the last whole one
    found, columns = largest(values, 3)
    expected = values.topk(3, dim=1)
    assert torch.equal(found, expected.values)
    assert torch.equal(columns, expected.indices)


def test_names_are_gathered_by_user() -> None:
    block, counts = padded_names(np.array([5, 6, 7, 8]), np.array([0, 1, 1, 4]), np.array([2, 0]))
    assert block.tolist() == [[6, 7, 8], [5, 0, 0]]
    assert counts.tolist() == [3, 1]


def test_what_was_pretrained_is_in_the_state_and_raw_texts_are_not() -> None:
    assert {"projections", "item_table", "pooling"} == network().state_dict().keys()
    assert {"pooling"} == network(aligned=False).state_dict().keys()
