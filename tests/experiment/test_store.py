"""The store: keys, atomic writes, claims."""

import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfit.experiment.keys import canonical, key_of
from crossfit.experiment.store import Store
from crossfit.experiment.store_files import StoreError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def shuffled(value, rng):
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: shuffled(value[key], rng) for key in keys}
    return [shuffled(part, rng) for part in value] if isinstance(value, list) else value


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), JSON), st.randoms())
def test_a_key_does_not_depend_on_the_order_of_keys(value, rng):
    assert key_of(value) == key_of(shuffled(value, rng))


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_canonical_json_reads_back_as_what_it_was(value):
    found = json.loads(canonical(value))

    def same(a, b):
        if isinstance(a, float) and isinstance(b, dict):
            return b == {"$float": str(a)}
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
        if isinstance(a, list):
            return len(a) == len(b) and all(map(same, a, b))
        return a == b

    assert same(value, found)


def test_values_that_differ_have_different_keys():
    values = [1, 1.5, True, None, "1", [1], {"a": 1}, math.nan, math.inf, 2**60 + 1]
    assert len({key_of({"v": value}) for value in values}) == len(values)
    assert key_of({"v": np.float32(0.5)}) == key_of({"v": 0.5})
    assert key_of({"v": (1, 2)}) == key_of({"v": [1, 2]})


def test_what_has_no_lasting_identity_has_no_key():
    with pytest.raises(TypeError, match="object"):
        key_of({"v": object()})
    with pytest.raises(TypeError, match="strings"):
        key_of({"v": {1: 2}})


RECORD = {
    "status": "done",
    "cell": {"method": {"name": "m"}, "dataset": {"name": "d"}, "seed": 3},
    "results": {"a2b": {"r@1": {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 4}}},
}


def test_a_cell_is_read_back_with_its_arrays(tmp_path):
    store = Store(tmp_path / "s")
    values = np.arange(4.0)
    store.write_cell("k", RECORD, {"a2b|r@1": values}, history=[{"epoch": 1, "loss": math.nan}])
    cell = store.cell("k")
    assert (cell.status, cell.label, cell.dataset, cell.seed) == ("done", "m", "d", 3)
    np.testing.assert_array_equal(cell.arrays()["a2b|r@1"], values)
    assert cell.history() == [{"epoch": 1, "loss": None}]
    assert cell.trials() == [] and cell.attention() == []
    assert cell.mean("r@1") == 0.5
    assert store.cell("other").status == "pending"


def test_half_of_a_surrogate_pair_is_kept(tmp_path):
    store = Store(tmp_path / "s")
    store.write_cell("k", {**RECORD, "status": "failed", "traceback": "猫 \udcef"})
    assert store.cell("k").traceback == "猫 \udcef"


