"""KCCA against the textbook in plain NumPy, ridge CCA, explicit features, and on hard inputs."""

import tracemalloc
import warnings
from functools import partial

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from sklearn.gaussian_process.kernels import RBF
from sklearn.metrics.pairwise import chi2_kernel, pairwise_kernels

from crossfit import Views, make_retrieval_scorer
from crossfit.subspace import CCA, KCCA


def pairs(n=60, p=5, q=4, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 3))
    return (
        Z @ rng.normal(size=(3, p)) + 0.5 * rng.normal(size=(n, p)),
        Z @ rng.normal(size=(3, q)) + 0.5 * rng.normal(size=(n, q)),
    )


X, T = pairs()
X_NEW, T_NEW = pairs(25, seed=7)
KERNELS = pytest.mark.parametrize("kernel", ["rbf", "poly", "linear", "laplacian", "cosine"])


def aligned(found, expected):
    return found * np.sign(np.sum(found * expected, axis=0))


# ---- the textbook ----------------------------------------------------------------------


def rbf(A, B, gamma):
    """Compute the kernel one entry at a time."""
    return np.array([[np.exp(-gamma * np.sum((a - b) ** 2)) for b in B] for a in A])


def poly(A, B, gamma):
    return np.array([[(gamma * np.sum(a * b) + 1) ** 2 for b in B] for a in A])


def linear(A, B, gamma):
    return np.array([[np.sum(a * b) for b in B] for a in A])


FUNCTIONS = {"rbf": rbf, "poly": poly, "linear": linear}


def centred(K, train):
    """Centre in the feature space by training statistics."""
    return K - K.mean(1, keepdims=True) - train.mean(0) + train.mean()


def textbook(kernel, gammas, reg, k):
    """Return scores of new rows from the eigenvalues of both centred kernel matrices."""
    n = len(X)
    roots = []
    for train, new, gamma in zip((X, T), (X_NEW, T_NEW), gammas):
        K = FUNCTIONS[kernel](train, train, gamma)
        Kc = centred(K, K)
        w, V = np.linalg.eigh(Kc)
        kept = w > 1e-8 * w.max()
        ridge = reg * np.trace(Kc) / n
        roots.append((w[kept], V[:, kept], ridge,
                      centred(FUNCTIONS[kernel](new, train, gamma), K)))  # fmt: skip
    (wx, Vx, kx, Nx), (wz, Vz, kz, Nz) = roots
    M = np.sqrt(wx / (wx + kx))[:, None] * (Vx.T @ Vz) * np.sqrt(wz / (wz + kz))
    U, D, Vt = np.linalg.svd(M)
    alpha = Vx @ (U[:, :k] / np.sqrt(wx * (wx + kx))[:, None])
    beta = Vz @ (Vt[:k].T / np.sqrt(wz * (wz + kz))[:, None])
    # Without regularisation, ours have unit variance and these unit norm.
    return D[:k], Nx @ alpha * np.sqrt(n - 1), Nz @ beta * np.sqrt(n - 1)


@pytest.mark.parametrize("kernel", ["rbf", "poly", "linear"])
@pytest.mark.parametrize("reg", [1e-3, 1.0, 10.0])
def test_equals_the_textbook_loop(kernel, reg):
    kcca = KCCA(4, kernel=kernel, reg=reg, power=0, gamma={"image": 0.1, "text": 0.3})
    kcca.fit(X, T)
    D, Zx, Zt = textbook(kernel, (0.1, 0.3), reg, 4)
    np.testing.assert_allclose(kcca.correlations_, D, atol=1e-8)
    found = kcca.transform(X_NEW, T_NEW)
    np.testing.assert_allclose(aligned(found[0], Zx), Zx, atol=1e-6)
    np.testing.assert_allclose(aligned(found[1], Zt), Zt, atol=1e-6)


