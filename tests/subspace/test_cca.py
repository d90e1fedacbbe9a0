"""CCA against statsmodels, cca-zoo, scikit-learn and scipy, its invariances and hard inputs."""

import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from crossfit import Views, make_retrieval_scorer
from crossfit.subspace import CCA, _span
from crossfit.subspace._linalg import Moments, fix_signs, whiten


def pairs(n=200, p=6, q=4, seed=0, shared=3, noise=1.0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, shared))
    return (
        Z @ rng.normal(size=(shared, p)) + noise * rng.normal(size=(n, p)),
        Z @ rng.normal(size=(shared, q)) + noise * rng.normal(size=(n, q)),
    )


X, T = pairs()


def cov(a, b=None):
    both = np.cov(a.T, a.T if b is None else b.T)
    return both[: a.shape[1], a.shape[1] :]


def alike(A, B):
    """Return the smallest absolute cosine between matching columns."""
    return np.min(np.abs(np.sum(A * B, 0)) / np.linalg.norm(A, axis=0) / np.linalg.norm(B, axis=0))


def angle(A, B):
    """Return the largest principal angle between two subspaces."""
    return np.max(scipy.linalg.subspace_angles(A, B))


# ---- other people's implementations ----------------------------------------------------


@pytest.mark.parametrize("n, p, q", [(200, 6, 4), (50, 3, 9), (1000, 20, 20), (60, 2, 1)])
def test_correlations_equal_statsmodels(n, p, q):
    from statsmodels.multivariate.cancorr import CanCorr

    x, t = pairs(n, p, q, seed=p)
    expected = CanCorr(x, t).cancorr
    np.testing.assert_allclose(CCA(reg=0).fit(x, t).correlations_, expected, rtol=0, atol=1e-10)


def test_correlations_equal_statsmodels_on_wikipedia(wikipedia):
    from statsmodels.multivariate.cancorr import CanCorr

    x, t = wikipedia.train["image"][:, :-1], wikipedia.train["text"][:, :-1]
    assert np.linalg.matrix_rank(x - x.mean(0)) == 127 and np.linalg.matrix_rank(t) == 9
    cca = CCA(reg=0).fit(x, t)
    np.testing.assert_allclose(cca.correlations_, CanCorr(x, t).cancorr, rtol=0, atol=1e-10)
    # The last column follows from the others up to 1e-8, so the span is that of all columns.
    whole = CCA(reg=0).fit(wikipedia.train)
    assert whole.n_components_ == 9
    np.testing.assert_allclose(whole.correlations_, cca.correlations_, rtol=0, atol=1e-8)


@pytest.mark.parametrize("c", [0.05, 0.5, 0.9])
def test_shrinkage_gives_the_directions_of_cca_zoo(c):
    from cca_zoo.linear import RidgeCCA

    reference = RidgeCCA(n_components=3, shrinkage=c).fit([X - X.mean(0), T - T.mean(0)])
    cca = CCA(3, reg=c, reg_style="shrink").fit(X, T)
    for role, weights in zip(("image", "text"), reference.weights_):
        assert alike(cca.weights_[role], np.asarray(weights)) > 1 - 1e-8


def test_one_hot_labels_give_the_directions_of_lda():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 300)
    x = rng.normal(size=(4, 7))[y] + rng.normal(size=(300, 7)) @ rng.normal(size=(7, 7))
    cca = CCA(reg=0).fit(x, np.eye(4)[y])
    assert cca.n_components_ == 3  # one-hot columns sum to one
    lda = LinearDiscriminantAnalysis(solver="eigen").fit(x, y)
    assert alike(cca.weights_["image"], lda.scalings_[:, :3]) > 1 - 1e-8
    between, Z = lda.transform(x), cca.transform(x)
    for k in range(3):
        assert abs(np.corrcoef(between[:, k], Z[:, k])[0, 1]) > 1 - 1e-10


# ---- what defines it -------------------------------------------------------------------


