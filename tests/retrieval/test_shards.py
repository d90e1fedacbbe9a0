"""An index built of shards, by processes that may be killed, answers as one built at once."""

import os
import shutil
import signal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfit import Views
from crossfit.retrieval import NNN, Index, Part, build_shards, feature_parts

pytest.importorskip("faiss")
pytest.importorskip("pyarrow")

N, DIM = 500, 6
RNG = np.random.default_rng(0)
VECTORS, QUERIES = RNG.normal(size=(N, DIM)), RNG.normal(size=(7, DIM))
IDS = [f"item {i}" for i in range(N)]
# The first part has only empty years, and those of the last one are fractions in a wider type.
YEARS = [None if i < 100 or i % 7 == 0 else 1990 + i % 40 for i in range(N)]
CUTS = [0, 100, 130, 131, 400, N]
FILTERS = [None, "year > 2000", "year is None", "label == 'dog' or not year < 2010", "year > 9999"]


def columns(some):
    found = {
        "year": YEARS[some],
        "label": [["dog", "cat", None][len(name) % 3] for name in IDS[some]],
    }
    if some.start >= 131:
        found["late"] = [float(i) for i in range(some.start, some.stop)]
    return found


def parts_of(vectors=VECTORS):
    slices = [slice(*pair) for pair in pairwise(CUTS)]
    return [Part(vectors[some], IDS[some], columns(some)) for some in slices]


def at_once(folder, parts, **options):
    index = Index.create(folder, DIM, **options)
    for part in parts:
        index.add(part.vectors, part.ids, part.payload)
    return index


def same(one, other, rows=True):
    assert one.ids == other.ids and one.columns == other.columns
    for where in FILTERS:
        expected, found = one.search(QUERIES, 20, where), other.search(QUERIES, 20, where)
        assert found.ids.tolist() == expected.ids.tolist(), where
        if rows:  # those of removed items count until files are merged
            assert found.indices.tolist() == expected.indices.tolist()
        assert found.items.tolist() == expected.items.tolist()
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    other.check()


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_shards_answer_as_one_index(tmp_path, metric, n_jobs):
    expected = at_once(tmp_path / "one", parts_of(), metric=metric, meta={"model": "m"})
    done = []
    with build_shards(
        tmp_path / "many", parts_of(), DIM, n_jobs=n_jobs, listener=done.append, metric=metric,
        meta={"model": "m"},
    ) as index:  # fmt: skip
        same(expected, index)
        assert sum(done) == N and len(done) == 5 and index.meta == {"model": "m"}
        index.remove(["item 3"])
        index.add([[1.0] * DIM], ["new"], {"year": [1]})
        expected.remove(["item 3"])
        expected.add([[1.0] * DIM], ["new"], {"year": [1]})
        same(expected, index, rows=False)
        index.compact("hnsw")
        assert index.kind == "hnsw"
    same(expected, Index.open(tmp_path / "many"), rows=False)
    assert sorted(os.listdir(tmp_path)) == ["many", "one"]


def test_files_functions_and_several_views(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", VECTORS.astype(np.float32))
    vectors = VECTORS.astype(np.float32)
    parts = [
        Part({"a": "a.npy", "b": vectors[:50]}, IDS[:50], rows=(0, 50)),
        Part({"a": vectors[50:60], "b": vectors[40:50]}, IDS[50:60]),
    ]
    whole = [Part({"a": vectors[:50], "b": vectors[:50]}, IDS[:50]), parts[1]]
    expected = at_once("one", whole, views=["a", "b"])
    found = build_shards("many", parts, DIM, n_jobs=2, views=["a", "b"])
    for view in (None, "a", "b"):
        results = [each.search(QUERIES, 5, view=view).ids.tolist() for each in (expected, found)]
        assert results[0] == results[1]
    plain = build_shards("plain", [Part("a.npy", IDS), Part(lambda: QUERIES, list("abcdefg"))], DIM)
    assert len(plain) == N + 7 and plain.search(QUERIES[2:3], 1).ids.tolist() == [["c"]]


def test_a_correction_is_kept(tmp_path):
    views = Views(image=VECTORS, text=RNG.normal(size=(N, DIM)))
    correction = NNN(k=3).fit(views)
    expected = at_once(tmp_path / "one", parts_of(), correction=correction)
    index = build_shards(tmp_path / "many", parts_of(), DIM, n_jobs=2, correction=correction)
    assert index.correction is not None
    same(expected, index)
    other = NNN(k=3).fit(Views(image=QUERIES, text=QUERIES[::-1]))
    Index.create(tmp_path / "other", DIM, correction=other).close()
    with pytest.raises(ValueError, match="different corrections cannot be merged"):
        Index.merge(tmp_path / "no", [tmp_path / "many", tmp_path / "other"])


def test_features_of_embed(tmp_path, monkeypatch):
    from crossfit.datasets import from_table
    from crossfit.embedding import embed
    from crossfit.extraction import Characters

    monkeypatch.chdir(tmp_path)
    texts = [f"picture {i} of {'light ' * (i % 5)}" for i in range(25)]
    pairs = from_table(
        {"text": texts, "number": list(np.arange(50.0).reshape(25, 2))},
        views={"text": "text", "number": "number"},
    )
    embed(pairs, {"text": Characters()}, "features")
    values = np.load("features/text.npy")
    with build_shards("i", feature_parts("features", "text", 10), values.shape[1]) as index:
        assert index.ids == [str(i) for i in range(25)]
        np.testing.assert_allclose(index.search(values, 1).indices[:, 0], np.arange(25))
        assert index.get(["13"]) == [{"id": "13", "item": texts[13]}]
    assert [part.rows for part in feature_parts("features", "number", 20)] == [(0, 20), (20, 25)]
    with pytest.raises(ValueError, match="there is no view 'image': the views are text, number"):
        feature_parts("features", "image")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.sets(st.integers(0, 5))), min_size=1, max_size=5))
