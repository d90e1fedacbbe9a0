"""The experiments of the plugin: their form, equal budgets, and the data that they choose by."""

from pathlib import Path

import numpy as np
import pytest

from crossfit import Views, registry
from crossfit.experiment import Experiment
from crossfit.experiment.build import build_method

FOLDER = Path(__file__).parents[1] / "experiments"
FILES = pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
COMPARISONS = pytest.mark.parametrize("dataset", ["emoji", "esc10", "flickr8k"])


@FILES
def test_an_experiment_is_well_formed_registered_and_its_methods_take_its_parameters(file):
    card = registry.get(file.stem, "crossfit.experiments")
    described = Experiment.from_file(file)
    assert card.target == f"crossfit_heads:experiments/{file.name}"
    assert set(card.methods) == {e.method for e in described.methods}
    assert set(card.datasets) == {entry.name for entry in described.datasets}
    for entry in described.methods:
        build_method(entry)  # checks the values


@COMPARISONS
def test_every_method_of_a_comparison_tries_four_settings(dataset):
    described = Experiment.from_file(FOLDER / f"heads-{dataset}-reduced.yaml")
    assert described.baseline == "CCA" and described.seeds == (0, 1, 2)
    assert described.tuning.trials == 4 and described.tuning.sampler == "grid"
    for entry in described.methods:
        n_settings = 1
        for part in entry.tune.values():
            n_settings *= len(part.options)
        assert n_settings == 4, entry.label
    losses = {e.params["loss"] for e in described.methods if e.method == "contrastive-head"}
    assert losses == {"infonce", "sigmoid", "hardest", "vicreg", "barlow"}


def test_settings_on_flickr8k_are_chosen_on_training_pictures():
    described = Experiment.from_file(FOLDER / "heads-flickr8k-reduced.yaml")
    assert described.splits == {"train": "train", "validation": "train", "test": "dev"}
    assert described.datasets[0].subset == {"train": 5000, "validation": 1000}
    assert described.tuning.validation


# ---- late interaction ----------------------------------------------------------------------------

LATE = ["lee-2018-scan-flickr30k", "chen-2021-vse-infinity-flickr30k"]


@pytest.mark.parametrize("name", LATE)
def test_published_settings_fit_regions_and_captions(name):
    rng = np.random.default_rng(0)
    words = np.array([f"w{k}" for k in range(6)])
    texts = np.array([" ".join(rng.choice(words, 4)) for _ in range(48)], dtype=object)
    views = Views.from_captions(rng.normal(size=(24, 5, 8)), texts, np.repeat(np.arange(24), 2))
    described = Experiment.from_file(FOLDER / f"{name}.yaml")
    assert described.datasets[0].options["features"] == "precomputed"
    for entry in described.methods:
        assert entry.params["standardize"] is False and entry.params["dropout"] == 0
        method = build_method(entry).set_params(
            width=16, max_epochs=2, batch_size=12, device="cpu", verbose=0, random_state=0
        )
        assert np.isfinite(method.fit(views).similarity(views)).all()


def test_settings_of_late_interaction_are_chosen_on_training_pictures():
    described = Experiment.from_file(FOLDER / "late-flickr8k-reduced.yaml")
    assert described.splits == {"train": "train", "validation": "train", "test": "dev"}
    assert described.datasets[0].subset == {"train": 5500, "validation": 500}
    assert described.tuning.validation
    # SCAN and VSE∞ have the same settings.
    networks = [e for e in described.methods if e.method in ("scan", "vse-infinity")]
    assert len({(e.params["width"], e.params["max_epochs"], e.params["lr"]) for e in networks}) == 1
    assert {e.params.get("attention", "t2i") for e in networks} == {"t2i", "i2t"}
