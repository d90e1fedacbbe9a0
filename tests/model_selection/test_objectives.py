"""Several measures at once, Pareto fronts, and samplers by name."""

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from sklearn.model_selection import cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from crossfit import RetrievalScorer, ViewTransformer, make_retrieval_scorer
from crossfit.cards import Choice, Float, Int
from crossfit.methods import CCA
from crossfit.model_selection import OptunaSearch, PairKFold

SPACE = {"n_components": Int(1, 5), "reg": Float(1e-3, 10.0, log=True)}
BOTH = {"quality": "map@all", "size": "dimensions"}


def dominated(own, others, signs):
    """Return True if one of the others is better somewhere and nowhere worse: the naive rule."""
    return any(
        all(s * o >= s * v for s, o, v in zip(signs, other, own))
        and any(s * o > s * v for s, o, v in zip(signs, other, own))
        for other in others
    )


def test_all_measures_are_recorded_and_the_first_score_decides(pairs):
    views, y = pairs
    scoring = {"recall": "r@5", "quality": "map@all", "median": "medr"}
    search = OptunaSearch(CCA(), SPACE, scoring=scoring, n_trials=6, random_state=0).fit(views, y)
    folds = list(PairKFold(3, shuffle=True, random_state=0).split(views, y))
    for trial in search.trials_:
        by_hand = cross_validate(
            CCA(**trial.params), views, y, cv=folds,
            scoring={name: make_retrieval_scorer(each) for name, each in scoring.items()},
        )  # fmt: skip
        means = {name: by_hand[f"test_{name}"].mean() for name in scoring}
        assert trial.user_attrs["scores"] == pytest.approx(means, rel=1e-12)
        assert trial.value == trial.user_attrs["scores"]["recall"]
    assert search.best_score_ == search.best_scores_["recall"]
    assert search.best_score_ == max(t.value for t in search.trials_)
    assert set(search.scorer_) == set(scoring) and not hasattr(search, "front_")
    # The same search with one measure draws and chooses the same.
    alone = OptunaSearch(CCA(), SPACE, scoring="r@5", n_trials=6, random_state=0).fit(views, y)
    assert [t.params for t in alone.trials_] == [t.params for t in search.trials_]
    assert alone.best_params_ == search.best_params_
    assert search.score(views, y) == alone.score(views, y)


def test_refit_names_the_score_that_decides(pairs):
    views, y = pairs
    given = {"scoring": ["r@5", "map@all"], "n_trials": 6, "random_state": 0}
    search = OptunaSearch(CCA(), SPACE, refit="map@all", **given).fit(views, y)
    alone = OptunaSearch(CCA(), SPACE, scoring="map@all", n_trials=6, random_state=0).fit(views, y)
    assert search.best_params_ == alone.best_params_
    assert search.best_score_ == alone.best_score_ == search.best_scores_["map@all"]
    assert search.best_estimator_.score(views, y) == alone.best_estimator_.score(views, y)


def test_the_front_has_what_nothing_dominates(pairs):
    views, y = pairs
    search = OptunaSearch(
        CCA(),
        SPACE,
        scoring=BOTH,
        objectives=["quality", "size"],
        n_trials=25,
        random_state=0,
        defaults=False,
    ).fit(views, y)
    values = [trial.values for trial in search.trials_]
    naive = {
        tuple(own) for own in values if not dominated(own, values, (1, -1))
    }  # fmt: skip
    assert {tuple(trial.values) for trial in search.front_} == naive
    assert len(search.front_) == len(naive)
    assert {tuple(t.values) for t in search.study_.best_trials} == naive
    qualities = [trial.values[0] for trial in search.front_]
    assert qualities == sorted(qualities, reverse=True)
    for trial in search.trials_:
        assert trial.values[1] == trial.params["n_components"]
        assert trial.user_attrs["scores"] == dict(zip(BOTH, trial.values))
    assert search.best_score_ == qualities[0] == search.best_scores_["quality"]
    assert search.best_estimator_.transform(views)["image"].shape[1] == search.best_scores_["size"]
    assert [d.name for d in search.study_.directions] == ["MAXIMIZE", "MINIMIZE"]


