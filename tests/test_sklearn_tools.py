"""Views, methods and pipelines inside the tools of scikit-learn, joblib and Optuna."""

import pickle
import subprocess
import sys
import warnings

import joblib
import numpy as np
import optuna
import pytest
import scipy.sparse as sp
import sklearn
from PIL import Image
from sklearn.base import clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    RandomizedSearchCV,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
    learning_curve,
    train_test_split,
    validation_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_consistent_length, indexable, resample, shuffle

import crossfit
from crossfit import (
    ChannelUnion,
    Ragged,
    RetrievalScorer,
    Views,
    ViewTransformer,
    make_retrieval_scorer,
)
from crossfit.extraction import GridFeatures
from crossfit.registry import card_of
from crossfit.similarities import KNNPosterior, PosteriorOverPrior
from crossfit.subspace import CCA

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def data(planted):
    return planted(n=90, noise=1.5)


def by_hand(views, y, splits, **parameters):
    """Return the scores of CCA over folds, with arrays and loops instead of Views."""
    found = []
    for train, test in splits:
        cca = CCA(2, **parameters).fit(views["image"][train], views["text"][train])
        labels = None if y is None else y[test]
        found.append(cca.score(views["image"][test], views["text"][test], labels))
    return found


# ---- splitting -------------------------------------------------------------------------


FOLDS = [KFold(3), ShuffleSplit(3, random_state=0), 3]


@pytest.mark.parametrize(
    "cv, labelled",
    [(StratifiedKFold(3), True), *((cv, labelled) for cv in FOLDS for labelled in (True, False))],
)
def test_cross_validation_equals_the_loop(data, cv, labelled):
    views, y = data
    y = y if labelled else None
    splitter = KFold(3) if cv == 3 else cv
    expected = by_hand(views, y, splitter.split(np.zeros(90), y))
    np.testing.assert_allclose(cross_val_score(CCA(2), views, y, cv=cv), expected)
    scoring = make_retrieval_scorer("map@all" if labelled else "mrr")
    np.testing.assert_allclose(cross_val_score(CCA(2), views, y, cv=cv, scoring=scoring), expected)


def test_cross_validate_with_several_scorers_in_processes(data):
    views, y = data
    scoring = {"i2t": make_retrieval_scorer(direction="i2t"), "r5": make_retrieval_scorer("r@5")}
    one, two = (
        cross_validate(CCA(2), views, y, cv=3, scoring=scoring, n_jobs=jobs, return_estimator=True)
        for jobs in (1, 2)
    )
    for key in ("test_i2t", "test_r5"):
        np.testing.assert_allclose(two[key], one[key], rtol=1e-6)
    assert all(isinstance(each, CCA) for each in two["estimator"])


