"""CrossModalEstimator: roles, forms of the call, validation, scores, and queries."""

import os
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline

import crossfit
from crossfit import CrossModalEstimator, Ragged, RetrievalScorer, Views, ViewTransformer
from crossfit.cards import MethodCard
from crossfit.metrics import evaluate
from crossfit.querying import top_k
from crossfit.retrieval import Reranker
from crossfit.subspace import CCA, SM


def card(**given):
    settings = {"roles": ("image", "text"), "inputs": {}, "labels": "none", "kind": "embedding"}
    return MethodCard(api=1, name="toy", target="toy:Toy", summary="", **(settings | given))


class Recorder(CrossModalEstimator):
    """Map a view to its first two columns and store the arguments of ``fit``."""

    card = card(labels="optional")

    def __init__(self, views=None):
        self.views = views

    def _fit(self, views, y):
        self.seen_, self.y_ = views, y

    def _encode(self, values, view):
        return values[:, :2]


class Single(Recorder):
    card = card(labels="single")


class Multi(Recorder):
    card = card(labels="multi")


class Three(Recorder):
    card = card(extra_views=True)


class PairScorer(CrossModalEstimator):
    """A method without a common space: a bilinear form of raw rows, not symmetric."""

    card = card(kind="pair")
    prepared = 0

    def _fit(self, views, y):
        self.W_ = views["image"].T @ views["text"]

    def _prepare(self, values, view):
        type(self).prepared += len(values)
        return values

    def _similarity(self, P, Q):
        return P @ self.W_ @ Q.T


class Reader(Recorder):
    """A method for raw input of one kind; `reader` makes the class."""

    def _encode(self, values, view):
        return np.ones((len(values), 2))


def reader(*kinds):
    made = type("Reader", (Reader,), {"card": card(inputs={"image": ("vectors",), "text": kinds})})
    return made()


def arrays(n=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)), rng.normal(size=(n, 3))


X, T = arrays()
Y = np.array([0, 1, 2, 3, 0, 1, 2, 3])

# ---- roles -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names, roles",
    [
        (("image", "text"), {"image": "image", "text": "text"}),
        (("text", "image"), {"image": "image", "text": "text"}),
        (("photo", "caption"), {"image": "photo", "text": "caption"}),
        (("caption", "photo"), {"image": "caption", "text": "photo"}),
        (("audio", "text"), {"image": "audio", "text": "text"}),
        (("text", "audio"), {"image": "audio", "text": "text"}),
        (("sound", "image"), {"image": "image", "text": "sound"}),
    ],
)
def test_roles_by_name_else_by_order(names, roles):
    data = dict(zip(names, (X, X[:, ::-1])))
    method = Recorder().fit(Views(data))
    assert method.views_in_ == roles and list(method.views_in_) == ["image", "text"]
    for role, name in roles.items():
        assert method.seen_[role].tolist() == data[name].tolist()


def test_roles_by_the_parameter_and_other_views_pass_by():
    v = Views(text=X, noise=X[:, :1], photo=T)
    method = Recorder(views={"image": "text", "text": "photo"}).fit(v)
    assert method.views_in_ == {"image": "text", "text": "photo"}
    assert method.seen_.names == ("image", "text")
    assert method.seen_["image"].tolist() == X.tolist()
    assert method.transform(v).names == ("text", "photo")
    assert method.similarity(v).shape == (8, 8)
    assert method.score(v) == method.score(v.select("photo", "text"))
    partly = Recorder(views={"image": "photo"}).fit(v)
    assert partly.views_in_ == {"image": "photo", "text": "text"}


def test_extra_views():
    v = Views(sound=X, text=X + 1, video=X + 2)
    method = Three().fit(v)
    assert method.views_in_ == {"image": "sound", "text": "text", "video": "video"}
    crossed = Three().fit(Views(a=X, b=X + 1, image=X + 2))
    assert crossed.views_in_ == {"image": "image", "text": "a", "b": "b"}
    assert crossed.seen_["image"].tolist() == (X + 2).tolist()
    chosen = Three(views={"image": "video", "text": "text", "third": "sound"}).fit(v)
    assert list(chosen.views_in_.items())[2] == ("third", "sound")
    assert chosen.seen_["third"].tolist() == X.tolist()


BAD_ROLES = {
    "one view": (Recorder(), Views(image=X), "needs 2 views.*got 1: image"),
    "three views": (Recorder(), Views(a=X, b=X, c=X), "got 3: a, b, c; choose with views="),
    "one of many": (Three(), Views(image=X), "needs at least 2 views"),
    "missing": (Recorder({"text": "words"}), Views(image=X, text=X), "needs a view 'words'"),
    "partly named": (Recorder({"image": "a"}), Views(a=X, b=X), "needs a view 'text'"),
    "unknown role": (Recorder({"sound": "a"}), Views(a=X, b=X), "roles image, text, got 'sound'"),
    "twice": (Recorder({"image": "a", "text": "a"}), Views(a=X, b=X), "a view of its own"),
}


