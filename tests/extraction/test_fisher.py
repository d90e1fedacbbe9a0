"""The hybrid mixture and its Fisher vectors: oracles, finite differences, limits, hard inputs."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import Pipeline, make_union

from crossfit import Ragged, Views, ViewTransformer
from crossfit.extraction import HGLMM, FisherVector
from crossfit.persistence import load, save
from crossfit.subspace import CCA


def mixture(kind="hybrid", K=3, d=4, seed=0, gap=30.0):
    """Return a fitted mixture whose components are far apart."""
    rng = np.random.default_rng(seed)
    model = HGLMM(K, kind=kind)
    model.n_features_in_ = d
    model.weights_ = rng.dirichlet(np.full(K, 5.0))
    model.locations_ = gap * np.arange(K)[:, None] + rng.normal(size=(K, d))
    model.scales_ = rng.uniform(0.5, 2, size=(K, d))
    model.laplacian_ = {
        "hybrid": rng.random((K, d)) < 0.5,
        "gaussian": np.zeros((K, d), bool),
        "laplacian": np.ones((K, d), bool),
    }[kind]
    return model


def plain(model, **params):
    """Return Fisher vectors without power normalisation and scaling."""
    names = {"hybrid": "hglmm", "gaussian": "gmm", "laplacian": "lmm"}
    params = {"power": 1.0, "normalize": False, "ica": False, **params}
    vector = FisherVector(names[model.kind], model.n_components, **params)
    vector.mean_, vector.rotation_ = np.zeros(model.n_features_in_), np.eye(model.n_features_in_)
    vector.n_features_in_, vector.mixture_ = model.n_features_in_, model
    return vector


def of_points(model, sets):
    """Return Fisher vectors of sets of points that are not scaled to unit length first."""
    offsets = np.concatenate([[0], np.cumsum([len(x) for x in sets])])
    return plain(model)._of_words(np.vstack(sets), offsets)


def sentences(n=60, d=5, seed=0, longest=9):
    rng = np.random.default_rng(seed)
    return Ragged.from_list([rng.laplace(size=(t, d)) for t in rng.integers(2, longest, size=n)])


# ---- the mixture -------------------------------------------------------------------------------


def test_densities_are_those_of_scipy():
    model = mixture(gap=1.0)
    X = np.random.default_rng(1).normal(size=(50, 4)) * 3
    p = np.zeros(50)
    for k in range(3):
        factor = np.full(50, model.weights_[k])
        for d in range(4):
            family = stats.laplace if model.laplacian_[k, d] else stats.norm
            factor *= family.pdf(X[:, d], model.locations_[k, d], model.scales_[k, d])
        p += factor
    np.testing.assert_allclose(model.score_samples(X), np.log(p), rtol=1e-10)
    assert model.score(X) == pytest.approx(np.log(p).mean())
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)


def as_sklearn(model):
    reference = GaussianMixture(model.n_components, covariance_type="diag")
    reference.weights_, reference.means_ = model.weights_, model.locations_
    reference.covariances_ = model.scales_**2
    reference.precisions_cholesky_ = 1 / model.scales_
    return reference


def test_gaussian_responsibilities_are_those_of_sklearn():
    model = mixture("gaussian", gap=1.0)
    X = np.random.default_rng(1).normal(size=(200, 4)) * 3
    reference = as_sklearn(model)
    np.testing.assert_allclose(model.predict_proba(X), reference.predict_proba(X), atol=1e-10)
    np.testing.assert_allclose(model.score_samples(X), reference.score_samples(X), rtol=1e-10)


def test_gaussian_fit_reaches_the_likelihood_of_sklearn():
    X = mixture("gaussian", gap=5.0).sample(800, 0)
    found = HGLMM(3, kind="gaussian", tol=1e-9, max_iter=500).fit(X)
    reference = GaussianMixture(3, covariance_type="diag", tol=1e-9, max_iter=500, random_state=0)
    assert found.score(X) == pytest.approx(reference.fit(X).score(X), abs=1e-4)


def test_one_component_is_fitted_in_closed_form():
    X = np.random.default_rng(0).laplace(size=(301, 3)) * [1, 2, 3] + 5
    laplacian = HGLMM(1, kind="laplacian").fit(X)
    fitted = np.array([stats.laplace.fit(column) for column in X.T])
    np.testing.assert_allclose(laplacian.locations_[0], fitted[:, 0])
    np.testing.assert_allclose(laplacian.scales_[0], fitted[:, 1])
    gaussian = HGLMM(1, kind="gaussian").fit(X)
    np.testing.assert_allclose(gaussian.locations_[0], X.mean(0))
    np.testing.assert_allclose(gaussian.scales_[0], X.std(0))


def test_each_coordinate_chooses_its_kind():
    truth = mixture(K=2, d=8, gap=20.0)
    X = truth.sample(4000, 0)
    found = HGLMM(2).fit(X)
    order = np.argsort(found.locations_[:, 0])
    assert np.array_equal(found.laplacian_[order], truth.laplacian_)
    np.testing.assert_allclose(found.locations_[order], truth.locations_, atol=0.2)
    np.testing.assert_allclose(found.scales_[order], truth.scales_, rtol=0.1)
    for kind in ("gaussian", "laplacian"):
        other = HGLMM(2, kind=kind).fit(X)
        assert other.laplacian_.all() == other.laplacian_.any() == (kind == "laplacian")
        assert other.score(X) < found.score(X)


@pytest.mark.parametrize("kind", ["hybrid", "gaussian", "laplacian"])
@pytest.mark.parametrize("seed", range(3))
def test_likelihood_never_falls(kind, seed):
    rng = np.random.default_rng(seed)
    X = np.round(rng.laplace(size=(300, 4)) ** 3, 1)  # with equal values, and far outliers
    model = HGLMM(6, kind=kind, tol=0, max_iter=60, random_state=seed).fit(X)
    assert len(model.log_likelihood_) > 5
    assert np.all(np.diff(model.log_likelihood_) > -1e-9)
    assert model.log_likelihood_[-1] == pytest.approx(model.score(X))


def test_samples_have_the_moments_of_the_mixture():
    model = mixture(K=1)
    X = model.sample(20_000, 0)
    np.testing.assert_allclose(X.mean(0), model.locations_[0], atol=0.1)
    expected = model.scales_[0] * np.where(model.laplacian_[0], np.sqrt(2), 1)
    np.testing.assert_allclose(X.std(0), expected, rtol=0.05)
    assert np.array_equal(X, model.sample(20_000, 0))


# ---- the Fisher vector -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hybrid", "gaussian", "laplacian"])
def test_gradients_by_finite_differences(kind):
    model = mixture(kind, gap=1.5)
    X = np.random.default_rng(3).normal(size=(7, 4)) * 2
    found = of_points(model, [X]).reshape(2, 3, 4)
    # Undo the normalisation by the Fisher information.
    norm = np.sqrt(7 * model.weights_)[:, None] / model.scales_
    gradient = found * norm
    gradient[1] *= np.where(model.laplacian_, 1, np.sqrt(2))
    for part, name in enumerate(("locations_", "scales_")):
        values = getattr(model, name).copy()
        for at in np.ndindex(values.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = values.copy()
                moved[at] += step
                setattr(model, name, moved)
                ends.append(model.score_samples(X).sum())
            setattr(model, name, values)
            assert gradient[part][at] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)


@pytest.mark.parametrize("kind", ["hybrid", "gaussian", "laplacian"])
def test_unit_variance_on_data_of_the_mixture(kind):
    model = mixture(kind)
    rng = np.random.RandomState(0)
    vectors = of_points(model, [model.sample(t, rng) for t in np.tile([1, 2, 5, 20], 2500)])
    np.testing.assert_allclose(vectors.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(vectors.var(0), 1, atol=0.12)


def test_gaussian_case_is_the_fisher_vector_of_the_literature():
    model = mixture("gaussian", gap=1.0)
    sets = [np.random.default_rng(i).normal(size=(t, 4)) * 2 for i, t in enumerate((1, 4, 9))]
    for x, found in zip(sets, of_points(model, sets)):
        g = as_sklearn(model).predict_proba(x)
        means, deviations = [], []
        for k in range(3):  # Sánchez et al. 2013, equations 17 and 18, on sums
            z = (x - model.locations_[k]) / model.scales_[k]
            root = np.sqrt(len(x) * model.weights_[k])
            means.append(sum(g[t, k] * z[t] for t in range(len(x))) / root)
            squares = sum(g[t, k] * (z[t] ** 2 - 1) / np.sqrt(2) for t in range(len(x)))
            deviations.append(squares / root)
        np.testing.assert_allclose(found, np.ravel([means, deviations]), atol=1e-10)


@pytest.mark.parametrize("kind", ["hglmm", "gmm", "lmm"])
def test_shape_norm_and_power(kind):
    text = sentences()
    model = FisherVector(kind, 3).fit(text)
    Z = model.transform(text)
    assert Z.shape == (60, 2 * 3 * 5) and Z.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1)
    assert len(model.get_feature_names_out()) == 30
    raw = clone(model).set_params(power=1.0, normalize=False).fit(text).transform(text)
    rooted = np.sign(raw) * np.sqrt(np.abs(raw))
    rooted /= np.linalg.norm(rooted, axis=1, keepdims=True)
    np.testing.assert_allclose(Z, rooted, atol=1e-12)


def test_the_paper_s_sizes():
    model = mixture("hybrid", K=30, d=300)
    assert plain(model).transform([np.ones((2, 300))]).shape == (1, 18_000)


def test_rotation_finds_independent_components():
    rng = np.random.default_rng(0)
    S = rng.laplace(size=(4000, 3))
    words = S @ rng.normal(size=(3, 3))
    text = Ragged(words, np.arange(0, 4001, 4))
    model = FisherVector("hglmm", 2).fit(text)
    unit = words / np.linalg.norm(words, axis=1, keepdims=True)
    rotated = (unit - model.mean_) @ model.rotation_
    np.testing.assert_allclose(np.cov(rotated.T), np.eye(3), atol=0.01)
    kept = FisherVector("hglmm", 2, ica=False).fit(text)
    np.testing.assert_array_equal(kept.rotation_, np.eye(3))


def test_rotation_of_words_that_span_less():
    rng = np.random.default_rng(0)
    flat = Ragged(rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)), np.arange(0, 301, 5))
    model = FisherVector(n_components=2).fit(flat)
    assert model.rotation_.shape == (6, 2)
    assert np.isfinite(model.transform(flat)).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_words_are_a_set_and_rows_stand_alone(seed):
    rng = np.random.default_rng(seed)
    text = sentences(20, seed=seed)
    model = FisherVector(n_components=2, ica=False).fit(text)
    Z = model.transform(text)
    shuffled = Ragged.from_list([rng.permutation(row) for row in text])
    np.testing.assert_allclose(model.transform(shuffled), Z, atol=1e-6)
    rows = rng.permutation(20)[:7]
    np.testing.assert_allclose(model.transform(text[rows]), Z[rows], atol=1e-6)
    twice = Ragged.from_list([np.vstack([row, row]) for row in text])  # the mean is the same
    np.testing.assert_allclose(model.transform(twice), Z, atol=1e-6)
    longer = Ragged.from_list([7 * row for row in text])  # words have unit length
    np.testing.assert_allclose(model.transform(longer), Z, atol=1e-6)


def test_sets_go_through_in_chunks(monkeypatch):
    text = sentences(longest=30)
    model = FisherVector(n_components=3).fit(text)
    expected = model.transform(text)
    for size in (1, 17, 40):
        monkeypatch.setattr("crossfit.extraction.fisher.CHUNK", size)
        np.testing.assert_allclose(model.transform(text), expected, atol=1e-9)


def test_unknown_words_and_empty_sentences():
    text = sentences()
    model = FisherVector(n_components=2).fit(text)
    expected = model.transform(text[[0, 1]])
    padded = Ragged.from_list(
        [np.vstack([text[0], np.zeros((3, 5))]), np.zeros((0, 5)), text[1], np.zeros((1, 5))]
    )
    with pytest.warns(UserWarning, match="2 of 4 sets hold no known word"):
        Z = model.transform(padded)
    np.testing.assert_allclose(Z[[0, 2]], expected, atol=1e-12)
    assert not Z[[1, 3]].any()
    again = FisherVector(n_components=2).fit(Ragged.from_list([*text, np.zeros((4, 5))]))
    np.testing.assert_allclose(again.transform(text[[0, 1]]), expected, atol=1e-12)


def test_forms_of_input_and_types():
    text = sentences(12)
    model = FisherVector(n_components=2).fit(text)
    Z = model.transform(text)
    np.testing.assert_array_equal(
        FisherVector(n_components=2).fit(list(text)).transform(list(text)), Z
    )
    # Words that are not in training: a training word may be a median, where sign(z) jumps.
    other = sentences(12, seed=1)
    single = Ragged(other.values.astype(np.float32), other.offsets)
    assert model.transform(single).dtype == np.float32
    np.testing.assert_allclose(model.transform(single), model.transform(other), atol=1e-3)
    block = np.stack([text[i][:2] for i in range(12)])
    np.testing.assert_allclose(model.transform(block), model.transform(list(block)))


def test_seeds():
    text = sentences(200)
    fits = [
        FisherVector(n_components=3, max_words=200, random_state=s).fit(text) for s in (1, 1, 2)
    ]
    one, same, other = (fit.transform(text[:5]) for fit in fits)
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
    kept = np.random.get_state()[1].copy()  # noqa: NPY002
    FisherVector(n_components=2, random_state=None).fit(text)
    HGLMM(2, random_state=None).fit(text.values)
    assert np.array_equal(np.random.get_state()[1], kept)  # noqa: NPY002


def test_survives_clone_pickle_and_bundle(tmp_path):
    text = sentences()
    model = FisherVector("gmm", 2, power=1.0).fit(text)
    Z = model.transform(text)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(text), Z)
    with pytest.raises(NotFittedError):
        clone(model).transform(text)
    read = load(save(model, tmp_path / "model"))
    np.testing.assert_array_equal(read.transform(text), Z)
    assert read.mixture_.kind == "gaussian"
    fresh = load(save(FisherVector(n_components=2), tmp_path / "fresh"))
    with pytest.raises(NotFittedError):
        fresh.transform(text)


def test_gmm_hglmm_and_cca_find_the_pair():
    # The words of a sentence are drawn around one topic, which the picture shows.
    rng = np.random.default_rng(0)
    topics = rng.normal(size=(12, 6))
    y = np.arange(240) % 12
    text = Ragged.from_list([topics[k] + 0.5 * rng.laplace(size=(8, 6)) for k in y])
    image = topics[y] @ rng.normal(size=(6, 10)) + 0.5 * rng.normal(size=(240, 10))
    views = Views(image=image, text=text)
    words = make_union(FisherVector("gmm", 3), FisherVector("hglmm", 3))
    pipeline = Pipeline(
        [
            ("features", ViewTransformer([("text", words)])),
            ("cca", CCA(6, reg=0.1, reg_style="spectral", power=1)),
        ]
    )
    pipeline.fit(views[:180])
    features = pipeline[:-1].transform(views[180:])
    assert features["text"].shape == (60, 2 * 2 * 3 * 6)
    single = FisherVector("gmm", 3).fit(views[:180]["text"]).transform(views[180:]["text"])
    np.testing.assert_allclose(features["text"][:, :36], single, atol=1e-12)
    assert pipeline.named_steps["cca"].score(features, y=y[180:]) > 0.6


# ---- hard inputs -------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-12, 1e-200, 1e12, 1e200])
def test_scale_of_words_does_not_matter(scale):
    text = sentences()
    expected = FisherVector(n_components=2).fit(text).transform(text)
    scaled = Ragged(text.values * scale, text.offsets)
    np.testing.assert_allclose(
        FisherVector(n_components=2).fit(scaled).transform(scaled), expected, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["hglmm", "gmm", "lmm"])
def test_more_components_than_different_words(kind):
    words = np.repeat(np.eye(4)[:3], 10, axis=0)
    text = Ragged(words, np.arange(0, 31, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # k-means finds three clusters
        model = FisherVector(kind, 5, ica=False).fit(text)
    Z = model.transform(text)
    assert np.isfinite(Z).all() and np.isfinite(model.mixture_.log_likelihood_).all()


@pytest.mark.parametrize(
    "params, words",
    [
        ({"n_components": 0}, "n_components"),
        ({"mixture": "student"}, "mixture"),
        ({"power": 0}, "power"),
        ({"max_words": 1}, "max_words"),
    ],
)
def test_bad_parameters_are_refused(params, words):
    with pytest.raises(ValueError, match=words):
        FisherVector(**params).fit(sentences())


def test_bad_data_are_refused():
    text = sentences()
    model = FisherVector(n_components=2).fit(text)
    with pytest.raises(TypeError, match=r"expects a Ragged of vectors.*got ndarray"):
        model.transform(np.ones((3, 5)))
    with pytest.raises(TypeError, match="got list"):
        model.transform(["a cat", "a dog"])
    with pytest.raises(ValueError, match="words of 5 dimensions, got 3"):
        model.transform([np.ones((2, 3))])
    with pytest.raises(ValueError, match="finite vectors"):
        FisherVector().fit([np.full((2, 3), np.nan)])
    with pytest.raises(ValueError, match="at least 30 known words for n_components=30, got 4"):
        FisherVector().fit([np.ones((4, 3))])
    with pytest.raises(ValueError, match="two different words"):
        FisherVector(n_components=1).fit([np.ones((4, 3))])
    with pytest.raises(ValueError, match="n_components=5 must not be more than the points"):
        HGLMM(5).fit(np.eye(3))
    with pytest.raises(ValueError, match="points of 4 coordinates, got 3"):
        mixture().predict_proba(np.eye(3))
