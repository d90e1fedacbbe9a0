"""Scores and measures of tensors: on their device, and equal to those of NumPy arrays."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import crossfit
from crossfit import RetrievalScorer, Views, evaluate
from crossfit.metrics import ranking
from crossfit.retrieval import NNN
from crossfit.similarities import MEASURES, fill_blocks, pairwise_similarity
from crossfit.subspace import CCA, Procrustes

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:.*have no relevant item")
RNG = np.random.default_rng(0)
METRICS = ["map@all", "map@5:hits", "map@R", "r@1", "r@5:fraction", "p@3", "ndcg@all", "ndcg@4",
           "mrr", "meanr", "medr", "tied", "map@all:adjusted"]  # fmt: skip
FIRST_ONLY = ["r@1", "r@5", "mrr", "medr", "meanr"]
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]
device = pytest.mark.parametrize("device", DEVICES)
rule = pytest.mark.parametrize("ties", ranking.TIES)


@pytest.fixture(autouse=True, params=["device", "cpu"])
def where(request, monkeypatch):
    """Rank tensors of the CPU as those of another device, and as they are ranked by default."""
    if request.param == "device":
        monkeypatch.setattr(ranking, "on_device", crossfit.views.is_tensor)
    return request.param


def same(one, other):
    assert one.per_query.keys() == other.per_query.keys()
    for key, values in other.per_query.items():
        np.testing.assert_array_equal(one.per_query[key], values)


# ---- measures ----------------------------------------------------------------------------------


@device
@rule
@pytest.mark.parametrize("form", ["graded", "pairs", "classes", "labels"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.float16])
def test_measures_of_a_tensor_are_those_of_the_array(device, ties, form, dtype):
    scores = RNG.normal(size=(23, 31)).round(1).astype(dtype)  # with ties
    if dtype == np.float64:
        scores[3, :5], scores[4, 7], scores[5, 2:4] = np.inf, -np.inf, (0.0, -0.0)
    relevance = {
        "graded": sp.csr_array(RNG.integers(0, 4, (23, 31)) * (RNG.random((23, 31)) < 0.2)),
        "pairs": RNG.random((23, 31)) < 0.05,
        "classes": (np.arange(23) % 4, np.arange(31) % 4),
        "labels": (RNG.random((23, 5)) < 0.4, RNG.random((31, 5)) < 0.4),
    }[form]
    for metrics in (METRICS, FIRST_ONLY):
        given = {"metrics": metrics, "ties": ties, "ci": None}
        tensor = torch.from_numpy(scores).to(device)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranking, "_TENSOR_SCORES", 31 * 7)  # several blocks, the last one shorter
            found = evaluate(tensor, relevance, **given)
        same(found, evaluate(scores, relevance, **given))


@rule
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    scores=arrays(np.float32, (5, 6), elements=st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 2.5])),
    relevance=arrays(np.int64, (5, 6), elements=st.integers(0, 2)),
)
def test_any_tie_has_the_same_value(ties, scores, relevance):
    relevance[0, 0] = 1
    relevance[:, 0] = 1
    relevance[0, :] = 1
    for metrics in (METRICS[:-1], FIRST_ONLY):
        given = {"metrics": metrics, "ties": ties, "ci": None}
        same(
            evaluate(torch.from_numpy(scores), relevance, **given),
            evaluate(scores, relevance, **given),
        )


def test_intervals_and_other_types_of_floats():
    scores = RNG.normal(size=(20, 20))
    for dtype in (torch.bfloat16, torch.float32):
        tensor = torch.from_numpy(scores).to(dtype).requires_grad_()
        array = tensor.detach().float().numpy()
        one, other = (evaluate(part, np.eye(20), ["mrr", "r@1"]) for part in (tensor, array))
        same(one, other)
        assert one.rows() == other.rows()


@pytest.mark.parametrize(
    "scores, error, message",
    [
        (torch.tensor([[0.0, torch.nan], [1.0, 2.0]]), ValueError,
         r"scores must not be NaN, got NaN for query 0 against 1 of 2 gallery items \(1\)"),
        (torch.ones(2, 3), ValueError, r"scores have shape \(2, 3\) but relevance has shape"),
        (torch.ones(2), ValueError, "must be a non-empty"),
        (torch.ones(2, 2, dtype=torch.complex64), TypeError, "scores must be real numbers"),
        (torch.eye(2).to_sparse(), TypeError, "scores must not be a sparse tensor"),
    ],
)  # fmt: skip
def test_bad_scores(scores, error, message):
    with pytest.raises(error, match=message):
        evaluate(scores, np.eye(2), "mrr", ci=None)
    assert issubclass(error, (TypeError, ValueError))


def test_nan_of_the_other_direction_is_named():
    scores = torch.zeros(3, 3)
    scores[2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"NaN for query 2 against 1 of 3 gallery items \(1\)"):
        evaluate(scores, np.eye(3), "mrr", ci=None)


def test_scores_are_not_moved(monkeypatch, where):
    if where == "cpu":
        pytest.skip("tensors of the CPU share their memory with arrays")
    moved = []
    as_numpy = crossfit.metrics.tensor_ranks.as_numpy

    def watching(values, *more):
        moved.append(values.numel())
        return as_numpy(values, *more)

    monkeypatch.setattr(crossfit.metrics.tensor_ranks, "as_numpy", watching)
    monkeypatch.setattr(ranking, "_as_block", None)  # the way of arrays is not taken
    scores = torch.from_numpy(RNG.normal(size=(40, 500)))
    relevance = sp.csr_array((np.ones(40), (np.arange(40), np.arange(40))), shape=(40, 500))
    evaluate(scores, relevance, FIRST_ONLY, directions="forward", ci=None)
    assert sum(moved) == 4 * 40
    moved.clear()
    evaluate(scores, relevance, "ndcg@all", directions="forward", ci=None)
    assert sum(moved) == 2 * 40


# ---- similarities ------------------------------------------------------------------------------


@device
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_similarities_of_tensors_are_tensors(device, measure, dtype):
    A, B = (torch.from_numpy(RNG.random((n, 6))).to(dtype).to(device) for n in (9, 13))
    A[2], B[3] = 0.5, 0.25  # constant rows
    found = pairwise_similarity(A, B, measure, chunk_size=4)
    assert isinstance(found, torch.Tensor) and found.device == A.device
    assert found.dtype == torch.float32
    expected = pairwise_similarity(A.cpu().double().numpy(), B.cpu().double().numpy(), measure)
    np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_rows_have_the_cosines_of_arrays(scale):
    A = RNG.normal(size=(4, 3)) * np.array([[1], [scale], [0], [1]])
    expected = pairwise_similarity(A, A)
    found = pairwise_similarity(torch.from_numpy(A), torch.from_numpy(A))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    "A, B, measure, message",
    [
        (torch.ones(2, 3), torch.ones(2, 4), "dot", "the same number of columns, got 3 and 4"),
        (torch.ones(2), torch.ones(2, 4), "dot", r"shape \(n, d\), got shape \(2,\)"),
        (torch.full((2, 2), torch.nan), torch.ones(2, 2), "dot", "NaN or infinity in the first"),
        (torch.full((2, 2), -1.0), torch.ones(2, 2), "kl", "needs entries of at least 0, got -1"),
        (torch.zeros(2, 2), torch.ones(2, 2), "kl", "needs positive rows"),
        (torch.full((2, 2), 1e30), torch.full((2, 2), 1e30), "dot", "exceeds the range of scores"),
        (torch.ones(2, 2), torch.ones(2, 2), "l3", "unknown similarity 'l3'"),
    ],
)
def test_bad_rows(A, B, measure, message):
    with pytest.raises(ValueError, match=message):
        pairwise_similarity(A, B, measure)


def test_a_function_of_rows_that_returns_arrays_fills_an_array():
    P = torch.ones(3, 2)
    assert isinstance(fill_blocks(lambda p, q: (p @ q.T).numpy(), P, P), np.ndarray)
    assert isinstance(fill_blocks(lambda p, q: p @ q.T, P, P), torch.Tensor)
    assert isinstance(fill_blocks(lambda p, q: p @ q.T, P, np.ones((2, 2))[:0]), np.ndarray)
    given = np.empty((3, 3), np.float32)
    assert fill_blocks(lambda p, q: p @ q.T, P, P, out=given) is given


# ---- methods and pipelines ---------------------------------------------------------------------


@device
@pytest.mark.parametrize("method", [CCA(3), Procrustes(3)], ids=repr)
def test_a_method_scores_and_is_evaluated_on_the_device(device, method, tmp_path):
    Z = RNG.normal(size=(60, 3))
    parts = {name: Z @ RNG.normal(size=(3, d)) + RNG.normal(size=(60, d))
             for name, d in (("image", 6), ("text", 5))}  # fmt: skip
    views = Views(parts)
    method.fit(views)
    tensors = Views({name: torch.from_numpy(part).to(device) for name, part in parts.items()})
    for query, gallery in (("image", "text"), ("text", "image")):
        scores = crossfit.similarity(method, tensors, query=query, gallery=gallery)
        assert isinstance(scores, torch.Tensor) and scores.device.type == device
        expected = crossfit.similarity(method, views, query=query, gallery=gallery)
        np.testing.assert_allclose(scores.cpu(), expected, atol=1e-5)
        relevance = views.relevance(query, gallery)
        same(evaluate(scores, relevance, METRICS[:9], ci=None),
             evaluate(scores.cpu().numpy(), relevance, METRICS[:9], ci=None))  # fmt: skip
    assert method.score(tensors) == pytest.approx(method.score(views), abs=1e-6)
    file = tmp_path / "scores.npy"
    method.similarity(tensors, out=file)
    np.testing.assert_allclose(np.load(file), method.similarity(views), atol=1e-5)
    scorer = RetrievalScorer().fit(method.transform(tensors))
    found = scorer.compare(method.transform(tensors))
    assert isinstance(found, torch.Tensor) and found.device.type == device
    np.testing.assert_allclose(found.cpu(), method.similarity(views), atol=1e-5)


def test_hub_corrections_take_tensors_of_the_cpu_and_refuse_others(monkeypatch):
    views = Views(image=RNG.normal(size=(20, 3)), text=RNG.normal(size=(20, 3)))
    tensors = views.map(lambda part, _: torch.from_numpy(np.array(part)))
    scorer = RetrievalScorer(NNN(k=3)).fit(views)
    np.testing.assert_allclose(scorer.compare(tensors), scorer.compare(views), atol=1e-6)

    class Elsewhere(torch.Tensor):
        device = torch.device("cuda", 0)

    with pytest.raises(TypeError, match=r"NNN corrects hubs in NumPy, got a tensor on cuda:0"):
        scorer.score_items(tensors["image"].as_subclass(Elsewhere), "image", views["text"], "text")


def test_arrays_do_not_import_torch():
    code = (
        "import sys, numpy as np, crossfit\n"
        "from crossfit.methods import CCA\n"
        "from crossfit.similarities import pairwise_similarity\n"
        "X = np.random.default_rng(0).normal(size=(20, 4))\n"
        "scores = CCA(2).fit(X, X[:, :3]).similarity(X, X[:, :3])\n"
        "crossfit.evaluate(scores, np.eye(20), ['mrr', 'ndcg@5'])\n"
        "pairwise_similarity(X, X, 'correlation')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
