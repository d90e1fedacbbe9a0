"""Weights of rows: as repeated rows, as rows left out, and through scikit-learn's routing."""

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from scipy.linalg import orthogonal_procrustes
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from crossfit import RetrievalScorer, Views, ViewTransformer, make_retrieval_scorer, registry
from crossfit.subspace import (
    BLM,
    CCA,
    CCA3V,
    CFA,
    GCCA,
    PLS,
    TCCA,
    Procrustes,
    ReducedRank,
    RidgeMap,
    SparseCCA,
    _span,
)
from crossfit.subspace._weighted import Weighted
from crossfit.views import as_numpy

METHODS = {
    "BLM": BLM(3),
    "CCA": CCA(3),
    "CCA, standardised": CCA(3, reg=0.1, standardize=True),
    "CCA3V": CCA3V(3, semantics=None),
    "CFA": CFA(3),
    "CFA as it is": CFA(3, center=False, standardize=False),
    "GCCA": GCCA(3, standardize=True),
    "PLS": PLS(3),
    "PLS, canonical": PLS(3, mode="canonical"),
    "Procrustes": Procrustes(3),
    "ReducedRank": ReducedRank(2),
    "RidgeMap": RidgeMap(),
    "SparseCCA": SparseCCA(3, tol=1e-12),
    "TCCA": TCCA(3, tol=1e-12),
}
THREE = ("CCA", "CCA3V", "GCCA", "SparseCCA", "TCCA")
each = pytest.mark.parametrize("name", METHODS)


