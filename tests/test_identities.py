"""A class may move to another file: bundles load, and nothing is computed again."""

import importlib
import json
import sys

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

import crossfit
from crossfit import Views, registry
from crossfit._identities import entry_named, identity_of
from crossfit.compose import ViewTransformer
from crossfit.experiment import Experiment, plan, run
from crossfit.subspace import CCA
from crossfit.subspace.cca import CCA as SAME

CARDS = """
from crossfit.cards import DatasetCard, ExtractorCard, MethodCard

DATA = DatasetCard(api=1, name="moving-data", target="movingplug.data:load", summary="planted",
                   embedded=True)
METHOD = MethodCard(api=1, name="moving", target="movingplug.{home}:Projection", summary="projects",
                    inputs={{"image": ("vectors",), "text": ("vectors",)}})
SCALE = ExtractorCard(api=1, name="moving-scale", target="movingplug.{home}:Scale",
                      summary="scales", modality="image", inputs=("pixels",))
"""
DATA = """
import numpy as np
from crossfit import Views
from crossfit.datasets import Dataset, Split
from movingplug.cards import DATA


def load(root, split="official"):
    rng = np.random.default_rng(0)
    splits = {}
    for name in ("train", "test"):
        Z = rng.normal(size=(12, 3))
        splits[name] = Split(Views(image=Z, text=Z + 0.1 * rng.normal(size=(12, 3))))
    return Dataset(DATA, splits, revision="1")
"""
CLASSES = '''
from __future__ import annotations

import os

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from crossfit.base import CrossModalEstimator
from movingplug.cards import METHOD, SCALE


class Projection(CrossModalEstimator):
    """Projects on the first columns."""

    card = METHOD

    def __init__(self, n_components=2):
        self.n_components = n_components

    def _fit(self, views, y):
        self.mean_ = np.asarray(views["image"]).mean(0)
        with open(os.environ["MOVING_LOG"], "a") as log:
            log.write("fit\\n")

    def _encode(self, values, view):
        return (np.asarray(values) - self.mean_)[:, : self.n_components]


class Scale(TransformerMixin, BaseEstimator):
    """Scales by a number."""

    card = SCALE

    def __init__(self, by=2.0):
        self.by = by

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.asarray(X) * self.by
'''
ENTRIES = """
[crossfit.methods]
moving = movingplug.cards:METHOD
[crossfit.extractors]
moving-scale = movingplug.cards:SCALE
[crossfit.datasets]
moving-data = movingplug.cards:DATA
"""


def forget():
    for name in [name for name in sys.modules if name.startswith("movingplug")]:
        del sys.modules[name]
    registry.refresh()
    importlib.invalidate_caches()


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Return a function that installs the plugin with its classes in a file of this name."""
    site = tmp_path / "site"
    package, info = site / "movingplug", site / "movingplug-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: movingplug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (package / "__init__.py").write_text("")
    (package / "data.py").write_text(DATA)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("MOVING_LOG", str(tmp_path / "log"))
    # Python's byte code cache does not distinguish files of equal size and time in seconds.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def written(home):
        for old in package.glob("home*.py"):
            old.unlink()
        (package / f"{home}.py").write_text(CLASSES)
        (package / "cards.py").write_text(CARDS.format(home=home))
        forget()

    yield written
    forget()


def test_a_class_that_moves_keeps_its_cells_and_bundles(plugin, tmp_path):
    plugin("home_one")
    scale = registry.load("moving-scale", "crossfit.extractors")
    method = registry.load("moving")
    views = Views(image=np.eye(4), text=np.eye(4) + 0.1)
    model = make_pipeline(ViewTransformer([("image", scale(by=3.0))]), method()).fit(views)
    expected = crossfit.similarity(model, views)
    crossfit.save(model, tmp_path / "bundle")
    held = json.loads((tmp_path / "bundle" / "manifest.json").read_bytes())["types"]
    assert {"moving", "moving-scale"} < set(held)
    experiment = Experiment(
        title="Moving", dataset="moving-data", metrics=["mrr"], methods=["moving"],
        features={"image": "moving-scale"},
    )  # fmt: skip
    run(experiment, tmp_path / "store")
    keys = [cell.key for cell in run(experiment, tmp_path / "store").cells]
    log = (tmp_path / "log").read_text()

    plugin("home_two")
    loaded = crossfit.load(tmp_path / "bundle")
    assert type(loaded[-1]).__module__ == "movingplug.home_two"
    np.testing.assert_array_equal(crossfit.similarity(loaded, views), expected)
    # A new process would plan again.
    assert [cell.key for cell in run(experiment, tmp_path / "store").cells] == keys
    assert (tmp_path / "log").read_text() == log
    assert len(list(plan(experiment, tmp_path / "store"))) == 1


def test_names_of_classes():
    assert identity_of(CCA) == identity_of(SAME) == "cca"
    assert identity_of(ViewTransformer) == "crossfit.compose:ViewTransformer"
    assert identity_of(np.linalg.norm) == "numpy.linalg:norm"


def test_what_nothing_decides_is_no_entry():
    assert entry_named("cca").name == "cca"
    assert entry_named("crossfit.subspace.cca:CCA").name == "cca"
    for unknown in ("", "no-such", "crossfit.subspace:CCA", "os:system"):
        assert entry_named(unknown) is None