def test_group_splitters_need_the_groups_handed_over(data):
    views, y = data
    grouped = views.with_groups(np.arange(90) // 3)
    for train, test in GroupKFold(3).split(grouped, y, groups=grouped.groups):
        assert not set(grouped[train].groups) & set(grouped[test].groups)
    expected = by_hand(views, y, GroupKFold(3).split(np.zeros(90), y, grouped.groups))
    found = cross_val_score(CCA(2), grouped, y, groups=grouped.groups, cv=GroupKFold(3))
    np.testing.assert_allclose(found, expected)
    coarse = views.with_groups(np.arange(90) % 4)
    assert len(cross_val_score(CCA(2), coarse, y, groups=coarse.groups, cv=LeaveOneGroupOut())) == 4
    with pytest.raises(ValueError, match="groups"):
        cross_val_score(CCA(2), grouped, y, cv=GroupKFold(3))


def test_train_test_split(data):
    views, y = data
    views = Views(image=views["image"], text=views["text"], row=np.arange(90))
    train, test, y_train, y_test = train_test_split(views, y, stratify=y, random_state=0)
    assert isinstance(train, Views) and isinstance(test, Views)
    assert sorted([*train["row"], *test["row"]]) == list(range(90))
    for part, labels in ((train, y_train), (test, y_test)):
        assert labels.tolist() == y[part["row"]].tolist()
        assert part["text"].tolist() == views["text"][part["row"]].tolist()
    assert np.bincount(y_test).tolist() == [6, 6, 6, 5]


def test_small_tools(data):
    views, y = data
    check_consistent_length(views, y)
    assert indexable(views, y)[0] is views
    mixed, labels = shuffle(views, y, random_state=0)
    assert isinstance(mixed, Views) and sorted(labels) == sorted(y)
    drawn = resample(views, n_samples=200, random_state=0)
    assert len(drawn) == 200 and len(set(drawn.groups)) < 90


def test_every_kind_of_view_is_split_and_pickled(data):
    import torch

    n = 90
    regions = Ragged.from_list([[i] * (i % 3) for i in range(n)])
    views = Views(
        image={"map": np.arange(n * 8.0).reshape(n, 2, 4), "objects": regions},
        text=[f"text {i}" for i in range(n)],
        tags=sp.random_array((n, 5), density=0.3, format="csr", rng=np.random.default_rng(0)),
        tensor=torch.arange(n),
        row=np.arange(n),
    )  # fmt: skip
    for train, _ in KFold(3).split(views):
        part = pickle.loads(pickle.dumps(views[train]))
        assert part["text"].tolist() == [f"text {i}" for i in train]
        assert part["image"]["objects"].lengths.tolist() == [i % 3 for i in train]
        assert part["tensor"].tolist() == part["row"].tolist() == train.tolist()
        assert (part["tags"] != views["tags"][train]).nnz == 0


# ---- searching and curves --------------------------------------------------------------


def test_grid_search_in_processes_equals_the_loop(data):
    views, y = data
    search = GridSearchCV(CCA(2), {"reg": [1e-3, 10.0]}, cv=KFold(3), n_jobs=2).fit(views, y)
    for reg, mean in zip([1e-3, 10.0], search.cv_results_["mean_test_score"]):
        expected = by_hand(views, y, KFold(3).split(np.zeros(90)), reg=reg)
        assert mean == pytest.approx(np.mean(expected))
    assert search.score(views, y) == search.best_estimator_.score(views, y)
    assert crossfit.search(
        search, views["image"], view="image", gallery=views["text"]
    ).indices.shape


def test_randomized_search_and_curves(data):
    views, y = data
    search = RandomizedSearchCV(CCA(2), {"reg": [0.1, 1.0, 5.0]}, n_iter=2, cv=3, random_state=0)
    assert search.fit(views, y).best_score_ > 0.25
    sizes, train, test = learning_curve(CCA(2), views, y, train_sizes=[20, 60], cv=3)
    assert sizes.tolist() == [20, 60] and train.shape == test.shape == (2, 3)
    np.testing.assert_allclose(test[1], by_hand(views, y, KFold(3).split(np.zeros(90))))
    _, test = validation_curve(CCA(2), views, y, param_name="power", param_range=[0.0, 1.0], cv=3)
    assert test.shape == (2, 3)


def test_a_search_over_regularisation_by_view(data):
    views, y = data
    grid = {"reg": [{"image": a, "text": b} for a in (0.01, 1.0) for b in (0.01, 1.0)]}
    search = GridSearchCV(CCA(2), grid, cv=3).fit(views, y)
    assert set(search.best_params_["reg"]) == {"image", "text"}


def test_failing_folds_name_the_cause(data):
    views, y = data
    broken = views.replace(image=np.where(np.arange(90)[:, None] == 5, np.nan, views["image"]))
    with pytest.raises(ValueError, match="view 'image' contains NaN"):
        cross_val_score(CCA(2), broken, y, cv=3, error_score="raise")


# ---- joblib ----------------------------------------------------------------------------


def test_joblib_workers_get_read_only_memmaps(data):
    views, _ = data
    big = views.replace(image=np.repeat(views["image"], 50, axis=1))
    cca = CCA(2).fit(big)
    kind = joblib.delayed(lambda v: (type(v["image"]).__name__, v["image"].flags.writeable))
    work = joblib.Parallel(n_jobs=2, backend="loky", max_nbytes=1000)
    assert work(kind(big) for _ in range(2)) == [("memmap", False)] * 2
    fit = joblib.delayed(lambda v: CCA(2).fit(v).weights_["image"])
    for weights in work(fit(big) for _ in range(2)):
        np.testing.assert_allclose(weights, cca.weights_["image"], rtol=1e-6, atol=1e-10)
    scores = work(joblib.delayed(crossfit.similarity)(cca, big[i::2]) for i in range(2))
    np.testing.assert_allclose(scores[1], cca.similarity(big[1::2]), rtol=1e-5, atol=1e-6)


class Counting(StandardScaler):
    calls = 0

    def fit(self, X, y=None, sample_weight=None):
        type(self).calls += 1
        return super().fit(X, y, sample_weight)


def test_pipeline_with_memory(data, tmp_path):
    views, y = data

    def make(memory):
        return Pipeline(
            [("features", ViewTransformer([("image", Counting())])), ("cca", CCA(2)),
             ("scorer", RetrievalScorer())], memory=memory)  # fmt: skip

    memory = joblib.Memory(tmp_path, verbose=0)
    expected = make(None).fit(views, y).score(views, y)
    Counting.calls = 0
    for _ in range(2):
        assert make(memory).fit(views, y).score(views, y) == expected
    assert Counting.calls == 1  # the second fit was read from the cache
    other = views.replace(image=views["image"] + 1e-9)
    make(memory).fit(other, y)
    assert Counting.calls == 2
    # The order of views decides their roles, so it is part of the key.
    renamed = views.rename({"image": "a", "text": "b"})
    step = make_pipeline(ViewTransformer([("a", Counting())]), CCA(2), memory=memory)
    one = clone(step).fit(renamed)[-1].views_in_
    two = clone(step).fit(renamed.select("b", "a"))[-1].views_in_
    assert (one, two) == ({"image": "a", "text": "b"}, {"image": "b", "text": "a"})


# ---- set_output ------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["config", "pipeline"])
def test_pandas_output_leaves_views_alone(data, ask):
    views, y = data
    pipe = make_pipeline(
        ViewTransformer([("image", StandardScaler())]), CCA(2), RetrievalScorer("cosine", "map@all")
    )
    expected = clone(pipe).fit(views, y).score(views, y)
    with sklearn.config_context(transform_output="pandas" if ask == "config" else "default"):
        if ask == "pipeline":
            pipe.set_output(transform="pandas")
        pipe.fit(views, y)
        assert pipe.score(views, y) == expected
        assert isinstance(pipe[:-1].transform(views), Views)
        assert isinstance(pipe[:1].transform(views)["image"], np.ndarray)
        Zx, Zt = CCA(2).set_output(transform="pandas").fit_transform(views["image"], views["text"])
        assert isinstance(Zx, np.ndarray) and isinstance(Zt, np.ndarray)
        assert isinstance(clone(CCA(2)).fit_transform(views), Views)

        class Child(CCA):  # the setting is not inherited by scikit-learn's own rule
            pass

        assert isinstance(Child(2).fit_transform(views), Views)


# ---- the pipeline of the documentation -------------------------------------------------

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "grey": (128,) * 3}


