"""The measures of a diagnosis against kernels, loops, other packages and planted manifolds."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.cross_decomposition import CCA as SklearnCCA
from statsmodels.multivariate.cancorr import CanCorr

from crossfit import Views
from crossfit.diagnosis import (
    Estimate,
    held_out_correlations,
    intrinsic_dimension,
    linear_cka,
    mutual_knn,
    near_duplicates,
)
from crossfit.diagnosis.duplicates import joined
from crossfit.subspace import CCA


def related(n=200, p=8, q=5, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 3))
    X = Z @ rng.normal(size=(3, p)) + noise * rng.normal(size=(n, p))
    return X + 2, Z @ rng.normal(size=(3, q)) + noise * rng.normal(size=(n, q)) - 1


def centred_kernel(A):
    H = np.eye(len(A)) - 1 / len(A)
    return H @ A @ A.T @ H


# ---- linear CKA ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(200, 8, 5), (12, 30, 20), (15, 30, 5)])
def test_cka_is_that_of_explicit_kernels(shape):
    X, Z = related(*shape)
    K, L = centred_kernel(X), centred_kernel(Z)
    expected = np.sum(K * L) / np.sqrt(np.sum(K * K) * np.sum(L * L))
    assert linear_cka(X, Z).value == pytest.approx(expected, rel=1e-10)
    assert linear_cka(1e-3 * X, 1e90 * Z).value == pytest.approx(expected, rel=1e-10)
    assert linear_cka(csr_array(X), Z).value == pytest.approx(expected, rel=1e-10)


def test_chance_of_cka_is_its_mean_over_permutations():
    X, Z = related(25, 30, 20)
    rng = np.random.default_rng(1)
    drawn = [linear_cka(X, Z[rng.permutation(25)]).value for _ in range(3000)]
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert abs(linear_cka(X, Z).chance - np.mean(drawn)) < 4 * error
    assert not linear_cka(X, Z[rng.permutation(25)]).above_chance or np.std(drawn) > 0


def test_cka_does_not_change_under_rotations_scales_and_shifts():
    X, Z = related()
    Q = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0]
    assert linear_cka(3 * X @ Q + 5, Z).value == pytest.approx(linear_cka(X, Z).value)
    assert linear_cka(X, X @ Q).value == pytest.approx(1)


# ---- mutual neighbours ---------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4, 10])
def test_mutual_neighbours_are_those_of_a_loop(k):
    X, Z = related(60)

    def nearest(A, i):
        cosines = A @ A[i] / np.linalg.norm(A, axis=1) / np.linalg.norm(A[i])
        return set(np.argsort(-np.where(np.arange(len(A)) == i, -np.inf, cosines))[:k])

    shares = [len(nearest(X, i) & nearest(Z, i)) / k for i in range(60)]
    found = mutual_knn(X, Z, k)
    assert found.value == pytest.approx(np.mean(shares)) and found.low <= found.value <= found.high
    assert found.chance == k / 59


def test_neighbours_of_unrelated_views_are_mutual_at_the_chance_level():
    rng = np.random.default_rng(3)
    X, Z = rng.normal(size=(800, 6)), rng.normal(size=(800, 4))
    found = mutual_knn(X, Z, 10)
    assert found.low - 0.002 < found.chance < found.high + 0.002
    assert not Estimate(found.value, found.low - 0.002, found.high, found.chance).above_chance


# ---- canonical correlations ----------------------------------------------------------------------


def test_canonical_correlations_are_those_of_statsmodels_and_sklearn():
    X, Z = related(400)
    views = Views(image=X, text=Z)
    found = held_out_correlations(CCA(reg=0, power=0).fit(views), views)
    expected = CanCorr(X, Z).cancorr
    np.testing.assert_allclose(found.correlations, expected, rtol=1e-6)
    assert found.total.value == pytest.approx(expected.sum(), rel=1e-6)
    a, b = SklearnCCA(3, max_iter=5000, tol=1e-12).fit(X, Z).transform(X, Z)
    by_sklearn = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(found.correlations[:3], by_sklearn, rtol=1e-4)


def test_held_out_correlations_of_a_loop_and_of_permuted_pairs():
    X, Z = related(400)
    views = Views(image=X, text=Z)
    method = CCA(reg=0.1).fit(views[:200])
    found = held_out_correlations(method, views[200:])
    a, b = (method.encode(part[200:], name) for part, name in ((X, "image"), (Z, "text")))
    by_hand = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(a.shape[1])]
    np.testing.assert_allclose(found.correlations, by_hand, rtol=1e-6)
    assert found.n == 200 and found.n_above == 3
    assert found.total.low < found.total.value < found.total.high
    rng = np.random.default_rng(4)
    sums = [np.sum([np.corrcoef(a[:, i], b[order, i])[0, 1] for i in range(a.shape[1])])
            for order in (rng.permutation(200) for _ in range(400))]  # fmt: skip
    assert found.total.chance == pytest.approx(np.quantile(sums, 0.95), abs=0.06)
    random = views.replace(text=Z[rng.permutation(400)])
    unrelated = held_out_correlations(method, random[200:])
    assert unrelated.total.value < found.total.value / 3
    assert held_out_correlations(method, views[200:], random_state=0).total == found.total


# ---- intrinsic dimension -------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_the_dimension_of_a_planted_manifold_is_found(dimension):
    rng = np.random.default_rng(5)
    flat = rng.uniform(size=(3000, dimension))
    curved = np.hstack([np.sin(3 * flat), np.cos(3 * flat), flat**2]) @ rng.normal(
        size=(3 * dimension, 3 * dimension + 10)
    )
    found = intrinsic_dimension(curved + 100)
    assert found.value == pytest.approx(dimension, rel=0.08)
    assert found.low < found.value < found.high and found.high - found.low < 0.1 * dimension


def test_equal_rows_are_used_once_and_scales_do_not_matter():
    X = np.random.default_rng(6).normal(size=(500, 3))
    once = intrinsic_dimension(X)
    assert intrinsic_dimension(np.vstack([X, X, X[:7]])) == once
    assert intrinsic_dimension(1e-4 * X).value == pytest.approx(once.value, rel=1e-6)


def test_the_interval_covers_the_dimension_of_the_pareto_law():
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(100):
        found = intrinsic_dimension(rng.uniform(size=(150, 2)))
        covered += found.low <= 2 <= found.high
    assert covered > 75


# ---- near-duplicates -----------------------------------------------------------------------------


def with_twins(n=300, d=12, seed=8):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 3
    for i, j in ((0, 5), (5, 9), (20, n - 1)):
        X[j] = X[i] + 0.02 * rng.normal(size=d)
    return X


@pytest.mark.parametrize("block", [7, 64, 1024])
@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.9])
def test_near_duplicates_are_those_of_a_naive_loop(block, threshold, monkeypatch):
    from crossfit.diagnosis import duplicates

    monkeypatch.setattr(duplicates, "_BLOCK", block)
    X = with_twins()
    n = len(X)
    groups = np.arange(n) // 2
    splits = np.where(np.arange(n) < 200, "train", "test")
    U = X - X.mean(axis=0)
    U /= np.linalg.norm(U, axis=1, keepdims=True)
    expected = {}
    parent = list(range(n))

    def root(i):
        while parent[i] != i:
            i = parent[i]
        return i

    for i in range(n):
        for j in range(i + 1, n):
            if U[i] @ U[j] >= threshold and groups[i] != groups[j]:
                expected[i, j] = U[i] @ U[j]
                parent[root(j)] = root(i)
    found = near_duplicates(X, threshold, groups=groups, splits=splits, n_closest=10**6)
    assert found.n_pairs == len(expected) and {pair[:2] for pair in found.closest} == set(expected)
    for i, j, cosine in found.closest:
        assert cosine == pytest.approx(expected[i, j], abs=1e-5)
    assert [pair[2] for pair in found.closest] == sorted(expected.values(), reverse=True) or (
        np.all(np.diff([pair[2] for pair in found.closest]) <= 0)
    )
    roots = [root(i) for i in range(n)]
    assert np.array_equal(
        np.equal.outer(found.clusters, found.clusters), np.equal.outer(roots, roots)
    )
    across = {i for i, j in expected if splits[i] != splits[j]}
    assert found.across["train", "test"] == len(across)
    few = near_duplicates(X, threshold, groups=groups, n_closest=2)
    assert few.closest == found.closest[:2] and few.across == {}


def test_sizes_of_clusters():
    found = near_duplicates(with_twins(), 0.95)
    assert found.n_affected == 5 and found.largest == 3 and found.n_pairs == 4
    equal = near_duplicates(np.vstack([with_twins(), with_twins()[:2]]), 0.95)
    assert equal.n_equal == 2


def test_every_share_of_the_work_is_reported_once():
    done = []
    near_duplicates(with_twins(2500), 0.9, progress=done.append)
    assert sum(done) == pytest.approx(1) and min(done) > 0 and len(done) == 3


def test_groups_are_joined_by_any_of_several_codes():
    groups = np.array([7, 7, 3, 4, 5, 6])
    found = joined(groups, np.array([0, 1, 1, 2, 3, 4]), np.array([0, 1, 2, 3, 3, 4]))
    assert found.tolist() == [0, 0, 0, 1, 1, 2]
    assert joined(groups).tolist() == [0, 0, 1, 2, 3, 4]


# ---- bad input -----------------------------------------------------------------------------------

X, Z = related(40)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_cka(X, Z[:-1]), "same number of rows, one per pair, got 40 and 39"),
        (lambda: linear_cka(X[:2], Z[:2]), "at least 3 rows, got 2"),
        (lambda: linear_cka(np.ones((5, 2)), X[:5]), "X has no variance: all of its rows are"),
        (lambda: linear_cka(X, Z[:, 0]), "Z has shape .40,. where one vector per item is needed"),
        (lambda: linear_cka(["a", "b", "c"], Z[:3]), "X holds texts or objects where one vector"),
        (lambda: linear_cka(Views(a=X, b=X), Z), "X holds a Views where one vector"),
        (lambda: linear_cka(np.where(X > 3, np.nan, X), Z), "X contains NaN or infinity"),
        (lambda: mutual_knn(X, Z, 40), "k must be below the number of rows .40., got 40"),
        (lambda: mutual_knn(X, Z, 0), "'k' parameter of mutual_knn must be an int in"),
        (lambda: intrinsic_dimension(np.ones((50, 3))), "at least 10 different rows, got 1"),
        (lambda: intrinsic_dimension(X, discard=1), "'discard' parameter of intrinsic_dimension"),
        (lambda: near_duplicates(X, 1.0), "'threshold' parameter of near_duplicates must be"),
        (lambda: near_duplicates(X, groups=[1, 2]), "one entry per item, that is shape .40,."),
        (lambda: near_duplicates(X, splits=["a"]), "one entry per item, that is shape .40,."),
        (lambda: held_out_correlations(CCA(), X), "held_out_correlations expects Views, got"),
        (lambda: held_out_correlations(CCA(), Views(a=X, b=X, c=X)),
         "compares two views, got a, b, c; select two of them by views.select"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_sentence(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
