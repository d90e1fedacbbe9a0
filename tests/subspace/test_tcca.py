"""TCCA against tensorly and cca-zoo, CCA as its form for two views, limits and real data."""

import numpy as np
import pytest

import crossfit
from crossfit import Views
from crossfit.subspace import CCA, TCCA, tcca


def data(n=400, dims=(6, 5, 4), noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.exponential(size=(n, 3))
    parts = [Z @ rng.normal(size=(3, d)) + noise * rng.normal(size=(n, d)) for d in dims]
    return Views(dict(zip(("image", "text", "tags"), parts)))


def unit(A):
    return A / np.linalg.norm(A, axis=0)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("c", [0.0, 0.4])
def test_directions_are_those_of_cca_zoo(k, c):
    from cca_zoo.linear import TCCA as Theirs

    views = data()
    ours = TCCA(k, reg=c, reg_style="shrink", tol=1e-12).fit(views)
    theirs = Theirs(k, shrinkage=c).fit([views[name] for name in views.names])
    for name, expected in zip(views.names, theirs.weights_):
        cosines = np.abs(unit(ours.weights_[name]).T @ unit(expected))
        np.testing.assert_allclose(cosines.max(axis=0), 1, atol=1e-4)
        assert sorted(cosines.argmax(axis=0)) == list(range(k))


@pytest.mark.parametrize("shape", [(5, 4, 6), (4, 3, 3, 4)])
def test_terms_of_a_tensor_are_found_as_well_as_by_tensorly(shape):
    import tensorly
    from tensorly.decomposition import parafac

    rng = np.random.default_rng(0)
    M = rng.normal(size=shape)
    planted = [unit(rng.normal(size=(d, 3))) for d in shape]
    letters = "abcd"[: len(shape)]
    full = ",".join(f"{a}z" for a in letters) + ",z->" + letters
    exact = np.einsum(full, *planted, [5.0, 3.0, 2.0])
    rho, U = TCCA(tol=0.0)._terms(exact, 3)
    np.testing.assert_allclose(rho, [5, 3, 2], atol=1e-6)
    for found, expected in zip(U, planted):
        np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=0)), 1, atol=1e-8)
    noisy = exact + 0.1 * M
    rho, U = TCCA(tol=1e-12)._terms(noisy, 3)
    error = np.linalg.norm(noisy - np.einsum(full, *U, rho))
    theirs = parafac(noisy, 3, init="svd", tol=1e-12, n_iter_max=500)
    assert error <= np.linalg.norm(noisy - tensorly.cp_to_tensor(theirs)) * (1 + 1e-6)


@pytest.mark.parametrize("rows", [7, 4096])
def test_the_tensor_is_the_mean_product_of_whitened_rows(monkeypatch, rows):
    monkeypatch.setattr(tcca, "CHUNK", rows)
    views = data(60)
    means = {name: views[name].mean(axis=0) for name in views.names}
    W = {name: np.random.default_rng(1).normal(size=(views[name].shape[1], 3)) for name in means}
    z = [(views[name] - means[name]) @ W[name] for name in views.names]
    expected = np.einsum("na,nb,nc->abc", *z) / 59
    np.testing.assert_allclose(tcca._moment(views, means, W), expected, atol=1e-12)


def test_two_views_are_cca():
    views = data().select("image", "text")
    ours, cca = TCCA(4, reg=0.1, power=1).fit(views), CCA(4, reg=0.1, power=1).fit(views)
    np.testing.assert_allclose(ours.correlations_, cca.correlations_, atol=1e-12)
    for name in views.names:
        np.testing.assert_allclose(ours.weights_[name], cca.weights_[name], atol=1e-12)


def test_scores_of_a_term_correlate_in_all_views():
    views = data(n=1000)
    for seed in range(3):  # minus one view changes the sign of the moment
        flipped = views.replace(text=(-1) ** seed * views["text"])
        encoded = TCCA(3, reg=0).fit(flipped).transform(flipped)
        for a, b in (("image", "text"), ("image", "tags")):
            assert np.sum(encoded[a] * encoded[b], axis=0).min() > 0


def test_the_power_weights_dimensions_by_the_size_of_their_terms():
    views = data()
    plain, weighted = (TCCA(3, power=p).fit(views) for p in (0.0, 2.0))
    for name in views.names:
        expected = plain.weights_[name] * plain.correlations_**2
        np.testing.assert_allclose(weighted.weights_[name], expected)


def test_a_tensor_beyond_memory_is_rejected_before_any_work(monkeypatch):
    monkeypatch.setattr(tcca, "machine_memory", lambda: 6 * 5 * 4 * 8.0)
    with pytest.raises(MemoryError, match=r"tensor of 6 x 5 x 4 numbers.*PCA\(100\)"):
        TCCA(2).fit(data())
    TCCA(2).fit(data().select("image", "text"))  # needs no tensor


def test_more_rounds_are_asked_for_with_a_warning():
    with pytest.warns(UserWarning, match="TCCA: the terms were still changing after 1 rounds"):
        TCCA(3, max_iter=1).fit(data())


def test_captions_share_the_moment_of_their_image():
    views = data(120)
    index = np.repeat(np.arange(40), 3)
    made = Views.from_captions(views["image"][:40], views["text"], index)
    grouped = TCCA(2).fit(made)
    plain = TCCA(2).fit(Views(image=views["image"][:40][index], text=views["text"]))
    np.testing.assert_allclose(grouped.weights_["text"], plain.weights_["text"], atol=1e-12)


def test_bundles_answer_as_the_model_does(tmp_path):
    views = data()
    method = TCCA(3).fit(views)
    crossfit.save(method, tmp_path / "model")
    loaded = crossfit.load(tmp_path / "model")
    assert type(loaded) is TCCA and loaded.get_params() == method.get_params()
    np.testing.assert_array_equal(loaded.similarity(views), method.similarity(views))


def test_wikipedia_with_labels_as_a_third_view(wikipedia):
    one_hot = np.eye(wikipedia.y_train.max() + 1)[wikipedia.y_train][:, 1:]
    train = Views(image=wikipedia.train["image"], text=wikipedia.train["text"], labels=one_hot)
    method = TCCA(9).fit(train)
    # Random rankings have .12; CCA of pictures and texts alone has .230.
    assert method.score(wikipedia.test, wikipedia.y_test) > 0.22