@pytest.fixture(scope="module")
def pictures():
    """Return pictures of one colour with a bright corner, and sentences that describe both."""
    rng = np.random.default_rng(0)
    images, texts, y = [], [], []
    for i in range(48):
        name = list(COLOURS)[i % 4]
        row, column = rng.integers(0, 2, 2)
        pixels = np.tile(np.array(COLOURS[name], float), (32, 32, 1))
        pixels[16 * row :, 16 * column :][:16, :16] += 35
        pixels += rng.normal(scale=6, size=pixels.shape)
        images.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
        where = f"{['top', 'bottom'][row]} {['left', 'right'][column]}"
        texts.append(f"a {name} {rng.choice(['picture', 'square'])} bright at the {where}")
        y.append(i % 4)
    return Views(image=images, text=texts), np.array(y)


def documented(components=5):
    return Pipeline(
        [
            (
                "features",
                ViewTransformer(
                    [
                        ("image", GridFeatures()),
                        ("text", make_pipeline(TfidfVectorizer(), TruncatedSVD(components))),
                    ]
                ),
            ),
            ("cca", CCA(n_components=4)),
            ("scorer", RetrievalScorer(similarity="cosine", metric="map@all")),
        ]
    )


def test_the_documented_pipeline(pictures):
    views, y = pictures
    train, test, y_train, y_test = train_test_split(views, y, random_state=0, stratify=y)
    pipe = documented().fit(train, y_train)
    score = pipe.score(test, y_test)
    assert score > 0.8  # four classes: chance is about .3
    S = crossfit.similarity(pipe, test)
    assert S.shape == (12, 12) and S.dtype == np.float32
    assert make_retrieval_scorer("map@all")(pipe, test, y_test) == score
    Z = crossfit.encode(pipe, ["a red picture", "blue at the left"], "text")
    assert Z.shape == (2, 4)
    found = crossfit.search(pipe, ["a red picture"], view="text", gallery=test["image"], k=3)
    assert {int(y_test[i]) for i in found.indices[0]} == {0}
    pipe["scorer"].index(crossfit.encode(pipe, test["image"], "image"), "image")
    indexed = crossfit.search(pipe, ["a red picture"], view="text", k=3)
    assert np.array_equal(indexed.indices, found.indices)
    assert pipe.score(test, y_test) == score  # the index is not part of what is ranked
    again = pickle.loads(pickle.dumps(pipe))
    assert np.array_equal(crossfit.similarity(again, test), S)