@pytest.mark.parametrize("case", BAD_ROLES)
def test_bad_roles(case):
    method, views, message = BAD_ROLES[case]
    with pytest.raises(ValueError, match=message):
        method.fit(views)
    with pytest.raises(TypeError, match=r"'views' parameter.*Got \['image'\]"):
        Recorder(views=["image"]).fit(X, T)


def test_later_views_are_matched_by_name_never_by_order():
    v = Views(photo=X, caption=T)
    cca = CCA(n_components=2).fit(v)
    flipped = v.select("caption", "photo")
    whole = cca.transform(v)
    for name in v.names:
        assert np.array_equal(cca.transform(flipped)[name], whole[name])
        alone = cca.transform(v.select(name))
        assert alone.names == (name,) and np.array_equal(alone[name], whole[name])
        assert np.array_equal(cca.encode(v[name], name), whole[name])
    assert np.array_equal(cca.similarity(flipped), cca.similarity(v))
    assert cca.score(flipped) == cca.score(v)
    with pytest.raises(ValueError, match=r"no view 'image'.*fitted on photo, caption"):
        cca.transform(Views(image=X))
    with pytest.raises(ValueError, match="no view 'sound'"):
        cca.transform(v.replace(caption=T).rename({"caption": "sound"}))
    with pytest.raises(ValueError, match="no view 'image'"):
        cca.encode(X, "image")


def test_a_refit_remembers_nothing():
    method = Recorder().fit(Views(photo=X, caption=T))
    assert method.fit(T, X).views_in_ == {"image": "image", "text": "text"}
    assert method.n_features_in_ == {"image": 3, "text": 4}
    method.set_params(views={"image": "a", "text": "b"})
    assert method.fit(X, T).views_in_ == {"image": "a", "text": "b"}


# ---- one behaviour in both forms -------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_three_argument_and_views_forms_agree(dtype):
    x, t = X.astype(dtype), T.astype(dtype)
    v = Views(image=x, text=t)
    for y in (None, Y):
        a = CCA(n_components=2).fit(x, t, y)
        b = CCA(n_components=2).fit(v, y)
        c = CCA(n_components=2).fit(v, y=y)
        for role, weights in a.weights_.items():
            assert np.array_equal(weights, b.weights_[role])
            assert np.array_equal(weights, c.weights_[role])
        Zx, Zt = a.transform(x, t)
        Z = b.transform(v)
        assert Zx.dtype == dtype and Z["image"].dtype == dtype
        assert np.array_equal(Zx, Z["image"]) and np.array_equal(Zt, Z["text"])
        assert np.array_equal(a.transform(x), Zx)
        fitted = CCA(n_components=2).fit_transform(x, t, y)
        assert np.array_equal(fitted[1], Zt)
        assert np.array_equal(CCA(n_components=2).fit_transform(v, y)["text"], Zt)
        assert a.similarity(x, t).dtype == np.float32
        assert np.array_equal(a.similarity(x, t), b.similarity(v))
        assert np.array_equal(
            a.similarity(x, t, query="text", gallery="image"),
            b.similarity(v, query="text", gallery="image"),
        )
        assert a.score(x, t, y) == b.score(v, y) == b.score(v, y=y)


def test_three_arguments_take_the_roles_of_the_parameter():
    cca = CCA(n_components=2, views={"image": "a", "text": "b"}).fit(X, T)
    assert cca.views_in_ == {"image": "a", "text": "b"}
    assert cca.similarity(X, T, query="b").shape == (8, 8)
    assert np.array_equal(cca.transform(Views(b=T))["b"], cca.transform(X, T)[1])


def test_similarity_is_the_same_both_ways_and_of_unequal_numbers():
    cca = CCA(n_components=2).fit(X, T)
    S = cca.similarity(X[:5], T)
    assert S.shape == (5, 8)
    assert np.array_equal(cca.similarity(X[:5], T, query="text"), S.T)
    v = Views(image=X, text=T)
    assert np.array_equal(cca.similarity(v, query="text"), cca.similarity(v, gallery="text").T)
    itself = cca.similarity(v, query="image", gallery="image")
    assert np.allclose(np.diag(itself), 1) and np.array_equal(itself, itself.T)


def test_similarity_in_chunks():
    pair = PairScorer().fit(X, T)
    cca = CCA(n_components=2).fit(X, T)
    for method in (pair, cca):
        whole = method.similarity(X, T)
        for size in (1, 3, 100):
            np.testing.assert_allclose(method.similarity(X, T, chunk_size=size), whole, rtol=1e-5)
    for size in (0, -1):
        with pytest.raises(ValueError, match="chunk_size must be an integer of at least 1"):
            cca.similarity(X, T, chunk_size=size)


def test_pair_methods_have_similarity_alone():
    pair = PairScorer().fit(Views(text=T, image=X))
    for name in ("transform", "encode", "fit_transform"):
        assert not hasattr(pair, name)
    v = Views(image=X, text=T)
    expected = X @ (X.T @ T) @ T.T
    np.testing.assert_allclose(pair.similarity(v), expected, rtol=1e-6)
    np.testing.assert_allclose(pair.similarity(v, query="text"), expected.T, rtol=1e-6)
    PairScorer.prepared = 0
    pair.similarity(v, chunk_size=2)
    assert PairScorer.prepared == 16  # once per item, however many chunks
    np.testing.assert_allclose(crossfit.similarity(pair, v), expected, rtol=1e-6)
    assert np.isclose(
        pair.score(v), evaluate(expected, np.eye(8), ["mrr"], ci=None).mean(None, "mrr")
    )