@pytest.mark.parametrize("reg", [0.01, 1.0])
def test_agrees_with_the_pencil_of_hardoon(reg):
    kcca = KCCA(kernel="rbf", reg=reg, gamma=0.2).fit(X, T)
    n = len(X)
    H = np.eye(n) - 1 / n
    # Orthogonal to the constant vector, where the centred matrices are positive definite.
    Q = scipy.linalg.null_space(np.ones((1, n)))
    Kx, Kz = (Q.T @ H @ rbf(part, part, 0.2) @ H @ Q for part in (X, T))
    kx, kz = (reg * np.trace(K) / n for K in (Kx, Kz))
    A = np.block([[np.zeros_like(Kx), Kx @ Kz], [Kz @ Kx, np.zeros_like(Kx)]])
    B = scipy.linalg.block_diag(Kx @ Kx + kx * Kx, Kz @ Kz + kz * Kz)
    values = scipy.linalg.eigh(A, B, eigvals_only=True)[::-1]
    np.testing.assert_allclose(kcca.correlations_[:10], values[:10], atol=1e-6)
    np.testing.assert_allclose(-kcca.correlations_[:10], values[::-1][:10], atol=1e-6)


@pytest.mark.parametrize("reg", [0.0, 0.5, {"image": 2.0, "text": 0.1}])
@pytest.mark.parametrize("n_landmarks", [2500, 30])
def test_the_linear_kernel_is_ridge_cca(reg, n_landmarks):
    """Also with Nyström: more landmarks than columns span the space."""
    n = len(X)
    kcca = KCCA(kernel="linear", reg=reg, n_landmarks=n_landmarks, random_state=0).fit(X, T)
    amounts = reg if isinstance(reg, dict) else {"image": reg, "text": reg}
    ridge = {
        role: amounts[role] * np.sum((part - part.mean(0)) ** 2) / n / (n - 1)
        for role, part in (("image", X), ("text", T))
    }
    cca = CCA(reg=ridge, reg_style="ridge").fit(X, T)
    np.testing.assert_allclose(kcca.correlations_, cca.correlations_, atol=1e-9)
    for found, expected in zip(kcca.transform(X_NEW, T_NEW), cca.transform(X_NEW, T_NEW)):
        np.testing.assert_allclose(aligned(found, expected), expected, atol=1e-7)
    np.testing.assert_allclose(
        kcca.similarity(X_NEW, T_NEW), cca.similarity(X_NEW, T_NEW), atol=1e-6
    )


def monomials(A, gamma):
    """Return the features of ``(gamma a'b + 1)²``."""
    d = A.shape[1]
    cross = [np.sqrt(2) * gamma * A[:, i] * A[:, j] for i in range(d) for j in range(i)]
    return np.c_[np.sqrt(2 * gamma) * A, gamma * A**2, np.stack(cross, 1)]


def test_the_polynomial_kernel_is_ridge_cca_of_monomials():
    kcca = KCCA(kernel="poly", gamma=0.5, reg=0.3).fit(X, T)
    Fx, Ft = monomials(X, 0.5), monomials(T, 0.5)
    n = len(X)
    ridge = {
        role: 0.3 * np.sum((F - F.mean(0)) ** 2) / n / (n - 1)
        for role, F in (("image", Fx), ("text", Ft))
    }
    cca = CCA(reg=ridge, reg_style="ridge").fit(Fx, Ft)
    np.testing.assert_allclose(kcca.correlations_, cca.correlations_, atol=1e-8)
    Z = cca.transform(monomials(X_NEW, 0.5))
    found = kcca.transform(X_NEW)
    np.testing.assert_allclose(aligned(found[:, :5], Z[:, :5]), Z[:, :5], atol=1e-5)


# ---- definition ------------------------------------------------------------------------


def test_without_a_ridge_scores_are_white_and_correlations_one_for_any_data():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))  # nothing in common
    kcca = KCCA(10, reg=0).fit(x, t)
    np.testing.assert_allclose(kcca.correlations_, 1, atol=1e-6)
    Zx, Zt = kcca.transform(x, t)
    np.testing.assert_allclose(np.cov(Zx.T), np.eye(10), atol=1e-5)
    np.testing.assert_allclose(Zx, Zt, atol=1e-3)
    assert KCCA(10, reg=1.0).fit(x, t).correlations_.max() < 0.9


def test_weights_are_coefficients_of_the_training_rows():
    kcca = KCCA(3, gamma=0.2, reg=0.5).fit(X, T)
    for role, part, new in (("image", X, X_NEW), ("text", T, T_NEW)):
        np.testing.assert_array_equal(kcca.landmarks_[role], part)
        assert kcca.weights_[role].shape == (60, 3)
        np.testing.assert_allclose(kcca.weights_[role].sum(axis=0), 0, atol=1e-9)
        K = rbf(new, part, 0.2) - rbf(part, part, 0.2).mean(axis=0)
        np.testing.assert_allclose(kcca.encode(new, role), K @ kcca.weights_[role], atol=1e-9)