def data(n=60, views=2, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.exponential(size=(n, 3))
    parts = [Z @ rng.normal(size=(3, d)) + 0.5 * rng.normal(size=(n, d)) + 2 for d in (6, 5, 4)]
    return Views(
        dict(list(zip(("image", "text", "tags"), (p.astype(dtype) for p in parts)))[:views])
    )


def same_fit(a, b, atol=1e-9, views=None):
    for role in a.views_in_:
        np.testing.assert_allclose(a.means_[role], b.means_[role], atol=atol)
        if views is None or hasattr(b, "weights_"):
            np.testing.assert_allclose(a.weights_[role], b.weights_[role], atol=atol * 100)
    if views is not None:
        found, expected = a.similarity(views), b.similarity(views)
        np.testing.assert_allclose(found, expected, atol=max(1e-6, atol * 100))


@each
@pytest.mark.parametrize("kind", ["dense", "csr", "captions", "three", "wide"])
def test_a_weight_is_a_number_of_equal_rows(monkeypatch, name, kind):
    views = data(views=3 if kind == "three" and name in THREE else 2)
    weights = np.random.default_rng(1).integers(0, 4, len(views))
    if kind == "csr":
        views = views.map(lambda part, _: sp.csr_array(part))
    if kind == "captions":
        index = np.repeat(np.arange(20), 3)
        views = Views.from_captions(views["image"][:20], views["text"], index)
    if kind == "wide":
        monkeypatch.setattr(_span, "WIDE", 1)
        extra = np.random.default_rng(2).normal(size=(60, 70))
        views = views.replace(image=np.hstack([views["image"], extra]))
    weighted = clone(METHODS[name]).fit(views, sample_weight=weights)
    repeated = clone(METHODS[name]).fit(views[np.repeat(np.arange(60), weights)])
    same_fit(weighted, repeated, 1e-7 if kind == "wide" else 1e-9, views[weights > 0])


@each
def test_weights_of_one_change_nothing_and_of_zero_leave_rows_out(name):
    views = data()
    plain = clone(METHODS[name]).fit(views)
    ones = clone(METHODS[name]).fit(views, sample_weight=np.ones(60))
    np.testing.assert_array_equal(ones.similarity(views), plain.similarity(views))
    has = np.arange(60) % 3 > 0
    spoiled = views.replace(image=np.where(has[:, None], views["image"], 1e6))
    left = clone(METHODS[name]).fit(spoiled, sample_weight=has.astype(float))
    np.testing.assert_array_equal(
        left.similarity(views), clone(METHODS[name]).fit(views[has]).similarity(views)
    )


@each
def test_in_float32_as_in_float64(name):
    weights = np.random.default_rng(1).uniform(0.5, 3, 60)
    ours, wide = (
        clone(METHODS[name]).fit(data(dtype=dtype), sample_weight=weights)
        for dtype in (np.float32, np.float64)
    )
    np.testing.assert_allclose(ours.similarity(data()), wide.similarity(data()), atol=2e-4)


@pytest.mark.parametrize("method", [CCA(3, reg=0.1), GCCA(3)])
def test_rows_that_lack_a_view_have_weights_too(method):
    views = data()
    has = np.arange(60) % 4 > 0
    gaps = Views(image=views["image"], text=views["text"], present={"text": has})
    weights = np.random.default_rng(1).integers(0, 4, 60)
    weighted = clone(method).fit(gaps, sample_weight=weights)
    same_fit(weighted, clone(method).fit(gaps[np.repeat(np.arange(60), weights)]))


def test_weights_move_the_fit_towards_the_rows_that_have_them():
    first, second = data(seed=0), data(seed=5)
    both = Views({n: np.vstack([first[n], second[n]]) for n in first.names})
    weights = np.repeat([1.0, 1e-6], 60)
    found = CCA(3, reg=0.1).fit(both, sample_weight=weights)
    np.testing.assert_allclose(
        found.correlations_, CCA(3, reg=0.1).fit(first).correlations_, atol=1e-3
    )
    assert np.abs(CCA(3, reg=0.1).fit(both).correlations_ - found.correlations_).max() > 0.01


@pytest.mark.parametrize(
    "weights, message",
    [
        (np.ones(59), r"CCA: sample_weight must be one number per row \(60\), got .* \(59,\)"),
        (np.ones((60, 1)), "one number per row"),
        (["a"] * 60, "one number per row"),
        (np.r_[-1.0, np.ones(59)], "must be finite and at least 0, got -1.0 in row 0"),
        (np.r_[np.ones(59), np.nan], "must be finite and at least 0, got nan in row 59"),
        (np.full(60, 1 / 60), "must add up to at least 2, because a weight is a number of rows"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        CCA(3).fit(data(), sample_weight=weights)


def test_contrast_takes_no_weights():
    with pytest.raises(ValueError, match="CCA: contrast does not take weights of rows"):
        CCA(3, contrast=0.5).fit(data(), sample_weight=np.arange(60))


def test_methods_without_weights_do_not_have_them_in_their_signature():
    taking = set()
    for entry in registry.entries("crossfit.methods"):
        if entry.status == "ok" and entry.card.target.startswith("crossfit."):
            cls = registry.load(entry.name, "crossfit.methods")
            assert has_fit_parameter(cls, "sample_weight") == issubclass(cls, Weighted), cls
            if issubclass(cls, Weighted):
                taking.add(cls.__name__)
                assert hasattr(cls(), "set_fit_request")
    assert taking == {
        "BLM", "CCA", "CCA3V", "CFA", "CSA", "GCCA", "PLS", "Procrustes", "ReducedRank",
        "RidgeMap", "SparseCCA", "TCCA",
    }  # fmt: skip


def test_pipelines_and_cross_validation_route_weights():
    views = data(90)
    weights = np.random.default_rng(1).integers(0, 3, 90)
    cca = CCA(3, reg=0.1)
    steps = [
        ("features", ViewTransformer([("image", PCA(4)), ("text", "passthrough")])),
        ("cca", cca),
        ("scorer", RetrievalScorer()),
    ]
    with sklearn.config_context(enable_metadata_routing=True):
        cca.set_fit_request(sample_weight=True)
        pipe = Pipeline(steps).fit(views, sample_weight=weights)
        features = ViewTransformer([("image", PCA(4)), ("text", "passthrough")]).fit(views)
        alone = CCA(3, reg=0.1).fit(features.transform(views), sample_weight=weights)
        np.testing.assert_allclose(pipe["cca"].correlations_, alone.correlations_, atol=1e-12)
        folds = KFold(3)
        found = cross_validate(
            Pipeline(steps), views, cv=folds, params={"sample_weight": weights},
            scoring=make_retrieval_scorer("mrr"), return_estimator=True,
        )  # fmt: skip
    assert found["test_score"].min() > 0.3  # .13 in a random order
    for (train, _), estimator in zip(folds.split(views), found["estimator"]):
        part = views[train]
        expected = clone(features).fit(part).transform(part)
        other = CCA(3, reg=0.1).fit(expected, sample_weight=weights[train])
        np.testing.assert_allclose(estimator["cca"].correlations_, other.correlations_, atol=1e-12)


# ---- methods with more than sums of products -----------------------------------------------


@pytest.mark.parametrize("semantics", ["labels", "clusters"])
def test_weights_of_a_semantic_view_are_repeated_rows(semantics):
    rng = np.random.default_rng(3)
    y = np.arange(60) % 3
    views = data().map(lambda part, _: part + 20 * np.eye(3)[y] @ np.ones((3, part.shape[1])))
    views = views.replace(text=views["text"] + 30 * np.eye(3)[y] @ rng.normal(size=(3, 5)))
    weights = rng.integers(0, 4, 60)
    rows = np.repeat(np.arange(60), weights)
    method = CCA3V(3, semantics=semantics, n_clusters=3, standardize=True, random_state=0)
    labels = y if semantics == "labels" else None
    weighted = clone(method).fit(views, labels, sample_weight=weights)
    repeated = clone(method).fit(views[rows], None if labels is None else labels[rows])
    same_fit(weighted, repeated)


def test_random_features_are_scaled_by_weighted_statistics():
    views, weights = data(), np.random.default_rng(1).integers(0, 4, 60)
    method = CCA3V(3, semantics=None, fourier=20, standardize=True, random_state=0)
    scaling = clone(method).fit(views, sample_weight=weights).fourier_["image"]["scaling"]
    repeated = views["image"][np.repeat(np.arange(60), weights)]
    np.testing.assert_allclose(scaling.mean_, repeated.mean(axis=0))
    np.testing.assert_allclose(scaling.scale_, repeated.std(axis=0))


@pytest.mark.parametrize("reg", [1e-8, 0.3])
def test_the_ridge_map_is_the_weighted_ridge_of_scikit_learn(reg):
    views = data()
    weights = np.random.default_rng(1).uniform(0.1, 3, 60)
    X, Z = views["image"], views["text"]
    found = RidgeMap("forward", reg=reg).fit(views, sample_weight=weights)
    mean = np.average(X, axis=0, weights=weights)
    # The covariance is divided by the sum of the weights less one, the sums of Ridge are not.
    variances = weights @ (X - mean) ** 2 / (weights.sum() - 1)
    alpha = reg * variances.mean() * (weights.sum() - 1)
    ridge = Ridge(alpha=alpha, solver="cholesky").fit(X, Z, sample_weight=weights)
    np.testing.assert_allclose(found.maps_["image"], ridge.coef_.T, rtol=1e-6)
    predicted = found.transform(X, Z)[0] + found.means_["text"]
    np.testing.assert_allclose(predicted, ridge.predict(X), rtol=1e-6)


def test_the_ridge_map_without_a_ridge_is_weighted_least_squares_of_statsmodels():
    api = pytest.importorskip("statsmodels.api", reason="the oracle is statsmodels")
    views = data()
    weights = np.random.default_rng(2).uniform(0.1, 3, 60)
    found = RidgeMap("forward", reg=0).fit(views, sample_weight=weights)
    for column, target in enumerate(views["text"].T):
        fitted = api.WLS(target, api.add_constant(views["image"]), weights=weights).fit()
        np.testing.assert_allclose(found.maps_["image"][:, column], fitted.params[1:], rtol=1e-7)


def test_procrustes_minimises_the_weighted_distance():
    views, weights = data(), np.random.default_rng(1).uniform(0.1, 3, 60)
    found = Procrustes(3).fit(views, sample_weight=weights)
    x, z = (as_numpy(found._components(views[role], role)) for role in views.names)
    roots = np.sqrt(weights)[:, None]
    rotation, scale = orthogonal_procrustes(x * roots, z * roots)
    ours = found.rotations_["image"] @ found.rotations_["text"].T
    np.testing.assert_allclose(ours, rotation, atol=1e-10)
    assert found.singular_values_.sum() * weights.sum() == pytest.approx(scale)


# ---- weights in batches --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("views", [2, 3])
def test_weighted_batches_equal_one_weighted_fit(dtype, views):
    views = data(views=views, dtype=dtype)
    weights = np.random.default_rng(1).uniform(0, 3, 60)
    weights[:7] = 0  # the first batch adds nothing
    streamed = CCA(3, reg=0.1)
    for rows in (slice(0, 7), slice(7, 8), slice(8, 30), slice(30, 60)):
        streamed.partial_fit(views[rows], sample_weight=weights[rows])
    whole = CCA(3, reg=0.1).fit(views, sample_weight=weights)
    tolerance = 1e-9 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(streamed.correlations_, whole.correlations_, atol=tolerance)
    same_fit(streamed, whole, atol=tolerance)
    parts = [CCA(3, reg=0.1).partial_fit(views[r::2], sample_weight=weights[r::2]) for r in (0, 1)]
    same_fit(parts[0].merge(parts[1]), whole, atol=tolerance)


def test_a_batch_with_bad_weights_adds_nothing():
    views = data()
    cca = CCA(3).partial_fit(views[:30])
    before = cca.correlations_
    with pytest.raises(ValueError, match="finite and at least 0"):
        cca.partial_fit(views[30:], sample_weight=np.full(30, -1.0))
    np.testing.assert_array_equal(cca.correlations_, before)
    with pytest.raises(ValueError, match=r"one number per row \(30\)"):
        CCA(3).partial_fit(views[:30], sample_weight=np.ones(29))
    with pytest.raises(ValueError, match="at least 2 rows"):
        CCA(3).partial_fit(views[:30], sample_weight=np.full(30, 0.05)).correlations_
