from __future__ import annotations

import logging

import numpy as np
import pytest
from sklearn.decomposition import PCA

from recbole_cdsr.llm.reduction import pca, pca_over_all, pca_per_domain, principal_axes, project, whitening_axes


def correlated(n: int, width: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixed = (
        generator.standard_normal((n, width)) * np.geomspace(10, 0.1, width) @ generator.standard_normal((width, width))
    )
    return (mixed + 5.0).astype(np.float32)


@pytest.mark.parametrize(("n", "width", "dim"), [(500, 24, 7), (500, 24, 24), (20, 24, 10)])
def test_components_are_those_of_sklearn_up_to_sign(n, width, dim):
    data = correlated(n, width)
    ours, theirs = pca(data, dim), PCA(dim, svd_solver="full").fit_transform(data.astype(np.float64))
    assert ours.dtype == np.float32
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs * signs, atol=1e-4 * np.abs(theirs).max())


def test_result_is_the_same_whatever_the_order_and_sign_of_the_input_rows():
    data = correlated(300, 16)
    order = np.random.default_rng(1).permutation(300)
    np.testing.assert_allclose(pca(data, 5)[order], pca(data[order], 5), atol=1e-4)


def test_largest_loading_is_positive():
    data = np.zeros((50, 3), dtype=np.float32)
    data[:, 1] = np.linspace(-1, 1, 50)
    np.testing.assert_allclose(pca(data, 1)[:, 0], data[:, 1], atol=1e-6)
    np.testing.assert_allclose(pca(-data, 1)[:, 0], -data[:, 1], atol=1e-6)


@pytest.mark.parametrize(("shape", "kept"), [((40, 6), 6), ((5, 8), 5)])
def test_dimension_is_clamped_and_said(caplog, shape, kept):
    with caplog.at_level(logging.INFO):
        assert pca(correlated(*shape), 10).shape == (shape[0], kept)
    assert f"clamped to {kept}" in caplog.text


def test_padding_row_is_zero_and_takes_no_part_in_the_fit():
    items = correlated(60, 8)
    items[0] = 0.0
    reduced = pca_over_all(items, 3)
    assert not reduced[0].any()
    np.testing.assert_array_equal(reduced[1:], pca(items[1:], 3))


def test_each_domain_is_fitted_alone_and_small_ones_are_padded_with_zeros():
    items = correlated(64, 12)
    items[0] = 0.0
    offsets = np.array([1, 41, 44, 64])
    reduced = pca_per_domain(items, offsets, 5)
    assert reduced.shape == (64, 5)
    assert reduced.dtype == np.float32
    assert not reduced[0].any()
    np.testing.assert_array_equal(reduced[1:41], pca(items[1:41], 5))
    np.testing.assert_array_equal(reduced[41:44, :3], pca(items[41:44], 3))
    assert not reduced[41:44, 3:].any()
    np.testing.assert_array_equal(reduced[44:], pca(items[44:], 5))


def test_wider_than_the_features_is_padded_too():
    assert pca_per_domain(correlated(30, 4), np.array([1, 30]), 6)[:, 4:].any() == np.False_


def test_rows_that_took_no_part_are_laid_along_the_same_axes():
    matrix, others = correlated(50, 9), correlated(7, 9, seed=3)
    mean, axes = principal_axes(matrix, 4)
    reference = PCA(4, svd_solver="full").fit(matrix.astype(np.float64))
    signs = np.sign((reference.components_ * axes.T).sum(axis=1))
    np.testing.assert_allclose(project(others, mean, axes), reference.transform(others) * signs, atol=1e-4)
    np.testing.assert_array_equal(project(matrix, mean, axes), pca(matrix, 4))


def test_whitened_rows_are_uncorrelated_and_as_wide_along_every_axis():
    matrix = correlated(200, 9)
    rows = project(matrix, *whitening_axes(matrix, 6))
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(6), atol=1e-3)
    mean, axes = principal_axes(matrix, 6)
    lengths = np.linalg.norm(whitening_axes(matrix, 6)[1], axis=0)
    np.testing.assert_allclose(whitening_axes(matrix, 6)[1] / lengths, axes, atol=1e-9)
    np.testing.assert_array_equal(whitening_axes(matrix, 6)[0], mean)


def test_axes_with_nothing_along_them_are_not_blown_up():
    draws = np.random.default_rng(0)
    plane = draws.normal(size=(50, 3)) @ np.eye(3, 8)  # 3 of 8 directions
    noise = draws.normal(scale=1e-6, size=plane.shape)
    assert whitening_axes((plane + noise).astype(np.float32), 8)[1].shape == (8, 3)


def test_fewer_rows_than_features_can_be_whitened():
    matrix = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    rows = project(matrix, *whitening_axes(matrix, 9))
    assert rows.shape == (4, 3)  # four points span three directions
    np.testing.assert_allclose(rows.T @ rows / 4, np.eye(3), atol=1e-3)