@pytest.mark.parametrize("standardize", [False, True])
def test_scores_are_white_and_cross_covariances_diagonal(standardize):
    cca = CCA(reg=0, power=0, standardize=standardize).fit(X, T)
    Zx, Zt = cca.transform(X, T)
    np.testing.assert_allclose(cov(Zx), np.eye(4), atol=1e-10)
    np.testing.assert_allclose(cov(Zt), np.eye(4), atol=1e-10)
    np.testing.assert_allclose(cov(Zx, Zt), np.diag(cca.correlations_), atol=1e-10)
    np.testing.assert_allclose(Zx.mean(0), 0, atol=1e-10)
    assert np.all(np.diff(cca.correlations_) <= 0) and np.all(cca.correlations_ <= 1)


def regularised(S, r, style):
    d = len(S)
    return {
        "ridge": S + r * np.eye(d),
        "relative": S + r * np.trace(S) / d * np.eye(d),
        "shrink": (1 - r) * S + r * np.eye(d),
        "spectral": S + r * np.linalg.eigvalsh(S).max() * np.eye(d),
    }[style]


@pytest.mark.parametrize("style", ["ridge", "relative", "shrink", "spectral"])
@pytest.mark.parametrize("r", [0.0, 1e-3, 0.7])
@pytest.mark.parametrize("standardize", [False, True])
def test_weights_solve_the_generalised_pencil(style, r, standardize):
    x, t = ((part - part.mean(0)) * np.linspace(0.3, 4, part.shape[1]) for part in (X, T))
    cca = CCA(reg=r, reg_style=style, power=0, standardize=standardize).fit(x, t)
    scales = {role: part.std(0, ddof=1) if standardize else np.ones(part.shape[1])
              for role, part in (("image", x), ("text", t))}  # fmt: skip
    x, t = x / scales["image"], t / scales["text"]
    Sx, St, C = regularised(cov(x), r, style), regularised(cov(t), r, style), cov(x, t)
    S = np.block([[Sx, C], [C.T, St]])
    B = scipy.linalg.block_diag(Sx, St)
    values = scipy.linalg.eigh(S, B, eigvals_only=True)[::-1]
    np.testing.assert_allclose(values[:4], 1 + cca.correlations_, atol=1e-10)
    np.testing.assert_allclose(values[-4:][::-1], 1 - cca.correlations_, atol=1e-10)
    A = cca.weights_["image"] * scales["image"][:, None]
    D = cca.weights_["text"] * scales["text"][:, None]
    np.testing.assert_allclose(A.T @ Sx @ A, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(D.T @ St @ D, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(C @ D, Sx @ A * cca.correlations_, atol=1e-9)
    np.testing.assert_allclose(C.T @ A, St @ D * cca.correlations_, atol=1e-9)


@pytest.mark.parametrize("style", ["ridge", "relative", "spectral"])
def test_endless_ridge_gives_the_directions_of_pls_svd(style):
    cca = CCA(reg=1e9, reg_style=style).fit(X, T)
    U, _, Vt = np.linalg.svd(cov(X, T), full_matrices=False)
    assert alike(cca.weights_["image"], U) > 1 - 1e-8
    assert alike(cca.weights_["text"], Vt.T) > 1 - 1e-8
    assert cca.correlations_.max() < 1e-6


def test_full_shrinkage_is_pls_svd():
    cca = CCA(reg=1, reg_style="shrink").fit(X, T)
    U, _, Vt = np.linalg.svd(cov(X, T), full_matrices=False)
    assert alike(cca.weights_["image"], U) > 1 - 1e-10 and alike(cca.weights_["text"], Vt.T) > 0.999


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(-3, 3))
def test_affine_invariance_without_a_ridge(seed, decades):
    rng = np.random.default_rng(seed)
    x, t = pairs(60, 4, 3, seed=seed)
    U, V = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    A = U @ np.diag(rng.uniform(0.1, 10, 4)) @ V * 10**decades
    Zx, Zt = CCA(reg=0).fit_transform(x, t)
    moved = x @ A + 10**decades * rng.normal(size=4)
    Wx, Wt = CCA(reg=0).fit_transform(moved, t)
    # Signs follow the weights, which the map changes.
    signs = np.sign(np.sum(Zt * Wt, axis=0))
    np.testing.assert_allclose(Wx * signs, Zx, atol=1e-7)
    np.testing.assert_allclose(Wt * signs, Zt, atol=1e-7)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(30)), st.permutations(range(5)))
