"""Index on disk: kills, one writer and several readers, damaged files, and structures of faiss."""

import json
import multiprocessing
import os
import random
import select
import signal
import time

import numpy as np
import pytest

from crossfit.retrieval import Index, Tuning, _structures
from crossfit.retrieval._segments import write_manifest

faiss = pytest.importorskip("faiss")
pytest.importorskip("pyarrow")


def rows(n, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def vector_of(name, version):
    return np.random.default_rng([*name.encode(), version]).normal(size=8)


# ---- kills -------------------------------------------------------------------------------


def churn(folder, pipe, seed, n_kept):
    """Change the index until killed; write what begins and what has been acknowledged."""
    rng = random.Random(seed)
    index = Index.open(folder, "a")
    known = {row["id"]: row["version"] for row in index.table().to_pylist()}
    number = 0
    while True:
        number += 1
        kind = rng.choice(["add", "add", "remove", "update", "compact"])
        if kind == "add":
            names = {f"{seed}-{number}-{i}": 0 for i in range(rng.randint(1, 20))}
        else:
            names = rng.sample(sorted(known), min(len(known), rng.randint(1, 10)))
            names = {name: known[name] + 1 for name in names}
        if kind == "remove" and len(known) < n_kept:
            continue
        os.write(pipe, (json.dumps(["begin", kind, names]) + "\n").encode())
        ids, versions = list(names), list(names.values())
        if kind == "remove":
            index.remove(ids)
            known = {name: version for name, version in known.items() if name not in names}
        elif kind == "compact":
            index.compact()
        else:
            vectors = [vector_of(name, version) for name, version in names.items()]
            act = index.add if kind == "add" else index.update
            if names:
                act(vectors, ids, {"version": versions})
            known |= names
        os.write(pipe, (json.dumps(["done", kind, names]) + "\n").encode())


def applied(state, kind, names):
    if kind == "remove":
        return {name: version for name, version in state.items() if name not in names}
    return state if kind == "compact" else {**state, **names}


@pytest.mark.slow
def test_two_hundred_kills_lose_and_double_nothing(tmp_path):
    folder = tmp_path / "i"
    with Index.create(folder, 8, metric="dot") as index:
        index.add([vector_of("first", 0)], ["first"], {"version": [0]})
    state = {"first": 0}
    rng = random.Random(0)
    kills = changes = torn = 0
    while kills < 200:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                churn(folder, write, kills, 40)
            except BaseException as error:
                os.write(write, (json.dumps(["error", repr(error), {}]) + "\n").encode())
            os._exit(1)
        os.close(write)
        lines = os.read(read, 2**16)  # the first change begins
        until = time.monotonic() + rng.uniform(0, 0.1)
        while (left := until - time.monotonic()) > 0:
            if select.select([read], [], [], left)[0]:
                lines += os.read(read, 2**16)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while more := os.read(read, 2**16):
            lines += more
        os.close(read)
        kills += 1
        pending = None
        for line in lines.decode().splitlines():
            what, kind, names = json.loads(line)
            assert what != "error", kind
            pending = (kind, names) if what == "begin" else None
            if what == "done":
                state = applied(state, kind, names)
                changes += 1
        index = Index.open(folder)
        table = index.table().to_pylist()
        found = {row["id"]: row["version"] for row in table}
        assert len(found) == len(table) == len(index), "an item is there twice"
        if found != state:  # the change that was under way is whole
            assert pending is not None
            assert found == applied(state, *pending)
            state = found
            torn += 1
        some = sorted(found)[:: max(1, len(found) // 10)]
        stored = index.vectors(some)
        expected = np.array([vector_of(name, found[name]) for name in some])
        np.testing.assert_allclose(stored, expected, rtol=1e-6)
    assert changes > 50 and torn
    with Index.open(folder, "a") as index:  # removes what killed writers left
        index.check()
        listed = {
            f"{e['name']}.{p}" for e in index._snapshot.manifest["segments"] for p in e["files"]
        }
        present = {name for name in os.listdir(folder) if name.startswith("s0")}
        assert {name for name in present if "dead" not in name} == listed


# ---- one writer, several readers ---------------------------------------------------------


def read_until(folder, stop, failures, seen):
    try:
        index = Index.open(folder)
        while not stop.is_set():
            table = index.table()
            ids = table.column("id").to_pylist()
            batches = set(table.column("batch").to_pylist())
            # A batch of ten is there as a whole, or not at all.
            assert len(ids) == len(set(ids)) == 10 * len(batches) == len(index)
            assert index.search(rows(3), k=5).ids.shape[1] == min(5, len(ids))
            seen.value += index.refresh()
    except BaseException as error:
        failures.put(repr(error))


def test_two_readers_and_a_writer(tmp_path):
    folder = tmp_path / "i"
    context = multiprocessing.get_context("spawn")
    stop, failures = context.Event(), context.Queue()
    seen = [context.Value("i", 0) for _ in range(2)]
    with Index.create(folder, 8) as index:
        add_batch(index, 0)
        readers = [
            context.Process(target=read_until, args=(folder, stop, failures, each)) for each in seen
        ]
        for reader in readers:
            reader.start()
        start, number = time.monotonic(), 0
        while min(each.value for each in seen) < 20 and time.monotonic() < start + 40:
            number += 1
            add_batch(index, number)
            if number % 3 == 0:
                index.remove([f"{number - 1}-{i}" for i in range(10)])
            if number % 7 == 0:
                index.compact()
        stop.set()
        for reader in readers:
            reader.join(30)
    assert failures.empty(), failures.get()
    assert min(each.value for each in seen) >= 5
    assert [reader.exitcode for reader in readers] == [0, 0]


def add_batch(index, number):
    index.add(rows(10, seed=number), [f"{number}-{i}" for i in range(10)], {"batch": [number] * 10})


def test_only_one_writes(tmp_path):
    index = Index.create(tmp_path / "i", 2)
    with pytest.raises(BlockingIOError, match="is open for writing elsewhere"):
        Index.open(tmp_path / "i", "a")
    reader = Index.open(tmp_path / "i")
    with pytest.raises(ValueError, match="is open for reading"):
        reader.add([[1, 0]], ["a"])
    index.close()
    with pytest.raises(ValueError, match="is closed"):
        index.add([[1, 0]], ["a"])
    Index.open(tmp_path / "i", "a").close()


# ---- damage ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    with Index.create(tmp_path / "i", 8) as index:
        index.add(rows(50), [str(i) for i in range(50)], {"n": range(50)})
        index.remove(["7"])
    return tmp_path / "i"


@pytest.mark.parametrize("part", ["vectors", "rows", "keys", "dead", "manifest"])
@pytest.mark.parametrize("how", ["cut", "missing", "noise"])
def test_a_damaged_file_is_one_sentence(folder, part, how):
    (path,) = (path for path in folder.iterdir() if part in path.name)
    raw = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        rng = np.random.default_rng(0)
        path.write_bytes(raw[: len(raw) // 2] if how == "cut" else rng.bytes(len(raw)))
    with pytest.raises((ValueError, FileNotFoundError), match=r"is damaged|there is no index") as e:
        index = Index.open(folder)
        index.check()
    assert "\n" not in str(e.value)


def test_manifests_that_name_other_files_are_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]
    for change in (
        lambda m: m["segments"][0].update(name="../../x"),
        lambda m: m["segments"][0].update(rows=-1),
        lambda m: m["segments"][0].update(rows=10**9),
        lambda m: m.update(width=7),
        lambda m: m.update(structure={"file": "/etc/passwd", "settings": {}, "segments": 1}),
        lambda m: m.update(metric="nearness"),
        lambda m: m.pop("segments"),
    ):
        changed = json.loads(json.dumps(manifest))
        change(changed)
        write_manifest(folder, changed)
        with pytest.raises(ValueError, match="is damaged"):
            Index.open(folder)
    write_manifest(folder, {**manifest, "format": 99})
    with pytest.raises(ValueError, match="has format 99, and this version of crossfit reads 1"):
        Index.open(folder)


def test_a_failure_while_writing_leaves_the_index_as_it_was(folder, monkeypatch):
    from crossfit.retrieval import _segments

    with Index.open(folder, "a") as index:
        before = sorted(path.name for path in folder.iterdir())
        monkeypatch.setattr(_segments, "keys_of", lambda ids: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            index._commit(index._snapshot, {}, (1, iter([_one(index)])))
        monkeypatch.undo()
        assert sorted(path.name for path in folder.iterdir()) == before
        index.add(rows(1), ["new"])
        assert len(index) == 50


def _one(index):
    return rows(1).astype(np.float32)[:, None], index.table().slice(0, 1)


# ---- structures --------------------------------------------------------------------------


def clustered(n, seed):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(40, 16))
    return centres[rng.integers(0, 40, n)] + 0.5 * rng.normal(size=(n, 16))


@pytest.mark.parametrize("n", [1, 255, 256])
@pytest.mark.parametrize("kind", ["hnsw", "int8", "ivf-pq"])
def test_structures_of_few_vectors(tmp_path, kind, n):
    with Index.create(tmp_path / "i", 16, kind=kind) as index:
        index.add(clustered(n, 1), [str(i) for i in range(n)])
        index.compact()
        assert index.kind == ("exact" if kind == "ivf-pq" and n < 256 else kind)
        found = index.search(clustered(n, 1), k=1).ids.ravel()
    assert np.mean(found == np.arange(n).astype(str)) > 0.95


@pytest.mark.parametrize("kind", ["hnsw", "int8", "ivf-pq"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_structures_meet_their_target(tmp_path, kind, metric):
    items, ids = clustered(6000, 1), [str(i) for i in range(6000)]
    with Index.create(tmp_path / "exact", 16, metric=metric) as exact:
        exact.add(items, ids, {"n": np.arange(6000)})
    with Index.create(tmp_path / "i", 16, metric=metric, kind=kind) as index:
        index.add(items, ids, {"n": np.arange(6000)})
        assert index.kind == "exact"
        index.compact()
        assert index.kind == kind
        tuning = index.tune(clustered(200, 2), 0.9)
        assert tuning.met and str(tuning).count("chosen") == 1
        new = clustered(30, 3)
        index.add(new, [f"new {i}" for i in range(30)], {"n": [-1] * 30})
        index.remove([str(i) for i in range(500)])
    exact = Index.open(tmp_path / "exact", "a")
    exact.add(new, [f"new {i}" for i in range(30)], {"n": [-1] * 30})
    exact.remove([str(i) for i in range(500)])
    index = Index.open(tmp_path / "i")
    assert index.tuning.rows == tuning.rows
    queries = clustered(200, 4)
    a, b = exact.search(queries), index.search(queries)
    assert np.mean([np.isin(x, y).mean() for x, y in zip(a.ids, b.ids)]) > 0.87
    shared = dict(zip(a.ids[0], a.scores[0]))
    for name, score in zip(b.ids[0], b.scores[0]):  # scores are those of the vectors themselves
        assert abs(shared.get(name, score) - score) < 1e-5
    assert not np.isin(b.ids, [str(i) for i in range(500)]).any()
    assert index.search(new, k=1).ids.ravel().tolist() == [f"new {i}" for i in range(30)]
    # Few items that satisfy a filter are compared exactly, many in the structure.
    few = "n < 520"
    assert (
        index.search(queries, where=few).ids.tolist()
        == exact.search(queries, where=few).ids.tolist()
    )
    index.check()


def noisy(n, seed):
    """Vectors of few dimensions with noise, whose codes of a few bytes order near ones poorly."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((8, 32))
    return rng.standard_normal((n, 8)) @ mixing + 2 * rng.standard_normal((n, 32))


def test_any_target_is_met_by_more_candidates_and_lists(tmp_path, monkeypatch):
    # As many lists as a million vectors have.
    monkeypatch.setattr(_structures, "n_lists", lambda n: 1024)
    with Index.create(tmp_path / "i", 32, kind="ivf-pq") as index:
        index.add(noisy(12_000, 1), [str(i) for i in range(12_000)])
        queries = noisy(100, 2)
        exact = index.search(queries).ids
        index.compact()
        lists = faiss.downcast_index(index._snapshot.structure.index.index)
        centres = lists.quantizer.reconstruct_n(0, 1024)
        order = np.argsort(-queries @ centres.T, axis=1)
        for n in (32, 256, 1024):  # the nearest lists are those that are compared
            probed = lists.quantizer.search(queries.astype(np.float32), n)[1]
            assert np.mean([np.isin(a[:n], b).mean() for a, b in zip(order, probed)]) > 0.999
        for target in (0.95, 1.0):
            tuning = index.tune(queries, target)
            assert tuning.met and not tuning.shortfall, str(tuning)
            row = tuning.rows[tuning.chosen]
            fast = [one for one in tuning.rows if one["low"] >= target]
            assert row["per_second"] == max(one["per_second"] for one in fast)
            assert len({tuple(one["settings"].values()) for one in tuning.rows}) == len(tuning.rows)
            found = index.search(queries).ids
            shares = [np.isin(a, b).mean() for a, b in zip(exact, found)]
            assert np.mean(shares) == pytest.approx(row["recall"])


def test_a_target_that_is_not_met_has_a_sentence_on_what_was():
    rows = [
        {"settings": {"nprobe": 1, "refine": 10}, "recall": 0.9, "low": 0.88, "per_second": 9.0},
        {"settings": {"nprobe": 2, "refine": 10}, "recall": 0.951, "low": 0.947, "per_second": 5.0},
    ]
    tuning = Tuning("ivf-pq", 10, 0.95, 100, rows, 2.0, None)
    sentence = (
        "no settings reach 0.95; the best, nprobe=2, refine=10, find 0.951 of the exact results, "
        "0.947 at least"
    )
    assert tuning.shortfall == sentence and str(tuning).endswith("\n" + sentence)


@pytest.mark.parametrize("combine", ["max", "sum"])
def test_structures_of_items_with_several_vectors(tmp_path, combine):
    vectors = {"image": clustered(3000, 1), "caption": clustered(3000, 2)}
    ids = [str(i) for i in range(3000)]
    views = ["image", "caption"]
    with Index.create(tmp_path / "i", 16, kind="hnsw", views=views, combine=combine) as index:
        index.add(vectors, ids)
        queries = clustered(50, 3)
        exact = index.search(queries), index.search(queries, view="caption")
        index.compact()
        found = index.search(queries), index.search(queries, view="caption")
    for a, b in zip(exact, found):
        assert np.mean([np.isin(x, y).mean() for x, y in zip(a.ids, b.ids)]) > 0.95
        assert all(len(set(names)) == 10 for names in b.ids.tolist())


def test_many_filtered_items_are_searched_in_the_structure(tmp_path, monkeypatch):
    monkeypatch.setattr("crossfit.retrieval.stored._FEW", 100)
    items, ids = clustered(4000, 1), [str(i) for i in range(4000)]
    with Index.create(tmp_path / "i", 16, kind="hnsw") as index:
        index.add(items, ids, {"n": np.arange(4000)})
        queries, where = clustered(40, 2), "n >= 2000"
        exact = index.search(queries, where=where)
        index.compact()
        found = index.search(queries, where=where)
    assert found.ids.shape == (40, 10)
    assert min(item["n"] for item in found.items.ravel()) >= 2000
    assert np.mean([np.isin(x, y).mean() for x, y in zip(exact.ids, found.ids)]) > 0.9


def test_a_damaged_structure_is_not_read(tmp_path):
    with Index.create(tmp_path / "i", 16, kind="hnsw") as index:
        index.add(clustered(500, 1), [str(i) for i in range(500)])
        index.compact()
    (path,) = (tmp_path / "i").glob("structure-*")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="does not have its checksum"):
        Index.open(tmp_path / "i").search(clustered(1, 2))