def test_merged_shards_with_removed_items(tmp_path_factory, shards):
    """Shards from which items were removed, against the items that are left, added at once."""
    folder = tmp_path_factory.mktemp("shards")
    kept, start = [], 0
    for at, (n, removed) in enumerate(shards):
        with Index.create(folder / f"{at}", DIM) as shard:
            shard.add(VECTORS[start : start + n], IDS[start : start + n])
            shard.remove([IDS[start + i] for i in removed if i < n])
        kept += [start + i for i in range(n) if i not in removed]
        start += n
    places = [folder / f"{at}" for at in range(len(shards))]
    with Index.merge(folder / "whole", places) as whole:
        assert whole.ids == [IDS[i] for i in kept]
        # Removals one by one, each of which writes a file with the generation in its name.
        for i in kept[:3]:
            whole.remove([IDS[i]])
        left = kept[3:]
        with Index.create(folder / "left", DIM) as expected:
            expected.add(VECTORS[left], [IDS[i] for i in left])
        found = whole.search(QUERIES, 5).ids.tolist()
        assert found == expected.search(QUERIES, 5).ids.tolist()
    start = 0
    for place, (n, removed) in zip(places, shards):  # the shards are as they were
        shard = Index.open(place)
        shard.check()
        assert shard.ids == [IDS[start + i] for i in range(n) if i not in removed]
        start += n
        shutil.rmtree(place)
    assert Index.open(folder / "whole").search(QUERIES, 5).ids.tolist() == found


def test_other_disks(tmp_path, monkeypatch):
    expected = at_once(tmp_path / "one", parts_of())
    expected.remove(["item 1"])

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    same(expected, Index.merge(tmp_path / "copy", [tmp_path / "one"]))
    monkeypatch.setattr(shutil, "copyfile", refuse)
    with pytest.raises(OSError, match="cross-device"):
        Index.merge(tmp_path / "fails", [tmp_path / "one"])
    assert sorted(os.listdir(tmp_path)) == ["copy", "one"]  # nothing half-written


