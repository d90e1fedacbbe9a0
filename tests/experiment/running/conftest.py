"""A plugin in its own folder: a synthetic data set and small methods that log their fits."""

import importlib
import os
import sys

import pytest

from crossfit import registry

PLUGIN = """\
'''A small plugin for tests of the runner.'''
import os, time
import numpy as np
from crossfit import Views
from crossfit.base import CrossModalEstimator
from crossfit.cards import DatasetCard, Float, MethodCard
from crossfit.datasets import Dataset, Split

__version__ = "1.0"
DATA = DatasetCard(api=1, name="tiny-data", target="tinyplug:load", summary="planted",
                   labels="single", embedded=True)
BARE = DatasetCard(api=1, name="tiny-bare", target="tinyplug:load_bare", summary="no labels",
                   embedded=True)
_common = dict(api=1, inputs={"image": ("vectors",), "text": ("vectors",)})
TINY = MethodCard(name="tiny", target="tinyplug:Tiny", summary="projects at random", **_common)
LABELS = MethodCard(name="tiny-labels", target="tinyplug:Labels", summary="needs labels",
                    labels="single", **_common)
FAILS = MethodCard(name="tiny-fails", target="tinyplug:Fails", summary="fails", **_common)
FIXED = MethodCard(name="tiny-fixed", target="tinyplug:Fixed", summary="draws nothing", **_common,
                   search_space={"power": Float(0.1, 2.0)})


def load(root, split="official", *, noise=1.0):
    rng = np.random.default_rng(0)
    splits = {}
    A, B = rng.normal(size=(4, 6)), rng.normal(size=(4, 5))
    for name, n in (("train", 60), ("val", 24), ("test", 30)):
        y = np.arange(n) % 3
        Z = rng.normal(size=(n, 4)) + 2 * np.eye(4)[y]
        views = Views(image=Z @ A + noise * rng.normal(size=(n, 6)),
                      text=Z @ B + noise * rng.normal(size=(n, 5)))
        splits[name] = Split(views, y, {"part": np.arange(n) // 2 % 3})
    return Dataset(DATA, splits, ("a", "b", "c"), revision=f"r{noise}")


def load_bare(root, split="official"):
    ds = load(root)
    return Dataset(BARE, {k: Split(s.views) for k, s in ds.splits.items()}, revision="r")


def log(word):
    if os.environ.get("TINY_LOG"):
        handle = os.open(os.environ["TINY_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, (word + chr(10)).encode())
        os.close(handle)


class Tiny(CrossModalEstimator):
    card = TINY

    def __init__(self, power=1.0, sleep=0.0, start=None, random_state=None):
        self.power, self.sleep, self.start = power, sleep, start
        self.random_state = random_state

    def _fit(self, views, y):
        if self.sleep < 0:  # as when memory runs out
            os.kill(os.getpid(), 9)
        time.sleep(self.sleep)
        rng = np.random.RandomState(self.random_state)
        Z = np.asarray(views["image"])[:, :4] + 0.1 * rng.normal(size=(len(views), 4))
        # A setting that makes a difference: how much the first direction counts.
        Z[:, 0] *= self.power
        self.maps_ = {
            name: np.linalg.lstsq(np.asarray(views[name]), Z, rcond=None)[0]
            for name in views.names
        }
        log(f"{type(self).__name__} {self.power} {self.random_state}")

    def _encode(self, values, view):
        return np.asarray(values) @ self.maps_[view]


class Fixed(Tiny):
    card = FIXED

    def __init__(self, power=1.0):
        self.power = power

    def _fit(self, views, y):
        self.sleep, self.random_state = 0.0, 0
        super()._fit(views, y)


class Labels(Fixed):
    card = LABELS


class Fails(Fixed):
    card = FAILS

    def _fit(self, views, y):
        if not os.environ.get("TINY_HEALED"):
            log("Fails")
            raise ArithmeticError("no good today")
        super()._fit(views, y)
"""
ENTRIES = """\
[crossfit.methods]
tiny = tinyplug:TINY
tiny-labels = tinyplug:LABELS
tiny-fails = tinyplug:FAILS
tiny-fixed = tinyplug:FIXED
[crossfit.datasets]
tiny-data = tinyplug:DATA
tiny-bare = tinyplug:BARE
"""


@pytest.fixture
def tiny_site(tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    (site / "tinyplug.py").write_text(PLUGIN)
    info = site / "tinyplug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinyplug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    return site


@pytest.fixture
def tiny(tiny_site, monkeypatch, tmp_path):
    """Install the plugin here and for child processes; return the file that logs fits."""
    sys.modules.pop("tinyplug", None)
    monkeypatch.syspath_prepend(str(tiny_site))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tiny_site), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setenv("TINY_LOG", str(tmp_path / "fits.log"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    registry.refresh()
    importlib.invalidate_caches()
    yield tmp_path / "fits.log"
    sys.modules.pop("tinyplug", None)
    registry.refresh()
