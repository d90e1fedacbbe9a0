"""Extraction by several processes and machines: the features of one process, after kills too."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from crossfit import _sharding
from crossfit._workers import processes
from crossfit.cli.commands import cli
from crossfit.datasets import from_precomputed, from_table
from crossfit.embedding import embed
from crossfit.extraction import Characters, GridFeatures, ImageExtractor

N = 24


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """Return pairs of pictures in files and texts, in parts of five items."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_sharding, "SIZE", 5)
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    names = [f"photos/{i}.png" for i in range(N)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(name)
    with open("pairs.csv", "w") as file:
        print("image,text", file=file)
        for i, name in enumerate(names):
            print(f"{name},{'very ' * (i % 7)}good {i}", file=file)
    return from_table("pairs.csv")


EXTRACTORS = {"image": GridFeatures(2, cache=False), "text": Characters()}


def same(a, b):
    """Check that two folders have the same features, items and pairs."""
    for file in ("image.npy", "text.npy", "image.csv", "text.csv", "pairs.csv"):
        with open(f"{a}/{file}", "rb") as one, open(f"{b}/{file}", "rb") as two:
            assert one.read() == two.read(), file


def test_two_processes_give_what_one_gives(pairs, tmp_path):
    embed(pairs, EXTRACTORS, "one")
    seen = []
    embed(pairs, EXTRACTORS, "two", n_jobs=2, listener=lambda *now: seen.append(now))
    same("one", "two")
    assert [view for view, _, _ in seen] == ["image"] * 5 + ["text"] * 5
    assert seen[4][1:] == seen[9][1:] == (N, N)
    assert sorted(p.name for p in tmp_path.iterdir() if "two" in p.name) == ["two"]
    assert from_precomputed("two")["all"].views["image"].shape == (N, 92)


def test_the_command_with_jobs_and_with_devices(pairs):
    def call(*words):
        command = ["embed", "pairs.csv", "--image", "grid:2", "--text", "characters", *words]
        return CliRunner().invoke(cli, command)

    assert call("-o", "one").exit_code == 0
    for name, options in {"two": ("--jobs", "2"), "three": ("--devices", "cpu,cpu")}.items():
        done = call("-o", name, *options)
        assert done.exit_code == 0, done.output
        same("one", name)
    for options, message in [
        (("--jobs", "0"), "--jobs must be a positive number or -1, got 0"),
        (("--backend", "dask"), "--backend dask requires --scheduler"),
        (("--scheduler", "tcp://x:1"), "--scheduler requires --backend dask"),
        (("--devices", "cpu", "--jobs", "2"), "--devices excludes --jobs"),
        (("--devices", "gpu9"), "device must be 'auto' or a torch device, got 'gpu9'"),
    ]:
        failed = call("-o", "four", *options)
        assert failed.exit_code and message in failed.output + str(failed.exception)
        assert not os.path.exists("four")


def by_processes(extractor, items, devices=()):
    folder = Path("parts").absolute()
    folder.mkdir(exist_ok=True)
    parts = _sharding.parts_of(folder, "image", extractor.fit(items), items, False, devices)
    known = {part.path.name: part for part in parts}
    with processes(2, lambda name: _sharding.is_being_made(known[name])) as run:
        found = list(_sharding.extracted_in_parts(run, parts, lambda n: None))
    return np.concatenate([rows for rows, _ in found])


class Placed(ImageExtractor):
    """Pictures become the number of the process, and the device as an index."""

    def __init__(self, device="auto", cache=False, verbose=False):
        self.device = device
        self.cache = cache
        self.verbose = verbose

    _parameter_constraints: ClassVar[dict] = {
        "device": [str],
        "cache": ["boolean"],
        "verbose": ["boolean"],
    }

    def _n_outputs(self):
        return 2

    def _extract(self, batch):
        time.sleep(0.2)
        devices = ["auto", "cpu", "cpu:0"]
        return np.tile([os.getpid(), devices.index(self.device)], (len(batch), 1)).astype(float)


def test_each_process_has_a_device_of_its_own(pairs):
    found = by_processes(Placed(), pairs["all"].views["image"], ("cpu", "cpu:0"))
    owners = {int(pid): {int(d) for p, d in found if p == pid} for pid in np.unique(found[:, 0])}
    assert set().union(*owners.values()) == {1, 2}
    assert all(len(devices) == 1 for devices in owners.values())


class Deadly(GridFeatures):
    """Kills its process at an item, as often as the file ``lives`` has letters."""

    def _load(self, item):
        if os.path.exists("lives") and np.asarray(item)[0, 0, 0] == 7:
            with open("lives", "r+") as file:
                left = file.read()
                file.seek(0)
                file.truncate()
                file.write(left[1:])
            if left:
                os.kill(os.getpid(), signal.SIGKILL)
        return super()._load(item)


@pytest.mark.parametrize(("lives", "ends"), [("x", True), ("xx", False)])
def test_a_process_that_is_killed(pairs, lives, ends):
    from joblib.externals.loky import get_reusable_executor

    # Processes of another test would look for the file in its folder.
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    pixels = np.array([np.full((24, 24, 3), i, np.uint8) for i in range(N)])
    expected = GridFeatures(2, cache=False).fit(pixels).transform(pixels)
    Path("lives").write_text(lives)
    deadly = Deadly(2, cache=False, batch_size=1)
    if not ends:
        with pytest.raises(RuntimeError, match=r"image: a part of 5 items was lost: .*continue$"):
            by_processes(deadly, pixels)
    np.testing.assert_array_equal(by_processes(deadly, pixels), expected)
    assert Path("lives").read_text() == ""


def test_broken_files(pairs, tmp_path):
    for i in (3, 5, 6, 7, 8, 9):  # all of the second part
        (tmp_path / f"photos/{i}.png").write_bytes(b"broken")
    given = from_table("pairs.csv")
    with pytest.raises(ValueError, match=r"cannot read .*[35]\.png"):
        embed(given, EXTRACTORS, "f", n_jobs=2)
    assert not os.path.exists("f")
    one = embed(given, EXTRACTORS, "one", skip=True)
    two = embed(given, EXTRACTORS, "two", skip=True, n_jobs=2)
    assert list(one["image"]) == list(two["image"]) == [3, 5, 6, 7, 8, 9]
    assert "6.png" in two["image"][6]
    same("one", "two")


def test_a_run_that_is_killed_continues(pairs, tmp_path):
    slow = (
        "import sys, time, numpy as np\n"
        "from crossfit import _sharding\n"
        "from crossfit.datasets import from_table\n"
        "from crossfit.embedding import embed\n"
        "from crossfit.extraction import GridFeatures\n"
        "_sharding.SIZE = 5\n"
        "def slowly(view, done, total):\n"
        "    print(done, flush=True)\n"
        "    time.sleep(60 if done >= 10 else 0)\n"
        "embed(from_table('pairs.csv'), {'image': GridFeatures(2, cache=False)}, 'f', n_jobs=2,"
        " listener=slowly)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", slow], stdout=subprocess.PIPE, text=True)
    while int(run.stdout.readline() or 99) < 10:
        pass
    run.kill()
    run.wait()
    run.stdout.close()
    parts = tmp_path / ".f.parts"
    made = {path: path.stat().st_mtime_ns for path in parts.glob("*.npy")}
    assert not os.path.exists("f") and len(made) >= 2
    # The same parts, by their names, are needed by the next run; it makes the others.
    extractor = GridFeatures(2, cache=False, verbose=False).fit(pairs["all"].views["image"][:1])
    wanted = _sharding.parts_of(parts, "image", extractor, pairs["all"].views["image"], False)
    assert {part.path.with_suffix(".npy") for part in wanted} >= set(made)
    embed(pairs, {"image": GridFeatures(2, cache=False)}, "f", n_jobs=2)
    embed(pairs, {"image": GridFeatures(2, cache=False)}, "one")
    same_image = [np.load(f"{name}/image.npy") for name in ("f", "one")]
    np.testing.assert_array_equal(*same_image)
    # A picture that was changed since belongs to another part.
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save("photos/0.png")
    again = _sharding.parts_of(parts, "image", extractor, pairs["all"].views["image"], False)
    assert [a.path != b.path for a, b in zip(wanted, again)] == [True] + [False] * 4


def test_a_cluster_that_loses_a_worker_gives_what_one_process_gives(pairs, two_workers):
    address, workers = two_workers

    def kill(view, done, total):
        if view == "image" and done == 10:
            os.killpg(workers[0].pid, signal.SIGKILL)

    embed(pairs, EXTRACTORS, "far", scheduler=address, listener=kill)
    assert workers[0].wait(timeout=10) == -signal.SIGKILL
    embed(pairs, EXTRACTORS, "near")
    same("far", "near")
    with pytest.raises(ValueError, match="scheduler excludes n_jobs and devices"):
        embed(pairs, EXTRACTORS, "g", scheduler=address, n_jobs=2)
