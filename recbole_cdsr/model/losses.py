"""Losses of the models: one pure function each, its formula in the docstring."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Share of a number type's exponents that `pairwise_nce` uses on either side of 1; the rest is for sums.
EXPONENTS = 0.8
# Rows of a block of `pairwise_nce`: 512 x 512 single-precision numbers are 1 MiB.
NCE_BLOCK = 512


def bce_with_negatives(positive_scores: Tensor, negative_scores: Tensor) -> Tensor:
    r"""Binary cross-entropy of each position on logits, positive and negative term added.

    .. math:: \ell_i = \mathrm{softplus}(-s^+_i) + \frac{1}{N} \sum_{j=1}^{N} \mathrm{softplus}(s^-_{ij})

    Parameters
    ----------
    positive_scores : Tensor
        float ``[M]``, logits of the next items.
    negative_scores : Tensor
        float ``[M]``, or ``[M, N]`` for N negatives per position (their mean counts).

    Returns
    -------
    Tensor
        ``[M]``, each ≥ 0.

    Source: SASRec (Kang and McAuley, ICDM 2018, eq. 7); LLM4CDSR (Liu et al., SIGIR 2025), recommendation loss.
    """
    negative = F.softplus(negative_scores)
    return F.softplus(-positive_scores) + (negative.mean(dim=1) if negative.dim() == 2 else negative)


def sequence_bce(positive_scores: Tensor, negative_scores: Tensor) -> Tensor:
    r"""Mean of :func:`bce_with_negatives` over all M positions of a batch, 0 when there are none.

    .. math:: L = \frac{1}{M} \sum_{i=1}^{M} \ell_i

    Parameters
    ----------
    positive_scores : Tensor
        float ``[M]``.
    negative_scores : Tensor
        float ``[M]`` or ``[M, N]``.

    Returns
    -------
    Tensor
        scalar.
    """
    # A sum over nothing keeps the graph, so that a batch without positions can still be stepped on.
    return bce_with_negatives(positive_scores, negative_scores).sum() / max(len(positive_scores), 1)


def soft_clip(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    r"""Contrast of matched pairs with soft targets from within each side.

    .. math::
        Z &= X Y^\top / \tau, \qquad
        P = \mathrm{softmax}_{rows}\big(\tau \, (Y Y^\top + X X^\top) / 2\big) \\
        L &= -\frac{1}{2B} \sum_{ij} P_{ij} \log \mathrm{softmax}_{rows}(Z)_{ij}
             -\frac{1}{2B} \sum_{ij} P_{ji} \log \mathrm{softmax}_{rows}(Z^\top)_{ij}

    X and Y are not normalised; gradients flow through P; P *multiplies* by τ where one would expect a division
    (same at τ = 1), and the weights of the second term, a row of Pᵀ, need not sum to 1. All three are the paper's
    code, kept on purpose.

    Parameters
    ----------
    x : Tensor
        float ``[B, d]``.
    y : Tensor
        float ``[B, d]``, row i paired with row i of x.
    temperature : float
        τ, > 0.

    Returns
    -------
    Tensor
        scalar; 0 for B = 0.

    Source: LLM4CDSR (Liu et al., SIGIR 2025), item regularisation and profile guidance.
    """
    n_pairs = max(len(x), 1)
    logits = x @ y.T / temperature  # [B, B]
    targets = ((y @ y.T + x @ x.T) / 2 * temperature).softmax(dim=1)  # [B, B]
    forward = -(targets * logits.log_softmax(dim=1)).sum() / n_pairs
    backward = -(targets.T * logits.T.log_softmax(dim=1)).sum() / n_pairs
    return (forward + backward) / 2


def pairwise_softmax_surrogate(positive_scores: Tensor, negative_scores: Tensor, temperature: float) -> Tensor:
    r"""Pairwise loss with a ReLU in place of the exponential of a softmax (PSL), summed.

    .. math:: \sum_{i=1}^{B} \sum_{j=1}^{N} \mathrm{relu}\big((s^-_{ij} - s^+_i) / \tau + 1\big)

    Parameters
    ----------
    positive_scores : Tensor
        float ``[B]``.
    negative_scores : Tensor
        float ``[B, N]``.
    temperature : float
        τ, > 0.

    Returns
    -------
    Tensor
        scalar ≥ 0; its scale grows with B and N.

    Source: LeCDSR (Information Fusion 127, 2026), recommendation loss; PSL (Yang et al., NeurIPS 2024).
    """
    return F.relu((negative_scores - positive_scores[:, None]) / temperature + 1).sum()


def sequence_alignment(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    r"""Contrast of matched positions inside each sequence, with soft targets from within both sides.

    .. math::
        A &= X Y^\top / \tau, \qquad
        P = \mathrm{softmax}_{rows}\big((X X^\top + Y Y^\top) / (2 \tau)\big) \\
        \ell_i &= -\textstyle\sum_j P_{ij} \log \mathrm{softmax}_{rows}(A)_{ij}
                  -\textstyle\sum_j P_{ij} \log \mathrm{softmax}_{rows}(A^\top)_{ij}

    X and Y are not normalised and gradients flow through P. The same, untransposed P weighs both directions, where one
    would expect Pᵀ in the second: the paper's code, kept on purpose.

    Parameters
    ----------
    x, y : Tensor
        float ``[n, m, d]``, n sequences; position t of x is paired with position t of y.
    temperature : float
        τ, > 0.

    Returns
    -------
    Tensor
        ``[n, m]``, ℓ of each position; 0 for m = 1, where there is nothing to tell an item from.

    Source: LeCDSR (Information Fusion 127, 2026), alignment of id and text space.
    """
    m = x.shape[1]
    both = torch.cat([x, y], dim=1)  # [n, 2m, d]
    gram = both @ both.transpose(1, 2) / temperature  # [n, 2m, 2m], every product at once
    logits = gram[:, :m, m:]  # [n, m, m]
    targets = ((gram[:, :m, :m] + gram[:, m:, m:]) / 2).softmax(dim=2)  # [n, m, m]
    return -(targets * (logits.log_softmax(dim=2) + logits.transpose(1, 2).log_softmax(dim=2))).sum(dim=2)


def pairwise_nce(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    r"""Contrast of n pairs against all other vectors of both sides.

    .. math::
        S^{ab} = Z_a Z_b^\top / T, \qquad
        L = -\frac{1}{2n} \sum_i \Big(
            \log\frac{e^{S^{12}_{ii}}}{\sum_j e^{S^{12}_{ij}} + \sum_{j \ne i} e^{S^{11}_{ij}}}
            + \log\frac{e^{S^{12}_{ii}}}{\sum_j e^{S^{12}_{ji}} + \sum_{j \ne i} e^{S^{22}_{ij}}}\Big)

    The vectors are not normalised. It is the cross-entropy of the 2n x 2n logits ``[[S12, S11], [S22, S12ᵀ]]``, the
    diagonals of S11 and S22 left out, with the labels 0 .. 2n − 1. Differentiable once.

    Parameters
    ----------
    z1 : Tensor
        float ``[n, d]``.
    z2 : Tensor
        float ``[n, d]``, row i paired with row i of z1.
    temperature : float
        T > 0.

    Returns
    -------
    Tensor
        scalar; 0 for n = 0.

    Source: LLMCDSR (ACM TOIS 43(5), 2025), collaborative-textual contrastive pre-training.
    """
    if not len(z1):
        return (z1.sum() + z2.sum()) * 0
    longest = max(float(side.detach().square().sum(dim=1).max()) for side in (z1, z2)) / temperature  # no logit is more
    reach = EXPONENTS * math.log(torch.finfo(z1.dtype).max)
    shift = max(longest - reach, 0.0)
    # A row's sum is no less than its partner's exponential: where that is there under the shift, no row vanishes.
    lowest = float((z1.detach() * z2.detach()).sum(dim=1).min()) / temperature if shift else 0.0
    if longest <= 2 * reach and lowest - shift >= -reach:
        return _PairwiseNCE.apply(z1, z2, temperature, shift)
    z = torch.cat([z1, z2])
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)  # [2n, 2n]
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z1)))


class _PairwiseNCE(torch.autograd.Function):
    """`pairwise_nce` where no row's exponentials overflow or vanish under one common shift.

    With Z = [z1; z2] the logits are the Gram matrix ZZᵀ/T without its diagonal, and a row's label is its partner. Under
    a common shift their exponentials E are as symmetric as they are, so that the blocks above the diagonal are enough,
    and the gradient is one product: with s the row sums of E, softmax(E) + softmax(E)ᵀ = E ⊙ (1/sᵢ + 1/sⱼ). On a
    processor the blocks are small enough to stay in cache from one operation to the next; elsewhere there is one.
    """

    @staticmethod
    def forward(ctx: Any, z1: Tensor, z2: Tensor, temperature: float, shift: float) -> Tensor:
        z = torch.cat([z1, z2])  # [2n, d]
        ctx.rows = NCE_BLOCK if z.device.type == "cpu" else len(z)
        parts = z.split(ctx.rows)
        sums, blocks = [part.new_zeros(len(part)) for part in parts], []
        for i, left in enumerate(parts):
            left = left / temperature
            for j in range(i, len(parts)):
                block = left @ parts[j].T  # [b, b']
                if shift:
                    block.sub_(shift)
                block.exp_()
                if i == j:
                    block.fill_diagonal_(0)
                else:
                    sums[j] += block.sum(dim=0)
                sums[i] += block.sum(dim=1)
                blocks.append(block)
        joined = torch.cat(sums)
        ctx.save_for_backward(z, joined, *blocks)
        ctx.temperature = temperature
        return joined.log().mean() + shift - (z1 * z2).sum() / (len(z1) * temperature)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        z, sums, *blocks = ctx.saved_tensors
        of_z = -2 * z.roll(len(z) // 2, dims=0)  # [2n, d], every pair is positive twice
        weights, parts, of_parts = (1 / sums).split(ctx.rows), z.split(ctx.rows), of_z.split(ctx.rows)
        remaining = iter(blocks)
        for i in range(len(parts)):
            for j in range(i, len(parts)):
                both = next(remaining) * (weights[i][:, None] + weights[j])  # [b, b']
                of_parts[i].addmm_(both, parts[j])
                if i != j:
                    of_parts[j].addmm_(both.T, parts[i])
        of_z *= gradient / (len(z) * ctx.temperature)
        return (*of_z.chunk(2), None, None)
