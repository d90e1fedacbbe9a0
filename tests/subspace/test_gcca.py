"""GCCA against cca-zoo, its definition by projections, CCA as its limit, and real data."""

import numpy as np
import pytest
import scipy.linalg

import crossfit
from crossfit import Views
from crossfit.subspace import CCA, GCCA

STYLES = ["relative", "ridge", "shrink", "spectral"]


def data(n=120, dims=(6, 4, 5), noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 3))
    parts = [Z @ rng.normal(size=(3, d)) + noise * rng.normal(size=(n, d)) + 1 for d in dims]
    return Views(dict(zip(("image", "text", "tags"), parts)))


def alike(A, B):
    """Return the smallest absolute cosine between matching columns."""
    return np.min(np.abs(np.sum(A * B, 0)) / np.linalg.norm(A, axis=0) / np.linalg.norm(B, axis=0))


def regularised(S, r, style):
    if style == "shrink":
        return (1 - r) * S + r * np.eye(len(S))
    size = {"ridge": 1.0, "relative": np.trace(S) / len(S), "spectral": scipy.linalg.norm(S, 2)}
    return S + r * size[style] * np.eye(len(S))


@pytest.mark.parametrize("c", [0.0, 0.3, 1.0, (0.1, 0.5, 0.9)])
def test_weights_are_those_of_cca_zoo(c):
    from cca_zoo.linear import GCCA as Theirs

    views = data()
    reg = c if isinstance(c, float) else dict(zip(views.names, c))
    ours = GCCA(3, reg=reg, reg_style="shrink", power=0).fit(views)
    theirs = Theirs(n_components=3, shrinkage=list(c) if isinstance(c, tuple) else c)
    theirs.fit([views[name] for name in views.names])
    signs = 0
    for name, expected in zip(views.names, theirs.weights_):
        found = ours.weights_[name]
        signs = signs if np.any(signs) else np.sign(np.sum(found * expected, axis=0))
        np.testing.assert_allclose(found, expected * signs, atol=1e-12)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("standardize", [False, True])
def test_the_shared_representation_are_eigenvectors_of_the_projections(style, standardize):
    views, reg = data(), {"image": 0.2, "text": 0.5, "tags": 0.1}
    method = GCCA(3, reg=reg, reg_style=style, power=0, standardize=standardize).fit(views)
    P = np.zeros((len(views), len(views)))
    centred = {}
    for name in views.names:
        X = views[name] - views[name].mean(axis=0)
        X = X / X.std(axis=0, ddof=1) if standardize else X
        C = regularised(np.cov(X.T), reg[name], style)
        P += X @ np.linalg.solve(C, X.T) / (len(X) - 1)
        centred[name] = X, C
    values, vectors = np.linalg.eigh(P)
    np.testing.assert_allclose(method.eigenvalues_, values[::-1][:3] / 3, atol=1e-12)
    G = vectors[:, ::-1][:, :3] * np.sqrt(len(views) - 1)
    # The sum of X_i U_i over the views is the sum of projections applied to G.
    encoded = method.transform(views)
    total = sum(encoded[name] for name in views.names)
    signs = np.sign(np.sum(total * G, axis=0))
    np.testing.assert_allclose(total * signs, G * values[::-1][:3], atol=1e-10)
    np.testing.assert_allclose(method.shared(views), total / 3, atol=1e-12)
    for name, (X, C) in centred.items():
        expected = X @ np.linalg.solve(C, X.T @ G) / (len(X) - 1)
        np.testing.assert_allclose(encoded[name] * signs, expected, atol=1e-10)


@pytest.mark.parametrize("names", [("image", "text"), ("image", "text", "tags")])
def test_without_ridges_the_directions_are_those_of_cca(names):
    views = data().select(*names)
    method, cca = GCCA(4, reg=0, power=0).fit(views), CCA(4, reg=0, power=0).fit(views)
    m = len(names)
    np.testing.assert_allclose(m * method.eigenvalues_, 1 + (m - 1) * cca.correlations_, atol=1e-12)
    for name in names:
        assert alike(method.weights_[name], cca.weights_[name]) > 1 - 1e-12


def test_the_power_weights_dimensions_by_eigenvalues():
    views = data()
    plain, weighted = (GCCA(4, power=p).fit(views) for p in (0.0, 2.5))
    for name in views.names:
        np.testing.assert_allclose(
            weighted.weights_[name], plain.weights_[name] * plain.eigenvalues_**2.5
        )


def test_an_image_counts_once_per_caption():
    views = data()
    index = np.repeat(np.arange(40), 3)
    captions = Views.from_captions(views["image"][:40], views["text"], index)
    repeated = Views(image=views["image"][:40][index], text=views["text"])
    grouped, plain = GCCA(3).fit(captions), GCCA(3).fit(repeated)
    for name in captions.names:
        np.testing.assert_allclose(grouped.weights_[name], plain.weights_[name], atol=1e-12)
    assert grouped.similarity(captions).shape == (40, 120)


def test_any_two_views_are_compared_and_found_by_name():
    views = data(200, noise=0.4)
    method = GCCA(3, reg=0.1).fit(views[:150])
    test = views[150:]
    for query, gallery in (("image", "text"), ("tags", "image"), ("text", "tags")):
        scores = method.similarity(test, query=query, gallery=gallery)
        found = crossfit.evaluate(scores, np.eye(50), "mrr", ci=None).mean(None, "mrr")
        assert found > 0.27  # .09 in a random order
    np.testing.assert_allclose(
        method.similarity(test, query="tags", gallery="text"),
        method.similarity(test.select("text", "tags"), query="text", gallery="tags").T,
        atol=1e-6,
    )


def test_bundles_answer_as_the_model_does(tmp_path):
    views = data()
    method = GCCA(3).fit(views)
    crossfit.save(method, tmp_path / "model")
    loaded = crossfit.load(tmp_path / "model")
    assert type(loaded) is GCCA and loaded.get_params() == method.get_params()
    np.testing.assert_array_equal(loaded.similarity(views), method.similarity(views))
    np.testing.assert_array_equal(loaded.shared(views), method.shared(views))


def test_a_view_without_variance_is_rejected():
    with pytest.raises(ValueError, match="GCCA: view 'tags' is constant"):
        GCCA().fit(data().replace(tags=np.ones((120, 5))))


def test_the_defaults_align_pictures_with_two_captions_each(flickr_captions):
    method = GCCA().fit(flickr_captions[:1000])
    # The mean reciprocal rank over all six directions among 500 rows is .013 in a random order.
    assert method.score(flickr_captions[1000:]) > 0.35


def test_the_shared_representation_needs_views_with_a_view_for_each_row():
    views = data()
    method = GCCA(3).fit(views)
    with pytest.raises(TypeError, match=r"GCCA\.shared"):
        method.shared(views["image"])
    has = np.arange(len(views)) > 0
    gaps = Views(image=views["image"], text=views["text"], present={"text": has})
    np.testing.assert_allclose(
        method.shared(gaps)[0], method.encode(views["image"][:1], "image")[0]
    )
    with pytest.raises(ValueError, match=r"GCCA\.shared: row 0 has none of the views text"):
        method.shared(gaps.select("text"))