def test_it_finds_what_no_linear_method_does():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 300)
    x, t = np.c_[np.cos(angle), np.sin(angle)], np.c_[np.cos(2 * angle), np.sin(2 * angle)]
    assert CCA().fit(x, t).correlations_.max() < 0.3
    for kernel in ("rbf", "poly"):
        kcca = KCCA(2, kernel=kernel, reg=0.1).fit(x[:200], t[:200])
        Zx, Zt = kcca.transform(x[200:], t[200:])
        assert np.corrcoef(Zx[:, 0], Zt[:, 0])[0, 1] > 0.95


def test_gamma_defaults():
    kcca = KCCA(2, kernel={"image": "rbf", "text": "poly"}).fit(X, T)
    assert kcca.gamma_["image"] == pytest.approx(1 / np.median(pdist(X, "sqeuclidean")))
    assert kcca.gamma_["text"] == pytest.approx(1 / np.mean(np.sum(T**2, axis=1)))
    kcca = KCCA(2, kernel={"image": "laplacian", "text": "linear"}).fit(X, T)
    assert kcca.gamma_ == {"image": pytest.approx(1 / np.median(pdist(X, "cityblock"))),
                           "text": None}  # fmt: skip
    # On standardised columns it is 1 / number of columns.
    gamma = KCCA(2, kernel="poly", standardize=True).fit(X, T).gamma_
    assert gamma == {"image": pytest.approx(1 / 5), "text": pytest.approx(1 / 4)}


def test_many_equal_rows_do_not_make_the_bandwidth_nothing():
    x = X.copy()
    x[:50] = 0
    apart = pdist(x, "sqeuclidean")
    gamma = KCCA(2).fit(x, T).gamma_["image"]
    assert gamma == pytest.approx(1 / np.median(apart[apart > 0]))


def test_standardize_is_z_scoring_by_training_statistics():
    mean, deviation = X.mean(0), X.std(0)
    a = KCCA(3, standardize=True).fit(X, T)
    b = KCCA(3).fit((X - mean) / deviation, (T - T.mean(0)) / T.std(0))
    np.testing.assert_allclose(a.transform(X_NEW), b.transform((X_NEW - mean) / deviation),
                               atol=1e-8)  # fmt: skip


@pytest.mark.parametrize(
    "kernel, reference",
    [
        (RBF(2.0), {"metric": "rbf", "gamma": 1 / 8}),
        (partial(chi2_kernel, gamma=0.5), {"metric": "chi2", "gamma": 0.5}),
        ("chi2", {"metric": "chi2"}),
        ("sigmoid", {"metric": "sigmoid", "gamma": 0.01, "coef0": 1.0}),
    ],
    ids=["gp", "function", "chi2", "sigmoid"],
)
def test_any_kernel_of_scikit_learn(kernel, reference):
    x, t = np.abs(X), np.abs(T)
    gamma = 0.01 if kernel == "sigmoid" else None
    kcca = KCCA(3, kernel={"image": kernel, "text": "linear"}, gamma=gamma).fit(x, t)
    K = pairwise_kernels(np.abs(X_NEW), x, **reference)
    expected = (K - pairwise_kernels(x, **reference).mean(0)) @ kcca.weights_["image"]
    np.testing.assert_allclose(kcca.encode(np.abs(X_NEW), "image"), expected, atol=1e-8)
    Zx, Zt = kcca.transform(x, t)
    assert np.corrcoef(Zx[:, 0], Zt[:, 0])[0, 1] > 0.7


# ---- invariances -----------------------------------------------------------------------


@KERNELS
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_row_order_and_orthogonal_maps_change_no_score(kernel, seed):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(5, 5)))[0] if kernel != "laplacian" else np.eye(5)
    rows = rng.permutation(60)
    plain = KCCA(3, kernel=kernel).fit(X, T)
    moved = KCCA(3, kernel=kernel).fit((X @ Q)[rows], T[rows])
    Z = plain.transform(X_NEW)
    np.testing.assert_allclose(aligned(moved.transform(X_NEW @ Q), Z), Z, atol=1e-6)
    np.testing.assert_allclose(
        moved.similarity(X_NEW @ Q, T_NEW), plain.similarity(X_NEW, T_NEW), atol=1e-5
    )


