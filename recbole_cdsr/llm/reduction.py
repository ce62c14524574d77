"""Principal component analysis of item features, over all items and per domain, and whitening."""

from __future__ import annotations

import logging
from itertools import pairwise

import numpy as np
import scipy.linalg

_BLOCK_ROWS = 8192


# Directions with less than this share of the widest one's variance carry rounding, not text: they are not blown up.
_NARROWEST = 1e-4


def principal_axes(matrix: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and first principal axes of the rows of a matrix.

    The axes are the eigenvectors of ``(X - mean)ᵀ(X - mean)`` by falling eigenvalue, each signed so that its largest
    component (in absolute value) is positive.

    Parameters
    ----------
    matrix : np.ndarray
        float32 `[n, D]`, n ≥ 1.
    dim : int
        Axes wanted, ≥ 1; clamped to `min(D, n)`, which is logged.

    Returns
    -------
    (mean, axes)
        float64 `[D]` and float64 `[D, min(dim, D, n)]`.
    """
    mean, axes, _ = _axes_and_variances(matrix, dim)
    return mean, axes


def whitening_axes(matrix: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """As `principal_axes`, each axis divided by the standard deviation of the rows along it (PCA whitening).

    Rows projected on them have unit variance along each and are not correlated. Axes along which there is next to
    nothing (less than 1e-4 of the variance along the first) are left out, which is not logged.

    Parameters
    ----------
    matrix, dim
        As `principal_axes`; rows that differ.

    Returns
    -------
    (mean, axes)
        float64 `[D]` and float64 `[D, kept]`, 1 ≤ kept ≤ min(dim, D, n).
    """
    mean, axes, variances = _axes_and_variances(matrix, dim)
    kept = variances > _NARROWEST * variances[0]
    return mean, axes[:, kept] / np.sqrt(variances[kept])


def _axes_and_variances(matrix: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, width = matrix.shape
    if dim < 1 or n < 1:
        raise ValueError(f"PCA of {n} rows to {dim} dimensions")
    kept = min(dim, width, n)
    if kept < dim:
        logging.getLogger().info(f"PCA to {dim} dimensions clamped to {kept}: {n} rows of width {width}.")
    mean = matrix.mean(axis=0, dtype=np.float64)  # [D]
    scatter = np.zeros((width, width))  # [D, D]
    for start in range(0, n, _BLOCK_ROWS):  # a float64 copy of the whole matrix would double its memory
        block = matrix[start : start + _BLOCK_ROWS] - mean
        scatter += block.T @ block
    values, vectors = scipy.linalg.eigh(scatter, subset_by_index=(width - kept, width - 1))  # [D, kept], rising
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)  # [kept]
    return mean, vectors * np.where(vectors[largest, np.arange(kept)] < 0, -1.0, 1.0), values / n


def project(matrix: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """``Y = (X - mean) V``: float32 `[n, kept]` of rows `[n, D]` on axes `[D, kept]`."""
    reduced = np.empty((len(matrix), axes.shape[1]), dtype=np.float32)
    for start in range(0, len(matrix), _BLOCK_ROWS):
        reduced[start : start + _BLOCK_ROWS] = (matrix[start : start + _BLOCK_ROWS] - mean) @ axes
    return reduced


def pca(matrix: np.ndarray, dim: int) -> np.ndarray:
    """Project centred rows onto their first principal components: `project` on `principal_axes`.

    Parameters
    ----------
    matrix : np.ndarray
        float32 `[n, D]`, n ≥ 1.
    dim : int
        Components wanted, ≥ 1; clamped to `min(D, n)`, which is logged.

    Returns
    -------
    np.ndarray
        float32 `[n, min(dim, D, n)]`. Computed in float64 over the D x D covariance.
    """
    return project(matrix, *principal_axes(matrix, dim))


def pca_over_all(items: np.ndarray, dim: int) -> np.ndarray:
    """PCA over the items of all domains.

    Parameters
    ----------
    items : np.ndarray
        float32 `[n_items, D]` by internal id, row 0 padding (left out of the fit).
    dim : int
        Width wanted; clamped to `min(D, n_items - 1)`.

    Returns
    -------
    np.ndarray
        float32 `[n_items, d]`, row 0 zero.
    """
    reduced = pca(items[1:], dim)
    return np.concatenate([np.zeros((1, reduced.shape[1]), dtype=np.float32), reduced])


def pca_per_domain(items: np.ndarray, domain_offsets: np.ndarray, dim: int) -> np.ndarray:
    """PCA fitted to each domain's items alone.

    Parameters
    ----------
    items : np.ndarray
        float32 `[n_items, D]` by internal id.
    domain_offsets : np.ndarray
        int64 `[K+1]`; the rows of domain k are `offsets[k] .. offsets[k+1]-1`.
    dim : int
        Width of the result.

    Returns
    -------
    np.ndarray
        float32 `[n_items, dim]`. Row 0 is zero; where a domain yields fewer than `dim` components (few items,
        or D smaller), its further columns are zero.
    """
    reduced = np.zeros((len(items), dim), dtype=np.float32)
    for begin, end in pairwise(domain_offsets):
        if end > begin:
            part = pca(items[begin:end], dim)  # [n_k, min(dim, D, n_k)]
            reduced[begin:end, : part.shape[1]] = part
    return reduced
