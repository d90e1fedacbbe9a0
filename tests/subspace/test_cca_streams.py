"""CCA in batches, over workers and on tensors has the same result as one fit."""

import itertools
import pickle
import subprocess
import sys
import tracemalloc
import warnings
from functools import reduce

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from crossfit import Views
from crossfit.persistence import load, save
from crossfit.subspace import CCA
from crossfit.subspace._linalg import Moments


def pairs(n=200, p=6, q=4, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 3))
    X = 5 + Z @ rng.normal(size=(3, p)) + rng.normal(size=(n, p))
    return X.astype(dtype), (Z @ rng.normal(size=(3, q)) + rng.normal(size=(n, q))).astype(dtype)


X, T = pairs()


def same(a, b, tolerance=1e-10):
    np.testing.assert_allclose(a.correlations_, b.correlations_, atol=tolerance)
    for role in b.weights_:
        np.testing.assert_allclose(a.weights_[role], b.weights_[role], atol=10 * tolerance)
        np.testing.assert_allclose(a.means_[role], b.means_[role], atol=10 * tolerance)


# ---- in batches ------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 199), max_size=6), st.booleans())
def test_batches_of_any_size_equal_one_fit(stops, standardize):
    cca = CCA(standardize=standardize)
    bounds = [0, *sorted(stops), 200]
    for start, stop in itertools.pairwise(bounds):
        if start < stop:
            cca.partial_fit(X[start:stop], T[start:stop])
    same(cca, CCA(standardize=standardize).fit(X, T))


def test_row_by_row():
    cca = CCA(reg=0)
    for i in range(200):
        cca.partial_fit(X[i : i + 1], T[i : i + 1])
    same(cca, CCA(reg=0).fit(X, T))
    assert cca.score(X, T) == CCA(reg=0).fit(X, T).score(X, T)


def test_a_mean_that_wanders_costs_no_digits():
    x = X + np.repeat(np.arange(4), 50)[:, None] * 1e3
    cca = CCA(reg=0)
    for start in range(0, 200, 50):
        cca.partial_fit(x[start : start + 50], T[start : start + 50])
    same(cca, CCA(reg=0).fit(x, T), 1e-7)


