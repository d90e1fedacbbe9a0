"""Weights of rows: as repeated rows, as rows left out, and through scikit-learn's routing."""

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from crossfit import RetrievalScorer, Views, ViewTransformer, make_retrieval_scorer, registry
from crossfit.subspace import CCA, CFA, GCCA, PLS, TCCA, SparseCCA, _span
from crossfit.subspace._weighted import Weighted

METHODS = {
    "CCA": CCA(3),
    "CCA, standardised": CCA(3, reg=0.1, standardize=True),
    "CFA": CFA(3),
    "CFA as it is": CFA(3, center=False, standardize=False),
    "GCCA": GCCA(3, standardize=True),
    "PLS": PLS(3),
    "PLS, canonical": PLS(3, mode="canonical"),
    "SparseCCA": SparseCCA(3, tol=1e-12),
    "TCCA": TCCA(3, tol=1e-12),
}
THREE = ("CCA", "GCCA", "SparseCCA", "TCCA")
each = pytest.mark.parametrize("name", METHODS)


def data(n=60, views=2, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.exponential(size=(n, 3))
    parts = [Z @ rng.normal(size=(3, d)) + 0.5 * rng.normal(size=(n, d)) + 2 for d in (6, 5, 4)]
    return Views(
        dict(list(zip(("image", "text", "tags"), (p.astype(dtype) for p in parts)))[:views])
    )


def same_fit(a, b, atol=1e-9):
    for role in a.views_in_:
        np.testing.assert_allclose(a.means_[role], b.means_[role], atol=atol)
        np.testing.assert_allclose(a.weights_[role], b.weights_[role], atol=atol * 100)


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
    same_fit(weighted, repeated, atol=1e-7 if kind == "wide" else 1e-9)


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
    assert taking == {"CCA", "CFA", "CSA", "GCCA", "PLS", "SparseCCA", "TCCA"}


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
