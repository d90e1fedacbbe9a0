"""OptunaSearch: spaces, rows, pruning, continuation and failures."""

import logging
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import crossfit
from crossfit import RetrievalScorer, Views, ViewTransformer, make_retrieval_scorer
from crossfit.cards import Choice, Each, Float, Int, suggest
from crossfit.extraction import LdaTopics
from crossfit.methods import CCA, KCCA, PLS
from crossfit.model_selection import (
    OptunaSearch,
    PairKFold,
    PairShuffleSplit,
    default_search_space,
    exhaustive,
    storages,
)
from crossfit.model_selection import _trials as trials_module
from crossfit.model_selection import _workers as workers_module
from crossfit.model_selection.objectives import Measures

REG = {"reg": Float(1e-4, 10.0, log=True)}


def states(search):
    return [trial.state for trial in search.trials_]


@pytest.fixture(params=["memory", "sqlite"])
def storage(request, tmp_path):
    return None if request.param == "memory" else f"sqlite:///{tmp_path / 'study.db'}"


# ---- the search --------------------------------------------------------------------------------


def test_the_winner_is_the_best_trial_and_answers_like_a_method(pairs, spaces):
    views, y = pairs
    search = OptunaSearch(CCA(), spaces, n_trials=8, random_state=0).fit(views, y)
    assert len(search.trials_) == 8 == len(search.study_.trials)
    assert search.best_score_ == max(trial.value for trial in search.trials_)
    folds = list(PairKFold(3, shuffle=True, random_state=0).split(views, y))
    for (a, b), (c, d) in zip(search.folds_, folds):
        assert np.array_equal(a, c) and np.array_equal(b, d)
    by_hand = cross_val_score(
        CCA(**search.best_params_), views, y, cv=folds, scoring=make_retrieval_scorer("map@all")
    )
    assert search.best_score_ == by_hand.mean()
    best = next(t for t in search.trials_ if t.value == search.best_score_)
    assert best.user_attrs["fold_scores"] == by_hand.tolist()
    winner = CCA(**search.best_params_).fit(views)
    scores = winner.similarity(views)
    assert np.array_equal(crossfit.similarity(search, views), scores)
    assert np.array_equal(search.similarity(views), scores)
    Z = winner.transform(views)
    assert np.array_equal(search.encode(views["text"], "text"), Z["text"])
    assert np.array_equal(search.transform(views)["image"], Z["image"])
    assert search.score(views, y) == winner.score(views, y)
    found = crossfit.search(search, views["text"][:3], view="text", gallery=views["image"], k=2)
    assert found.indices.shape == (3, 2)


def test_without_labels_the_paired_item_counts_and_metrics_go_by_name(pairs):
    views, _ = pairs
    search = OptunaSearch(CCA(), REG, n_trials=2, random_state=0).fit(views)
    assert search.scorer_.metric == "mrr"
    search = OptunaSearch(CCA(), REG, scoring="medr", n_trials=2, random_state=0).fit(views)
    assert search.best_score_ < 0  # ranks are negated


def test_a_seeded_search_is_repeatable_bit_for_bit(pairs, tiny):
    views, _ = pairs

    def searched(method=None, n_trials=12, **kwargs):
        method = CCA() if method is None else method
        search = OptunaSearch(method, n_trials=n_trials, pruner="median", refit=False, **kwargs)
        return [(t.params, t.value, t.intermediate_values) for t in search.fit(views).trials_]

    first = searched(random_state=3)
    assert first == searched(random_state=3) == searched(random_state=3, sampler="tpe")
    assert first != searched(random_state=4) and first != searched(random_state=3, sampler="random")
    sampler = optuna.samplers.RandomSampler(seed=1)
    assert searched(sampler=sampler) == searched(sampler=sampler)  # the generator is not exhausted
    method = tiny(max_epochs=2, random_state=0)
    assert searched(method, 4, random_state=3) == searched(method, 4, random_state=3)


def test_nothing_is_changed_or_printed(pairs, capfd, tiny):
    views, y = pairs
    estimator = CCA(n_components=50)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    before = (estimator.get_params(), state, torch.get_rng_state())
    level = optuna.logging.get_verbosity()
    search = OptunaSearch(estimator, REG, n_trials=2).fit(views, y)
    OptunaSearch(tiny(max_epochs=1), n_trials=1, refit_epochs=True).fit(views, y)
    assert estimator.get_params() == before[0] and not hasattr(estimator, "views_in_")
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])
    assert optuna.logging.get_verbosity() == level
    out, err = capfd.readouterr()
    assert not out and "Trial" not in err
    copied = clone(search)
    assert copied.get_params()["n_trials"] == 2 and not hasattr(copied, "study_")
    assert pickle.loads(pickle.dumps(search)).best_params_ == search.best_params_


def test_optuna_is_heard_when_asked(pairs, caplog, capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger("optuna"), "propagate", True)  # False before Optuna 5
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    OptunaSearch(CCA(), REG, n_trials=1, verbose=2).fit(pairs[0])
    assert "Trial 0 finished" in caplog.text
    caplog.clear()
    OptunaSearch(CCA(), REG, n_trials=2, verbose=True).fit(pairs[0])
    assert "tuning" in capfd.readouterr().err
    assert "Trial 0" not in caplog.text


def test_a_search_can_be_cross_validated_itself(pairs):
    views, y = pairs
    search = OptunaSearch(CCA(), REG, n_trials=2, cv=2, random_state=0)
    scores = cross_val_score(search, views, y, cv=PairKFold(2), scoring=make_retrieval_scorer())
    assert scores.shape == (2,) and (scores > 0).all()


# ---- rows --------------------------------------------------------------------------------------


class Spy:
    """A scorer that records the rows that it scores, and those of the fit."""

    def __init__(self, rows_of):
        self.rows_of, self.seen = rows_of, []

    def __call__(self, estimator, views, y=None):
        self.seen.append(self.rows_of(views))
        return make_retrieval_scorer("mrr")(estimator, views)


def spied(estimator, views, recording, rows_of, **kwargs):
    recording.fitted = []
    spy = Spy(rows_of)
    search = OptunaSearch(estimator, scoring=spy, refit=False, random_state=0, **kwargs).fit(views)
    return search, recording.fitted, spy.seen


@pytest.mark.parametrize(
    "cv", [3, PairShuffleSplit(2, random_state=0), KFold(3, shuffle=True, random_state=1)]
)
def test_no_row_is_scored_that_was_trained_on_and_folds_are_fixed(pairs, recording, rows_of, cv):
    views, _ = pairs
    search, fitted, scored = spied(
        recording(), views, recording, rows_of, search_space=REG, n_trials=9, cv=cv,
        pruner="median",
    )  # fmt: skip
    assert len(fitted) == len(scored) > 9
    for trained, tested in zip(fitted, scored):
        assert tested and not trained & tested
    tests = [set(test.tolist()) for _, test in search.folds_]
    assert {frozenset(rows) for rows in scored} == {frozenset(rows) for rows in tests}
    assert TrialState.PRUNED in states(search)


@pytest.mark.parametrize("refit_epochs", [False, True])
def test_epochs_are_scored_on_rows_held_out_too(pairs, tiny, rows_of, refit_epochs):
    views, _ = pairs
    trained = []

    class Watched(tiny):
        def _fit(self, views, y):
            trained.append(rows_of(views))
            super()._fit(views, y)

    class Scorer(Spy):
        def __call__(self, estimator, views, y=None):
            assert not trained[-1] & self.rows_of(views)
            return super().__call__(estimator, views)

    spy = Scorer(rows_of)
    search = OptunaSearch(
        Watched(random_state=0, max_epochs=3), scoring=spy, n_trials=12, pruner="median",
        random_state=0, refit=False, refit_epochs=refit_epochs,
    ).fit(views)  # fmt: skip
    assert len(spy.seen) > 12 * (3 if refit_epochs else 2)
    assert TrialState.PRUNED in states(search)


def test_captions_stay_with_their_image_and_splitters_that_part_them_are_refused(planted):
    images, _ = planted(n=40)
    index = np.repeat(np.arange(40), 3)
    views = Views.from_captions(images["image"], images["text"][index], index)
    y = index % 4
    search = OptunaSearch(CCA(), REG, n_trials=1, cv=4).fit(views, y)
    for train, test in search.folds_:
        assert not set(index[train]) & set(index[test])
        assert np.ptp(np.bincount(y[test])) <= 3
    assert OptunaSearch(CCA(), REG, n_trials=1, cv=GroupKFold(3)).fit(views).best_score_ > 0
    with pytest.raises(ValueError, match=r"fold 0 has rows of the same groups on both sides \(\d+"):
        OptunaSearch(CCA(), REG, n_trials=1, cv=KFold(3)).fit(views[np.argsort(index % 7)])
    recordings = index // 8
    search = OptunaSearch(CCA(), REG, n_trials=1, cv=5).fit(views, groups=recordings)
    assert [len(set(recordings[test])) for _, test in search.folds_] == [1] * 5


def test_views_held_out_and_rows_by_hand(pairs, recording, rows_of):
    views, y = pairs
    train, valid = views[:60], views[60:]
    for cv in (valid, (valid, None)):
        search, fitted, scored = spied(
            recording(), train, recording, rows_of, search_space=REG, n_trials=2, cv=cv
        )
        assert search.folds_ is None
        assert fitted == [set(range(60))] * 2 and scored == [set(range(60, 90))] * 2
    rows = [(np.arange(60), np.arange(60, 90))]
    by_rows = OptunaSearch(CCA(), REG, n_trials=2, cv=rows, random_state=0).fit(views, y)
    by_views = OptunaSearch(CCA(), REG, n_trials=2, cv=(valid, y[60:]), random_state=0)
    by_views.fit(train, y[:60])
    assert by_rows.best_score_ == by_views.best_score_
    refitted = CCA(**by_views.best_params_).fit(train)  # held-out rows stay held out
    assert np.array_equal(by_views.similarity(valid), refitted.similarity(valid))


