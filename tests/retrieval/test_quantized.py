"""Quantised vectors against sentence-transformers, faiss and the naive loop."""

import numpy as np
import pytest

from crossfit.retrieval import quantize

RNG = np.random.default_rng(0)
V = RNG.normal(size=(300, 20)).astype(np.float32)
Q = RNG.normal(size=(7, 20)).astype(np.float32)


@pytest.mark.parametrize("d", [20, 24, 1])
def test_codes_are_those_of_sentence_transformers(d):
    quantization = pytest.importorskip("sentence_transformers.util.quantization")
    rows = RNG.normal(size=(100, d)).astype(np.float32)
    ranges = RNG.normal(size=(50, d)).astype(np.float32)  # some numbers are outside
    wanted = quantization.quantize_embeddings(rows, "int8", calibration_embeddings=ranges)
    assert np.array_equal(quantize(rows, calibration=ranges).codes, wanted)
    bits = quantization.quantize_embeddings(rows, "ubinary")
    assert np.array_equal(quantize(rows, "binary").codes, bits)


def test_binary_neighbours_are_those_of_faiss():
    faiss = pytest.importorskip("faiss")
    rows, queries = RNG.normal(size=(300, 64)), RNG.normal(size=(7, 64))
    held = quantize(rows, "binary")
    index = faiss.IndexBinaryFlat(64)
    index.add(held.codes)
    distances, _ = index.search(np.packbits(queries > 0, axis=1), 10)
    found = held.search(queries, 10, oversample=1, rescore=rows).indices
    own = np.sort(((queries[:, None] > 0) != (rows[found] > 0)).sum(axis=2), axis=1)
    assert np.array_equal(own, distances)


def test_a_decoded_number_is_within_a_step():
    held = quantize(V)
    assert held.nbytes == V.nbytes // 4 and quantize(V, "binary").nbytes == 300 * 3
    assert np.all(np.abs(held.decode() - V) <= held.step * 0.501)
    outside = quantize(100 * V, calibration=V)
    assert np.all(outside.decode() <= V.max(axis=0) + outside.step)
    constant = quantize(np.ones((4, 2)))
    assert np.all(constant.decode() == 1)


def test_search_is_the_naive_loop():
    held = quantize(V)
    S = Q @ held.decode().T
    found = held.search(Q, 5)
    assert np.array_equal(found.indices, np.argsort(-S, axis=1, kind="stable")[:, :5])
    np.testing.assert_allclose(found.scores, np.take_along_axis(S, found.indices, 1), rtol=1e-5)
    bits = quantize(V, "binary")
    exact = np.argsort(-(Q @ V.T), axis=1)[:, :5]
    everything = bits.search(Q, 5, rescore=V, oversample=60)  # all rows are candidates
    assert np.array_equal(everything.indices, exact)
    for i, query in enumerate(Q):
        apart = ((V > 0) != (query > 0)).sum(axis=1)
        near = np.argsort(apart, kind="stable")[:20]
        best = near[np.argsort(-(V[near] @ query), kind="stable")][:5]
        assert np.array_equal(bits.search(Q, 5, rescore=V).indices[i], best)


@pytest.mark.parametrize("call", [
    lambda: quantize(V, "int4"), lambda: quantize(V[0]), lambda: quantize(V * np.nan),
    lambda: quantize(V, calibration=V[:, :3]), lambda: quantize(V).search(Q[:, :3]),
    lambda: quantize(V).search(Q, 0), lambda: quantize(V, "binary").search(Q, rescore=V[:3]),
])  # fmt: skip
def test_wrong_arguments(call):
    with pytest.raises(ValueError) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_embeddings_as_parquet_are_read_by_others(tmp_path):
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    from crossfit.datasets import read_vectors, write_embeddings

    ids = [f"row {i}" for i in range(300)]
    path = write_embeddings(tmp_path / "a.parquet", V, ids, {"label": list(range(300))})
    assert np.array_equal(read_vectors(path, "vector"), V)
    frame = pd.read_parquet(path)
    assert frame["id"].tolist() == ids and frame["label"].tolist() == list(range(300))
    assert np.array_equal(np.stack(frame["vector"]), V)
    other = pl.read_parquet(path)
    assert other.schema["vector"] == pl.Array(pl.Float32, 20)
    assert np.array_equal(other["vector"].to_numpy(), V)
    for wrong in ({"ids": ids[:3]}, {"payload": {"vector": ids}}, {"payload": {"x": [1]}}):
        with pytest.raises(ValueError):
            write_embeddings(tmp_path / "b.parquet", V, **wrong)
    with pytest.raises(ValueError, match="must end in"):
        write_embeddings(tmp_path / "b.csv", V)
    assert [each.name for each in tmp_path.iterdir()] == ["a.parquet"]


def test_datasets_reads_embeddings(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    from crossfit.datasets import write_embeddings

    path = write_embeddings(tmp_path / "a.parquet", V)
    found = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert np.array_equal(np.asarray(found.with_format("numpy")["vector"][:]), V)
