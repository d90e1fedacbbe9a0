"""Identity and plain maps against closed forms of other libraries, and naive loops."""

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
from crossfit.subspace import ASIF, CCA, CSA, Identity, Procrustes, ReducedRank, RidgeMap


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


# ---- ReducedRank ---------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("k", [1, 3])
def test_reduced_rank_projects_on_the_singular_vectors_of_the_fitted_values(pairs, direction, k):
    X, T = pairs

    def scores(A, B):
        fitted = _ridge(A, B, 0.2)
        V = np.linalg.svd(fitted, full_matrices=False)[2][:k].T
        return pairwise_similarity(fitted @ V, (B - B.mean(0)) @ V)

    forward, backward = scores(X, T), scores(T, X).T
    expected = {"forward": forward, "backward": backward, "both": (forward + backward) / 2}
    found = ReducedRank(k, direction, 0.2).fit(X, T).similarity(X, T)
    np.testing.assert_allclose(found, expected[direction], atol=1e-5)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_without_a_ridge_no_map_of_the_rank_has_smaller_errors(pairs, k):
    X, T = pairs[0] - pairs[0].mean(0), pairs[1] - pairs[1].mean(0)
    method = ReducedRank(k, "forward", reg=0).fit(X, T)
    rank_k = method.maps_["image"] @ method.bases_["text"].T
    best = ((T - X @ rank_k) ** 2).sum()
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 0.1):
        left = method.maps_["image"] + size * rng.normal(size=method.maps_["image"].shape)
        right = method.bases_["text"] + size * rng.normal(size=method.bases_["text"].shape)
        assert ((T - X @ left @ right.T) ** 2).sum() > best


def test_with_all_directions_it_is_the_ridge_map(pairs, wide):
    for X, T in (pairs, wide):
        full = RidgeMap("forward").fit(X, T).similarity(X, T)
        np.testing.assert_allclose(
            ReducedRank(None, "forward").fit(X, T).similarity(X, T), full, atol=1e-5
        )
    with pytest.warns(UserWarning, match="n_components=9 is more than the views' rank allows; 5"):
        ReducedRank(9, "forward").fit(*pairs)


# ---- CSA -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_csa_is_a_weighted_cosine_of_canonical_variates(pairs, power):
    X, T = pairs
    cca = CCA(3, reg=0.1, power=0).fit(X, T)
    a, b = (_unit(part) for part in cca.transform(X, T))
    expected = (a * cca.correlations_**power) @ b.T
    csa = CSA(3, reg=0.1, power=power)
    np.testing.assert_allclose(csa.fit(X, T).similarity(X, T), expected, atol=1e-6)
    streamed = CSA(3, reg=0.1, power=power)
    for rows in (slice(0, 70), slice(70, None)):
        streamed = streamed.partial_fit(X[rows], T[rows])
    np.testing.assert_allclose(streamed.similarity(X, T), expected, atol=1e-6)


# ---- ASIF ----------------------------------------------------------------------------------------


def _relative(items, anchors, k, power):
    """Return relative representations, item by item."""
    found = np.zeros((len(items), len(anchors)))
    for i, x in enumerate(items):
        near = [x @ a / np.linalg.norm(x) / np.linalg.norm(a) for a in anchors]
        for j in np.argsort(near)[::-1][:k]:
            found[i, j] = max(near[j], 0) ** power
    return found


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_asif_is_the_naive_loop(pairs, center, form):
    X, T = pairs
    train, test = slice(0, 90), slice(90, None)
    method = ASIF(7, 3.0, center=center).fit(form(X[train]), form(T[train]))
    means = [part[train].mean(0) if center else 0 for part in (X, T)]
    p, q = (
        _relative(part[test] - mean, part[train] - mean, 7, 3) for part, mean in zip((X, T), means)
    )
    found = method.similarity(form(X[test]), form(T[test]))
    np.testing.assert_allclose(found, pairwise_similarity(p, q), atol=1e-6)


def test_asif_has_an_anchor_per_image_at_the_mean_of_its_captions():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(3, 4)), rng.normal(size=(7, 5))
    views = Views.from_captions(images, texts, [0, 0, 1, 2, 2, 2, 1])
    anchors = ASIF().fit(views).anchors_
    np.testing.assert_allclose(anchors["image"], _unit(images))
    expected = [_unit(texts)[rows].mean(0) for rows in ([0, 1], [2, 6], [3, 4, 5])]
    np.testing.assert_allclose(anchors["text"], _unit(np.array(expected)))


