"""RetrievalScorer: ranking, fitted similarities, indexes and search."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import crossfit
from crossfit import RetrievalScorer, Views
from crossfit.metrics import evaluate
from crossfit.similarities import KNNPosterior, PosteriorOverPrior, pairwise_similarity


def common_space(n=30, d=4, seed=0, noise=0.5):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, d))
    return Views(image=Z, text=Z + noise * rng.normal(size=(n, d)))


TRAIN, TEST = common_space(), common_space(12, seed=1)
LABELS = np.arange(12) % 3


@pytest.mark.parametrize("similarity", ["cosine", "l1", "l2", "dot", "correlation"])
def test_named_similarities(similarity):
    scorer = RetrievalScorer(similarity).fit(TRAIN)
    expected = pairwise_similarity(TEST["image"], TEST["text"], similarity)
    assert np.array_equal(scorer.compare(TEST), expected)
    assert np.array_equal(scorer.compare(TEST, query="text"), expected.T)
    assert np.array_equal(scorer.compare(TEST, chunk_size=5), expected)
    assert np.array_equal(crossfit.similarity(scorer, TEST), expected)


def test_score_ranks_what_it_is_given_against_itself_never_against_the_fitted_rows():
    near = Views(image=TEST["image"], text=TEST["image"])
    for fitted_on in (TRAIN, TEST, near):
        scorer = RetrievalScorer().fit(fitted_on).index(TRAIN["text"], "text")
        assert scorer.score(near) == 1
        assert scorer.score(TEST) == RetrievalScorer().fit(TEST).score(TEST) < 1
    shuffled = TEST[np.random.default_rng(0).permutation(12)]
    assert scorer.score(shuffled) == pytest.approx(scorer.score(TEST))


def test_score_is_the_metric_asked_for():
    S = pairwise_similarity(TEST["image"], TEST["text"])
    pairs, labels = np.eye(12), (LABELS, LABELS)

    def expected(relevance, metric):
        return evaluate(S, relevance, [metric], ci=None).mean(None, metric)

    scorer = RetrievalScorer().fit(TRAIN)
    assert scorer.score(TEST) == expected(pairs, "mrr")
    assert scorer.score(TEST, LABELS) == expected(labels, "map@all")
    for metric in ("r@1", "map@5:hits", "ndcg@10", "p@3"):
        scorer = RetrievalScorer(metric=metric).fit(TRAIN)
        assert scorer.score(TEST) == expected(pairs, metric)
        assert scorer.score(TEST, LABELS) == expected(labels, metric)
    assert RetrievalScorer(metric="medr").fit(TRAIN).score(TEST) == -expected(pairs, "medr")


def test_callables_get_the_earlier_view_first():
    seen = []

    def lopsided(A, B):
        seen.append((A.shape, B.shape))
        return A @ np.diag([1, 2, 3, 4]) @ B[:, ::-1].T

    scorer = RetrievalScorer(lopsided).fit(TRAIN)
    expected = lopsided(TEST["image"], TEST["text"]).astype(np.float32)
    np.testing.assert_allclose(scorer.compare(TEST), expected, rtol=1e-6)
    np.testing.assert_allclose(scorer.compare(TEST, query="text"), expected.T, rtol=1e-6)
    assert set(seen) == {((12, 4), (12, 4))}
    swapped = TEST.select("text", "image")  # by name, not by order
    np.testing.assert_allclose(scorer.compare(swapped), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"must have shape \(12, 12\), got \(12,\)"):
        RetrievalScorer(lambda A, B: A[:, 0]).fit(TRAIN).compare(TEST)


def test_similarities_that_learn_are_fitted_on_the_training_rows():
    rng = np.random.default_rng(0)
    P, Q = rng.dirichlet(np.ones(3), 40), rng.dirichlet(np.ones(3), 40)
    views, y = Views(image=P, text=Q), rng.choice(3, 40, p=[0.6, 0.3, 0.1])
    given = PosteriorOverPrior()
    scorer = RetrievalScorer(given).fit(views, y)
    expected = P @ np.diag(1 / np.bincount(y) * 40) @ Q.T
    np.testing.assert_allclose(scorer.compare(views), expected, rtol=1e-6)
    assert not hasattr(given, "prior_")  # parameters stay as they were given
    knn = RetrievalScorer(KNNPosterior(5)).fit(views, y)
    alone = KNNPosterior(5).fit(views, y)
    assert np.array_equal(knn.compare(views), alone(P, Q))
    tuned = clone(knn).set_params(similarity__n_neighbors=9)
    assert tuned.fit(views, y).similarity_.n_neighbors == 9
    with pytest.raises(ValueError, match="PosteriorOverPrior needs training labels"):
        RetrievalScorer(given).fit(views)


def test_index_and_search():
    scorer = RetrievalScorer().fit(TRAIN)
    S = pairwise_similarity(TEST["text"], TRAIN["image"])
    assert scorer.index(TRAIN["image"], "image") is scorer
    found = scorer.search(TEST["text"], "text", k=5)
    assert np.array_equal(found.indices, np.argsort(-S, axis=1, kind="stable")[:, :5])
    assert np.array_equal(found.scores, np.take_along_axis(S, found.indices, axis=1))
    asked = crossfit.search(scorer, TEST["text"], view="text", k=5)
    assert np.array_equal(asked.indices, found.indices)
    within = scorer.search(TRAIN["image"][:3], "image", k=1)
    assert within.indices.ravel().tolist() == [0, 1, 2]
    again = pickle.loads(pickle.dumps(scorer))
    assert np.array_equal(again.search(TEST["text"], "text", k=5).indices, found.indices)


def test_three_views():
    v = Views(image=TEST["image"], text=TEST["text"], audio=TEST["text"] + 0.1)
    scorer = RetrievalScorer("l2").fit(v)
    S = scorer.compare(v, query="audio", gallery="image")
    assert np.array_equal(S, pairwise_similarity(v["audio"], v["image"], "l2"))
    names = v.names
    each = [scorer.score(v.select(a, b)) for a in names for b in names if a < b]
    assert len(each) == 3 and scorer.score(v) == pytest.approx(np.mean(each))


BAD = {
    "arrays": (lambda s: s.fit(np.eye(3)), TypeError, "expects Views, got ndarray"),
    "score of arrays": (lambda s: s.score(np.eye(3)), TypeError, "expects Views, got ndarray"),
    "similarity": (lambda s: RetrievalScorer("euclid").fit(TRAIN), ValueError, "unknown simil"),
    "metric": (lambda s: RetrievalScorer(metric="accuracy").fit(TRAIN), ValueError, "accuracy"),
    "type": (lambda s: RetrievalScorer(3).fit(TRAIN), TypeError, "a name, a callable.*int"),
    "index view": (lambda s: s.index(np.eye(4), "audio"), ValueError, "'audio'.*image, text"),
    "search view": (
        lambda s: s.index(np.eye(4), "text").search(np.eye(4), "audio"), ValueError, "'audio'"),
    "no gallery": (lambda s: s.search(np.eye(4), "text"), ValueError, r"call index\(values"),
    "k": (lambda s: s.search(np.eye(4), "text", k=0), ValueError, "k must be an integer"),
    "columns": (
        lambda s: s.index(np.eye(3), "text").search(np.eye(4), "image"), ValueError, "got 4 and 3"),
    "query": (lambda s: s.compare(TEST, query="audio"), ValueError, "'audio'"),
    "unknown view": (lambda s: s.score(TEST.rename({"text": "words"})), ValueError, "'words'"),
    "one view": (lambda s: s.score(TEST.select("text")), ValueError, "between two views"),
    "labels": (lambda s: s.score(TEST, [0, 1]), ValueError, r"per row \(12\), got 2"),
    "nan": (lambda s: s.score(TEST.replace(text=TEST["text"] + np.nan)), ValueError, "NaN"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    use, error, message = BAD[case]
    with pytest.raises(error, match=message):
        use(RetrievalScorer().fit(TRAIN))


def test_nothing_before_fit():
    for use in (
        lambda s: s.score(TEST),
        lambda s: s.compare(TEST),
        lambda s: s.index(np.eye(4), "text"),
        lambda s: s.search(np.eye(4), "text"),
    ):
        with pytest.raises(NotFittedError):
            use(RetrievalScorer())


def test_parameters():
    scorer = RetrievalScorer("l1", metric="r@5").fit(TRAIN)
    assert clone(scorer).get_params() == {"similarity": "l1", "metric": "r@5"}
    assert repr(scorer) == "RetrievalScorer(metric='r@5', similarity='l1')"
    assert pickle.loads(pickle.dumps(scorer)).score(TEST) == scorer.score(TEST)
    assert scorer.fit_transform(TEST) is TEST
