"""Impossible requests, extreme numbers, and global settings of other programs."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from crossfit import Views
from crossfit.subspace import (
    ASIF,
    BLM,
    CCA,
    CCA3V,
    CFA,
    CM,
    CSA,
    GCCA,
    GMLDA,
    GMMFA,
    JFSSL,
    JRL,
    KCCA,
    LCFS,
    LGCFL,
    MACC,
    MLCCA,
    PLS,
    S2UPG,
    SCM,
    SM,
    TCCA,
    Procrustes,
    ReducedRank,
    RidgeMap,
    SparseCCA,
    __all__,
)  # fmt: skip

METHODS = {
    "ASIF": ASIF(20),
    "BLM": BLM(3),
    "CCA": CCA(3),
    "CCA3V": CCA3V(3, random_state=0),
    "CFA": CFA(3),
    "CM": CM(3),
    "CSA": CSA(3),
    "GCCA": GCCA(3),
    "GMLDA": GMLDA(2),
    "GMMFA": GMMFA(3, n_within=5, n_between=40),
    "JFSSL": JFSSL(),
    "JRL": JRL(1.0, 1.0, n_neighbors=8),
    "KCCA": KCCA(3),
    "LCFS": LCFS(1.0),
    "LGCFL": LGCFL(1.0, 1.0),
    "MACC": MACC(3, n_codewords=4),
    "MLCCA": MLCCA(2),
    "PLS": PLS(3),
    "Procrustes": Procrustes(3),
    "ReducedRank": ReducedRank(3),
    "RidgeMap": RidgeMap(),
    "S2UPG": S2UPG(n_neighbors=5, n_votes=8),
    "SCM": SCM(3),
    "SparseCCA": SparseCCA(3),
    "TCCA": TCCA(3),
    "SM": SM(LogisticRegression(max_iter=10_000)),
}
each = pytest.mark.parametrize("name", METHODS)


def test_all_methods_are_here():
    # Texts of the first two are sets of words, and views of Identity share their columns.
    assert {*METHODS, "HGLMMCCA", "GMMHGLMMCCA", "Identity"} == set(__all__)


def data(n=60, p=6, q=5, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    Z = rng.normal(size=(n, 3)) + 2 * rng.normal(size=(3, 3))[y]
    X, T = (Z @ rng.normal(size=(3, d)) + rng.normal(size=(n, d)) for d in (p, q))
    return X, T, y


def noise(n, p, q, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)), rng.normal(size=(n, q)), np.arange(n) % 3


# ---- fits that are perfect on any data ----------------------------------------------------

PERFECT = {
    "CCA": CCA(5, reg=0),
    "CCA, ridge of nothing": CCA(5, reg=1e-9),
    "CM": CM(5, reg=0),
    "GCCA": GCCA(5, reg=0),
    "TCCA": TCCA(5, reg=0),
    "SCM": SCM(5, reg=0),
    "KCCA": KCCA(5, kernel="linear", reg=0),
    "MACC": MACC(5, kernel="linear", reg=0, n_codewords=4),
    "CCA3V": CCA3V(2, reg=0, semantics="labels"),
    "MLCCA": MLCCA(2, reg=0, label_similarity="cosine"),
}


@pytest.mark.parametrize("name", PERFECT)
@pytest.mark.parametrize("n, p, q", [(30, 40, 50), (30, 20, 16)])
def test_noise_that_correlates_perfectly_is_warned_of(name, n, p, q):
    if name == "MLCCA":  # correlates views with labels, and labels are few
        p = q = 50
    with pytest.warns(UserWarning, match=rf"{n} rows are too few.*rank \d+ .image. and \d+ .text"):
        clone(PERFECT[name]).fit(*noise(n, p, q))


def test_how_many_directions_are_perfect():
    X, T, _ = noise(30, 20, 16)
    with pytest.warns(UserWarning, match=r"rank 20 \(a\) and 16 \(b\) .* in 7 directions"):
        cca = CCA(reg=0).fit(Views(a=X, b=T))
    assert np.count_nonzero(cca.correlations_ > 1 - 1e-9) == 7


def test_streams_and_three_views_are_warned_of_too():
    X, T, _ = noise(30, 20, 16)
    streamed = CCA(3, reg=0).partial_fit(X[:10], T[:10]).partial_fit(X[10:], T[10:])
    with pytest.warns(UserWarning, match="30 rows are too few"):
        streamed.transform(X)
    views = Views(image=X, text=T, audio=np.random.default_rng(9).normal(size=(30, 2)))
    with pytest.warns(UserWarning, match="30 rows are too few"):
        CCA(3, reg=0).fit(views)


@pytest.mark.parametrize(
    "made, n, p, q",
    [
        (CCA(5), 30, 40, 50),  # a ridge
        (CCA(3, reg=0), 60, 6, 5),  # enough rows
        (CCA(5, reg=0), 31, 15, 15),  # just enough
        (KCCA(5), 30, 40, 50),
        (CCA3V(2), 90, 6, 5),
        (MLCCA(2), 30, 40, 50),
        (PLS(5), 30, 40, 50),  # a covariance has no upper limit
        (CFA(5), 30, 40, 50),
    ],
)
@pytest.mark.filterwarnings("error")
def test_no_word_where_a_ridge_or_the_rows_prevent_it(made, n, p, q):
    made.fit(*noise(n, p, q))


@pytest.mark.filterwarnings("error")
def test_no_word_about_views_that_are_one_another():
    X, _, _ = data()
    assert CCA(3, reg=0).fit(X, X[:, :5]).correlations_[0] == pytest.approx(1)


# ---- the ends of the range ----------------------------------------------------------------


@each
@pytest.mark.parametrize("kind", ["all", "one column", "negative", "sparse"])
def test_values_whose_products_overflow_are_refused(name, kind):
    X, T, y = data()
    huge = {
        "all": X * 1e200,
        "one column": X * np.r_[1e160, np.ones(5)],
        "negative": -np.abs(X) * 1e200,
        "sparse": sp.csr_array(X * 1e200),
    }[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = r": view 'photo' holds values up to \de\+\d+, whose products leave the range"
        with pytest.raises(ValueError, match=message):
            clone(METHODS[name]).fit(Views(photo=huge, caption=T), y)


def test_partial_fit_refuses_them_and_adds_nothing():
    X, T, _ = data()
    cca = CCA(2).partial_fit(X, T)
    with pytest.raises(ValueError, match="products leave the range"):
        cca.partial_fit(X, T * 1e200)
    np.testing.assert_array_equal(cca.correlations_, CCA(2).partial_fit(X, T).correlations_)


@each
@pytest.mark.parametrize("unit", [1e-30, 1e30])
@pytest.mark.filterwarnings("ignore:.*n_components")
def test_float32_whose_squares_leave_its_range(name, unit):
    X, T, y = (part.astype(np.float32) for part in data())
    y = y.astype(int)
    method = clone(METHODS[name])
    method.set_params(**{"standardize": True} if "standardize" in method.get_params() else {})
    expected = clone(method).fit(X, T, y).similarity(X, T)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        found = method.fit(X * np.float32(unit), T, y).similarity(X * np.float32(unit), T)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


# ---- global settings ----------------------------------------------------------------------


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_settings_of_numpy_and_of_warnings_change_nothing(name, dtype):
    X, T, y = data()
    X, T = X.astype(dtype), T.astype(dtype)
    X[:, 0] = 1e-20 * np.arange(60)  # whose squares underflow
    expected = clone(METHODS[name]).fit(X, T, y)
    state = np.get_printoptions()
    np.set_printoptions(precision=1, threshold=1, legacy="1.13")
    try:
        with np.errstate(all="raise"), warnings.catch_warnings():
            warnings.simplefilter("error")
            found = clone(METHODS[name]).fit(X, T, y)
            S, score, Z = found.similarity(X, T), found.score(X, T, y), found.transform(X, T)
    finally:
        np.set_printoptions(**state)
    np.testing.assert_array_equal(S, expected.similarity(X, T))
    assert score == expected.score(X, T, y)
    for a, b in zip(Z, expected.transform(X, T)):
        np.testing.assert_array_equal(a, b)


def test_streams_do_not_depend_on_them_either():
    X, T, _ = data()
    X[:, 0] = 1e-180 * np.arange(60)
    expected = CCA(3).partial_fit(X[:30], T[:30]).partial_fit(X[30:], T[30:]).transform(X, T)
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = CCA(3).partial_fit(X[:30], T[:30])
        found = found.merge(CCA(3).partial_fit(X[30:], T[30:])).transform(X, T)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-10)
