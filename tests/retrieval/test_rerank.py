"""Two-stage search against a naive one: a full matrix, a loop over queries, a sort."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import crossfit
from crossfit import Ragged, RetrievalScorer, Views, ViewTransformer, make_retrieval_scorer
from crossfit.base import CrossModalEstimator
from crossfit.cards import MethodCard
from crossfit.metrics import evaluate
from crossfit.retrieval import Reranker, exactness
from crossfit.subspace import CCA


class Parts(CrossModalEstimator):
    """Score pairs by the mean, over regions, of the product with the best word, plus a shift."""

    card = MethodCard(
        api=1,
        name="parts",
        target="tests:Parts",
        summary="toy",
        inputs={"image": ("regions",), "text": ("sequence",)},
        kind="pair",
    )

    def __init__(self, shift=0.0):
        self.shift = shift

    def _fit(self, views, y):
        self.prepared_, self.pairs_ = 0, 0

    def _prepare(self, values, view):
        self.prepared_ += len(values)
        return values

    def _similarity(self, P, Q):
        self.pairs_ += len(P) * len(Q)
        Q = [Q[j] for j in range(len(Q))]
        return np.array([[(p @ q.T).max(axis=1).mean() + self.shift for q in Q] for p in P])


class Means(CrossModalEstimator):
    """A common space: the mean of the rows."""

    card = MethodCard(
        api=1,
        name="means",
        target="tests:Means",
        summary="toy",
        inputs={"image": ("regions",), "text": ("sequence",)},
    )

    def _fit(self, views, y):
        pass

    def _encode(self, values, view):
        return np.stack([values[i].mean(axis=0) for i in range(len(values))])


def pairs(n=20, captions=2, seed=0):
    """Return regions (n, 3, 4) with several captions each, which are ragged sequences."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 4))
    images = Z[:, None] + rng.normal(size=(n, 3, 4))
    index = np.repeat(np.arange(n), captions)
    words = [Z[i] + rng.normal(size=(rng.integers(1, 5), 4)) for i in index]
    return Views.from_captions(images, Ragged.from_list(words), index)


VIEWS = pairs()
BOTH = pytest.mark.parametrize(("query", "gallery"), [("image", "text"), ("text", "image")])


def naive(views, query, gallery, k, shift=0.0):
    """Return the expected order of the gallery for each query, best first."""
    P, Q = views.distinct("image")[0], views.distinct("text")[0]
    full = np.array([[(p @ q.T).max(axis=1).mean() + shift for q in Q] for p in P])
    means = [np.stack([one.mean(axis=0) for one in part]) for part in (P, Q)]
    means = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in means]
    cheap = means[0] @ means[1].T
    if query == "text":
        full, cheap = full.T, cheap.T
    orders = []
    for dear, near in zip(full, cheap):
        proposed = sorted(range(len(near)), key=lambda j: -near[j])
        orders.append(sorted(proposed[:k], key=lambda j: -dear[j]) + proposed[k:])
    return np.array(orders), full


@BOTH
@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_the_order_is_that_of_the_naive_search(query, gallery, k, chunk_size):
    two = Reranker(Means(), Parts(), k=k).fit(VIEWS)
    scores = crossfit.similarity(two, VIEWS, query=query, gallery=gallery, chunk_size=chunk_size)
    orders, full = naive(VIEWS, query, gallery, k)
    assert scores.dtype == np.float32 and scores.shape == full.shape
    np.testing.assert_array_equal(np.argsort(-scores, axis=1, kind="stable"), orders)
    best = np.take_along_axis(scores, orders[:, :k], axis=1)
    np.testing.assert_allclose(best, np.take_along_axis(full, orders[:, :k], axis=1), rtol=1e-5)


@BOTH
@pytest.mark.parametrize("k", [40, 1000])
def test_with_as_many_as_the_gallery_it_is_the_full_matrix(query, gallery, k):
    parts = Parts().fit(VIEWS)
    two = Reranker(Means().fit(VIEWS), parts, k=k, prefit=True)
    full = crossfit.similarity(parts, VIEWS, query=query, gallery=gallery)
    np.testing.assert_array_equal(
        crossfit.similarity(two, VIEWS, query=query, gallery=gallery), full
    )


