"""Figures do not depend on global settings of a program: NumPy's error state, warnings, locale."""

import contextlib
import locale
import warnings

import numpy as np
import pytest

import crossfit
from crossfit import Views
from crossfit.metrics import (
    bootstrap_interval,
    chance_level,
    compare,
    evaluate,
    interpolated_precision_recall,
    paired_test,
    voc_average_precision,
)
from crossfit.retrieval import ApproximateIndex, ExactIndex, Reranker
from crossfit.similarities import MEASURES, KNNPosterior, PosteriorOverPrior, pairwise_similarity
from crossfit.subspace import CCA, JRL, SM

RNG = np.random.default_rng(0)
Y = np.arange(40) % 4
X = RNG.normal(size=(40, 5)) + np.eye(4, 5)[Y]
T = RNG.normal(size=(40, 4)) + np.eye(4)[Y]
# Squares and exponentials of these underflow, and 2^grade is large.
TINY = np.abs(np.vstack([T[:20], T[20:] * 1e-170]))
SMALL = 1e-310 * X[:, 0]
GRADES = np.where(np.equal.outer(Y, Y), 500, 0)


def figures():
    """Return the results of many public functions as one list of arrays."""
    views = Views(image=X, text=T)
    S = pairwise_similarity(X[:, :4], T)
    ties = np.round(S)
    found = [pairwise_similarity(TINY, TINY[::-1], name) for name in MEASURES]
    for scores in (S, ties, -1e30 * ties):
        for relevance in ((Y, Y), GRADES):
            names = ["map@all", "map@7:hits", "ndcg@9", "mrr", "r@5", "medr"]
            ev = evaluate(scores, relevance, names, groups=(Y, Y))
            found += [ev.per_query[key] for key in ev.per_query]
            found += [ev.interval("forward", name) for name in names]
            found += interpolated_precision_recall(scores, relevance)
    found += [chance_level(GRADES, "ndcg@all").mean(None, "ndcg@all")]
    other = evaluate(S.T.copy(), (Y, Y), groups=(Y, Y))
    found += [compare({"a": evaluate(S, (Y, Y), groups=(Y, Y)), "b": other}, "map@all", None)]
    found += [bootstrap_interval(X[:, 0] * 1e-300), paired_test(X[:, 0], 1e-300 * T[:, 0])]
    found += [voc_average_precision(Y > 2, SMALL)]
    alike = Views(a=T, b=T * 300)
    knn = KNNPosterior(5).fit(alike, Y)
    found += [knn(T * 1e5, T), PosteriorOverPrior().fit(views, Y)(np.abs(T), np.abs(T))]
    for index in (ExactIndex("l2"), ApproximateIndex()):
        found += index.add(T).search(TINY, 3)
    for method in (CCA(2), SM(measure="kl"), JRL(n_neighbors=5)):
        method.fit(views, Y)
        found += [method.similarity(views), method.score(views, Y)]
    two = Reranker(CCA(1), CCA(2), k=3).fit(views)
    found += [crossfit.similarity(two, views), two.score(views)]
    return found


@contextlib.contextmanager
def german():
    before = locale.setlocale(locale.LC_ALL)
    for name in ("de_DE.UTF-8", "de_DE", "German"):
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, name)
            break
    else:
        pytest.skip("there is no German locale")
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.fixture(scope="module")
def expected():
    return figures()


@pytest.mark.parametrize(
    "state",
    [
        lambda: np.errstate(all="raise"),
        lambda: np.printoptions(precision=1, threshold=2, suppress=True, legacy="1.13"),
        german,
    ],
    ids=["errors", "print options", "locale"],
)
def test_figures_are_the_same_whatever_is_set(state, expected):
    with state(), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = figures()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(one, object), np.asarray(other, object))


# ---- numbers at the ends of their range ----------------------------------------------------------


@pytest.mark.parametrize("factor", [1e-300, 1e-200, 1e150, 1e200, 1e300])
def test_angles_are_those_of_any_scale(factor):
    for measure in ("cosine", "correlation"):
        np.testing.assert_allclose(
            pairwise_similarity(T * factor, T, measure), pairwise_similarity(T, T, measure),
            rtol=1e-5, atol=1e-6,
        )  # fmt: skip
    found = ApproximateIndex().add(T * factor).search(T, 3)
    np.testing.assert_array_equal(found.indices, ExactIndex().add(T).search(T, 3).indices)


@pytest.mark.parametrize("measure", ["dot", "l2", "l1"])
def test_scores_beyond_float32_are_refused(measure):
    found = pairwise_similarity(T * 1e17, T * 1e17, measure)
    power = 1e34 if measure == "dot" else 1e17
    np.testing.assert_allclose(found / power, pairwise_similarity(T, T, measure), atol=1e-5)
    for factor in (1e40, 1e200, 1e307):
        with pytest.raises(ValueError, match="of rows with such large entries exceeds"):
            pairwise_similarity(T * factor, T * factor, measure)
    for index in (ExactIndex(measure), ApproximateIndex(measure if measure != "l1" else "l2")):
        with pytest.raises(ValueError, match=r"with such large entries|too large for it"):
            index.add(T * 1e40).search(T * 1e40)


def test_distances_that_would_be_infinite_are_refused():
    with pytest.raises(ValueError, match=r"as large as .*e.200 are infinite"):
        KNNPosterior().fit(Views(a=T, b=T * 1e200), Y)
    with pytest.raises(ValueError, match=r"as large as .*e.200 are infinite"):
        KNNPosterior().fit(Views(a=T, b=T), Y).posterior(T * 1e200)