def test_score_is_the_mean_over_directions():
    cca = CCA(n_components=2).fit(X, T)
    S = cca.similarity(X, T)
    pairs = evaluate(S, np.eye(8), ["mrr"], ci=None)
    assert cca.score(X, T) == pairs.mean(None, "mrr")
    labels = evaluate(S, (Y, Y), ["map@all"], ci=None)
    assert cca.score(X, T, Y) == labels.mean(None, "map@all")
    indicator = np.eye(4)[Y]
    assert cca.score(X, T, indicator) == pytest.approx(cca.score(X, T, Y))
    assert cca.score(X, T, Y.astype(str)) == cca.score(X, T, Y)


def test_scores_without_labels_are_warned_of_if_there_were_labels():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(30, 4)), rng.normal(size=(30, 3))
    y = np.arange(30) % 3
    views, message = Views(image=X, text=Y), "was fitted with labels, but without y"
    method = SM().fit(X, Y, y)
    pipe = make_pipeline(CCA(2), RetrievalScorer()).fit(views, y)
    for call in (lambda: method.score(views), lambda: pipe.score(views)):
        with pytest.warns(UserWarning, match=message) as caught:
            call()
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.score(X, Y, y), pipe.score(views, y)
        CCA(2).fit(X, Y, y).score(X, Y)
        make_pipeline(CCA(2), RetrievalScorer()).fit(views).score(views)


def test_score_of_three_views_is_the_mean_over_all_ordered_pairs():
    v = Views(image=X, text=T, audio=X @ np.ones((4, 2)) + T[:, :2])
    cca = CCA(n_components=2).fit(v)
    each = [
        evaluate(cca.similarity(v, query=q, gallery=g), np.eye(8), ["mrr"], directions="forward",
                 ci=None).mean(None, "mrr")
        for q in v.names for g in v.names if q != g
    ]  # fmt: skip
    assert len(each) == 6 and cca.score(v) == pytest.approx(np.mean(each), rel=1e-12)
    two = v.select("audio", "text")
    assert cca.score(two) == pytest.approx(np.mean([each[3], each[5]]), rel=1e-12)


# ---- what is rejected ------------------------------------------------------------------

nan, inf = X.copy(), T.copy()
nan[2, 1], inf[3, 0] = np.nan, -np.inf
objects = X.astype(object)
column = np.empty((len(X), 1), dtype=object)
column[:, 0] = list(X)
BAD_FITS = {
    "misaligned": ((X, T[:5]), ValueError, "image: 8, text: 5"),
    "nan": ((nan, T), ValueError, "Recorder: view 'image' contains NaN or infinity"),
    "inf": ((X, inf), ValueError, "view 'text' contains NaN or infinity"),
    "nan in float32": ((nan.astype(np.float32), T), ValueError, "'image' contains NaN"),
    "nan in csr": ((sp.csr_array(nan), T), ValueError, "'image' contains NaN"),
    "labels as view": ((X, Y), ValueError, r"view 'text' must be a numeric.*labels go in as y"),
    "float labels as view": ((X, Y * 1.0), ValueError, r"'text'.*shape \(8,\).*labels"),
    "list of labels": ((X, Y.tolist()), ValueError, r"'text'.*labels"),
    "strings": ((X, list("abcdefgh")), ValueError, "'text' must be a numeric.*of str"),
    "strings of numbers": ((X, X.astype(str)), ValueError, "'text' must be.*object array of str"),
    "objects": ((objects, T), ValueError, "'image' must be a numeric.*object array of float"),
    "a column of rows": ((column, T), ValueError, r"object array of ndarray.*np\.stack\(column\)"),
    "dates": ((X, X.astype("datetime64[s]")), ValueError, "'text' must be numeric.*datetime64"),
    "complex": ((X + 1j, T), ValueError, "'image'.*Complex data not supported"),
    "no columns": ((X, T[:, :0]), ValueError, r"'text' has 0 feature\(s\)"),
    "3-D": ((X[:, :, None], T), ValueError, r"'image' must be.*shape \(8, 4, 1\)"),
    "empty": ((X[:0], T[:0]), ValueError, "must not be empty.*image, text"),
    "one sample": ((X[:1], T[:1]), ValueError, "at least 2 rows, got n_samples = 1"),
    "one array": ((X,), TypeError, r"Views or two modalities.*got one ndarray"),
    "channels": (({"a": X}, T), ValueError, "'image' must be a numeric.*channels a"),
    "views and more": ((Views(image=X, text=T), T, Y), TypeError, "got Views, a second modality"),
    "ragged": ((X, Ragged.from_list(list(X))), ValueError, "'text' must be.*Ragged"),
    "mapping": (({"image": X, "text": T},), TypeError, "got one dict"),
    "none": ((X, None, Y), TypeError, "got one ndarray"),
    "scalar": ((X, 3), TypeError, "'text' must be an array"),
}


