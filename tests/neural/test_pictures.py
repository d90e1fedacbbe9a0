"""Pictures that are read batch by batch: alike in every way of reading, and in little memory."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from crossfit.neural.batching import Draw
from crossfit.neural.pictures import Pictures, SquareCut

CUT = SquareCut(resized=24, edge=20)
N = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(N):
        pixels = rng.integers(0, 256, (30 + i % 5, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def paths(folder):
    return np.array([str(folder / f"{i}.png") for i in range(N)], dtype=object)


def _pixels(store, parts=None, draw=None):
    parts = torch.arange(N).split(7) if parts is None else parts
    return [items.values.numpy() for items in store.read(parts, parts, draw)]


def _children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.fixture(autouse=True)
def _no_process_is_left():
    before = _children()
    yield
    assert _children() <= before


# ---- squares -----------------------------------------------------------------------------------


def test_the_centre_is_torchvisions(paths):
    prepare = v2.Compose([v2.Resize((24, 24)), v2.CenterCrop(20), v2.PILToTensor()])
    found = Pictures(paths, CUT).take(torch.tensor([3, 8])).values
    for pixels, i in zip(found, (3, 8)):
        with Image.open(paths[i]) as image:
            expected = prepare(image).permute(1, 2, 0)
        torch.testing.assert_close(pixels, expected)


def test_random_squares_lie_anywhere_and_half_of_them_are_mirrored():
    cut = SquareCut(76, 67)
    row, column = np.meshgrid(np.arange(76), np.arange(76), indexing="ij")
    whole = np.stack([row, column, 0 * row], axis=-1).astype(np.uint8)
    found = np.stack([cut.cut(whole, (0, 0, i)) for i in range(200)]).astype(int)
    assert found.shape == (200, 67, 67, 3)
    assert (np.diff(found[:, :, 0, 0], axis=1) == 1).all()
    across = np.diff(found[:, 0, :, 1], axis=1)
    assert ((across == 1).all(axis=1) | (across == -1).all(axis=1)).all()
    assert 60 < (across[:, 0] == -1).sum() < 140
    assert set(found[:, 0, 0, 0]) == set(range(10))
    assert set(found[:, 0, :, 1].min(axis=1)) == set(range(10))
    np.testing.assert_array_equal(cut.cut(whole, None), whole[4:71, 4:71])


def test_a_square_must_fit():
    for edge in (0, 25):
        with pytest.raises(ValueError, match=f"edge must be between 1 and resized=24, got {edge}"):
            SquareCut(24, edge)


# ---- ways of reading -----------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [None, Draw(2**63, 4)])
def test_every_way_of_reading_gives_the_same_squares(paths, draw):
    expected = _pixels(Pictures(paths, CUT, augment=True, num_workers=0), draw=draw)
    assert [part.shape for part in expected] == [(7, 20, 20, 3)] * 4 + [(2, 20, 20, 3)]
    opened = [Image.open(path) for path in paths]
    arrays = np.empty(N, object)
    arrays[:] = [np.asarray(image) for image in opened]
    resized = np.stack([CUT.whole(path) for path in paths])
    for given in (
        Pictures(paths, CUT, augment=True, num_workers=1),
        Pictures(paths, CUT, augment=True, num_workers=3),
        Pictures(paths, CUT, augment=True, num_workers=2, memory=2**20).kept(),
        Pictures(opened, CUT, augment=True, num_workers=2),
        Pictures(arrays, CUT, augment=True),
        Pictures(resized, CUT, augment=True),
    ):
        found = _pixels(given, draw=draw)
        for part, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(part, other)


def test_pictures_are_kept_only_within_the_memory(paths):
    size = N * 24 * 24 * 3
    assert Pictures(paths, CUT, memory=size - 1).kept().images is paths
    held = Pictures(paths, CUT, memory=size).kept()
    assert held.images.shape == (N, 24, 24, 3) and held.images.dtype == np.uint8
    assert held.cut == CUT and held.elements == 400 and held.longest == 1200


def test_a_square_depends_on_seed_epoch_and_row_alone(paths):
    held = Pictures(paths, CUT, augment=True, memory=2**20).kept()
    rows = torch.arange(N)

    def squares(at, rows, *draw):
        return next(held.read([at], [rows], Draw(*draw))).values.numpy()

    first = squares(rows, rows, 1, 0)
    np.testing.assert_array_equal(squares(rows.flip(0), rows.flip(0), 1, 0)[::-1], first)
    np.testing.assert_array_equal(squares(rows[5:8], rows[5:8], 1, 0), first[5:8])
    for other in ((1, 1), (2, 0)):
        assert np.any(squares(rows, rows, *other) != first, axis=(1, 2, 3)).mean() > 0.8
    # Rows that share a picture see it in different ways.
    shared = squares(torch.zeros(N, dtype=torch.int64), rows, 1, 0)
    assert len({square.tobytes() for square in shared}) > N / 2
    plain = Pictures(paths, CUT).read([rows], [rows], Draw(1, 0))
    np.testing.assert_array_equal(next(plain).values, Pictures(paths, CUT).take(rows).values)


def test_workers_leave_torchs_random_state_alone(paths):
    before = torch.get_rng_state()
    _pixels(Pictures(paths, CUT, num_workers=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_default_starts_no_process_for_what_needs_none(paths, monkeypatch):
    many = np.resize(paths, 300)
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    assert Pictures(many, CUT)._n_workers(10) == 3
    assert Pictures(many, CUT)._n_workers(2) == 2
    assert Pictures(many, CUT)._n_workers(1) == 0
    assert Pictures(paths, CUT)._n_workers(10) == 0
    assert Pictures(np.zeros((300, 9, 9, 3), np.uint8), CUT)._n_workers(10) == 0
    elsewhere = []
    thread = threading.Thread(target=lambda: elsewhere.append(Pictures(many, CUT)._n_workers(10)))
    thread.start()
    thread.join()
    assert elsewhere == [0]
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    assert Pictures(many, CUT)._n_workers(10) == 0
    monkeypatch.setattr("multiprocessing.get_start_method", lambda allow_none: "spawn")
    assert Pictures(many, CUT)._n_workers(10) == 0
    assert Pictures(many, CUT, num_workers=5)._n_workers(10) == 5


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_picture_gives_one_error_with_its_name(paths, tmp_path, num_workers):
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(paths[0]).read_bytes()[:200])
    paths[20] = str(broken)
    store = Pictures(paths, CUT, num_workers=num_workers, where="SSVR: view 'image'")
    with pytest.raises(ValueError) as raised:
        _pixels(store)
    message = str(raised.value)
    assert message.startswith(f"SSVR: view 'image': cannot read the image {str(broken)!r}: ")
    assert message.endswith("; replace this picture, or leave out its rows")
    assert "\n" not in message


def test_a_missing_file_is_reported_before_any_is_read(paths, tmp_path):
    paths[20] = str(tmp_path / "gone.png")
    with pytest.raises(
        FileNotFoundError, match=r"^pictures: there is no image file '.*gone.png'; "
    ):
        Pictures(paths, CUT)
    paths[20] = str(tmp_path)
    with pytest.raises(ValueError, match="not a regular file"):
        Pictures(paths, CUT)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_is_not_a_picture_is_reported(num_workers):
    given = [np.zeros((9, 9, 3))] * 10
    with pytest.raises(ValueError, match=r"^pictures: pixels must be uint8, got .* float64"):
        _pixels(Pictures(given, CUT, num_workers=num_workers), torch.arange(10).split(2))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_pass_leaves_no_process(paths, error):
    store = Pictures(paths, CUT, num_workers=2)
    before = _children()
    try:
        for _ in store.read(torch.arange(N).split(3)):
            assert len(_children() - before) == 2
            raise error
    except error as raised:
        kept = raised  # with its traceback, which refers to the pass
    store.close()
    assert _children() <= before
    assert kept.__traceback__ is not None
    assert len(_pixels(store)) == 5  # and the store can be read again


def test_a_killed_worker_gives_one_error(paths):
    store = Pictures(paths, CUT, num_workers=1)
    before = _children()
    # Raised by a handler of signals, wherever the program is.
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid \d+\) is killed by signal"):
        for _ in store.read(torch.arange(N).split(1)):
            (worker,) = _children() - before
            os.kill(worker, signal.SIGKILL)
            psutil.wait_procs([psutil.Process(worker)], timeout=10)


# ---- other processes -----------------------------------------------------------------------------

SPAWNED = """
import multiprocessing, sys
import numpy as np, torch
from crossfit.neural.pictures import Pictures, SquareCut

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    paths = np.array(sys.argv[1:], dtype=object)
    parts = torch.arange(len(paths)).split(7)
    sums = [[int(items.values.long().sum()) for items in Pictures(paths, SquareCut(24, 20),
             num_workers=n).read(parts)] for n in (0, 1)]
    assert sums[0] == sums[1], sums
    print("alike")
