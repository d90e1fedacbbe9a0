"""RetrievalScorer() ranks as the method before it; pair methods are the last step."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

import crossfit
from crossfit import CrossModalEstimator, RetrievalScorer, Views, registry
from crossfit.base import EncodedViews
from crossfit.similarities import KNNPosterior, MethodSimilarity, pairwise_similarity
from crossfit.subspace import CCA, CM, JRL, SM
from crossfit.testing.planted import planted_inputs

CARDS = [entry.card for entry in registry.entries("crossfit.methods") if entry.status == "ok"]
EMBEDDING = sorted(card.name for card in CARDS if card.kind == "embedding")
PAIR = sorted(card.name for card in CARDS if card.kind == "pair")


def method_of(name, **params):
    card = registry.get(name)
    cls = registry.load(name)
    seed = {"random_state": 0} if "random_state" in cls().get_params() else {}
    return cls(**{**card.test_params, **seed, **params})


def pairs_of(name, n=60):
    return planted_inputs(registry.get(name), n)


@pytest.mark.parametrize("name", EMBEDDING)
def test_a_pipeline_ranks_as_the_method_alone(name):
    views, y = pairs_of(name)
    labels = () if registry.get(name).labels == "none" else (y,)
    pipe = Pipeline([("method", method_of(name)), ("scorer", RetrievalScorer())])
    pipe.fit(views, *labels)
    alone = pipe[0]
    np.testing.assert_allclose(
        crossfit.similarity(pipe, views), alone.similarity(views), rtol=1e-5, atol=1e-6
    )
    assert pipe.score(views, y) == pytest.approx(alone.score(views, y), rel=1e-9)


@pytest.mark.parametrize(
    "method",
    [
        JRL(measure="cosine", n_neighbors=9),
        JRL(n_neighbors=9),
        SM(measure="kl"),
        SM(measure="posterior_over_prior"),
        CM(n_components=2, measure="l1"),
    ],
    ids=str,
)
def test_every_measure_and_both_directions(method, tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 4
    views = Views(
        text=rng.normal(size=(60, 5)) + np.eye(4, 5)[y],
        image=rng.normal(size=(60, 6)) + np.eye(4, 6)[y],
    )
    pipe = make_pipeline(clone(method), RetrievalScorer()).fit(views, y)
    alone = clone(method).fit(views, y)
    for query in ("image", "text"):
        np.testing.assert_allclose(
            crossfit.similarity(pipe, views, query=query),
            alone.similarity(views, query=query),
            rtol=1e-5, atol=1e-6,
        )  # fmt: skip
    assert pipe.score(views, y) == pytest.approx(alone.score(views, y), rel=1e-9)
    # Also after a bundle, a pickle and a pipeline's cache.
    folder = crossfit.save(pipe, tmp_path / "bundle")
    cached = make_pipeline(clone(method), RetrievalScorer(), memory=str(tmp_path / "cache"))
    for again in (
        crossfit.load(folder), pickle.loads(pickle.dumps(pipe)),
        cached.fit(views, y), clone(cached).fit(views, y),
    ):  # fmt: skip
        assert again.score(views, y) == pipe.score(views, y)


class Lopsided(CrossModalEstimator):
    """Compare rows of the common space by overriding only `_similarity`."""

    def _fit(self, views, y):
        pass

    def _encode(self, values, view):
        return values

    def _similarity(self, P, Q):
        return -np.abs(P[:, None, 0] - 2 * Q[None, :, 1])


class Prepares(Lopsided):
    """Compare more than rows of the common space."""

    def _prepare(self, values, view):
        return 3 * values


def test_methods_that_override_similarity_alone_or_prepare_too():
    rng = np.random.default_rng(0)
    views = Views(image=rng.normal(size=(20, 3)), text=rng.normal(size=(20, 3)))
    pipe = make_pipeline(Lopsided(), RetrievalScorer()).fit(views)
    assert isinstance(pipe[-1].similarity_, MethodSimilarity)
    alone = Lopsided().fit(views)
    for query in ("image", "text"):
        np.testing.assert_array_equal(
            crossfit.similarity(pipe, views, query=query), alone.similarity(views, query=query)
        )
    assert pipe.score(views) == alone.score(views)
    with pytest.raises(TypeError, match="more than rows of its common space; set similarity="):
        make_pipeline(Prepares(), RetrievalScorer()).fit(views)
    make_pipeline(Prepares(), RetrievalScorer("cosine")).fit(views)


def test_a_named_similarity_wins_and_rows_of_no_method_are_compared_by_cosine():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 4
    X = rng.normal(size=(40, 5)) + np.eye(4, 5)[y]
    views = Views(image=X, text=rng.normal(size=(40, 5)) + np.eye(4, 5)[y])
    model = JRL(n_neighbors=9).fit(views, y)
    Z = model.transform(views)
    named = make_pipeline(model, RetrievalScorer("cosine")).fit(views, y)
    np.testing.assert_array_equal(
        crossfit.similarity(named, views), pairwise_similarity(Z["image"], Z["text"])
    )
    assert RetrievalScorer().fit(views).similarity_.keywords == {"measure": "cosine"}
    # After a step that changes the rows, the method's similarity is not used.
    double = FunctionTransformer(lambda Z: Z.map(lambda values, name: 2 * values))
    changed = make_pipeline(model, double, RetrievalScorer()).fit(views, y)
    assert changed[-1].similarity_.keywords == {"measure": "cosine"}


def test_what_keeps_the_rows_keeps_their_similarity():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 4
    X = rng.normal(size=(40, 5)) + np.eye(4, 5)[y]
    views = Views(image=X, text=rng.normal(size=(40, 5)) + np.eye(4, 5)[y])
    Z = JRL(n_neighbors=9).fit(views, y).transform(views)
    for kept in (
        Z[:7], Z[[1, 2]], Z[y == 1], Z.select("text", "image"), Z.with_groups(y),
        pickle.loads(pickle.dumps(Z))[3:],
    ):  # fmt: skip
        assert isinstance(kept, EncodedViews)
        scorer = RetrievalScorer().fit(kept)
        assert isinstance(scorer.similarity_, KNNPosterior)
        assert list(scorer.views_in_) == ["image", "text"]
    for other in (Z.map(lambda values, name: values), Z.rename({"text": "b"}), Z.replace(image=X)):
        assert type(other) is Views


@pytest.mark.parametrize("name", PAIR)
@pytest.mark.parametrize("similarity", [None, "cosine"])
def test_nothing_can_follow_a_method_that_scores_pairs(name, similarity):
    views, y = pairs_of(name, 8)

    class Works(FunctionTransformer):
        def fit(self, X, y=None):
            raise AssertionError("worked")

    method = method_of(name)
    pipe = make_pipeline(Works(), method, RetrievalScorer(similarity))
    with pytest.raises(TypeError) as raised:
        pipe.fit(views, y)
    assert str(raised.value) == (
        f"{type(method).__name__} scores pairs and has no common space, so no step can "
        "follow it; make it the last step of the pipeline, without RetrievalScorer"
    )
    # Otherwise they do not contain the method, as before.
    assert not hasattr(method, "transform")
    with pytest.raises(AttributeError, match="has no attribute 'transform'"):
        method.transform(views)


def test_cca_keeps_its_cosine():
    rng = np.random.default_rng(0)
    X, T = rng.normal(size=(30, 4)), rng.normal(size=(30, 3))
    views = Views(image=X, text=T)
    pipe = make_pipeline(CCA(2), RetrievalScorer()).fit(views)
    assert pipe[-1].similarity_.keywords == {"measure": "cosine"}
