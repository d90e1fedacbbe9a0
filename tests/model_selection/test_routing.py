"""Weights and groups of rows on their way: searches, pipelines, splitters and scorers."""

import pickle

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from crossfit import ChannelUnion, RetrievalScorer, Views, ViewTransformer, make_retrieval_scorer
from crossfit.cards import Choice, Float
from crossfit.metrics import evaluate
from crossfit.model_selection import OptunaSearch, PairKFold
from crossfit.subspace import CCA, KCCA

SPACE = {"reg": Choice(0.01, 1.0)}


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture
def pairs(planted):
    views, y = planted(n=90, noise=1.5)
    return views, y, np.random.default_rng(1).integers(0, 4, 90)


def pipeline(cca=None, scaler=None):
    features = ViewTransformer([("image", scaler or PCA(4)), ("text", "passthrough")])
    return Pipeline([("features", features), ("cca", cca or CCA(2)), ("scorer", RetrievalScorer())])


def by_hand(views, y, weights, folds, reg, features=None, scoring=None, of_scores=None):
    """Return the mean score of weighted CCAs over folds."""
    scores = []
    for train, test in folds:
        part, held_out = views[train], views[test]
        if features is not None:
            fitted = clone(features).fit(part)
            part, held_out = fitted.transform(part), fitted.transform(held_out)
        cca = CCA(2, reg=reg).fit(part, sample_weight=weights[train])
        more = () if of_scores is None else (of_scores[test],)
        metric = scoring or make_retrieval_scorer("map@all")
        scores.append(metric(cca, held_out, None if y is None else y[test], *more))
    return np.mean(scores)


# ---- searches -------------------------------------------------------------------------------


def test_a_search_fits_its_trials_and_its_winner_with_the_weights(pairs):
    views, y, weights = pairs
    search = OptunaSearch(CCA(2), SPACE, n_trials=2, random_state=0)
    search.fit(views, y, sample_weight=weights)
    for trial in search.trials_:
        expected = by_hand(views, y, weights, search.folds_, trial.params["reg"])
        assert trial.value == pytest.approx(expected, rel=1e-6)
    winner = CCA(2, **search.best_params_).fit(views, sample_weight=weights)
    np.testing.assert_array_equal(search.best_estimator_.correlations_, winner.correlations_)
    without = OptunaSearch(CCA(2), SPACE, n_trials=2, random_state=0).fit(views, y)
    assert without.best_score_ != search.best_score_


@pytest.mark.parametrize("routes", [False, True])
@pytest.mark.parametrize("first", ["features", "cca"])
def test_in_pipelines_the_weights_reach_the_method(pairs, routes, first):
    views, y, weights = pairs
    space = {"cca__reg": SPACE["reg"]}
    if first == "features":
        space["features__image__whiten"] = Choice(False)
    with sklearn.config_context(enable_metadata_routing=routes):
        cca = CCA(2).set_fit_request(sample_weight=True) if routes else CCA(2)
        search = OptunaSearch(pipeline(cca), space, n_trials=2, random_state=0)
        search.fit(views, y, sample_weight=weights)
    features = pipeline()["features"]
    for trial in search.trials_:
        expected = by_hand(
            views, y, weights, search.folds_, trial.params["cca__reg"], features
        )  # fmt: skip
        assert trial.value == pytest.approx(expected, rel=1e-6)


def test_fixed_steps_before_the_searched_ones_have_their_weights(pairs, routing):
    views, y, weights = pairs
    cca = CCA(2).set_fit_request(sample_weight=True)
    scaler = StandardScaler().set_fit_request(sample_weight=True)
    found = []
    for fixed in (True, False):
        space = {"scorer__similarity": Choice("cosine", "l2")}
        if not fixed:  # everything is fitted in each trial
            space["features__image__with_mean"] = Choice(True)
        search = OptunaSearch(pipeline(cca, scaler), space, n_trials=2, random_state=0)
        search.fit(views, y, sample_weight=weights)
        found.append({t.params["scorer__similarity"]: t.value for t in search.trials_})
    assert found[0] == pytest.approx(found[1])
    fitted = search.best_estimator_["features"].transformers_["image"]
    np.testing.assert_allclose(fitted.mean_, np.average(views["image"], axis=0, weights=weights))


