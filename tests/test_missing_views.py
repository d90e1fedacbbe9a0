"""Views of which rows lack some, through everything that takes, splits, stores or scores them."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold, KFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline

import crossfit
from crossfit import Ragged, Views, ViewTransformer, make_retrieval_scorer
from crossfit.model_selection import PairKFold
from crossfit.subspace import CCA, CFA, GCCA

HAS = np.array([True, False, True, True, False, True])
IMAGE = np.arange(12.0).reshape(6, 2)
TEXT = ["a", None, "c", "d", "e", "f"]


def views(**present):
    return Views(image=IMAGE, text=TEXT, present={"text": HAS, **present})


def values(kind):
    if kind == "csr":
        return sp.csr_array(IMAGE)
    if kind == "ragged":
        return Ragged.from_list([np.ones((i + 1, 2)) * i for i in range(6)])
    if kind == "frame":
        return pd.DataFrame(IMAGE, columns=["x", "y"])
    if kind == "channels":
        return {"map": IMAGE, "objects": IMAGE + 1}
    if kind == "nan":
        return np.where(HAS[:, None], IMAGE, np.nan)
    return IMAGE


@pytest.mark.parametrize("kind", ["array", "csr", "ragged", "frame", "channels", "nan"])
def test_only_the_values_of_rows_that_have_the_view_are_kept(kind):
    v = Views(image=values(kind), text=["t"] * 6, present={"image": HAS})
    items, row_to_item = v.distinct("image")
    whole = Views(image=values("array" if kind == "nan" else kind))[HAS]["image"]
    assert joblib.hash(items) == joblib.hash(whole)
    assert row_to_item.tolist() == [0, -1, 1, 2, -1, 3]
    assert v.present("image").tolist() == HAS.tolist() and v.present("text").all()
    assert v.first_rows("image").tolist() == [0, 2, 3, 5]
    assert v.columns == ({"image": ("x", "y")} if kind == "frame" else {})
    assert joblib.hash(v.complete()["image"]) == joblib.hash(whole)


def test_full_masks_are_no_masks():
    v = Views(image=IMAGE, text=list("abcdef"), present={"text": np.ones(6, bool)})
    assert v.is_complete and v.complete() is v
    assert joblib.hash(v) == joblib.hash(Views(image=IMAGE, text=list("abcdef")))


def test_a_view_with_gaps_has_no_value_per_row():
    with pytest.raises(ValueError, match=r"view 'text' is missing in 2 of 6 rows \(row 1; then 4"):
        views()["text"]
    assert views()["image"].shape == (6, 2)
    assert views().complete()["text"].tolist() == ["a", "c", "d", "f"]
    assert len(views().complete("image")) == 6
    with pytest.raises(ValueError, match="no row has all of the views image, text"):
        views()[[1, 4]].complete()


@pytest.mark.parametrize(
    "present, error, message",
    [
        ({"text": HAS[:5]}, ValueError, r"present\['text'\] must have one entry per row \(6\)"),
        ({"text": HAS.astype(int)}, ValueError, r"present\['text'\] must be one bool per row"),
        ({"text": ~HAS & HAS}, ValueError, "view 'text' is missing in every row"),
        ({"words": HAS}, ValueError, "entry for 'words', but the views are image, text"),
        ({"text": HAS, "image": ~HAS | (np.arange(6) == 0)}, None, ""),
        ({"text": HAS, "image": HAS}, ValueError, "row 1 lacks every view; leave it out"),
        (HAS, TypeError, "present must be a mapping of view names to masks"),
    ],
)
def test_masks_that_do_not_fit(present, error, message):
    if error is None:
        assert not Views(image=IMAGE, text=TEXT, present=present).is_complete
        return
    with pytest.raises(error, match=message):
        Views(image=IMAGE, text=["t"] * 6, present=present)


def test_missing_strings_without_a_mask_name_it():
    with pytest.raises(ValueError, match=r"leave these pairs out, or .* present=\{'text': mask\}"):
        Views(image=IMAGE, text=TEXT)


@pytest.mark.parametrize(
    "rows", [slice(1, 5), [5, 1, 1, 0], np.arange(6) % 2 == 1, slice(None, None, -1), 4]
)
def test_taking_rows_takes_their_gaps(rows):
    taken = views()[rows]
    at = np.atleast_1d(np.arange(6)[rows])
    assert taken.present("text").tolist() == HAS[at].tolist()
    items, index = taken.distinct("text")
    assert [None if i < 0 else items[i] for i in index] == [TEXT[i] if HAS[i] else None for i in at]


def test_operations_keep_the_gaps():
    v = views()
    for made in (
        v.select("text", "image"),
        v.rename({"image": "photo"}),
        v.replace(image=IMAGE + 1),
        v.replace(text=list("uvwxyz")),
        v.replace(text=list("uwxz")),
        v.map(lambda part, name: part, "text"),
        v.with_groups([0, 0, 1, 1, 2, 2]),
        pickle.loads(pickle.dumps(v)),
    ):
        assert made.present("text").tolist() == HAS.tolist()
    assert v.replace(text=list("uvwxyz")).distinct("text")[0].tolist() == list("uwxz")
    seen = []
    v.map(lambda part, name: seen.append(part.tolist()) or part, "text")
    assert seen == [["a", "c", "d", "f"]]  # no transformer sees a value that is not there
    assert joblib.hash(v) != joblib.hash(v.replace(text=list("uwxz")))


def test_relevance_and_labels_are_of_the_rows_that_have_the_views():
    v, y = views(), np.array([0, 1, 0, 1, 1, 0])
    paired = v.relevance("image", "text").toarray()
    assert paired.shape == (6, 4) and paired.sum() == 4
    assert [tuple(at) for at in np.argwhere(paired)] == [(0, 0), (2, 1), (3, 2), (5, 3)]
    assert v.item_labels("text", y).tolist() == [0, 0, 1, 0]
    np.testing.assert_array_equal(v.relevance("text", "image", y).toarray(), y[HAS][:, None] == y)


def test_pictures_with_captions_of_which_some_are_missing():
    captions = Views.from_captions(IMAGE[:3], list("abcdef"), [0, 0, 1, 1, 2, 2])
    v = captions.map(lambda part, name: part)
    rows = v[[0, 1, 2, 3, 5]]
    assert rows.groups.tolist() == [0, 0, 1, 1, 2]
    with_sound = Views(image=IMAGE, sound=IMAGE, present={"sound": HAS}).with_groups(
        [0, 0, 1, 1, 2, 2]
    )
    assert with_sound[[1, 4]].distinct("sound")[0].shape == (0, 2)


def planted(n=120, seed=0, missing=0.3):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 3))
    X, T, S = (Z @ rng.normal(size=(3, d)) + 0.3 * rng.normal(size=(n, d)) for d in (6, 5, 4))
    has = {name: rng.random(n) > missing for name in ("text", "sound")}
    has["text"][:10] = has["sound"][:10] = True
    return Views(image=X, text=T, sound=S, present=has)


def test_splitters_keep_the_gaps_and_pipelines_learn_from_them():
    v = planted().select("image", "text")
    for splitter in (KFold(3), GroupKFold(3), PairKFold(3)):
        for train, test in splitter.split(v, groups=v.groups):
            assert v[train].present("text").tolist() == v.present("text")[train].tolist()
            assert len(v[test].distinct("text")[0]) == v.present("text")[test].sum()
    train, test = train_test_split(v, random_state=0)
    assert not train.is_complete and not test.is_complete
    pipe = make_pipeline(ViewTransformer([("image", PCA(4)), ("text", PCA(3))]), CCA(3))
    with pytest.warns(UserWarning, match="no relevant item"):
        scores = cross_val_score(pipe, v, cv=KFold(3), scoring=make_retrieval_scorer("mrr"))
    assert scores.min() > 0.3  # .1 in a random order


def test_an_item_without_a_partner_is_no_query_and_stays_in_the_gallery():
    v = planted().select("image", "text")
    method = CCA(3).fit(v)
    S = method.similarity(v)
    has = v.present("text")
    assert S.shape == (120, has.sum())
    with pytest.warns(UserWarning, match="have no relevant item and are excluded"):
        score = method.score(v)
    R = v.relevance("image", "text").toarray()
    ranks = [1 + np.sum(row > row[r > 0]) for row, r in zip(S, R) if r.any()]
    ranks += [1 + np.sum(row > row[r > 0]) for row, r in zip(S.T, R.T)]
    first = np.mean([1 / r for r in ranks[: has.sum()]])
    second = np.mean([1 / r for r in ranks[has.sum() :]])
    assert score == pytest.approx((first + second) / 2, abs=1e-6)


def test_methods_that_need_every_view_are_clear(monkeypatch):
    v = planted().select("image", "text")
    missing = int((~v.present("text")).sum())
    with pytest.raises(ValueError, match=rf"CFA: view 'text' is missing in {missing} of 120 rows"):
        CFA().fit(v)
    with pytest.raises(ValueError, match="CCA: view 'text' is missing in"):
        CCA().partial_fit(v)
    with pytest.raises(ValueError, match="CCA: contrast compares pairs, but some rows lack"):
        CCA(contrast=0.5).fit(v)
    np.testing.assert_array_equal(
        CFA().fit(v.complete()).similarity(v.complete()),
        CFA().fit(v["image"][v.present("text")], v.complete()["text"]).similarity(v.complete()),
    )


def test_bundles_keep_the_gaps(tmp_path):
    v = views()
    index = crossfit.RetrievalScorer()
    made = planted()
    method = GCCA(3).fit(made)
    crossfit.save(method, tmp_path / "gcca")
    loaded = crossfit.load(tmp_path / "gcca")
    np.testing.assert_array_equal(loaded.shared(made), method.shared(made))
    index.held_ = v
    crossfit.save(index, tmp_path / "views")
    held = crossfit.load(tmp_path / "views").held_
    assert joblib.hash(held) == joblib.hash(v)


# ---- semi-supervised CCA ----------------------------------------------------------------


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("reg", [0.0, 0.3])
def test_cca_takes_covariances_of_all_rows_and_cross_covariances_of_pairs(standardize, reg):
    v = planted().select("image", "text")
    v = v.replace(image=v["image"] + 3)
    cca = CCA(3, reg=reg, standardize=standardize, power=0).fit(v)
    X, T = v["image"], v.distinct("text")[0]
    both = v.complete()
    scale = [part.std(axis=0, ddof=1) if standardize else 1 for part in (X, T)]
    X, T, A, B = X / scale[0], T / scale[1], both["image"] / scale[0], both["text"] / scale[1]
    Sxx, Szz = np.cov(X.T), np.cov(T.T)
    Sxz = (A - A.mean(axis=0)).T @ (B - B.mean(axis=0)) / (len(A) - 1)
    Sxx, Szz = (S + reg * np.trace(S) / len(S) * np.eye(len(S)) for S in (Sxx, Szz))
    Wx, Wz = (np.linalg.inv(np.linalg.cholesky(S)).T for S in (Sxx, Szz))
    U, s, Vt = np.linalg.svd(Wx.T @ Sxz @ Wz)
    np.testing.assert_allclose(cca.correlations_, s[:3], atol=1e-10)
    for name, W in (("image", Wx @ U[:, :3]), ("text", Wz @ Vt[:3].T)):
        found = cca.weights_[name] * (scale[0] if name == "image" else scale[1])[..., None] \
            if standardize else cca.weights_[name]  # fmt: skip
        np.testing.assert_allclose(np.abs(found), np.abs(W), atol=1e-9)
    np.testing.assert_allclose(cca.means_["text"], v.distinct("text")[0].mean(axis=0))


@pytest.mark.parametrize("method", [CCA(3, reg=0.1), GCCA(3, reg=0.1)])
def test_without_gaps_nothing_changes(method):
    v = planted()
    whole = v.complete()
    plain = Views({name: whole[name] for name in whole.names})
    np.testing.assert_array_equal(
        method.fit(whole).similarity(plain), method.fit(plain).similarity(plain)
    )


@pytest.mark.parametrize("method", [CCA(2), GCCA(2)])
def test_views_without_a_common_row_are_rejected(method):
    X = np.random.default_rng(0).normal(size=(8, 3))
    half = np.arange(8) < 4
    v = Views(image=X, text=X, present={"image": half, "text": ~half | (np.arange(8) == 0)})
    with pytest.raises(
        ValueError, match=r"needs at least 2 rows that have view 'image' and another"
    ):
        method.fit(v)


# ---- GCCA -------------------------------------------------------------------------------


@pytest.mark.parametrize("reg", [0.0, 0.4])
def test_gcca_weights_projections_by_the_views_of_a_row(reg):
    v = planted()
    n, names = len(v), v.names
    method = GCCA(3, reg=reg, power=0).fit(v)
    P, parts = np.zeros((n, n)), {}
    for name in names:
        has = v.present(name)
        items = v.distinct(name)[0]
        X = np.zeros((n, items.shape[1]))
        X[has] = items - items.mean(axis=0)
        C = np.cov(items.T)
        C = C + reg * np.trace(C) / len(C) * np.eye(len(C))
        P += X @ np.linalg.solve(C, X.T) / (has.sum() - 1)
        parts[name] = X, C, has
    root = np.sqrt(sum(has.astype(float) for _, _, has in parts.values()))
    values, vectors = np.linalg.eigh(P / np.outer(root, root))
    np.testing.assert_allclose(method.eigenvalues_, values[::-1][:3], atol=1e-10)
    size = sum(has.sum() - 1 for _, _, has in parts.values())
    G = vectors[:, ::-1][:, :3] / root[:, None] * np.sqrt(size)
    signs = 0
    for name, (X, C, has) in parts.items():
        expected = np.linalg.solve(C, X.T @ G) / (has.sum() - 1)
        found = method.weights_[name]
        signs = signs if np.any(signs) else np.sign(np.sum(found * expected, axis=0))
        np.testing.assert_allclose(found * signs, expected, atol=1e-9)
    if reg == 0:
        np.testing.assert_allclose(
            method.shared(v) * signs, G * method.eigenvalues_ * 1.0, atol=1e-9
        )


def test_wide_views_with_gaps_are_solved_in_their_span(monkeypatch):
    from crossfit.subspace import _span

    v = planted(n=40)
    wide = v.map(lambda part, name: np.hstack([part, np.random.default_rng(0).normal(
        size=(len(part), 60))]))  # fmt: skip
    for method in (CCA(3), GCCA(3)):
        plain = method.fit(wide).similarity(wide)
        with monkeypatch.context() as patch:
            patch.setattr(_span, "WIDE", 1)
            np.testing.assert_allclose(method.fit(wide).similarity(wide), plain, atol=1e-5)


def test_flickr8k_with_captions_that_are_missing(flickr_captions):
    rng = np.random.default_rng(0)
    train = flickr_captions[:1000]
    has = {name: rng.random(1000) > 0.5 for name in ("text", "second")}
    gaps = Views({name: train[name] for name in train.names}, present=has)
    few = gaps.complete()
    assert 200 < len(few) < 300
    test = flickr_captions[1000:]
    # About a quarter of the rows is complete; the others hold pairs of two views.
    for method in (CCA(), GCCA()):
        assert method.fit(gaps).score(test) > method.fit(few).score(test) + 0.02
