"""Losses of the models: one pure function each, its formula in the docstring."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
        Τ > 0.

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
        Τ > 0.

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
        Τ > 0.

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