def test_the_test_set_is_used_once_by_the_winner(pairs, recording, rows_of):
    views, _ = pairs
    train, test = views[:60], views[60:]
    spy = Spy(rows_of)
    search = OptunaSearch(recording(), REG, scoring=spy, n_trials=5, random_state=0).fit(train)
    tested = rows_of(test)
    assert all(not rows & tested for rows in [*recording.fitted, *spy.seen])
    assert recording.fitted[-1] == rows_of(train)  # the final fit has all the training rows
    before = len(spy.seen)
    for seed in (0, 1):  # as the runner does: refitted for each seed and evaluated once
        winner = clone(search.estimator).set_params(**search.best_params_).fit(train)
        spy(winner, test)
        assert len(spy.seen) == before + seed + 1
    assert spy.seen[before:] == [tested, tested]


# ---- spaces ------------------------------------------------------------------------------------


def test_default_spaces_of_a_method_and_of_every_part_of_a_pipeline():
    assert default_search_space(KCCA()) == dict(KCCA.card.search_space)
    pipe = Pipeline(
        [
            ("features", ViewTransformer([("text", make_pipeline(LdaTopics(), StandardScaler()))])),
            ("cca", CCA()),
            ("scorer", RetrievalScorer()),
        ]
    )
    space = default_search_space(pipe)
    assert {name.rpartition("__")[0] for name in space} == {"cca", "features__text__ldatopics"}
    assert space["cca__reg"] == Each(("image", "text"), Float(1e-4, 10.0, log=True))
    assert set(space) <= set(pipe.get_params())
    assert default_search_space(StandardScaler()) == {}


def test_conditions_get_the_prefix_too(tiny):
    class Branching(tiny):
        card = None

    from crossfit.cards import MethodCard

    Branching.card = MethodCard(
        api=1, name="b", target="b:B", summary="",
        search_space={"a": Choice("x", "y"), "b": Int(1, 2, when={"a": "x"}),
                      "c": Choice(1, 2, when={"a": ("x", "y")})},
    )  # fmt: skip
    space = default_search_space(Pipeline([("m", Branching())]))
    assert space["m__b"].when == {"m__a": "x"} and space["m__c"].when == {"m__a": ("x", "y")}
    assert space["m__c"].options == (1, 2)


def test_explicit_spaces_with_conditions_mappings_and_parts(pairs, storage):
    views, y = pairs
    pipe = Pipeline([("map", CCA()), ("scorer", RetrievalScorer())])
    space = {
        "map": Choice(CCA(n_components=3), PLS(n_components=3)),
        "scorer__similarity": Choice("cosine", "l1"),
        "scorer__metric": Choice("mrr", when={"scorer__similarity": "l1"}),
    }
    search = OptunaSearch(
        pipe, space, n_trials=8, cv=2, sampler="random", random_state=0, storage=storage
    ).fit(views, y)
    kinds = {trial.params["map"] for trial in search.trials_}
    assert kinds == {"CCA(n_components=3)", "PLS(n_components=3)"}
    for trial in search.trials_:
        assert ("scorer__metric" in trial.params) == (trial.params["scorer__similarity"] == "l1")
    assert type(search.best_params_["map"]) in (CCA, PLS)
    assert not hasattr(search.best_params_["map"], "views_in_")  # a copy was fitted
    space = {"reg": Each(("image", "text"), Float(0.1, 1.0)), "n_components": Int(1, 3)}
    search = OptunaSearch(CCA(), space, n_trials=3, storage=storage, defaults=False).fit(views)
    assert set(search.best_params_["reg"]) == {"image", "text"}
    assert search.best_estimator_.reg == search.best_params_["reg"]


def test_what_no_trial_changes_is_done_once_for_each_fold(pairs):
    views, y = pairs
    fits = []

    class Counting(StandardScaler):
        def fit(self, X, y=None, sample_weight=None):
            fits.append(len(X))
            return super().fit(X)

    pipe = Pipeline(
        [("scale", ViewTransformer([("image", Counting())])), ("cca", CCA(3)),
         ("scorer", RetrievalScorer())]
    )  # fmt: skip
    few = {"cca__reg": REG["reg"], "scorer__similarity": Choice("cosine", "l2")}
    search = OptunaSearch(pipe, few, n_trials=6, random_state=0).fit(views, y)
    assert fits == [60, 60, 60, 90]  # three folds, then the final fit
    fits.clear()
    more = {**few, "scale__image__with_std": Choice(True)}
    again = OptunaSearch(pipe, more, n_trials=6, random_state=0).fit(views, y)
    assert len(fits) == 6 * 3 + 1
    for trial in (*search.trials_, *again.trials_):
        trial.params.pop("scale__image__with_std", None)
        pipe.set_params(**trial.params)
        by_hand = cross_val_score(pipe, views, y, cv=search.folds_,
                                  scoring=make_retrieval_scorer("map@all"))  # fmt: skip
        assert trial.value == pytest.approx(by_hand.mean(), rel=1e-6)


def test_strings_are_turned_into_features_in_every_fold(planted):
    images, y = planted(n=60)
    words = np.array(["red", "green", "blue", "gold"])
    rng = np.random.default_rng(0)
    captions = [f"{words[label]} {rng.choice(words)} thing {i}" for i, label in enumerate(y)]
    pipe = Pipeline(
        [
            ("features", ViewTransformer(
                [("text", make_pipeline(TfidfVectorizer(), TruncatedSVD(4, random_state=0)))]
            )),
            ("cca", CCA()),
        ]
    )  # fmt: skip
    space = {
        "features__text__truncatedsvd__n_components": Int(2, 8),
        **{f"cca__{k}": v for k, v in CCA.card.search_space.items()},
    }
    views = Views(image=images["image"], text=captions)
    search = OptunaSearch(pipe, space, n_trials=3, random_state=0).fit(views, y)
    assert search.similarity(views).shape == (60, 60)
    assert search.best_score_ > 0.3


# ---- pruning -----------------------------------------------------------------------------------


def test_pruning_by_fold(pairs, recording, storage):
    views, y = pairs
    search = OptunaSearch(
        recording(), {"n_components": Int(1, 5), **REG}, n_trials=14, pruner="median",
        storage=storage, random_state=0, refit=False,
    ).fit(views, y)  # fmt: skip
    pruned = [trial for trial in search.trials_ if trial.state is TrialState.PRUNED]
    assert pruned
    ran = [len(trial.user_attrs["fold_scores"]) for trial in search.trials_]
    assert len(recording.fitted) == sum(ran) < 14 * 3
    for trial, n in zip(search.trials_, ran):
        means = np.cumsum(trial.user_attrs["fold_scores"]) / np.arange(1, n + 1)
        reported = [trial.intermediate_values[k] for k in sorted(trial.intermediate_values)]
        assert reported == pytest.approx(means[:2][:n])


def test_pruning_by_epoch(pairs, tiny, storage):
    views, _ = pairs
    search = OptunaSearch(
        tiny(random_state=0), n_trials=14, pruner="median", cv=2, storage=storage, random_state=0,
        refit=False,
    ).fit(views)  # fmt: skip
    pruned = [trial for trial in search.trials_ if trial.state is TrialState.PRUNED]
    assert pruned and any(len(trial.intermediate_values) < 6 for trial in pruned)
    for trial in search.trials_:
        if trial.state is TrialState.COMPLETE:
            assert list(trial.intermediate_values) == [1, 2, 3, 4, 5, 6]
            # The last epoch of the first fold is its score.
            assert trial.intermediate_values[6] == trial.user_attrs["fold_scores"][0]


def test_epochs_inside_of_a_pipeline_are_scored_by_the_whole_of_it(pairs, tiny, tmp_path):
    views, y = pairs
    for memory in (None, str(tmp_path / "memory")):
        pipe = Pipeline(
            [
                ("scale", ViewTransformer([("image", StandardScaler())])),
                ("inner", make_pipeline(tiny(random_state=0, max_epochs=3), RetrievalScorer("l2"))),
            ],
            memory=memory,
        )
        for space in ({"inner__tiny__lr": Float(1e-3, 1e-1)},
                      {"inner__tiny__lr": Float(1e-3, 1e-1),
                       "scale__image__with_std": Choice(True)}):  # fmt: skip
            search = OptunaSearch(
                pipe, space, n_trials=2, pruner="median", random_state=0, refit=False
            ).fit(views, y)
            for trial in search.trials_:
                assert trial.intermediate_values[3] == trial.user_attrs["fold_scores"][0]


