"""Files of version 0.1.0 can be read: bundles have the same scores, a store makes a report.

``tests/data/written-by-0.1.0`` was written once with that version and is not written again.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import crossfit
from crossfit import Views, registry
from crossfit.cli import main

WRITTEN = Path(__file__).parent / "data" / "written-by-0.1.0"


def inputs(name):
    with np.load(WRITTEN / "inputs.npz") as arrays:
        if name == "acln":
            return Views(image=arrays["regions"], text=arrays["tokens"])
        text = arrays["texts"].tolist() if name == "pipeline" else arrays["Y"]
        return Views(image=arrays["X"], text=text)


@pytest.mark.parametrize("name", ["cca", "sm", "pipeline", "acln"])
def test_bundles(name):
    model = crossfit.load(WRITTEN / "bundles" / name)
    with np.load(WRITTEN / "scores.npz") as scores:
        found = np.asarray(crossfit.similarity(model, inputs(name)))
        np.testing.assert_allclose(found, scores[name], rtol=1e-4, atol=1e-5)


def test_a_bundle_of_extractors():
    pytest.importorskip("torchvision")
    model = crossfit.load(WRITTEN / "bundles" / "regions")
    images = np.zeros((2, 64, 64, 3), np.uint8)
    found = model.transform(Views(image=images, text=["a cat", "red dogs"]))
    assert found["image"].values.shape[1] == 1024
    assert [row.tolist() for row in found["text"]] == [[2, 4], [6, 5]]


def test_paths_lead_to_the_classes_of_these_names():
    from crossfit._identities import _former, entry_named, identity_of

    for path, name in _former().items():
        entry = entry_named(path)
        if entry is not None:  # the plugin is installed
            assert entry.name == name == identity_of(registry.resolve_target(entry.card.target))


@pytest.fixture
def store(tmp_path):
    return shutil.copytree(WRITTEN / "store", tmp_path / "store")


def figures():
    """Return mean and interval by method and direction, as stored in the cells."""
    (run,) = (WRITTEN / "store" / "runs").glob("*.json")
    for about in json.loads(run.read_text())["cells"]:
        cell = json.loads((WRITTEN / "store" / "cells" / about["key"] / "cell.json").read_text())
        for direction, found in cell["results"].items():
            yield about["key"], direction, found["map@all"]["mean"]


def test_a_store_is_reported_as_it_is(store, tmp_path, capsys):
    main_done(["report", "pairs", "--store", str(store), "-o", str(tmp_path / "report")])
    table = (tmp_path / "report" / "leaderboard.csv").read_text()
    found = list(figures())
    assert len(found) == 6
    for _, _, mean in found:
        assert f"{mean:.4f}"[:5] in table


def test_a_store_goes_on(store, tmp_path, capsys):
    main_done(["run", str(WRITTEN / "pairs.yaml"), "--store", str(store)])
    assert "3 done" in capsys.readouterr().out
    main_done(["report", "pairs", "--store", str(store), "-o", str(tmp_path / "report")])
    # Everything that was stored is still there.
    for part in (WRITTEN / "store" / "cells").rglob("*.json"):
        now = store / part.relative_to(WRITTEN / "store")
        assert now.read_bytes() == part.read_bytes()


def main_done(arguments):
    try:
        main(arguments)
    except SystemExit as done:
        assert not done.code
