"""Identity, Procrustes and RidgeMap against closed forms of other libraries."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from crossfit import Views, evaluate, similarity
from crossfit.datasets import load
from crossfit.extraction import GridFeatures
from crossfit.similarities import pairwise_similarity
from crossfit.subspace import Identity, Procrustes, RidgeMap


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(150, 4))
    X = 3 + Z @ rng.normal(size=(4, 7)) + 0.5 * rng.normal(size=(150, 7))
    T = Z @ rng.normal(size=(4, 5)) + 0.5 * rng.normal(size=(150, 5)) - 1
    return X, T


@pytest.fixture(scope="module")
def wide():
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(60, 5))
    X = Z @ rng.normal(size=(5, 1500)) + 0.3 * rng.normal(size=(60, 1500))
    return X, Z @ rng.normal(size=(5, 8)) + 0.3 * rng.normal(size=(60, 8))


# ---- Identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_identity_is_the_cosine(pairs, center, form):
    X, _ = pairs
    T = X + np.random.default_rng(2).normal(size=X.shape)
    found = Identity(center=center).fit(form(X), form(T)).similarity(form(X), form(T))
    means = (X.mean(0), T.mean(0)) if center else (0, 0)
    expected = pairwise_similarity(X - means[0], T - means[1])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_identity_centres_by_rows_not_by_items():
    images, texts = np.array([[1.0, 0.0], [0.0, 1.0]]), np.eye(2)[[0, 0, 1]]
    views = Views.from_captions(images, texts, [0, 0, 1])
    method = Identity(center=True).fit(views)
    np.testing.assert_allclose(method.means_["image"], [2 / 3, 1 / 3])
    with pytest.raises(ValueError, match="the same number of columns, got image: 2, text: 3"):
        Identity().fit(np.eye(2), np.ones((2, 3)))


def test_identity_takes_any_number_of_views(pairs):
    X, _ = pairs
    views = Views(image=X, text=X[:, ::-1], sound=X)
    method = Identity().fit(views)
    scores = method.similarity(views, query="sound", gallery="image")
    np.testing.assert_allclose(scores, pairwise_similarity(X, X), atol=1e-6)


# ---- Procrustes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 5])
def test_procrustes_is_that_of_scipy_on_components_of_scikit_learn(pairs, k):
    X, T = pairs
    method = Procrustes(k).fit(X, T)
    x, t = (_unit(PCA(k, svd_solver="full").fit(part).transform(part)) for part in (X, T))
    rotation, total = orthogonal_procrustes(x, t)
    np.testing.assert_allclose(method.similarity(X, T), x @ rotation @ t.T, atol=1e-5)
    assert method.singular_values_.sum() * len(X) == pytest.approx(total)


@pytest.mark.parametrize("seed", range(3))
def test_procrustes_finds_a_rotation_of_the_axes(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(80, 4)) * [4, 3, 2, 1]
    T = X @ ortho_group.rvs(4, random_state=seed) + 5
    method = Procrustes().fit(X, T)
    a, b = method.transform(X, T)
    np.testing.assert_allclose(a, b, atol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1)


def test_procrustes_keeps_components_that_both_views_have(pairs):
    X, T = pairs
    assert Procrustes().fit(X, T).n_components_ == 5
    low = np.column_stack([T[:, :2], T[:, :2].sum(1)])
    with pytest.warns(UserWarning, match="n_components=3 is more than the views' rank allows"):
        assert Procrustes(3).fit(X, low).n_components_ == 2


def test_procrustes_of_wide_views_is_that_of_all_columns(wide):
    X, T = wide
    x, t = (_unit(PCA(8, svd_solver="full").fit(part).transform(part)) for part in (X, T))
    rotation, _ = orthogonal_procrustes(x, t)
    found = Procrustes(8).fit(X, T).similarity(X, T)
    np.testing.assert_allclose(found, x @ rotation @ t.T, atol=1e-5)


# ---- RidgeMap ------------------------------------------------------------------------------------


def _ridge(X, T, share):
    """Return predictions of centred T from X; scikit-learn's penalty is of sums, not variances."""
    alpha = share * (len(X) - 1) * X.var(axis=0, ddof=1).mean()
    return Ridge(alpha=alpha).fit(X, T).predict(X) - T.mean(0)


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("reg", [0.01, {"image": 0.3, "text": 2.0}])
def test_ridge_map_is_that_of_scikit_learn(pairs, direction, reg):
    X, T = pairs
    image, text = (reg["image"], reg["text"]) if isinstance(reg, dict) else (reg, reg)
    forward = pairwise_similarity(_ridge(X, T, image), T - T.mean(0))
    backward = pairwise_similarity(X - X.mean(0), _ridge(T, X, text))
    both = (forward + backward) / 2
    expected = {"forward": forward, "backward": backward, "both": both}[direction]
    found = RidgeMap(direction, reg).fit(X, T).similarity(X, T)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_ridge_map_of_wide_views_is_that_of_all_columns(wide, direction):
    X, T = wide
    forward = pairwise_similarity(_ridge(X, T, 0.1), T - T.mean(0))
    backward = pairwise_similarity(X - X.mean(0), _ridge(T, X, 0.1))
    expected = {"forward": forward, "backward": backward, "both": (forward + backward) / 2}
    found = RidgeMap(direction, 0.1).fit(X, T).similarity(X, T)
    np.testing.assert_allclose(found, expected[direction], atol=1e-5)


def test_ridge_map_has_the_columns_of_the_targets(pairs):
    X, T = pairs
    sizes = {d: RidgeMap(d).fit(X, T).n_components_ for d in ("forward", "backward", "both")}
    assert sizes == {"forward": 5, "backward": 7, "both": 12}
    with pytest.raises(ValueError, match="'direction' parameter of RidgeMap"):
        RidgeMap("sideways").fit(X, T)
    with pytest.raises(ValueError, match="'reg' parameter of RidgeMap"):
        RidgeMap(reg=-1.0).fit(X, T)


# ---- defaults on real data -----------------------------------------------------------------------


@pytest.mark.parametrize("method", [Procrustes(), RidgeMap()], ids=lambda m: type(m).__name__)
def test_defaults_are_better_than_chance_on_emoji(method):
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    emoji = load("emoji")
    train, test = emoji["train"].views, emoji["test"].views
    words = TfidfVectorizer().fit(train["text"])
    reduced = TruncatedSVD(100, random_state=0).fit(words.transform(train["text"]))
    views = [
        Views(
            image=GridFeatures().fit_transform(part["image"]),
            text=reduced.transform(words.transform(part["text"])),
        )
        for part in (train, test)
    ]
    scores = similarity(method.fit(views[0]), views[1])
    found = evaluate(scores, views[1].relevance("image", "text"), ["mrr"], ci=None)
    assert found.mean(None, "mrr") > 0.06  # by chance .020
