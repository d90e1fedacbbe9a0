"""JFSSL against its objective, a sum over all pairs of items, limit cases and hard inputs."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfit import Views, make_retrieval_scorer
from crossfit.subspace import JFSSL
from crossfit.subspace._graph import neighbor_graph, quadratic_form
from crossfit.subspace.jfssl import EPS


def dense_graph(X, k, beta):
    """Return the weights within a view, by the definition and a loop over rows."""
    n = len(X)
    D = np.linalg.norm(X[:, None] - X[None], axis=2)
    near = [[j for j in np.argsort(D[i]) if j != i][:k] for i in range(n)]
    width = np.mean([D[i, j] for i in range(n) for j in near[i]])
    W = np.zeros((n, n))
    for i in range(n):
        for j in near[i]:
            weight = beta * np.exp(-(D[i, j] ** 2) / (2 * width**2)) / 2
            W[i, j] += weight
            W[j, i] += weight
    return W


def dense_objective(method, Xs, y, weights):
    """Return the objective over the full graph of all items of all views."""
    Xs = [X - X.mean(0) for X in Xs]
    Y = (y[:, None] == np.unique(y)).astype(float)
    Y -= Y.mean(0)
    same = (y[:, None] == y).astype(float)
    blocks = [[same for _ in Xs] for _ in Xs]
    for p, X in enumerate(Xs):
        blocks[p][p] = dense_graph(X, method.n_neighbors, method.beta)
    W = np.block(blocks)
    L = np.diag(W.sum(1)) - W
    F = np.vstack([X @ w for X, w in zip(Xs, weights)])
    fit = sum(np.sum((X @ w - Y) ** 2) for X, w in zip(Xs, weights))
    sparse = sum(np.sum(np.sqrt(np.sum(w**2, axis=1) + EPS)) for w in weights)
    return fit + method.l1 * sparse + method.l2 * np.sum(F * (L @ F))


@pytest.mark.parametrize("dims", [(6, 5), (6, 5, 4)])
def test_converges_to_a_stationary_point_of_the_whole_objective(planted, dims):
    views, y = planted(60, dims, names=("image", "text", "sound")[: len(dims)])
    method = JFSSL(0.7, 0.05, beta=2.0, n_neighbors=4, max_iter=500, tol=0, standardize=False).fit(
        views, y
    )
    Xs = [views[name] for name in views.names]
    weights = [method.weights_[name] for name in views.names]
    value = dense_objective(method, Xs, y, weights)
    np.testing.assert_allclose(method.objective_[-1], value, rtol=1e-10)
    for p, w in enumerate(weights):
        gradient = np.empty_like(w)
        for at in np.ndindex(w.shape):
            step = np.zeros_like(w)
            step[at] = 1e-5
            ends = [
                dense_objective(method, Xs, y, [*weights[:p], w + sign * step, *weights[p + 1 :]])
                for sign in (1, -1)
            ]
            gradient[at] = (ends[0] - ends[1]) / 2e-5
        assert np.abs(gradient).max() < 1e-4 * value


@pytest.mark.parametrize("l1, l2", [(0, 0), (0.1, 0.1), (10, 0), (0, 5), (30, 1e-3), (1e3, 1e3)])
def test_objective_never_rises(planted, l1, l2):
    views, y = planted(80)
    steps = np.diff(JFSSL(l1, l2, tol=0, max_iter=40).fit(views, y).objective_)
    assert len(steps) >= 1
    assert np.all(steps <= 1e-9 * len(y))


def test_without_penalties_it_is_least_squares(planted):
    views, y = planted(80)
    method = JFSSL(0, 0, standardize=False).fit(views, y)
    Y = (y[:, None] == np.unique(y)).astype(float)
    for name in views.names:
        X = views[name] - views[name].mean(0)
        expected = np.linalg.lstsq(X, Y, rcond=None)[0]
        np.testing.assert_allclose(method.weights_[name], expected, atol=1e-10)


def test_without_graph_the_views_do_not_meet(planted):
    views, y = planted(80)
    other = views.replace(text=views["text"] ** 3)
    one, two = (JFSSL(5, 0).fit(v, y).weights_["image"] for v in (views, other))
    np.testing.assert_allclose(one, two, rtol=1e-8)
    coupled = [JFSSL(5, 1).fit(v, y).weights_["image"] for v in (views, other)]
    assert np.abs(coupled[0] - coupled[1]).max() > 1e-4


def test_features_without_information_are_switched_off(planted):
    views, y = planted(200)
    noise = np.random.default_rng(0).normal(size=(200, 10))
    views = views.replace(image=np.hstack([views["image"], noise]))
    norms = np.linalg.norm(
        JFSSL(50, 0, max_iter=300, tol=0, standardize=False).fit(views, y).weights_["image"], axis=1
    )
    assert norms[6:].max() < 1e-3 < norms[:6].max() / 10


def test_the_graph_brings_same_labels_together(planted):
    views, y = planted(100, noise=1.0)

    def distance(l2):
        Z = JFSSL(0.1, l2).fit(views, y).transform(views)
        Z = {name: Z[name] / np.linalg.norm(Z[name]) for name in Z.names}
        return np.linalg.norm(Z["image"] - Z["text"])

    assert distance(1.0) < distance(0.0)


def test_edges_join_distinct_items():
    rng = np.random.default_rng(0)
    index = np.repeat(np.arange(20), 5)
    images, texts = rng.normal(size=(20, 4)), rng.normal(size=(100, 3))
    y = rng.integers(3, size=20)
    method = JFSSL(0.1, 0.5, n_neighbors=3, tol=0, max_iter=300, standardize=False)
    method.fit(Views.from_captions(images, texts, index), y[index])
    # The same by definition: images are weighted by their pairs, but are neighbours once.
    X, Z = images - images[index].mean(0), texts - texts.mean(0)
    W = np.zeros((120, 120))
    W[:20, :20], W[20:, 20:] = dense_graph(X, 3, 1.0), dense_graph(Z, 3, 1.0)
    pairs = np.zeros((100, 20))
    pairs[np.arange(100), index] = 1
    row_weights = (y[index][:, None] == y[index]).astype(float)
    W[:20, 20:] = pairs.T @ row_weights
    W[20:, :20] = W[:20, 20:].T
    L = np.diag(W.sum(1)) - W
    F = np.vstack([X @ method.weights_["image"], Z @ method.weights_["text"]])
    Y = (y[index][:, None] == np.unique(y)).astype(float)
    Y -= Y.mean(0)
    expected = (
        np.sum((X[index] @ method.weights_["image"] - Y) ** 2)
        + np.sum((Z @ method.weights_["text"] - Y) ** 2)
        + 0.1 * sum(np.sum(np.sqrt(np.sum(w**2, 1) + EPS)) for w in method.weights_.values())
        + 0.5 * np.sum(F * (L @ F))
    )
    np.testing.assert_allclose(method.objective_[-1], expected, rtol=1e-10)


def test_neighbor_graph_is_that_of_the_definition():
    X = np.random.default_rng(0).normal(size=(30, 3))
    graph = neighbor_graph(X, 4, lambda d: np.exp(-(d**2) / (2 * d.mean() ** 2)))
    np.testing.assert_allclose(graph.toarray(), dense_graph(X, 4, 1.0), atol=1e-12)
    A = sp.csr_array(dense_graph(X, 4, 1.0))
    np.testing.assert_allclose(quadratic_form(X, A), X.T @ A.toarray() @ X, atol=1e-12)
    assert neighbor_graph(X[:3], 10, np.ones_like).sum() == 6  # all the other rows


# ---- invariances -------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_invariances(seed):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(40) % 3)
    X, Z = rng.normal(size=(40, 5)) + y[:, None], rng.normal(size=(40, 4)) - y[:, None]
    expected = JFSSL(0.5, 0.1).fit(X, Z, y).similarity(X, Z)
    order = rng.permutation(40)
    permuted = JFSSL(0.5, 0.1).fit(X[order], Z[order], y[order])
    np.testing.assert_allclose(permuted.similarity(X, Z), expected, atol=1e-4)
    shifted = JFSSL(0.5, 0.1).fit(X + 7, Z, y)
    np.testing.assert_allclose(shifted.similarity(X + 7, Z), expected, atol=1e-4)
    constant = np.c_[X, np.full(40, 3.7)]
    padded = JFSSL(0.5, 0.1).fit(constant, Z, y)
    np.testing.assert_allclose(padded.similarity(constant, Z), expected, atol=1e-4)
    # Feature selection depends on the axes; without it they do not matter.
    Q = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    free = JFSSL(0, 0.1, standardize=False).fit(X, Z, y).similarity(X, Z)
    rotated = JFSSL(0, 0.1, standardize=False).fit(X @ Q, Z, y).similarity(X @ Q, Z)
    np.testing.assert_allclose(rotated, free, atol=1e-4)
    named = JFSSL(0.5, 0.1).fit(X, Z, np.array(["b", "a", "c"])[y])
    np.testing.assert_allclose(named.similarity(X, Z), expected, atol=1e-4)


# ---- hard inputs -------------------------------------------------------------------------------


def test_copies_of_one_row_are_neighbours_of_each_other(planted):
    views, y = planted(30)
    twice = np.repeat(np.arange(30), 12)  # all ten neighbours at distance 0
    scores = JFSSL().fit(views[twice], y[twice]).similarity(views)
    assert np.isfinite(scores).all()
    assert make_retrieval_scorer()(JFSSL().fit(views[twice], y[twice]), views, y) > 0.5


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale_of_a_view_does_not_matter_when_standardised(planted, scale, dtype):
    views, y = planted(80)
    expected = JFSSL().fit(views, y).similarity(views)
    scaled = views.replace(image=(views["image"] * scale).astype(dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = JFSSL().fit(scaled, y).similarity(scaled)
        raw = JFSSL(standardize=False).fit(scaled, y).similarity(scaled)
    np.testing.assert_allclose(scores, expected, atol=1e-3)
    assert np.isfinite(raw).all()


def test_correlated_columns_and_fewer_rows_than_columns(planted):
    views, y = planted(80)
    double = views.replace(image=np.hstack([views["image"], views["image"]]))
    for l1 in (0, 0.1):
        scores = JFSSL(l1).fit(double, y).similarity(double)
        # Copies share the weight of a column; the sparsity term is then slightly smaller.
        np.testing.assert_allclose(scores, JFSSL(l1).fit(views, y).similarity(views), atol=1e-2)
    rng = np.random.default_rng(0)
    wide = views[:10].replace(image=rng.normal(size=(10, 50)))
    for l1, l2 in ((0, 0), (0.1, 0.1)):
        assert np.isfinite(JFSSL(l1, l2).fit(wide, y[:10]).similarity(wide)).all()


@pytest.mark.parametrize(
    "params, words",
    [
        ({"l1": -1}, "'l1' parameter.*Got -1"),
        ({"l2": np.nan}, "'l2' parameter.*Got nan"),
        ({"beta": "much"}, "'beta' parameter"),
        ({"n_neighbors": 0}, "'n_neighbors' parameter.*Got 0"),
        ({"max_iter": 2.5}, "'max_iter' parameter"),
    ],
)
def test_bad_parameters_are_refused(planted, params, words):
    with pytest.raises(ValueError, match=words):
        JFSSL(**params).fit(*planted(30))


def test_bad_data_are_refused(planted):
    views, y = planted(30)
    with pytest.raises(ValueError, match="at least 2 classes"):
        JFSSL().fit(views, np.zeros(30, int))
    with pytest.raises(ValueError, match="unlabelled"):
        JFSSL().fit(views, np.where(y == 0, -1, y))
    with pytest.raises(ValueError, match="'text' is constant"):
        JFSSL().fit(views.replace(text=np.ones((30, 4))), y)


# ---- real data ---------------------------------------------------------------------------------


def test_wikipedia_table(wikipedia):
    method = JFSSL(0.1, 0.1, n_neighbors=10).fit(wikipedia.train, wikipedia.y_train)
    for direction, expected in (("i2t", 0.2711), ("t2i", 0.2132)):
        scorer = make_retrieval_scorer("map@all", direction=direction)
        assert scorer(method, wikipedia.test, wikipedia.y_test) == pytest.approx(expected, abs=3e-3)