"""


@pytest.mark.slow
def test_processes_may_be_spawned(paths, tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    run = subprocess.run([sys.executable, str(script), *paths], capture_output=True, text=True,
                         timeout=120)  # fmt: skip
    assert run.stdout.strip() == "alike", run.stderr


MEMORY = """
import json, os, sys, threading
import numpy as np, psutil, torch
from crossfit.neural.batching import Draw
from crossfit.neural.pictures import Pictures, SquareCut

me = psutil.Process()

def used():
    total = me.memory_info().rss
    for child in me.children():
        try:
            total += child.memory_full_info().uss  # what it does not share with its parent
        except psutil.Error:
            pass
    return total

n, num_workers = int(sys.argv[2]), int(sys.argv[3])
names = np.resize(sorted(os.listdir(sys.argv[1])), n)
paths = np.array([os.path.join(sys.argv[1], name) for name in names], object)
store = Pictures(paths, SquareCut(256, 227), augment=True, num_workers=num_workers)
parts = torch.arange(n).split(32)
next(store.read(parts[:1]))  # loads the decoders
before, peak, done = used(), 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.05):
        peak = max(peak, used())

watcher = threading.Thread(target=watch)
watcher.start()
seen = sum(len(items.values) for items in store.read(parts, parts, Draw(0, 0)))
done.set()
watcher.join()
print(json.dumps({"seen": seen, "growth": peak - before, "decoded": n * 256 * 256 * 3}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_memory_does_not_grow_with_the_number_of_pictures(folder, num_workers):
    n = 2000
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, str(folder), str(n), str(num_workers)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert not run.returncode, run.stderr
    found = json.loads(run.stdout)
    assert found["seen"] == n
    # A batch is 5 MB; a worker has a few of them, and what it no longer shares with its parent.
    assert found["growth"] < found["decoded"] / 3
