"""CFA against PLS, its objective, its published value on raw data and hard inputs."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from crossfit import make_retrieval_scorer
from crossfit.subspace import CFA, PLS


def pairs(n=200, p=6, q=4, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 3))
    return (
        3 + Z @ rng.normal(size=(3, p)) + rng.normal(size=(n, p)),
        Z @ rng.normal(size=(3, q)) + rng.normal(size=(n, q)) - 1,
    )


X, T = pairs()
RAW = {"center": False, "standardize": False}


def aligned(found, expected):
    return found * np.sign(np.sum(found * expected, axis=0))


def objective(x, t, A, B):
    return np.linalg.norm(x @ A - t @ B) ** 2


# ---- definition ------------------------------------------------------------------------


@pytest.mark.parametrize("standardize", [False, True])
def test_centred_it_is_pls_svd(standardize):
    cfa = CFA(standardize=standardize).fit(X, T)
    pls = PLS(standardize=standardize).fit(X, T)
    np.testing.assert_allclose(cfa.singular_values_, pls.covariances_)
    for found, expected in zip(cfa.transform(X, T), pls.transform(X, T)):
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_raw_it_is_the_decomposition_of_the_products():
    cfa = CFA(**RAW).fit(X, T)
    U, s, Vt = np.linalg.svd(X.T @ T, full_matrices=False)
    np.testing.assert_allclose(cfa.singular_values_ * (len(X) - 1), s)
    np.testing.assert_allclose(aligned(cfa.weights_["image"], U), U, atol=1e-9)
    np.testing.assert_allclose(aligned(cfa.weights_["text"], Vt.T), Vt.T, atol=1e-9)
    np.testing.assert_allclose(cfa.transform(X), X @ cfa.weights_["image"])
    pls = PLS().fit(X, T)
    assert np.abs(np.sum(cfa.weights_["image"][:, 0] * pls.weights_["image"][:, 0])) < 0.99


def test_uncentred_and_standardised_it_divides_alone():
    cfa = CFA(center=False).fit(X, T)
    raw = CFA(**RAW).fit(X / X.std(0, ddof=1), T / T.std(0, ddof=1))
    np.testing.assert_allclose(cfa.transform(X), raw.transform(X / X.std(0, ddof=1)), atol=1e-9)


@pytest.mark.parametrize("parameters", [RAW, {"standardize": False}])
def test_square_maps_reach_the_least_objective(parameters):
    x, t = pairs(100, 4, 4)
    cfa = CFA(**parameters).fit(x, t)
    x, t = x - cfa.means_["image"], t - cfa.means_["text"]
    A, B = cfa.weights_["image"], cfa.weights_["text"]
    for W in (A, B):
        np.testing.assert_allclose(W.T @ W, np.eye(4), atol=1e-12)
    least = np.sum(x**2) + np.sum(t**2) - 2 * 99 * np.sum(cfa.singular_values_)
    assert objective(x, t, A, B) == pytest.approx(least)
    for seed in range(200):
        P, Q = ortho_group.rvs(4, size=2, random_state=seed)
        assert objective(x, t, P, Q) >= least


def test_with_fewer_components_it_is_not_the_minimiser():
    """As published: directions of little variance come closer, but contain no information."""
    cfa = CFA(2, standardize=False).fit(X, T)
    x, t = X - X.mean(0), T - T.mean(0)
    last = [np.linalg.svd(part)[2][-2:].T for part in (x, t)]
    assert objective(x, t, *last) < objective(x, t, cfa.weights_["image"], cfa.weights_["text"])


# ---- invariances -----------------------------------------------------------------------


@pytest.mark.parametrize("center", [False, True])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), rows=st.permutations(range(40)))
def test_orthogonal_maps_and_row_order_change_no_score(center, seed, rows):
    x, t = X[:40], T[:40]
    Q = ortho_group.rvs(6, random_state=seed)
    plain = CFA(3, center=center, standardize=False).fit(x, t)
    moved = CFA(3, center=center, standardize=False).fit((x @ Q)[rows], t[rows])
    Z = plain.transform(x)
    np.testing.assert_allclose(aligned(moved.transform(x @ Q), Z), Z, atol=1e-8)
    np.testing.assert_allclose(moved.similarity(x @ Q, t), plain.similarity(x, t), atol=1e-6)


@pytest.mark.parametrize("standardize", [False, True])
@settings(deadline=None, max_examples=15)
@given(constant=st.floats(-100, 100), copies=st.integers(1, 3))
def test_repeated_rows_and_constant_columns_change_nothing(standardize, constant, copies):
    plain = CFA(3, standardize=standardize).fit(X, T)
    with_constant = np.insert(X, 6, constant, axis=1)
    other = CFA(3, standardize=standardize).fit(
        np.tile(with_constant, (copies, 1)), np.tile(T, (copies, 1))
    )
    np.testing.assert_allclose(other.weights_["image"][6], 0, atol=1e-12)
    np.testing.assert_allclose(
        other.similarity(with_constant, T), plain.similarity(X, T), atol=1e-6
    )


# ---- hard inputs -----------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, RAW])
def test_a_view_without_variance_is_refused(parameters):
    with pytest.raises(ValueError, match="CFA: view 'text' is constant"):
        CFA(**parameters).fit(X, np.full((200, 3), 0.1))


def test_views_without_covariance_are_refused():
    x, t = np.array([[1.0], [-1], [1], [-1]]), np.array([[1.0], [1], [-1], [-1]])
    for parameters in ({}, RAW):
        with pytest.raises(ValueError, match="CFA: the two views have no covariance"):
            CFA(**parameters).fit(x, t)
    assert CFA(**RAW).fit(x + 1, t + 1).n_components_ == 1


@pytest.mark.parametrize("bad", [0, -1, 1.5, "2"])
def test_bad_parameters(bad):
    with pytest.raises(ValueError, match="'n_components' parameter"):
        CFA(bad).fit(X, T)


@pytest.mark.parametrize("parameters", [{}, RAW])
def test_more_components_than_the_rank_allows_are_warned_of(parameters):
    x = np.c_[X[:, :2], X[:, 0] - X[:, 1]]
    with pytest.warns(UserWarning, match="CFA: n_components=5 is more than.*; 2 are kept"):
        cfa = CFA(5, **parameters).fit(x, T)
    assert cfa.transform(x).shape[1] == cfa.n_components_ == len(cfa.singular_values_) == 2


@pytest.mark.parametrize("parameters", [{}, RAW, {"center": False}])
@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("error")
def test_scales(parameters, scale, dtype):
    plain = CFA(3, **parameters).fit(X, T)
    x, t = (X * scale).astype(dtype), (T / scale).astype(dtype)
    cfa = CFA(3, **parameters).fit(x, t)
    tolerance = 1e-3 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(cfa.similarity(x, t), plain.similarity(X, T), atol=tolerance)


def test_fewer_rows_than_columns():
    x, t = pairs(12, 40, 30)
    assert CFA().fit(x, t).n_components_ == 11
    raw = CFA(**RAW).fit(x, t)
    assert raw.n_components_ == 12 and np.isfinite(raw.transform(x)).all()


# ---- forms of the input ----------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, RAW])
def test_memmaps_and_csr_equal_dense(tmp_path, parameters):
    x, t = pairs(5000, 12, 7)
    x[np.random.default_rng(0).random(x.shape) < 0.7] = 0
    np.save(tmp_path / "x.npy", x)
    dense = CFA(**parameters).fit(x, t)
    for form in (np.load(tmp_path / "x.npy", mmap_mode="r"), sp.csr_array(x)):
        Z = CFA(**parameters).fit(form, t).transform(form)
        np.testing.assert_allclose(Z, dense.transform(x), atol=1e-9)


@pytest.mark.parametrize("parameters", [{}, RAW, {"center": False}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_stay_tensors_and_give_the_same_numbers(parameters, dtype):
    torch = pytest.importorskip("torch")
    x, t = (torch.asarray(part, dtype=getattr(torch, dtype)) for part in (X, T))
    cfa, plain = CFA(**parameters).fit(x, t), CFA(**parameters).fit(x.numpy(), t.numpy())
    Z = cfa.transform(x)
    assert isinstance(Z, torch.Tensor) and Z.dtype == x.dtype
    tolerance = 1e-3 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(Z.numpy(), plain.transform(x.numpy()), atol=tolerance)


# ---- measured on real data -------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters, i2t, t2i",
    [({"n_components": 7}, 0.2470, 0.1980), ({"n_components": 10, **RAW}, 0.2102, 0.1742)],
)
def test_wikipedia(wikipedia, parameters, i2t, t2i):
    cfa = CFA(**parameters).fit(wikipedia.train)
    for direction, expected in (("i2t", i2t), ("t2i", t2i)):
        found = make_retrieval_scorer("map@all", direction)(cfa, wikipedia.test, wikipedia.y_test)
        assert found == pytest.approx(expected, abs=0.003)
