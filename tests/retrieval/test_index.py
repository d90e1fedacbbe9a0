"""Indexes against a sort of the full matrix."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crossfit
from crossfit.querying import top_k
from crossfit.retrieval import ApproximateIndex, ExactIndex, index
from crossfit.similarities import MEASURES, pairwise_similarity


def naive(scores, k):
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 45), st.sampled_from([2, 5, 10**6])
)
def test_top_k_is_a_stable_sort(seed, m, k, n_values):
    rng = np.random.default_rng(seed)
    scores = rng.integers(n_values, size=(6, m)).astype(np.float32)
    indices, found = top_k(scores, k)
    expected, best = naive(scores, k)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(found, best)


def test_top_k_puts_nan_last():
    scores = np.full((2, 30), np.nan, np.float32)
    scores[0, [7, 3]] = [1, 2]
    scores[1] = np.arange(30)
    indices = top_k(scores, 3).indices
    assert list(indices[0, :2]) == [3, 7] and list(indices[1]) == [29, 28, 27]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(index, "CHUNK", 7)


def gallery(n=40, d=5, seed=0):
    rng = np.random.default_rng(seed)
    # Whole numbers, so that there are ties; positive, for KL.
    return rng.integers(1, 4, size=(n, d)).astype(np.float32)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("similarity", list(MEASURES))
@pytest.mark.parametrize("gallery_first", [False, True])
def test_search_is_exact_block_by_block(similarity, gallery_first):
    G, Q = gallery(), gallery(9, seed=1)
    found = ExactIndex(similarity, gallery_first=gallery_first).add(G).search(Q, k=6)
    full = (
        pairwise_similarity(G, Q, similarity).T
        if gallery_first
        else pairwise_similarity(Q, G, similarity)
    )
    indices, scores = naive(full, 6)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_array_equal(found.scores, scores)


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_adding_in_parts_changes_nothing(sizes):
    G, Q = gallery(sum(sizes)), gallery(4, seed=1)
    parts = ExactIndex()
    for part in np.split(G, np.cumsum(sizes)[:-1]):
        parts.add(part)
    assert len(parts) == len(G)
    for one, other in zip(parts.search(Q, 5), ExactIndex().add(G).search(Q, 5)):
        np.testing.assert_array_equal(one, other)


def test_a_few_at_a_time_make_few_blocks():
    G = ExactIndex()
    for row in gallery(100):
        G.add(row[None])
    assert len(G.blocks_) == 1


def test_a_smaller_gallery_is_returned_whole():
    assert ExactIndex().add(gallery(3)).search(gallery(2, seed=1), k=10).indices.shape == (2, 3)


def test_the_gallery_may_be_a_read_only_memory_map(tmp_path):
    np.save(tmp_path / "g.npy", gallery())
    mapped = np.load(tmp_path / "g.npy", mmap_mode="r")
    found = ExactIndex("dot").add(mapped).search(gallery(3, seed=1), 4)
    np.testing.assert_array_equal(
        found.indices, ExactIndex("dot").add(gallery()).search(gallery(3, seed=1), 4).indices
    )


def test_a_callable_compares():
    Q = gallery(3, seed=1)
    found = ExactIndex(lambda A, B: -np.abs(A[:, :1] - B[:, 0])).add(gallery()).search(Q, 2)
    np.testing.assert_array_equal(found.indices, naive(-np.abs(Q[:, :1] - gallery()[:, 0]), 2)[0])


@pytest.mark.parametrize("kind", [ExactIndex, ApproximateIndex])
def test_errors(kind):
    if kind is ApproximateIndex:
        pytest.importorskip("faiss", reason="the approximate index needs faiss-cpu")
    with pytest.raises(ValueError, match="the index is empty"):
        kind().search(np.eye(3))
    filled = kind().add(np.eye(3))
    with pytest.raises(ValueError, match="rows of 3 columns, got 2"):
        filled.add(np.ones((1, 2)))
    with pytest.raises(ValueError, match="rows of 3 columns, got 4"):
        filled.search(np.ones((1, 4)))
    with pytest.raises(ValueError, match="got shape"):
        filled.add(np.ones(3))
    with pytest.raises(ValueError, match="NaN or infinity"):
        filled.search(np.full((1, 3), np.nan))
    with pytest.raises(ValueError, match="k must be an integer"):
        filled.search(np.eye(3), k=0)
    assert len(filled) == 3
    with pytest.raises(ValueError, match="'hamming'"):
        kind("hamming").add(np.eye(3))


def test_bundles(tmp_path):
    G, Q = ExactIndex("l2").add(gallery()), gallery(3, seed=1)
    again = crossfit.load(crossfit.save(G, tmp_path / "index"))
    for one, other in zip(again.search(Q), G.search(Q)):
        np.testing.assert_array_equal(one, other)
    again.add(Q)
    assert again.search(Q, 1).scores.max() == 0 and len(again) == len(G) + 3


def test_without_faiss_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install 'crossfit-retrieval\[ann\]'"):
        ApproximateIndex().add(np.eye(3))


class TestApproximate:
    @pytest.fixture(autouse=True)
    def _faiss(self):
        pytest.importorskip("faiss", reason="the approximate index needs faiss-cpu")

    @pytest.mark.parametrize("similarity", ["cosine", "dot", "l2"])
    def test_it_finds_nearly_all(self, similarity):
        rng = np.random.default_rng(0)
        G = rng.normal(size=(3000, 16))
        Q = G[:200] + 0.3 * rng.normal(size=(200, 16))
        exact = ExactIndex(similarity).add(G).search(Q, 10)
        found = ApproximateIndex(similarity).add(G[:1000]).add(G[1000:]).search(Q, 10)
        same = (exact.indices[:, :, None] == found.indices[:, None]).any(axis=2)
        assert same.mean() > 0.95
        assert (np.diff(found.scores, axis=1) <= 0).all()
        full = pairwise_similarity(Q, G, similarity)
        expected = np.take_along_axis(full, found.indices, axis=1)
        np.testing.assert_allclose(found.scores, expected, atol=1e-4)

    def test_small_galleries_are_returned_whole(self):
        assert ApproximateIndex().add(np.eye(4)).search(np.eye(4), 10).indices.shape == (4, 4)

    def test_bundles_and_pickles(self, tmp_path):
        G, Q = ApproximateIndex("l2").add(gallery(200, 8)), gallery(5, 8, seed=1)
        for again in (
            crossfit.load(crossfit.save(G, tmp_path / "index")),
            pickle.loads(pickle.dumps(G)),
        ):
            assert len(again) == 200
            np.testing.assert_allclose(again.search(Q).scores, G.search(Q).scores, rtol=1e-6)


@pytest.mark.parametrize("name", ["n_links", "ef_construction", "ef_search"])
@pytest.mark.parametrize("value", [1, 0, -1, 2**40, 2.5, "32", None, True])
def test_what_compiled_code_would_follow_is_checked_before(name, value):
    if value == 1 and value is not True and name != "n_links":
        ApproximateIndex(**{name: value}).add(np.eye(3)).search(np.eye(3), 2)
        return
    index = ApproximateIndex(**{name: value})
    with pytest.raises(ValueError, match=f"The '{name}' parameter of ApproximateIndex must be"):
        index.add(np.eye(3))
    assert len(index) == 0
    good = ApproximateIndex().add(np.eye(3)).set_params(**{name: value})
    with pytest.raises(ValueError, match=f"The '{name}' parameter of ApproximateIndex must be"):
        good.search(np.eye(3))
    state = good.__getstate__()
    with pytest.raises(ValueError, match=f"The '{name}' parameter of ApproximateIndex must be"):
        ApproximateIndex().__setstate__(state)
    with pytest.raises(ValueError, match=f"The '{name}' parameter of ApproximateIndex must be"):
        index.__crossfit_restore__({}, {"0": np.eye(3)})


def test_more_candidates_than_items_take_no_memory():
    index = ApproximateIndex(ef_search=2**31 - 1, ef_construction=2**31 - 1).add(np.eye(5))
    assert index.search(np.eye(5), 1).indices.ravel().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("cls", [ExactIndex, ApproximateIndex])
def test_a_bundle_brings_no_items_that_an_index_would_refuse(cls, tmp_path):
    index = cls("l2").add(np.eye(4)[:2]).add(np.ones((3000, 4)))
    again = crossfit.load(crossfit.save(index, tmp_path / "index"))
    assert len(again) == 3002
    np.testing.assert_array_equal(again.search(np.eye(4)).scores, index.search(np.eye(4)).scores)
    assert len(crossfit.load(crossfit.save(cls(), tmp_path / "empty"))) == 0
    for state, arrays in (
        ({}, {"0": np.eye(3), "1": np.eye(2)}),
        ({}, {"0": np.full((2, 2), np.nan)}),
        ({}, {"1": np.eye(3)}),
        ({}, {"0": np.array(["a"])}),
        ({"blocks_": [None]}, {}),
        ({"other": 1}, {}),
    ):
        with pytest.raises(ValueError, match=r"an index holds|items of an index"):
            cls().__crossfit_restore__(state, arrays)
    # As in earlier bundles.
    old = cls()
    old.__crossfit_restore__({"blocks_": [np.eye(3)]}, {})
    assert len(old) == 3


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (ExactIndex(gallery_first="no"), "gallery_first"),
        (ExactIndex(gallery_first=None), "gallery_first"),
    ],
)
def test_parameters_of_an_exact_index(made, name):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of ExactIndex must be"):
        made.add(np.eye(3))
