"""Scorers are recognised by their attributes, and only pair methods prepare items."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator

import crossfit
from crossfit import RetrievalScorer, Views
from crossfit.experiment.identity import describe
from crossfit.extraction import Characters
from crossfit.protocols import Indexed, PairScorer, Scorer, Weighted
from crossfit.retrieval import Reranker
from crossfit.subspace import CCA

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(20, 3))
VIEWS = Views(image=Z @ RNG.normal(size=(3, 5)), text=Z @ RNG.normal(size=(3, 4)))


def test_methods_scorers_and_rerankers_are_scorers():
    cca = CCA(n_components=2).fit(VIEWS)
    ranks = RetrievalScorer().fit(cca.transform(VIEWS))
    two = Reranker(cca, cca, k=3, prefit=True)
    assert all(isinstance(part, Scorer) for part in (cca, ranks, two))
    assert isinstance(cca, PairScorer) and isinstance(ranks, PairScorer)
    assert not isinstance(two, PairScorer)
    assert not isinstance(ranks, Indexed)
    assert isinstance(ranks.index(np.eye(2), "text"), Indexed)
    assert (cca.one_way, ranks.one_way, two.one_way) == (False, False, True)


class Dot(BaseEstimator):
    """A scorer that does not inherit from a class of crossfit."""

    one_way = False

    def fit(self, X, y=None):
        self.views_in_ = {name: name for name in X.names}
        return self

    def fitted_views(self, X):
        return X

    def score_items(self, queries, query, gallery, view, chunk_size=None, out=None):
        return np.float32(queries[:, :2] @ gallery[:, :2].T)


def test_a_scorer_of_ones_own_is_asked_like_any_other():
    own = Dot().fit(VIEWS)
    expected = VIEWS["image"][:, :2] @ VIEWS["text"][:, :2].T
    np.testing.assert_allclose(crossfit.similarity(own, VIEWS), expected, rtol=1e-5)
    found = crossfit.search(own, VIEWS["image"][:3], view="image", gallery=VIEWS["text"], k=1)
    np.testing.assert_array_equal(found.indices[:, 0], expected[:3].argmax(axis=1))
    metric = crossfit.model_selection.make_retrieval_scorer("mrr")
    assert 0 < metric(own, VIEWS) <= 1
    with pytest.raises(TypeError, match="second stage must score single pairs"):
        crossfit.similarity(Reranker(own, own, k=3, prefit=True), VIEWS)


def test_one_loop_over_blocks(monkeypatch):
    from crossfit import similarities

    calls = []
    loop = similarities._slices
    monkeypatch.setattr(similarities, "_slices", lambda *given: calls.append(given) or loop(*given))
    CCA(n_components=2).fit(VIEWS).similarity(VIEWS)
    assert len(calls) == 2  # rows, and columns of the one block of rows


class Weighing(BaseEstimator):
    """An extractor with weights that does not derive from a class of crossfit."""

    def __init__(self, weights="one"):
        self.weights = weights

    def _weights_id(self):
        return f"the weights {self.weights}"


def test_the_weights_of_an_extractor_are_part_of_its_identity():
    assert isinstance(Weighing(), Weighted) and isinstance(Characters(), Weighted)
    assert describe(Weighing())["weights"] == "the weights one"
    assert describe(Weighing("two")) != describe(Weighing())
    assert not isinstance(CCA(), Weighted)
    assert "weights" not in describe(Characters()) and "weights" not in describe(CCA())