def test_views_of_every_form_and_type(tmp_path):
    x, t = pairs(9000, dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    cca = CCA(views={"image": "photo", "text": "caption"})
    cca.partial_fit(Views(photo=mapped[:5000], caption=t[:5000]))
    cca.partial_fit(Views(caption=sp.csr_array(t[5000:]), photo=x[5000:].astype(float)))
    same(cca, CCA().fit(x.astype(float), t.astype(float)), 1e-5)


def test_three_views():
    views = Views(image=X, text=T, audio=X[:, :3] + T[:, :3])
    cca = CCA().partial_fit(views[:70])
    same(cca.partial_fit(views[70:]), CCA().fit(views))
    with pytest.raises(ValueError, match="CCA needs the view 'audio', got image, text"):
        cca.partial_fit(X, T)


def test_the_solution_waits_and_follows_the_parameters_of_the_moment():
    cca = CCA(2).partial_fit(X[:100], T[:100])
    assert "weights_" not in vars(cca)
    same(cca, CCA(2).fit(X[:100], T[:100]))
    assert "weights_" in vars(cca)
    cca.set_params(reg=0.5).partial_fit(X[100:], T[100:])
    assert "weights_" not in vars(cca)
    same(cca, CCA(2, reg=0.5).fit(X, T))


def test_fit_begins_anew_and_keeps_no_sums():
    cca = CCA().partial_fit(X[:50], T[:50]).fit(X, T)
    same(cca, CCA().fit(X, T))
    assert "sums_" not in vars(cca)
    with pytest.raises(ValueError, match="fitted by fit, which keeps no sums"):
        cca.partial_fit(X, T)
    same(cca, CCA().fit(X, T))


def test_a_call_that_raises_adds_nothing():
    cca = CCA(2).partial_fit(X[:100], T[:100])
    for bad in ((X[100:, :5], T[100:]), (X[100:], T[101:]), (X[100:] * np.nan, T[100:])):
        with pytest.raises(ValueError):
            cca.partial_fit(*bad)
    with pytest.raises(ValueError, match="'power' parameter"):
        cca.set_params(power=-1).partial_fit(X[100:], T[100:])
    same(cca.set_params(power=1.0).partial_fit(X[100:], T[100:]), CCA(2).fit(X, T))


@pytest.mark.parametrize("parameters", [{"n_components": 0}, {"reg": {"image": 1}}, {"power": -1}])
def test_bad_parameters_are_refused_at_the_first_batch(parameters):
    cca = CCA(**parameters)
    with pytest.raises(ValueError, match=r"must be|no entry"):
        cca.partial_fit(X, T)
    with pytest.raises(NotFittedError):
        cca.transform(X)
    same(cca.set_params(**CCA(2).get_params()).partial_fit(X, T), CCA(2).fit(X, T))


def test_too_little_to_solve():
    cca = CCA().partial_fit(X[:1], T[:1])
    with pytest.raises(ValueError, match="CCA needs at least 2 rows, got n_samples = 1"):
        cca.transform(X)
    still = CCA().partial_fit(X[:9], np.ones((9, 2)))
    with pytest.raises(ValueError, match="view 'text' is constant"):
        still.similarity(X, T[:, :2])
    still.partial_fit(X[9:], T[9:, :2])  # and now it varies
    assert still.transform(X).shape == (200, 2)


def test_more_components_than_the_rank_allows_are_warned_of():
    cca = CCA(9).partial_fit(X, T)
    with pytest.warns(UserWarning, match="n_components=9 is more than.*; 4 are kept"):
        assert cca.n_components_ == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cca.transform(X)  # warned of once


def test_unknown_attributes_are_unknown():
    for cca in (CCA(), CCA().partial_fit(X, T)):
        with pytest.raises(AttributeError, match="'CCA' object has no attribute 'coef_'"):
            _ = cca.coef_
    assert not hasattr(CCA(), "weights_")


def test_pickles_clones_and_bundles_of_a_stream(tmp_path):
    cca = CCA(2).partial_fit(X[:100], T[:100])
    save(cca, tmp_path / "half")
    for copy in (pickle.loads(pickle.dumps(cca)), load(tmp_path / "half")):
        same(copy, CCA(2).fit(X[:100], T[:100]))
        same(copy.partial_fit(X[100:], T[100:]), CCA(2).fit(X, T))
    assert not hasattr(clone(cca), "sums_")


def test_memory_does_not_grow_with_the_rows(tmp_path):
    shape = (400_000, 100)
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, shape)
    x[:] = np.tile(np.random.default_rng(0).normal(size=(20_000, 100)).astype(np.float32), (20, 1))
    x.flush()
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")

    def peak(n):
        tracemalloc.start()
        CCA(5).partial_fit(mapped[:n], mapped[:n, :20]).transform(mapped[:10])
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small, large = peak(20_000), peak(400_000)
    assert large < small + 0.06 * x.nbytes < 0.2 * x.nbytes  # an index of the rows


# ---- over workers ----------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(5)), st.floats(-1e4, 1e4))
def test_merged_parts_equal_one_fit_in_any_order(order, offset):
    x = X + offset
    parts = [CCA().partial_fit(x[i::5], T[i::5]) for i in order]
    kept = parts[1].sums_["products"].copy()
    same(reduce(CCA.merge, parts, CCA()), CCA().fit(x, T), 1e-7)
    np.testing.assert_array_equal(parts[1].sums_["products"], kept)


def test_merging_is_also_adding_rows():
    cca = CCA(2).partial_fit(X[:50], T[:50])
    cca.merge(CCA(reg=9.0).partial_fit(X[50:150], T[50:150])).partial_fit(X[150:], T[150:])
    same(cca, CCA(2).fit(X, T))
    same(cca.merge(CCA()), CCA(2).fit(X, T))  # of nothing