def test_permuting_rows_and_columns_permutes_weights(rows, columns):
    x, t = pairs(30, 5, 4)
    cca = CCA().fit(x, t)
    other = CCA().fit(x[rows][:, columns], t[rows])
    np.testing.assert_allclose(other.correlations_, cca.correlations_, atol=1e-12)
    np.testing.assert_allclose(other.weights_["image"], cca.weights_["image"][columns], atol=1e-9)
    np.testing.assert_allclose(other.weights_["text"], cca.weights_["text"], atol=1e-9)


def test_the_relative_ridge_is_free_of_scale():
    small = CCA(reg=0.1).fit(X, T)
    large = CCA(reg=0.1).fit(1e4 * X, T)
    np.testing.assert_allclose(large.correlations_, small.correlations_, rtol=1e-10)
    np.testing.assert_allclose(large.transform(1e4 * X), small.transform(X), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("standardize", [False, True])
def test_sign_convention(standardize):
    scales = np.array([1, 1e3, 1, 1e-3, 1, 1])
    weights = CCA(standardize=standardize).fit(X * scales, T).weights_
    largest = np.argmax(np.abs(weights["image"]), axis=0)
    assert np.all(weights["image"][largest, np.arange(4)] > 0)
    flipped = CCA(standardize=standardize).fit(-X * scales, T).weights_
    np.testing.assert_allclose(flipped["image"], weights["image"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(flipped["text"], -weights["text"], rtol=1e-6, atol=1e-9)


def test_power_scales_every_dimension_by_its_correlation():
    plain, powered = CCA(reg=0, power=0).fit(X, T), CCA(reg=0, power=3.0).fit(X, T)
    for role, part in (("image", X), ("text", T)):
        Z = plain.encode(part, role) * plain.correlations_**3
        np.testing.assert_allclose(powered.encode(part, role), Z, atol=1e-12)
    np.testing.assert_array_equal(powered.correlations_, plain.correlations_)


def test_standardize_is_scaling_by_training_deviations():
    deviations = X.std(0, ddof=1)
    a = CCA(reg=0.1, reg_style="ridge", standardize=True).fit(X, T)
    b = CCA(reg=0.1, reg_style="ridge").fit(X / deviations, T / T.std(0, ddof=1))
    np.testing.assert_allclose(a.transform(X), b.transform(X / deviations), atol=1e-10)
    np.testing.assert_allclose(a.transform(X + 1)[0], b.transform((X + 1) / deviations)[0])


def test_fewer_components_are_the_first():
    whole, two = CCA().fit(X, T), CCA(2).fit(X, T)
    assert two.n_components_ == 2 and two.transform(X).shape == (200, 2)
    np.testing.assert_array_equal(two.weights_["text"], whole.weights_["text"][:, :2])
    np.testing.assert_array_equal(two.correlations_, whole.correlations_[:2])


# ---- regularisation by view ------------------------------------------------------------


def test_regularisation_by_role_or_view_name():
    views = Views(photo=X, caption=T)
    by_role = CCA(reg={"image": 0.3, "text": 0.0}, power=0).fit(views)
    by_name = CCA(reg={"photo": 0.3, "caption": 0.0}, power=0).fit(views)
    np.testing.assert_array_equal(by_role.weights_["image"], by_name.weights_["image"])
    A, D = by_role.weights_["image"], by_role.weights_["text"]
    S = regularised(cov(X), 0.3, "relative")
    np.testing.assert_allclose(A.T @ S @ A, np.eye(4), atol=1e-10)
    np.testing.assert_allclose(D.T @ cov(T) @ D, np.eye(4), atol=1e-10)


BAD = [
    ({"n_components": 0}, "'n_components' parameter.*Got 0"),
    ({"n_components": 1.5}, "n_components.*1.5"),
    ({"n_components": "2"}, "n_components"),
    ({"reg": -1}, "'reg' parameter.*Got -1"),
    ({"reg": np.nan}, "'reg' parameter.*nan"),
    ({"reg": np.inf}, "reg.*inf"),
    ({"reg": "much"}, "reg.*'much'"),
    ({"reg": {"image": 1.0}}, "reg has no entry for 'text', got image"),
    ({"reg_style": "lasso"}, "'reg_style' parameter.*'lasso'"),
    ({"reg": 1.5, "reg_style": "shrink"}, "at most 1 with reg_style='shrink', got 1.5"),
    ({"power": "two"}, "'power' parameter.*Got 'two'"),
    ({"power": -1.0}, "'power' parameter.*Got -1"),
]


@pytest.mark.parametrize("settings_, message", BAD)
def test_bad_parameters(settings_, message):
    with pytest.raises(ValueError, match=message):
        CCA(**settings_).fit(X, T)


# ---- hard inputs -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [10, 300])
def test_histograms_lose_the_dimension_that_follows_from_the_others(dtype, p):
    rng = np.random.default_rng(0)
    x, t = (rng.dirichlet(np.ones(d), 600).astype(dtype) for d in (p, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cca = CCA(reg=0, power=0).fit(x, t)
    assert cca.n_components_ == 7
    reduced = CCA(reg=0).fit(x[:, 1:], t[:, 1:])
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(cca.correlations_, reduced.correlations_, atol=tolerance)
    np.testing.assert_allclose(cov(cca.transform(x)), np.eye(7), atol=10 * tolerance)


def test_float32_among_float64_does_not_make_rounding_a_dimension():
    rng = np.random.default_rng(0)
    a, b, t = rng.normal(size=(600, 2)), rng.normal(size=(600, 2)), rng.normal(size=(600, 12))
    x = (np.hstack([a, b, a + b]) + 100).astype(np.float32)
    assert np.linalg.matrix_rank(x.astype(float) - x.mean(0, dtype=float)) == 6  # of rounding
    assert CCA(reg=0).fit(x, t).n_components_ == CCA(reg=0).fit(x, t.astype("f")).n_components_ == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fewer_rows_than_columns(dtype):
    x, t = (part.astype(dtype) for part in pairs(20, 50, 40))
    cca = CCA(reg=0).fit(x, t)
    assert cca.n_components_ == 19  # centring costs one
    np.testing.assert_allclose(cca.correlations_, 1, atol=1e-3 if dtype == np.float32 else 1e-9)
    np.testing.assert_allclose(cov(cca.transform(x)), np.eye(19), atol=1e-2)
    ridge = CCA(reg=0.5).fit(x, t)
    assert ridge.correlations_.max() < 0.999 and np.isfinite(ridge.transform(x)).all()


def test_low_rank():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 50))
    t = x @ rng.normal(size=(50, 20)) + 0.1 * rng.normal(size=(300, 20))
    cca = CCA(reg=0).fit(x, t)
    assert cca.n_components_ == 3
    U, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    reference = CCA(reg=0).fit(U[:, :3] * s[:3], t)
    np.testing.assert_allclose(cca.correlations_, reference.correlations_, atol=1e-10)
    assert np.abs(cca.transform(x)).max() < 10


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6, -3.3e-7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("standardize", [False, True])
def test_constant_columns_change_nothing(constant, dtype, standardize):
    x, t = X.astype(dtype), T.astype(dtype)
    with_constant = np.insert(x, 2, constant, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cca = CCA(reg=0, standardize=standardize).fit(with_constant, t)
    plain = CCA(reg=0, standardize=standardize).fit(x, t)
    assert np.allclose(cca.weights_["image"][2], 0)
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(cca.correlations_, plain.correlations_, atol=tolerance)
    np.testing.assert_allclose(cca.transform(with_constant), plain.transform(x), atol=tolerance)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, 1e8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reg", [0.0, 1e-3])
def test_a_view_without_variance_is_refused(constant, dtype, reg):
    still = np.full((200, 3), constant, dtype)
    with pytest.raises(ValueError, match="CCA: view 'text' is constant"):
        CCA(reg=reg).fit(X, still)
    with pytest.raises(ValueError, match="view 'caption' is constant"):
        CCA(reg=reg).fit(Views(photo=X, caption=still))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_whatever_the_value_and_the_number_of_rows(dtype):
    rng = np.random.default_rng(0)
    for n in (3, 100, 4096, 9999):
        values = (rng.normal(size=50) * 10.0 ** rng.integers(-9, 9, 50)).astype(dtype)
        moments = Moments()
        moments.update(Views(a=np.tile(values, (n, 1))))
        assert not moments.covariance().any()


def test_constant_in_the_first_chunk_alone():
    x = np.random.default_rng(0).normal(size=(10_000, 2))
    late = np.full((10_000, 1), 0.1)
    late[-1] = 0.2
    cca = CCA(reg=0, power=0).fit(x, late)
    assert cca.n_components_ == 1
    np.testing.assert_allclose(np.std(cca.encode(late, "text"), ddof=1), 1)


def test_more_components_than_the_rank_allows_are_warned_of():
    with pytest.warns(UserWarning, match="n_components=9 is more than.*rank allows; 4 are kept"):
        cca = CCA(9).fit(X, T)
    assert cca.n_components_ == 4 and cca.transform(X).shape[1] == 4
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        CCA(9).fit(X, T)
    assert seen[0].filename == __file__


def test_components_that_a_ridge_leaves_within_rounding_are_not_kept():
    Z = np.random.default_rng(0).normal(size=(50, 3))
    X = (Z * [1, 1, 1e-4]).astype(np.float32)
    with pytest.warns(UserWarning, match=r"=3 is more than the directions whose correlation .*; 2"):
        assert CCA(3, reg=10.0).fit(X, X).correlations_.shape == (2,)
    assert CCA(3, reg=1e-9).fit(X, X).correlations_.shape == (3,)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reg", [0.0, 0.1])
@pytest.mark.filterwarnings("error")
def test_scales(scale, dtype, reg):
    plain = CCA(reg=reg).fit(X, T)
    x, t = (scale * X).astype(dtype), (T / scale).astype(dtype)
    cca = CCA(reg=reg).fit(x, t)
    tolerance = 2e-4 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(cca.correlations_, plain.correlations_, atol=tolerance)
    np.testing.assert_allclose(cca.transform(x), plain.transform(X), atol=10 * tolerance)
    np.testing.assert_allclose(cca.similarity(x, t), plain.similarity(X, T), atol=10 * tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scales_within_a_view_do_not_decide_without_a_ridge(dtype):
    scales = np.logspace(-12, 12, 6)
    cca = CCA(reg=0).fit((X * scales).astype(dtype), T.astype(dtype))
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(
        cca.correlations_, CCA(reg=0).fit(X, T).correlations_, atol=tolerance
    )


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-2), (np.float64, 1e-6)])
def test_a_large_mean_costs_no_more_than_the_type(dtype, tolerance):
    mean = 1e4
    cca = CCA(reg=0).fit((X + mean).astype(dtype), T.astype(dtype))
    plain = CCA(reg=0).fit(X, T)
    np.testing.assert_allclose(cca.correlations_, plain.correlations_, atol=tolerance)
    assert cca.transform((X + mean).astype(dtype)).dtype == dtype


def test_float32_agrees_with_float64():
    a, b = CCA().fit(X, T), CCA().fit(X.astype(np.float32), T.astype(np.float32))
    np.testing.assert_allclose(b.correlations_, a.correlations_, atol=1e-5)
    Z = b.transform(X.astype(np.float32))
    assert Z.dtype == np.float32
    np.testing.assert_allclose(Z, a.transform(X), atol=1e-4)
    assert b.encode(T, "text").dtype == np.float64


def test_two_rows():
    cca = CCA(reg=0).fit(X[:2], T[:2])
    assert cca.n_components_ == 1 and cca.correlations_ == pytest.approx([1])


# ---- forms of the input ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memmaps_and_csr_equal_dense(tmp_path, dtype):
    n = 9000  # more than two chunks
    rng = np.random.default_rng(0)
    x, t = pairs(n, 12, 7)
    x[rng.random(x.shape) < 0.7] = 0
    x, t = x.astype(dtype), t.astype(dtype)
    np.save(tmp_path / "x.npy", x)
    dense = CCA().fit(x, t)
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for form in (mapped, sp.csr_array(x), sp.csr_matrix(x), sp.coo_array(x)):
        cca = CCA().fit(form, t)
        np.testing.assert_allclose(cca.correlations_, dense.correlations_, atol=tolerance)
        Z = cca.transform(form)
        assert isinstance(Z, np.ndarray) and Z.dtype == dtype
        np.testing.assert_allclose(Z, dense.transform(x), atol=10 * tolerance)
    both = CCA().fit(sp.csr_array(x), sp.csr_array(t))
    np.testing.assert_allclose(both.correlations_, dense.correlations_, atol=tolerance)


def test_the_ridge_of_a_sparse_view_counts_zeros():
    x = sp.random_array((300, 9), density=0.1, rng=np.random.default_rng(0), format="csr")
    np.testing.assert_allclose(
        CCA().fit(x, T[:1].repeat(300, 0) + np.arange(300)[:, None]).means_["image"],
        x.toarray().mean(0),
    )


def test_moments_over_chunks_and_calls_equal_numpy():
    x, t = pairs(9001, 5, 3)
    x += np.array([0, 1e3, -1e3, 5, 0])
    moments = Moments()
    moments.update(Views(a=x[:17], b=t[:17]))
    moments.update(Views(a=x[17:], b=t[17:]))
    assert moments.n == 9001
    np.testing.assert_allclose(moments.covariance(), np.cov(np.hstack([x, t]).T), atol=1e-9)
    np.testing.assert_allclose(moments.means()[0], x.mean(0))
    assert [b.stop - b.start for b in moments.blocks()] == [5, 3]


def test_float32_sums_lose_nothing_over_many_rows():
    n = 200_000
    x = np.random.default_rng(0).normal(loc=(100, 0, -5), size=(n, 3)).astype(np.float32)
    moments = Moments()
    moments.update(Views(a=x))
    np.testing.assert_allclose(moments.covariance(), np.cov(x.astype(float).T), atol=2e-6)
    np.testing.assert_allclose(moments.means()[0], x.mean(0, dtype=float), atol=1e-7)


# ---- more than two views ---------------------------------------------------------------


def three(n=300, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 2))
    return [Z @ rng.normal(size=(2, d)) + rng.normal(size=(n, d)) for d in (5, 4, 3)]


@pytest.mark.parametrize("style, r", [("relative", 0.2), ("ridge", 0.0), ("shrink", 0.3)])
def test_three_views_solve_the_stacked_pencil(style, r):
    parts = three()
    cca = CCA(reg=r, reg_style=style, power=0)
    cca.fit(Views(image=parts[0], text=parts[1], audio=parts[2]))
    S = np.cov(np.hstack(parts).T)
    blocks = [slice(0, 5), slice(5, 9), slice(9, 12)]
    B = np.zeros_like(S)
    for b in blocks:
        B[b, b] = regularised(S[b, b], r, style)
        S[b, b] = B[b, b]  # the ridge in both, otherwise the eigenvalues differ
    values, vectors = scipy.linalg.eigh(S, B)
    values, vectors = values[::-1][:3], vectors[:, ::-1][:, :3]
    np.testing.assert_allclose((values - 1) / 2, cca.correlations_, atol=1e-10)
    stacked = np.vstack(list(cca.weights_.values()))
    assert alike(stacked, vectors) > 1 - 1e-8
    np.testing.assert_allclose(stacked.T @ B @ stacked, 3 * np.eye(3), atol=1e-9)


def test_the_correlation_of_three_views_is_the_mean_over_pairs():
    parts = three()
    cca = CCA(reg=0, power=0).fit(Views(image=parts[0], text=parts[1], audio=parts[2]))
    Z = [cca.encode(part, name) for part, name in zip(parts, ("image", "text", "audio"))]
    each = [np.diag(cov(Z[i], Z[j])) for i in range(3) for j in range(i)]
    np.testing.assert_allclose(np.mean(each, axis=0), cca.correlations_, atol=1e-10)


def test_stacking_two_views_equals_the_two_view_route():
    from crossfit.subspace.cca import _decompose

    S = np.cov(np.hstack([X, T]).T)
    blocks = [slice(0, 6), slice(6, 10)]
    W = [whiten(S[b, b], 1e-12) for b in blocks]
    rho, (U, V) = _decompose(S, blocks, W)
    # A third, unrelated view does not change the other two.
    S3 = scipy.linalg.block_diag(S, np.eye(2))
    rho3, (U3, V3, L3) = _decompose(S3, [*blocks, slice(10, 12)], [*W, np.eye(2)])
    np.testing.assert_allclose(2 * rho3, rho[:2], atol=1e-12)
    np.testing.assert_allclose(L3, 0, atol=1e-10)
    assert alike(U3, U[:, :2]) > 1 - 1e-10 and alike(V3, V[:, :2]) > 1 - 1e-10


def test_three_views_of_which_two_are_one():
    x, t = pairs()
    cca = CCA(reg=0).fit(Views(image=x, text=t, audio=t))
    np.testing.assert_allclose(cca.weights_["audio"], cca.weights_["text"], atol=1e-8)
    same = CCA(reg=0).fit(Views(image=t, text=t, audio=t))
    np.testing.assert_allclose(same.correlations_, 1, atol=1e-10)
    np.testing.assert_allclose(same.weights_["image"], same.weights_["audio"], atol=1e-8)


def test_three_views_take_every_reg_and_score():
    parts = three()
    v = Views(image=parts[0], text=parts[1], audio=parts[2])
    cca = CCA(2, reg={"image": 0.1, "text": 0.2, "audio": 0.3}, power=1.0).fit(v)
    assert cca.transform(v).names == v.names
    assert 0.02 < cca.score(v) <= 1
    with pytest.raises(ValueError, match="reg has no entry for 'audio', got image, text"):
        CCA(reg={"image": 0.1, "text": 0.2}).fit(v)


# ---- algebra ---------------------------------------------------------------------------


def test_whiten():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(6, 4)) * np.logspace(-8, 8, 6)[:, None]
    S = A @ A.T
    W = whiten(S, 1e-13)
    assert W.shape == (6, 4)
    np.testing.assert_allclose(W.T @ S @ W, np.eye(4), atol=1e-8)
    assert whiten(np.zeros((3, 3)), 1e-13).shape == (3, 0)