def test_a_trial_is_not_given_up_in_its_last_epoch(pairs, tiny):
    class Always(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.last_step == 3

    views, _ = pairs
    settings = {"n_trials": 2, "pruner": Always(), "random_state": 0, "refit": False}
    cv = PairShuffleSplit(1, random_state=0)
    search = OptunaSearch(tiny(max_epochs=3), cv=cv, **settings).fit(views)
    assert states(search) == [TrialState.COMPLETE] * 2
    with pytest.raises(ValueError, match="all 2 trials were pruned"):
        OptunaSearch(tiny(max_epochs=4), cv=cv, **settings).fit(views)


def test_the_number_of_epochs_is_chosen_on_rows_held_out(pairs, tiny):
    views, _ = pairs
    method = tiny(random_state=0, max_epochs=5, lr=0.5)
    search = OptunaSearch(
        method, {"width": Int(2, 4)}, n_trials=3, random_state=0, refit_epochs=True
    ).fit(views)
    epochs = search.best_params_["max_epochs"]
    width = search.best_params_["width"]
    scorer = make_retrieval_scorer("mrr")
    curve = [
        np.mean(
            [
                scorer(
                    tiny(random_state=0, lr=0.5, width=width, max_epochs=n).fit(views[train]),
                    views[test],
                )
                for train, test in search.folds_
            ]
        )
        for n in range(1, 6)
    ]
    assert epochs == np.argmax(curve) + 1
    assert search.best_score_ == pytest.approx(max(curve))
    assert len(search.best_estimator_.net_.history) == epochs
    with pytest.raises(ValueError, match="but no part of CCA has max_epochs"):
        OptunaSearch(CCA(), REG, n_trials=1, refit_epochs=True).fit(views)


def test_early_stopping_is_scored_with_the_weights_it_goes_back_to(pairs, tiny):
    from skorch.callbacks import EarlyStopping

    views, _ = pairs
    stop = [("stop", EarlyStopping(patience=1, load_best=True))]
    method = tiny(random_state=0, max_epochs=8, lr=0.5, validation_fraction=0.3, callbacks=stop)
    search = OptunaSearch(
        method, {"width": Int(2, 3)}, n_trials=2, pruner="median", cv=2, random_state=0
    ).fit(views)
    scorer = make_retrieval_scorer("mrr")
    for trial in search.trials_:
        fits = [clone(method).set_params(**trial.params).fit(views[a]) for a, _ in search.folds_]
        by_hand = [scorer(fit, views[b]) for fit, (_, b) in zip(fits, search.folds_)]
        assert trial.user_attrs["fold_scores"] == by_hand


# ---- failures and limits -----------------------------------------------------------------------


class Fragile(CCA):
    def _fit(self, views, y):
        if self.n_components == 2:
            raise FloatingPointError("the loss became nan")
        if self.n_components == 3:
            raise np.linalg.LinAlgError("singular matrix")
        if self.n_components == 4:
            raise ValueError("no such thing")
        super()._fit(views, y)


def test_a_failed_trial_is_recorded_and_the_search_goes_on(pairs, storage):
    views, _ = pairs
    grid = optuna.samplers.GridSampler({"n_components": [1, 2, 3, 4]}, seed=0)
    search = OptunaSearch(
        Fragile(), {"n_components": Int(1, 4)}, n_trials=4, sampler=grid, storage=storage
    ).fit(views)
    assert search.best_params_ == {"n_components": 1}
    reasons = {trial.params["n_components"]: trial.user_attrs.get("reason")
               for trial in search.trials_}  # fmt: skip
    assert reasons == {
        1: None,
        2: "FloatingPointError: the loss became nan",
        3: "LinAlgError: singular matrix",
        4: "ValueError: no such thing",
    }
    assert sorted(state.name for state in states(search)) == ["COMPLETE", "FAIL", "FAIL", "FAIL"]


def test_all_failed_says_why(pairs):
    with pytest.raises(ValueError, match="all 3 trials failed, the first with ValueError: no such"):
        OptunaSearch(Fragile(), {"n_components": Int(4, 4), **REG}, n_trials=3, defaults=False).fit(
            pairs[0]
        )
    with pytest.raises(ValueError, match="the only trial failed with ValueError: no such"):
        OptunaSearch(Fragile(), {"n_components": Int(4, 4)}, n_trials=3).fit(pairs[0])

    def nan(estimator, views, y=None):
        return float("nan")

    with pytest.raises(
        ValueError, match="the only trial failed with ValueError: the score is nan, which is not"
    ):
        OptunaSearch(CCA(), REG, n_trials=1, scoring=nan).fit(pairs[0])


def test_mistakes_of_a_program_end_the_search(pairs):
    def broken(estimator, views, y=None):
        raise KeyError("typo")

    search = OptunaSearch(CCA(), REG, n_trials=3, scoring=broken)
    with pytest.raises(KeyError, match="typo"):
        search.fit(pairs[0])
    assert len(search.study_.trials) == 1
    for found in (None, "high", [1.0, 2.0]):
        search = OptunaSearch(CCA(), REG, n_trials=3, scoring=lambda *given, f=found: f)
        with pytest.raises(TypeError, match="scoring must return a number, got"):
            search.fit(pairs[0])


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"search_space": {"n_componets": Int(1, 2)}}, ValueError, "n_componets"),
        ({"search_space": {}}, ValueError, "search_space is empty; give at least one"),
        ({"search_space": "defaults"}, ValueError, "must be a str among {'default'} or"),
        ({"search_space": {"reg": (0, 1)}}, TypeError, "search_space: 'reg' must be a Float"),
        ({"search_space": {3: Int(0, 1)}}, TypeError, "the names must be a string, got 3"),
        ({"search_space": [Int(0, 1)]}, TypeError, "'search_space' parameter"),
        ({"n_trials": 0}, ValueError, r"'n_trials' .* int in the range \[1, inf\).* Got 0"),
        ({"n_trials": True}, TypeError, "'n_trials' .* Got True"),
        ({"n_trials": 2.5}, TypeError, "'n_trials' .* Got 2.5"),
        ({"n_trials": None}, ValueError, "n_trials and timeout are both None; give at least one"),
        ({"timeout": -1}, ValueError, r"'timeout' .* float in the range \(0.0, inf\)"),
        ({"timeout": float("nan")}, ValueError, "'timeout' .* Got nan"),
        ({"timeout": float("inf")}, ValueError, "'timeout' .* Got inf"),
        ({"timeout": True}, TypeError, "'timeout' .* Got True"),
        ({"timeout": "1 h"}, TypeError, "'timeout' .* Got '1 h'"),
        ({"n_jobs": -1}, ValueError, "'n_jobs' .* Got -1"),
        ({"n_jobs": None}, TypeError, "'n_jobs' .* Got None"),
        ({"sampler": "annealing"}, ValueError, "'sampler' .* a str among .* Got 'annealing'"),
        ({"sampler": optuna.samplers.TPESampler}, TypeError, "'sampler' .* Got <class"),
        ({"pruner": "mean"}, ValueError, "'pruner' .* Got 'mean'"),
        ({"study_name": 5}, TypeError, "'study_name' .* Got 5"),
        ({"study": "mine"}, TypeError, "'study' .* Got 'mine'"),
        ({"load_if_exists": "no"}, TypeError, "'load_if_exists' .* Got 'no'"),
        ({"refit": "no"}, ValueError, "refit='no' chooses among several"),
        ({"refit": 1}, TypeError, "'refit' .* Got 1"),
        ({"refit_epochs": None}, TypeError, "'refit_epochs' .* Got None"),
        ({"random_state": "0"}, ValueError, "'random_state' .* Got '0'"),
        ({"random_state": -1}, ValueError, "'random_state' .* Got -1"),
        ({"random_state": True}, TypeError, "'random_state' .* Got True"),
        ({"verbose": "yes"}, ValueError, "'verbose' .* Got 'yes'"),
        ({"verbose": -1}, ValueError, "'verbose' .* Got -1"),
        ({"catch": RuntimeError()}, TypeError, "catch must be an exception class or a tuple"),
        ({"catch": "RuntimeError"}, TypeError, "catch must be an exception class or a tuple"),
        ({"catch": (KeyboardInterrupt,)}, TypeError, "catch must be an exception class or a tuple"),
        ({"cv": 1}, ValueError, r"'n_splits' parameter of PairKFold .*\[2, inf\)"),
        ({"cv": "loo"}, TypeError, "cv must be a number of folds, a splitter"),
        ({"cv": 2.5}, TypeError, "cv must be a number of folds"),
        ({"cv": True}, TypeError, "cv must be a number of folds"),
        ({"cv": PairKFold}, TypeError, "cv must be a number of folds"),
        ({"cv": torch.ones(3)}, TypeError, "cv must be a number of folds"),
        ({"cv": np.array(3)}, TypeError, "cv must be a number of folds"),
        ({"cv": b"loo"}, TypeError, "cv must be a number of folds"),
        ({"scoring": RetrievalScorer}, TypeError, "scoring must be a metric or a function"),
        ({"cv": {"train": [0], "test": [1]}}, ValueError, "fold 0 must be a pair"),
        ({"cv": []}, ValueError, "expected at least one fold"),
        ({"scoring": "acc"}, ValueError, "acc"),
        ({"scoring": ""}, ValueError, "metric"),
        ({"scoring": 3}, TypeError, "'scoring' .* Got 3"),
        ({"estimator": CCA}, TypeError, r"got the class CCA; give an instance, CCA\(\)"),
        ({"estimator": "cca"}, TypeError, "estimator must be a method or a pipeline, got 'cca'"),
        ({"estimator": None}, TypeError, "estimator must be a method or a pipeline, got None"),
        ({"storage": 5}, TypeError, "storage must be a URL, for instance .* got 5"),
        ({"storage": "study.db"}, ValueError, "storage must be a URL"),
        ({"storage": ""}, ValueError, "storage must be a URL"),
        ({"storage": "nodb://x"}, ValueError, "URL of a database or a journal, but 'nodb:"),
        ({"storage": "sqllite:///x"}, ValueError, "begins with 'sqllite': did you mean 'sqlite'"),
        ({"storage": "SQLite:///x"}, ValueError, "begins with 'SQLite': did you mean 'sqlite'"),
        ({"storage": "journal:///nowhere/at/all.log"}, ValueError, "which is not a folder"),
        (
            {"storage": "journal:///"},
            ValueError,
            "does not name a file; name one as in journal:///study.log",
        ),
        ({"storage": "journal:////tmp"}, ValueError, "names '/tmp', which is a folder"),
        ({"storage": "journal:////dev/null"}, ValueError, "which is not a regular file"),
        (
            {"storage": "sqlite://"},
            ValueError,
            "does not name a file; name one as in sqlite:///study.db",
        ),
        (
            {"storage": "sqlite:///"},
            ValueError,
            "does not name a file; name one as in sqlite:///study.db",
        ),
        ({"storage": "sqlite:///:memory:"}, ValueError, "is in memory and would not be kept"),
        ({"storage": "sqlite://a.db"}, ValueError, "needs a third slash .*; write sqlite:///a.db"),
        ({"storage": "sqlite:////tmp"}, ValueError, "names '/tmp', which is a folder"),
        ({"storage": "sqlite:////dev/null"}, ValueError, "which is not a regular file"),
        ({"storage": "sqlite:////nowhere/at/all.db"}, ValueError, "which is not a folder"),
        ({"storage": "postgresql://u:pass@h:port/n"}, ValueError, "got 'postgresql://u@h:port/n'"),
        (
            {"storage": optuna.storages.InMemoryStorage(), "n_jobs": 2},
            ValueError,
            "cannot share a storage in memory",
        ),
        (
            {"study": optuna.create_study(direction="maximize"), "n_jobs": 2},
            ValueError,
            "cannot share a study in memory",
        ),
        (
            {"study": optuna.create_study(direction="maximize"), "study_name": "x"},
            ValueError,
            "leave out storage, study_name and load_if_exists",
        ),
        ({"study": optuna.create_study()}, ValueError, "minimises"),
        ({"study": optuna.create_study(directions=["maximize"] * 2)}, ValueError, "2 objectives"),
        (
            {"sampler": optuna.samplers.TPESampler(), "random_state": 0},
            ValueError,
            "a sampler object has a seed of its own",
        ),
    ],
)
def test_refusals_before_any_work(pairs, recording, settings, error, message):
    given = {"estimator": recording(), "search_space": REG, "n_trials": 1, **settings}
    with pytest.raises(error, match=message) as caught:
        OptunaSearch(**given).fit(pairs[0])
    assert "\n" not in str(caught.value).strip()
    assert not recording.fitted