def test_constant_columns_stay_exactly_constant():
    x = np.insert(X, 2, 0.1, axis=1)
    parts = [CCA(reg=0).partial_fit(x[i::4], T[i::4]) for i in range(4)]
    merged = reduce(CCA.merge, parts)
    assert not merged.sums_["products"][2].any()


def test_what_does_not_fit_together_is_refused():
    cca = CCA().partial_fit(X, T)
    with pytest.raises(ValueError, match=r"merge expects views of columns.*'image': 6.*'image': 5"):
        cca.merge(CCA().partial_fit(X[:, :5], T))
    with pytest.raises(ValueError, match="merge expects views of columns"):
        cca.merge(CCA().partial_fit(Views(photo=X, caption=T)))
    for pair in ((cca, CCA().fit(X, T)), (CCA().fit(X, T), cca)):
        with pytest.raises(ValueError, match="fitted by fit, which keeps no sums"):
            pair[0].merge(pair[1])
    a, b = Moments(), Moments()
    a.update(Views(x=X))
    b.update(Views(x=T))
    with pytest.raises(ValueError, match=r"numbers of columns, got \(6,\) and \(4,\)"):
        a.merge(b)
    same(cca, CCA().fit(X, T))


def test_dask_workers_give_the_answer_of_one_fit(tmp_path):
    distributed = pytest.importorskip("distributed")
    x, t = pairs(20_000, 40, 30)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "t.npy", t)

    def part(start):
        rows = slice(start, start + 5000)
        x, t = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xt")
        return CCA(8).partial_fit(x[rows], t[rows])

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        parts = client.map(part, range(0, 20_000, 5000))
        merged = client.submit(lambda found: reduce(CCA.merge, found, CCA(8)), parts).result()
        where = {worker for found in client.who_has(parts).values() for worker in found}
    assert len(where) == 2  # both had a share
    whole = CCA(8).fit(x, t)
    same(merged, whole)
    np.testing.assert_array_almost_equal(merged.similarity(x, t[:99]), whole.similarity(x, t[:99]))


# ---- tensors ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_stay_tensors_and_give_the_same_numbers(dtype):
    torch = pytest.importorskip("torch")
    x, t = (torch.asarray(part, dtype=getattr(torch, dtype)) for part in pairs(9000))
    cca, plain = CCA().fit(x, t), CCA().fit(x.numpy(), t.numpy())
    tolerance = 1e-5 if dtype == "float32" else 1e-11
    same(cca, plain, tolerance)
    assert all(isinstance(W, np.ndarray) for W in cca.weights_.values())
    Z = cca.transform(x)
    assert isinstance(Z, torch.Tensor) and Z.dtype == x.dtype and Z.device == x.device
    np.testing.assert_allclose(Z.numpy(), plain.transform(x.numpy()), atol=100 * tolerance)
    streamed = CCA().partial_fit(x[:4000], t[:4000]).partial_fit(x[4000:], t[4000:])
    same(streamed, plain, tolerance)
    assert isinstance(streamed.sums_["shift"], np.ndarray)


def test_tensors_that_need_gradients_and_half_precision():
    torch = pytest.importorskip("torch")
    x = torch.asarray(X).requires_grad_()
    same(CCA().fit(x, torch.asarray(T)), CCA().fit(X, T))
    Z = CCA().fit(x.half(), torch.asarray(T)).transform(x.half())
    assert Z.dtype == torch.float32 and not Z.requires_grad


def test_arrays_and_tensors_in_one_stream():
    torch = pytest.importorskip("torch")
    cca = CCA().partial_fit(torch.asarray(X[:70]), torch.asarray(T[:70]))
    cca.partial_fit(X[70:140], T[70:140]).partial_fit(torch.asarray(X[140:]), T[140:])
    same(cca, CCA().fit(X, T))


def test_nothing_imports_torch():
    code = (
        "import sys, numpy as np; from crossfit.subspace import CCA\n"
        "x = np.random.default_rng(0).normal(size=(20, 3))\n"
        "CCA().partial_fit(x, x[:, :2]).score(x, x[:, :2])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