def test_a_done_cell_is_never_replaced_and_a_failed_one_is(tmp_path):
    store = Store(tmp_path)
    store.write_cell("k", {**RECORD, "status": "failed", "traceback": "x"})
    store.write_cell("k", RECORD)
    store.write_cell("k", {**RECORD, "status": "failed"})
    assert store.cell("k").status == "done"
    assert [p.name for p in (tmp_path / "cells").iterdir()] == ["k"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", stop)
    with pytest.raises(KeyboardInterrupt):
        store.write_cell("k", RECORD, {"a": np.zeros(2)})
    assert list((tmp_path / "cells").iterdir()) == []


def test_a_folder_that_another_process_was_quicker_to_write_is_left_to_it(tmp_path, monkeypatch):
    home = tmp_path / "features" / "k"
    rename = Path.rename

    def late(path, target):
        if path == home:  # claimed just after it was found free
            home.mkdir()
            (home / "values").write_text("theirs")
            raise FileNotFoundError
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    with Store(tmp_path).new_folder(home) as draft:
        (draft / "values").write_text("ours")
    assert [p.name for p in home.parent.iterdir()] == ["k"]
    assert (home / "values").read_text() == "theirs"


def test_damage_is_told_by_the_name_of_the_file(tmp_path):
    store = Store(tmp_path)
    store.write_cell("k", RECORD, {"a": np.zeros(2)})
    home = tmp_path / "cells" / "k"
    (home / "arrays.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(StoreError, match=r"arrays\.npz"):
        store.cell("k").arrays()
    (home / "cell.json").write_text("{")
    with pytest.raises(StoreError, match=r"cell\.json"):
        store.cell("k")
    (home / "cell.json").write_text('{"format": 9}')
    with pytest.raises(StoreError, match="format 9"):
        store.cell("k")
    with pytest.raises(StoreError, match="no run 'x'"):
        store.run("x")


def test_arrays_of_objects_are_not_read(tmp_path):
    store = Store(tmp_path)
    store.write_cell("k", RECORD, {"a": np.zeros(2)})
    np.savez(tmp_path / "cells" / "k" / "arrays.npz", a=np.array([{}], dtype=object))
    with pytest.raises(StoreError):
        store.cell("k").arrays()


def test_a_claim_keeps_others_out_until_it_is_released(tmp_path):
    store, other = Store(tmp_path), Store(tmp_path)
    with store.claim("k") as claim:
        assert claim is not None
        assert other.claim("k") is None
        with other.claim("another"):
            pass
    again = other.claim("k")
    assert again is not None
    again.release()


def test_of_many_threads_one_gets_the_claim(tmp_path):
    got, start = [], threading.Barrier(12)

    def ask():
        start.wait()
        got.append(Store(tmp_path).claim("k"))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim is not None for claim in got) == 1


def claim_elsewhere(tmp_path, name="k"):
    code = (
        "import sys; from crossfit.experiment.store import Store\n"
        f"c = Store({str(tmp_path)!r}).claim({name!r}); print('have' if c else 'not', flush=True)\n"
        "sys.stdin.readline()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "have"
    return process


def test_a_claim_ends_with_its_process(tmp_path):
    store = Store(tmp_path)
    process = claim_elsewhere(tmp_path)
    assert store.claim("k") is None
    process.kill()
    process.wait(timeout=30)
    claim = store.claim("k")
    assert claim is not None
    claim.release()
    assert store.clear_claims() == 0


def owned(path, **changes):
    claim = json.loads(path.read_text())
    path.write_text(json.dumps({**claim, **changes}))


def test_a_number_of_a_process_used_again_is_another_process(tmp_path):
    store = Store(tmp_path)
    claim = store.claim("k")
    owned(claim.path, started="1")  # the ID of this process, but another start time
    assert store.claim("k") is not None


def test_a_claim_of_another_machine_is_void_after_its_lease(tmp_path):
    store = Store(tmp_path, lease=60)
    claim = store.claim("k")
    owned(claim.path, host="elsewhere")
    assert store.claim("k") is None
    old = time.time() - 61
    os.utime(claim.path, (old, old))
    assert store.claim("k") is not None


def test_a_claim_of_a_machine_whose_clock_is_ahead_is_void_when_it_is_not_renewed(tmp_path):
    store = Store(tmp_path, lease=0.5)
    claim = store.claim("k")
    claim._done.set()  # it is not renewed
    owned(claim.path, host="elsewhere")
    ahead = time.time() + 1e6
    os.utime(claim.path, (ahead, ahead))
    assert store.claim("k") is None
    # A claim that is renewed stays valid, even if the clock of its machine is wrong.
    for step in range(4):
        time.sleep(0.2)
        os.utime(claim.path, (ahead + step, ahead + step))
        assert store.claim("k") is None
    deadline = time.monotonic() + 30
    while (again := store.claim("k")) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again.release()


def test_claims_are_as_old_as_the_file_systems_clock_makes_them(tmp_path, monkeypatch):
    store = Store(tmp_path, lease=60)
    claim = store.claim("k")
    owned(claim.path, host="elsewhere")
    late = time.time() + 1e6
    monkeypatch.setattr(time, "time", lambda: late)  # of this machine, whose clock is wrong
    assert store.claim("k") is None
    monkeypatch.undo()


@pytest.mark.parametrize("content", ["", "[]", "null", '{"host": 3}', "{" * 99_999, "x"])
def test_a_claim_that_is_damaged_is_void_after_its_lease(tmp_path, content):
    store = Store(tmp_path, lease=60)
    claim = store.claim("k")
    claim.path.write_text(content)
    assert store.claim("k") is None
    old = time.time() - 61
    os.utime(claim.path, (old, old))
    assert store.claim("k") is not None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_in_the_place_of_files_are_not_waited_for(tmp_path):
    store = Store(tmp_path)
    os.makedirs(tmp_path / "locks")
    os.makedirs(tmp_path / "cells" / "c")
    os.makedirs(tmp_path / "runs")
    for place in ("locks/k", "cells/c/cell.json", "runs/r.json", "test_evaluations.jsonl"):
        os.mkfifo(tmp_path / place)
    assert store.claim("k") is None
    for read in (lambda: store.cell("c"), lambda: store.run("r"), store.test_evaluations):
        with pytest.raises(StoreError, match="is not a regular file"):
            read()
    with pytest.raises(StoreError, match="is not a regular file"):
        store.count_test("d", "test", "k")
    os.mkfifo(tmp_path / "locks" / "pipe")
    (tmp_path / "locks" / ".guard").unlink()
    os.mkfifo(tmp_path / "locks" / ".guard")
    with pytest.raises(StoreError, match="is not a regular file"):
        store.claim("k")


def test_drafts_of_processes_that_have_ended_are_removed_by_the_next_run(tmp_path):
    code = (
        "import os; from crossfit.experiment.store import Store\n"
        f"store = Store({str(tmp_path)!r})\n"
        "with store.new_folder(store.folder / 'cells' / 'k' * 64): os._exit(9)"
    ).replace("'k' * 64", "('k' * 64)")
    subprocess.run([sys.executable, "-c", code], check=False)
    cells = tmp_path / "cells"
    (left,) = cells.iterdir()
    store = Store(tmp_path)
    with store.new_folder(cells / "mine"):
        store.clear_claims()
        (mine,) = cells.iterdir()  # a file that is being written remains
        assert mine != left
    foreign = cells / ".other-0123456789abcdef"
    foreign.mkdir()
    store.clear_claims()
    assert foreign.exists()
    os.utime(foreign, (0, 0))
    store.clear_claims()
    assert [path.name for path in cells.iterdir()] == ["mine"]


def test_a_claim_is_renewed_while_it_is_held(tmp_path):
    store = Store(tmp_path, lease=0.3)
    with store.claim("k") as claim:
        os.utime(claim.path, (0, 0))
        deadline = time.monotonic() + 10
        while claim.path.stat().st_mtime < 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert claim.path.stat().st_mtime > 1


def test_who_lost_a_claim_does_not_release_the_next_one(tmp_path):
    store = Store(tmp_path)
    first = store.claim("k")
    owned(first.path, started="1")
    second = store.claim("k")
    first.release()
    assert second.path.exists()
    second.release()
    assert not second.path.exists()


def test_evaluations_on_test_pairs_are_counted_and_a_torn_line_counts(tmp_path):
    store = Store(tmp_path)
    assert store.test_evaluations() == []
    threads = [
        threading.Thread(target=lambda: [store.count_test("d", "test", "k") for _ in range(20)])
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.test_evaluations("d", "test")) == 100
    assert store.test_evaluations("d", "dev") == []
    with open(tmp_path / "test_evaluations.jsonl", "a") as stream:
        stream.write('{"dataset": "d", "spl')
    assert len(store.test_evaluations()) == 101
    # It may be that of any data set.
    assert len(store.test_evaluations("d", "test")) == 101
    assert len(store.test_evaluations("dist:D", "test")) == 101
