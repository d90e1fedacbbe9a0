"""Every file of a store, damaged in many ways: an error, a recomputation or the same results."""

import contextlib
import json
import os
import shutil
import warnings

import numpy as np
import pytest

from crossfit.experiment import Experiment, SpecError, Store, StoreError, run
from crossfit.experiment import store_files as files_module
from crossfit.experiment.features import _write
from crossfit.experiment.store_files import SUMS
from crossfit.report import page as report
from crossfit.report import report_runs
from crossfit.report.boards import boards

SCALE = {"name": "sklearn.preprocessing.StandardScaler"}
METHODS = [
    {"method": "tiny", "label": "A"},
    {"method": "tiny-fixed", "label": "T", "tune": {"power": {"float": [0.5, 2.0]}}},
]
OTHERS = [b"", b"[]", b"{}", b"null", b"7", b'"x"', b"[null]", b'{"a": [1]}', b"\xff\xfe\x00",
          b"[" * 60_000, b"PK\x03\x04"]  # fmt: skip


def experiment():
    return Experiment(
        title="Tiny", dataset="tiny-data", methods=METHODS, metrics=["map@all", "r@5"],
        features={"image": SCALE}, tuning={"trials": 2, "folds": 2},
    )  # fmt: skip


@pytest.fixture
def store(tiny, tmp_path, monkeypatch):
    """Return a store with a finished run; its reports have no plots, which take time."""
    run(experiment(), tmp_path / "s")
    monkeypatch.setattr(report, "_plots", lambda *_: [])
    monkeypatch.setattr(report, "_plots_first", lambda *_: [])
    return tmp_path / "s"


def files_of(store):
    kept = [path for path in sorted(store.rglob("*")) if path.is_file() and path.name != ".guard"]
    kinds = {}
    for path in kept:  # one of each kind is enough
        parts = path.relative_to(store).parts
        kinds.setdefault((parts[0], path.name if len(parts) > 2 else ""), path)
    return list(kinds.values())


def found(record):
    return [(c.label, c.status, json.dumps(c.results, sort_keys=True), c.chosen, sorted(c.arrays()))
            for c in record.cells]  # fmt: skip


def test_every_kind_of_file_is_there(store):
    names = {"/".join(path.relative_to(store).parts) for path in files_of(store)}
    kinds = {(name.split("/")[0], name.split("/")[-1]) for name in names if name.count("/") > 1}
    assert kinds == {
        ("cells", "cell.json"), ("cells", "arrays.npz"), ("cells", SUMS), ("cells", "trials.json"),
        ("features", "values.json"), ("features", "0.npy"), ("features", SUMS),
        ("searches", "search.json"), ("searches", SUMS),
    }  # fmt: skip
    assert {name.split("/")[0] for name in names} >= {"plans", "runs", "test_evaluations.jsonl"}


def damages(content):
    middle = len(content) // 2
    yield content[:middle]
    yield content[:-1]
    for at in (0, middle, len(content) - 2):
        yield content[:at] + bytes([content[at] ^ 0x11]) + content[at + 1 :]
    yield from OTHERS


def put(path, content):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def reported(store, out):
    try:
        report_runs(["tiny"], store, out)
    except StoreError as error:
        assert str(store) in str(error) or "no cell of" in str(error), error
        return str(error)
    return ""


@pytest.mark.parametrize("place", ["cells", "runs", "plans", "test_evaluations.jsonl"])
def test_a_damage_is_told_by_the_report_and_mended_by_the_run(store, tmp_path, place):
    whole = found(Store(store).run("tiny"))
    for path in [path for path in files_of(store) if path.relative_to(store).parts[0] == place]:
        content = path.read_bytes()
        for damage in damages(content):
            put(path, damage)
            said = reported(store, tmp_path / "r")
            if said:
                assert path.name in said or path.name == SUMS, (path, damage[:40], said)
            else:  # a line that is incomplete, for instance
                assert found(Store(store).run("tiny")) == whole, (path, damage[:40])
            files_module._warned.clear()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                record = run(experiment(), store)
            assert found(record) == whole, (path, damage[:40])
            if place == "cells" and said:
                assert any("is computed again" in str(w.message) for w in caught)
            content = path.read_bytes() if path.exists() else content
        assert not reported(store, tmp_path / "r")


