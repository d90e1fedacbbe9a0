"""Fusion against a naive loop over queries, and in the places of a method."""

import tracemalloc

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

import crossfit
from crossfit import RetrievalScorer, Views, evaluate, search, similarity
from crossfit.methods import CCA, KCCA
from crossfit.model_selection import OptunaSearch
from crossfit.retrieval import Fusion, Reranker, fusion
from crossfit.search_space import Choice

WAYS = [("image", "text"), ("text", "image")]


@pytest.fixture(scope="module")
def pairs():
    """Pairs of which each method sees a part: CCA what is linear, KCCA the rest."""
    rng = np.random.default_rng(5)
    z = rng.normal(size=(240, 4))
    images = np.hstack([z[:, :2], z[:, 2:]]) @ rng.normal(size=(4, 12))
    texts = np.hstack([z[:, :2], z[:, 2:] ** 2]) @ rng.normal(size=(4, 9))
    views = Views(
        image=images + 0.3 * rng.normal(size=images.shape),
        text=texts + 0.3 * rng.normal(size=texts.shape),
    )
    return views[:160], views[160:]


def _two():
    return [("cca", CCA(2)), ("kcca", make_pipeline(KCCA(4), RetrievalScorer("nnn")))]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["zsum", "rrf"])
@pytest.mark.parametrize("weights", [None, (3.0, 1.0)])
@pytest.mark.parametrize("chunk", [None, 7])
def test_scores_are_those_of_a_loop(pairs, way, how, weights, chunk):
    train, test = pairs
    both = Fusion(_two(), how, weights=weights).fit(train)
    query, gallery = way
    found = similarity(both, test, query=query, gallery=gallery, chunk_size=chunk)
    parts = [similarity(part, test, query=query, gallery=gallery) for part in both.estimators_]
    shares = [0.5, 0.5] if weights is None else [0.75, 0.25]
    for i, row in enumerate(found):
        expected = 0.0
        for share, part in zip(shares, parts):
            own = part[i].astype(float)
            made = (own - own.mean()) / own.std() if how == "zsum" else 1 / (60 + rankdata(-own))
            expected = expected + share * made
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("how", ["zsum", "rrf"])
def test_no_second_matrix_is_in_memory(how, monkeypatch):
    rng = np.random.default_rng(0)
    views = Views(image=rng.normal(size=(900, 8)), text=rng.normal(size=(900, 8)))
    both = Fusion([("a", CCA(2)), ("b", CCA(4))], how).fit(views[:200])
    given = views["image"], "image", views["text"], "text"
    whole = both.score_items(*given)
    monkeypatch.setattr(fusion, "_AT_ONCE", 2**15)
    out = np.empty((900, 900), np.float32)
    tracemalloc.start()
    try:
        both.score_items(*given, 128, out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < out.nbytes / 2
    np.testing.assert_allclose(out, whole, rtol=1e-5, atol=1e-6)


def test_one_member_alone_keeps_its_order(pairs):
    train, test = pairs
    alone = CCA(2).fit(train)
    for how in ("zsum", "rrf"):
        one = Fusion([("cca", alone)], how, prefit=True)
        for query, gallery in WAYS:
            plain = similarity(alone, test, query=query, gallery=gallery)
            found = similarity(one, test, query=query, gallery=gallery)
            np.testing.assert_array_equal(np.argsort(-found, 1), np.argsort(-plain, 1))


def test_a_member_with_equal_scores_changes_nothing(pairs):
    train, test = pairs
    flat = make_pipeline(CCA(2), RetrievalScorer(lambda A, B: np.full((len(A), len(B)), 7.0)))
    alone = similarity(Fusion([("cca", CCA(2))]).fit(train), test)
    both = similarity(Fusion([("cca", CCA(2)), ("flat", flat)]).fit(train), test)
    np.testing.assert_allclose(both, alone / 2, atol=1e-6)


def test_weights_are_chosen_on_rows_held_out(pairs):
    train, test = pairs
    rng = np.random.default_rng(0)
    noise = make_pipeline(CCA(2), RetrievalScorer(lambda A, B: rng.random((len(A), len(B)))))
    made = Fusion([("cca", CCA(4)), ("noise", noise)], "weighted").fit(train)
    assert made.weights_.sum() == pytest.approx(1) and made.weights_[0] > 0.8
    equal = Fusion([("cca", CCA(4)), ("noise", noise)]).fit(train)
    assert made.score(test) > equal.score(test)
    # The members are those of a fit on all rows.
    np.testing.assert_allclose(
        similarity(made.estimators_[0], test), similarity(CCA(4).fit(train), test)
    )
    with pytest.raises(ValueError, match="there is only one group"):
        Fusion(_two(), "weighted").fit(Views.from_captions(np.eye(1), np.eye(3), [0, 0, 0]))


def test_fitted_members_are_used_as_they_are(pairs, tmp_path):
    train, test = pairs
    members = [(name, part.fit(train)) for name, part in _two()]
    both = Fusion(members, prefit=True)
    fitted = Fusion(_two()).fit(train)
    for query, gallery in WAYS:
        given = {"query": query, "gallery": gallery}
        np.testing.assert_array_equal(
            similarity(both, test, **given), similarity(fitted, test, **given)
        )
    with pytest.raises(NotFittedError):
        similarity(Fusion(members, "weighted", prefit=True), test)
    chosen = Fusion(members, "weighted", prefit=True).fit(test)
    assert chosen.weights_.sum() == pytest.approx(1)
    assert chosen.estimators_[0] is members[0][1]
    read = crossfit.load(crossfit.save(fitted, tmp_path / "bundle"))
    np.testing.assert_array_equal(
        similarity(read, test, query="text", gallery="image"),
        similarity(fitted, test, query="text", gallery="image"),
    )


def test_it_takes_the_place_of_a_method(pairs):
    train, test = pairs
    both = Fusion(_two())
    assert both.get_params()["cca__n_components"] == 2
    assert clone(both).set_params(cca__n_components=3).estimators[0][1].n_components == 3
    both.fit(train)
    values = []
    for query, gallery in WAYS:
        scores = similarity(both, test, query=query, gallery=gallery)
        found = search(both, test[query][:3], view=query, gallery=test[gallery], k=4)
        np.testing.assert_array_equal(found.indices, np.argsort(-scores[:3], axis=1)[:, :4])
        relevance = test.relevance(query, gallery)
        evaluated = evaluate(scores, relevance, ["mrr"], directions="forward", ci=None)
        values.append(evaluated.mean(None, "mrr"))
    assert both.score(test) == pytest.approx(np.mean(values))
    two = Reranker(CCA(2), CCA(4), k=5).fit(train)
    assert Fusion([("two", two), ("cca", CCA(2).fit(train))], prefit=True).score(test) > 0.1
    space = {"cca__n_components": Choice(1, 2), "how": Choice("zsum", "rrf")}
    searched = OptunaSearch(Fusion(_two()), space, n_trials=4, sampler="grid", random_state=0)
    assert searched.fit(train).best_score_ > 0


@pytest.mark.parametrize(
    "given, message",
    [
        ({"estimators": []}, "estimators must be a list of pairs"),
        ({"estimators": [CCA()]}, "estimators must be a list of pairs"),
        ({"estimators": [("a", CCA()), ("a", CCA())]}, "not unique"),
        ({"estimators": [("a", CCA)]}, "'a' must be an estimator"),
        ({"how": "mean"}, "'how' parameter of Fusion"),
        ({"weights": [1.0]}, "weights must be 2 numbers of at least 0"),
        ({"weights": [0.0, 0.0]}, "not all 0"),
        ({"weights": [1.0, -1.0]}, "weights must be 2 numbers"),
        ({"how": "weighted", "weights": [1.0, 1.0]}, "weights are chosen by how='weighted'"),
        ({"rank_constant": -1}, "'rank_constant' parameter of Fusion"),
    ],
)
def test_wrong_input_is_named(pairs, given, message):
    with pytest.raises(ValueError, match=message):
        Fusion(**{"estimators": _two(), **given}).fit(pairs[0])


def test_what_is_not_views_or_not_fitted_is_named(pairs):
    with pytest.raises(TypeError, match="Views"):
        Fusion(_two()).fit(pairs[0]["image"])
    with pytest.raises(NotFittedError):
        similarity(Fusion(_two()), pairs[1])
    with pytest.raises(NotFittedError):
        similarity(Fusion(_two(), prefit=True), pairs[1])