def test_what_cannot_be_merged(tmp_path):
    def made(name, dim=2, payload=None, ids=("x",), **options):
        with Index.create(tmp_path / name, dim, **options) as index:
            index.add(np.ones((len(ids), dim)), list(ids), payload)
        return tmp_path / name

    first = made("a", payload={"year": [1]})
    for other, message in [
        (made("b", dim=3), "different dim cannot be merged: 2 in .*a' and 3 in"),
        (made("c", metric="dot"), "different metric"),
        (made("d", meta={"model": "other"}), "different meta"),
        (made("e", payload={"year": ["old"]}, ids="y"), "column 'year' is int64 in .* and string"),
        (made("f", ids="yx"), "ids must differ, and 'x' is in more than one index"),
    ]:
        with pytest.raises(ValueError, match=message):
            Index.merge(tmp_path / "no", [first, other])
    late = [made("h", ids="z"), made("i", ids="u", payload={"n": [None]})]
    late += [made("j", ids="v", payload={"n": [1.5]}), made("k", ids="w", payload={"n": [True]})]
    with pytest.raises(ValueError, match=r"column 'n' is double in .*j' and bool in .*k'"):
        Index.merge(tmp_path / "no", late)
    assert Index.merge(tmp_path / "types", late[:3]).columns == {"n": "double"}
    with pytest.raises(ValueError, match="at least one index"):
        Index.merge(tmp_path / "no", [])
    with pytest.raises(FileExistsError, match="exists already"):
        Index.merge(first, [made("g")])
    with pytest.raises(FileNotFoundError, match="there is no index in"):
        Index.merge(tmp_path / "no", [first, tmp_path / "absent"])
    with Index.open(first, "a") as index:
        index.remove(["x"])
    assert Index.merge(tmp_path / "yes", [first, tmp_path / "f"]).ids == ["y", "x"]
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_errors_of_parts(tmp_path, n_jobs):
    good = Part(VECTORS[:2], ["a", "b"], {"year": [1, 2]})
    (tmp_path / "text.npy").write_text("not an array")
    np.save(tmp_path / "v.npy", VECTORS)
    for bad, error, message in [
        (Part(VECTORS[:2], ["b", "c"]), ValueError, "ids must differ, got 'b' 2 times"),
        (Part(VECTORS[:2, :3], ["c", "d"]), ValueError, r"shape \(n, 6\), got shape \(2, 3\)"),
        (Part(VECTORS[:3], ["c", "d"]), ValueError, "one vector per id is required, got 3 for 2"),
        (Part([[np.nan] * 6], ["c"]), ValueError, "finite vectors"),
        (Part(VECTORS[:1], ["c"], {"year": ["x"]}), ValueError, "column 'year' is int64"),
        (Part("absent.npy", ["c"]), FileNotFoundError, "no file 'absent.npy'"),
        (Part(tmp_path / "text.npy", ["c"]), ValueError, "is not a file of an array"),
        (Part(tmp_path / "v.npy", ["c"], rows=(500, 501)), ValueError, "rows 500 to 501 are not"),
        ("x", TypeError, "parts must be of the class Part, got 'x'"),
    ]:
        with pytest.raises(error, match=message):
            build_shards(tmp_path / "i", [good, bad], DIM, n_jobs=n_jobs)
    with pytest.raises(ValueError, match="'metric' parameter"):
        build_shards(tmp_path / "i", [good], DIM, n_jobs=n_jobs, metric="cosines")
    with pytest.raises(ValueError, match="scheduler excludes n_jobs"):
        build_shards(tmp_path / "i", [good], DIM, n_jobs=2, scheduler="tcp://127.0.0.1:1")
    assert sorted(os.listdir(tmp_path)) == ["text.npy", "v.npy"]


class KilledOnce:
    """Vectors of a process that is killed when it reads them for the first time."""

    def __init__(self, rows, path):
        self.rows, self.path = rows, path

    def __call__(self):
        try:
            self.path.touch(exist_ok=False)
        except FileExistsError:
            return self.rows
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process(tmp_path):
    expected = at_once(tmp_path / "one", parts_of())
    parts = parts_of()
    parts[2] = Part(KilledOnce(parts[2].vectors, tmp_path / "was"), parts[2].ids, parts[2].payload)
    same(expected, build_shards(tmp_path / "many", parts, DIM, n_jobs=2))
    assert sorted(os.listdir(tmp_path)) == ["many", "one", "was"]


def test_a_cluster_that_loses_a_worker(tmp_path, monkeypatch, two_workers):
    monkeypatch.chdir(tmp_path)
    address, workers = two_workers
    expected = at_once(tmp_path / "one", parts_of())
    parts = [
        Part(part.vectors[i : i + 20], part.ids[i : i + 20], {k: v[i : i + 20] for k, v in
             part.payload.items()})
        for part in parts_of() for i in range(0, len(part.ids), 20)
    ]  # fmt: skip
    np.save("v.npy", VECTORS[:20])
    parts[0] = Part("v.npy", parts[0].ids, parts[0].payload)
    done = []

    def kill(n):
        done.append(n)
        if len(done) == 3:
            os.killpg(workers[0].pid, signal.SIGKILL)

    with build_shards("far", parts, DIM, scheduler=address, listener=kill) as index:
        assert workers[0].wait(timeout=10) == -signal.SIGKILL
        assert sum(done) == N and len(done) == len(parts)
        same(expected, index)
    left = sorted(set(os.listdir(tmp_path)))
    assert left == ["far", "one", "v.npy"]