def test_other_refusals(pairs, tiny):
    views, y = pairs
    with pytest.raises(TypeError, match="expects Views, got ndarray"):
        OptunaSearch(CCA(), REG).fit(views["image"], y)
    with pytest.raises(ValueError, match="expected one label per row"):
        OptunaSearch(CCA(), REG).fit(views, y[:5])
    with pytest.raises(ValueError, match="labels must be given both for fitting"):
        OptunaSearch(CCA(), REG, cv=(views, y)).fit(views)
    with pytest.raises(ValueError, match=r"one label per row of the Views held out \(90\), got 3"):
        OptunaSearch(CCA(), REG, cv=(views, y[:3])).fit(views, y)
    with pytest.raises(ValueError, match="StandardScaler has no default search space"):
        OptunaSearch(StandardScaler()).fit(views)
    trial = optuna.create_study().ask()
    with pytest.raises(TypeError, match="'callbacks' holds an Optuna trial"):
        OptunaSearch(tiny(callbacks=trial)).fit(views)


def test_two_modalities_are_searched_as_views_are(pairs):
    views, y = pairs
    image, text = views["image"], views["text"]
    search = lambda: OptunaSearch(CCA(), REG, n_trials=2, random_state=0)  # noqa: E731
    of_views, of_arrays = search().fit(views, y), search().fit(image, text, y)
    assert of_arrays.best_params_ == of_views.best_params_
    assert of_arrays.best_score_ == of_views.best_score_
    assert of_arrays.score(image, text, y) == of_views.score(views, y)
    groups = np.arange(len(y)) // 2
    third = search().fit(views, y, groups).best_score_
    assert third == search().fit(image, text, y, groups=groups).best_score_
    with pytest.raises(TypeError, match=r"expects Views, got ndarray and ndarray; pass Views\("):
        OptunaSearch(make_pipeline(CCA()), {"cca__reg": Float(0.1, 1)}).fit(image, text, y)
    with pytest.raises(TypeError, match="got Views, Y and y"):
        search().fit(views, text, y, groups=groups)
    with pytest.warns(UserWarning, match=r"OptunaSearch\.score: it was fitted with labels"):
        of_views.score(views)


def test_a_timeout_ends_the_search(pairs, monkeypatch):
    def slow(estimator, views, y=None):
        time.sleep(0.1)
        return 1.0

    search = OptunaSearch(CCA(), REG, n_trials=None, timeout=0.5, cv=2, scoring=slow)
    search.fit(pairs[0])
    assert 1 <= len(search.trials_) <= 5
    monkeypatch.setattr(workers_module.time, "time", iter(range(10**6)).__next__)
    with pytest.raises(ValueError, match=r"no trial was finished within timeout=0\.5 seconds"):
        search.fit(pairs[0])


def test_catch_names_what_fails_a_trial_and_not_the_search(pairs):
    class Rough(CCA):
        def _fit(self, views, y):
            if self.n_components == 2:
                raise RuntimeError("shapes cannot be multiplied")
            super()._fit(views, y)

    grid = optuna.samplers.GridSampler({"n_components": [1, 2]}, seed=0)
    given = {"search_space": {"n_components": Int(1, 2)}, "n_trials": 2, "sampler": grid}
    with pytest.raises(RuntimeError, match="shapes cannot"):
        OptunaSearch(Rough(), **given).fit(pairs[0])
    for catch in (RuntimeError, (KeyError, RuntimeError), Exception):
        search = OptunaSearch(Rough(), catch=catch, **given).fit(pairs[0])
        assert search.best_params_ == {"n_components": 1}
        (reason,) = [t.user_attrs["reason"] for t in search.trials_ if "reason" in t.user_attrs]
        assert reason == "RuntimeError: shapes cannot be multiplied"
    # The exception with which Optuna stops a trial is not caught.
    search = OptunaSearch(CCA(), REG, catch=Exception, pruner="median", n_trials=12, random_state=0)
    assert TrialState.PRUNED in states(search.fit(pairs[0]))


# ---- samplers, and values in a study -----------------------------------------------------------


def drawn(trials):
    return [trial.params for trial in trials]


def optunas_own(views, space, study, n_trials=50, folds=3):
    """Run the same search with Optuna's own loop, as an oracle."""
    cv = PairKFold(folds, shuffle=True, random_state=0)
    scorer = make_retrieval_scorer("mrr")
    study.optimize(
        lambda trial: cross_val_score(CCA(**suggest(space, trial)), views, cv=cv, scoring=scorer)
        .mean(),
        n_trials=n_trials,
    )  # fmt: skip
    return study


SIX = {"n_components": Int(1, 3), "power": Choice(plain=0.0, weighted=1.0)}
GRID = {"n_components": [1, 2, 3], "power": ["plain", "weighted"]}


def test_the_grid_tries_every_combination_once(pairs):
    space = {"reg": Each(("image", "text"), Choice(0.1, 1.0)), "n_components": Int(2, 4)}
    search = OptunaSearch(CCA(), space, sampler="grid", random_state=0, refit=False).fit(*pairs)
    tried = [tuple(sorted(trial.params.items())) for trial in search.trials_]
    assert len(tried) == len(set(tried)) == 12
    space["power"] = Float(0, 1)
    with pytest.raises(ValueError, match="'power' is a Float, whose values a grid cannot list"):
        OptunaSearch(CCA(), space, sampler="grid").fit(*pairs)


@pytest.mark.parametrize("sampler", [None, "tpe", "random"])
def test_no_settings_are_tried_twice(pairs, recording, sampler):
    views, _ = pairs
    space = {"reg": Choice(0.1, 1.0, 10.0), "n_components": Int(2, 3)}
    search = OptunaSearch(
        recording(), space, n_trials=20, cv=2, sampler=sampler, random_state=0, refit=False
    ).fit(views)
    assert len({tuple(trial.params.values()) for trial in search.trials_}) == 6
    assert len(search.trials_) == 6 and len(recording.fitted) == 12


def test_settings_that_are_drawn_again_have_the_score_of_the_first_trial(pairs, recording):
    views, _ = pairs
    done = []
    search = OptunaSearch(
        recording(), {"reg": Choice(0.1, 1.0, 10.0), "n_components": Int(2, 30)}, n_trials=4, cv=2,
        study=optuna.create_study(direction="maximize"), refit=False,
        callbacks=[lambda study, trial: done.append((study.study_name, trial.number))],
    )  # fmt: skip
    for reg in (0.1, 1.0, 0.1, 0.1):
        search.study.enqueue_trial({"reg": reg, "n_components": 3})
    search.fit(views)
    first, other, *again = search.trials_
    assert len(recording.fitted) == 4
    for trial in again:
        assert trial.value == first.value != other.value
        assert trial.user_attrs["fold_scores"] == first.user_attrs["fold_scores"]
    assert done == [(search.study.study_name, n) for n in range(4)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: optuna.samplers.GridSampler(GRID, seed=0),
        lambda: optuna.samplers.BruteForceSampler(seed=0),
    ],
)
def test_a_sampler_that_has_drawn_all_ends_the_search(pairs, storage, make):
    views, _ = pairs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        ours, theirs = make(), make()
    oracle = optuna.create_study(direction="maximize", sampler=theirs)
    optunas_own(views, SIX, oracle)
    assert len(oracle.trials) == 6
    given = {"n_trials": 50, "sampler": ours, "storage": storage, "refit": False}
    search = OptunaSearch(CCA(), SIX, **given).fit(views)
    assert drawn(search.trials_) == drawn(oracle.trials)
    assert [t.value for t in search.trials_] == pytest.approx([t.value for t in oracle.trials])
    if storage is not None:  # the same program, run again, runs no trial
        assert len(OptunaSearch(CCA(), SIX, **given).fit(views).study_.trials) == 6
        # Another sampler has nothing left to try either.
        more = {**given, "sampler": "random", "n_trials": 8}
        trials = OptunaSearch(CCA(), SIX, **more).fit(views).study_.trials
        assert len({tuple(trial.params.items()) for trial in trials}) == 6


