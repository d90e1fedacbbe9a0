"""Degenerate, tiny, huge and permuted data for the methods on covariances and labels."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from crossfit import Views
from crossfit.subspace import BLM, CCA3V, CM, GMLDA, GMMFA, LCFS, LGCFL, SCM, SM

# The stopping rule of a solver must not be mistaken for a property of the method.
EXACT = LogisticRegression(tol=1e-10, max_iter=10_000)
METHODS = {
    "CM": CM(3),
    "SM": SM(EXACT),
    "SCM": SCM(3, classifier=EXACT),
    "CCA3V": CCA3V(3, random_state=0),
    "BLM": BLM(3),
    "GMLDA": GMLDA(2),
    "GMMFA": GMMFA(2, n_within=8, n_between=60),
    "LCFS": LCFS(1.0),
    "LGCFL": LGCFL(2.0, 2.0, groups=2),
}
SUPERVISED = [name for name, method in METHODS.items() if method.card.labels != "none"]


def make(name, **given):
    return METHODS[name].__class__(**{**METHODS[name].get_params(deep=False), **given})


def data(n=90, dims=(6, 5), classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    Z = 2 * rng.normal(size=(classes, 3))[y] + rng.normal(size=(n, 3))
    X, T = (Z @ rng.normal(size=(3, d)) + rng.normal(size=(n, d)) for d in dims)
    return X, T, y


X, T, Y = data()
each = pytest.mark.parametrize("name", list(METHODS))


def scores(name, x, t, y, **given):
    found = make(name, **given).fit(x, t, y).similarity(x, t)
    assert np.isfinite(found).all()
    return found


def close(a, b, atol=2e-5):
    np.testing.assert_allclose(a, b, atol=atol)


# ---- invariances ------------------------------------------------------------------------


@each
@settings(deadline=None, max_examples=8)
@given(order=st.permutations(range(90)))
def test_the_order_of_rows(name, order):
    fitted, other = make(name).fit(X, T, Y), make(name).fit(X[order], T[order], Y[order])
    close(other.similarity(X, T), fitted.similarity(X, T))


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("LCFS", "LGCFL")])
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_an_orthogonal_map_of_the_features(name, seed):
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.normal(size=(d, d)))[0] for d in (6, 5))
    plain = scores(name, X, T, Y, standardize=False)
    close(scores(name, X @ U + rng.normal(size=6), T @ V, Y, standardize=False), plain, 1e-4)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_an_orthogonal_map_does_not_matter_to_one_group_of_features(seed):
    U = np.linalg.qr(np.random.default_rng(seed).normal(size=(6, 6)))[0]
    plain = scores("LGCFL", X, T, Y, standardize=False, groups=6)
    close(scores("LGCFL", X @ U, T, Y, standardize=False, groups=6), plain)


@each
@settings(deadline=None, max_examples=5)
@given(order=st.permutations(range(6)))
def test_the_order_of_columns(name, order):
    given = {"groups": {"image": np.arange(6) // 2, "text": 1}} if name == "LGCFL" else {}
    moved = {"groups": {"image": (np.arange(6) // 2)[order], "text": 1}} if given else {}
    close(scores(name, X[:, order], T, Y, **moved), scores(name, X, T, Y, **given))


@each
def test_shifts_and_units_of_columns_where_they_are_standardised(name):
    units = np.array([1e-3, 1, 1e3, 5, 1, 10])
    plain = scores(name, X, T, Y, standardize=True)
    close(scores(name, X * units + 7, T, Y, standardize=True), plain)


HALF = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000)
DOUBLED = {
    # Sums double, and so must the weights of the terms that they are compared with.
    "SM": ({}, {"classifier": HALF}),
    "SCM": ({}, {"classifier": HALF}),
    "LCFS": ({"l2": 0.0}, {"l1": 2.0, "l2": 0.0}),
    "LGCFL": ({}, {"l1": 4.0, "l2": 4.0}),
}


@pytest.mark.parametrize("name", [n for n in METHODS if n != "GMMFA"])
def test_every_row_twice(name):
    one, two = DOUBLED.get(name, ({}, {}))
    given = {} if name in ("CM", "SM", "SCM", "CCA3V") else {"standardize": False}
    plain = make(name, **given, **one).fit(X, T, Y)
    x, t, y = (np.repeat(part, 2, axis=0) for part in (X, T, Y))
    twice = make(name, **given, **two).fit(x, t, y)
    # Variances with n - 1 differ by half a per cent, and so do the scores of SCM's classifier.
    close(twice.similarity(X, T), plain.similarity(X, T), 2e-3)


@each
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
@pytest.mark.parametrize("standardize", [False, True])
def test_constant_columns(name, constant, standardize):
    if name == "SM" and constant == 1e6 and not standardize:
        pytest.skip("the solver of logistic regression does not converge on such columns")
    given = {"standardize": standardize}
    if name in ("CM", "SCM"):
        given["reg"] = 0.0  # relative to the mean variance, to which the column contributes
    if name == "CCA3V":
        given["reg_style"] = "ridge"
    if name == "LGCFL":
        given["groups"] = 1
    plain = scores(name, X, T, Y, **given)
    close(scores(name, np.insert(X, 3, constant, axis=1), T, Y, **given), plain, 1e-4)


# ---- degenerate data --------------------------------------------------------------------


@each
@pytest.mark.parametrize("standardize", [False, True])
def test_perfectly_correlated_columns(name, standardize):
    x = np.column_stack([X, X[:, 0], X[:, 1] - X[:, 2]])
    found = make(name, standardize=standardize).fit(x, T, Y)
    plain = make(name, standardize=standardize).fit(X, T, Y)
    assert abs(found.score(x, T, Y) - plain.score(X, T, Y)) < 0.1
    assert np.abs(found.transform(x)).max() < 1e3 * np.abs(plain.transform(X)).max()


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fewer_rows_than_columns(name, dtype):
    x, t, y = data(24, (80, 50))
    x, t = x.astype(dtype), t.astype(dtype)
    method = make(name).fit(x, t, y)
    assert np.isfinite(method.similarity(x, t)).all() and method.transform(x).dtype == dtype
    new = data(24, (80, 50), seed=1)[0].astype(dtype)
    assert np.abs(method.transform(new)).max() < 1e3 * np.abs(method.transform(x)).max()


@each
def test_histograms(name):
    rng = np.random.default_rng(0)
    x, t = (
        np.array([rng.dirichlet(5 * np.eye(3)[c] + 1) for c in Y], dtype=np.float32)
        for _ in range(2)
    )
    given = {"n_components": 2} if "n_components" in METHODS[name].get_params() else {}
    assert make(name, **given).fit(x, t, Y).score(x, t, Y) > 0.5


@each
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_view_without_variance_is_refused(name, constant, dtype):
    flat = np.full((90, 3), constant, dtype)
    with pytest.raises(ValueError, match="view 'caption' is constant"):
        make(name).fit(Views(photo=X.astype(dtype), caption=flat), Y)


@pytest.mark.parametrize("name", SUPERVISED)
def test_one_class_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} needs at least 2 classes, got 1"):
        make(name).fit(X, T, np.zeros(90, int))


@pytest.mark.parametrize("name", SUPERVISED)
def test_unlabelled_rows_are_refused(name):
    y = Y.copy()
    y[:7] = -1
    with pytest.raises(ValueError, match=f"{name}: needs a label for every row, got 7 rows"):
        make(name).fit(X, T, y)


@pytest.mark.parametrize("name", SUPERVISED)
@pytest.mark.parametrize("kind", [str, np.float64, bool, np.uint8])
def test_types_of_labels(name, kind):
    y = Y > 0 if kind is bool else Y.astype(kind)
    codes = np.unique(y, return_inverse=True)[1]
    close(scores(name, X, T, y), scores(name, X, T, codes))


@each
@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("error")
def test_scales_of_whole_views(name, scale, dtype):
    # Methods that add up views or weight features need equal units, so standardise.
    plain = scores(name, X, T, Y, standardize=True)
    x, t = (scale * X).astype(dtype), (T / scale).astype(dtype)
    tolerance = 5e-3 if dtype == np.float32 else 1e-4
    close(scores(name, x, t, Y, standardize=True), plain, tolerance)


@each
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scales_without_standardising_are_never_silent_junk(name, scale):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        method = make(name, standardize=False).fit(scale * X, T, Y)
    found = method.similarity(scale * X, T)
    assert np.isfinite(found).all() and np.isfinite(method.transform(scale * X)).all()
    assert method.score(scale * X, T, Y) > 0.8 or "predicts the same" in str(said[0].message)
    if name in ("LCFS", "LGCFL") and scale < 1:
        assert "no feature of view 'image' is left" in str(said[0].message)
    assert all(warning.filename == __file__ for warning in said)


@pytest.mark.parametrize("name", ["CM", "CCA3V", "BLM", "GMLDA", "GMMFA", "SCM"])
def test_more_components_than_there_are(name):
    with pytest.warns(UserWarning, match="n_components=1000 is more than .* are kept"):
        method = make(name, n_components=1000).fit(X, T, Y)
    assert method.transform(X).shape[1] < 20
    assert np.isfinite(method.similarity(X, T)).all()


@each
def test_sparse_rows_and_read_only_rows(name):
    x = np.where(np.abs(X) < 1, 0, X)
    expected = scores(name, x, T, Y)
    close(scores(name, sp.csr_array(x), T, Y), expected)
    x.setflags(write=False)
    close(scores(name, x, T, Y), expected, 1e-6)


@each
def test_tensors(name):
    torch = pytest.importorskip("torch")
    method = make(name).fit(torch.asarray(X), torch.asarray(T), Y)
    found = method.similarity(torch.asarray(X), torch.asarray(T))
    close(found, scores(name, X, T, Y))
