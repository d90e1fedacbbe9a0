"""PLS against scikit-learn, its definition, its invariances and hard inputs."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import PLSSVD, PLSCanonical

from crossfit import Views, make_retrieval_scorer
from crossfit.subspace import PLS
from crossfit.subspace._linalg import leading_svd

BOTH = pytest.mark.parametrize("mode", ["svd", "canonical"])


def pairs(n=200, p=6, q=4, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 3))
    return (
        3 + Z @ rng.normal(size=(3, p)) + rng.normal(size=(n, p)),
        Z @ rng.normal(size=(3, q)) + rng.normal(size=(n, q)),
    )


X, T = pairs()


def aligned(found, expected):
    """Flip the signs of columns of `found` to match those of `expected`."""
    return found * np.sign(np.sum(found * expected, axis=0))


def cov(a, b):
    return (a - a.mean(0)).T @ (b - b.mean(0)) / (len(a) - 1)


# ---- other people's implementations ----------------------------------------------------


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("n, p, q", [(200, 6, 4), (50, 3, 9), (20, 30, 25)])
def test_svd_equals_plssvd(n, p, q, scale):
    x, t = pairs(n, p, q, seed=p)
    reference = PLSSVD(n_components=3, scale=scale).fit(x, t)
    pls = PLS(3, standardize=scale).fit(x, t)
    for found, expected in zip(pls.transform(x, t), reference.transform(x, t)):
        np.testing.assert_allclose(aligned(found, expected), expected, atol=1e-10)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("n, p, q, k", [(200, 6, 4, 4), (50, 3, 9, 3), (20, 30, 25, 15)])
def test_canonical_equals_plscanonical(n, p, q, k, scale):
    x, t = pairs(n, p, q, seed=p)
    reference = PLSCanonical(n_components=k, scale=scale, algorithm="svd").fit(x, t)
    pls = PLS(k, mode="canonical", standardize=scale).fit(x, t)
    for found, expected in zip(pls.transform(x, t), reference.transform(x, t)):
        np.testing.assert_allclose(aligned(found, expected), expected, atol=1e-7)


def test_the_modes_share_the_first_pair_alone():
    svd, canonical = PLS().fit(X, T), PLS(mode="canonical").fit(X, T)
    for role in ("image", "text"):
        a, b = svd.weights_[role], canonical.weights_[role]
        cosines = np.abs(np.sum(a * b, 0)) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
        assert cosines[0] > 1 - 1e-12 and cosines[1] < 0.999


# ---- definition ------------------------------------------------------------------------


def test_svd_directions_are_orthonormal_and_diagonalise_the_covariance():
    pls = PLS().fit(X, T)
    for W in pls.weights_.values():
        np.testing.assert_allclose(W.T @ W, np.eye(4), atol=1e-12)
    Zx, Zt = pls.transform(X, T)
    np.testing.assert_allclose(cov(Zx, Zt), np.diag(pls.covariances_), atol=1e-12)
    assert np.all(np.diff(pls.covariances_) <= 0)


def test_no_unit_vectors_have_a_larger_covariance():
    best = PLS(1).fit(X, T).covariances_[0]
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 5000)), rng.normal(size=(4, 5000))
    a, b = a / np.linalg.norm(a, axis=0), b / np.linalg.norm(b, axis=0)
    reached = np.abs(np.sum(a * (cov(X, T) @ b), axis=0))
    assert 0.7 * best < reached.max() <= best


def test_canonical_scores_are_uncorrelated_within_a_view():
    pls = PLS(mode="canonical").fit(X, T)
    Zx, Zt = pls.transform(X, T)
    for Z in (Zx, Zt):
        S = cov(Z, Z)
        np.testing.assert_allclose(S, np.diag(np.diag(S)), atol=1e-10)
    np.testing.assert_allclose(np.diag(cov(Zx, Zt)), pls.covariances_, atol=1e-10)


def test_canonical_equals_deflating_the_rows():
    x, t = X - X.mean(0), T - T.mean(0)
    pls = PLS(mode="canonical").fit(X, T)
    for k in range(4):
        U, _, Vt = np.linalg.svd(x.T @ t)
        s, r = x @ U[:, :1], t @ Vt[:1].T
        for found, score in zip(pls.transform(X, T), (s, r)):
            np.testing.assert_allclose(aligned(found[:, k : k + 1], score), score, atol=1e-9)
        x, t = x - s @ (s.T @ x) / (s.T @ s), t - r @ (r.T @ t) / (r.T @ r)


@BOTH
def test_fewer_components_are_the_first(mode):
    whole, two = PLS(mode=mode).fit(X, T), PLS(2, mode=mode).fit(X, T)
    np.testing.assert_allclose(two.weights_["text"], whole.weights_["text"][:, :2], atol=1e-12)
    np.testing.assert_allclose(two.covariances_, whole.covariances_[:2])


def test_a_small_share_of_the_components_is_that_of_the_whole():
    x, t = pairs(300, 60, 50)
    few, whole = PLS(3).fit(x, t), PLS().fit(x, t)
    np.testing.assert_allclose(few.weights_["image"], whole.weights_["image"][:, :3], atol=1e-9)
    np.testing.assert_allclose(few.covariances_, whole.covariances_[:3], rtol=1e-12)


# ---- invariances -----------------------------------------------------------------------


@BOTH
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_orthogonal_maps_and_shifts_change_no_score(mode, seed):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    plain, moved = PLS(3, mode=mode).fit(X, T), PLS(3, mode=mode).fit(X @ Q + Q[0], T)
    np.testing.assert_allclose(moved.similarity(X @ Q + Q[0], T), plain.similarity(X, T), atol=1e-6)
    Z = plain.transform(X)
    np.testing.assert_allclose(aligned(moved.transform(X @ Q + Q[0]), Z), Z, atol=1e-8)


@BOTH
@settings(deadline=None, max_examples=25)
@given(rows=st.permutations(range(40)), constant=st.floats(-1e3, 1e3), copies=st.integers(1, 3))
def test_rows_permuted_and_repeated_and_constant_columns(mode, rows, constant, copies):
    x, t = X[:40], T[:40]
    plain = PLS(3, mode=mode).fit(x, t)
    with_constant = np.insert(x, 1, constant, axis=1)
    again = np.tile(rows, copies)
    other = PLS(3, mode=mode).fit(with_constant[again], t[again])
    np.testing.assert_allclose(other.weights_["image"][[0, 2, 3, 4, 5, 6]],
                               plain.weights_["image"], atol=1e-9)  # fmt: skip
    np.testing.assert_allclose(other.weights_["image"][1], 0, atol=1e-12)
    np.testing.assert_allclose(other.weights_["text"], plain.weights_["text"], atol=1e-9)
    factor = (40 - 1 / copies) / 39  # n - 1 rows
    np.testing.assert_allclose(plain.covariances_, other.covariances_ * factor, rtol=1e-9)


def test_standardize_is_scaling_by_training_deviations():
    a = PLS(standardize=True).fit(X, T)
    b = PLS().fit(X / X.std(0, ddof=1), T / T.std(0, ddof=1))
    np.testing.assert_allclose(a.transform(X), b.transform(X / X.std(0, ddof=1)), atol=1e-10)


# ---- hard inputs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"n_components": 0}, "'n_components' parameter.*Got 0"),
        ({"n_components": 2.0}, "n_components.*2.0"),
        ({"mode": "sharma"}, "'mode' parameter.*Got 'sharma'"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        PLS(**parameters).fit(X, T)


@BOTH
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_a_view_without_variance_is_refused(mode, standardize, constant):
    with pytest.raises(ValueError, match="PLS: view 'text' is constant"):
        PLS(mode=mode, standardize=standardize).fit(X, np.full((200, 3), constant))


@BOTH
def test_views_without_covariance_are_refused(mode):
    x, t = np.array([[1.0], [-1], [1], [-1]]), np.array([[1.0], [1], [-1], [-1]])
    with pytest.raises(ValueError, match="PLS: the two views have no covariance"):
        PLS(mode=mode).fit(x, t)


@BOTH
def test_more_components_than_the_rank_allows_are_warned_of(mode):
    x = np.c_[X[:, :2], X[:, 0] - X[:, 1], 2 * X[:, 1]]  # rank 2, perfectly correlated columns
    with pytest.warns(UserWarning, match="PLS: n_components=4 is more than.*; 2 are kept") as seen:
        pls = PLS(4, mode=mode).fit(x, T)
    assert seen[0].filename == __file__
    assert pls.n_components_ == 2 and pls.transform(x).shape[1] == len(pls.covariances_) == 2


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_histograms_lose_a_dimension(mode, dtype):
    rng = np.random.default_rng(0)
    x = rng.dirichlet(np.ones(5), 300).astype(dtype)
    t = rng.normal(size=(300, 8)).astype(dtype)
    assert PLS(mode=mode).fit(x, t).n_components_ == 4


@BOTH
@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("error")
def test_scales(mode, scale, dtype):
    plain = PLS(3, mode=mode).fit(X, T)
    x, t = (X * scale).astype(dtype), (T / scale).astype(dtype)
    pls = PLS(3, mode=mode).fit(x, t)
    tolerance = 1e-3 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(pls.similarity(x, t), plain.similarity(X, T), atol=tolerance)
    np.testing.assert_allclose(pls.covariances_, plain.covariances_, rtol=tolerance)


@BOTH
def test_fewer_rows_than_columns_and_two_rows(mode):
    x, t = pairs(12, 40, 30)
    pls = PLS(mode=mode).fit(x, t)
    assert pls.n_components_ == 11 and np.isfinite(pls.transform(x)).all()
    assert PLS(mode=mode).fit(x[:2], t[:2]).n_components_ == 1


@BOTH
def test_one_column(mode):
    pls = PLS(mode=mode).fit(X[:, :1], T)
    np.testing.assert_allclose(pls.covariances_, np.linalg.norm(cov(X[:, :1], T)))


# ---- forms of the input ----------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memmaps_and_csr_equal_dense(tmp_path, mode, dtype):
    x, t = pairs(9000, 12, 7)
    x[np.random.default_rng(0).random(x.shape) < 0.7] = 0
    x, t = x.astype(dtype), t.astype(dtype)
    np.save(tmp_path / "x.npy", x)
    dense = PLS(mode=mode).fit(x, t)
    tolerance = 1e-3 if dtype == np.float32 else 1e-9
    for form in (np.load(tmp_path / "x.npy", mmap_mode="r"), sp.csr_array(x)):
        pls = PLS(mode=mode).fit(form, t)
        np.testing.assert_allclose(pls.transform(form), dense.transform(x), atol=tolerance)


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_stay_tensors_and_give_the_same_numbers(mode, dtype):
    torch = pytest.importorskip("torch")
    x, t = (torch.asarray(part, dtype=getattr(torch, dtype)) for part in (X, T))
    pls = PLS(mode=mode).fit(x, t)
    plain = PLS(mode=mode).fit(x.numpy(), t.numpy())
    assert all(isinstance(W, np.ndarray) for W in pls.weights_.values())
    Z = pls.transform(x)
    assert isinstance(Z, torch.Tensor) and Z.dtype == x.dtype and Z.device == x.device
    tolerance = 1e-3 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(Z.numpy(), plain.transform(x.numpy()), atol=tolerance)
    np.testing.assert_allclose(pls.similarity(x, t), plain.similarity(X, T), atol=tolerance)


def test_nothing_imports_torch():
    code = (
        "import sys, numpy as np; from crossfit.subspace import CFA, PLS\n"
        "x = np.random.default_rng(0).normal(size=(20, 3))\n"
        "for cls in (CFA, PLS): cls().fit(x, x[:, :2]).score(x, x[:, :2])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_view_names_and_order():
    views = Views(caption=T, photo=X)
    pls = PLS(2, views={"image": "photo", "text": "caption"}).fit(views)
    np.testing.assert_array_equal(pls.weights_["image"], PLS(2).fit(X, T).weights_["image"])


# ---- algebra ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (64, 64)])
@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_leading_svd(shape, scale):
    C = np.random.default_rng(0).normal(size=shape) * scale
    U, s, V = leading_svd(C, 4)
    u, expected, vt = np.linalg.svd(C)
    np.testing.assert_allclose(s, expected[:4], rtol=1e-12)
    np.testing.assert_allclose(aligned(U, u[:, :4]), u[:, :4], atol=1e-10)
    np.testing.assert_allclose((U * s) @ V.T, u[:, :4] * s @ vt[:4], atol=1e-10 * scale)


@pytest.mark.parametrize("values", [np.logspace(0, -60, 80), np.r_[1.0, 1.0, np.zeros(78)]])
def test_leading_svd_of_a_steep_spectrum(values):
    rng = np.random.default_rng(0)
    P, Q = (np.linalg.qr(rng.normal(size=(80, 80)))[0] for _ in range(2))
    U, s, V = leading_svd(P * values @ Q, 6)
    np.testing.assert_allclose(s, values[:6], atol=1e-14)
    np.testing.assert_allclose(U.T @ U, np.eye(6), atol=1e-10)
    np.testing.assert_allclose(V.T @ V, np.eye(6), atol=1e-10)


# ---- measured on real data -------------------------------------------------------------


@pytest.mark.parametrize("mode, i2t, t2i", [("svd", 0.2470, 0.1980), ("canonical", 0.2476, 0.1986)])
def test_wikipedia(wikipedia, mode, i2t, t2i):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pls = PLS(7, mode=mode, standardize=True).fit(wikipedia.train)
    for direction, expected in (("i2t", i2t), ("t2i", t2i)):
        found = make_retrieval_scorer("map@all", direction)(pls, wikipedia.test, wikipedia.y_test)
        assert found == pytest.approx(expected, abs=0.003)
