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


# ---- DAN, DVSA ---------------------------------------------------------------------------------


def test_dan_has_the_published_settings():
    described = Experiment.from_file(FOLDER / "nam-2017-dan-flickr30k.yaml")
    rows = {entry.label: entry for entry in described.methods}
    method = _class("dan")(**rows["DAN(vgg)"].params)
    settings = {"n_steps": 2, "directions": "sum", "normalize": False, "margin": 100,
                "optimizer": "SGD", "optimizer__momentum": 0.9, "lr": 0.1, "batch_size": 128,
                "max_epochs": 60}  # fmt: skip
    assert {name: method.get_params()[name] for name in settings} == settings
    method.text_form_ = "strings"
    module = method._build_module({"image": 512, "text": 7000}, None)
    shapes = {name: tuple(w.shape) for name, w in module.named_parameters()}
    assert shapes["words.embedding.weight"] == (7000, 512)
    assert shapes["lstm.rnn.weight_hh_l0_reverse"] == (4 * 512, 512)
    for step in range(3):
        assert shapes[f"projections.{step}.weight"] == (512, 512)
    for name in ("looks", "reads"):
        assert shapes[f"{name}.1.of_memory.weight"] == (512, 512)
        assert f"{name}.2.of_memory.weight" not in shapes
    assert not any("scaling" in name for name, _ in module.named_buffers())
    clipping, schedule = method._schedule()
    assert clipping.gradient_clip_value == 0.1
    assert schedule.simulate(60, initial_lr=0.1)[[0, 29, 30, 59]] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01]
    )
    assert rows["DAN(vgg)"].published["r@1"] == {"image2text": 0.414, "text2image": 0.318}
    assert rows["DAN, mean of the states"].params["directions"] == "mean"


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("flickr30k", {"DVSA (BRNN)": (0.222, 0.152), "DVSA (DepTree)": (0.200, 0.150)}),
        ("coco", {"DVSA": (0.384, 0.274)}),
    ],
)
def test_dvsa_has_the_published_settings_and_figures(name, figures):
    described = Experiment.from_file(FOLDER / f"karpathy-2015-dvsa-{name}.yaml")
    rows = {entry.label: entry for entry in described.methods}
    for label, (first, second) in figures.items():
        method = _class("dvsa")(**rows[label].params)
        assert rows[label].published["r@1"] == {"image2text": first, "text2image": second}
        settings = {"normalize": False, "unit_length": False, "margin": 1, "mining": "sum",
                    "optimizer": "SGD", "optimizer__momentum": 0.9, "batch_size": 100}  # fmt: skip
        assert {name: method.get_params()[name] for name in settings} == settings
        # The paper limits the gradient of the sum over a batch, not of its mean.
        assert method.clip * method.batch_size == pytest.approx(5)
        assert method.fragments == ("windows" if label == "DVSA (DepTree)" else "brnn")
        method.text_form_ = "words"
        module = method._build_module({"image": 1024, "text": 300}, None)
        shapes = {name: tuple(w.shape) for name, w in module.named_parameters()}
        assert shapes["regions.weight"] == (1000, 1024)
        if method.fragments == "brnn":
            assert shapes["fragments.read.weight"] == (300, 300)
            assert shapes["fragments.weight"] == (2, 300, 300)
            assert shapes["fragments.write.weight"] == (1000, 300)
        else:
            assert shapes["fragments.map.weight"] == (1000, 600)
        assert not any("words" in name for name in shapes)  # given vectors are fixed
