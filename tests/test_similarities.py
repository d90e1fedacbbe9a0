"""Similarities: every measure against loops and scipy, ties, chunks, fitted similarities."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, rel_entr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from crossfit import Views
from crossfit.similarities import (
    MEASURES,
    KNNPosterior,
    PosteriorOverPrior,
    fill_blocks,
    pairwise_similarity,
    resolve,
)

NAMES = ["cosine", "dot", "correlation", "l2", "l1", "kl", "kl_reversed"]


def kl(p, q):
    p, q = p / p.sum(), q / q.sum()
    return sum(a * np.log(a / (b + 1e-12)) for a, b in zip(p, q) if a > 0)


ORACLES = {
    "cosine": lambda a, b: a @ b / np.sqrt(a @ a) / np.sqrt(b @ b),
    "dot": lambda a, b: sum(x * y for x, y in zip(a, b)),
    "correlation": lambda a, b: np.corrcoef(a, b)[0, 1],
    "l2": lambda a, b: -np.sqrt(sum((x - y) ** 2 for x, y in zip(a, b))),
    "l1": lambda a, b: -sum(abs(x - y) for x, y in zip(a, b)),
    "kl": lambda a, b: -kl(a, b),
    "kl_reversed": lambda a, b: -kl(b, a),
}


def rows(measure, n=9, m=7, d=5, seed=0):
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    if measure.startswith("kl"):
        A, B = np.abs(A) + 0.1, np.abs(B) + 0.1
        A[0, 1] = B[2, 3] = 0  # a zero on either side
    return A, B


def test_all_measures_are_tested():
    assert set(MEASURES) == set(NAMES)


@pytest.mark.parametrize("measure", NAMES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_measures_against_the_naive_loop(measure, dtype):
    A, B = (part.astype(dtype) for part in rows(measure))
    S = pairwise_similarity(A, B, measure)
    assert S.dtype == np.float32 and S.shape == (9, 7)
    expected = [[ORACLES[measure](a.astype(float), b.astype(float)) for b in B] for a in A]
    np.testing.assert_allclose(S, expected, rtol=2e-6, atol=2e-6)


def test_kl_against_scipy():
    A, B = rows("kl")
    A, B = A / A.sum(axis=1, keepdims=True), B / B.sum(axis=1, keepdims=True)
    expected = -rel_entr(A[:, None], B[None] + 1e-12).sum(axis=-1)
    np.testing.assert_allclose(pairwise_similarity(A, B, "kl"), expected, rtol=1e-6, atol=1e-6)
    assert np.isfinite(expected).all()


@settings(deadline=None, max_examples=100)
@given(hnp.arrays(float, (6, 4), elements=st.floats(0, 1)))
def test_kl_is_finite_at_most_zero_and_zero_of_itself(A):
    A[:, 0] += 0.01
    S = pairwise_similarity(A, A, "kl")
    assert np.isfinite(S).all() and S.max() <= 1e-6
    np.testing.assert_allclose(np.diag(S), 0, atol=1e-6)
    assert np.array_equal(S, pairwise_similarity(A, A, "kl_reversed").T)


@pytest.mark.parametrize("measure", NAMES)
def test_chunks_change_nothing(measure):
    A, B = rows(measure, n=53, m=31, d=17)
    whole = pairwise_similarity(A, B, measure)
    for size in (1, 7, 31, 1000):
        assert np.array_equal(pairwise_similarity(A, B, measure, chunk_size=size), whole)


@pytest.mark.parametrize("measure", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_rows_get_exactly_equal_scores(measure, dtype):
    A, B = (part.astype(dtype) for part in rows(measure, n=40, m=300, d=33))
    copies = np.random.default_rng(1).integers(0, 25, 300)
    S = pairwise_similarity(A, B[copies], measure, chunk_size=128)
    for item in range(25):
        same = S[:, copies == item]
        assert np.array_equal(same, np.repeat(same[:, :1], same.shape[1], axis=1))
    T = pairwise_similarity(B[copies], A, measure, chunk_size=128)
    for item in range(25):
        assert len(np.unique(T[copies == item], axis=0)) == 1


@pytest.mark.parametrize("measure", ["cosine", "correlation"])
@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cosines_are_free_of_scale(measure, scale, dtype):
    A, B = rows(measure)
    expected = pairwise_similarity(A, B, measure)
    found = pairwise_similarity((scale * A).astype(dtype), B, measure)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_permuting_rows_permutes_scores(data):
    measure = data.draw(st.sampled_from(NAMES))
    A, B = rows(measure, seed=data.draw(st.integers(0, 99)))
    p, q = (data.draw(st.permutations(range(len(part)))) for part in (A, B))
    whole = pairwise_similarity(A, B, measure)
    assert np.array_equal(pairwise_similarity(A[p], B[q], measure), whole[p][:, q])


def test_rows_without_direction_are_like_nothing():
    A = np.array([[0.0, 0, 0], [1, 2, 3]])
    assert pairwise_similarity(A, A, "cosine").tolist() == [[0, 0], [0, 1]]
    constant = np.array([[0.1, 0.1, 0.1], [1, 2, 3]])
    for dtype in (np.float32, np.float64):
        S = pairwise_similarity(constant.astype(dtype), constant.astype(dtype), "correlation")
        assert S[0].tolist() == [0, 0] and S[1, 1] == 1


@pytest.mark.parametrize(
    "A, B, measure, message",
    [
        (np.eye(2), np.eye(3), "cosine", "the same number of columns, got 2 and 3"),
        (np.ones(3), np.eye(3), "dot", r"shape \(n, d\).*\(3,\).*first"),
        (np.eye(3), np.ones((3, 3, 1)), "dot", r"\(3, 3, 1\).*second"),
        (np.eye(3), np.array([["a"] * 3]), "dot", "numeric.*second"),
        (np.eye(3) + 1j, np.eye(3), "dot", "numeric.*complex128.*first"),
        (np.full((2, 2), np.nan), np.eye(2), "l2", "NaN or infinity in the first"),
        (np.eye(2), np.full((2, 2), np.inf), "l1", "NaN or infinity in the second"),
        (np.eye(2), np.eye(2), "euclid", "unknown similarity 'euclid'; use one of cosine, dot"),
        (-np.eye(2), np.eye(2), "kl", "entries of at least 0, got -1"),
        (np.eye(2), np.zeros((2, 2)), "kl", "positive rows, got rows of zeros"),
    ],
)
def test_bad_input(A, B, measure, message):
    with pytest.raises(ValueError, match=message):
        pairwise_similarity(A, B, measure)


def test_resolve():
    A, B = rows("l1")
    for name in NAMES:
        found = resolve(name)
        again = pickle.loads(pickle.dumps(found))
        if not name.startswith("kl"):
            assert np.array_equal(again(A, B), pairwise_similarity(A, B, name))
    assert resolve(np.dot) is np.dot
    with pytest.raises(ValueError, match="unknown similarity 'euclid'"):
        resolve("euclid")
    with pytest.raises(TypeError, match=r"a name, a callable.*got int"):
        resolve(3)


def test_a_block_of_another_shape_is_refused():
    A = np.eye(4)
    for wrong in (lambda a, b: a[:, 0], lambda a, b: np.zeros((1, len(b))), lambda a, b: 0.0):
        with pytest.raises(ValueError, match=r"must have shape \(4, 3\), got"):
            fill_blocks(wrong, A, A[:3])


# ---- posteriors ------------------------------------------------------------------------


def posteriors(seed=0, n=10, m=8, classes=3):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(classes), n), rng.dirichlet(np.ones(classes), m)


def test_posterior_over_prior_against_the_naive_loop():
    A, B = posteriors()
    y = np.array(["b", "a", "b", "b", "c", "b"])
    views = Views(image=np.zeros((6, 3)), text=np.zeros((6, 3)))
    similarity = PosteriorOverPrior().fit(views, y)
    assert similarity.classes_.tolist() == ["a", "b", "c"]
    prior = [1 / 6, 4 / 6, 1 / 6]
    expected = [[sum(a[c] * b[c] / prior[c] for c in range(3)) for b in B] for a in A]
    np.testing.assert_allclose(similarity(A, B), expected, rtol=1e-6)
    uniform = PosteriorOverPrior().fit(views, [0, 1, 2, 0, 1, 2])
    np.testing.assert_allclose(uniform(A, B), 3 * A @ B.T, rtol=1e-6)
    with_unlabelled = PosteriorOverPrior().fit(views, [0, 1, 2, -1, -1, -1])
    assert with_unlabelled.classes_.tolist() == [0, 1, 2]
    assert with_unlabelled.prior_ == pytest.approx([1 / 3] * 3)


def naive_posterior(Z, train, y, classes, k):
    found = np.zeros((len(Z), len(classes)))
    for i, z in enumerate(Z):
        distance = np.sqrt(((train - z) ** 2).sum(axis=1))
        for j in np.argsort(distance)[:k]:
            found[i, classes.index(y[j])] += expit(-distance[j])
    return found / found.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_knn_posterior_against_the_naive_loop(k):
    rng = np.random.default_rng(0)
    views = Views(image=rng.normal(size=(20, 3)), text=rng.normal(size=(20, 3)))
    y = rng.integers(0, 3, 20)
    A, B = rng.normal(size=(9, 3)), rng.normal(size=(7, 3))
    similarity = KNNPosterior(n_neighbors=k).fit(views, y)
    train = np.vstack([views["image"], views["text"]])
    a, b = (naive_posterior(Z, train, [*y, *y], [0, 1, 2], k) for Z in (A, B))
    np.testing.assert_allclose(similarity.posterior(A), a, rtol=1e-10)
    np.testing.assert_allclose(similarity(A, B), a @ b.T, rtol=1e-6)


def test_knn_posterior_far_away_and_unlabelled_and_by_item():
    images, texts = np.array([[0.0], [10.0]]), np.array([[0.0], [1], [9], [10]])
    views = Views.from_captions(images, texts, [0, 0, 1, 1])
    similarity = KNNPosterior(n_neighbors=50).fit(views, ["x", "x", "y", "y"])
    assert similarity._neighbors.n_samples_fit_ == 6  # two images and four captions, not eight
    far = similarity.posterior([[1e6]])
    assert np.isfinite(far).all() and far.sum() == pytest.approx(1)
    assert far[0, 1] > 0.99  # sigmoid(-1e6) underflows, but its ratio does not
    unlabelled = KNNPosterior().fit(views, [-1, -1, 3, 3])
    assert (
        unlabelled.classes_.tolist() == [3] and unlabelled.posterior(images).tolist() == [[1]] * 2
    )


@pytest.mark.parametrize("made", [PosteriorOverPrior(), KNNPosterior(n_neighbors=3)])
def test_fitted_similarities(made):
    views = Views(image=np.eye(4, 3), text=np.eye(4, 3))
    with pytest.raises(NotFittedError):
        made(np.eye(3), np.eye(3))
    with pytest.raises(ValueError, match="needs training labels, got none"):
        made.fit(views)
    with pytest.raises(ValueError, match=r"one class label per row, got shape \(4, 2\)"):
        made.fit(views, np.eye(4, 2))
    with pytest.raises(ValueError, match="only -1"):
        made.fit(views, [-1] * 4)
    fitted = clone(made).fit(views, [0, 1, 2, 2])
    assert clone(fitted).get_params() == made.get_params()
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again(np.eye(3), np.eye(3)), fitted(np.eye(3), np.eye(3)))
    with pytest.raises(ValueError):
        fitted(np.eye(2), np.eye(2))


def test_knn_posterior_names_views_of_unlike_width():
    with pytest.raises(ValueError, match=r"a common space, .* got image: 3, text: 2"):
        KNNPosterior().fit(Views(image=np.eye(4, 3), text=np.eye(4, 2)), [0, 1, 1, 0])


def test_posterior_over_prior_names_the_number_of_classes():
    similarity = PosteriorOverPrior().fit(Views(image=np.eye(3)), [0, 1, 1])
    with pytest.raises(ValueError, match="fitted on 2 classes, got posteriors of 3 columns"):
        similarity(np.eye(3), np.eye(3))


def test_votes_of_other_items_are_refused():
    views = Views(a=np.eye(4), b=np.eye(4))
    similarity = KNNPosterior(2).fit(views, [0, 0, 1, 1])
    similarity._votes = similarity._votes[:3]
    with pytest.raises(ValueError, match="do not match its training items"):
        similarity(np.eye(4), np.eye(4))