def test_nested_pipelines_without_routing(pairs):
    views, y, weights = pairs
    inner = Pipeline([("cca", CCA(2)), ("scorer", RetrievalScorer())])
    outer = Pipeline([("features", pipeline()["features"]), ("method", inner)])
    search = OptunaSearch(outer, {"method__cca__reg": Choice(0.01)}, n_trials=1)
    search.fit(views, y, sample_weight=weights)
    expected = by_hand(views, y, weights, search.folds_, 0.01, pipeline()["features"])
    assert search.best_score_ == pytest.approx(expected, rel=1e-6)


def test_routing_reaches_the_processes_of_a_search(pairs, routing, tmp_path):
    views, y, weights = pairs
    cca = CCA(2).set_fit_request(sample_weight=True)
    one, two = (
        OptunaSearch(
            cca, SPACE, n_trials=2, n_jobs=jobs, storage=f"sqlite:///{tmp_path}/{jobs}.db"
        ).fit(views, y, sample_weight=weights)
        for jobs in (1, 2)
    )
    assert one.best_score_ == pytest.approx(two.best_score_)
    assert one.best_params_ == two.best_params_


def test_views_held_out_have_no_weights(pairs, routing):
    views, y, weights = pairs
    cca = CCA(2).set_fit_request(sample_weight=True)
    train, test = views[:60], views[60:]
    search = OptunaSearch(cca, SPACE, cv=(test, y[60:]), n_trials=2)
    search.fit(train, y[:60], sample_weight=weights[:60])
    for trial in search.trials_:
        fitted = CCA(2, **trial.params).fit(train, sample_weight=weights[:60])
        assert trial.value == pytest.approx(fitted.score(test, y[60:]), rel=1e-6)
    scoring = make_retrieval_scorer("mrr").set_score_request(sample_weight=True)
    search.set_params(scoring=scoring)
    with pytest.raises(ValueError, match="cv: the scorer requests sample_weight, which the Views"):
        search.fit(train, y[:60], sample_weight=weights[:60])


def test_a_search_inside_cross_validation(pairs, routing):
    views, y, weights = pairs
    groups = np.arange(90) // 3
    cca = CCA(2).set_fit_request(sample_weight=True)
    search = OptunaSearch(cca, SPACE, n_trials=2, random_state=0)
    cv = PairKFold(3)
    found = cross_validate(
        search, views, y, cv=cv, scoring=make_retrieval_scorer("map@all"),
        params={"sample_weight": weights, "groups": groups}, return_estimator=True,
    )  # fmt: skip
    for (train, test), inner, score in zip(
        cv.split(views, y, groups), found["estimator"], found["test_score"], strict=True
    ):
        assert not set(groups[train]) & set(groups[test])
        for own_train, own_test in inner.folds_:
            assert not set(groups[train][own_train]) & set(groups[train][own_test])
        expected = CCA(2, **inner.best_params_).fit(views[train], sample_weight=weights[train])
        assert score == pytest.approx(expected.score(views[test], y[test]))


def test_a_study_belongs_to_its_weights(pairs, tmp_path):
    views, y, weights = pairs
    given = {"n_trials": 1, "storage": f"sqlite:///{tmp_path}/s.db", "study_name": "one"}
    OptunaSearch(CCA(2), SPACE, **given).fit(views, y, sample_weight=weights)
    again = OptunaSearch(CCA(2), SPACE, **given).fit(views, y, sample_weight=weights)
    assert len(again.trials_) == 1
    for other in ({}, {"sample_weight": weights + 1}):
        with pytest.raises(ValueError, match="was made with other data"):
            OptunaSearch(CCA(2), SPACE, **given).fit(views, y, **other)


def test_weights_that_nothing_takes(pairs, routing):
    views, y, weights = pairs
    with sklearn.config_context(enable_metadata_routing=False):
        with pytest.raises(TypeError, match="KCCA does not take weights of rows; leave out"):
            OptunaSearch(KCCA(2), n_trials=1).fit(views, y, sample_weight=weights)
        with pytest.raises(TypeError, match="'cost' is passed on by metadata routing only"):
            OptunaSearch(CCA(2), SPACE).fit(views, y, cost=weights)
    with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
        OptunaSearch(CCA(2), SPACE).fit(views, y, sample_weight=weights)
    with pytest.raises(TypeError, match="cost"):
        OptunaSearch(CCA(2), SPACE).fit(views, y, cost=weights)
    with pytest.raises(ValueError, match=r"CCA: sample_weight must be one number per row"):
        OptunaSearch(CCA(2).set_fit_request(sample_weight=True), SPACE, n_trials=1).fit(
            views, y, sample_weight=weights[:5]
        )


