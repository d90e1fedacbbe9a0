"""The experiments of the plugin: their form, equal budgets, and the data that they choose by."""

from pathlib import Path

import pytest

from crossfit import registry
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