@KERNELS
def test_constant_columns_and_repeated_rows_change_nothing(kernel):
    gamma = None if kernel in ("linear", "cosine") else 0.1
    plain = KCCA(3, kernel=kernel, gamma=gamma, reg=1.0).fit(X, T)
    with_zero, new = np.insert(X, 2, 0.0, axis=1), np.insert(X_NEW, 2, 0.0, axis=1)
    other = KCCA(3, kernel=kernel, gamma=gamma, reg=1.0).fit(with_zero, T)
    np.testing.assert_allclose(other.transform(new), plain.transform(X_NEW), atol=1e-8)
    # Twice the rows are twice Φ'Φ, and the ridge is relative to tr(K) / n: double it.
    twice = KCCA(3, kernel=kernel, gamma=gamma, reg=2.0).fit(np.r_[X, X], np.r_[T, T])
    np.testing.assert_allclose(twice.correlations_, plain.correlations_, atol=1e-9)


@KERNELS
@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("error")
def test_scales(kernel, scale, dtype):
    plain = KCCA(3, kernel=kernel).fit(X, T)
    kcca = KCCA(3, kernel=kernel).fit((X * scale).astype(dtype), (T / scale).astype(dtype))
    Z = kcca.transform((X_NEW * scale).astype(dtype))
    assert Z.dtype == dtype
    tolerance = 1e-4 if dtype == np.float32 else 1e-7
    if kernel == "poly":  # the ratio of squares to products is as before
        assert np.isfinite(Z).all()
    np.testing.assert_allclose(Z, plain.transform(X_NEW), atol=tolerance)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_a_large_mean_costs_digits_and_no_more(kernel):
    plain = KCCA(3, kernel=kernel).fit(X, T)
    kcca = KCCA(3, kernel=kernel).fit(X + 1e5, T)
    np.testing.assert_allclose(kcca.correlations_, plain.correlations_, atol=1e-4)
    Z = plain.transform(X_NEW)
    np.testing.assert_allclose(aligned(kcca.transform(X_NEW + 1e5), Z), Z, atol=1e-2)


# ---- Nyström ---------------------------------------------------------------------------


def test_nystroem_comes_close_with_a_part_of_the_rows():
    x, t = pairs(600)
    exact = KCCA(4, gamma=0.1).fit(x, t)
    few = KCCA(4, gamma=0.1, n_landmarks=150, random_state=0).fit(x, t)
    assert few.weights_["image"].shape == (150, 4)
    np.testing.assert_allclose(few.correlations_, exact.correlations_, atol=0.02)
    for a, b in zip(few.transform(X_NEW, T_NEW), exact.transform(X_NEW, T_NEW)):
        assert abs(np.corrcoef(a[:, 0], b[:, 0])[0, 1]) > 0.99


def test_as_many_landmarks_as_rows_are_exact():
    a, b = KCCA(3, n_landmarks=60).fit(X, T), KCCA(3).fit(X, T)
    np.testing.assert_array_equal(a.transform(X_NEW), b.transform(X_NEW))


