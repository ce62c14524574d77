"""Scores of a few candidates per row out of a large table, without copying their vectors.

With 99 negatives a batch of 1,024 rows has 102,400 candidates: gathered at width 512 they are 210 MB, read and written
several times a step. The products are instead taken where the vectors lie, as a sampled matrix product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SMALL_TABLE = 2  # with fewer items than this for each candidate of a row, the product with all of them is cheaper


def candidate_products(query: Tensor, table: Tensor, candidates: Tensor) -> Tensor:
    """q_i · W[v_ij] of every row's candidates.

    Parameters
    ----------
    query : Tensor
        float ``[B, d]``.
    table : Tensor
        float ``[n_items, d]``.
    candidates : Tensor
        int64 ``[B, C]``, ids; repeats allowed.

    Returns
    -------
    Tensor
        ``[B, C]``.
    """
    query = query.to(table.dtype)
    if len(table) <= SMALL_TABLE * candidates.shape[1]:
        return (query @ table.T).gather(1, candidates)
    if query.is_cuda:  # there a gathered block is cheap
        return torch.einsum("bd,bcd->bc", query, F.embedding(candidates, table))
    return _SampledProducts.apply(query, table, candidates)


class _SampledProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, table: Tensor, candidates: Tensor) -> Tensor:
        ctx.save_for_backward(query, table, candidates)
        n_rows, n_candidates = candidates.shape
        # Row i of a sparse [B, n_items] matrix holds row i's candidates.
        pattern = torch.sparse_csr_tensor(
            torch.arange(0, n_rows * n_candidates + 1, n_candidates),
            candidates.reshape(-1),
            query.new_zeros(n_rows * n_candidates),
            size=(n_rows, len(table)),
            check_invariants=False,  # candidates of a row are neither sorted nor distinct, and need not be
        )
        return torch.sparse.sampled_addmm(pattern, query, table.T, beta=0.0).values().view(n_rows, n_candidates)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        query, table, candidates = ctx.saved_tensors
        n_candidates = candidates.shape[1]
        flat, weights = candidates.reshape(-1), gradient.reshape(-1)  # [B * C]
        query_gradient = table_gradient = None
        if ctx.needs_input_grad[0]:
            # Σ_j g_ij W[v_ij]
            query_gradient = F.embedding_bag(candidates, table, mode="sum", per_sample_weights=gradient.contiguous())
        if ctx.needs_input_grad[1]:
            # Σ over the (i, j) with v_ij = v of g_ij q_i: a bag of queries for every item.
            _, order = flat.sort(stable=True)
            counts = torch.bincount(flat, minlength=len(table))
            table_gradient = F.embedding_bag(
                order.div(n_candidates, rounding_mode="floor"),
                query,
                counts.cumsum(0) - counts,
                mode="sum",
                per_sample_weights=weights[order],
            )
        return query_gradient, table_gradient, None