class Killed(CCA):
    """CCA that is interrupted in one of its fits."""

    left = 0

    def _fit(self, views, y):
        Killed.left -= 1
        if Killed.left == 0:
            raise KeyboardInterrupt
        super()._fit(views, y)


FOUR = {"reg": Choice(0.1, 1.0, 10.0, 100.0)}


@pytest.mark.parametrize("at", [1, 4, 8])
@pytest.mark.parametrize(
    "sampler", [None, "grid", optuna.samplers.GridSampler({"reg": [0.1, 1.0, 10.0, 100.0]}, seed=0)]
)
def test_settings_of_an_interrupted_trial_are_tried_by_the_next_search(pairs, storage, sampler, at):
    views, _ = pairs
    study = None if storage else optuna.create_study(direction="maximize")
    if sampler is None and study:
        sampler = "random"
    Killed.left = at
    search = OptunaSearch(
        Killed(), FOUR, cv=2, n_trials=9, sampler=sampler, storage=storage, study=study, refit=False
    )
    with pytest.raises(KeyboardInterrupt):
        search.fit(views)
    search.fit(views)
    assert states(search) == [TrialState.COMPLETE] * 4
    assert {trial.params["reg"] for trial in search.trials_} == {0.1, 1.0, 10.0, 100.0}
    assert len(search.study_.trials) == 5
    assert len(search.fit(views).study_.trials) == 5


@pytest.mark.parametrize("drawn", [{}, {"reg": 0.1}, {"reg": 0.1, "n_components": 2}])
@pytest.mark.parametrize("of", ["grid", "object"])
def test_a_trial_that_was_withdrawn_or_killed_takes_no_settings_of_a_grid(pairs, drawn, of):
    views, _ = pairs
    space = {"reg": Choice(0.1, 1.0, 10.0), "n_components": Int(2, 3)}
    sampler = of
    if of == "object":
        with pytest.warns(optuna.exceptions.ExperimentalWarning):
            sampler = optuna.samplers.BruteForceSampler(seed=0)
    study = optuna.create_study(direction="maximize")
    given = {"sampler": sampler, "study": study, "cv": 2, "pruner": "none", "refit": False}
    OptunaSearch(CCA(), space, n_trials=1, **given).fit(views)
    known = {
        "reg": optuna.distributions.CategoricalDistribution([0.1, 1.0, 10.0]),
        "n_components": optuna.distributions.IntDistribution(2, 3),
    }
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.FAIL,
            params=drawn,
            distributions={name: known[name] for name in drawn},
        )
    )
    search = OptunaSearch(CCA(), space, n_trials=20, **given).fit(views)
    assert states(search) == [TrialState.COMPLETE] * 6
    assert len({tuple(trial.params.items()) for trial in search.trials_}) == 6


@pytest.mark.parametrize(
    ("space", "n"),
    [
        ({"reg": Float(0.1, 0.1), "n_components": Int(2, 4)}, 3),
        ({"reg": Choice(0.1)}, 1),
        ({"n_components": Int(2, 2), "reg": Each(("image", "text"), Float(1.0, 1.0))}, 1),
        (
            {
                "power": Choice(0.0, 1.0),
                "reg": Choice(0.1, 1.0, when={"power": 0.0}),
                "n_components": Int(2, 3, when={"power": 1.0}),
            },
            4,
        ),
    ],
)
@pytest.mark.parametrize("sampler", [None, "grid"])
def test_spaces_of_one_value_and_with_conditions_are_listed(pairs, storage, space, n, sampler):
    views, _ = pairs
    given = {"cv": 2, "sampler": sampler, "storage": storage, "refit": False}
    search = OptunaSearch(CCA(), space, n_trials=12, **given).fit(views)
    assert len(search.study_.trials) == n
    assert len({tuple(sorted(trial.params.items())) for trial in search.trials_}) == n


def test_settings_that_failed_for_a_reason_are_not_tried_again(pairs):
    class Fussy(CCA):
        def _fit(self, views, y):
            if self.reg == 1.0:
                raise ValueError("not this one")
            super()._fit(views, y)

    search = OptunaSearch(Fussy(), FOUR, cv=2, n_trials=9, refit=False).fit(pairs[0])
    assert sorted(trial.params["reg"] for trial in search.trials_) == [0.1, 1.0, 10.0, 100.0]
    assert sum(state is TrialState.FAIL for state in states(search)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "n_trials"),
    [
        (None, 30),
        ("sqlite:///{}/study.db", 6),
        ("sqlite:///{}/study.db", 30),
        ("journal:///{}/study.log", 6),
    ],
)
def test_processes_try_each_settings_of_a_grid_once(pairs, tmp_path, url, n_trials):
    views, _ = pairs
    storage = url and url.format(tmp_path)
    search = OptunaSearch(
        CCA(), SIX, n_trials=n_trials, n_jobs=3, storage=storage, scoring=slowly, random_state=0,
        cv=2, refit=False,
    ).fit(views)  # fmt: skip
    assert states(search) == [TrialState.COMPLETE] * len(search.trials_)
    assert len({tuple(trial.params.items()) for trial in search.trials_}) == 6
    assert len(search.trials_) == 6


def test_the_study_has_the_sampler_and_the_pruner_that_were_used(pairs):
    views, _ = pairs
    grid = optuna.samplers.GridSampler({"reg": [0.1, 1.0]})
    for sampler, kind in [
        (grid, optuna.samplers.GridSampler),
        ("random", optuna.samplers.RandomSampler),
        (None, optuna.samplers.TPESampler),
    ]:
        search = OptunaSearch(CCA(), REG, n_trials=2, sampler=sampler, pruner="median").fit(views)
        assert type(search.study_.sampler) is kind
        assert type(search.study_.pruner) is optuna.pruners.MedianPruner
    search = OptunaSearch(CCA(), REG, n_trials=1, pruner=optuna.pruners.ThresholdPruner(0.0))
    assert type(search.fit(views).study_.pruner) is optuna.pruners.ThresholdPruner


def test_plots_have_the_names_of_options(pairs):
    from optuna.visualization import matplotlib as plots

    plt.switch_backend("Agg")
    space = {"m": Choice(small=CCA(1), large=CCA(3))}
    search = OptunaSearch(Pipeline([("m", CCA())]), space, n_trials=6, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = plots.plot_slice(search.fit(pairs[0]).study_)
    axes.figure.canvas.draw()
    assert {label.get_text().strip("'") for label in axes.get_xticklabels()} == {"small", "large"}
    plt.close(axes.figure)


def test_a_seeded_sampler_object_draws_as_in_optuna(pairs):
    views, _ = pairs
    oracle = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=3))
    optunas_own(views, REG, oracle, 12)
    given = {"n_trials": 12, "sampler": optuna.samplers.TPESampler(seed=3), "refit": False}
    given["defaults"] = False
    assert drawn(OptunaSearch(CCA(), REG, **given).fit(views).trials_) == drawn(oracle.trials)
    with pytest.raises(ValueError, match="sampler object has a seed of its own; leave out random_"):
        OptunaSearch(CCA(), REG, random_state=0, **given).fit(views)


def test_a_study_of_optunas_with_a_queue_is_taken(pairs, storage):
    views, _ = pairs

    def prepared():
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1), storage=storage
        )
        study.enqueue_trial({"n_components": 3, "power": "weighted"})
        study.enqueue_trial({"n_components": 2})
        return study

    study, oracle = prepared(), optunas_own(views, SIX, prepared(), 5)
    search = OptunaSearch(CCA(), SIX, study=study, n_trials=5, refit=False).fit(views)
    assert drawn(search.trials_) == drawn(oracle.trials) == drawn(study.trials)
    assert search.trials_[0].params == {"n_components": 3, "power": "weighted"}
    assert search.trials_[1].params["n_components"] == 2
    assert type(search.study_.sampler) is optuna.samplers.RandomSampler
    assert search.best_params_["power"] in (0.0, 1.0)
    # It continues, also with trials that are queued later.
    search.study_.enqueue_trial({"n_components": 1, "power": "plain"})
    more = OptunaSearch(CCA(), SIX, study=study, n_trials=7, refit=False).fit(views)
    assert len(study.trials) == 7
    assert more.trials_[5].params == {"n_components": 1, "power": "plain"}
    with pytest.raises(ValueError, match="was made with other data"):
        OptunaSearch(CCA(), SIX, study=study, n_trials=8).fit(views[:80])


