"""MACC against a loop over its definition, its limits and hard inputs."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfit import Views, make_retrieval_scorer
from crossfit.subspace import KCCA, MACC

SMALL = {"n_components": 3, "kernel": "linear", "n_codewords": 6, "n_assign": 2, "n_neighbors": 4}


def unit(z):
    return z / np.linalg.norm(z)


def by_definition(method, train, values, view):
    """Encode row by row."""
    (other,) = set(train.names) - {view}
    A, B = (np.array([unit(z) for z in method.kcca_.encode(train[v], v)]) for v in (view, other))
    rows = []
    for z in method.kcca_.encode(values, view):
        z = unit(z)
        near = np.argsort(np.linalg.norm(A - z, axis=1))[: method.n_neighbors]
        completed = unit(B[near].mean(0))
        v = np.zeros_like(method.codebook_)
        for u in (z, completed):
            distances = np.linalg.norm(method.codebook_ - u, axis=1)
            for j in np.argsort(distances)[: method.n_assign]:
                v[j] += u - method.codebook_[j]
        v = v.ravel()
        rows.append(unit(np.sign(v) * np.sqrt(np.abs(v))))
    return np.array(rows)


@pytest.mark.parametrize("params", [{}, {"n_assign": 1}, {"n_assign": 99, "n_neighbors": 1}])
def test_encodes_by_its_definition(planted, params):
    views, _ = planted(90)
    train, test = views[:60], views[60:]
    method = MACC(**{**SMALL, **params}).fit(train)
    for name in views.names:
        expected = by_definition(method, train, test[name], name)
        np.testing.assert_allclose(method.encode(test[name], name), expected, atol=1e-6)
        assert expected.shape == (30, 6 * 3)


def test_the_codebook_is_of_both_views(planted):
    views, _ = planted(60)
    method = MACC(**SMALL).fit(views)
    Z = KCCA(3, kernel="linear").fit(views).transform(views)
    union = np.vstack([Z["image"], Z["text"]])
    union /= np.linalg.norm(union, axis=1, keepdims=True)
    nearest = np.argmin(np.linalg.norm(union[:, None] - method.codebook_, axis=2), axis=1)
    for j in range(6):  # Lloyd's fixed point
        mean = union[nearest == j].mean(0)
        np.testing.assert_allclose(mean, method.codebook_[j], atol=0.05)


def test_a_training_item_is_completed_by_its_own_partner(planted):
    views, _ = planted(60)
    method = MACC(**{**SMALL, "n_neighbors": 1}).fit(views)
    Z = method.transform(views)
    # Both items of a pair are then described by the same two points.
    np.testing.assert_allclose(Z["image"], Z["text"], atol=1e-6)
    np.testing.assert_allclose(np.diag(method.similarity(views)), 1, atol=1e-5)


def test_partners_of_an_image_are_all_its_captions(planted):
    views, _ = planted(60)
    index = np.repeat(np.arange(20), 3)
    captioned = Views.from_captions(views["image"][:20], views["text"], index)
    method = MACC(**SMALL).fit(captioned)
    texts = method.kcca_.encode(views["text"], "text")
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    expected = texts.reshape(20, 3, -1).mean(axis=1)
    np.testing.assert_allclose(method.partners_["image"], expected, atol=1e-9)
    assert method.partners_["text"].shape == (60, 3)


def test_finds_pairs_that_training_has_not_seen(planted):
    views, y = planted(300, dims=(10, 8), shared=5)
    method = MACC(5, kernel="linear").fit(views[:200])
    assert make_retrieval_scorer("mrr")(method, views[200:]) > 0.3
    assert make_retrieval_scorer()(method, views[200:], y[200:]) > 0.6


def test_chunks_do_not_matter(planted, monkeypatch):
    views, _ = planted(60)
    method = MACC(**SMALL).fit(views)
    expected = method.encode(views["image"], "image")
    monkeypatch.setattr("crossfit.subspace.macc.CHUNK", 7)
    np.testing.assert_allclose(method.encode(views["image"], "image"), expected, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_orthogonal_maps_do_not_matter_to_a_linear_kernel(seed):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(40, 3))
    X, T = (Z @ rng.normal(size=(3, d)) + 0.1 * rng.normal(size=(40, d)) for d in (5, 4))
    Q = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    # All codewords: with fewer, a near tie could have either result.
    params = {**SMALL, "n_assign": 6}
    expected = MACC(**params).fit(X, T).similarity(X, T)
    rotated = MACC(**params).fit(X @ Q + 3, T).similarity(X @ Q + 3, T)
    np.testing.assert_allclose(rotated, expected, atol=1e-2)
    constant = np.c_[X, np.full(40, 3.7)]
    padded = MACC(**params).fit(constant, T).similarity(constant, T)
    np.testing.assert_allclose(padded, expected, atol=1e-2)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale_of_a_view_does_not_matter(planted, scale, dtype):
    views, y = planted(80)
    scaled = views.replace(image=(views["image"] * scale).astype(dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = MACC(**SMALL).fit(scaled)
    found = make_retrieval_scorer()(method, scaled, y)
    expected = make_retrieval_scorer()(MACC(**SMALL).fit(views), views, y)
    assert method.encode(scaled["image"], "image").dtype == dtype
    assert found == pytest.approx(expected, abs=0.03)


def test_seeds(planted):
    views, _ = planted(60)

    def scores(random_state):
        return MACC(**SMALL, random_state=random_state).fit(views).similarity(views)

    assert np.array_equal(scores(1), scores(np.random.RandomState(1)))
    assert not np.array_equal(scores(1), scores(2))
    kept = np.random.get_state()[1].copy()  # noqa: NPY002
    assert np.isfinite(scores(None)).all()
    assert np.array_equal(np.random.get_state()[1], kept)  # noqa: NPY002


@pytest.mark.parametrize(
    "params, words",
    [
        ({"n_codewords": 0}, "'n_codewords' parameter.*Got 0"),
        ({"n_codewords": 61}, "n_codewords=61 is more than the 60 training items of both"),
        ({"n_assign": 1.5}, "'n_assign' parameter"),
        ({"n_neighbors": 0}, "'n_neighbors' parameter"),
        ({"n_components": 0}, "'n_components' parameter"),
    ],
)
def test_bad_parameters_are_refused(planted, params, words):
    with pytest.raises(ValueError, match=words):
        MACC(**params).fit(planted(30)[0])


def test_constant_views_and_more_components_than_rank(planted):
    views, _ = planted(30)
    with pytest.raises(ValueError, match="'text' is the same for all rows"):
        MACC().fit(views.replace(text=np.ones((30, 4))))
    with pytest.warns(UserWarning, match="n_components=50 is more than"):
        method = MACC(50, kernel="linear").fit(views)
    assert np.isfinite(method.similarity(views)).all()
