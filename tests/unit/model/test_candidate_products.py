"""Sampled products against gathered vectors."""

from __future__ import annotations

import pytest
import torch

from recbole_cdsr.model.candidate_products import candidate_products


@pytest.mark.parametrize("n_items", [12, 200])
@pytest.mark.parametrize(("n_rows", "n_candidates"), [(6, 9), (1, 1), (3, 40), (40, 3)])
def test_values_and_gradients_are_those_of_gathered_vectors(n_rows: int, n_candidates: int, n_items: int) -> None:
    """Rows repeat candidates, which come in any order; more of them than there are items, or few among many."""
    torch.manual_seed(0)
    query, table = (torch.randn(n, 5, dtype=torch.float64, requires_grad=True) for n in (n_rows, n_items))
    candidates = torch.randint(0, min(n_items, 20), (n_rows, n_candidates))
    weights = torch.randn(n_rows, n_candidates, dtype=torch.float64)
    products = candidate_products(query, table, candidates)
    gathered = torch.einsum("bd,bcd->bc", query, table[candidates])
    assert torch.allclose(products, gathered, atol=1e-12)
    ours = torch.autograd.grad((products * weights).sum(), (query, table))
    theirs = torch.autograd.grad((gathered * weights).sum(), (query, table))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("learnt", [0, 1])
def test_one_side_alone_can_be_learnt(learnt: int) -> None:
    sides = [torch.randn(4, 3), torch.randn(70, 3)]
    sides[learnt].requires_grad_()
    candidates = torch.randint(0, 7, (4, 5))
    candidate_products(*sides, candidates).sum().backward()
    assert sides[1 - learnt].grad is None
    gathered = torch.einsum("bd,bcd->bc", sides[0], sides[1][candidates]).sum()
    assert torch.allclose(sides[learnt].grad, torch.autograd.grad(gathered, sides[learnt])[0], atol=1e-5)


def test_strided_candidates_and_gradients() -> None:
    query, table = torch.randn(4, 3, requires_grad=True), torch.randn(70, 3, requires_grad=True)
    candidates = torch.randint(0, 70, (5, 4)).T
    products = candidate_products(query, table, candidates)
    products[:, ::2].sum().backward()
    expected = torch.einsum("bd,bcd->bc", query, table[candidates])
    assert torch.allclose(products, expected, atol=1e-6)
    assert torch.allclose(query.grad, torch.autograd.grad(expected[:, ::2].sum(), query)[0], atol=1e-5)


@pytest.mark.parametrize("n_items", [5, 50])
def test_half_precision_queries_meet_the_table_in_its_own(n_items: int) -> None:
    query, table = torch.randn(2, 4).bfloat16(), torch.randn(n_items, 4)
    assert candidate_products(query, table, torch.tensor([[0, 1], [4, 4]])).dtype == torch.float32
