"""LGCFL: its objective, LCFS and ridge as its limits, and its groups."""

import numpy as np
import pytest
import scipy.optimize

from crossfit import Views
from crossfit.subspace import LCFS, LGCFL

rng = np.random.default_rng(0)
Y_LABELS = np.arange(60) % 3
Z = 1.5 * rng.normal(size=(3, 4))[Y_LABELS] + rng.normal(size=(60, 4))
X, T = (Z @ rng.normal(size=(4, d)) + rng.normal(size=(60, d)) for d in (8, 6))
XC, TC = X - X.mean(0), T - T.mean(0)
YC = np.eye(3)[Y_LABELS] - np.eye(3)[Y_LABELS].mean(0)
EPS = 1e-8


def objective(A, W, weight, groups):
    squares = np.bincount(groups, weights=np.sum(W**2, axis=1))
    return np.sum((A @ W - YC) ** 2) + weight * np.sum(np.sqrt(squares + EPS))


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("weight", [0.3, 4.0])
def test_single_columns_are_lcfs_with_half_the_weight(weight, standardize):
    settings = {"max_iter": 400, "tol": 1e-15, "standardize": standardize}
    lgcfl = LGCFL(2 * weight, 2 * weight, **settings).fit(X, T, Y_LABELS)
    lcfs = LCFS(weight, 0, **settings).fit(X, T, Y_LABELS)
    for role in ("image", "text"):
        np.testing.assert_allclose(lgcfl.weights_[role], lcfs.weights_[role], atol=1e-5)
    other = LGCFL(weight, weight, **settings).fit(X, T, Y_LABELS)
    assert np.abs(other.weights_["image"] - lcfs.weights_["image"]).max() > 1e-3


@pytest.mark.parametrize("weight", [1.0, 10.0])
def test_one_group_is_ridge_regression(weight):
    settings = {"max_iter": 500, "tol": 1e-15, "standardize": False}
    lgcfl = LGCFL(weight, 0.0, groups={"image": 8, "text": None}, **settings).fit(X, T, Y_LABELS)
    W = lgcfl.weights_["image"]
    # The gradient of ‖W‖_F is that of a ridge of weight / (2 ‖W‖_F).
    ridge = weight / (2 * np.linalg.norm(W))
    expected = np.linalg.solve(XC.T @ XC + ridge * np.eye(8), XC.T @ YC)
    np.testing.assert_allclose(W, expected, atol=1e-6)


@pytest.mark.parametrize("groups", [None, 3, np.array([4, 4, 9, 9, 9, 4, 1, 1])])
@pytest.mark.parametrize("weight", [0.5, 5.0])
def test_reaches_the_minimum_that_a_general_optimiser_finds(groups, weight):
    numbers = {None: np.arange(8), 3: np.arange(8) // 3}.get(
        groups if not isinstance(groups, np.ndarray) else "", np.array([1, 1, 2, 2, 2, 1, 0, 0])
    )
    settings = {"max_iter": 2000, "tol": 1e-15, "standardize": False}
    lgcfl = LGCFL(weight, 1.0, groups={"image": groups, "text": 6}, **settings)
    lgcfl.fit(X, T, Y_LABELS)
    assert np.all(np.diff(lgcfl.objective_) <= 1e-9)
    V, whole = lgcfl.weights_["text"], np.zeros(6, int)
    of_text = objective(TC, V, 1.0, whole)
    found = objective(XC, lgcfl.weights_["image"], weight, numbers)
    np.testing.assert_allclose(lgcfl.objective_[-1], found + of_text, rtol=1e-9)
    best = scipy.optimize.minimize(
        lambda w: objective(XC, w.reshape(8, 3), weight, numbers),
        lgcfl.weights_["image"].ravel() + 0.05,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10**6, "ftol": 1e-15},
    )
    assert found <= best.fun + 1e-5 * best.fun


def test_groups_are_switched_off_together():
    noise = np.random.default_rng(1).normal(size=(60, 8))
    lgcfl = LGCFL(25.0, 1.0, groups={"image": 4, "text": 1}, max_iter=300, tol=1e-12)
    lgcfl.fit(np.hstack([X, noise]), T, Y_LABELS)
    norms = np.linalg.norm(lgcfl.weights_["image"].reshape(4, -1), axis=1)
    assert norms[2:].max() < 1e-3 < 0.01 < norms[:2].max()


def test_pairs_play_no_part():
    order = np.argsort(Y_LABELS, kind="stable")
    p = np.lexsort((np.random.default_rng(0).random(60), Y_LABELS))
    a = LGCFL().fit(X[order], T[order], Y_LABELS[order])
    b = LGCFL().fit(X[order], T[p], Y_LABELS[order])
    np.testing.assert_allclose(a.weights_["text"], b.weights_["text"], atol=1e-9)


def test_groups_by_view_name():
    views = Views(photo=X, caption=T)
    a = LGCFL(groups={"photo": 2, "caption": 3}).fit(views, Y_LABELS)
    b = LGCFL(groups={"image": 2, "text": 3}).fit(views, Y_LABELS)
    np.testing.assert_array_equal(a.weights_["image"], b.weights_["image"])


@pytest.mark.parametrize("groups", [0, -2, 1.5, "two", [0, 1], {"image": np.ones(8), "text": 1}])
def test_bad_groups(groups):
    with pytest.raises(ValueError, match="'groups' parameter"):
        LGCFL(groups=groups).fit(X, T, Y_LABELS)


def test_missing_groups():
    with pytest.raises(ValueError, match="groups has no entry for 'text', got image"):
        LGCFL(groups={"image": 1}).fit(X, T, Y_LABELS)


@pytest.mark.parametrize("name", ["l1", "l2", "tol"])
def test_bad_weights(name):
    with pytest.raises(ValueError, match=f"'{name}' parameter.*Got -1"):
        LGCFL(**{name: -1}).fit(X, T, Y_LABELS)


def test_it_says_that_it_is_experimental():
    assert "Experimental" in LGCFL.__doc__ and "guess" in LGCFL.__doc__
    assert "experimental" in LGCFL.card.summary