def test_grid_search_over_every_part_of_the_documented_pipeline(pictures):
    views, y = pictures
    grid = {
        "scorer__similarity": ["cosine", "l1"],
        "features__text__truncatedsvd__n_components": [2, 5],
    }
    pipe = documented().set_params(cca__n_components=2, features__image__grid=2)
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=2, error_score="raise").fit(views, y)
    one = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(views, y)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"], rtol=1e-5
    )
    scores = dict(
        zip(map(str, search.cv_results_["params"]), search.cv_results_["mean_test_score"])
    )
    assert len(set(scores.values())) > 2  # the parameters are those of the parts
    best = search.best_estimator_
    svd = best.named_steps["features"].transformers_["text"]["truncatedsvd"]
    assert svd.n_components == search.best_params_["features__text__truncatedsvd__n_components"]


def test_an_optuna_objective_with_the_search_space_of_the_card(pictures):
    views, y = pictures
    card = card_of(CCA)
    seen = []

    def objective(trial):
        drawn = card.suggest(trial, prefix="cca__")
        drawn["cca__n_components"] = min(drawn["cca__n_components"], 5)  # the SVD returns no more
        pipe = documented().set_params(
            **drawn,
            features__image__grid=2,
            scorer__similarity=trial.suggest_categorical("similarity", ["cosine", "l2"]),
        )
        seen.append(pipe["cca"].get_params())
        return cross_val_score(pipe, views, y, cv=2).mean()

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=4)
    assert study.best_value > 0.5
    names = {"cca__n_components", "cca__reg.image", "cca__reg.text", "cca__power", "similarity"}
    assert set(study.best_params) == names
    assert all(set(each["reg"]) == {"image", "text"} for each in seen)
    assert len({each["reg"]["image"] for each in seen}) == 4


def test_suggestions_are_the_values_of_the_trial(data):
    views, _ = data
    trial = optuna.trial.FixedTrial(
        {"n_components": 3, "reg.image": 0.5, "reg.text": 2.0, "power": 1.0}
    )
    drawn = card_of(CCA).suggest(trial)
    assert drawn == {"n_components": 3, "reg": {"image": 0.5, "text": 2.0}, "power": 1.0}
    tuned = CCA(**drawn).fit(views)
    mixed = CCA(3, reg={"image": 0.5, "text": 2.0}, power=1.0).fit(views)
    assert np.array_equal(tuned.weights_["text"], mixed.weights_["text"])
    same = CCA(3, reg=0.5, power=1.0).fit(views)
    assert not np.allclose(tuned.weights_["text"], same.weights_["text"])


# ---- what every public class promises --------------------------------------------------

PUBLIC = {
    "CCA": CCA(3, reg={"image": 0.1, "text": 1.0}, reg_style="ridge", power=1.0, standardize=True,
               views={"image": "image", "text": "text"}),
    "RetrievalScorer": RetrievalScorer(KNNPosterior(7), "r@1"),
    "ViewTransformer": ViewTransformer([("image", PCA(2)), ("text", "passthrough")]),
    "ChannelUnion": ChannelUnion([("a", PCA(2)), ("b", StandardScaler())]),
    "PosteriorOverPrior": PosteriorOverPrior(),
    "KNNPosterior": KNNPosterior(5),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_clone_parameters_repr_and_pickle(name, data):
    views, y = data
    if name in ("RetrievalScorer", "KNNPosterior"):
        views = CCA(3).fit_transform(views)
    made = PUBLIC[name]
    before = repr(made)
    params = made.get_params()
    copy = clone(made)
    assert copy is not made and repr(copy) == before and name in before
    assert set(copy.get_params()) == set(params)
    shallow = made.get_params(deep=False)
    assert {key: repr(v) for key, v in copy.get_params(deep=False).items()} == {
        key: repr(v) for key, v in shallow.items()
    }
    changed = copy.set_params(**shallow)
    assert repr(changed) == before
    given = (views["image"], y) if name == "ChannelUnion" else (views, y)
    fitted = clone(made).fit(*given)
    assert repr(fitted) == before  # fitting does not change parameters
    again = pickle.loads(pickle.dumps(fitted))
    assert vars(again).keys() == vars(fitted).keys()
    assert set(vars(clone(fitted))) == set(vars(clone(made)))
    with pytest.raises(ValueError, match="Invalid parameter"):
        clone(made).set_params(no_such_parameter=1)


def test_an_html_representation_exists():
    assert "RetrievalScorer" in documented()._repr_html_()


# ---- hygiene ---------------------------------------------------------------------------


def test_importing_crossfit_brings_in_nothing_heavy():
    code = (
        "import sys, crossfit; "
        "print([m for m in ('torch', 'sklearn', 'numpy', 'scipy') if m in sys.modules]); "
        "crossfit.Views; print('torch' in sys.modules); "
        "crossfit.similarity; import crossfit.subspace; crossfit.subspace.CCA; "
        "print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["[]", "False", "False"]


def test_random_state_and_warnings_stay_untouched(data):
    views, y = data
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cross_val_score(CCA(2), views, y, cv=3)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
