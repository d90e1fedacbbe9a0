"""CCA3V: its pencil, ridge CCA as its limit, semantics, weights and random features."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import rbf_kernel

from crossfit import Views
from crossfit.metrics import mean_average_precision
from crossfit.subspace import CCA, CCA3V


def data(n=120, dims=(6, 4, 5), classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    Z = 2 * rng.normal(size=(classes, 3))[y] + rng.normal(size=(n, 3))
    return [Z @ rng.normal(size=(3, d)) + rng.normal(size=(n, d)) for d in dims], y


(X, T, TAGS), Y = data()
ONE_HOT = np.eye(3)[Y]


def pencil(parts, reg, style, scales=None):
    """Return S with the ridge, and its block diagonal."""
    S = np.cov(np.hstack(parts).T)
    stops = np.cumsum([part.shape[1] for part in parts])
    B = np.zeros_like(S)
    for stop, part in zip(stops, parts):
        block = slice(stop - part.shape[1], stop)
        d = part.shape[1]
        eta = reg * (np.trace(S[block, block]) / d if style == "relative" else 1)
        S[block, block] += eta * np.eye(d)
        B[block, block] = S[block, block]
    return S, B


def alike(A, B):
    """Return the smallest absolute cosine between matching columns."""
    return np.min(np.abs(np.sum(A * B, 0)) / np.linalg.norm(A, axis=0) / np.linalg.norm(B, axis=0))


# ---- the pencil -------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["ridge", "relative"])
@pytest.mark.parametrize("reg", [1e-4, 0.1, 2.0])
@pytest.mark.parametrize("third", ["labels", "tags"])
def test_solves_the_stacked_pencil(style, reg, third):
    if third == "labels":
        parts = [X, T, ONE_HOT]
        method = CCA3V(3, reg=reg, reg_style=style, power=0).fit(X, T, Y)
    else:
        parts = [X, T, TAGS]
        method = CCA3V(3, reg=reg, reg_style=style, power=0).fit(Views(image=X, text=T, tags=TAGS))
    S, B = pencil(parts, reg, style)
    values, vectors = scipy.linalg.eigh(S, B)
    np.testing.assert_allclose(method.eigenvalues_, values[::-1][:3], atol=1e-9)
    stacked = np.vstack(list(method.weights_.values()))
    expected = vectors[:, ::-1][: len(stacked), :3]
    np.testing.assert_allclose(
        stacked * np.sign(np.sum(stacked * expected, axis=0)), expected, atol=1e-7
    )


@pytest.mark.parametrize("reg", [0.0, 1e-4, 0.1, 10.0])
@pytest.mark.parametrize("style", ["ridge", "relative"])
@pytest.mark.parametrize("standardize", [False, True])
def test_two_views_alone_are_ridge_cca(reg, style, standardize):
    method = CCA3V(reg=reg, reg_style=style, power=0, semantics=None, standardize=standardize)
    method.fit(X, T, Y)
    cca = CCA(reg=reg, reg_style=style, power=0, standardize=standardize).fit(X, T)
    np.testing.assert_allclose(method.eigenvalues_, 1 + cca.correlations_, atol=1e-10)
    for role in ("image", "text"):
        assert alike(method.weights_[role], cca.weights_[role]) > 1 - 1e-9
    np.testing.assert_allclose(method.similarity(X, T), cca.similarity(X, T), atol=1e-5)


def test_the_power_weights_dimensions_by_eigenvalues():
    plain, weighted = (CCA3V(4, power=p).fit(X, T, Y) for p in (0.0, 2.5))
    for role in ("image", "text"):
        expected = plain.weights_[role] * plain.eigenvalues_**2.5
        np.testing.assert_allclose(weighted.weights_[role], expected)


def test_all_dimensions_in_which_views_agree_are_kept():
    method = CCA3V(reg=1e-4).fit(X, T, Y)
    S, B = pencil([X, T, ONE_HOT], 1e-4, "relative")
    assert method.n_components_ == np.sum(scipy.linalg.eigvalsh(S, B) > 1 + 1e-6)
    with pytest.warns(UserWarning, match=r"CCA3V: n_components=50 .* 13 are kept"):
        assert CCA3V(50).fit(X, T, Y).transform(X).shape == (120, 13)


# ---- weights of views -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["semantics", "image"])
def test_a_weight_of_zero_drops_a_view(name):
    method = CCA3V(2, reg=1e-4, power=0, view_weights={name: 0}).fit(X, T, Y)
    if name == "semantics":
        other = CCA3V(2, reg=1e-4, power=0, semantics=None).fit(X, T)
        np.testing.assert_allclose(method.similarity(X, T), other.similarity(X, T), atol=1e-5)
    else:
        other = CCA(2, reg=1e-4).fit(T, ONE_HOT)
        assert alike(method.weights_["text"], other.weights_["image"]) > 1 - 1e-8
        assert np.abs(method.weights_["image"]).max() < 1e-8


def test_weights_multiply_the_covariances_with_other_views():
    method = CCA3V(3, reg=0.1, power=0, view_weights={"semantics": 0.5, "text": 2}).fit(X, T, Y)
    S, B = pencil([X, T, ONE_HOT], 0.1, "relative")
    f = np.repeat([1, 2, 0.5], [6, 4, 3])
    S = B + (S - B) * np.outer(f, f)
    values = scipy.linalg.eigvalsh(S, B)
    np.testing.assert_allclose(method.eigenvalues_, values[::-1][:3], atol=1e-9)


def test_weights_by_view_name():
    views = Views(photo=X, caption=T)
    by_name = CCA3V(3, view_weights={"photo": 0.3}).fit(views, Y)
    by_role = CCA3V(3, view_weights={"image": 0.3}).fit(views, Y)
    np.testing.assert_array_equal(by_name.weights_["text"], by_role.weights_["text"])


# ---- semantics --------------------------------------------------------------------------


def test_auto_takes_labels_else_extra_views_else_clusters():
    three = Views(image=X, text=T, tags=TAGS)

    def same(a, b):
        np.testing.assert_allclose(a.similarity(X, T), b.similarity(X, T), atol=1e-6)

    same(CCA3V().fit(X, T, Y), CCA3V(semantics="labels").fit(X, T, Y))
    a, b = (CCA3V(semantics=s, random_state=0).fit(X, T) for s in ("auto", "clusters"))
    same(a, b)
    a, b = CCA3V().fit(three), CCA3V(semantics=None).fit(three)
    np.testing.assert_array_equal(a.weights_["tags"], b.weights_["tags"])
    assert CCA3V(reg=1e-4).fit(three, Y).eigenvalues_[0] > 3  # four views


def test_indicators_of_several_labels():
    np.testing.assert_allclose(
        CCA3V().fit(X, T, ONE_HOT.astype(int)).similarity(X, T),
        CCA3V().fit(X, T, Y).similarity(X, T),
        atol=1e-6,
    )
    several = ONE_HOT.copy()
    several[::5, 1] = 1
    assert CCA3V(3).fit(X, T, several).transform(X).shape == (120, 3)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_clusters_of_the_last_view_find_what_labels_say(form):
    rng = np.random.default_rng(0)
    centres = 30 * rng.normal(size=(3, 5))
    tags = form(np.round(centres[Y] + rng.normal(size=(120, 5)), 2))
    method = CCA3V(semantics="clusters", n_clusters=3, random_state=0)
    third = method.fit(Views(image=X, text=T, tags=tags))._third_view(
        Views(image=X, text=T, tags=tags), None, np.random.RandomState(0)
    )
    assert adjusted_rand_score(third["semantics"].argmax(axis=1), Y) == 1
    labelled = CCA3V(semantics="labels").fit(Views(image=X, text=T, tags=tags), Y)
    np.testing.assert_allclose(method.eigenvalues_, labelled.eigenvalues_, rtol=1e-8)


def test_more_clusters_than_items():
    assert np.isfinite(CCA3V(n_clusters=500, random_state=0).fit(X, T).similarity(X, T)).all()


def test_labels_that_are_wanted_and_missing():
    with pytest.raises(ValueError, match="semantics='labels' needs labels, got none"):
        CCA3V(semantics="labels").fit(X, T)


def test_a_view_of_the_name_of_the_semantics():
    views = Views(image=X, text=T, semantics=TAGS)
    assert CCA3V().fit(views).n_components_ > 1
    with pytest.raises(ValueError, match="adds a view 'semantics', but one"):
        CCA3V().fit(views, Y)


def test_no_seed_leaves_the_global_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    CCA3V(fourier=10).fit(X, T)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# ---- random features --------------------------------------------------------------------


def test_random_features_approximate_the_gaussian_kernel():
    method = CCA3V(3, fourier={"image": 600, "text": None}, random_state=0).fit(X, T, Y)
    assert set(method.fourier_) == {"image"}
    squares = ((X[:, None] - X) ** 2).sum(-1)
    gamma = 1 / np.median(squares[np.triu_indices(120, 1)])
    features = method.fourier_["image"].transform(X)
    errors = {w: features @ features.T - rbf_kernel(X, gamma=w * gamma) for w in (0.5, 1, 2)}
    off = {w: np.sqrt(np.mean(error**2)) for w, error in errors.items()}
    assert off[1] < 0.06 < min(off[0.5], off[2])


def test_random_features_find_what_no_linear_map_does():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 400)
    radius = rng.choice([1.0, 2.0, 3.0], 400)
    x = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    t = np.column_stack([radius, rng.normal(size=400)])
    y = radius.astype(int)
    linear = CCA3V(reg=0.1).fit(x[:300], t[:300], y[:300])
    curved = CCA3V(reg=0.1, fourier={"image": 200, "text": None}, random_state=0)
    curved.fit(x[:300], t[:300], y[:300])
    assert curved.score(x[300:], t[300:], y[300:]) > 0.8
    assert linear.score(x[300:], t[300:], y[300:]) < 0.6


@pytest.mark.parametrize("standardize", [False, True])
def test_random_features_of_sparse_and_shifted_rows(standardize):
    rows = np.maximum(X, 0)
    given = {"fourier": 50, "standardize": standardize, "random_state": 0}
    dense = CCA3V(3, **given).fit(rows, T, Y)
    sparse = CCA3V(3, **given).fit(sp.csr_array(rows), T, Y)
    np.testing.assert_allclose(sparse.transform(sp.csr_array(rows)), dense.transform(rows))
    moved = CCA3V(3, **given).fit(rows + 100, T, Y)
    np.testing.assert_allclose(moved.transform(rows + 100), dense.transform(rows), atol=1e-7)


# ---- bad parameters ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, message",
    [
        ({"reg": -1}, "'reg' parameter.*Got -1"),
        ({"power": np.inf}, "'power' parameter.*Got inf"),
        ({"reg_style": "shrink"}, "'reg_style' parameter.*Got 'shrink'"),
        ({"semantics": "tags"}, "'semantics' parameter.*Got 'tag"),
        ({"n_clusters": 0}, "'n_clusters' parameter.*Got 0"),
        ({"n_components": 0}, "'n_components' parameter.*Got 0"),
        ({"fourier": 0}, "'fourier' parameter.*Got 0"),
        ({"fourier": {"image": 3}}, "fourier has no entry for 'text'"),
        (
            {"view_weights": {"audio": 1}},
            "'audio', which is not a view; the views are image, text, sem",
        ),
        ({"view_weights": {"text": -1}}, "'view_weights' parameter"),
    ],
)
def test_bad_parameters(given, message):
    with pytest.raises(ValueError, match=message):
        CCA3V(**given).fit(X, T, Y)


def test_weights_that_are_no_mapping():
    with pytest.raises(TypeError, match=r"'view_weights' parameter.*Got 3"):
        CCA3V(view_weights=3).fit(X, T, Y)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.floats(-6, 6))
def test_the_relative_ridge_is_free_of_rotation_and_scale(seed, decades):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(6, 6)))[0]
    a = CCA3V(3, reg=0.1).fit(X, T, Y)
    moved = 10**decades * (X @ rotation) + 5
    b = CCA3V(3, reg=0.1).fit(moved, T, Y)
    np.testing.assert_allclose(b.similarity(moved, T), a.similarity(X, T), atol=1e-5)


# ---- real features ----------------------------------------------------------------------


@pytest.mark.parametrize("power, expected", [(0, (0.2288, 0.1873)), (4, (0.2816, 0.2269))])
def test_wikipedia(wikipedia, power, expected):
    method = CCA3V(20, reg=0.1, reg_style="ridge", power=power, standardize=True)
    method.fit(wikipedia.train, wikipedia.y_train)
    scores, y = method.similarity(wikipedia.test), wikipedia.y_test
    found = [mean_average_precision(s, y, y) for s in (scores, scores.T)]
    assert found == pytest.approx(expected, abs=0.003)
