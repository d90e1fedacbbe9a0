"""BLM, GMLDA and GMMFA: scikit-learn's LDA, CCA and PLS as limits, naive graphs, bad inputs."""

import numpy as np
import pytest
import scipy.linalg
from sklearn.cross_decomposition import PLSSVD
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import crossfit.subspace.gma
from crossfit.metrics import mean_average_precision
from crossfit.subspace import BLM, CCA, GMLDA, GMMFA
from crossfit.subspace.gma import (
    _laplacian,
    _nearest_of_different_classes,
    _nearest_of_one_class,
)


def data(n=120, dims=(7, 5), classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    Z = 2 * rng.normal(size=(classes, 4))[y] + rng.normal(size=(n, 4))
    X, T = (
        Z @ rng.normal(size=(4, d)) + rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
        for d in dims
    )
    return X, T, y


X, T, Y = data()
XC, TC = X - X.mean(0), T - T.mean(0)
WHOLE = {"variance": 1.0, "standardize": False, "reg": 0.0}


def alike(A, B):
    """Return the smallest absolute cosine between matching columns."""
    return np.min(np.abs(np.sum(A * B, 0)) / np.linalg.norm(A, axis=0) / np.linalg.norm(B, axis=0))


def scatters(A, y):
    means = np.array([A[y == c].mean(0) for c in np.unique(y)])
    within = sum((A[y == c] - m).T @ (A[y == c] - m) for c, m in zip(np.unique(y), means))
    counts = np.unique(y, return_counts=True)[1]
    centred = means - A.mean(0)
    return (centred * counts[:, None]).T @ centred, within, centred


# ---- members equal to other methods -----------------------------------------------------


class _Uncoupled(BLM):
    """The family with A = 0: PLS if B = I, CCA if B = X'X."""

    of_variance = False

    def _scatters(self, role, views, joint, P, labels):
        _, B = super()._scatters(role, views, joint, P, labels)
        if self.of_variance:
            B = (joint.n - 1) * (P.T @ joint(role) @ P)
        return np.zeros_like(B), B


def test_without_a_it_is_pls():
    method = _Uncoupled(4, alpha=1, **WHOLE).fit(X, T)
    pls = PLSSVD(4, scale=False).fit(X, T)
    assert alike(method.weights_["image"], pls.x_weights_) > 1 - 1e-10
    assert alike(method.weights_["text"], pls.y_weights_) > 1 - 1e-10


@pytest.mark.parametrize("a_too", [False, True])
def test_with_the_variance_held_fixed_it_is_cca(a_too):
    class Fixed(_Uncoupled):
        of_variance = True

        def _scatters(self, *given):
            A, B = super()._scatters(*given)
            return (B if a_too else A), B

    method = Fixed(4, alpha=1, **WHOLE).fit(XC, TC / np.linalg.norm(TC) * np.linalg.norm(XC))
    cca = CCA(4, reg=0).fit(X, T)
    assert alike(method.weights_["image"], cca.weights_["image"]) > 1 - 1e-8
    assert alike(method.weights_["text"], cca.weights_["text"]) > 1 - 1e-8
    # The traces are equal, so that γ = 1 and the eigenvalues are the correlations.
    np.testing.assert_allclose(method.eigenvalues_ - a_too, cca.correlations_, atol=1e-9)


def test_a_member_without_components_beyond_the_coupling_warns():
    with pytest.warns(UserWarning, match="n_components=9 is more than.*rank allows; 5 are kept"):
        method = _Uncoupled(9, alpha=1, **WHOLE).fit(X, T)
    assert method.transform(X).shape == (120, 5)


@pytest.mark.parametrize("role, part", [("image", X), ("text", T)])
def test_gmlda_without_coupling_is_lda_of_each_view(role, part):
    gmlda = GMLDA(6, alpha=0, **WHOLE).fit(X, T, Y)
    own = np.linalg.norm(gmlda.weights_[role], axis=0) > 1e-9
    assert own.sum() == 3
    lda = LinearDiscriminantAnalysis(solver="eigen").fit(part, Y)
    assert alike(gmlda.weights_[role][:, own], lda.scalings_[:, :3]) > 1 - 1e-8


def test_gmlda_keeps_as_many_as_the_classes_tell_apart():
    with pytest.warns(UserWarning, match="GMLDA: n_components=20"):
        gmlda = GMLDA(20, alpha=0, **WHOLE).fit(X, T, Y)
    assert gmlda.n_components_ == 6  # three for each view


def test_blm_couples_nothing_with_alpha_0_and_everything_with_a_large_one():
    pca = PCA(3).fit(X)
    apart = BLM(12, alpha=0, **WHOLE).fit(X, T)
    own = np.linalg.norm(apart.weights_["image"], axis=0) > 1e-9
    assert alike(apart.weights_["image"][:, own][:, :3], pca.components_.T) > 1 - 1e-8
    pls = PLSSVD(3, scale=False).fit(X, T)
    coupled = BLM(3, alpha=1e9, **WHOLE).fit(X, T)
    assert alike(coupled.weights_["image"], pls.x_weights_) > 1 - 1e-6
    # With α = 1: the principal components of both views joined (equal traces of B).
    joint = PCA(3).fit(np.hstack([X[:, :5], T]))
    one = BLM(3, alpha=1, **WHOLE).fit(X[:, :5], T)
    stacked = np.vstack(list(one.weights_.values()))
    assert alike(stacked, joint.components_.T) > 1 - 1e-8


# ---- the pencil by its definition -------------------------------------------------------


@pytest.mark.parametrize("align", ["pairs", "means"])
@pytest.mark.parametrize("alpha", [0.5, 30.0])
@pytest.mark.parametrize("standardize", [False, True])
def test_gmlda_solves_its_pencil(align, alpha, standardize):
    gmlda = GMLDA(3, alpha=alpha, align=align, variance=1.0, reg=0.0, standardize=standardize).fit(
        X, T, Y
    )
    scale = [part.std(0, ddof=1) if standardize else np.ones(part.shape[1]) for part in (X, T)]
    A, B = XC / scale[0], TC / scale[1]
    (b1, w1, m1), (b2, w2, m2) = scatters(A, Y), scatters(B, Y)
    C = alpha * (A.T @ B if align == "pairs" else m1.T @ m2)
    left = np.block([[b1, C], [C.T, b2]])
    right = scipy.linalg.block_diag(w1, np.trace(w1) / np.trace(w2) * w2)
    values, vectors = scipy.linalg.eigh(left, right)
    np.testing.assert_allclose(gmlda.eigenvalues_, values[::-1][:3], rtol=1e-8)
    stacked = np.vstack([w * s[:, None] for w, s in zip(gmlda.weights_.values(), scale)])
    assert alike(stacked, vectors[:, ::-1][:, :3]) > 1 - 1e-8
    np.testing.assert_allclose(stacked.T @ right @ stacked, np.eye(3), atol=1e-8)


def naive_graphs(A, y, k, between):
    n = len(A)
    D = np.array([[np.linalg.norm(a - b) for b in A] for a in A])
    C, P = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        same = [j for j in range(n) if j != i and y[j] == y[i]]
        for j in sorted(same, key=lambda j: D[i, j])[:k]:
            C[i, j] = C[j, i] = 1
    pairs = [(D[i, j], i, j) for i in range(n) for j in range(i) if y[i] != y[j]]
    for _, i, j in sorted(pairs)[:between]:
        P[i, j] = P[j, i] = 1
    return [np.diag(W.sum(1)) - W for W in (C, P)]


@pytest.mark.parametrize("k, between", [(1, 1), (5, 40), (500, 10**6)])
def test_graphs_equal_the_loop(k, between, monkeypatch):
    monkeypatch.setattr(crossfit.subspace.gma, "_MEGABYTES", 0.02)  # several chunks
    compact, separate = naive_graphs(X, Y, k, between)
    found = _laplacian(_nearest_of_one_class(X, Y, k)).toarray()
    np.testing.assert_array_equal(found, compact)
    found = _laplacian(_nearest_of_different_classes(X, Y, between)).toarray()
    np.testing.assert_array_equal(found, separate)


@pytest.mark.parametrize("align", ["pairs", "means"])
def test_gmmfa_solves_its_pencil(align):
    gmmfa = GMMFA(4, alpha=3.0, n_within=6, n_between=50, align=align, **WHOLE).fit(X, T, Y)
    (C1, P1), (C2, P2) = (naive_graphs(part, Y, 6, 50) for part in (X, T))
    C = 3.0 * (XC.T @ TC if align == "pairs" else scatters(X, Y)[2].T @ scatters(T, Y)[2])
    left = np.block([[X.T @ P1 @ X, C], [C.T, T.T @ P2 @ T]])
    b1, b2 = X.T @ C1 @ X, T.T @ C2 @ T
    right = scipy.linalg.block_diag(b1, np.trace(b1) / np.trace(b2) * b2)
    values, vectors = scipy.linalg.eigh(left, right)
    np.testing.assert_allclose(gmmfa.eigenvalues_, values[::-1][:4], rtol=1e-7)
    assert alike(np.vstack(list(gmmfa.weights_.values())), vectors[:, ::-1][:, :4]) > 1 - 1e-7


def test_principal_components_first():
    pca = PCA(0.8).fit(X)
    assert 1 < pca.n_components_ < 7
    direct = GMLDA(3, variance=0.8, standardize=False, reg=0).fit(X, T, Y)
    # The same on the components, all of which are then kept.
    text = PCA(0.8).fit(T)
    reduced = GMLDA(3, **WHOLE).fit(pca.transform(X), text.transform(T), Y)
    np.testing.assert_allclose(direct.eigenvalues_, reduced.eigenvalues_, rtol=1e-8)
    scores = reduced.similarity(pca.transform(X), text.transform(T))
    np.testing.assert_allclose(direct.similarity(X, T), scores, atol=1e-5)


def test_an_item_of_many_pairs_counts_once_in_the_graphs():
    from crossfit import Views

    index = np.repeat(np.arange(120), 2)
    views = Views.from_captions(X, np.vstack([T, T + 0.1])[np.argsort(np.tile(np.arange(120), 2))],
                                index)  # fmt: skip
    method = GMMFA(3, n_within=6, n_between=50, **WHOLE)
    joint = crossfit.subspace._joint.joint_covariance(method_with_names(method), views)
    once = method._scatters("image", views, joint, np.eye(7), Y[index])
    C, P = naive_graphs(X, Y, 6, 50)
    np.testing.assert_allclose(once[0], X.T @ P @ X, atol=1e-6)
    np.testing.assert_allclose(once[1], X.T @ C @ X, atol=1e-6)


def method_with_names(method):
    method.views_in_ = {"image": "image", "text": "text"}
    return method


# ---- bad inputs -------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [GMLDA, GMMFA])
@pytest.mark.parametrize("copies", [False, True])
def test_classes_without_variation_are_refused(cls, copies):
    if copies:
        x, y = np.repeat(X[:6], 3, axis=0), np.repeat(np.arange(6), 3)
    else:
        x, y = X[:10], np.arange(10)
    with pytest.raises(ValueError, match=f"{cls.__name__}: view 'image' does not vary within cl"):
        cls().fit(x, T[: len(x)], y)


@pytest.mark.parametrize(
    "cls, given, message",
    [
        (GMLDA, {"alpha": -1}, "'alpha' parameter.*Got -1"),
        (GMLDA, {"align": "both"}, "'align' parameter.*Got 'both'"),
        (BLM, {"variance": 0}, "'variance' parameter.*Got 0"),
        (BLM, {"variance": 1.5}, "'variance' parameter.*Got 1.5"),
        (GMMFA, {"n_within": 0}, "'n_within' parameter.*Got 0"),
        (GMMFA, {"n_between": 2.5}, "'n_between' parameter.*Got 2.5"),
        (BLM, {"n_components": 0}, "'n_components' parameter.*Got 0"),
        (BLM, {"reg": np.nan}, "'reg' parameter.*Got nan"),
    ],
)
def test_bad_parameters(cls, given, message):
    with pytest.raises(ValueError, match=message):
        cls(**given).fit(X, T, Y if cls is not BLM else None)


# ---- real features ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, expected, tolerance",
    [
        (GMLDA(9, alpha=100, variance=1.0), (0.2602, 0.2111), 0.003),
        (GMMFA(7, alpha=10, variance=1.0), (0.2721, 0.2078), 0.01),
    ],
)
def test_wikipedia(wikipedia, method, expected, tolerance):
    method.fit(wikipedia.train, wikipedia.y_train)
    scores, y = method.similarity(wikipedia.test), wikipedia.y_test
    assert mean_average_precision(scores, y, y) == pytest.approx(expected[0], abs=tolerance)
    assert mean_average_precision(scores.T, y, y) == pytest.approx(expected[1], abs=tolerance)


def test_pairs_align_better_than_class_means_on_wikipedia(wikipedia):
    y = wikipedia.y_test
    for alpha, pairs, means in ((10, 0.235, 0.171), (100, 0.236, 0.185)):
        for align, expected in (("pairs", pairs), ("means", means)):
            method = GMLDA(9, alpha=alpha, align=align, variance=1.0)
            scores = method.fit(wikipedia.train, wikipedia.y_train).similarity(wikipedia.test)
            found = np.mean([mean_average_precision(s, y, y) for s in (scores, scores.T)])
            assert found == pytest.approx(expected, abs=0.003)