def test_items_are_prepared_once_and_only_proposed_pairs_are_scored():
    parts = Parts().fit(VIEWS)
    two = Reranker(Means().fit(VIEWS), parts, k=3, prefit=True)
    crossfit.similarity(two, VIEWS)
    assert (parts.prepared_, parts.pairs_) == (20 + 40, 20 * 3)


def test_search_gives_the_best_of_the_proposed():
    two = Reranker(Means(), Parts(), k=4).fit(VIEWS)
    images = VIEWS.distinct("image")[0]
    orders, full = naive(VIEWS, "text", "image", 4)
    found = crossfit.search(two, VIEWS["text"], view="text", gallery=images, k=3)
    np.testing.assert_array_equal(found.indices, orders[:, :3])
    np.testing.assert_allclose(
        found.scores, np.take_along_axis(full, orders[:, :3], axis=1), rtol=1e-5
    )


def test_each_direction_is_scored_by_its_own_matrix():
    two = Reranker(Means(), Parts(), k=3).fit(VIEWS)
    values = []
    for query, gallery in (("image", "text"), ("text", "image")):
        scores = crossfit.similarity(two, VIEWS, query=query, gallery=gallery)
        relevance = VIEWS.relevance(query, gallery)
        found = evaluate(scores, relevance, ["mrr"], directions="forward", ci=None)
        values.append(found.mean("forward", "mrr"))
    assert two.score(VIEWS) == pytest.approx(np.mean(values))
    assert make_retrieval_scorer("mrr")(two, VIEWS) == pytest.approx(np.mean(values))
    assert make_retrieval_scorer("mrr", "t2i")(two, VIEWS) == pytest.approx(values[1])
    # The transpose would be another ranking.
    scores = crossfit.similarity(two, VIEWS)
    found = evaluate(scores, VIEWS.relevance("image", "text"), ["mrr"], ci=None)
    assert abs(found.mean(None, "mrr") - np.mean(values)) > 1e-4


def test_pipelines_as_stages_and_around():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(40, 3))
    views = Views(image=Z @ rng.normal(size=(3, 6)), text=Z @ rng.normal(size=(3, 5)))
    scale = ViewTransformer([("image", StandardScaler()), ("text", StandardScaler())])
    first = make_pipeline(clone(scale), CCA(1), RetrievalScorer())
    second = make_pipeline(CCA(3), RetrievalScorer("l2"))
    two = make_pipeline(clone(scale), Reranker(first, second, k=5)).fit(views)
    scaled = scale.fit_transform(views)
    cheap = crossfit.similarity(clone(first).fit(scaled), scaled)
    dear = crossfit.similarity(clone(second).fit(scaled), scaled)
    found = crossfit.search(two, views["image"], view="image", gallery=views["text"], k=5)
    for i in range(40):
        proposed = np.argsort(-cheap[i], kind="stable")[:5]
        expected = proposed[np.argsort(-dear[i, proposed], kind="stable")]
        np.testing.assert_array_equal(found.indices[i], expected)
    two.set_params(reranker__k=40)
    np.testing.assert_allclose(crossfit.similarity(two, views), dear, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.sampled_from([1e-3, 1.0, 1e4, 1e9, 1e30]),
    st.booleans(),
)
def test_what_is_below_keeps_order_and_ties_at_any_scale(seed, k, scale, tied):
    """The scores have the right order, even if float32 cannot distinguish them."""
    rng = np.random.default_rng(seed)
    cheap = rng.integers(4, size=(5, 9)) if tied else rng.normal(size=(5, 9))
    dear = scale * rng.normal(size=(5, 9))

    class Fixed(BaseEstimator):
        views_in_ = {"image": "image", "text": "text"}
        one_way = False

        def __init__(self, matrix):
            self.matrix = matrix.astype(np.float32)

        def fit(self, X, y=None):
            return self

        def fitted_views(self, X):
            return X

        def prepared(self, queries, query, gallery, view):
            return queries, gallery, self.similarity_

        def similarity_(self, A, B):
            return self.matrix[np.ix_(A[:, 0].astype(int), B[:, 0].astype(int))]

        def score_items(self, queries, query, gallery, view, chunk_size=None, out=None):
            return self.similarity_(queries, gallery)

    two = Reranker(Fixed(cheap), Fixed(dear), k=k, prefit=True)
    queries, gallery = np.arange(5.0)[:, None], np.arange(9.0)[:, None]
    S = two.score_items(queries, "image", gallery, "text")
    for i in range(5):
        proposed = np.argsort(-cheap[i], kind="stable")
        rest = proposed[k:]
        assert S[i, rest].max() < S[i, proposed[:k]].min()
        np.testing.assert_array_equal(S[i, proposed[:k]], np.float32(dear[i, proposed[:k]]))
        apart = np.diff(cheap[i, rest].astype(np.float32)) < 0
        np.testing.assert_array_equal(np.diff(S[i, rest]) < 0, apart)
        np.testing.assert_array_equal(np.diff(S[i, rest]) == 0, ~apart)


