"""Shared algebra and the joint covariance of views and labels."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfit import Views
from crossfit.subspace import LCFS
from crossfit.subspace._joint import indicator, joint_covariance
from crossfit.subspace._linalg import irls21, ridge_solve

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(50, 6)), rng.normal(size=(50, 3))


@pytest.mark.parametrize("penalty", [0.0, 1e-3, 10.0])
def test_ridge_solve_equals_scikit_learn(penalty):
    from sklearn.linear_model import Ridge

    expected = Ridge(alpha=penalty, fit_intercept=False).fit(X, Y).coef_.T
    for R in (np.full(6, penalty), penalty * np.eye(6)):
        np.testing.assert_allclose(ridge_solve(X.T @ X, R, X.T @ Y), expected, atol=1e-10)


def test_ridge_solve_of_a_singular_sum_solves_the_normal_equations():
    # A constant (zero) column and one that follows from two others.
    A = np.column_stack([X, np.zeros(50), X[:, 0] - 2 * X[:, 1]])
    W = ridge_solve(A.T @ A, np.zeros(8), A.T @ Y)
    assert np.isfinite(W).all() and np.abs(W).max() < 10
    assert not W[6].any()
    np.testing.assert_allclose(A @ W, X @ np.linalg.lstsq(X, Y, rcond=None)[0], atol=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_ridge_solve_does_not_mind_units(scale):
    units = np.array([1, scale, 1, 1, 1 / scale, 1])
    A = X * units
    W = ridge_solve(A.T @ A, np.zeros(6), A.T @ Y)
    expected = ridge_solve(X.T @ X, np.zeros(6), X.T @ Y)
    np.testing.assert_allclose(W * units[:, None], expected, rtol=1e-8)


@pytest.mark.parametrize("groups", [None, np.array([0, 0, 1, 2, 1, 0])])
def test_irls21_is_the_gradient_of_the_smoothed_norm(groups):
    W = rng.normal(size=(6, 3))

    def norm(V):
        squares = np.sum(V**2, axis=1)
        if groups is not None:
            squares = np.array([squares[groups == g].sum() for g in range(3)])
        return np.sum(np.sqrt(squares + 1e-3))

    numeric = np.zeros_like(W)
    for at in np.ndindex(W.shape):
        step = np.zeros_like(W)
        step[at] = 1e-6
        numeric[at] = (norm(W + step) - norm(W - step)) / 2e-6
    analytic = 2 * irls21(W, 1e-3, groups)[:, None] * W
    np.testing.assert_allclose(analytic, numeric, atol=1e-8)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6))
def test_irls21_bounds_the_norm_from_above(seed):
    V, W = np.random.default_rng(seed).normal(size=(2, 5, 3))
    eps = 1e-4
    smooth = np.sqrt(np.sum(np.array([V, W]) ** 2, axis=2) + eps).sum(axis=1)
    # tr(V'RV) minus its value at W is at least the increase of the norm.
    R = irls21(W, eps)
    gain = np.sum(R[:, None] * V**2) - np.sum(R[:, None] * W**2)
    assert smooth[0] - smooth[1] <= gain + 1e-12
    np.testing.assert_allclose(np.sum(0.5 / R), smooth[1])


@pytest.mark.parametrize("standardize", [False, True])
def test_joint_covariance_of_many_chunks(standardize):
    n = 9000
    a = rng.normal(size=(n, 3)) * [1, 5, 0.1] + 3
    b = sp.random_array((n, 4), density=0.3, rng=0, format="csr")
    Z = np.eye(3)[np.arange(n) % 3]
    method = LCFS()
    joint = joint_covariance(method, Views(image=a, text=b), {"l": Z}, standardize=standardize)
    parts = [a, b.toarray(), Z]
    if standardize:
        parts[:2] = [part / part.std(0, ddof=1) for part in parts[:2]]
    np.testing.assert_allclose(joint.S, np.cov(np.hstack(parts).T), atol=1e-9)
    np.testing.assert_allclose(joint("text", "l"), joint.S[3:7, 7:], atol=0)
    np.testing.assert_allclose(joint.means["image"], a.mean(0))
    np.testing.assert_allclose(joint.scales["image"], a.std(0, ddof=1) if standardize else 1)
    assert joint.n == n and set(joint.rounding.values()) == {np.finfo(float).eps}


def test_indicators():
    classes, Z = indicator(LCFS(), np.array(["b", "a", "b"]))
    assert classes.tolist() == ["a", "b"] and Z.tolist() == [[0, 1], [1, 0], [0, 1]]
    classes, Z = indicator(LCFS(), np.array([[1, 0, 1], [0, 0, 1]]))
    assert classes.tolist() == [0, 2] and Z.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    "y, message",
    [
        (np.array([3, 3, 3]), "LCFS needs at least 2 classes, got 1"),
        (np.ones((3, 2), int), "LCFS needs at least 2 classes"),
        (np.zeros((3, 2), int), "LCFS needs at least 2 classes, got 0"),
        (np.array([1, -1, 0]), "got 1 rows with the label -1"),
    ],
)
def test_bad_labels(y, message):
    with pytest.raises(ValueError, match=message):
        indicator(LCFS(), y)
