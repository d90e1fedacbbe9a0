"""Bundles: models are restored to the last bit, and hostile files are rejected."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import (
    compose,
    decomposition,
    discriminant_analysis,
    feature_selection,
    kernel_approximation,
    linear_model,
    multiclass,
    naive_bayes,
    neighbors,
    preprocessing,
    svm,
)
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.feature_extraction import text
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline

import crossfit
from crossfit import (
    Channels,
    ChannelUnion,
    Ragged,
    RetrievalScorer,
    Views,
    ViewTransformer,
    registry,
)
from crossfit.cards import MethodCard
from crossfit.compose import ColumnsAsViews
from crossfit.extraction import GridFeatures, LdaTopics, Tokens
from crossfit.persistence import BundleError, load, save
from crossfit.persistence.allowed import BUNDLED
from crossfit.persistence.files import signed
from crossfit.similarities import KNNPosterior, PosteriorOverPrior
from crossfit.subspace import CCA, CM, KCCA, MACC
from crossfit.testing.planted import planted_inputs

ROOT = Path(__file__).parent.parent
WORDS = ["cat", "dog", "bird", "fish", "car", "road", "tree", "house", "moon", "star", "cloud"]


def captions(n=40, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 6)) for _ in range(n)]


def pictures(n=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)


def there_and_back(model, tmp_path):
    return load(save(model, tmp_path / "bundle"))


def identical(a, b):
    """Compare two values bit for bit, including their types."""
    assert type(a) is type(b)
    if sp.issparse(a):
        assert a.dtype == b.dtype and a.shape == b.shape
        for part in ("data", "indices", "indptr"):
            identical(getattr(a, part), getattr(b, part))
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, Ragged):
        identical(a.values, b.values)
        identical(a.offsets, b.offsets)
        identical(dict(a.info), dict(b.info))
    elif isinstance(a, Views):
        assert a.names == b.names
        for name in a.names:
            identical(a.distinct(name)[0], b.distinct(name)[0])
            identical(a.distinct(name)[1], b.distinct(name)[1])
        identical(a.groups, b.groups)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            identical(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, other in zip(a, b):
            identical(one, other)
    elif isinstance(a, BaseEstimator):
        held = [{k: v for k, v in sorted(vars(e).items()) if k != "_stop_words_id"} for e in (a, b)]
        identical(*held)
    elif isinstance(a, np.random.RandomState):
        identical(a.get_state(), b.get_state())
    elif isinstance(a, (float, np.floating)) and np.isnan(a):
        assert np.isnan(b)
    else:
        assert a == b


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5))
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)


@pytest.fixture
def bundle(planted, tmp_path):
    """Save a small bundle that the tests damage."""
    views, _ = planted(n=30)
    return save(CCA(n_components=2).fit(views), tmp_path / "bundle")


# ---- round trips ---------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("image", "text"), ("photo", "title", "sound")], ids=len)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cca(planted, tmp_path, names, dtype):
    views, _ = planted(names=names, dims=(6, 5, 4)[: len(names)])
    views = views.map(lambda values, name: values.astype(dtype))
    fitted = CCA(n_components=3, reg={"image": 0.1, "text": 0.2} | dict.fromkeys(names[2:], 0.3))
    fitted.fit(views)
    loaded = there_and_back(fitted, tmp_path)
    identical(fitted, loaded)
    identical(fitted.similarity(views), loaded.similarity(views))
    identical(clone(loaded).fit(views), fitted)  # a loaded model can be cloned and fitted again
    identical(loaded.fit(views), fitted)


@pytest.mark.parametrize(
    "extractor",
    [
        GridFeatures(grid=2, size=16, cache=False),
        LdaTopics(3, passes=2, no_below=1, no_above=1.0, verbose=False),
        LdaTopics(3, passes=1, no_below=1, no_above=1.0, random_state=np.random.RandomState(5)),
        Tokens(min_count=1),
        Tokens(min_count=1, output="padded"),
    ],
    ids=lambda extractor: f"{type(extractor).__name__}-{getattr(extractor, 'output', '')}",
)
def test_extractors(tmp_path, extractor):
    items = pictures() if isinstance(extractor, GridFeatures) else captions()
    fitted = clone(extractor).fit(items)
    loaded = there_and_back(fitted, tmp_path)
    identical(fitted, loaded)
    identical(fitted.transform(items[:7]), loaded.transform(items[:7]))
    identical(clone(loaded).get_params(), clone(fitted).get_params())


def built_in(group):
    found = [e for e in registry.entries(group) if e.distribution == registry.CORE]
    return pytest.mark.parametrize("card", [e.card for e in found], ids=[e.name for e in found])


@built_in("crossfit.methods")
def test_every_built_in_method_scores_the_same_to_the_last_bit(tmp_path, card):
    method = registry.resolve_target(card.target)(**card.test_params)
    views, y = planted_inputs(card, 60)
    fitted = method.fit(views, None if card.labels == "none" else y)
    loaded = there_and_back(fitted, tmp_path)
    identical(fitted.get_params(), loaded.get_params())
    identical(fitted.similarity(views), loaded.similarity(views))


@built_in("crossfit.extractors")
def test_every_built_in_extractor_is_of_a_type_that_bundles_hold(tmp_path, card):
    # A detector needs a file; only its name goes into the bundle of an unfitted one.
    needed = {"path": "detector.onnx"} if card.name == "onnx-detector" else {}
    extractor = registry.resolve_target(card.target)(**needed, **card.test_params)
    identical(there_and_back(extractor, tmp_path).get_params(), extractor.get_params())


def pipeline(scorer):
    return Pipeline(
        [
            (
                "features",
                ViewTransformer(
                    [
                        ("image", GridFeatures(grid=2, size=16, cache=False)),
                        (
                            "text",
                            make_pipeline(text.TfidfVectorizer(), decomposition.TruncatedSVD(8)),
                        ),
                    ]
                ),
            ),
            ("cca", CCA(n_components=4)),
            ("scorer", scorer),
        ]
    )


@pytest.mark.parametrize("kind", [KCCA, CM, MACC])
def test_a_bundle_from_before_a_parameter_was_added_has_the_value_that_it_stands_for(
    kind, planted, tmp_path, monkeypatch
):
    views, _ = planted()
    model = kind(3, power=0.0).fit(views)
    expected = model.similarity(views)
    del model.power
    names = [name for name in kind._get_param_names() if name != "power"]
    with monkeypatch.context() as before:
        before.setattr(kind, "_get_param_names", classmethod(lambda cls: names))
        save(model, tmp_path / "old")
    loaded = load(tmp_path / "old")
    assert loaded.power == 0.0
    identical(loaded.similarity(views), expected)
    identical(clone(loaded).fit(views).similarity(views), expected)


@pytest.mark.parametrize("similarity", ["cosine", KNNPosterior(9)], ids=str)
def test_whole_pipelines_score_the_same_to_the_last_bit(tmp_path, similarity):
    v = Views.from_captions(pictures(20), captions(), np.arange(40) // 2)
    y = np.arange(40) // 2 % 4
    model = pipeline(RetrievalScorer(similarity)).fit(v, y)
    model[-1].index(crossfit.encode(model, captions(9, seed=3), "text"), "text")
    loaded = there_and_back(model, tmp_path)
    identical(crossfit.similarity(model, v), crossfit.similarity(loaded, v))
    found = [crossfit.search(m, pictures(3, seed=4), view="image", k=4) for m in (model, loaded)]
    identical(*map(tuple, found))
    identical(model.score(v, y), loaded.score(v, y))
    anew = [
        clone(m).set_params(features__text__truncatedsvd__random_state=0) for m in (model, loaded)
    ]
    identical(*[crossfit.similarity(m.fit(v, y), v) for m in anew])


def test_posteriors_over_priors(tmp_path):
    posteriors = np.random.default_rng(0).dirichlet(np.ones(3), 6)
    v = Views(image=posteriors, text=posteriors)
    scorer = RetrievalScorer(PosteriorOverPrior()).fit(v, ["a", "b", "c", "a", "a", "b"])
    identical(scorer.compare(v), there_and_back(scorer, tmp_path).compare(v))


def test_channels_and_columns(planted, tmp_path, data):
    X, y = data
    union = ChannelUnion(
        [("scaled", preprocessing.StandardScaler()), ("reduced", decomposition.PCA(2))]
    ).fit(X)
    identical(union.transform(X), load(save(union, tmp_path / "union")).transform(X))
    columns = ColumnsAsViews(CCA(n_components=2)).fit(X, y)
    identical(columns.transform(X), load(save(columns, tmp_path / "columns")).transform(X))


COUNTS = np.random.default_rng(0).poisson(1, (60, 5)).astype(float)
VECTORS = {
    "Binarizer": preprocessing.Binarizer(),
    "ColumnTransformer": compose.ColumnTransformer(
        [("a", preprocessing.StandardScaler(), [0, 1]), ("b", "passthrough", slice(2, 4))]
    ),
    "FunctionTransformer": preprocessing.FunctionTransformer(),
    "FactorAnalysis": decomposition.FactorAnalysis(2),
    "FastICA": decomposition.FastICA(2, random_state=0, tol=0.1),
    "FeatureUnion": FeatureUnion([("a", decomposition.PCA(2)), ("b", preprocessing.Normalizer())]),
    "GaussianNB": naive_bayes.GaussianNB(),
    "KNeighborsClassifier": neighbors.KNeighborsClassifier(3, weights="distance"),
    "KNeighborsRegressor": neighbors.KNeighborsRegressor(3, algorithm="ball_tree"),
    "LatentDirichletAllocation": decomposition.LatentDirichletAllocation(3, random_state=0),
    "LinearDiscriminantAnalysis": discriminant_analysis.LinearDiscriminantAnalysis(),
    "LinearRegression": linear_model.LinearRegression(),
    "LinearSVC": svm.LinearSVC(class_weight={0: 1.0, 1: 2.0, 2: 1.0}),
    "LogisticRegression": linear_model.LogisticRegression(),
    "MaxAbsScaler": preprocessing.MaxAbsScaler(),
    "MinMaxScaler": preprocessing.MinMaxScaler(),
    "MultinomialNB": naive_bayes.MultinomialNB(),
    "NMF": decomposition.NMF(2, random_state=0, max_iter=500),
    "NearestNeighbors": neighbors.NearestNeighbors(n_neighbors=4),
    "Normalizer": preprocessing.Normalizer("l1"),
    "OneVsRestClassifier": multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
    "PCA": decomposition.PCA(0.9),
    "Pipeline": make_pipeline(preprocessing.StandardScaler(), "passthrough", decomposition.PCA(2)),
    "PowerTransformer": preprocessing.PowerTransformer(),
    "QuantileTransformer": preprocessing.QuantileTransformer(n_quantiles=20),
    "RBFSampler": kernel_approximation.RBFSampler(n_components=6, random_state=0),
    "Ridge": linear_model.Ridge(),
    "RidgeClassifier": linear_model.RidgeClassifier(),
    "RobustScaler": preprocessing.RobustScaler(),
    "StandardScaler": preprocessing.StandardScaler(),
    "TruncatedSVD": decomposition.TruncatedSVD(2, random_state=np.random.RandomState(3)),
    "VarianceThreshold": feature_selection.VarianceThreshold(0.1),
}
TEXTS = {
    "CountVectorizer": text.CountVectorizer(stop_words=["cat", "dog"], dtype=np.float32),
    "HashingVectorizer": text.HashingVectorizer(n_features=64),
    "TfidfVectorizer": text.TfidfVectorizer(max_features=7, ngram_range=(1, 2)),
}
LABELS = {
    "LabelBinarizer": preprocessing.LabelBinarizer(),
    "LabelEncoder": preprocessing.LabelEncoder(),
}


def answers(estimator, X):
    asked = ("transform", "predict", "predict_proba", "kneighbors")
    return [getattr(estimator, name)(X) for name in asked if hasattr(estimator, name)]


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scikit_learn_on_vectors(tmp_path, data, name, dtype):
    y = data[1]
    counts = name in ("MultinomialNB", "NMF", "LatentDirichletAllocation")
    X = (COUNTS if counts else data[0]).astype(dtype)
    fitted = clone(VECTORS[name]).fit(X, y)
    loaded = there_and_back(fitted, tmp_path)
    identical(answers(fitted, X[:9]), answers(loaded, X[:9]))
    if name not in ("KNeighborsClassifier", "KNeighborsRegressor", "NearestNeighbors"):
        identical(fitted, loaded)  # these contain a tree, which cannot be compared
    clone(loaded).fit(X, y)


def test_scikit_learn_on_texts_and_labels(tmp_path):
    texts = captions()
    for name, estimator in TEXTS.items():
        fitted = clone(estimator).fit(texts)
        loaded = load(save(fitted, tmp_path / name))
        identical(fitted.transform(texts[:5]), loaded.transform(texts[:5]))
        # A number of this process, which would make every bundle different.
        assert b"_stop_words_id" not in (tmp_path / name / "manifest.json").read_bytes()
    counts = text.CountVectorizer().fit_transform(texts)
    weights = text.TfidfTransformer().fit(counts)
    loaded = load(save(weights, tmp_path / "weights"))
    identical(weights.transform(counts), loaded.transform(counts))
    labels = np.array(["b", "a", "c", "a"])
    for name, estimator in LABELS.items():
        fitted = clone(estimator).fit(labels)
        loaded = load(save(fitted, tmp_path / name))
        identical(fitted.transform(labels), loaded.transform(labels))
        identical(fitted.classes_, loaded.classes_)


def test_every_class_of_scikit_learn_that_is_allowed_is_tried_here():
    tried = {*VECTORS, *TEXTS, *LABELS, "TfidfTransformer"}
    allowed = {n for n, module in BUNDLED.items() if module.startswith("sklearn.")}
    assert tried == allowed


def test_neighbours_of_sparse_rows_and_of_several_outputs(tmp_path, data):
    X, y = data
    rows = sp.csr_array(np.where(X > 0, X, 0))
    sparse = neighbors.NearestNeighbors(metric="cosine").fit(rows)
    identical(sparse.kneighbors(rows), load(save(sparse, tmp_path / "s")).kneighbors(rows))
    both = neighbors.KNeighborsClassifier(3).fit(X, np.column_stack([y, 5 - y]))
    identical(both.predict(X), load(save(both, tmp_path / "b")).predict(X))
    unfitted = load(save(neighbors.NearestNeighbors(n_neighbors=7), tmp_path / "u"))
    assert unfitted.n_neighbors == 7 and not hasattr(unfitted, "_fit_X")


VALUES = {
    "plain": [None, True, 3, -(10**30), 0.1, 1e-320, "a\ud800\x00ß", [], {}, ()],
    "floats": [float("nan"), float("inf"), -float("inf"), -0.0],
    "containers": {1: (2, [3]), None: "x", (1, "a"): {"$": 1}, "s": {4, 5}, "f": frozenset("ab")},
    "slices": [slice(None), slice(1, None, -2)],
    "scalars": [np.float32(0.1), np.float64("nan"), np.int8(-3), np.uint64(2**64 - 1),
                np.bool_(True), np.str_("é"), np.bytes_(b"\xff\x00a"), np.float16(0.5)],
    "types": [np.dtype("<f4"), np.dtype(">i2"), np.dtype("datetime64[s]"), np.float32, np.int64],
    "arrays": [np.arange(6).reshape(2, 3), np.asfortranarray([[0.1, 2], [3, 4]]),
               np.zeros((0, 3)),
               np.array(5.0), np.array([True, False]), np.array(["ab", "c"]), np.array([b"x"]),
               np.arange(10)[::-3], np.arange(3, dtype=">f8"), np.array([1 + 2j]),
               np.array(["2020-01-01"], "datetime64[D]"), np.float16([1.5])],
    "objects": [np.array(["a", None, 1, "é"], object), np.array([["a"], ["b"]], object),
                np.empty((0, 2), object)],
    "sparse": [sp.csr_matrix(np.eye(3, dtype=np.float32)), sp.csr_array((2, 4), dtype=int)],
    "random": [np.random.RandomState(3)],
    "paths": [Path("weights") / "a.pt"],
    "ragged": Ragged.from_list([np.ones((2, 3)), np.zeros((0, 3))],
                               info={"boxes": np.arange(2), "vocabulary": ("a", "b")}),
    "views": Views.from_captions(np.arange(6.0).reshape(2, 3), ["a", "b", "c"], [1, 0, 1]),
    "grouped": Views(image=sp.csr_matrix(np.eye(3)), text=["a", "b", "c"]).with_groups([0, 0, 1]),
    "channels": Views(image=Channels(map=np.ones((2, 3)), objects=Ragged.from_list([[1], [2, 3]])),
                      text=[[1], [2]]),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_values(tmp_path, name):
    held = there_and_back(holding(VALUES[name]), tmp_path).held_
    identical(VALUES[name], held)
    if name == "arrays":
        for one, other in zip(VALUES[name], held):
            assert one.flags.f_contiguous == other.flags.f_contiguous or one.strides[0] < 0
            assert other.flags.writeable


def test_the_state_of_a_generator_goes_on_where_it_was(tmp_path):
    generator = np.random.RandomState(3)
    generator.normal(size=3)  # leaves one number for the next normal draw
    loaded = there_and_back(LdaTopics(random_state=generator), tmp_path)
    identical(generator.normal(size=5), loaded.random_state.normal(size=5))


def test_the_same_model_gives_the_same_bytes(planted, tmp_path):
    views, _ = planted()
    folders = [save(CCA().fit(views), tmp_path / name) for name in "ab"]
    one, other = [{p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders]
    assert one == other


# ---- plugins -------------------------------------------------------------------------------------

UNPICKLED = []


class Custom(BaseEstimator):
    """A method of a plugin, with its own state in bundles."""

    __crossfit_transient__ = ("callbacks",)

    def __init__(self, size=2, callbacks=None):
        self.size = size
        self.callbacks = callbacks

    def fit(self, X, y=None):
        self.weights_ = {"net.0.weight": np.arange(self.size, dtype=np.float32)}
        self.tokens_ = Tokens(min_count=1).fit(captions())
        self.cache = object()  # must not be kept
        return self

    def __crossfit_state__(self):
        return {"tokens_": self.tokens_, "epochs": 7}, self.weights_

    def __crossfit_restore__(self, state, arrays):
        self.tokens_, self.epochs_ = state["tokens_"], state["epochs"]
        self.weights_ = dict(arrays)

    def __setstate__(self, state):
        UNPICKLED.append(state)


def register(monkeypatch, cls, distribution="crossfit-custom", version="1.2.3"):
    target = f"{cls.__module__}:{cls.__qualname__}"
    card = MethodCard(api=1, name=cls.__name__.lower(), target=target, summary="for a test")
    entry = registry.Entry("crossfit.methods", card.name, distribution, version, "ok", card)
    found = registry.entries()
    monkeypatch.setattr(registry, "entries", lambda group=None: (*found, entry))
    sys.modules.setdefault(cls.__module__, sys.modules[__name__])


def test_a_plugin_says_what_is_kept(monkeypatch, tmp_path):
    register(monkeypatch, Custom)
    fitted = Custom(size=4, callbacks=[print]).fit(None)
    loaded = there_and_back(make_pipeline(fitted), tmp_path)[0]
    assert (
        loaded.size == 4
        and loaded.callbacks is None
        and loaded.epochs_ == 7
        and not hasattr(loaded, "cache")
    )
    identical(loaded.weights_, fitted.weights_)
    identical(loaded.tokens_, fitted.tokens_)
    assert not UNPICKLED
    types = json.loads((tmp_path / "bundle" / "manifest.json").read_bytes())["types"]
    recorded = types[f"{Custom.__module__}:Custom"]
    assert recorded == {"distribution": "crossfit-custom", "version": "1.2.3"}


class Bare(BaseEstimator):
    """A method that only declares what a bundle must not keep."""

    __crossfit_transient__ = ("listener",)

    def __init__(self, listener=None):
        self.listener = listener


def test_a_plugin_that_says_nothing_is_kept_as_it_is(monkeypatch, tmp_path):
    register(monkeypatch, Bare)
    fitted = Bare(listener=print)
    fitted.mean_ = np.float32(0.5)
    loaded = there_and_back(fitted, tmp_path)
    assert loaded.listener is None
    identical(loaded.mean_, fitted.mean_)


def test_a_plugin_that_is_missing_is_named(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        register(patch, Custom)
        folder = save(Custom().fit(None), tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"crossfit-custom 1\.2\.3.*pip install crossfit-custom"):
        load(folder)
    assert not UNPICKLED


@pytest.mark.parametrize("series, warns", [("1.2.9", False), ("1.3.0", True), ("2.2.3", True)])
def test_another_release_series_warns(monkeypatch, tmp_path, series, warns):
    with monkeypatch.context() as patch:
        register(patch, Custom)
        folder = save(Custom().fit(None), tmp_path / "bundle")
    register(monkeypatch, Custom, version=series)
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(folder)
    said = [str(w.message) for w in caught]
    assert [f"crossfit-custom 1.2.3 (here {series})" in text for text in said] == [True] * warns


@pytest.mark.parametrize(
    "state, arrays",
    [
        ({"fit": 1}, {}),
        ({"__class__": 1}, {}),
        ({}, {"__dict__": np.ones(1)}),
        ({}, {"w": [1.0]}),
        ({}, {"w": np.array([None])}),
    ],
)
def test_a_plugin_that_gives_what_could_not_be_restored_learns_it_on_saving(
    monkeypatch, tmp_path, state, arrays
):
    register(monkeypatch, Custom)
    monkeypatch.setattr(Custom, "__crossfit_state__", lambda self: (state, arrays))
    with pytest.raises(BundleError, match=r"Custom|array"):
        save(Custom(), tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


# ---- rejected on saving --------------------------------------------------------------------------


class Stranger(BaseEstimator):
    pass


class Impostor(decomposition.PCA):
    pass


Impostor.__name__ = Impostor.__qualname__ = "PCA"


def holding(value):
    """Return an estimator with one additional fitted attribute, which is saved as it is."""
    model = RetrievalScorer()
    model.held_ = value
    return model


def itself():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "model, says",
    [
        (make_pipeline(text.TfidfVectorizer(tokenizer=str.split), CCA()),
         r"model\.steps\[0\]\[1\]\.tokenizer is .*split.* bundles contain no code"),
        (text.TfidfVectorizer(preprocessor=lambda t: t), r"model\.preprocessor is .*<lambda>"),
        (make_pipeline(preprocessing.FunctionTransformer(np.log)),
         r"model\.steps\[0\]\[1\]\.func is the function log"),
        (ViewTransformer([("text", ExtraTreesClassifier())]), "transformers.*ExtraTreesClassifier"),
        (RetrievalScorer(Stranger()), r"model\.similarity is of type .*Stranger"),
        (Impostor(), "PCA, which bundles do not support"),
        (GridSearchCV(linear_model.Ridge(), {}).fit(np.arange(20.0).reshape(10, 2), range(10)),
         "GridSearchCV.*; save its best_estimator_"),
        (holding({"a": [1, object()]}), r"model\.held_\['a'\]\[1\] is of type object"),
        (holding(np.array([object()])), "an element of model.held_ is of type object"),
        (holding(np.zeros(2, "f4,i4")), "model.held_ is an array of type"),
        (holding(np.longdouble(1)), "model.held_ is a .*128|longdouble"),
        (holding(1j), "complex"),
        (holding(CCA), "the class crossfit.subspace.cca.CCA"),
        (holding(itself()), "contain itself"),
        (holding(np.random.RandomState(np.random.PCG64(0))), "MT19937"),
        (holding(sp.csc_matrix(np.eye(2))), "csc_matrix"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_before_anything_is_written(tmp_path, model, says):
    with pytest.raises(BundleError, match=says):
        save(model, tmp_path / "new" / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", [3, [CCA()], CCA])
def test_only_estimators_are_saved(tmp_path, model):
    with pytest.raises(BundleError, match="save expects an estimator"):
        save(model, tmp_path / "bundle")


# ---- writing -------------------------------------------------------------------------------------


def test_an_existing_folder_is_only_overwritten_on_demand(bundle, tmp_path):
    before = {p.name: p.read_bytes() for p in bundle.iterdir()}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save(CCA(), bundle)
    assert {p.name: p.read_bytes() for p in bundle.iterdir()} == before
    (bundle / "notes.txt").write_text("mine")
    save(holding(np.arange(3)), bundle, overwrite=True)
    assert load(bundle).held_.tolist() == [0, 1, 2]
    assert (bundle / "notes.txt").read_text() == "mine"
    assert len(list(bundle.iterdir())) == 4
    save(load(bundle), bundle, overwrite=True)  # with the same arrays
    assert load(bundle).held_.tolist() == [0, 1, 2]


def test_what_is_no_bundle_is_never_overwritten(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    for place in (tmp_path, tmp_path / "manifest.json"):
        with pytest.raises(FileExistsError, match="not a bundle"):
            save(CCA(), place, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]
    (tmp_path / "empty").mkdir()
    load(save(CCA(), tmp_path / "empty", overwrite=True))


@pytest.mark.parametrize("moment", ["savez", "fsync", "replace", "rename"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_save_leaves_nothing_or_the_old_bundle(
    monkeypatch, tmp_path, bundle, moment, error
):
    def interrupt(*args, **kwargs):
        if moment == "replace" and not str(args[-1]).endswith("manifest.json"):
            return os.replace(*args)
        raise error

    owner = {"savez": np, "fsync": os, "replace": Path, "rename": Path}[moment]
    before = load(bundle)
    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, interrupt)
        with pytest.raises(error):
            save(holding(np.ones(5)), tmp_path / "new")
        if moment != "rename":
            with pytest.raises(error):
                save(holding(np.ones(5)), bundle, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    identical(load(bundle), before)
    assert not [p for p in bundle.iterdir() if p.name.startswith(".")]
    save(before, bundle, overwrite=True)
    assert len(list(bundle.iterdir())) == 3


def test_the_cache_of_a_pipeline_stays_where_it_is(tmp_path, data):
    model = make_pipeline(decomposition.PCA(2), memory=str(tmp_path / "cache")).fit(data[0])
    loaded = there_and_back(model, tmp_path)
    assert loaded.memory is None
    identical(loaded.transform(data[0]), model.transform(data[0]))


# ---- damage --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written():
    """Return the files of a small bundle."""
    rng = np.random.default_rng(0)
    model = CCA(n_components=2).fit(rng.normal(size=(9, 2)), rng.normal(size=(9, 2)))
    with tempfile.TemporaryDirectory() as folder:
        bundle = save(make_pipeline(model), Path(folder) / "bundle")
        # The card is for people: it is not read.
        return {p.name: p.read_bytes() for p in bundle.iterdir() if p.name != "README.md"}


def laid_out(files, folder):
    for name, content in files.items():
        (Path(folder) / name).write_bytes(content)
    return folder


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_byte_changed_anywhere_is_noticed(written, data):
    name = data.draw(st.sampled_from(sorted(written)))
    content = bytearray(written[name])
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        laid_out({**written, name: bytes(content)}, folder)
        with pytest.raises(BundleError, match="is rejected"):
            load(folder)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_file_cut_short_or_grown_is_noticed(written, data):
    name = data.draw(st.sampled_from(sorted(written)))
    cut = data.draw(st.integers(0, len(written[name]) - 1))
    for content in (written[name][:cut], written[name] + written[name][: cut + 1]):
        with tempfile.TemporaryDirectory() as folder:
            laid_out({**written, name: content}, folder)
            with pytest.raises(BundleError, match="is rejected"):
                load(folder)


def test_missing_things_are_named(tmp_path, bundle):
    with pytest.raises(BundleError, match=r"there is no manifest manifest\.json"):
        load(tmp_path / "nowhere")
    next(bundle.glob("*.npz")).unlink()
    with pytest.raises(BundleError, match="there is no array file"):
        load(bundle)


# ---- attacks -------------------------------------------------------------------------------------


def forge(bundle, edit=None, arrays=None):
    """Change a bundle and compute its hashes again, as an attacker would."""
    content = json.loads((bundle / "manifest.json").read_bytes())
    content.pop("sha256")
    if edit is not None:
        content = edit(content) or content
    if arrays is not None:
        next(bundle.glob("*.npz")).unlink(missing_ok=True)
        digest = hashlib.sha256(arrays).hexdigest()
        name = f"arrays-{digest[:16]}.npz"
        (bundle / name).write_bytes(arrays)
        content["arrays"] = {"file": name, "size": len(arrays), "sha256": digest}
    (bundle / "manifest.json").write_bytes(signed(content))
    return bundle


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, content in members:
            made.writestr(name, content)
    return path.read_bytes()


def refused(bundle, says=""):
    with pytest.raises(BundleError, match=says or None) as caught:
        load(bundle)
    assert str(caught.value).startswith(f"the bundle {bundle} is rejected: ")
    return str(caught.value)


def test_forging_is_not_what_makes_a_bundle_fail(bundle):
    arrays = next(bundle.glob("*.npz")).read_bytes()
    assert load(forge(bundle, lambda content: None, arrays)).n_components == 2


class Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_among_the_arrays_is_never_loaded(tmp_path, bundle):
    mark = tmp_path / "executed"
    trap = tmp_path / "trap.npz"
    held = np.empty(1, object)
    held[0] = Payload(mark)
    np.savez(trap, *[held] * 6)
    refused(forge(bundle, arrays=trap.read_bytes()), "of type object")
    raw = held.dumps()
    pickles = archive(trap, [(f"arr_{i}.npy", raw) for i in range(6)])
    refused(forge(bundle, arrays=pickles), "magic string")
    assert not mark.exists()
    raw_mark = tmp_path / "real"
    held[0] = Payload(raw_mark)
    np.savez(trap, held)
    with np.load(trap, allow_pickle=True) as live:
        live["arr_0"]
    assert raw_mark.exists()  # and the attack works if pickle is allowed


def test_pickles_in_place_of_the_files_are_never_loaded(tmp_path, bundle):
    import pickle

    mark = tmp_path / "executed"
    raw = pickle.dumps(Payload(mark))
    refused(forge(bundle, arrays=raw))
    (bundle / "manifest.json").write_bytes(raw)
    refused(bundle, "not JSON")
    assert not mark.exists()


HOSTILE = [
    "os:system",
    "os:mkdir",
    "builtins:eval",
    "builtins:exec",
    "subprocess:Popen",
    "pickle:loads",
    "sklearn.ensemble:ExtraTreesClassifier",
    "sklearn.preprocessing:OneHotEncoder",
    "sklearn.svm:SVC",
    "sklearn.pipeline:joblib.load",
    "sklearn.decomposition._pca:PCA",
    "crossfit.persistence._encoding:Encoder",
    "crossfit.registry:resolve_target",
    "crossfit.subspace.cca:scipy.linalg.svd",
    "crossfit.compose:CCA",
    "CCA",
    ":",
    "",
    None,
    ["crossfit.subspace.cca:CCA"],
    {"$": "tuple", "items": []},
]


@pytest.mark.parametrize("name", HOSTILE, ids=str)
def test_a_type_that_is_not_allowed_is_refused(tmp_path, bundle, name):
    mark = tmp_path / "executed"

    def edit(content):
        content["model"].update(type=name, params={"path": str(mark)}, state={}, arrays={})
        if isinstance(name, str):
            content["types"][name] = {"distribution": "crossfit-retrieval", "version": "0.1.0"}

    refused(forge(bundle, edit), "which bundles may not contain|which no installed plugin provides")
    assert not mark.exists()


def test_no_module_is_imported_because_a_bundle_names_it(tmp_path, monkeypatch, bundle):
    mark = tmp_path / "executed"
    (tmp_path / "crossfit_trap.py").write_text(
        f"import os\nos.mkdir({str(mark)!r})\nclass Method: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def edit(content):
        content["model"]["type"] = "crossfit_trap:Method"
        content["types"]["crossfit_trap:Method"] = {"distribution": "trap", "version": "1"}

    refused(forge(bundle, edit), "pip install trap")
    assert not mark.exists() and "crossfit_trap" not in sys.modules
    refused(forge(bundle, lambda content: content["types"].update(
        {"crossfit_trap:Method": {"distribution": "--index-url=x y", "version": "1"}})),
        "no valid distribution")  # fmt: skip


def test_a_class_with_a_malicious_setstate_is_never_restored(bundle):
    sys.modules.setdefault(Custom.__module__, sys.modules[__name__])
    refused(forge(bundle, lambda c: c["model"].update(type=f"{Custom.__module__}:Custom")))
    assert not UNPICKLED


@pytest.mark.parametrize(
    "name",
    ["__class__", "__dict__", "__reduce__", "__sklearn_tags__", "fit", "similarity", "_encode",
     "transform", "get_params", "__anything"],
)  # fmt: skip
def test_values_cannot_take_the_place_of_code(bundle, name):
    refused(
        forge(bundle, lambda c: c["model"]["state"].update({name: 1})), "not the name of a fitted"
    )


def test_extractors_are_guarded_likewise(tmp_path):
    bundle = save(Tokens(min_count=1).fit(captions()), tmp_path / "bundle")
    for part in ("state", "arrays"):
        shutil.copytree(bundle, tmp_path / part)
        edit = lambda c, part=part: c["model"][part].update(_extract=[])  # noqa: E731
        refused(forge(tmp_path / part, edit), "not the name of a fitted")


@pytest.mark.parametrize(
    "file", ["../arrays-0123456789abcdef.npz", "/etc/passwd", "a/../b.npz", "arrays.npz", "..", "",
             "arrays-0123456789abcdef.npz\n", "arrays-0123456789abcdef.npz\x00", None, 3, ["x"],
             "C:\\arrays-0123456789abcdef.npz"],
)  # fmt: skip
def test_a_path_that_leads_out_of_the_folder_is_refused(bundle, file):
    outside = bundle.parent / "arrays-0123456789abcdef.npz"
    shutil.copy(next(bundle.glob("*.npz")), outside)
    edit = lambda content: content["arrays"].update(file=file)  # noqa: E731
    refused(forge(bundle, edit), "is not the name of an array file")


def test_links_and_pipes_are_not_followed(tmp_path, bundle):
    for name in [p.name for p in bundle.iterdir() if p.name != "README.md"]:
        copy = Path(shutil.copytree(bundle, tmp_path / f"copy-{name[:4]}"))
        (copy / name).unlink()
        (copy / name).symlink_to(bundle / name)
        refused(copy, "not a regular file")
        (copy / name).unlink()
        os.mkfifo(copy / name)
        refused(copy, "not a regular file")
        (copy / name).unlink()
        (copy / name).mkdir()
        refused(copy, "not a regular file")
    (tmp_path / "link").symlink_to(bundle)  # the caller trusts the folder
    load(tmp_path / "link")


def header(shape, descr="'<f8'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


SIZE = "does not have the size that it declares"


@pytest.mark.parametrize(
    "member, says",
    [
        (header("(1000000000000000,)"), SIZE),
        (header("(1000000, 1000000, 1000000)") + bytes(64), SIZE),
        (header("(4,)") + bytes(31), SIZE),
        (header("(4,)") + bytes(33), SIZE),
        (header("(-1,)") + bytes(8), SIZE),
        (header("(-1, -4)") + bytes(32), SIZE),
        (header("'x'"), "shape is not valid"),
        (header("__import__('os').mkdir('executed')"), "malformed node"),
        (header("(2,)", "'|O'") + bytes(16), "not of numbers"),
        (header("(2,)", "[('a', '|O')]") + bytes(16), "not of numbers"),
        (header("(2,)", "'|V8'") + bytes(16), "not of numbers"),
        (b"\x93NUMPY\x03\x00" + header("(0,)")[8:], "format"),
        (b"\x80\x04N.", "magic string"),
        (b"", "EOF"),
    ],
)
def test_arrays_that_lie_about_themselves_are_refused(tmp_path, monkeypatch, bundle, member, says):
    monkeypatch.chdir(tmp_path)
    made = archive(tmp_path / "forged.npz", [(f"arr_{i}.npy", member) for i in range(6)])
    refused(forge(bundle, arrays=made), says)
    assert not (tmp_path / "executed").exists()


def test_bombs_are_refused_before_memory_is_taken(tmp_path, bundle):
    import tracemalloc

    bomb = tmp_path / "bomb.npz"
    np.savez_compressed(bomb, *[np.zeros(10**6)] * 6)
    assert bomb.stat().st_size < 10**6
    forge(bundle, arrays=bomb.read_bytes())
    tracemalloc.start()
    refused(bundle, "was not written by crossfit")
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
    # Not even a compressed array that would be small.
    noise = np.random.default_rng(0).integers(0, 256, 10**4, dtype=np.uint8)
    np.savez_compressed(bomb, *[noise] * 6)  # does not become smaller
    refused(forge(bundle, arrays=bomb.read_bytes()), "was not written by crossfit")
    # Members that share their bytes: every entry of the directory refers to the first.
    one = header("(1000,)") + bytes(8000)
    with zipfile.ZipFile(bomb, "w") as made:
        made.writestr("arr_0.npy", one)
        first = made.infolist()[0]
        for i in range(1, 6):
            shared = zipfile.ZipInfo(f"arr_{i}.npy")
            for slot in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(shared, slot, getattr(first, slot))
            made.filelist.append(shared)
            made.NameToInfo[shared.filename] = shared
    refused(forge(bundle, arrays=bomb.read_bytes()), "was not written by crossfit")


def test_arrays_are_used_once_each(tmp_path, bundle):
    def twice(content):
        content["model"]["state"]["held_"] = {"$": "array", "number": 0}

    refused(forge(bundle, twice), "referred to twice")
    again = save(holding(np.ones(3)), tmp_path / "again")
    refused(forge(again, lambda c: c["model"]["state"].pop("held_") and None), "nothing refers")
    third = save(CCA(), tmp_path / "third")
    with pytest.warns(UserWarning, match="Duplicate name"):
        made = archive(tmp_path / "z.npz", [("arr_0.npy", header("(0,)"))] * 2)
    refused(forge(third, arrays=made), "was not written by crossfit")


def node(tag, **content):
    return {"$": tag, **content}


STATES = {
    "unknown tag": node("eval", value="1"),
    "private tag": node("estimator", name="x"),
    "tag of another type": node([], x=1),
    "too many fields": node("tuple", items=[], more=1),
    "too few fields": node("tuple"),
    "unhashable": node("set", items=[[1]]),
    "no pairs": node("dict", items=[1, 2]),
    "dtype of objects": node("dtype", value="|O8"),
    "dtype with commas": node("dtype", value="<f8,<f8"),
    "dtype code": node("scalar type", value="__import__('os')"),
    "scalar too large": node("scalar", dtype="|i1", value=1000),
    "objects": node("objects", shape=[10**15], items=[]),
    "slice": node("slice", items=[1, 2, 3, 4]),
    "similarity": node("similarity", name="os.system"),
    "float": node("float", value="__import__"),
    "ragged": node("Ragged", values=[1, 2], offsets=[0, 5], info={}),
    "views": node("Views", values={}, index={}, groups=None),
    "views of numbers": node("Views", values={"a": 1}, index={}, groups=None),
    "state of a generator": node(
        "RandomState", key=[1] * 624, position=10**6, has_gauss=0, gauss=0.0
    ),
    "key of a generator": node("RandomState", key=[1] * 3, position=0, has_gauss=0, gauss=0.0),
    "deep": json.loads("[" * 150 + "]" * 150),
    "path": node("path", value=3),
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_malformed_values_are_refused_with_their_place(bundle, name):
    forge(bundle, lambda c: c["model"]["state"].update(held_=STATES[name]))
    refused(bundle, r"model\.state\['held_'\]|deep")


def forged_arrays(tmp_path, value, edit):
    """Return a bundle of an estimator with a value whose arrays have been edited."""
    bundle = save(holding(value), tmp_path / "forged")
    with np.load(next(bundle.glob("*.npz"))) as stored:
        arrays = [stored[f"arr_{i}"].copy() for i in range(len(stored.files))]
    edit(arrays)
    np.savez(tmp_path / "new.npz", *arrays)
    return forge(bundle, arrays=(tmp_path / "new.npz").read_bytes())


@pytest.mark.parametrize("at, wrong", [(1, 99), (1, -1), (2, 99), (2, -5)])
def test_a_sparse_matrix_with_indices_out_of_range_is_refused(tmp_path, at, wrong):
    def edit(arrays):
        arrays[at][1] = wrong

    forged = forged_arrays(tmp_path, sp.csr_matrix(np.eye(4)), edit)
    refused(forged, r"held_'\]: (indices|indptr) must be")


@pytest.mark.parametrize("wrong", [99, -2])  # -1 is a row that lacks the view
def test_views_with_an_index_out_of_range_are_refused(tmp_path, wrong):
    v = Views.from_captions(np.arange(6.0).reshape(2, 3), np.ones((3, 2)), [1, 0, 1])

    def edit(arrays):
        next(a for a in arrays if a.shape == (3,))[0] = wrong

    refused(forged_arrays(tmp_path, v, edit), "do not fit together")


@pytest.mark.parametrize("wrong", [10**6, -1, 0, "a", None])
def test_a_vocabulary_that_points_nowhere_is_refused(tmp_path, wrong):
    bundle = save(text.TfidfVectorizer().fit(captions()), tmp_path / "bundle")
    edit = lambda c: c["model"]["state"]["vocabulary_"].update(cat=wrong, dog=1)  # noqa: E731
    refused(forge(bundle, edit))


def test_a_bundle_brings_no_cache_folder(tmp_path):
    # joblib would unpickle the files of the bundle's author as soon as the model is fitted.
    bundle = save(make_pipeline(decomposition.PCA()), tmp_path / "bundle")
    edit = lambda c: c["model"]["params"].update(memory=str(tmp_path / "trap"))  # noqa: E731
    refused(forge(bundle, edit), "cache folder")

    def in_disguise(content):
        del content["model"]["params"]["memory"]
        content["model"]["state"]["memory"] = str(tmp_path / "trap")

    refused(forge(bundle, in_disguise), "'memory' is not a fitted attribute")


def test_what_is_fitted_comes_neither_as_a_parameter_nor_as_arrays_of_a_plain_type(tmp_path):
    for part, name in (("state", "metric"), ("arrays", "other_")):
        bundle = save(holding(1), tmp_path / part)
        edit = lambda c, p=part, n=name: c["model"][p].update({n: []})  # noqa: E731
        refused(forge(bundle, edit), f"{name!r} is not a fitted attribute")


def test_parameters_that_the_class_does_not_have_are_refused(bundle):
    refused(forge(bundle, lambda c: c["model"]["params"].update(other=1)), "TypeError")


def test_a_newer_format_is_refused_as_such(bundle):
    refused(forge(bundle, lambda c: c.update(crossfit_bundle=3, new=1)), "upgrade crossfit-retriev")


@pytest.mark.parametrize(
    "version", [0, -1, "1", None, 1.0, True, [1]], ids=lambda v: type(v).__name__ + str(v)
)
def test_a_format_that_never_was_is_refused(bundle, version):
    refused(
        forge(bundle, lambda c: c.update(crossfit_bundle=version)), "not a manifest of a crossfit"
    )


@pytest.mark.parametrize(
    "raw, says",
    [
        (b"", "not JSON"),
        (b"[1]", "not a manifest of a crossfit bundle"),
        (b"null", "not a manifest of a crossfit bundle"),
        (b'{"crossfit_bundle": 1}', "changed"),
        (b'{"crossfit_bundle": 1, "crossfit_bundle": 2}', "twice"),
        (b'{"crossfit_bundle": 1, "a": NaN}', "NaN, which is not JSON"),
        (b'{"crossfit_bundle": 1, "a": -Infinity}', "Infinity, which is not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"crossfit_bundle": ' + b"9" * 10_000 + b"}", ""),
        ('{"crossfit_bundle": "é"}'.encode(), "not JSON"),
        (b"\xff\xfe", "not JSON"),
    ],
    ids=lambda part: str(part)[:20],
)
def test_manifests_that_are_not_what_they_should_be(bundle, raw, says):
    (bundle / "manifest.json").write_bytes(raw)
    refused(bundle, says)


def test_a_manifest_with_other_entries_is_refused(bundle):
    refused(forge(bundle, lambda c: c.update(more=1)), "must have the entries")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**9) | st.floats(-2, 2) | st.text(max_size=3)
    | st.sampled_from(["array", "tuple", "dict", "object", "csr", "Ragged", "Views", "<f8"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["$", "items", "value", "type", "number", "x"]), inner,
                      max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(tree):
    """Yield every container of a tree with each of its keys."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, part in pairs:
        yield tree, key
        if isinstance(part, (dict, list)):
            yield from places(part)


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """Save a bundle with most kinds of values."""
    model = pipeline(RetrievalScorer(KNNPosterior(3))).fit(
        Views(image=pictures(), text=captions()), np.arange(40) % 3
    )
    model.held_ = {name: value for name, value in VALUES.items() if name != "plain"}
    return save(model, tmp_path_factory.mktemp("rich") / "bundle")


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_stands_in_a_manifest_loads_or_is_refused(rich, data):
    def edit(content):
        found = list(places(content))
        for _ in range(data.draw(st.integers(1, 3))):
            tree, key = found[data.draw(st.integers(0, len(found) - 1))]
            tree[key] = data.draw(PLAIN)

    with tempfile.TemporaryDirectory() as folder:
        try:
            load(forge(Path(shutil.copytree(rich, folder, dirs_exist_ok=True)), edit))
        except BundleError as error:
            assert "is rejected" in str(error)