def test_exactness_counts_what_the_two_stages_lose():
    two = Reranker(Means(), Parts(), k=4).fit(VIEWS)
    report = exactness(two, VIEWS, query="image", gallery="text", at=3)
    orders, full = naive(VIEWS, "image", "text", 4)
    exact = np.argsort(-full, axis=1, kind="stable")
    overlap = [len({*a[:3]} & {*b[:3]}) / 3 for a, b in zip(exact, orders)]
    np.testing.assert_allclose(report.overlap, overlap)
    np.testing.assert_array_equal(report.top1, exact[:, 0] == orders[:, 0])
    assert report.share_scored == 4 / 40 and report.at == 3
    mean, low, high = report.overlap_mean
    assert mean == pytest.approx(np.mean(overlap)) and low < mean < high
    assert 0 < report.top1.mean() < 1
    assert repr(report).endswith("10.0% of the pairs scored)")
    whole = exactness(two.set_params(k=40), VIEWS)
    assert whole.overlap.min() == 1 and whole.top1.all() and whole.share_scored == 1


def test_exactness_draws_the_captions_of_an_image_together():
    report = exactness(Reranker(Means(), Parts(), k=4).fit(VIEWS), VIEWS, query="text", at=3)
    from crossfit.metrics import bootstrap_interval

    groups = np.repeat(np.arange(20), 2)
    assert report.overlap_mean[1:] == bootstrap_interval(report.overlap, groups=groups)


def test_errors():
    with pytest.raises(NotFittedError, match="not fitted yet"):
        crossfit.similarity(Reranker(Means(), Parts()), VIEWS)
    with pytest.raises(NotFittedError):
        crossfit.similarity(Reranker(Means(), Parts(), prefit=True), VIEWS)
    with pytest.raises(ValueError, match="k must be an integer of at least 1, got 0"):
        Reranker(Means(), Parts(), k=0).fit(VIEWS)
    with pytest.raises(TypeError, match="expected a CrossModalEstimator"):
        Reranker(StandardScaler(), Parts()).fit(VIEWS)
    with pytest.raises(TypeError, match="expects Views, got ndarray"):
        Reranker(Means(), Parts()).fit(np.eye(3))
    with pytest.raises(TypeError, match="exactness expects a Reranker, got Parts"):
        exactness(Parts().fit(VIEWS), VIEWS)
    with pytest.raises(TypeError, match="second stage must score single pairs"):
        inner = Reranker(Means(), Parts(), k=2)
        crossfit.similarity(Reranker(Means(), inner, k=3).fit(VIEWS), VIEWS)
    infinite = Reranker(Means(), Parts(shift=np.inf), k=3).fit(VIEWS)
    with pytest.raises(ValueError, match="finite scores"):
        crossfit.similarity(infinite, VIEWS)


def test_it_is_an_estimator_like_any_other(tmp_path):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(30, 3))
    views = Views(image=Z @ rng.normal(size=(3, 6)), text=Z @ rng.normal(size=(3, 5)))
    two = Reranker(CCA(1), CCA(3), k=5)
    assert clone(two).get_params()["second__n_components"] == 3
    scores = crossfit.similarity(two.fit(views), views)
    for other in (
        pickle.loads(pickle.dumps(two)),
        crossfit.load(crossfit.save(two, tmp_path / "two")),
    ):
        np.testing.assert_array_equal(crossfit.similarity(other, views), scores)
    assert not hasattr(two.first, "views_in_")  # the parameters stay unfitted