def test_weights_under_another_name(pairs, routing):
    views, y, weights = pairs
    cca = CCA(2).set_fit_request(sample_weight="trust")
    search = OptunaSearch(cca, SPACE, n_trials=2).fit(views, y, trust=weights)
    expected = by_hand(views, y, weights, search.folds_, search.best_params_["reg"])
    assert search.best_score_ == pytest.approx(expected, rel=1e-6)


# ---- scorers --------------------------------------------------------------------------------


def weighted_by_hand(cca, views, y, weights, metric):
    """Return the weighted mean of both directions by a loop over queries."""
    found = evaluate(cca.similarity(views), (y, y) if y is not None else np.eye(len(y)), metric)
    means = []
    for direction in found.directions:
        values = found.per_query[direction, metric]
        means.append(sum(w * v for w, v in zip(weights, values)) / sum(weights))
    return np.mean(means)


def test_a_weighted_score_is_the_weighted_mean_over_queries(pairs):
    views, y, weights = pairs
    cca = CCA(2).fit(views)
    for metric in ("map@all", "r@5"):
        scorer = make_retrieval_scorer(metric)
        expected = weighted_by_hand(cca, views, y, weights, metric)
        assert scorer(cca, views, y, sample_weight=weights) == pytest.approx(expected)
        assert scorer(cca, views, y, np.full(90, 3.0)) == pytest.approx(scorer(cca, views, y))
    only = make_retrieval_scorer("mrr", direction="t2i")
    at = np.zeros(90)
    at[7] = 1
    ranks = (cca.similarity(views).T[7] > cca.similarity(views)[7, 7]).sum() + 1
    assert only(cca, views, None, at) == pytest.approx(1 / ranks)


def test_an_item_weighs_as_much_as_its_rows():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(20, 3))
    texts = np.repeat(Z, 3, axis=0) + rng.normal(size=(60, 3))
    views = Views.from_captions(Z, texts, np.repeat(np.arange(20), 3))
    cca, weights = CCA(2).fit(views), rng.uniform(0, 2, 60)
    found = evaluate(cca.similarity(views), views.relevance("image", "text"), "mrr", ci=None)
    forward = np.average(found.per_query["forward", "mrr"], weights=weights.reshape(20, 3).sum(1))
    backward = np.average(found.per_query["backward", "mrr"], weights=weights)
    score = make_retrieval_scorer("mrr")(cca, views, None, weights)
    assert score == pytest.approx((forward + backward) / 2)


def test_cross_validation_routes_weights_to_a_scorer(pairs, routing):
    views, y, weights = pairs
    of_scores = np.random.default_rng(5).uniform(0.1, 2, 90)
    cca = CCA(2, reg=1.0).set_fit_request(sample_weight="fitting")
    plain = make_retrieval_scorer("map@all")
    weighted = plain.set_score_request(sample_weight="scoring")
    cv = PairKFold(3)
    found = cross_validate(
        cca, views, y, cv=cv, scoring={"plain": plain, "weighted": weighted},
        params={"fitting": weights, "scoring": of_scores},
    )  # fmt: skip
    folds = list(cv.split(views, y))
    expected = by_hand(views, y, weights, folds, 1.0)
    assert found["test_plain"].mean() == pytest.approx(expected, rel=1e-6)
    expected = by_hand(views, y, weights, folds, 1.0, scoring=plain, of_scores=of_scores)
    assert found["test_weighted"].mean() == pytest.approx(expected, rel=1e-6)
    search = OptunaSearch(cca, {"reg": Choice(1.0)}, scoring=weighted, cv=cv, n_trials=1)
    search.fit(views, y, fitting=weights, scoring=of_scores)
    assert search.best_score_ == pytest.approx(expected, rel=1e-6)
    grid = GridSearchCV(cca, {"reg": [1.0]}, scoring=weighted, cv=cv)
    grid.fit(views, y, fitting=weights, scoring=of_scores)
    assert grid.best_score_ == pytest.approx(expected, rel=1e-6)


