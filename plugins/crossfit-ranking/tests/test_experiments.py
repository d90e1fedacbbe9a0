"""The experiments of the plugin: their form, settings and published figures."""

from pathlib import Path

import pytest

from crossfit import registry
from crossfit.experiment import Experiment
from crossfit.experiment.build import build_method

FOLDER = Path(__file__).parents[1] / "experiments"


def _class(name):
    return registry.load(name.rpartition(":")[2], "crossfit.methods")


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_an_experiment_is_well_formed_registered_and_its_methods_take_its_parameters(file):
    card = registry.get(file.stem, "crossfit.experiments")
    described = Experiment.from_file(file)
    assert card.target == f"crossfit_ranking:experiments/{file.name}"
    assert set(card.methods) == {e.method for e in described.methods}
    assert set(card.datasets) == {entry.name for entry in described.datasets}
    for entry in described.methods:
        build_method(entry)  # checks the values


# ---- VSE, VSE++ --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coco", "flickr30k"])
def test_vse_has_the_settings_of_its_code(name):
    described = Experiment.from_file(FOLDER / f"faghri-2018-vsepp-{name}.yaml")
    rows = {entry.label: _class(entry.method)(**entry.params) for entry in described.methods}
    for method in rows.values():
        method.text_form_ = "strings"
        module = method._build_module({"image": 4096, "text": 8000}, None)
        shapes = {name: tuple(w.shape) for name, w in module.named_parameters()}
        assert shapes["linear.image.2.weight"] == (1024, 4096)
        assert shapes["words.embedding.weight"] == (8000, 300)
        assert shapes["recurrent.rnn.weight_ih_l0"] == (3 * 1024, 300)
        assert not any("scaling" in name for name, _ in module.named_buffers())
        assert (method.margin, method.lr, method.batch_size, method.max_epochs) == (
            0.2, 2e-4, 128, 30,
        )  # fmt: skip
        clipping, schedule = method._schedule()
        # The code's loss is the sum over the batch, whose gradient has the norm 2 at most.
        assert clipping.gradient_clip_value * method.batch_size == 2
        assert schedule.simulate(30, initial_lr=2e-4)[[0, 14, 15, 29]] == pytest.approx(
            [2e-4, 2e-4, 2e-5, 2e-5]
        )
    assert [m.mining for m in rows.values()] == ["sum", "hardest", "hardest"]
    assert [m.sum_share for m in rows.values()] == [0, 0, 0.25]