def test_asif_takes_more_pairs_without_a_change_of_the_others(pairs):
    X, T = pairs
    whole = ASIF(9).fit(X[:100], T[:100]).similarity(X[100:], T[100:])
    parts = ASIF(9).fit(X[:60], T[:60])
    kept = parts.anchors_["image"].copy()
    parts.partial_fit(X[60:99], T[60:99]).partial_fit(X[99:100], T[99:100])
    np.testing.assert_array_equal(parts.anchors_["image"][:60], kept)
    np.testing.assert_allclose(parts.similarity(X[100:], T[100:]), whole, atol=1e-6)
    with pytest.raises(ValueError, match=r"7 (columns|features)"):
        parts.partial_fit(X[:, :3], T)
    assert len(parts.anchors_["image"]) == len(parts.anchors_["text"]) == 100
    assert ASIF().partial_fit(X, T).n_components_ == len(X)


def test_asif_draws_anchors_with_a_seed(pairs):
    X, T = pairs
    drawn = [ASIF(n_anchors=20, random_state=seed).fit(X, T).anchors_["text"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert len(drawn[0]) == 20 and not np.array_equal(drawn[0], drawn[2])


# ---- CCA with a contrastive step -----------------------------------------------------------------


def _contrasted(X, T, groups, c, reg, power):
    """Return scores of CCA after one contrastive step, pair by pair."""
    n = len(X)
    x, t = X - X.mean(0), T - T.mean(0)

    def whitening(part):
        S = part.T @ part / (n - 1)
        values, vectors = np.linalg.eigh(S + reg * np.trace(S) / len(S) * np.eye(len(S)))
        return vectors / np.sqrt(values)

    A, B = x @ whitening(x), t @ whitening(t)
    M = A.T @ B / (n - 1)

    def solved(M):
        U, s, Vt = np.linalg.svd(M, full_matrices=False)
        return _unit(A @ U * s**power), _unit(B @ Vt.T * s**power)

    a, b = solved(M)
    wrong = np.zeros_like(M)
    for one, other, left, right, flip in ((a, b, A, B, False), (b, a, B, A, True)):
        for i in range(n):
            others = np.flatnonzero(groups != groups[i])
            weights = np.exp(10 * other[others] @ one[i])
            mean = weights @ right[others] / weights.sum()
            pair = np.outer(left[i], mean)
            wrong += (pair.T if flip else pair) / (2 * n)
    a, b = solved(M - c * wrong)
    return a @ b.T


@pytest.mark.parametrize("c", [0.0, 0.5])
@pytest.mark.parametrize("power", [0.0, 1.0])
def test_a_contrastive_step_is_the_naive_loop(pairs, c, power):
    X, T = pairs
    expected = _contrasted(X, T, np.arange(len(X)), c, 0.1, power)
    found = CCA(reg=0.1, power=power, contrast=c).fit(X, T).similarity(X, T)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_captions_of_an_image_are_no_wrong_pairs_in_a_contrastive_step(pairs):
    X, T = pairs
    index = np.repeat(np.arange(50), 3)
    views = Views.from_captions(X[:50], T, index)
    expected = _contrasted(X[:50][index], T, index, 0.5, 0.1, 1.0)
    found = CCA(reg=0.1, contrast=0.5).fit(views).similarity(X[:50][index], T)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_pairs_of_one_group_are_no_wrong_pairs_in_a_contrastive_step(pairs):
    X, T = pairs
    groups = np.arange(len(X)) // 3
    views = Views(image=X, text=T).with_groups(groups)
    expected = _contrasted(X, T, groups, 0.5, 0.1, 1.0)
    found = CCA(reg=0.1, contrast=0.5).fit(views).similarity(X, T)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    apart = CCA(reg=0.1, contrast=0.5).fit(X, T).similarity(X, T)
    assert np.abs(found - apart).max() > 1e-3


def test_a_contrastive_step_of_wide_views_and_in_blocks(wide, monkeypatch):
    X, T = wide
    found = CCA(contrast=0.5).fit(X, T).similarity(X, T)
    monkeypatch.setattr("crossfit.subspace._contrast._SCORES", 7 * len(T))
    np.testing.assert_allclose(CCA(contrast=0.5).fit(X, T).similarity(X, T), found, atol=1e-5)
    expected = _contrasted(X, T, np.arange(len(X)), 0.5, 3.0, 1.0)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_contrastive_step_needs_two_views_and_all_rows(pairs):
    X, T = pairs
    with pytest.raises(ValueError, match="contrast needs two views, got 3; set contrast=0"):
        CCA(contrast=0.5).fit(Views(image=X, text=T, sound=X))
    with pytest.raises(ValueError, match="partial_fit keeps only sums; call fit, or set contrast"):
        CCA(contrast=0.5).partial_fit(X, T)
    with pytest.raises(ValueError, match="'contrast' parameter of CCA"):
        CCA(contrast=1.0).fit(X, T)


# ---- defaults on real data -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [Procrustes(), RidgeMap(), ReducedRank(), CSA(), ASIF(), CCA(contrast=0.5)],
    ids=lambda m: type(m).__name__,
)
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