def test_fix_signs():
    first, second = fix_signs([np.array([[1.0, 2], [-3, 1]]), np.array([[5.0, 6]])])
    assert first.tolist() == [[-1, 2], [3, 1]] and second.tolist() == [[-5, 6]]


# ---- measured on real data -------------------------------------------------------------

WIKIPEDIA = {
    "k=7 r=0": ({"n_components": 7, "reg": 0, "power": 0}, 0.2463, 0.2007),
    "k=5 ridge": (
        {"n_components": 5, "reg": 0.1, "reg_style": "ridge", "power": 0}, 0.2592, 0.2051),
    "k=9 spectral": (
        {"n_components": 9, "reg": 0.1, "reg_style": "spectral", "power": 0}, 0.2510, 0.2038),
    "k=9 spectral p=1": (
        {"n_components": 9, "reg": 0.1, "reg_style": "spectral", "power": 1.0}, 0.2673, 0.2223),
}  # fmt: skip


@pytest.mark.parametrize("row", WIKIPEDIA)
def test_wikipedia(wikipedia, row):
    parameters, i2t, t2i = WIKIPEDIA[row]
    cca = CCA(standardize=True, **parameters).fit(wikipedia.train)
    for direction, expected in (("i2t", i2t), ("t2i", t2i)):
        found = make_retrieval_scorer("map@all", direction)(cca, wikipedia.test, wikipedia.y_test)
        assert found == pytest.approx(expected, abs=0.003)


