"""Whitening by both its routes, and the generalised eigenvalue problem, against SciPy."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfit.subspace import CCA
from crossfit.subspace._linalg import generalized_eigh, whiten


def psd(d, rank, seed, decades=0.0):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(d, rank)) * 10 ** rng.uniform(-decades, decades, size=(d, 1))
    return A @ A.T


@settings(deadline=None, max_examples=50)
@given(d=st.integers(1, 12), lacking=st.integers(0, 3), seed=st.integers(0, 10**6))
def test_whitening_keeps_what_there_is(d, lacking, seed):
    rank = max(d - lacking, 1)
    S = psd(d, rank, seed, decades=6) if lacking else psd(d, 3 * d, seed, decades=6)
    W = whiten(S, 1e-12)
    assert W.shape == (d, rank)
    scale = np.abs(W).T @ np.abs(S) @ np.abs(W)
    np.testing.assert_allclose(W.T @ S @ W, np.eye(rank), atol=1e-12 * scale.max() + 1e-9)


def test_both_routes_of_whitening_give_the_inverse():
    S = psd(8, 40, 0, decades=2)
    scale = np.sqrt(np.diag(S))
    values = np.linalg.eigvalsh(S / np.outer(scale, scale))
    # By Cholesky if all eigenvalues are far from the tolerance, else by eigenvalues.
    for tol, triangular in ((1e-14, True), (0.99 * values[0] / values[-1], False)):
        W = whiten(S, tol)
        assert np.array_equal(W, np.triu(W)) == triangular
        np.testing.assert_allclose(scale[:, None] * (W @ W.T @ S) / scale, np.eye(8), atol=1e-10)
    assert whiten(S, 1.01 * values[0] / values[-1]).shape == (8, 7)


def test_the_tolerance_counts_on_a_unit_diagonal():
    S = np.array([[1.0, 1 - 1e-9], [1 - 1e-9, 1.0]])  # eigenvalues 2 and 1e-9
    for scale in (np.ones(2), np.array([1e-6, 1e6])):
        assert whiten(S * np.outer(scale, scale), 1e-10).shape == (2, 2)
        assert whiten(S * np.outer(scale, scale), 1e-9).shape == (2, 1)


def test_a_ridge_as_small_as_rounding_does_not_make_a_dimension():
    rng = np.random.default_rng(0)
    x = rng.dirichlet(np.ones(6), 400)
    assert CCA(reg=1e-18).fit(x, rng.normal(size=(400, 9))).n_components_ == 5


@pytest.mark.parametrize("k", [None, 1, 3, 6, 99])
def test_generalized_eigh_equals_scipy(k):
    rng = np.random.default_rng(0)
    M = rng.normal(size=(6, 6))
    A, B = M + M.T, psd(6, 30, 1)
    values, vectors = generalized_eigh(A, B, k, eps=0)
    expected = scipy.linalg.eigh(A, B, eigvals_only=True)[::-1][:k]
    np.testing.assert_allclose(values, expected, atol=1e-12)
    assert vectors.shape == (6, len(expected))
    np.testing.assert_allclose(A @ vectors, B @ vectors * values, atol=1e-11)
    np.testing.assert_allclose(vectors.T @ B @ vectors, np.eye(len(expected)), atol=1e-11)
    assert (vectors[np.abs(vectors).argmax(axis=0), range(len(expected))] > 0).all()


def test_generalized_eigh_of_equal_eigenvalues_returns_them_all():
    B = psd(40, 80, 0)
    values, vectors = generalized_eigh(2 * B, B, 5, eps=0)
    np.testing.assert_allclose(values, 2)
    np.testing.assert_allclose(vectors.T @ B @ vectors, np.eye(5), atol=1e-10)


def test_generalized_eigh_symmetrises_and_floors_b_alone():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(5, 5)), psd(5, 3, 1)
    floored = B + 1e-3 * np.mean(np.diag(B)) * np.eye(5)
    expected = scipy.linalg.eigh((A + A.T) / 2, floored, eigvals_only=True)[::-1]
    found = generalized_eigh(A, B + np.triu(np.ones((5, 5)), 1) - np.tril(np.ones((5, 5)), -1),
                             eps=1e-3)[0]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_constraint_that_is_not_positive_definite_is_refused():
    with pytest.raises(ValueError, match=r"constraint matrix .* is not positive definite"):
        generalized_eigh(np.eye(3), np.diag([1.0, 1.0, -1.0]))