def test_a_study_in_a_storage_with_a_queue_is_taken_by_its_name(pairs, tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(direction="maximize", storage=url, study_name="mine")
    study.enqueue_trial({"reg": 0.25})
    search = OptunaSearch(CCA(), REG, n_trials=2, storage=url, study_name="mine").fit(pairs[0])
    assert search.trials_[0].params == {"reg": 0.25}


@pytest.mark.parametrize(
    ("queued", "says"),
    [
        ({"n_componets": 3}, "sets 'n_componets', which is not searched: did you mean 'n_comp"),
        ({"power": 1.0}, "sets 'power' to 1.0; use one of the recorded values, 'plain'"),
        ({"n_components": "3"}, "sets 'n_components' to '3', which is not a number"),
        ({"n_components": float("nan")}, "to nan, which is not a number"),
    ],
)
def test_a_queue_that_cannot_be_meant_is_refused(pairs, recording, queued, says):
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial(queued)
    with pytest.raises(ValueError, match=says):
        OptunaSearch(recording(), SIX, study=study).fit(pairs[0])
    assert not recording.fitted


def test_a_study_that_others_have_run_is_refused_with_what_to_do(pairs):
    study = optuna.create_study(direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("reg", 0, 1), n_trials=1)
    with pytest.raises(ValueError, match=r"not made by OptunaSearch.* study\.enqueue_trial"):
        OptunaSearch(CCA(), REG, study=study).fit(pairs[0])


def test_a_search_changes_nothing_of_the_users(pairs):
    views, _ = pairs
    own, other = CCA(n_components=2, reg=0.5), PLS(n_components=2)
    pipe = Pipeline([("m", other), ("scorer", RetrievalScorer())])
    space = {"m": Choice(own=own), "m__reg": Float(1.0, 2.0)}
    search = OptunaSearch(pipe, space, n_trials=2, random_state=0).fit(views)
    assert own.reg == 0.5 and not hasattr(own, "views_in_")
    clone(pipe).set_params(**search.best_params_).fit(views)  # as the docs use best_params_
    assert own.reg == 0.5 and not hasattr(own, "views_in_") and pipe["m"] is other
    assert search.study_.best_trial.params["m"] == "own"


def test_conditions_look_at_what_is_fixed(pairs):
    views, _ = pairs
    space = {"degree": Int(2, 3, when={"kernel": "poly"}), "reg": Float(0.1, 1.0)}
    given = {"n_trials": 2, "random_state": 0, "refit": False}
    search = OptunaSearch(KCCA(kernel="poly"), space, **given).fit(views)
    assert set(search.best_params_) == {"degree", "reg"}
    with pytest.raises(ValueError, match=r"'degree' is never searched, .*'kernel': 'rbf'"):
        OptunaSearch(KCCA(kernel="rbf"), space, **given).fit(views)
    with pytest.raises(ValueError, match="when= of 'degree' must name a parameter, got 'kernl'"):
        OptunaSearch(
            KCCA(), {"degree": Int(2, 3, when={"kernl": "poly"})}, **given
        ).fit(views)  # fmt: skip
    # Parameters that depend on another choice are not fixed.
    pipe = Pipeline([("m", KCCA())])
    both = {"m": Choice(k=KCCA(), c=CCA()), "m__reg": Float(0.1, 1, when={"m__kernel": "rbf"})}
    with pytest.raises(ValueError, match="must name a parameter, got 'm__kernel'"):
        OptunaSearch(pipe, both, **given).fit(views)
    named = {"m": Choice(k=KCCA(), c=CCA()), "m__kernel": Choice("poly", "rbf", when={"m": "k"})}
    search = OptunaSearch(pipe, named, n_trials=8, random_state=0, refit=False).fit(views)
    kinds = {t.params["m"]: "m__kernel" in t.params for t in search.trials_}
    assert kinds == {"k": True, "c": False}


def test_options_that_look_alike_are_searched_apart(pairs, tmp_path):
    views, _ = pairs
    many = [(f"scale{i}", ViewTransformer([("image", StandardScaler())])) for i in range(25)]
    end = ("scorer", RetrievalScorer())
    one, two = (Pipeline([*many[:12], ("cca", CCA(n)), *many[12:], end]) for n in (1, 3))
    assert repr(one) == repr(two)
    search = OptunaSearch(
        Pipeline([("m", CCA())]), {"m": Choice(one, two)}, n_trials=6, cv=2, sampler="random",
        random_state=0, storage=f"sqlite:///{tmp_path / 's.db'}",
    ).fit(views)  # fmt: skip
    by_name = {t.params["m"]: t.value for t in search.trials_}
    assert len(by_name) == 2 and len(set(by_name.values())) == 2
    assert search.best_params_["m"]["cca"].n_components == 3


# ---- global settings ---------------------------------------------------------------------------


class Noisy(CCA):
    def _fit(self, views, y):
        warnings.warn("this is old", DeprecationWarning, stacklevel=2)
        np.log(np.zeros(1))
        super()._fit(views, y)


def test_a_search_does_not_depend_on_what_others_have_set(pairs, storage):
    views, _ = pairs

    given = {"n_trials": 12, "random_state": 0, "pruner": "median", "refit": False}
    calm = OptunaSearch(Noisy(), REG, **given).fit(views)
    verbosity = optuna.logging.get_verbosity()
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        try:
            optuna.logging.set_verbosity(optuna.logging.DEBUG)
            strict = OptunaSearch(Noisy(), REG, storage=storage, **given).fit(views)
            assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
        finally:
            optuna.logging.set_verbosity(verbosity)
        folds = list(PairKFold(3, gallery_size=5, n_draws=2, random_state=0).split(views))
    assert [(t.params, t.value, t.state) for t in strict.trials_] == [
        (t.params, t.value, t.state) for t in calm.trials_
    ]
    assert len(folds) == 6


# ---- the estimator's own settings --------------------------------------------------------------


@pytest.mark.parametrize("sampler", [None, "random"])
def test_the_winner_is_not_inferior_to_the_estimators_own_settings(pairs, storage, sampler):
    views, _ = pairs
    bad = {"n_components": Int(1, 1), "reg": Each(("image", "text"), Float(1e5, 1e6, log=True))}
    given = {"n_trials": 4, "sampler": sampler, "storage": storage, "random_state": 0}
    search = OptunaSearch(CCA(), bad, **given).fit(views)
    cv = search.folds_
    own = cross_val_score(CCA(), views, cv=cv, scoring=make_retrieval_scorer("mrr")).mean()
    assert search.trials_[0].value == search.best_score_ == own
    assert search.trials_[0].params == {} and len(search.trials_) == 4
    assert search.trials_[0].user_attrs["defaults"] == ["n_components", "reg"]
    assert search.best_params_ == {"n_components": None, "reg": 3.0}
    assert search.best_estimator_.n_components is None
    # The same search, run again, does not queue them again, and draws what it would have drawn.
    assert len(search.fit(views).study_.trials) == 4 or storage is None
    plain = OptunaSearch(CCA(), bad, **(given | {"storage": None}), defaults=False).fit(views)
    assert plain.best_score_ < own and len(plain.trials_) == 4
    if sampler == "random":
        assert drawn(search.trials_[1:]) == drawn(plain.trials_[:-1])


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "nsga2", "grid"])
def test_own_settings_in_the_space_are_the_first_trial_of_any_sampler(pairs, sampler):
    views, _ = pairs
    reg = Choice(1.0, 3.0) if sampler == "grid" else Float(1.0, 3.0)
    space = {"reg": reg, "n_components": Int(2, 4), "power": Choice(0.0, 1.0)}
    space["reg_style"] = Choice("relative", when={"power": 1.0})
    method = CCA(n_components=3, power=1)  # an int equal to an option is that option
    search = OptunaSearch(method, space, sampler=sampler, n_trials=12, refit=False).fit(views)
    first = search.trials_[0]
    assert first.params == {"reg": 3.0, "n_components": 3, "power": 1.0, "reg_style": "relative"}
    assert first.user_attrs["defaults"] == [] and len(search.trials_) == 12
    assert not any("defaults" in trial.user_attrs for trial in search.trials_[1:])
    if sampler == "grid":
        assert len({tuple(sorted(trial.params.items())) for trial in search.trials_}) == 12


def test_where_own_settings_are_not_tried(pairs):
    views, _ = pairs
    outside = {"n_components": Int(2, 4), "reg": Float(1.0, 3.0)}
    grid = optuna.samplers.GridSampler({"n_components": [2, 3]}, seed=0)
    estimators = Choice(CCA(1), PLS(2))
    queued = optuna.create_study(direction="maximize")
    queued.enqueue_trial({"n_components": 2, "reg": 2.0})
    for estimator, space, more in [
        (CCA(), outside, {"sampler": "gp"}),
        (CCA(), outside, {"sampler": optuna.samplers.TPESampler(multivariate=True, seed=0)}),
        (CCA(), {"n_components": Choice(2, 3)}, {}),
        (CCA(2), {"n_components": Choice(2, 3)}, {"sampler": grid}),
        (CCA(), outside, {"study": queued}),
        (CCA(), outside, {"defaults": False}),
        (Pipeline([("m", CCA())]), {"m": estimators}, {}),
    ]:
        search = OptunaSearch(estimator, space, n_trials=2, refit=False, **more).fit(views)
        assert len(search.trials_) == 2
        assert not any("defaults" in trial.user_attrs for trial in search.study_.trials)


def test_an_estimator_that_cannot_be_fitted_as_it_is_costs_one_trial(pairs):
    class Unset(CCA):
        def _fit(self, views, y):
            if self.n_components > 99:
                raise RuntimeError
            super()._fit(views, y)

    search = OptunaSearch(Unset(), {"n_components": Int(2, 90)}, n_trials=4).fit(pairs[0])
    assert states(search) == [TrialState.FAIL] + [TrialState.COMPLETE] * 3
    assert search.trials_[0].user_attrs["reason"].startswith("TypeError")