def test_wikipedia_462(wikipedia):
    rows = wikipedia.rows_462
    assert len(rows) == 462
    assert np.bincount(wikipedia.y_test[rows])[1:].tolist() == [
        25,
        60,
        63,
        58,
        40,
        39,
        34,
        29,
        43,
        71,
    ]
    cca = CCA(7, reg=0, power=0, standardize=True).fit(wikipedia.train)
    for direction, expected in (("i2t", 0.2539), ("t2i", 0.2100)):
        score = make_retrieval_scorer("map@all", direction)
        found = score(cca, wikipedia.test[rows], wikipedia.y_test[rows])
        assert found == pytest.approx(expected, abs=0.003)


def test_wikipedia_other_measures(wikipedia):
    cca = CCA(7, reg=0, power=0, standardize=True).fit(wikipedia.train)
    for metric, labelled, i2t, t2i in [
        ("map@50:hits", True, 0.264, 0.345),
        ("map@50:all", True, 0.085, 0.063),
        ("map@50:min", True, 0.137, 0.103),
        ("mrr", False, 0.020, 0.024),
    ]:
        y = wikipedia.y_test if labelled else None
        for direction, expected in (("i2t", i2t), ("t2i", t2i)):
            found = make_retrieval_scorer(metric, direction)(cca, wikipedia.test, y)
            assert found == pytest.approx(expected, abs=0.003), (metric, direction)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_views", [2, 3])