def test_a_function_chooses_from_the_front(pairs):
    views, y = pairs

    def smallest_that_is_good(front):
        good = [trial for trial in front if trial.values[0] >= 0.8 * front[0].values[0]]
        return min(good, key=lambda trial: trial.values[1])

    given = {"scoring": BOTH, "objectives": ["quality", "size"], "n_trials": 20, "random_state": 1}
    search = OptunaSearch(CCA(), SPACE, refit=smallest_that_is_good, **given).fit(views, y)
    wanted = smallest_that_is_good(search.front_)
    assert search.best_params_ == wanted.params
    assert search.best_estimator_.get_params()["n_components"] == wanted.values[1]
    with pytest.raises(TypeError, match="refit must return one of its trials, got None"):
        OptunaSearch(CCA(), SPACE, refit=lambda front: None, **given).fit(views, y)
    last = OptunaSearch(
        CCA(), SPACE, scoring="mrr", refit=lambda trials: trials[-1], n_trials=5, random_state=0
    ).fit(views)
    assert last.best_score_ == min(trial.value for trial in last.trials_)


def test_trials_are_those_of_optuna_itself(pairs):
    views, y = pairs
    folds = list(PairKFold(3, shuffle=True, random_state=0).split(views, y))

    def objective(trial):
        params = {
            "n_components": trial.suggest_int("n_components", 1, 5),
            "reg": trial.suggest_float("reg", 1e-3, 10.0, log=True),
        }
        found = cross_validate(
            CCA(**params), views, y, cv=folds, scoring=make_retrieval_scorer("map@all")
        )
        return found["test_score"].mean(), params["n_components"]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plain = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=optuna.samplers.NSGAIISampler(seed=3, population_size=5),
    )
    plain.optimize(objective, n_trials=15)
    search = OptunaSearch(
        CCA(), SPACE, scoring=BOTH, objectives=["quality", "size"], n_trials=15,
        sampler=optuna.samplers.NSGAIISampler(seed=3, population_size=5),
    ).fit(views, y)  # fmt: skip
    assert [t.params for t in plain.trials] == [t.params for t in search.trials_]
    assert np.allclose([t.values for t in plain.trials], [t.values for t in search.trials_])


def test_a_stored_study_with_several_objectives_is_resumed_and_shared(pairs, tmp_path):
    views, y = pairs
    given = {
        "scoring": BOTH, "objectives": ["quality", "size"], "random_state": 0,
        "storage": f"sqlite:///{tmp_path / 'study.db'}",
    }  # fmt: skip
    first = OptunaSearch(CCA(), SPACE, n_trials=4, **given).fit(views, y)
    again = OptunaSearch(CCA(), SPACE, n_trials=8, n_jobs=2, **given).fit(views, y)
    assert again.study_.study_name == first.study_.study_name
    assert [t.params for t in again.trials_[:4]] == [t.params for t in first.trials_]
    assert len(again.trials_) == 8
    for changed, words in (
        ({"objectives": ["quality"]}, "has 2 objectives; use a study with one"),
        ({"scoring": {"quality": "mrr", "size": "dimensions"}}, "made with another metric"),
    ):
        with pytest.raises(ValueError, match=words):
            OptunaSearch(
                CCA(), SPACE, n_trials=8, study_name=first.study_.study_name, **{**given, **changed}
            ).fit(views, y)
    temporary = OptunaSearch(
        CCA(), SPACE, n_trials=4, n_jobs=2, **{**given, "storage": None}
    ).fit(views, y)  # fmt: skip
    assert len(temporary.study_.trials) == 4 and temporary.front_


def test_costs(pairs, tiny):
    views, y = pairs
    pipe = Pipeline(
        [
            ("scale", ViewTransformer([("image", StandardScaler())])),
            ("net", tiny(max_epochs=1, random_state=0)),
            ("scorer", RetrievalScorer()),
        ]
    )
    scoring = {"mrr": "mrr", "s": "seconds", "d": "dimensions", "p": "parameters"}
    search = OptunaSearch(
        pipe, {"net__width": Int(2, 4)}, scoring=scoring, objectives=["mrr", "s", "d", "p"],
        sampler="nsga2", n_trials=6, random_state=0,
    ).fit(views, y)  # fmt: skip
    for trial in search.trials_:
        width, found = trial.params["net__width"], trial.user_attrs["scores"]
        assert found["d"] == width
        n_inputs = views["image"].shape[1] + views["text"].shape[1]
        assert found["p"] == width * n_inputs + 2 * width
        assert 0 < found["s"] < 60
    with pytest.raises(TypeError, match="scoring has 'parameters', but CCA does not have a net"):
        OptunaSearch(
            CCA(), SPACE, scoring={"a": "mrr", "b": "parameters"}, n_trials=2
        ).fit(views)  # fmt: skip


