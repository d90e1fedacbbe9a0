"""ViewTransformer and ChannelUnion: fitting by view, items once, parameters, invalid input."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import crossfit
from crossfit import Channels, ChannelUnion, Ragged, Views, ViewTransformer
from crossfit.base import CrossModalEstimator
from crossfit.cards import MethodCard
from crossfit.compose import SelectChannel
from crossfit.methods import CCA

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(12, 5))
WORDS = ["red", "green", "blue", "big", "small", "round", "square", "cat", "dog", "bird"]
TEXTS = [" ".join(RNG.choice(WORDS, 4)) for _ in range(12)]
VIEWS = Views(image=IMAGES, text=TEXTS)


class Spy(TransformerMixin, BaseEstimator):
    """Record the input and return it unchanged."""

    def __init__(self, log=None):
        self.log = log

    def fit(self, X, y=None):
        self.fitted_on_ = (X, y)
        return self

    def transform(self, X):
        self.last_ = X
        return X


def test_each_view_has_its_transformer():
    made = ViewTransformer([("image", PCA(3)), ("text", TfidfVectorizer())])
    out = made.fit_transform(VIEWS)
    assert out.names == ("image", "text")
    np.testing.assert_allclose(out["image"], PCA(3).fit_transform(IMAGES))
    assert sp.issparse(out["text"])
    assert (out["text"] != TfidfVectorizer().fit_transform(TEXTS)).nnz == 0
    again = made.fit(VIEWS).transform(VIEWS[3:5])
    np.testing.assert_allclose(again["image"], out["image"][3:5])
    assert made.transform(VIEWS.select("text")).names == ("text",)
    assert made.transform(VIEWS.select("text", "image")).names == ("text", "image")
    assert not hasattr(made.transformers[0][1], "components_")  # the parameters stay unfitted


def test_passthrough_drop_and_remainder():
    v = Views(image=IMAGES, text=TEXTS, audio=IMAGES + 1)
    scaled = [("image", StandardScaler())]
    assert ViewTransformer(scaled).fit_transform(v).names == v.names
    kept = ViewTransformer(scaled).fit_transform(v)
    assert kept["audio"].tolist() == v["audio"].tolist()
    assert ViewTransformer(scaled, remainder="drop").fit_transform(v).names == ("image",)
    dropping = ViewTransformer([("text", "drop"), ("audio", "passthrough")]).fit(v)
    assert dropping.transform(v).names == ("image", "audio")
    assert dropping.transform(v.select("text", "audio")).names == ("audio",)
    with pytest.raises(ValueError, match="would drop all views, text"):
        dropping.transform(v.select("text"))


def test_items_are_seen_once_with_their_labels():
    index = np.array([0, 0, 1, 2, 2, 2])
    v = Views.from_captions(IMAGES[:3], TEXTS[:6], index)
    y = np.array(["a", "a", "b", "c", "c", "c"])
    made = ViewTransformer([("image", Spy()), ("text", Spy())])
    out = made.fit_transform(v, y)
    X, labels = made.transformers_["image"].fitted_on_
    assert X.tolist() == IMAGES[:3].tolist() and labels.tolist() == ["a", "b", "c"]
    X, labels = made.transformers_["text"].fitted_on_
    assert X.tolist() == TEXTS[:6] and labels.tolist() == y.tolist()
    assert len(out.distinct("image")[0]) == 3 and out.groups.tolist() == index.tolist()
    made.transform(v[[5, 4, 0]])
    assert len(made.transformers_["image"].last_) == 2
    with pytest.raises(ValueError, match="view 'image' has conflicting labels"):
        made.fit(v, np.arange(6))


def test_supervised_transformers_get_labels():
    y = np.arange(12) % 2
    X = IMAGES.copy()
    X[:, 3] = y + 1e-6 * IMAGES[:, 3]
    out = ViewTransformer([("image", SelectKBest(k=1))]).fit_transform(Views(image=X), y)
    np.testing.assert_allclose(out["image"].ravel(), y, atol=1e-4)


def test_parameters_are_reached_and_cloned():
    made = ViewTransformer(
        [("image", PCA(3)), ("text", make_pipeline(TfidfVectorizer(), TruncatedSVD(2)))]
    )
    params = made.get_params()
    assert params["image__n_components"] == 3
    assert params["text__truncatedsvd__n_components"] == 2
    made.set_params(text__truncatedsvd__n_components=4, image__whiten=True, remainder="drop")
    assert made.fit_transform(VIEWS)["text"].shape == (12, 4)
    made.set_params(image="passthrough")
    assert made.fit_transform(VIEWS)["image"].tolist() == IMAGES.tolist()
    copy = clone(made)
    assert repr(copy) == repr(made) and not hasattr(copy, "transformers_")
    assert "TruncatedSVD(n_components=4)" in repr(made)
    again = pickle.loads(pickle.dumps(made.fit(VIEWS)))
    np.testing.assert_array_equal(again.transform(VIEWS)["text"], made.transform(VIEWS)["text"])
    with pytest.raises(ValueError, match="Invalid parameter"):
        made.set_params(audio__k=1)


BAD = {
    "arrays": (lambda: ViewTransformer([("image", PCA())]).fit(IMAGES), TypeError,
               "expects Views, got ndarray"),
    "later arrays": (lambda: ViewTransformer([("image", PCA(2))]).fit(VIEWS).transform(IMAGES),
                     TypeError, "expects Views, got ndarray"),
    "missing view": (lambda: ViewTransformer([("audio", PCA())]).fit(VIEWS), ValueError,
                     "needs the view 'audio', got image, text"),
    "unknown later": (lambda: ViewTransformer([("image", PCA(2))]).fit(VIEWS.select("image"))
                      .transform(VIEWS), ValueError, "view 'text' was not in the fit, .* image"),
    "no list": (lambda: ViewTransformer({"image": PCA()}).fit(VIEWS), TypeError,
                r"list of \(name, transformer\) pairs"),
    "empty": (lambda: ViewTransformer([]).fit(VIEWS), TypeError, "pairs, got"),
    "no pair": (lambda: ViewTransformer([PCA()]).fit(VIEWS), TypeError, "pairs, got"),
    "twice": (lambda: ViewTransformer([("image", PCA()), ("image", PCA())]).fit(VIEWS),
              ValueError, "must differ, got image, image"),
    "no transformer": (lambda: ViewTransformer([("image", 3)]).fit(VIEWS), TypeError,
                       "'image' must be a transformer with fit and transform, got int"),
    "word": (lambda: ViewTransformer([("image", "skip")]).fit(VIEWS), ValueError,
             "one of passthrough, drop, got 'skip'"),
    "remainder": (lambda: ViewTransformer([("image", PCA())], remainder="keep").fit(VIEWS),
                  ValueError, "remainder must be.*'keep'"),
    "length": (lambda: ViewTransformer([("image", PCA())]).fit(VIEWS, [1, 2]), ValueError,
               r"one label per row \(12\), got 2"),
    "rows": (lambda: ViewTransformer([("image", FunctionTransformer(lambda X: X[:3]))])
             .fit(VIEWS), ValueError, "'image' has 12 items, but the function returned 3"),
    "channel word": (lambda: ChannelUnion([("a", "drop")]).fit(IMAGES), ValueError,
                     "ChannelUnion: 'a' must be a transformer, got 'drop'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    use, error, message = BAD[case]
    with pytest.raises(error, match=message):
        use()


def test_nothing_before_fit():
    with pytest.raises(NotFittedError):
        ViewTransformer([("image", PCA())]).transform(VIEWS)
    with pytest.raises(NotFittedError):
        ChannelUnion([("a", PCA())]).transform(IMAGES)


# ---- channels --------------------------------------------------------------------------


class Regions(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return Ragged.from_list(
            [np.repeat(row[None], 1 + i % 3, axis=0) for i, row in enumerate(X)]
        )


class TakesChannels(CrossModalEstimator):
    card = MethodCard(
        api=1, name="toy", target="toy:Toy", summary="", inputs={"image": ("channels",)}
    )

    def _fit(self, views, y):
        self.means_ = views["image"]["map"].mean(axis=0)

    def _encode(self, values, view):
        if view == "text":
            return values
        sums = [row.sum(axis=0) for row in values["objects"]]
        return values["map"] - self.means_ + sums


def test_channels_through_a_pipeline():
    union = ChannelUnion([("map", StandardScaler()), ("objects", Regions())])
    made = ViewTransformer([("image", union)])
    v = Views(image=IMAGES, text=RNG.normal(size=(12, 5)))
    out = made.fit_transform(v)
    assert isinstance(out["image"], Channels) and out["image"].names == ("map", "objects")
    assert out[[4, 2]]["image"]["objects"].lengths.tolist() == [2, 3]
    np.testing.assert_allclose(out["image"]["map"], StandardScaler().fit_transform(IMAGES))
    pipe = make_pipeline(made, TakesChannels()).fit(v)
    assert pipe.score(v) > 0
    method = TakesChannels().fit(out)
    from_channels = method.similarity(out["image"], out["text"])
    assert np.array_equal(from_channels, method.similarity(out))
    parts = {"map": out["image"]["map"], "objects": out["image"]["objects"]}
    assert np.array_equal(
        method.fit(parts, out["text"]).similarity(parts, out["text"]), from_channels
    )
    assert np.array_equal(method.similarity(out, chunk_size=5), from_channels)
    Z = TakesChannels().fit_transform(parts, out["text"])
    assert np.array_equal(Z[0], method.transform(out)["image"]) and len(Z) == 2
    from_view = TakesChannels().fit_transform(out["image"], out["text"])  # one modality, not Views
    assert np.array_equal(from_view[0], Z[0]) and np.array_equal(from_view[1], Z[1])
    assert union.get_params()["map__with_mean"] is True
    tuned = clone(made).set_params(image__map__with_mean=False).fit_transform(v)
    assert not np.allclose(tuned["image"]["map"], out["image"]["map"])
    again = pickle.loads(pickle.dumps(union.fit(IMAGES)))
    assert (
        again.transform(IMAGES)["objects"].lengths.tolist()
        == out["image"]["objects"].lengths.tolist()
    )


# ---- set_output ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["global", "pipeline", "step"])
def test_pandas_output_leaves_views_alone(how):
    made = ViewTransformer([("image", StandardScaler()), ("text", "drop")])
    union = ChannelUnion([("map", StandardScaler())])
    if how == "global":
        with sklearn.config_context(transform_output="pandas"):
            out, channels = made.fit_transform(VIEWS), union.fit_transform(IMAGES)
            assert isinstance(StandardScaler().fit_transform(IMAGES), pd.DataFrame)
    elif how == "pipeline":
        out = make_pipeline(made, ViewTransformer([("image", "passthrough")]))
        out = out.set_output(transform="pandas").fit_transform(VIEWS)
        channels = make_pipeline(union).set_output(transform="pandas").fit_transform(IMAGES)
    else:
        out = made.set_output(transform="pandas").fit_transform(VIEWS)
        channels = union.set_output(transform="pandas").fit_transform(IMAGES)
    assert isinstance(out, Views) and isinstance(out["image"], np.ndarray)
    np.testing.assert_allclose(out["image"], StandardScaler().fit_transform(IMAGES))
    assert isinstance(channels, Channels) and isinstance(channels["map"], np.ndarray)


def test_one_channel_is_selected_and_its_absence_is_named():
    texts = Channels({"article": ["a b", "c d"], "caption": ["a", "c"]})
    views = Views(image=np.eye(2), text=texts)
    selected = ViewTransformer([("text", SelectChannel("caption"))]).fit_transform(views)
    assert list(selected["text"]) == ["a", "c"]
    with pytest.raises(ValueError, match="no channel 'title'; it has the channels article"):
        SelectChannel("title").fit(texts)
    with pytest.raises(ValueError, match="no channel 'title'; it has no channels"):
        SelectChannel("title").fit(np.eye(2))


def test_a_transformer_of_all_views_comes_first(tmp_path):
    rng = np.random.default_rng(0)
    views = Views(image=rng.normal(size=(40, 6)), text=rng.normal(size=(40, 5)))
    both = ViewTransformer([("*", CCA(3)), ("text", PCA(2))])
    found = both.fit_transform(views[:30])
    cca = CCA(3).fit(views[:30])
    pca = PCA(2).fit(cca.transform(views[:30])["text"])
    np.testing.assert_allclose(found["image"], cca.transform(views[:30])["image"])
    expected = pca.transform(cca.transform(views[30:])["text"])
    np.testing.assert_allclose(both.transform(views[30:])["text"], expected)
    np.testing.assert_allclose(both.transform(views[30:].select("text"))["text"], expected)
    assert both.get_params()["*__n_components"] == 3
    assert clone(both).set_params(**{"*__n_components": 2}).fit(views).transform(views)[
        "image"
    ].shape == (40, 2)
    crossfit.save(both, tmp_path / "bundle")
    read = crossfit.load(tmp_path / "bundle").transform(views[30:])
    np.testing.assert_array_equal(read["text"], both.transform(views[30:])["text"])
    with pytest.raises(ValueError, match="ViewTransformer needs the view 'sound'"):
        ViewTransformer([("*", CCA(3)), ("sound", PCA(2))]).fit(views)