@pytest.mark.parametrize("case", BAD_FITS)
@pytest.mark.filterwarnings("error")
def test_bad_input_of_fit(case):
    given, error, message = BAD_FITS[case]
    method = Recorder()
    with pytest.raises(error, match=message):
        method.fit(*given)
    with pytest.raises(NotFittedError):
        method.transform(X, T)
    assert not vars(method).keys() - {"views"}  # no incomplete file


def test_view_names_in_messages_are_the_users():
    with pytest.raises(ValueError, match="view 'photo' contains NaN"):
        CCA().fit(Views(photo=nan, caption=T))
    fitted = CCA().fit(Views(a=X, b=T))
    with pytest.raises(ValueError, match="view 'photo' contains NaN"):
        fitted.fit(Views(photo=nan, caption=T))


LATER = {
    "columns": (lambda m: m.transform(X[:, :2], T), ValueError,
                "view 'image' has 2 features, but Recorder is expecting 4 features"),
    "columns of score": (lambda m: m.score(X, T[:, :1]), ValueError, "'text' has 1 feature"),
    "columns of encode": (lambda m: m.encode(X, "text"), ValueError, "'text' has 4 features"),
    "nan": (lambda m: m.similarity(nan, T), ValueError, "'image' contains NaN"),
    "wrong name": (lambda m: m.encode(X, "audio"), ValueError, "no view 'audio'.*image, text"),
    "wrong query": (lambda m: m.similarity(Views(image=X, text=T), query="audio"), ValueError,
                    "no view 'audio'"),
    "wrong gallery": (lambda m: m.similarity(X, T, gallery="audio"), ValueError, "'audio'"),
    "missing view": (lambda m: m.similarity(Views(image=X)), ValueError, "'text' is missing"),
    "one modality": (lambda m: m.similarity(X), TypeError, "two modalities.*got one"),
    "views and more": (lambda m: m.similarity(Views(image=X, text=T), T), TypeError, "got both"),
    "transform both": (lambda m: m.transform(Views(image=X), T), TypeError, "got both"),
    "one view scored": (lambda m: m.score(Views(image=X)), ValueError, "between two.*'image'"),
    "labels scored": (lambda m: m.score(X, T, Y[:3]), ValueError, r"per row \(8\), got 3"),
    "labels as view": (lambda m: m.transform(Y), ValueError, "'image' must be.*labels"),
    "nan label": (lambda m: m.score(X, T, Y + np.nan), ValueError, "labels must be finite"),
    "empty": (lambda m: m.encode(X[:0], "image"), ValueError, "must not be empty"),
    "misaligned": (lambda m: m.score(X, T[:3]), ValueError, "image: 8, text: 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", LATER)
def test_bad_input_after_fit(case):
    use, error, message = LATER[case]
    with pytest.raises(error, match=message):
        use(Recorder().fit(X, T))


@pytest.mark.parametrize("use", ["transform", "encode", "similarity", "score"])
def test_nothing_before_fit(use):
    given = {"encode": (X, "image")}.get(use, (X, T))
    with pytest.raises(NotFittedError, match="Recorder"):
        getattr(Recorder(), use)(*given)
    with pytest.raises(NotFittedError, match="PairScorer"):
        PairScorer().similarity(X, T)


def test_a_failed_refit_leaves_nothing_that_answers():
    cca = CCA().fit(X, T)
    with pytest.raises(ValueError, match="'text' is constant"):
        cca.fit(X, np.ones((8, 2)))
    with pytest.raises(NotFittedError):
        cca.transform(X, T)
    cca.fit(X, T)
    with pytest.raises(ValueError, match="NaN"):  # rejected before any work: the old fit remains
        cca.fit(nan, T)
    assert cca.transform(X).shape[0] == 8


def test_inputs_are_never_written_to():
    x, t = X.copy(), T.copy()
    for part in (x, t):
        part.setflags(write=False)
    cca = CCA(n_components=2, standardize=True).fit(x, t, Y)
    cca.score(x, t, Y)
    cca.transform(Views(image=x, text=t))
    assert np.array_equal(x, X) and np.array_equal(t, T)


def test_other_numbers_become_float32():
    for dtype in (np.float16, np.int64, np.uint8, bool, np.longdouble):
        seen = Recorder().fit((10 * X).astype(dtype), T.astype(np.float32)).seen_
        assert seen["image"].dtype == np.float32 and seen["text"].dtype == np.float32
    assert Recorder().fit(X, T).seen_["image"].dtype == np.float64
    assert Recorder().fit(sp.csr_array(X > 0), T).seen_["image"].dtype == np.float32
    assert Recorder().fit(X.tolist(), T).seen_["image"].dtype == np.float64


@pytest.mark.filterwarnings("error")
def test_large_finite_values_pass():
    Recorder().fit(np.full((3, 2), 1e308), T[:3])
    Recorder().fit(np.full((3, 2), 3e38, np.float32), T[:3])


# ---- labels ----------------------------------------------------------------------------


def test_labels():
    assert Recorder().fit(X, T).y_ is None
    assert Three().fit(X, T, Y * 0.5).y_ is None  # according to the card, labels are never used
    assert Single().fit(X, T, Y.astype(str).tolist()).y_.tolist() == Y.astype(str).tolist()
    assert Single().fit(X, T, [-1, *Y[1:]]).y_[0] == -1
    assert Multi().fit(Views(image=X, text=T), np.eye(4)[Y]).y_.shape == (8, 4)


BAD_LABELS = {
    "missing": (Single, None, "Single requires y to be passed, but the target y is None"),
    "missing multi": (Multi, None, "requires y"),
    "length": (Single, Y[:5], r"one label per row \(8\), got 5"),
    "indicator": (Single, np.eye(4)[Y], r"one class label per row.*\(8, 4\)"),
    "matrix": (Multi, X, r"1-D classes or an.*indicator.*\(8, 4\).*second modality"),
    "3-D": (Multi, np.zeros((8, 2, 2)), r"shape \(8, 2, 2\)"),
    "nan": (Single, np.where(Y, Y, np.nan), "labels must be finite"),
    "scalar": (Single, 3, r"shape \(\)"),
    "length, unused": (Three, Y[:3], r"one label per row \(8\), got 3"),
    "word, unused": (Three, "labels", r"one label per row \(8\), got 'labels'"),
    "none": (Single, [None] * 8, "labels must not be None"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels(case):
    made, y, message = BAD_LABELS[case]
    with pytest.raises(ValueError, match=message):
        made().fit(X, T, y)
    with pytest.raises(ValueError, match=message):
        made().fit(Views(image=X, text=T), y)


# ---- kinds of input --------------------------------------------------------------------

TOKENS = np.arange(8).reshape(4, 2)
WORDS = ["a cat", "a dog", "", "no"]
GOOD_KINDS = {
    "strings": (("strings",), WORDS),
    "paths": (("pixels",), ["a.png", "b.png", "c.png", "d.png"]),
    "pixels": (("pixels",), np.zeros((4, 2, 2, 3), np.uint8)),
    "tokens": (("tokens",), TOKENS),
    "ragged tokens": (("tokens",), Ragged.from_list([[1, 2], [3], [], [4]])),
    "regions": (("regions",), np.zeros((4, 3, 2))),
    "ragged regions": (("vectors", "regions"), Ragged(np.zeros((6, 2)), [0, 1, 3, 3, 6])),
    "sequence": (("sequence",), np.zeros((4, 3, 2), np.float32)),
    "channels": (("channels",), {"map": np.zeros((4, 3, 2)), "ids": TOKENS, "words": WORDS}),
    "either": (("tokens", "strings"), WORDS),
}  # fmt: skip
BAD_KINDS = {
    "numbers for strings": (("strings",), np.zeros((4, 2)), "'text' must be a list of strings"),
    "floats for tokens": (("tokens",), TOKENS * 1.0, "'text' must be integer ids.*float64"),
    "float ragged for tokens": (("tokens",), Ragged.from_list([[1.0]] * 4), "integer ids"),
    "floats for pixels": (("pixels",), np.zeros((4, 2, 2, 3)), "uint8 images.*float64"),
    "vectors for regions": (("regions",), np.zeros((4, 2)), r"\(n, R, d\).*shape \(4, 2\)"),
    "nan in regions": (("regions",), np.full((4, 3, 2), np.nan), "'text' contains NaN"),
    "nan in ragged": (("regions",), Ragged.from_list([np.full((1, 2), np.nan)] * 4), "NaN"),
    "nan in channel": (("channels",), {"map": np.full((4, 2), np.nan), "ids": TOKENS},
                       "'text', channel 'map' contains NaN"),
    "array for channels": (("channels",), np.zeros((4, 2)), "a mapping of channels"),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD_KINDS)
def test_kinds_of_input(case):
    kinds, given = GOOD_KINDS[case]
    method = reader(*kinds).fit(X[:4], given)
    assert method.encode(given, "text").shape == (4, 2)
    assert method.similarity(X[:4], given).shape == (4, 4)


def test_channels_keep_what_is_not_real():
    method = reader("channels").fit(X[:4], GOOD_KINDS["channels"][1])
    seen = method.seen_["text"]
    assert seen["ids"].dtype == np.int64 and seen["words"].tolist() == WORDS
    halves = {"map": np.zeros((4, 2), np.float16)}
    assert reader("channels").fit(X[:4], halves).seen_["text"]["map"].dtype == np.float32


@pytest.mark.parametrize("case", BAD_KINDS)
def test_bad_kinds_of_input(case):
    kinds, given, message = BAD_KINDS[case]
    n = Views(text=given).shape[0]
    with pytest.raises(ValueError, match=message):
        reader(*kinds).fit(np.zeros((n, 2)), given)


def test_columns_of_regions_are_compared_later():
    method = reader("regions").fit(X[:4], np.zeros((4, 3, 2)))
    method.encode(np.zeros((4, 7, 2)), "text")  # the number of regions does not change the space
    with pytest.raises(ValueError, match="'text' has 5 features"):
        method.encode(np.zeros((4, 3, 5)), "text")


# ---- tensors ---------------------------------------------------------------------------


def test_tensors_come_out_as_they_went_in():
    import torch

    numpy_fit = CCA(n_components=2).fit(X, T)
    xt, tt = torch.tensor(X, requires_grad=True), torch.tensor(T, dtype=torch.float64)
    cca = CCA(n_components=2).fit(xt, tt)
    for role in ("image", "text"):
        np.testing.assert_allclose(cca.weights_[role], numpy_fit.weights_[role], atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Z = cca.transform(Views(image=xt, text=tt)[[2, 0, 1]])
    assert isinstance(Z["image"], torch.Tensor) and Z["image"].dtype == torch.float64
    np.testing.assert_allclose(Z["image"].numpy(), numpy_fit.transform(X)[[2, 0, 1]], atol=1e-12)
    assert isinstance(cca.encode(X, "image"), np.ndarray)
    scores = cca.similarity(xt, tt)
    assert isinstance(scores, torch.Tensor) and not scores.requires_grad
    np.testing.assert_allclose(scores, numpy_fit.similarity(X, T), atol=1e-6)
    assert cca.score(xt, T, Y) == pytest.approx(numpy_fit.score(X, T, Y))
    assert CCA().fit(torch.tensor(X).half(), tt.int()).transform(xt.half()).dtype == torch.float32
    bad = torch.tensor(nan)
    with pytest.raises(ValueError, match="view 'image' contains NaN or infinity"):
        CCA().fit(bad, tt)
    with pytest.raises(ValueError, match=r"'image'.*Complex"):
        CCA().fit(torch.tensor(X + 1j), tt)
    with pytest.raises(ValueError, match=r"'text' must be.*shape \(8,\).*labels"):
        CCA().fit(xt, torch.tensor(Y))


# ---- scikit-learn ----------------------------------------------------------------------


@pytest.mark.parametrize("made", [Recorder(views={"image": "a"}), PairScorer(), CCA(3, reg=0.5)])
def test_parameters_and_clones(made):
    params = made.get_params()
    assert clone(made).get_params() == params and clone(made) is not made
    assert type(made).__name__ in repr(made)
    with pytest.raises(ValueError, match="Invalid parameter"):
        made.set_params(nonsense=1)
    with pytest.raises(TypeError):
        type(made)(nonsense=1)


def test_pickles_answer_alike():
    cca = CCA(n_components=2).fit(Views(a=X, b=T))
    again = pickle.loads(pickle.dumps(cca))
    assert again.views_in_ == cca.views_in_
    assert np.array_equal(again.similarity(X, T), cca.similarity(X, T))


def test_an_author_who_forgets_is_told():
    class Empty(CrossModalEstimator):
        pass

    with pytest.raises(NotImplementedError, match="Empty does not define _fit"):
        Empty().fit(X, T)


# ---- search with methods and pipelines----------------------------------------------------


class Double(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return 2 * X


def pipelines():
    features = ViewTransformer([("image", Double())])
    nested = make_pipeline(make_pipeline(features, "passthrough"), make_pipeline(CCA(2)))
    return {
        "method last": make_pipeline(features, CCA(2)),
        "scorer last": make_pipeline(features, CCA(2), RetrievalScorer()),
        "nested": nested,
        "nested scorer": Pipeline([("a", nested), ("skip", None), ("b", RetrievalScorer())]),
    }


@pytest.mark.parametrize("kind", ["method last", "scorer last", "nested", "nested scorer"])
def test_a_pipeline_is_asked_like_its_parts(kind):
    v = Views(image=X, text=T)
    pipe = pipelines()[kind].fit(v, Y)
    cca = CCA(2).fit(2 * X, T)
    Z = cca.transform(v.replace(image=2 * X))
    np.testing.assert_array_equal(
        crossfit.similarity(pipe, v), cca.similarity(v.replace(image=2 * X))
    )
    assert np.array_equal(
        crossfit.similarity(pipe, v, query="text"), crossfit.similarity(pipe, v).T
    )
    assert np.array_equal(crossfit.similarity(pipe, v, chunk_size=3), crossfit.similarity(pipe, v))
    for name in v.names:
        assert np.array_equal(crossfit.encode(pipe, v[name], name), Z[name])
    found = crossfit.search(pipe, X[:3], view="image", gallery=T, k=4)
    S = crossfit.similarity(pipe, v)
    assert found.indices.tolist() == np.argsort(-S[:3], axis=1, kind="stable")[:, :4].tolist()
    assert np.array_equal(found.scores, np.take_along_axis(S[:3], found.indices, axis=1))
    back = crossfit.search(pipe, T[:2], view="text", gallery=X, gallery_view="image", k=100)
    assert back.indices.shape == (2, 8)
    same = crossfit.search(pipe, X, view="image", gallery=X, gallery_view="image", k=1)
    assert same.indices.ravel().tolist() == list(range(8))


def reranker():
    return make_pipeline(
        ViewTransformer([("image", Double())]), Reranker(CCA(2), CCA(1), k=3)
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["method", "reranker", "reranker of all", *pipelines()])
@pytest.mark.parametrize("query", ["image", "text"])
def test_scores_go_into_a_file_or_an_array(kind, query, tmp_path):
    asked = {
        **pipelines(),
        "method": CCA(2),
        "reranker": reranker(),
        "reranker of all": reranker().set_params(reranker__k=99),
    }[kind].fit(Views(image=X, text=T), Y)
    v = Views(image=X, text=T)[np.r_[:6]]
    expected = crossfit.similarity(asked, v, query=query)
    file = tmp_path / "scores.npy"
    found = crossfit.similarity(asked, v, query=query, chunk_size=4, out=str(file))
    assert isinstance(found, np.memmap) and not found.flags.writeable
    assert os.listdir(tmp_path) == ["scores.npy"]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.load(file), expected)
    room = np.zeros((9, 6), np.float32)[::-1][:6]  # rows need not be in order
    assert crossfit.similarity(asked, v, query=query, out=room) is room
    np.testing.assert_array_equal(room, expected)
    (tmp_path / "notes.txt").write_text("mine")
    names = (tmp_path / "none" / "scores.npy", tmp_path / "notes.txt", tmp_path)
    for wrong in (room[:5], room.astype(float), *names):
        with pytest.raises(ValueError, match=r"^out "):
            crossfit.similarity(asked, v, query=query, out=wrong)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_of_scores_is_complete_or_the_old_one(tmp_path):
    v = Views(image=X, text=T)
    file = tmp_path / "scores.npy"
    before = np.array(crossfit.similarity(CCA(2).fit(v), v, out=file))

    def stops(A, B):
        raise KeyboardInterrupt

    scorer = RetrievalScorer(stops).fit(v)
    with pytest.raises(KeyboardInterrupt):
        crossfit.similarity(scorer, v, out=file)
    assert os.listdir(tmp_path) == ["scores.npy"]
    np.testing.assert_array_equal(np.load(file), before)


def test_a_method_and_a_finished_search_are_asked_alike():
    from sklearn.model_selection import GridSearchCV

    v = Views(image=X, text=T)
    cca = CCA(2).fit(v)
    assert np.array_equal(crossfit.similarity(cca, X, T), cca.similarity(v))
    assert np.array_equal(crossfit.encode(cca, X, "image"), cca.transform(X))
    search = GridSearchCV(pipelines()["scorer last"], {"cca__reg": [0.1]}, cv=2).fit(v)
    best = search.best_estimator_
    assert np.array_equal(crossfit.similarity(search, v), crossfit.similarity(best, v))
    assert np.array_equal(crossfit.encode(search, X, "image"), crossfit.encode(best, X, "image"))


def test_search_in_three_views_wants_the_gallery_named():
    cca = CCA(2).fit(Views(image=X, text=T, audio=X + 1))
    with pytest.raises(ValueError, match=r"gallery_view must name.*image, text, audio"):
        crossfit.search(cca, X, view="image", gallery=T)
    found = crossfit.search(cca, X, view="image", gallery=T, gallery_view="text")
    assert found.indices.shape == (8, 8)


ASKED = {
    "no estimator": (lambda p, c: crossfit.similarity(Double(), X, T), TypeError, "got Double"),
    "nothing in it": (
        lambda p, c: crossfit.similarity(make_pipeline("passthrough"), X), TypeError, "got Pipe"),
    "arrays": (lambda p, c: crossfit.similarity(p, X, T), TypeError, "Views alone, got ndarray"),
    "two": (lambda p, c: crossfit.similarity(p, Views(image=X, text=T), T), TypeError,
            "Views alone, got Views and ndarray"),
    "query": (lambda p, c: crossfit.similarity(p, Views(image=X, text=T), query="sound"),
              ValueError, "no view 'sound'"),
    "missing": (lambda p, c: crossfit.similarity(p, Views(image=X)), ValueError, "'text' is miss"),
    "encode": (lambda p, c: crossfit.encode(p, X, "sound"), ValueError, "'sound'"),
    "no gallery": (lambda p, c: crossfit.search(p, X, view="image"), ValueError,
                   "has no gallery; pass gallery="),
    "no gallery at all": (lambda p, c: crossfit.search(c, X, view="image"), ValueError, "CCA has"),
    "k": (lambda p, c: crossfit.search(c, X, view="image", gallery=T, k=0), ValueError, "least 1"),
    "k float": (lambda p, c: crossfit.search(c, X, view="image", gallery=T, k=.5), ValueError, "k"),
    "one string": (lambda p, c: crossfit.search(c, "a dog", view="text", gallery=X), TypeError,
                   "queries must be a list of items, got 'a dog'"),
    "view": (lambda p, c: crossfit.search(c, X, view="sound", gallery=T, gallery_view="text"),
             ValueError, "no view 'sound'"),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKED)
def test_bad_questions(case):
    ask, error, message = ASKED[case]
    v = Views(image=X, text=T)
    with pytest.raises(error, match=message):
        ask(pipelines()["scorer last"].fit(v), CCA(2).fit(v))


def test_nothing_answers_before_fit():
    v = Views(image=X, text=T)
    for made in (CCA(), *pipelines().values()):
        for ask in (
            lambda m: crossfit.similarity(m, v),
            lambda m: crossfit.encode(m, X, "image"),
            lambda m: crossfit.search(m, X, view="image", gallery=T),
        ):
            with pytest.raises(NotFittedError):
                ask(made)


def test_top_k_takes_equal_scores_in_gallery_order():
    scores = np.array([[1, 3, 3, 0, 3], [0, 0, 0, 0, 0]], np.float32)
    found = top_k(scores, 4)
    assert found.indices.tolist() == [[1, 2, 4, 0], [0, 1, 2, 3]]
    assert found.scores.tolist() == [[3, 3, 3, 1], [0, 0, 0, 0]]


# ---- columns of DataFrames ------------------------------------------------------------


def frames():
    import pandas as pd

    return pd.DataFrame(X, columns=list("abcd")), pd.DataFrame(T, columns=list("uvw"))


def test_columns_in_another_order_are_refused_wherever_they_come_in():
    A, B = frames()
    wrong = A.iloc[:, ::-1]
    method = CCA(2).fit(A, B)
    assert method.feature_names_in_ == {"image": tuple("abcd"), "text": tuple("uvw")}
    asked = {
        "transform": lambda: method.transform(wrong),
        "views": lambda: method.transform(Views(image=wrong, text=B)),
        "encode": lambda: method.encode(wrong, "image"),
        "similarity": lambda: method.similarity(wrong, B),
        "similarity of views": lambda: method.similarity(Views(image=wrong, text=B)),
        "score": lambda: method.score(wrong, B),
        "rows": lambda: method.score(Views(image=wrong, text=B)[2:]),
        "renamed": lambda: (
            CCA(2, views={"image": "photo", "text": "text"})
            .fit(Views(photo=A, text=B))
            .score(Views(photo=wrong, text=B))
        ),
        "pipeline": lambda: (
            make_pipeline(ViewTransformer([("image", Double())]), CCA(2))
            .fit(Views(image=A, text=B))
            .score(Views(image=wrong, text=B))
        ),
        "streamed": lambda: CCA(2).partial_fit(A, B).partial_fit(wrong, B),
    }
    for case in asked.values():
        with pytest.raises(ValueError, match=r"columns of view '(image|photo)' .*order"):
            case()
    with pytest.raises(ValueError, match="'a' is missing, 'z' is not one of them"):
        method.transform(A.rename(columns={"a": "z"}))


def test_columns_are_compared_only_where_both_have_names():
    A, B = frames()
    method = CCA(2).fit(A, B)
    np.testing.assert_array_equal(method.encode(X, "image"), method.encode(A, "image"))
    plain = CCA(2).fit(X, T)
    assert not hasattr(plain, "feature_names_in_")
    plain.encode(A.iloc[:, ::-1], "image")
    assert not hasattr(method.fit(X, T), "feature_names_in_")
    numbered = A.set_axis(range(4), axis=1)
    assert Views(image=numbered).columns == {}
    v = Views(image=A, text=B)
    assert v.columns == {"image": tuple("abcd"), "text": tuple("uvw")}
    assert v.map(lambda values, name: values * 2, "image").columns == {"text": tuple("uvw")}
    assert v.replace(text=T).rename({"image": "photo"}).columns == {"photo": tuple("abcd")}
    assert pickle.loads(pickle.dumps(v[1:])).columns == v.columns


@pytest.mark.parametrize("result", [None, np.zeros(8), np.zeros((3, 2)), np.zeros((8, 2, 2))])
def test_what_encode_must_return_is_said(result):
    class Wrong(Recorder):
        def _encode(self, values, view):
            return result

    with pytest.raises(TypeError, match=r"Wrong._encode must return .* \(8, k\) for 8 rows"):
        Wrong().fit(X, T).encode(X, "image")
    with pytest.raises(TypeError, match="must return"):
        Wrong().fit(X, T).similarity(X, T)


def test_search_says_which_view_is_wrong():
    method = CCA(2).fit(X, T)
    with pytest.raises(ValueError, match="no view 'txt'"):
        crossfit.search(method, T, view="txt", gallery=X)
    with pytest.raises(TypeError, match="gallery must be the items of one view"):
        crossfit.search(method, T, view="text", gallery=Views(image=X))
    with pytest.raises(ValueError, match="reg has an entry for 'audio', but the views are"):
        CCA(2, reg={"image": 1.0, "text": 1.0, "audio": 1.0}).fit(X, T)
    with pytest.raises(NotFittedError):
        Reranker(CCA(2), CCA(1), prefit=True).fit(Views(image=X, text=T))
    with pytest.raises(ValueError, match=r"^view 'image': n_components=99"):
        ViewTransformer([("image", PCA(99))]).fit(Views(image=X))


def test_what_prepare_must_return_is_said():
    class Wrong(Recorder):
        card = card(kind="pair")

        def _prepare(self, values, view):
            return None

    with pytest.raises(TypeError, match=r"Wrong._prepare must return something with rows"):
        Wrong().fit(X, T).similarity(X, T)