def test_features_and_searches_that_are_damaged_are_computed_again_with_one_warning(
    store, tmp_path
):
    whole = found(Store(store).run("tiny"))
    for path in files_of(store):
        if path.relative_to(store).parts[0] not in ("searches", "features"):
            continue
        content = path.read_bytes()
        for damage in list(damages(content))[::2]:  # each computes all cells
            if path.name == SUMS and damage.strip() == content.strip():
                continue
            home = tmp_path / "copy"
            shutil.copytree(store, home)
            shutil.rmtree(home / "cells")  # everything is computed from the store
            put(home / path.relative_to(store), damage)
            files_module._warned.clear()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                record = run(experiment(), home)
            assert found(record) == whole, (path, damage[:40])
            told = [str(w.message) for w in caught if "is computed again" in str(w.message)]
            assert len(told) == 1 and str(home) in told[0], (path, damage[:40], told)
            shutil.rmtree(home)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_and_folders_in_the_place_of_files_are_told_and_mended(store, tmp_path):
    whole = found(Store(store).run("tiny"))
    for path in files_of(store):
        if path.name == "test_evaluations.jsonl":
            continue
        for make in (os.mkfifo, os.mkdir, lambda p: os.symlink(p, p), lambda p: None):
            path.unlink()
            make(path)
            reported(store, tmp_path / "r")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    assert found(run(experiment(), store)) == whole, path
                except StoreError as error:
                    assert path.name in str(error)
            if not path.is_file():
                break
    assert not any(part.name.startswith(".") for part in (store / "cells").iterdir())


def variants(value, depth=2):
    """Yield copies of a value with one part replaced by a value of another type."""
    for other in ([], {}, None, 3, "x", True, [[1]], {"a": {"b": 1}}):
        yield other
    if depth and isinstance(value, dict):
        for key in value:
            for other in variants(value[key], depth - 1):
                yield {**value, key: other}
            yield {name: part for name, part in value.items() if name != key}


@pytest.mark.parametrize("name", ["cells", "runs"])
def test_records_of_an_older_crossfit_which_have_no_hashes_are_read_and_checked(
    store, tmp_path, name
):
    for sums in store.rglob(SUMS):
        sums.unlink()
    path = next((store / name).glob("tiny.json" if name == "runs" else "*/cell.json"))
    content = json.loads(path.read_text())
    content.pop("sha256", None)
    path.write_text(json.dumps(content))
    assert not reported(store, tmp_path / "r")
    for i, variant in enumerate(variants(content)):
        path.write_text(json.dumps(variant))
        # The page takes most of the time: every variant is read and compared, some are shown.
        try:
            record = Store(store).run("tiny")
        except StoreError as error:
            assert str(path) in str(error)
            continue
        with contextlib.suppress(StoreError):
            boards([record])
        if i % 5 == 0 or record.cells == ():
            reported(store, tmp_path / "r")


def test_arrays_of_an_older_crossfit_are_checked(store, tmp_path):
    for sums in store.rglob(SUMS):
        sums.unlink()
    path = next((store / "cells").glob("*/arrays.npz"))
    with np.load(path) as file:
        arrays = dict(file)
    for name, array in arrays.items():
        for other in (array[:-1], array[None], array.astype("U5"), array.astype("M8[s]"),
                      np.zeros(0), np.array(3)):  # fmt: skip
            np.savez(path, **{**arrays, name: other})
            with pytest.raises(StoreError, match=r"arrays\.npz is damaged"):
                Store(store).cell(path.parent.name).check()
            assert "arrays.npz" in reported(store, tmp_path / "r")
    np.savez(path, **arrays)
    assert not reported(store, tmp_path / "r")


def test_a_spec_of_the_wrong_kind_is_never_something_else_than_a_sentence(tiny):
    for other in ([], {}, None, 3, "x", True, [[1]], {"a": {"b": 1}}, float("nan"), 1e400, -1):
        for key in ("title", "dataset", "methods", "features", "splits", "seeds", "metrics",
                    "relevance", "ties", "tuning", "baseline", "reduced", "name"):  # fmt: skip
            given = {"title": "t", "dataset": "tiny-data", "methods": ["tiny"], key: other}
            try:
                Experiment.from_dict(given, "e.yaml")
            except SpecError as error:
                assert "\n" not in str(error)


def test_a_disk_without_room_is_one_sentence_and_leaves_no_draft(tiny, tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = Store(tmp_path / "s")
    values = np.zeros((100, 100))
    for write in (
        lambda draft: _write(values, draft),
        lambda draft: (draft / "cell.json").write_bytes(values.tobytes()),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        try:
            with (
                pytest.raises(OSError, match=r"^cannot write a result to '.*': the file is larger"),
                store.new_folder(tmp_path / "s" / "features" / "x") as draft,
            ):
                write(draft)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list((tmp_path / "s" / "features").iterdir()) == []
    with store.new_folder(tmp_path / "s" / "features" / "x") as draft:
        _write(values, draft)
    assert np.load(tmp_path / "s" / "features" / "x" / "0.npy").shape == (100, 100)
    assert (tmp_path / "s" / "features" / "x" / "0.npy").stat().st_size == 128 + values.nbytes
