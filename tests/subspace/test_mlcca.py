"""Multi-label CCA against an explicit CCA of all weighted pairs, its limits and hard inputs."""

import warnings

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfit import Views, make_retrieval_scorer
from crossfit.subspace import CCA, MLCCA


def multilabel(n=60, p=6, q=5, c=4, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    Y = (rng.random((n, c)) < 0.4).astype(int)
    Y[:2] = [[1] + [0] * (c - 1), [0] * (c - 1) + [1]]
    X = Y @ rng.normal(size=(c, p)) + spread * rng.normal(size=(n, p)) + 3
    Z = Y @ rng.normal(size=(c, q)) + spread * rng.normal(size=(n, q)) - 2
    return X, Z, Y


def alike(A, B):
    return np.min(np.abs(np.sum(A * B, 0)) / np.linalg.norm(A, axis=0) / np.linalg.norm(B, axis=0))


def f(a, b, similarity, sigma):
    if similarity == "cosine":
        norm = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / norm if norm else 0.0
    return np.exp(-np.sum((a - b) ** 2) / sigma)


def weighted_pairs(X, Z, F, reg):
    """Compute CCA of every x with every z, by NumPy's weighted covariance and an eigenproblem."""
    i, j = np.indices(F.shape).reshape(2, -1)
    S = np.cov(np.c_[X[i], Z[j]].T, aweights=F.ravel(), ddof=0)
    p = X.shape[1]
    Sxx, Sxz, Szz = S[:p, :p].copy(), S[:p, p:], S[p:, p:].copy()
    Sxx += reg * np.trace(Sxx) / len(Sxx) * np.eye(len(Sxx))
    Szz += reg * np.trace(Szz) / len(Szz) * np.eye(len(Szz))
    values, A = scipy.linalg.eigh(Sxz @ np.linalg.solve(Szz, Sxz.T), Sxx)
    order = np.argsort(-values)
    means = np.average(X, axis=0, weights=F.sum(1)), np.average(Z, axis=0, weights=F.sum(0))
    return np.sqrt(np.maximum(values[order], 0)), A[:, order], means


@pytest.mark.parametrize(
    "similarity, sigma", [("exponential", 1.0), ("exponential", 5.0), ("cosine", 1)]
)
@pytest.mark.parametrize("reg", [0.25, 0])
def test_exact_variant_is_cca_of_all_weighted_pairs(similarity, sigma, reg):
    X, Z, Y = multilabel()
    F = np.array([[f(a, b, similarity, sigma) for b in Y] for a in Y])
    rho, A, means = weighted_pairs(X, Z, F, reg)
    method = MLCCA(3, label_similarity=similarity, sigma=sigma, reg=reg).fit(X, Z, Y)
    np.testing.assert_allclose(method.correlations_, rho[:3], atol=1e-9)
    assert alike(method.weights_["image"], A[:, :3]) > 1 - 1e-8
    np.testing.assert_allclose(method.means_["image"], means[0])
    np.testing.assert_allclose(method.means_["text"], means[1])


@pytest.mark.parametrize("similarity", ["exponential", "cosine"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_fast_variant_keeps_the_nearest_label_sets(similarity, k):
    X, Z, _ = multilabel()
    # The first 1, 2, 5, ... labels: the distances between these sets all differ.
    sets = np.array([[1] * m + [0] * (23 - m) for m in (1, 2, 5, 11, 23)])
    of_row = np.arange(60) % 5
    F = np.array([[f(a, b, similarity, 20.0) for b in sets] for a in sets])
    nearest = np.argsort(-F, axis=1)[:, :k]
    kept = np.zeros((5, 5))
    for i in range(5):
        for j in nearest[i]:
            kept[i, j] += 0.5
            kept[j, i] += 0.5
    assert k == 1 or np.any(kept == 0.5)
    rho, _, _ = weighted_pairs(X, Z, (F * kept)[np.ix_(of_row, of_row)], 0.25)
    method = MLCCA(3, label_similarity=similarity, sigma=20, n_neighbors=k)
    method.fit(X, Z, sets[of_row])
    np.testing.assert_allclose(method.correlations_, rho[:3], atol=1e-9)


def test_with_one_neighbour_only_equal_label_sets_pair():
    X, Z, Y = multilabel()
    one = MLCCA(n_neighbors=1).fit(X, Z, Y)
    narrow = MLCCA(sigma=1e-3).fit(X, Z, Y)
    np.testing.assert_allclose(one.correlations_, narrow.correlations_, atol=1e-9)


def test_with_all_neighbours_the_fast_variant_is_exact():
    X, Z, Y = multilabel()
    for similarity in ("exponential", "cosine"):
        exact = MLCCA(label_similarity=similarity).fit(X, Z, Y)
        fast = MLCCA(label_similarity=similarity, n_neighbors=10**6).fit(X, Z, Y)
        np.testing.assert_allclose(exact.correlations_, fast.correlations_, atol=1e-9)
        np.testing.assert_allclose(exact.similarity(X, Z), fast.similarity(X, Z), atol=1e-5)


def test_if_only_own_labels_count_it_is_cca():
    X, Z, _ = multilabel(40)
    own = np.array([list(map(int, f"{i:06b}")) for i in range(1, 41)])  # a set for each row
    for reg in (0, 0.25):
        expected = CCA(4, reg=reg, power=0).fit(X, Z)
        method = MLCCA(4, sigma=1e-2, reg=reg).fit(X, Z, own)
        np.testing.assert_allclose(method.correlations_, expected.correlations_, atol=1e-9)
        np.testing.assert_allclose(method.similarity(X, Z), expected.similarity(X, Z), atol=1e-5)


def test_cosine_of_one_label_is_cca_of_all_pairs_of_a_class(planted):
    views, y = planted(60)
    i, j = np.nonzero(y[:, None] == y)
    expected = CCA(3, reg=0.25, power=0)
    expected.fit(views["image"][i], views["text"][j])
    method = MLCCA(3, label_similarity="cosine").fit(views, y)
    np.testing.assert_allclose(method.correlations_, expected.correlations_, atol=1e-9)
    np.testing.assert_allclose(method.similarity(views), expected.similarity(views), atol=1e-5)
    indicator = (y[:, None] == np.unique(y)).astype(int)
    again = MLCCA(3, label_similarity="cosine").fit(views, indicator)
    np.testing.assert_allclose(again.similarity(views), method.similarity(views), atol=1e-6)


def test_pairs_do_not_matter_beyond_their_labels(planted):
    views, y = planted(60)
    order = np.arange(60)
    for label in np.unique(y):
        order[y == label] = np.random.default_rng(0).permutation(order[y == label])
    shuffled = views.replace(text=views["text"][order])
    expected = MLCCA().fit(views, y)
    np.testing.assert_allclose(
        MLCCA().fit(shuffled, y).similarity(views), expected.similarity(views), atol=1e-5
    )


def test_several_labels_help():
    X, Z, Y = multilabel(400, c=8, spread=1.5)
    scorer = make_retrieval_scorer("ndcg@10")
    train, test = slice(300), slice(300, None)
    views = Views(image=X[test], text=Z[test])
    found = scorer(MLCCA(5).fit(X[train], Z[train], Y[train]), views, Y[test])
    single = scorer(CCA(5, reg=0.25, power=0).fit(X[train], Z[train]), views, Y[test])
    assert found > single


def test_blocks_of_label_sets_add_up(monkeypatch):
    X, Z, Y = multilabel()
    expected = MLCCA().fit(X, Z, Y).correlations_
    monkeypatch.setattr("crossfit.subspace.mlcca.BLOCK", 7)
    monkeypatch.setattr("crossfit.subspace.mlcca.CHUNK", 13)
    np.testing.assert_allclose(MLCCA().fit(X, Z, Y).correlations_, expected, atol=1e-12)


# ---- invariances -------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["exponential", "cosine"]))
def test_invariances(seed, similarity):
    rng = np.random.default_rng(seed)
    X, Z, Y = multilabel(40, seed=seed)
    params = {"n_components": 2, "label_similarity": similarity}
    expected = MLCCA(**params).fit(X, Z, Y).similarity(X, Z)
    order = rng.permutation(40)
    permuted = MLCCA(**params).fit(X[order], Z[order], Y[order])
    np.testing.assert_allclose(permuted.similarity(X, Z), expected, atol=1e-4)
    twice = np.r_[np.arange(40), np.arange(40)]
    doubled = MLCCA(**params).fit(X[twice], Z[twice], Y[twice])
    np.testing.assert_allclose(doubled.similarity(X, Z), expected, atol=1e-4)
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    moved = X @ Q * 3 + 5
    rotated = MLCCA(**params).fit(moved, Z, Y)
    np.testing.assert_allclose(rotated.similarity(moved, Z), expected, atol=1e-4)
    constant = np.c_[X, np.full(40, 3.7)]
    # A constant column reduces the mean variance, to which the ridge is relative.
    padded = MLCCA(**params, reg=0).fit(constant, Z, Y).similarity(constant, Z)
    np.testing.assert_allclose(
        padded, MLCCA(**params, reg=0).fit(X, Z, Y).similarity(X, Z), atol=1e-4
    )
    units = 10 ** rng.uniform(-3, 3, size=6)
    one, other = (
        MLCCA(**params, standardize=True).fit(part, Z, Y).similarity(part, Z)
        for part in (X, X * units)
    )
    np.testing.assert_allclose(one, other, atol=1e-4)


# ---- hard inputs -------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale_of_a_view_does_not_matter(scale, dtype):
    X, Z, Y = multilabel()
    expected = MLCCA(2).fit(X, Z, Y).similarity(X, Z)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = (X * scale).astype(dtype)
        scores = MLCCA(2).fit(scaled, Z.astype(dtype), Y).similarity(scaled, Z.astype(dtype))
    np.testing.assert_allclose(scores, expected, atol=1e-3)


def test_components_beyond_the_rank_are_left_out():
    X, Z, Y = multilabel()
    with pytest.warns(UserWarning, match="n_components=50 is more than the views' rank allows"):
        method = MLCCA(50).fit(X, Z, Y)
    assert method.n_components_ == method.transform(X, Z)[0].shape[1] == 5
    y = np.arange(60) % 3  # class means have rank 2
    with pytest.warns(UserWarning, match="2 are kept"):
        assert MLCCA(4, label_similarity="cosine").fit(X, Z, y).n_components_ == 2


def test_correlated_columns_and_fewer_rows_than_columns():
    X, Z, Y = multilabel()
    double = np.hstack([X, X])
    for reg in (0, 0.25):
        expected = MLCCA(3, reg=reg).fit(X, Z, Y)
        method = MLCCA(3, reg=reg / 2).fit(double, Z, Y)
        if reg == 0:
            np.testing.assert_allclose(method.correlations_, expected.correlations_, atol=1e-9)
        assert np.isfinite(method.similarity(double, Z)).all()
    wide = np.random.default_rng(0).normal(size=(10, 40))
    assert np.isfinite(MLCCA(reg=0).fit(wide, Z[:10], Y[:10]).similarity(wide, Z[:10])).all()


def test_rows_without_labels():
    X, Z, Y = multilabel(80)
    Y[5:25] = 0
    some = Y.any(axis=1)
    # With the cosine they are similar to no other row, and are left out ...
    expected = MLCCA(label_similarity="cosine").fit(X[some], Z[some], Y[some])
    found = MLCCA(label_similarity="cosine").fit(X, Z, Y)
    np.testing.assert_allclose(found.correlations_, expected.correlations_, atol=1e-9)
    fast = MLCCA(label_similarity="cosine", n_neighbors=10**6).fit(X, Z, Y)
    np.testing.assert_allclose(fast.correlations_, expected.correlations_, atol=1e-9)
    # ... with the exponential they are similar to each other.
    assert np.isfinite(MLCCA().fit(X, Z, Y).similarity(X, Z)).all()


@pytest.mark.parametrize(
    "params, words",
    [
        ({"n_components": 0}, "'n_components' parameter"),
        ({"sigma": 0}, "'sigma' parameter.*Got 0"),
        ({"reg": -1}, "'reg' parameter"),
        ({"n_neighbors": 0}, "'n_neighbors' parameter.*Got 0"),
        ({"label_similarity": "dot"}, "'label_similarity' parameter"),
    ],
)
def test_bad_parameters_are_refused(params, words):
    with pytest.raises(ValueError, match=words):
        MLCCA(**params).fit(*multilabel())


def test_bad_data_are_refused():
    X, Z, Y = multilabel()
    with pytest.raises(ValueError, match="at least 2 classes"):
        MLCCA().fit(X, Z, np.ones((60, 1), int))
    with pytest.raises(ValueError, match="'text' is constant"):
        MLCCA().fit(X, np.ones((60, 4)), Y)
    with pytest.raises(ValueError, match="unlabelled"):
        MLCCA().fit(X, Z, np.full(60, -1))


# ---- real data ---------------------------------------------------------------------------------


def test_wikipedia_labels_help(wikipedia):
    scorer = make_retrieval_scorer()
    mlcca = MLCCA(5, standardize=True).fit(wikipedia.train, wikipedia.y_train)
    cca = CCA(5, reg=0.25, power=0, standardize=True).fit(wikipedia.train)
    reached, paired = (scorer(m, wikipedia.test, wikipedia.y_test) for m in (mlcca, cca))
    assert reached > paired + 0.005
