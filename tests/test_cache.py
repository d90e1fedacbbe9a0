"""The feature cache: exactness, the size limit, several processes, and damaged files."""

import contextlib
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from crossfit.cache import FeatureCache, cache_folder


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


def test_arrays_come_back_as_they_were(cache):
    given_ = {
        "vector": np.arange(5, dtype=np.float32),
        "scalar": np.float64(2.5),
        "empty": np.zeros((0, 4), np.float16),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "strided": np.arange(10)[::3],
        "bool": np.array([True, False]),
        "big-endian": np.arange(3, dtype=">i4"),
    }
    cache.put_many(given_)
    found = cache.get_many([*given_, "absent"])
    assert found.keys() == given_.keys()
    for key, value in given_.items():
        assert found[key].dtype == value.dtype
        assert found[key].shape == np.shape(value)
        np.testing.assert_array_equal(found[key], value)
        assert not found[key].flags.writeable


@settings(deadline=None)  # other programs also use the disk
@given(
    hnp.arrays(
        hnp.integer_dtypes() | hnp.floating_dtypes() | hnp.complex_number_dtypes(),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_any_array_survives(tmp_path_factory, array):
    cache = FeatureCache(tmp_path_factory.mktemp("any"))
    cache.put_many({"x": array})
    found = cache.get_many(["x"])["x"]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


def test_more_keys_than_one_query_takes(cache):
    cache.put_many({str(i): np.array(i) for i in range(1703)})
    found = cache.get_many(map(str, range(2000)))
    assert {key: int(value) for key, value in found.items()} == {str(i): i for i in range(1703)}


def test_objects_are_refused_before_anything_is_written(cache):
    with pytest.raises(TypeError, match="stores numbers, got dtype object"):
        cache.put_many({"good": np.zeros(2), "bad": np.array(["a", None], object)})
    assert not cache.path.exists()


def test_the_first_value_of_a_key_stays(cache):
    cache.put_many({"a": np.zeros(2)})
    cache.put_many({"a": np.ones(3)})
    np.testing.assert_array_equal(cache.get_many(["a"])["a"], np.zeros(2))
    assert cache.info()["bytes"] == 16


def test_least_recently_used_goes_first(tmp_path):
    cache = FeatureCache(tmp_path, max_bytes=4 * 800)
    for key in "abcd":
        cache.put_many({key: np.zeros(100)})
    cache.get_many(["a"])
    cache.put_many({"e": np.zeros(100)})
    assert cache.get_many("abcde").keys() == set("acde")
    assert cache.info()["bytes"] <= cache.max_bytes
    cache.put_many({"too large": np.zeros(401)})
    assert cache.get_many("acde").keys() == set("acde")


def test_the_file_stays_near_the_cap(tmp_path):
    cache = FeatureCache(tmp_path, max_bytes=200_000)
    for i in range(100):
        cache.put_many({str(i): np.zeros(10_000, np.uint8)})
    assert cache.info()["entries"] == 20
    assert cache.path.stat().st_size < 400_000


def test_info_and_clear(cache):
    assert cache.info()["entries"] == 0
    assert cache.clear() == 0
    cache.put_many({"a": np.zeros(2), "b": np.zeros(3)}, "Grid")
    cache.put_many({"c": np.zeros(1)}, "Net")
    info = cache.info()
    assert info["extractors"] == {
        "Grid": {"entries": 2, "bytes": 40},
        "Net": {"entries": 1, "bytes": 8},
    }
    assert (info["entries"], info["bytes"], info["error"]) == (3, 48, None)
    assert info["path"] == str(cache.path)
    with pytest.raises(ValueError, match="no entries of 'Gird'; it has entries of Grid, Net"):
        cache.clear("Gird")
    assert cache.clear("Grid") == 2
    assert cache.get_many("abc").keys() == {"c"}
    assert cache.clear() == 1
    with sqlite3.connect(cache.path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM arrays").fetchone() == (0,)


def test_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setenv("CROSSFIT_CACHE_SIZE", "1000")
    cache = FeatureCache()
    assert (cache.path.parent, cache.max_bytes) == (tmp_path / "here", 1000)
    monkeypatch.setenv("CROSSFIT_CACHE_SIZE", "2 GB")
    with pytest.raises(ValueError, match="whole number of bytes >= 0, got '2 GB'"):
        FeatureCache()
    monkeypatch.delenv("CROSSFIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "crossfit"


def _write_many(folder, start, stop):
    cache = FeatureCache(folder)
    for i in range(start, stop):
        cache.put_many({str(i): np.full(50, i), "shared": np.full(50, -1)}, "worker")
        assert cache.get_many([str(i)])[str(i)][0] == i


def test_two_processes_write_one_new_file(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    workers = [
        spawn.Process(target=_write_many, args=(tmp_path, start, start + 60)) for start in (0, 60)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    cache = FeatureCache(tmp_path)
    found = cache.get_many(map(str, range(120)))
    assert sorted(int(value[0]) for value in found.values()) == list(range(120))
    assert cache.info()["bytes"] == 121 * 400


def test_threads_write_one_new_file(tmp_path):
    threads = [
        threading.Thread(target=_write_many, args=(tmp_path, k * 20, k * 20 + 20)) for k in range(4)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert FeatureCache(tmp_path).info()["entries"] == 81


@pytest.mark.parametrize("damage", ["rubbish", "middle"])
def test_a_damaged_file_warns_once_and_is_mended_by_clear(cache, damage):
    cache.put_many({str(i): np.zeros(1000) for i in range(50)})
    data = bytearray(cache.path.read_bytes())
    if damage == "rubbish":
        data[:] = b"no database" * 100
    else:
        data[4096:] = b"\xff" * (len(data) - 4096)
    cache.path.write_bytes(data)
    with pytest.warns(UserWarning, match="cannot be used .*continuing without it") as caught:
        assert cache.get_many(["0"]) == {}
        cache.put_many({"a": np.zeros(2)})
        assert cache.get_many(["a"]) == {}
    assert len(caught) == 1
    assert cache.info()["error"]
    cache.clear()
    cache.put_many({"a": np.zeros(2)})
    assert cache.get_many(["a"]).keys() == {"a"}


def test_a_damaged_entry_is_no_entry(cache):
    cache.put_many({"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros(2)})
    with sqlite3.connect(cache.path) as connection:
        connection.execute("UPDATE arrays SET shape = '[7]' WHERE id = 1")
        connection.execute("UPDATE arrays SET dtype = '|O' WHERE id = 2")
    with pytest.warns(
        UserWarning, match="2 of 3 looked up are dropped and computed again"
    ) as caught:
        assert cache.get_many("abc").keys() == {"c"}
        cache.put_many({"a": np.ones(2)})
        assert cache.get_many("abc").keys() == {"a", "c"}
    assert len(caught) == 1
    assert cache.get_many("a")["a"].tolist() == [1, 1]
    assert cache.info()["bytes"] == 32


def test_a_flipped_bit_is_no_entry(cache):
    cache.put_many({"a": np.arange(1000.0), "b": np.arange(1000.0) + 0.5})
    data = cache.path.read_bytes()
    at = data.index(np.arange(1000.0)[300:400].tobytes())
    cache.path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.warns(UserWarning, match="1 of 2 looked up are dropped"):
        assert cache.get_many("ab").keys() == {"b"}
    assert cache.get_many("ab").keys() == {"b"}
    cache.put_many({"a": np.arange(1000.0)})
    np.testing.assert_array_equal(cache.get_many("a")["a"], np.arange(1000.0))


def swap_rows(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE arrays SET id = -id")
        connection.execute("UPDATE arrays SET id = 41 + id")


def of_another_key(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE entries SET key = CAST('k' || (40 - id) AS BLOB) || x'00'")
        connection.execute("UPDATE entries SET key = CAST('k' || (40 - id) AS BLOB)")


def sql(statement):
    def damage(path):
        with sqlite3.connect(path) as connection:
            connection.executescript(statement)

    return damage


def overwritten(seed):
    """Flip bits, truncate the file, or repeat a page, at a random place."""

    def damage(path):
        rng = np.random.default_rng(seed)
        data = bytearray(path.read_bytes())
        n_pages = len(data) // 4096
        kind = seed % 4
        if kind == 0:
            for at in rng.integers(0, len(data), 1 + seed):
                data[at] ^= 1 << rng.integers(8)
        elif kind == 1:
            del data[rng.integers(len(data)) :]
        elif kind == 2:
            a, b = rng.integers(0, n_pages, 2) * 4096
            data[a : a + 4096], data[b : b + 4096] = data[b : b + 4096], data[a : a + 4096]
        else:
            at = rng.integers(0, len(data))
            data[at : at + 300] = rng.bytes(300)
        path.write_bytes(data)

    return damage


DAMAGES = {
    **{f"bytes {seed}": overwritten(seed) for seed in range(60)},
    "rows swapped": swap_rows,
    "keys swapped": of_another_key,
    "no arrays": sql("DELETE FROM arrays"),
    "no total": sql("DELETE FROM total"),
    "a total of text": sql("UPDATE total SET bytes = 'many'"),
    "no table": sql("DROP TABLE arrays"),
    "no triggers": sql("DROP TRIGGER entry_added; DROP TRIGGER entry_removed"),
    "sizes of text": sql("UPDATE entries SET size = 'x', extractor = CAST(x'ff' AS TEXT)"),
    "values of text": sql("UPDATE arrays SET value = 'x', dtype = x'00'"),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_gives_wrong_features_or_an_error(tmp_path, damage):
    right = {f"k{i}": np.random.default_rng(i).normal(size=300) for i in range(40)}
    cache = FeatureCache(tmp_path)
    cache.put_many(dict(list(right.items())[:20]), "first")
    cache.put_many(dict(list(right.items())[20:]), "second")
    DAMAGES[damage](cache.path)

    def check():
        for key, value in cache.get_many(right).items():
            np.testing.assert_array_equal(value, right[key])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check()
        cache.put_many(right, "third")
        check()
        cache.info()
        check()
    assert len(caught) <= 1, [str(warning.message) for warning in caught]
    with contextlib.suppress(ValueError):  # one warning if the whole file is lost
        cache.clear("first")
    cache.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.info()["entries"] == 0
        cache.put_many(right, "third")
        check()
        assert cache.get_many(right).keys() == right.keys()
        assert cache.info()["bytes"] == 40 * 2400


def test_what_was_kept_without_hashes_is_not_read_and_goes(cache):
    cache.path.parent.mkdir()
    old = [cache.path.with_name("features-v1.sqlite3" + end) for end in ("", "-wal", "-shm")]
    for path in old:
        path.write_bytes(b"SQLite format 3")
    assert cache.get_many("a") == {}
    cache.put_many({"a": np.zeros(2)})
    assert not any(path.exists() for path in old)
    old[0].write_bytes(b"SQLite format 3")
    cache.clear()
    assert not old[0].exists()


def test_keys_and_names_of_any_text(cache):
    keys = {chr(0xDCEF): 1, chr(0xFFFD): 2, "?": 3, "\udcef\x00": 4, "": 5}
    cache.put_many({key: np.array(i) for key, i in keys.items()}, "\udcef")
    assert {key: int(value) for key, value in cache.get_many(keys).items()} == keys
    assert cache.info()["extractors"] == {"?": {"entries": 5, "bytes": 40}}


def _in_read_only_folder(folder):
    if os.geteuid() == 0:  # for whom permissions do not apply
        os.setuid(65534)
    cache = FeatureCache(folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert cache.get_many("ab").keys() == {"a"}
        assert cache.info()["error"] is None
        cache.put_many({"b": np.zeros(2)})
        cache.put_many({"c": np.zeros(2)})
        assert cache.get_many("abc").keys() == {"a"}
    assert [
        "is read-only: stored features are used" in str(warning.message) for warning in caught
    ] == [True]
    with pytest.raises(OSError):
        cache.clear()
    assert cache.get_many("a").keys() == {"a"}


@pytest.mark.parametrize("mode", [0o555, 0o777])
def test_a_cache_that_may_only_be_read_answers(mode):
    folder = Path(tempfile.mkdtemp())
    try:
        FeatureCache(folder).put_many({"a": np.zeros(2)})
        FeatureCache(folder).path.chmod(0o444)
        folder.chmod(mode | 0o1000)
        worker = multiprocessing.get_context("fork").Process(
            target=_in_read_only_folder, args=(folder,)
        )
        worker.start()
        worker.join(60)
        assert worker.exitcode == 0
        assert [path.name for path in folder.iterdir()] == [FeatureCache(folder).path.name]
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["fifo", "link", "broken link", "folder"])
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_what_is_no_regular_file_is_refused(cache, kind, suffix, tmp_path):
    cache.put_many({"a": np.zeros(2)})
    place = cache.path.with_name(cache.path.name + suffix)
    place.unlink(missing_ok=True)
    target = tmp_path / "target"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(target)
        if kind == "link":
            target.write_bytes(b"")
    with pytest.warns(UserWarning, match=f"{place.name} is not a regular file") as caught:
        assert cache.get_many("a") == {}
        cache.put_many({"a": np.ones(2)})
        assert cache.get_many("a") == {}
    assert len(caught) == 1
    if kind == "folder":
        return
    cache.clear()
    assert not target.exists() or target.read_bytes() == b""
    cache.put_many({"a": np.ones(2)})
    assert cache.get_many("a").keys() == {"a"}


def test_clear_waits_for_no_other_process(cache, monkeypatch):
    cache.put_many({"a": np.zeros(2)}, "Grid")
    monkeypatch.setattr("crossfit.cache._BUSY_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(cache.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for name in (None, "Grid"):
            with pytest.raises(TimeoutError, match="in use by another process; nothing is deleted"):
                cache.clear(name)
    assert cache.get_many("a").keys() == {"a"}


def test_a_folder_that_cannot_be_made_warns_once(tmp_path):
    (tmp_path / "file").write_text("")
    cache = FeatureCache(tmp_path / "file" / "cache")
    with pytest.warns(UserWarning, match="cannot be used") as caught:
        cache.put_many({"a": np.zeros(2)})
        cache.put_many({"b": np.zeros(2)})
        assert cache.get_many("ab") == {}
    assert len(caught) == 1


def test_an_interrupted_write_leaves_nothing_of_it(cache, monkeypatch):
    cache.put_many({"a": np.zeros(2)})

    def interrupt(self, connection):
        raise KeyboardInterrupt

    monkeypatch.setattr(FeatureCache, "_evict", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.put_many({"b": np.zeros(2)})
    monkeypatch.undo()
    assert cache.get_many("ab").keys() == {"a"}
    cache.put_many({"b": np.zeros(2)})
    assert cache.info()["bytes"] == 32


def test_importing_it_is_light():
    code = (
        "import sys, crossfit.cache; "
        "print({'torch', 'sklearn', 'scipy', 'platformdirs'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


@pytest.mark.parametrize("damage", ["no total", "no table", "bytes 2", "bytes 5"])
def test_the_command_clears_a_damaged_cache(cache, damage, monkeypatch, capsys):
    from crossfit.cli import main

    monkeypatch.setenv("CROSSFIT_CACHE", str(cache.path.parent))
    cache.put_many({str(i): np.zeros(300) for i in range(40)}, "Grid")
    DAMAGES[damage](cache.path)
    main(["cache", "info"])
    main(["cache", "clear", "--yes"])
    main(["cache", "info"])
    assert capsys.readouterr().out.endswith("0 features, 0.0 MiB\n")
