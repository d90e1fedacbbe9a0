"""LCFS: its objective, the naive loop, and limit cases."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from crossfit.metrics import mean_average_precision
from crossfit.subspace import LCFS
from crossfit.subspace.lcfs import MU

EPS = 1e-8


def data(seed=0, n=60, dims=(7, 5), classes=3):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    centres = rng.normal(size=(classes, 4))
    Z = centres[y] + rng.normal(size=(n, 4))
    X, T = (Z @ rng.normal(size=(4, d)) + rng.normal(size=(n, d)) for d in dims)
    return X, T, y


X, T, Y_LABELS = data()
XC, TC = X - X.mean(0), T - T.mean(0)
Y = np.eye(3)[Y_LABELS]
YC = Y - Y.mean(0)


def objective(U, V, l1, l2):
    """Return the smoothed objective as published, with the n x n matrix under the root."""
    M = np.hstack([XC @ U, TC @ V])
    eigenvalues = np.linalg.eigvalsh(M @ M.T)
    # The n - 2c zero eigenvalues add a constant, which the method leaves out.
    trace = np.sum(np.sqrt(np.maximum(eigenvalues, 0) + MU)) - (len(M) - M.shape[1]) * np.sqrt(MU)
    rows = sum(np.sum(np.sqrt(np.sum(W**2, axis=1) + EPS)) for W in (U, V))
    fit = np.sum((XC @ U - YC) ** 2) + np.sum((TC @ V - YC) ** 2)
    return fit / 2 + l1 * rows + l2 * trace


def naive(l1, l2, steps):
    """Run the published loop with an explicit Q, from the ridge solution."""
    U, V = (np.linalg.solve(A.T @ A + l1 * np.eye(A.shape[1]), A.T @ YC) for A in (XC, TC))
    objectives = [objective(U, V, l1, l2)]
    for _ in range(steps):
        M = np.hstack([XC @ U, TC @ V])
        values, vectors = np.linalg.eigh(M @ M.T + MU * np.eye(len(M)))
        Q = vectors / np.sqrt(values) @ vectors.T
        U, V = (
            np.linalg.solve(
                A.T @ A
                + 2 * l1 * np.diag(0.5 / np.sqrt(np.sum(W**2, axis=1) + EPS))
                + l2 * A.T @ Q @ A,
                A.T @ YC,
            )
            for A, W in ((XC, U), (TC, V))
        )
        objectives.append(objective(U, V, l1, l2))
    return U, V, objectives


@pytest.mark.parametrize("l1, l2", [(1.0, 1e-3), (0.1, 0.5), (5.0, 0.0), (0.0, 0.2)])
def test_equals_the_loop_that_forms_q(l1, l2):
    lcfs = LCFS(l1, l2, max_iter=6, tol=0, standardize=False).fit(X, T, Y_LABELS)
    U, V, objectives = naive(l1, l2, 6)
    np.testing.assert_allclose(lcfs.objective_[: len(objectives)], objectives, rtol=1e-8)
    np.testing.assert_allclose(lcfs.weights_["image"], U, atol=1e-6)
    np.testing.assert_allclose(lcfs.weights_["text"], V, atol=1e-6)


@pytest.mark.parametrize("l1", [0.0, 0.1, 3.0])
@pytest.mark.parametrize("l2", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_objective_falls_to_a_point_without_gradient(l1, l2, seed):
    lcfs = LCFS(l1, l2, max_iter=6000, tol=0, standardize=False).fit(X, T, Y_LABELS)
    falls = np.diff(lcfs.objective_)
    assert np.all(falls <= 1e-10 * lcfs.objective_[0])
    U, V = lcfs.weights_["image"], lcfs.weights_["text"]
    best = objective(U, V, l1, l2)
    np.testing.assert_allclose(lcfs.objective_[-1], best, rtol=1e-8)
    rng = np.random.default_rng(seed)
    for _ in range(10):
        # Only along rows that are not zero, where the smoothed norm bends within 1e-4.
        dU, dV = (
            rng.normal(size=W.shape) * (np.linalg.norm(W, axis=1, keepdims=True) > 1e-2)
            for W in (U, V)
        )
        h = 1e-5
        up, down = (objective(U + s * dU, V + s * dV, l1, l2) for s in (h, -h))
        assert abs(up - down) / (2 * h) < 1e-3 * max(1.0, np.linalg.norm(dU))
        assert min(up, down) >= best - 1e-9


def test_without_norms_it_is_least_squares():
    lcfs = LCFS(0, 0, standardize=False).fit(X, T, Y_LABELS)
    for role, part in (("image", X), ("text", T)):
        expected = LinearRegression().fit(part, Y).coef_.T
        np.testing.assert_allclose(lcfs.weights_[role], expected, atol=1e-9)


def test_features_without_use_are_switched_off():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(60, 4))
    lcfs = LCFS(12.0, 0.0, max_iter=300, tol=1e-10).fit(np.hstack([X, noise]), T, Y_LABELS)
    rows = np.linalg.norm(lcfs.weights_["image"], axis=1)
    assert rows[7:].max() < 1e-3 < 0.02 < rows[:7].max()


def test_the_trace_norm_lowers_the_rank():
    plain, low = (LCFS(0.01, l2, max_iter=300).fit(X, T, Y_LABELS) for l2 in (0.0, 3.0))

    def spectrum(lcfs):
        return np.linalg.svd(np.hstack(lcfs.transform(X, T)), compute_uv=False)

    assert np.count_nonzero(spectrum(low) > 1e-2) < np.count_nonzero(spectrum(plain) > 1e-2)


def test_indicators_equal_labels_and_may_overlap():
    one = LCFS().fit(X, T, Y_LABELS)
    same = LCFS().fit(X, T, Y.astype(int))
    np.testing.assert_array_equal(one.weights_["image"], same.weights_["image"])
    several = Y.copy()
    several[::4, 0] = 1
    assert LCFS().fit(X, T, several).transform(X).shape == (60, 3)


def test_the_order_of_the_views_is_no_matter():
    a, b = LCFS(1, 0.1).fit(X, T, Y_LABELS), LCFS(1, 0.1).fit(T, X, Y_LABELS)
    np.testing.assert_allclose(a.weights_["image"], b.weights_["text"], atol=1e-10)
    np.testing.assert_allclose(a.objective_, b.objective_, rtol=1e-10)


@pytest.mark.parametrize("name", ["l1", "l2", "tol"])
@pytest.mark.parametrize("value", [-1, np.nan, "much"])
def test_bad_weights(name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        LCFS(**{name: value}).fit(X, T, Y_LABELS)


def test_bad_number_of_steps():
    with pytest.raises(ValueError, match=r"'max_iter' parameter.*Got 0"):
        LCFS(max_iter=0).fit(X, T, Y_LABELS)


def test_wikipedia(wikipedia):
    lcfs = LCFS(l1=10, l2=1e-3).fit(wikipedia.train, wikipedia.y_train)
    assert np.all(np.diff(lcfs.objective_) < 0)
    scores, y = lcfs.similarity(wikipedia.test), wikipedia.y_test
    assert mean_average_precision(scores, y, y) == pytest.approx(0.2725, abs=0.003)
    assert mean_average_precision(scores.T, y, y) == pytest.approx(0.2166, abs=0.003)