@pytest.mark.parametrize("name", ["tpe", "random", "grid", "cmaes", "gp", "nsga2"])
def test_samplers_by_name_are_repeatable_and_find_a_good_setting(pairs, name):
    if name == "cmaes":
        pytest.importorskip("cmaes", reason="cmaes is not installed")
    views, _ = pairs
    space = {"reg": Choice(1e-3, 1.0, 100.0)} if name == "grid" else SPACE

    def search(seed):
        return OptunaSearch(
            CCA(), space, sampler=name, scoring="mrr", n_trials=12, random_state=seed, refit=False
        ).fit(views)

    one = search(0)
    wanted = "Exhaustive" if name == "grid" else {"cmaes": "CmaEs", "tpe": "TPE"}.get(name, name)
    assert type(one.study_.sampler).__name__.lower().startswith(wanted.lower().rstrip("2"))
    assert [t.params for t in one.trials_] == [t.params for t in search(0).trials_]
    assert all(t.state is TrialState.COMPLETE for t in one.trials_)
    worst = OptunaSearch(CCA(), {"reg": Choice(1e6)}, scoring="mrr", n_trials=1).fit(views)
    assert one.best_score_ > worst.best_score_


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"scoring": {}}, ValueError, "scoring is empty"),
        ({"scoring": {"a": "no such"}}, ValueError, "no such"),
        ({"scoring": {"a": 3}}, TypeError, "must be a metric or a function, got 3"),
        ({"scoring": {1: "mrr"}}, TypeError, "names of scoring must be strings, got 1"),
        ({"scoring": {"a": "seconds"}}, ValueError, "has only costs"),
        ({"scoring": "seconds"}, ValueError, "only the cost 'seconds'"),
        ({"scoring": BOTH, "refit": "size"}, ValueError, "refit must name a score, 'quality'"),
        ({"scoring": BOTH, "refit": "qualty"}, ValueError, "did you mean 'quality'"),
        ({"scoring": BOTH, "objectives": ["size"]}, ValueError, "must include 'quality'"),
        ({"scoring": BOTH, "objectives": []}, ValueError, "must include 'quality'"),
        ({"scoring": BOTH, "objectives": ["quality", "x"]}, ValueError, "must be names of scoring"),
        ({"scoring": BOTH, "objectives": ["quality", "quality"]}, ValueError, "twice"),
        ({"scoring": "mrr", "objectives": ["mrr"]}, ValueError, "objectives chooses among"),
        (
            {"scoring": BOTH, "objectives": ["quality", "size"], "pruner": "median"},
            ValueError, "a pruner compares trials by one value",
        ),
        (
            {"scoring": BOTH, "objectives": ["quality", "size"],
             "sampler": optuna.samplers.CmaEsSampler()}, ValueError, "CMA-ES optimises one value",
        ),
        ({"sampler": "nsga"}, TypeError, "sampler"),
    ],
)  # fmt: skip
def test_refusals_before_any_work(pairs, recording, settings, error, words):
    views, y = pairs
    with pytest.raises(error, match=words):
        OptunaSearch(recording(), SPACE, n_trials=1, **settings).fit(views, y)
    assert not recording.fitted


def test_a_study_of_other_directions_is_refused(pairs):
    views, y = pairs
    study = optuna.create_study(directions=["maximize", "maximize"])
    with pytest.raises(ValueError, match=r"maximises its objective 'size'; use .* minimises it"):
        OptunaSearch(
            CCA(), SPACE, scoring=BOTH, objectives=["quality", "size"], study=study, n_trials=1
        ).fit(views, y)


def test_cmaes_that_is_not_installed_is_named(pairs, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cmaes", None)
    with pytest.raises(ImportError, match="needs the package cmaes"):
        OptunaSearch(CCA(), SPACE, sampler="cmaes", n_trials=1).fit(pairs[0])