def test_two_programs_that_begin_a_study_try_the_own_settings_once(pairs, tmp_path):
    views, _ = pairs
    given = {"storage": f"sqlite:///{tmp_path / 'study.db'}", "study_name": "s", "cv": 2}
    search = OptunaSearch(CCA(2), {"n_components": Int(2, 90)}, n_trials=3, refit=False, **given)
    queue = OptunaSearch._queue_defaults

    def twice(self, study):
        queue(self, study)
        queue(self, study)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OptunaSearch, "_queue_defaults", twice)
        search.fit(views)
    assert states(search) == [TrialState.COMPLETE] * 3
    assert sum("defaults" in trial.user_attrs for trial in search.trials_) == 1


def test_a_study_with_partial_own_settings_goes_on_as_a_grid(pairs, tmp_path):
    views, _ = pairs
    given = {"storage": f"sqlite:///{tmp_path / 'study.db'}", "cv": 2, "refit": False}
    space = {"n_components": Int(2, 5), "power": Choice(0.0, 1.0)}
    first = OptunaSearch(CCA(), space, n_trials=3, random_state=0, **given).fit(views)
    assert first.trials_[0].params == {"power": 1.0}
    search = OptunaSearch(CCA(), space, n_trials=20, **given).fit(views)
    assert states(search) == [TrialState.COMPLETE] * 9
    assert len({tuple(sorted(trial.params.items())) for trial in search.trials_}) == 9


# ---- stored studies ----------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "journal"])
def kept(request, tmp_path):
    return {
        "sqlite": f"sqlite:///{tmp_path / 'study.db'}",
        "journal": f"journal:///{tmp_path / 'study.log'}",
    }[request.param]


def test_a_study_goes_on_where_it_was_left(pairs, kept, recording):
    views, y = pairs
    settings = {"storage": kept, "random_state": 0, "sampler": "random", "refit": False}
    first = OptunaSearch(recording(), REG, n_trials=3, **settings).fit(views, y)
    assert len(recording.fitted) == 9
    more = OptunaSearch(recording(), REG, n_trials=5, **settings).fit(views, y)
    assert more.study_.study_name == first.study_.study_name
    assert len(recording.fitted) == 15
    drawn = [trial.params["reg"] for trial in more.trials_]
    assert drawn[:3] == [trial.params["reg"] for trial in first.trials_]
    assert len(set(drawn)) == 5  # the same seed does not repeat its draws
    done = OptunaSearch(recording(), REG, n_trials=5, **settings).fit(views, y)
    assert len(recording.fitted) == 15 and done.best_score_ == more.best_score_
    # Where it runs, and how it shows progress, does not matter.
    quiet = OptunaSearch(recording(), REG, n_trials=5, verbose=False, **settings).fit(views, y)
    assert quiet.study_.study_name == first.study_.study_name


def test_a_study_belongs_to_the_code_of_its_method(pairs, kept, monkeypatch):
    from crossfit.model_selection import search

    views, y = pairs
    settings = {"storage": kept, "random_state": 0, "refit": False}
    first = OptunaSearch(CCA(), REG, n_trials=1, **settings).fit(views, y)
    named = OptunaSearch(CCA(), REG, n_trials=1, study_name="mine", **settings).fit(views, y)
    monkeypatch.setattr(search, "code_of", lambda cls: f"{cls.__name__}, edited")
    other = OptunaSearch(CCA(), REG, n_trials=1, **settings).fit(views, y)
    assert other.study_.study_name != first.study_.study_name
    again = OptunaSearch(CCA(), REG, n_trials=2, study_name="mine", **settings)
    with pytest.raises(ValueError, match="was made with other code of the method"):
        again.fit(views, y)
    # A study of an earlier crossfit, without the hash of the code, can be continued.
    mark = dict(named.study_.user_attrs[search._MARK])
    del mark["code"]
    named.study_.set_user_attr(search._MARK, mark)
    assert len(again.fit(views, y).trials_) == 2


def test_a_study_of_something_else_is_refused(pairs, kept, tiny):
    views, y = pairs
    settings = {"n_trials": 1, "storage": kept, "study_name": "mine", "refit": False}
    OptunaSearch(CCA(), REG, **settings).fit(views, y)
    for other, words in [
        ({"estimator": CCA(power=4.0)}, "another method or other fixed settings"),
        ({"search_space": {"reg": Float(1e-4, 1.0)}}, "another search space"),
        ({"scoring": "r@1"}, "another metric"),
        ({"cv": 4}, "other folds"),
    ]:
        given = {"estimator": CCA(), "search_space": REG, **settings, **other}
        with pytest.raises(ValueError, match=f"the study 'mine' was made with {words}; give"):
            OptunaSearch(**given).fit(views, y)
    with pytest.raises(ValueError, match="other data and other folds and another metric"):
        OptunaSearch(CCA(), REG, **settings).fit(views)
    with pytest.raises(ValueError, match="other data"):
        OptunaSearch(CCA(), REG, **settings).fit(views.replace(text=views["text"] + 1), y)
    with pytest.raises(ValueError, match="already has a study 'mine'"):
        OptunaSearch(CCA(), REG, load_if_exists=False, **settings).fit(views, y)
    # Without a name each search has its own study.
    names = {
        OptunaSearch(method, REG, n_trials=1, storage=kept).fit(views, y).study_.study_name
        for method in (CCA(), CCA(power=4.0))
    }
    assert len(names) == 2 and all(name.startswith("cca-") for name in names)


def test_a_study_of_someone_else_is_refused(pairs, tmp_path):
    views, _ = pairs
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=url, study_name="theirs", direction="maximize")
    settings = {"n_trials": 1, "storage": url}
    assert OptunaSearch(CCA(), REG, study_name="theirs", **settings).fit(views).trials_
    study = optuna.create_study(storage=url, study_name="full", direction="maximize")
    study.optimize(lambda trial: 1.0, n_trials=1)
    with pytest.raises(ValueError, match="'full' has trials, but was not made by OptunaSearch"):
        OptunaSearch(CCA(), REG, study_name="full", **settings).fit(views)
    optuna.create_study(storage=url, study_name="down", direction="minimize")
    with pytest.raises(ValueError, match="the study 'down' minimises"):
        OptunaSearch(CCA(), REG, study_name="down", **settings).fit(views)
    with pytest.raises(ValueError, match="needs a method and a metric that can be pickled"):
        OptunaSearch(CCA(), REG, scoring=lambda e, X, y=None: 1.0, **settings).fit(views)


class Interrupted(CCA):
    left = 0

    def _fit(self, views, y):
        Interrupted.left -= 1
        if Interrupted.left == 0:
            raise KeyboardInterrupt
        super()._fit(views, y)


def test_an_interrupted_study_goes_on(pairs, tmp_path):
    views, _ = pairs
    url = f"sqlite:///{tmp_path / 'study.db'}"

    Interrupted.left = 4
    search = OptunaSearch(Interrupted(), REG, cv=2, n_trials=4, storage=url)
    with pytest.raises(KeyboardInterrupt):
        search.fit(views)
    assert [t.state for t in search.study_.trials] == [TrialState.COMPLETE, TrialState.FAIL]
    search.fit(views)
    # The trial that was interrupted is not included.
    assert states(search) == [TrialState.COMPLETE] * 4 and len(search.study_.trials) == 5


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.FAIL])
def test_a_trial_that_another_process_has_finished_is_not_an_error(
    pairs, tmp_path, state, monkeypatch
):
    """Two processes that read a queue in SQLite at the same moment may take the same trial."""
    views, _ = pairs
    call = trials_module.Objective.__call__
    finished = []

    def slower(objective, trial):
        value = call(objective, trial)
        if not finished:  # the other process is faster
            finished.append(trial.number)
            storage = optuna.storages.RDBStorage(url)
            values = [0.5] if state == TrialState.COMPLETE else None
            storage.set_trial_state_values(trial._trial_id, state, values)
        return value

    monkeypatch.setattr(trials_module.Objective, "__call__", slower)
    url = f"sqlite:///{tmp_path / 'study.db'}"
    search = OptunaSearch(CCA(), REG, n_trials=3, storage=url).fit(views)
    assert len(finished) == 1
    assert search.study_.trials[finished[0]].state == state
    assert states(search).count(TrialState.COMPLETE) == 3


@pytest.mark.slow
@pytest.mark.parametrize("url", [None, "sqlite:///{}/study.db", "journal:///{}/study.log"])
def test_processes_share_a_study(pairs, tmp_path, url):
    views, _ = pairs
    storage = url and url.format(tmp_path)
    search = OptunaSearch(
        CCA(), REG, n_trials=9, n_jobs=2, storage=storage, scoring=slowly, random_state=0
    ).fit(views)
    assert len(search.trials_) == 9
    assert search.best_score_ == max(trial.value for trial in search.trials_)
    assert {len(trial.user_attrs["fold_scores"]) for trial in search.trials_} == {3}
    assert len({trial.params["reg"] for trial in search.trials_}) == 9


