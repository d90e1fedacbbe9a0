"""make_retrieval_scorer: figures by hand, directions, pickling, invalid input."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crossfit import RetrievalScorer, Views, ViewTransformer, make_retrieval_scorer, similarity
from crossfit.metrics import evaluate
from crossfit.model_selection import RetrievalMetric
from crossfit.subspace import CCA


@pytest.fixture
def fitted(planted):
    views, y = planted(n=60, noise=2.0)
    return CCA(2).fit(views), views, y


@pytest.mark.parametrize("metric", ["map@all", "map@10:hits", "r@1", "mrr", "ndcg@10", "meanr"])
@pytest.mark.parametrize("labelled", [True, False])
def test_figures(fitted, metric, labelled):
    cca, views, y = fitted
    relevance = (y, y) if labelled else np.eye(60)
    found = evaluate(cca.similarity(views), relevance, [metric], ci=None)
    sign = -1 if metric == "meanr" else 1
    given = (cca, views, y) if labelled else (cca, views)
    for direction, side in [("both", None), ("image2text", "forward"), ("text2image", "backward")]:
        expected = sign * found.mean(side, metric)
        assert make_retrieval_scorer(metric, direction)(*given) == pytest.approx(expected)
    assert make_retrieval_scorer(metric, "i2t")(*given) == pytest.approx(
        sign * found.mean("forward", metric)
    )
    assert found.mean("forward", metric) != found.mean("backward", metric)


def test_the_default_is_the_estimators_own_score(fitted):
    cca, views, y = fitted
    assert make_retrieval_scorer()(cca, views, y) == cca.score(views, y)
    assert make_retrieval_scorer("mrr")(cca, views) == cca.score(views)


def test_pipelines(planted):
    views, y = planted(n=60, noise=2.0)
    pipe = make_pipeline(
        ViewTransformer([("image", StandardScaler())]), CCA(2), RetrievalScorer("l1", "map@all")
    ).fit(views, y)
    score = make_retrieval_scorer("map@all")
    assert score(pipe, views, y) == pipe.score(views, y)
    expected = evaluate(similarity(pipe, views), (y, y), ["map@all"], ci=None)
    assert score(pipe, views, y) == pytest.approx(expected.mean(None, "map@all"))


def test_ties():
    class Constant(RetrievalScorer):
        def fit(self, X, y=None):
            self.views_in_ = {name: name for name in X.names}
            self.similarity_ = lambda A, B: np.zeros((len(A), len(B)))
            return self

    v = Views(image=np.eye(4), text=np.eye(4))
    r1 = {t: make_retrieval_scorer("r@1", ties=t)(Constant().fit(v), v) for t in
          ("expected", "stable", "worst")}  # fmt: skip
    assert r1 == {"expected": 0.25, "stable": 0.25, "worst": 0}
    sorted_labels = np.array([0, 0, 1, 1])
    stable = make_retrieval_scorer("r@1", ties="stable")(Constant().fit(v), v, sorted_labels)
    assert stable == 0.5


def test_views_that_the_method_does_not_know_pass_by_when_it_chose(planted):
    views, _ = planted(names=("image", "text"))
    more = Views(image=views["image"], text=views["text"], noise=np.zeros((120, 1)))
    cca = CCA(2, views={"image": "image", "text": "text"}).fit(more)
    for direction in ("both", "t2i"):
        score = make_retrieval_scorer("mrr", direction)
        assert score(cca, more) == score(cca, views)


def test_three_views_and_names_that_hold_a_2(planted):
    views, y = planted(dims=(6, 5, 4), names=("word2vec", "image", "audio"), noise=1.5)
    cca = CCA(2).fit(views)
    S = cca.similarity(views, query="word2vec", gallery="audio")
    expected = evaluate(S, (y, y), ["map@all"], directions="forward", ci=None)
    found = make_retrieval_scorer("map@all", "word2vec2audio")(cca, views, y)
    assert found == pytest.approx(expected.mean(None, "map@all"))
    each = [
        make_retrieval_scorer("map@all", f"{a}2{b}")(cca, views, y)
        for a in views.names for b in views.names if a != b
    ]  # fmt: skip
    assert make_retrieval_scorer()(cca, views, y) == pytest.approx(np.mean(each))


def test_audio_aliases(planted):
    views, y = planted(names=("audio", "text"))
    cca = CCA(2).fit(views)
    for alias, name in [("a2t", "audio2text"), ("t2a", "text2audio")]:
        assert make_retrieval_scorer(direction=alias)(cca, views, y) == make_retrieval_scorer(
            direction=name
        )(cca, views, y)


def test_scorers_are_values():
    score = make_retrieval_scorer("r@5", "i2t")
    assert pickle.loads(pickle.dumps(score)) == score
    assert clone(score, safe=False) == score
    assert "r@5" in repr(score)


def test_bad_scorers(fitted):
    cca, views, y = fitted
    for settings, message in [
        ({"metric": "accuracy"}, "accuracy"),
        ({"direction": "forth"}, "direction must be 'both' or like 'image2text', got 'forth'"),
        ({"direction": ""}, "direction must be 'both' or like 'image2text', got ''"),
        ({"direction": 2}, "direction must be 'both' or like 'image2text', got 2"),
        ({"direction": None}, "direction must be 'both' or like 'image2text', got None"),
        ({"ties": "lucky"}, "ties must be one of expected, stable, worst, best, got 'lucky'"),
        ({"ties": ["stable"]}, r"ties must be one of .*, got \['stable'\]"),
        ({"ties": True}, "ties must be one of .*, got True"),
        ({"metric": 5}, "got 5"),
        ({"metric": ["mrr"]}, r"got \['mrr'\]"),
        ({"metric": ""}, "metric"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            make_retrieval_scorer(**settings)
        whole = {"metric": "mrr", "direction": "both", "ties": "stable", **settings}
        with pytest.raises((ValueError, TypeError), match=message):
            RetrievalMetric(**whole)
    with pytest.raises(NotFittedError, match="This CCA instance is not fitted yet"):
        make_retrieval_scorer()(CCA(), views, y)
    with pytest.raises(TypeError, match="expects a fitted method, got the class CCA"):
        make_retrieval_scorer()(CCA, views, y)
    with pytest.raises(ValueError, match="direction: 'a2t' is unknown; use one of image2text"):
        make_retrieval_scorer(direction="a2t")(cca, views, y)
    with pytest.raises(TypeError, match="expects Views, got ndarray"):
        make_retrieval_scorer()(cca, views["image"], y)
    with pytest.raises(TypeError, match="got BaseEstimator"):
        make_retrieval_scorer()(BaseEstimator(), views, y)
    with pytest.raises(ValueError, match=r"one label per row \(60\), got 3"):
        make_retrieval_scorer()(cca, views, y[:3])
