"""Similarities, indexes and search take tensors of every floating type; errors name the place."""

import numpy as np
import pytest

import crossfit
from crossfit import RetrievalScorer, Views, make_retrieval_scorer
from crossfit.querying import top_k
from crossfit.retrieval import ApproximateIndex, ExactIndex, Reranker, exactness
from crossfit.similarities import KNNPosterior, PosteriorOverPrior, pairwise_similarity, resolve
from crossfit.subspace import CCA

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(20, 4)), RNG.normal(size=(20, 3))
VIEWS = Views(image=X, text=T)
FITTED = CCA(2).fit(VIEWS)


def tensors(values, dtype, grad):
    """Return a tensor and the array of its values."""
    given = torch.from_numpy(values).to(dtype)
    return given.clone().requires_grad_(grad), given.to(torch.float32).numpy()


TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
GRAD = pytest.mark.parametrize("grad", [False, True])


@TYPES
@GRAD
def test_similarities_and_indexes(dtype, grad):
    tensor, array = tensors(T, dtype, grad)
    for measure in ("cosine", "l2", "l1", "dot", "correlation"):
        np.testing.assert_array_equal(
            pairwise_similarity(tensor, tensor[:5], measure),
            pairwise_similarity(array, array[:5], measure),
        )
    for cls in (ExactIndex, ApproximateIndex):
        found = cls().add(tensor).search(tensor[:3], 4)
        expected = cls().add(array).search(array[:3], 4)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(top_k(tensor, 2).indices, top_k(array, 2).indices)


@TYPES
@GRAD
def test_methods_scorers_and_search(dtype, grad):
    (image, as_image), (text, as_text) = (tensors(part, dtype, grad) for part in (X, T))
    given, arrays = Views(image=image, text=text), Views(image=as_image, text=as_text)
    np.testing.assert_allclose(
        crossfit.similarity(FITTED, given), crossfit.similarity(FITTED, arrays), rtol=1e-5
    )
    found = crossfit.search(FITTED, image[:3], view="image", gallery=text, k=4)
    expected = crossfit.search(FITTED, as_image[:3], view="image", gallery=as_text, k=4)
    np.testing.assert_array_equal(found.indices, expected.indices)
    y = torch.arange(20) % 3
    assert FITTED.score(given, y) == pytest.approx(FITTED.score(arrays, y.numpy()))
    scorer = RetrievalScorer(KNNPosterior(3))
    same, alike = Views(a=text, b=2 * text), Views(a=as_text, b=2 * as_text)
    np.testing.assert_allclose(
        scorer.fit(same, y).compare(same), scorer.fit(alike, y.numpy()).compare(alike), rtol=1e-4
    )
    assert scorer.index(text, "a").search(text[:2], "b", 3).indices.shape == (2, 3)


def with_nan(row, column):
    wrong = T.copy()
    wrong[row, column] = np.nan
    return wrong


TWO = Reranker(CCA(1), CCA(2), k=3).fit(VIEWS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: pairwise_similarity(with_nan(7, 1), T),
            r"in the first array, in 1 of 20 rows \(7\)",
        ),
        (lambda: ExactIndex().add(with_nan(3, 0)), r"NaN or infinity in 1 of 20 rows \(3\)"),
        (lambda: ExactIndex().add(T).search(with_nan(0, 0)), r"in 1 of 20 rows \(0\)"),
        (lambda: ExactIndex().add(np.ma.masked_less(T, 0)), "must not be masked"),
        (lambda: ExactIndex().add([[1], [1, 2]]), "unequal shape"),
        (lambda: ExactIndex().add(torch.eye(3).to_sparse()), "must not be a sparse tensor"),
        (lambda: ExactIndex().add(torch.ones(3, 3, device="meta")), "must not be a meta tensor"),
        (
            lambda: ExactIndex().add(T).search(T, True),
            "k must be an integer of at least 1, got True",
        ),
        (lambda: ExactIndex().add(T).search(T, 2.5), "k must be an integer of at least 1, got 2.5"),
        (
            lambda: FITTED.similarity(X, T, chunk_size=2.5),
            "chunk_size must be an integer of at least 1",
        ),
        (
            lambda: FITTED.similarity(X, T, chunk_size="9"),
            "chunk_size must be an integer of at least 1",
        ),
        (lambda: FITTED.similarity(X, T, chunk_size=np.nan), "chunk_size must be an integer"),
        (lambda: FITTED.similarity(X, T, out=5), "out must be a path or a float32 array, got 5"),
        (lambda: FITTED.similarity(X, T, out=b"s.npy"), "out must be a path or a float32 array"),
        (
            lambda: FITTED.similarity(X, T, out=[]),
            r"out must be a path or a float32 array, got \[\]",
        ),
        (lambda: FITTED.similarity(X, T, out="a\0b"), "out must be a path"),
        (lambda: FITTED.similarity(X, T, out=np.empty((20, 20))), "writeable float32 array"),
        (lambda: FITTED.similarity(X, T, out=np.empty((20, 20), np.float32).T[::-1][1:]), "shape"),
        (lambda: FITTED.similarity(VIEWS, query=X), "no view array"),
        (lambda: FITTED.similarity(X, T, gallery=["text"]), "query and gallery must be"),
        (lambda: FITTED.encode(X, None), "no view None"),
        (lambda: crossfit.encode(None, X, "image"), "a method with a common space.*got NoneType"),
        (lambda: crossfit.encode(FITTED, X, ["image"]), "view must be the name of a view"),
        (lambda: crossfit.search(FITTED, X, view={"image"}, gallery=T), "no view"),
        (
            lambda: crossfit.search(FITTED, X, view="image", gallery=T, gallery_view=X),
            "no view array",
        ),
        (lambda: crossfit.similarity(CCA, VIEWS), "got type"),
        (lambda: top_k(T[0], 2), r"scores must be numbers of shape \(n_queries, n_gallery\)"),
        (lambda: resolve([]), "a similarity must be a name"),
        (lambda: RetrievalScorer(metric=X).fit(VIEWS), "metric must be a string"),
        (lambda: RetrievalScorer(np.array(["dot"])).fit(VIEWS), "a similarity must be a name"),
        (lambda: KNNPosterior(0).fit(VIEWS, range(20)), "'n_neighbors' parameter of KNNPosterior"),
        (
            lambda: KNNPosterior(True).fit(VIEWS, range(20)),
            "'n_neighbors' parameter of KNNPosterior",
        ),
        (lambda: KNNPosterior().fit(X, range(20)), "KNNPosterior expects Views, got ndarray"),
        (lambda: PosteriorOverPrior().fit(VIEWS, [{1}] * 20), "labels must be numbers, strings"),
        (lambda: Reranker(CCA(), CCA(), k=2.5).fit(VIEWS), "k must be an integer"),
        (lambda: Reranker(CCA(), CCA(), prefit="no").fit(VIEWS), "'prefit' parameter of Reranker"),
        (lambda: exactness(TWO, VIEWS, random_state=-1), "'random_state' parameter of exactness"),
        (lambda: make_retrieval_scorer(direction=None), "direction must be 'both' or like"),
        (lambda: make_retrieval_scorer(ties=["expected"]), "ties must be one of"),
    ],
)  # fmt: skip
def test_one_sentence(call, message):
    with pytest.raises((ValueError, TypeError), match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