def test_landmarks_follow_the_seed_and_leave_the_global_state_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    fits = [KCCA(3, n_landmarks=20, random_state=s).fit(X, T) for s in (0, 0, 1)]
    np.testing.assert_array_equal(fits[0].landmarks_["image"], fits[1].landmarks_["image"])
    assert not np.array_equal(fits[0].landmarks_["image"], fits[2].landmarks_["image"])
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_memory_stays_far_below_a_kernel_matrix_of_all_rows():
    n = 20_000
    x, t = (part.astype(np.float32) for part in pairs(n, 20, 10))
    tracemalloc.start()
    kcca = KCCA(3, n_landmarks=100, random_state=0).fit(x, t)
    kcca.transform(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6 < n * n * 8 / 50


# ---- hard inputs -----------------------------------------------------------------------

BAD = [
    ({"n_components": 0}, "'n_components' parameter.*Got 0"),
    ({"kernel": "gauss"}, "'kernel' parameter.*Got 'gauss'"),
    ({"kernel": "precomputed"}, "Got 'precomputed'"),
    ({"kernel": {"image": "rbf"}}, "kernel has no entry for 'text', got image"),
    ({"gamma": 0.0}, "'gamma' parameter.*Got 0.0"),
    ({"gamma": "scale"}, "'gamma' parameter.*Got 'scale'"),
    ({"reg": -1.0}, "'reg' parameter.*Got -1.0"),
    ({"reg": np.nan}, "'reg' parameter.*Got nan"),
    ({"reg": {"text": 1.0}}, "reg has no entry for 'image', got text"),
    ({"n_landmarks": 1}, "'n_landmarks' parameter.*Got 1"),
    ({"kernel": lambda A, B: np.ones(len(A))}, r"kernel must return an array of shape \(n, m\)"),
    ({"kernel": lambda A, B: A @ B.T * np.nan}, "the kernel of view 'image' is not finite"),
    ({"kernel": "poly", "gamma": 1e200}, "the kernel of view 'image' is not finite"),
]


@pytest.mark.parametrize("parameters, message", BAD)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        KCCA(**parameters).fit(X, T)


@KERNELS
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
@pytest.mark.parametrize("standardize", [False, True])
def test_a_view_without_variance_is_refused(kernel, constant, standardize):
    with pytest.raises(ValueError, match="KCCA: the kernel of view 'text' is the same"):
        KCCA(kernel=kernel, standardize=standardize).fit(X, np.full((60, 3), constant))


def test_more_components_than_the_rank_allows_are_warned_of():
    with pytest.warns(UserWarning, match="KCCA: n_components=9 is more than.*; 4 are kept") as seen:
        kcca = KCCA(9, kernel="linear").fit(X, T)
    assert seen[0].filename == __file__
    assert kcca.n_components_ == kcca.transform(X).shape[1] == len(kcca.correlations_) == 4


@KERNELS
def test_two_rows_and_perfectly_correlated_columns(kernel):
    assert KCCA(kernel=kernel).fit(X[:2], T[:2]).n_components_ == 1
    x = np.c_[X, 2 * X]
    assert np.isfinite(KCCA(3, kernel=kernel, reg=0).fit(x, T).transform(x)).all()


# ---- forms of the input ----------------------------------------------------------------


@pytest.mark.parametrize("standardize", [False, True])
def test_memmaps_csr_and_tensors_equal_dense(tmp_path, standardize):
    torch = pytest.importorskip("torch")
    x, t = pairs(5000, 6, 5)
    x[np.random.default_rng(0).random(x.shape) < 0.7] = 0
    np.save(tmp_path / "x.npy", x)
    make = partial(KCCA, 3, n_landmarks=40, random_state=0, standardize=standardize)
    Z = make().fit(x, t).transform(x)
    for form in (np.load(tmp_path / "x.npy", mmap_mode="r"), sp.csr_array(x), torch.asarray(x)):
        found = make().fit(form, t).transform(form)
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, Z, atol=1e-9)


def test_view_names():
    views = Views(photo=X, caption=T)
    by_name = KCCA(2, reg={"photo": 0.5, "caption": 2.0}).fit(views)
    by_role = KCCA(2, reg={"image": 0.5, "text": 2.0}).fit(X, T)
    np.testing.assert_array_equal(by_name.weights_["text"], by_role.weights_["text"])


# ---- measured on real data -------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters, i2t, t2i",
    [
        ({"n_components": 9, "reg": 10.0}, 0.2663, 0.2178),
        ({"n_components": 9, "reg": 1e-3}, 0.2078, 0.1663),
        ({"n_components": 7, "reg": 10.0, "kernel": "poly"}, 0.2688, 0.2186),
    ],
    ids=["rbf", "rbf overfit", "poly"],
)
def test_wikipedia(wikipedia, parameters, i2t, t2i):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kcca = KCCA(standardize=True, power=0, **parameters).fit(wikipedia.train)
    for direction, expected in (("i2t", i2t), ("t2i", t2i)):
        found = make_retrieval_scorer("map@all", direction)(kcca, wikipedia.test, wikipedia.y_test)
        assert found == pytest.approx(expected, abs=0.003)