def test_a_scorer_without_a_request_has_the_hash_and_pickle_of_before():
    scorer = make_retrieval_scorer("mrr")
    assert set(scorer.__getstate__()) == {"metric", "direction", "ties"}
    weighted = scorer.set_score_request(sample_weight=True)
    assert joblib.hash(scorer) != joblib.hash(weighted)
    for one in (scorer, weighted):
        assert pickle.loads(pickle.dumps(one)) == one
    assert weighted != scorer


@pytest.mark.parametrize(
    "metric, weights, message",
    [
        ("medr", np.ones(90), "medr is a median over the queries, which has no weights"),
        ("mrr", np.zeros(90), "sample_weight: every query of .* has weight 0"),
        ("mrr", np.ones(5), r"sample_weight must be one number per row \(90\)"),
        ("mrr", np.full(90, -1.0), "finite and at least 0, got -1.0 in row 0"),
    ],
)
def test_bad_weights_of_a_score(pairs, metric, weights, message):
    views, y, _ = pairs
    with pytest.raises(ValueError, match=message):
        make_retrieval_scorer(metric)(CCA(2).fit(views), views, y, weights)


def test_the_score_of_a_search_with_weights(pairs):
    views, y, weights = pairs
    search = OptunaSearch(CCA(2), {"reg": Float(0.1, 1.0)}, n_trials=1).fit(views, y)
    expected = search.scorer_(search.best_estimator_, views, y, weights)
    assert search.score(views, y, sample_weight=weights) == expected != search.score(views, y)


# ---- transformers of views ------------------------------------------------------------------


class Recording(TransformerMixin, BaseEstimator):
    """A transformer without fit_transform of its own that records its weights."""

    def fit(self, X, y=None, sample_weight=None):
        self.weights_ = sample_weight
        return self

    def transform(self, X):
        return X


def test_transformers_are_given_the_weights_of_items(routing):
    rng = np.random.default_rng(0)
    images, texts, weights = (
        rng.normal(size=(20, 3)),
        rng.normal(size=(60, 3)),
        rng.uniform(size=60),
    )
    index = np.repeat(np.arange(20), 3)
    views = Views.from_captions(images, texts, index)
    scaler = StandardScaler().set_fit_request(sample_weight=True)
    union = ChannelUnion([("a", scaler), ("b", Recording())])
    union.transformers[1][1].set_fit_request(sample_weight=True)
    chain = make_pipeline(StandardScaler().set_fit_request(sample_weight=True), PCA(2))
    features = ViewTransformer([("image", union), ("text", chain)])
    fitted = features.fit(views, sample_weight=weights).transformers_
    of_images = np.bincount(index, weights)
    np.testing.assert_allclose(
        fitted["image"].transformers_["a"].mean_, np.average(images, axis=0, weights=of_images)
    )
    np.testing.assert_array_equal(fitted["image"].transformers_["b"].weights_, of_images)
    np.testing.assert_allclose(fitted["text"][0].mean_, np.average(texts, axis=0, weights=weights))
    found = features.fit_transform(views, sample_weight=weights)
    np.testing.assert_array_equal(found["text"], features.transform(views)["text"])
    plain = ViewTransformer([("image", StandardScaler())])
    with pytest.raises(UnsetMetadataPassedError):
        plain.fit(views, sample_weight=weights)
    with pytest.raises(ValueError, match=r"ViewTransformer: sample_weight must be one number per"):
        features.fit(views, sample_weight=weights[:3])
    with (
        sklearn.config_context(enable_metadata_routing=False),
        pytest.raises(
            TypeError, match=r"ViewTransformer\.fit: 'sample_weight' is passed on by meta"
        ),
    ):
        features.fit(views, sample_weight=weights)


def test_splitters_request_groups(pairs, routing):
    views, y, _ = pairs
    groups = np.arange(90) // 3
    cv = PairKFold(3)
    found = cross_validate(
        CCA(2), views, y, cv=cv, params={"groups": groups}, scoring=make_retrieval_scorer("mrr"),
        return_indices=True,
    )  # fmt: skip
    for train, test in zip(*(found["indices"][side] for side in ("train", "test"))):
        assert not set(groups[train]) & set(groups[test])