STRICT = textwrap.dedent(
    """
    import multiprocessing, sys, warnings
    import numpy as np
    import optuna
    from sklearn.pipeline import Pipeline
    from crossfit import Views
    from crossfit.cards import Choice, Int
    from crossfit.methods import CCA, PLS
    from crossfit.model_selection import OptunaSearch

    if __name__ == "__main__":
        multiprocessing.set_start_method(sys.argv[1])
        warnings.simplefilter("error")
        np.seterr(all="raise")
        rng = np.random.default_rng(0)
        Z = rng.normal(size=(60, 3))
        views = Views(image=Z @ rng.normal(size=(3, 6)), text=Z @ rng.normal(size=(3, 5)))
        space = {"m": Choice(a=CCA(1), b=PLS(2)), "m__n_components": Int(1, 3, when={"m": "a"})}
        study = optuna.create_study(storage=sys.argv[2], direction="maximize")
        study.enqueue_trial({"m": "b"})
        search = OptunaSearch(
            Pipeline([("m", CCA())]), space, study=study, n_trials=5, n_jobs=2, pruner="median"
        ).fit(views)
        print(len(search.trials_), search.trials_[0].params)
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_do_not_depend_on_the_start_method_or_on_warnings(tmp_path, method):
    (tmp_path / "strict.py").write_text(STRICT)
    done = subprocess.run(
        [sys.executable, "strict.py", method, "sqlite:///study.db"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout == "5 {'m': 'b'}\n", done.stderr


def slowly(estimator, views, y=None):
    time.sleep(0.02)
    return make_retrieval_scorer("mrr")(estimator, views)


PROGRAM = textwrap.dedent(
    """
    import sys, time
    import numpy as np
    from crossfit import Views
    from crossfit.cards import Float
    from crossfit.methods import CCA
    from crossfit.model_selection import OptunaSearch, storages

    storages.HEARTBEAT, storages.GRACE = 1, 6
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(60, 3))
    views = Views(image=Z @ rng.normal(size=(3, 6)), text=Z @ rng.normal(size=(3, 5)))

    pauses = iter(map(float, sys.argv[3:]))

    class Slow(CCA):
        def _fit(self, views, y):
            time.sleep(next(pauses, 0.02))
            super()._fit(views, y)

    print("begins", flush=True)
    search = OptunaSearch(
        Slow(), {"reg": Float(1e-3, 1e3, log=True)}, n_trials=int(sys.argv[2]), cv=2,
        storage=sys.argv[1], study_name="shared", refit=False,
    ).fit(views)
    print(len(search.trials_), search.best_score_, flush=True)
    """
)


def program(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_program_costs_no_trial(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    storage = optuna.storages.RDBStorage(url)  # makes the tables, once

    def begun():
        if not optuna.study.get_all_study_names(storage):
            return 0
        return len(optuna.load_study(study_name="shared", storage=storage).trials)

    killed = program(url, 6, 0, 0, 600)  # two folds per trial: the second trial never ends
    try:
        assert killed.stdout.readline().strip() == "begins"
        deadline = time.time() + 60
        while begun() < 2:
            assert time.time() < deadline, "no second trial within a minute"
            time.sleep(0.2)
    finally:
        killed.kill()
        killed.communicate()
    study = optuna.load_study(study_name="shared", storage=url)
    assert TrialState.RUNNING in [trial.state for trial in study.trials]
    out, err = program(url, 6).communicate(timeout=120)
    assert out.split()[1] == "6", err
    counted = [t.state for t in study.get_trials() if t.state is TrialState.COMPLETE]
    assert len(counted) == 6
    assert TrialState.RUNNING not in [trial.state for trial in study.get_trials()]


@pytest.mark.slow
def test_two_programs_share_a_study_without_doing_more(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    both = [program(url, 8) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    for out, err in outputs:
        assert out.split()[:2] == ["begins", "8"], err
    assert outputs[0][0] == outputs[1][0]  # both have the same best settings
    trials = optuna.load_study(study_name="shared", storage=url).trials
    assert sum(trial.state is TrialState.COMPLETE for trial in trials) == 8


class GivesUp:
    """A scorer that marks the first trial as another program marks a dead one."""

    def __init__(self, url):
        self.url = url

    def __call__(self, estimator, views, y=None):
        study = optuna.load_study(study_name="s", storage=self.url)
        if study.trials[0].state is TrialState.RUNNING:
            study.tell(0, state=TrialState.FAIL)
        return make_retrieval_scorer("mrr")(estimator, views)


@pytest.mark.parametrize("pruner", [None, "median"])
def test_a_trial_that_others_gave_up_does_not_end_the_search(pairs, tmp_path, pruner):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    search = OptunaSearch(
        CCA(),
        REG,
        scoring=GivesUp(url),
        n_trials=3,
        cv=2,
        storage=url,
        study_name="s",
        pruner=pruner,
    ).fit(pairs[0])
    states = [trial.state for trial in search.study_.trials]
    assert states[0] is TrialState.FAIL
    assert TrialState.COMPLETE in states[1:]


def test_a_surplus_trial_is_withdrawn(pairs):
    views, _ = pairs
    study = optuna.create_study(direction="maximize")
    folds = [trials_module.Fold(trials_module.Rows(views, None), trials_module.Rows(views, None))]
    objective = trials_module.Objective(
        CCA(), REG, Measures.read("mrr", None, True, False), folds, 1, False, False, 0
    )
    first, second = study.ask(), study.ask()
    assert objective(first)[0] > 0
    with pytest.raises(trials_module.SurplusError):
        objective(second)
    assert not exhaustive.counts(optuna.trial.create_trial(state=TrialState.FAIL))


def of_one_setting(views):
    """Return a study whose sampler lists settings, and the objective of a single one."""
    rows, space = trials_module.Rows(views, None), {"reg": Choice(low=0.1)}
    sampler = exhaustive.ExhaustiveSampler(optuna.samplers.BruteForceSampler(), space)
    objective = trials_module.Objective(
        CCA(), space, Measures.read("mrr", None, True, False), [trials_module.Fold(rows, rows)], 9,
        False, False, 0,
    )  # fmt: skip
    return optuna.create_study(direction="maximize", sampler=sampler), objective


def test_a_trial_waits_for_the_settings_of_earlier_ones(pairs):
    """Of two processes that draw the same settings at the same time, the later one gives up."""
    study, objective = of_one_setting(pairs[0])
    first, second = study.ask(), study.ask()
    later = threading.Timer(0.5, lambda: suggest(objective.space, first))
    later.start()
    with pytest.raises(trials_module.SurplusError, match="has begun the last settings"):
        objective(second)
    later.join()


def test_a_trial_without_settings_of_a_killed_process_is_not_waited_for(pairs, monkeypatch):
    study, objective = of_one_setting(pairs[0])
    monkeypatch.setattr(trials_module, "_DRAWN", 0.3)
    study.ask()
    second = study.ask()
    begun = time.monotonic()
    assert objective(second)[0] > 0
    assert 0.2 < time.monotonic() - begun < 5


def test_who_died_before_a_sign_of_life_is_failed():
    from datetime import datetime, timedelta

    study = optuna.create_study()

    def begun(seconds, **kwargs):
        trial = optuna.trial.create_trial(state=TrialState.RUNNING, **kwargs)
        trial.datetime_start = datetime.now() - timedelta(seconds=seconds)
        study.add_trial(trial)

    drawn = {"params": {"reg": 1.0},
             "distributions": {"reg": optuna.distributions.FloatDistribution(0, 2)}}  # fmt: skip
    begun(1), begun(storages.GRACE + 1), begun(storages.GRACE + 1, **drawn)
    assert workers_module.n_trials_of(study) == 3
    workers_module.fail_dead_trials(study)
    running, failed = TrialState.RUNNING, TrialState.FAIL
    assert [trial.state for trial in study.trials] == [running, failed, running]
    assert workers_module.n_trials_of(study) == 2


@pytest.mark.parametrize(("n_jobs", "verbose"), [(1, 0), (1, 1), (1, 2), (2, 2)])
def test_failed_trials_print_one_sentence_and_store_their_traceback(tmp_path, n_jobs, verbose):
    (tmp_path / "toomany.py").write_text(TOO_MANY)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    words = [sys.executable, "-c", SEARCH, storage, str(n_jobs), str(verbose)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    printed = done.stdout + done.stderr
    assert done.returncode == 0 and "Traceback" not in printed, printed
    assert "ended: all 4 trials failed, the first with ValueError: n_components(" in printed
    # Of several processes, only the first prints its trials, and it may have run none.
    shown = "because of the following error: TrialFailedError('ValueError: n_com" in printed
    assert shown is (verbose == 2) or n_jobs == 2
    trials = optuna.load_study(study_name="s", storage=storage).trials
    failed = [trial.user_attrs for trial in trials if "reason" in trial.user_attrs]
    assert len(failed) == 4
    for about in failed:
        assert about["reason"].endswith(") must be <= 5, two lines")
        kept = about["traceback"]
        assert kept.startswith("Traceback") and "in _fit" in kept and "two\nlines" in kept


# What scikit-learn raises for too many components, in two lines, in a module that workers import.
TOO_MANY = """
from crossfit.methods import CCA

class TooMany(CCA):
    def _fit(self, views, y=None):
        if self.n_components > 5:
            raise ValueError(f"n_components({self.n_components}) must be <= 5, two\\nlines")
        super()._fit(views, y)
"""
SEARCH = """
import sys
import numpy as np
from toomany import TooMany
from crossfit import Views
from crossfit.model_selection import OptunaSearch
from crossfit.search_space import Int

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    views = Views(image=rng.normal(size=(40, 6)), text=rng.normal(size=(40, 6)))
    storage, n_jobs, verbose = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    search = OptunaSearch(
        TooMany(), {"n_components": Int(50_000, 60_000)}, n_trials=4, cv=2, storage=storage,
        study_name="s", n_jobs=n_jobs, verbose=verbose, random_state=0, defaults=False,
    )
    try:
        search.fit(views)
    except ValueError as error:
        print("ended:", error)
"""