def test_directions_without_correlation_are_left_out_with_a_ridge_too(dtype, n_views):
    """Forty rows of sixty columns have thirty-nine correlated directions, whatever the ridge."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(40, 60))
    views = {
        name: (Z + rng.normal(size=(40, 60))).astype(dtype)
        for name in ("image", "text", "audio")[:n_views]
    }
    cca = CCA(n_components=None, reg=0.1).fit(Views(views))
    assert cca.n_components_ == 39 and cca.correlations_[-1] > 0.01
    with pytest.warns(UserWarning, match="39 are kept"):
        CCA(n_components=50, reg=0.1).fit(Views(views))


# ---- views with more columns than items --------------------------------------------------


def wide_views(dtype=np.float64, sparse=False, captions=False):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(30, 6))
    image = (Z @ rng.normal(size=(6, 90)) + rng.normal(size=(30, 90)) + 3).astype(dtype)
    text = (Z @ rng.normal(size=(6, 50)) + rng.normal(size=(30, 50))).astype(dtype)
    image[:, 5] = 2  # constant
    if sparse:
        image = sp.csr_array(np.where(np.abs(image) > 3, image, 0))
    if captions:
        index = rng.permutation(np.r_[np.arange(30), rng.integers(0, 30, 25)])
        words = text[index] + rng.normal(size=(55, 50)).astype(dtype)
        return Views.from_captions(image, words, index)
    return Views(image=image, text=text)


@pytest.mark.parametrize("style", ["ridge", "relative", "shrink", "spectral"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("kind", ["dense", "sparse", "captions"])
def test_wide_views_are_solved_in_the_span_of_their_items(monkeypatch, style, standardize, kind):
    views = wide_views(sparse=kind == "sparse", captions=kind == "captions")
    cca = CCA(10, reg=0.2, reg_style=style, standardize=standardize, power=1)
    plain = clone(cca).fit(views)
    monkeypatch.setattr(_span, "WIDE", 1)
    spanned = clone(cca).fit(views)
    np.testing.assert_allclose(spanned.correlations_, plain.correlations_, rtol=1e-9)
    for role in ("image", "text"):
        scale = np.abs(plain.weights_[role]).max()
        np.testing.assert_allclose(spanned.weights_[role], plain.weights_[role], atol=1e-9 * scale)
        np.testing.assert_allclose(spanned.means_[role], plain.means_[role], atol=1e-12)
    np.testing.assert_allclose(spanned.similarity(views), plain.similarity(views), atol=1e-6)


def test_wide_views_without_a_ridge_and_in_float32(monkeypatch):
    monkeypatch.setattr(_span, "WIDE", 1)
    assert CCA(reg=0).fit(wide_views()).n_components_ == 29
    coarse = CCA(5, reg=0.2).fit(wide_views(np.float32))
    exact = CCA(5, reg=0.2).fit(wide_views())
    np.testing.assert_allclose(coarse.correlations_, exact.correlations_, atol=1e-5)
    assert coarse.encode(wide_views(np.float32)["image"], "image").dtype == np.float32


def test_words_by_the_ten_thousand_need_no_covariance_of_them():
    rng = np.random.default_rng(0)
    counts = sp.random_array((200, 30_000), density=0.01, rng=rng, format="csr")
    image = counts @ rng.normal(size=(30_000, 20))
    tracemalloc.start()
    cca = CCA(5, reg=0.1).fit(image, counts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cca.correlations_[0] > 0.9
    assert peak < 4e8  # the covariance would be 7.2e9