# ---- elsewhere -----------------------------------------------------------------------------------


def test_reading_and_writing_bundles_imports_no_torch():
    code = """
        import sys
        import crossfit.persistence
        assert not {"torch", "sklearn", "gensim", "matplotlib"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def other_python():
    """Find another version of Python with what crossfit needs to read a bundle."""
    needs = "import numpy, scipy, sklearn, joblib, entrypoints"
    here = "python{}.{}".format(*sys.version_info)
    for name in ("python3.11", "python3.12", "python3.13", "python3.14"):
        path = shutil.which(name)
        if name != here and path and not subprocess.run(
            [path, "-c", needs], capture_output=True
        ).returncode:  # fmt: skip
            return path
    pytest.skip("no other python3.x on the path has numpy, scipy, scikit-learn and entrypoints")


def test_a_bundle_loads_on_another_python(planted, tmp_path):
    python = other_python()
    rng = np.random.default_rng(0)
    v = Views(image=rng.normal(size=(40, 6)), text=captions())
    model = Pipeline(
        [
            ("features", ViewTransformer([
                ("image", preprocessing.StandardScaler()),
                ("text", make_pipeline(text.TfidfVectorizer(), decomposition.TruncatedSVD(6))),
            ])),
            ("cca", CCA(n_components=4)),
            ("scorer", RetrievalScorer(KNNPosterior(5))),
        ]
    ).fit(v, np.arange(40) % 4)  # fmt: skip
    save(model, tmp_path / "bundle")
    np.save(tmp_path / "image.npy", v["image"])
    # The registry reads entry points: those of the source, as an installation would list them.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = tmp_path / "crossfit_retrieval-0.1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(
        "\n".join(
            line
            for group, points in project["entry-points"].items()
            for line in (f"[{group}]", *(f"{name} = {card}" for name, card in points.items()))
        )
    )
    code = f"""
        import json, sys
        import numpy as np
        import crossfit
        from crossfit.persistence import load
        views = crossfit.Views(image=np.load("image.npy"), text=json.load(open("texts.json")))
        np.save("scores.npy", crossfit.similarity(load("bundle"), views))
        print(sys.version_info[:2] == {tuple(sys.version_info[:2])})
    """
    (tmp_path / "texts.json").write_text(json.dumps(captions()))
    source = os.pathsep.join([str(Path(crossfit.__file__).parent.parent), str(tmp_path)])
    done = subprocess.run(
        [python, "-c", textwrap.dedent(code)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"
    # Another build of NumPy may round differently.
    np.testing.assert_allclose(
        np.load(tmp_path / "scores.npy"), crossfit.similarity(model, v), rtol=1e-5
    )
