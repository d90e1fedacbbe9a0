"""The experiments of the plugin: their form, their published figures, and rows on other data."""

from pathlib import Path

import numpy as np
import pytest

from crossfit import registry
from crossfit.experiment import Experiment, run
from crossfit.experiment.build import build_method

FOLDER = Path(__file__).parents[1] / "experiments"
DIMENSIONS = list(range(10, 101, 10))


def _class(name):
    return registry.load(name.rpartition(":")[2], "crossfit.methods")


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_an_experiment_is_well_formed_registered_and_its_methods_take_its_parameters(file):
    card = registry.get(file.stem, "crossfit.experiments")
    described = Experiment.from_file(file)
    assert card.target == f"crossfit_correlation:experiments/{file.name}"
    assert set(card.methods) == {e.method for e in described.methods}
    assert set(card.datasets) == {entry.name for entry in described.datasets}
    for entry in described.methods:
        build_method(entry)  # checks the values


# ---- music -------------------------------------------------------------------------------------

# About, in the text of Vuong et al. (2019): MRR by pair, MRR by mood.
MUSIC = {
    "PretrainCNN-CCA": (0.10, 0.20),
    "Spotify-DCCA": (0.15, 0.25),
    "PretrainCNN-DCCA": (0.20, 0.32),
    "JointTrain-DCCA": (0.25, 0.35),
}


@pytest.mark.parametrize(("name", "relevance", "column"), [
    ("yu-2017-dcca-music", "pair", 0), ("yu-2017-dcca-music-moods", "label", 1)
])  # fmt: skip
def test_the_music_methods_have_ten_to_a_hundred_components(name, relevance, column):
    described = Experiment.from_file(FOLDER / f"{name}.yaml")
    assert described.relevance == relevance
    assert [one.options["fold"] for one in described.datasets] == [0, 1, 2, 3, 4]
    rows = {entry.label: entry for entry in described.methods}
    assert len(rows) == 1 + len(MUSIC) * len(DIMENSIONS)
    for label, figures in MUSIC.items():
        for k in DIMENSIONS:
            entry = rows[f"{label}, {k} components"]
            assert entry.params["n_components"] == k
            assert (entry.method == "cca") == (label == "PretrainCNN-CCA")
            if k > 30:
                assert entry.published["mrr"] == {"mean": figures[column]}
            else:
                assert not entry.published
            assert bool(entry.note) == (label != "JointTrain-DCCA")
            if entry.method == "dcca":
                method = _class("dcca")(**entry.params)
                assert method.audio_branch == ("cnn" if label == "JointTrain-DCCA" else "mlp")
                assert method.width == 100 and method.batch_size == 800 and method.dropout == 0


def test_the_music_rows_run_on_songs_with_the_features_that_they_name(tmp_path):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(75, 3))
    folder = tmp_path / "music"
    folder.mkdir()
    np.savez(
        folder / "music.npz",
        audio=(Z @ rng.normal(size=(3, 3220))).reshape(75, 20, 161),
        text=Z @ rng.normal(size=(3, 300)) + 0.1 * rng.normal(size=(75, 300)),
        pretrained=Z @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(75, 12)),
        y=np.arange(75) % 20,
    )  # without the features of Spotify
    described = Experiment.from_file(FOLDER / "yu-2017-dcca-music.yaml").to_dict()
    first = described["datasets"][0] | {"strict": False}
    small = {"width": 5, "n_components": 2, "max_epochs": 2}
    methods = []
    for entry in described["methods"]:
        if entry["label"].endswith(", 10 components"):
            params = entry["params"] | ({"n_components": 2} if entry["method"] == "cca" else small)
            methods.append(
                {k: v for k, v in entry.items() if k != "published"} | {"params": params}
            )
    described |= {"datasets": [first], "methods": methods, "baseline": None}
    record = run(Experiment.from_dict(described), tmp_path / "runs", root=tmp_path)
    status = {cell.label.partition(",")[0]: cell.status for cell in record.cells}
    assert status == {
        "PretrainCNN-CCA": "done", "PretrainCNN-DCCA": "done", "JointTrain-DCCA": "done",
        "Spotify-DCCA": "failed",
    }  # fmt: skip
    (failed,) = [cell for cell in record.cells if cell.status == "failed"]
    assert "spotify" in str(failed.reason or failed.traceback)


# ---- Flickr30K ---------------------------------------------------------------------------------


def test_dcca_on_flickr30k_has_the_settings_and_figures_of_the_papers():
    described = Experiment.from_file(FOLDER / "yan-2015-dcca-flickr30k.yaml")
    rows = {entry.label: entry for entry in described.methods}
    method = _class("dcca")(**rows["DCCA"].params)
    settings = {"hidden": (1024, 1024, 1024), "activation": "sigmoid", "batch_norm": True,
                "dropout": 0, "weight_decay": 1e-5, "optimizer": "RMSprop", "lr": 1e-3,
                "batch_size": 800, "max_epochs": 100}  # fmt: skip
    found = {name: method.get_params()[name] for name in settings}
    assert found | {"hidden": tuple(found["hidden"])} == settings
    assert rows["DCCA"].published["r@1"] == {"image2text": 0.279, "text2image": 0.268}
    assert rows["DCCA"].published["r@10"] == {"image2text": 0.682, "text2image": 0.669}
    full = _class("dcca")(**rows["DCCA, all pairs at once"].params)
    assert full.optimizer == "LBFGS" and full.activation == "cube-root" and not full.batch_norm


def test_the_deep_belief_network_on_flickr30k_has_the_settings_of_deepnet():
    described = Experiment.from_file(FOLDER / "srivastava-2012-multimodal-dbn-flickr30k.yaml")
    entry = described.methods[0]
    method = _class("multimodal-dbn")(**entry.params)
    method.units_ = dict(method.units)
    module = method._build_module({"image": 4096, "text": 3000}, None)
    machines = [*module.paths["image"].rbms, *module.paths["text"].rbms, module.joint]
    sizes = [tuple(rbm.weight.shape[::-1]) for rbm in machines]
    assert sizes == [(4096, 2048), (2048, 1024), (3000, 1024), (1024, 1024), (2048, 2048)]
    assert [rbm.kind for rbm in machines[::2]] == ["gaussian", "replicated-softmax", "bernoulli"]
    assert [rbm.l2 for rbm in machines] == [1e-3, 1e-3, 1e-4, 1e-3, 1e-4]
    assert [rbm.sparsity for rbm in machines] == [0.2, 0.1, 0.2, 0.1, None]
    assert [rbm.sparsity_cost for rbm in machines] == [0.1, 0.01, 0.01, 0.01, 0.01]
    assert [g["lr"] for _, g in method._groups()] == [1e-3, 5e-2, 1e-1, 1e-2, 1e-2]
    stds = [rbm.weight.std().item() for rbm in machines]
    expected = [2048**-0.5, 1024**-0.5, 1e-5, 1024**-0.5, 2048**-0.5]
    np.testing.assert_allclose(stds, expected, rtol=0.02)
    (schedule,) = method._schedule()
    assert schedule.at(10_000)[0] == 0.5 and schedule.at(20_000)[2] == 2
    updates = 29_783 * 5 / method.batch_size * method.max_epochs / schedule.n_phases
    assert updates == pytest.approx(200_000, rel=0.01)
    assert entry.published["r@1"] == {"image2text": 0.064, "text2image": 0.047}


# ---- Corr-AE, CMDN, CCL ------------------------------------------------------------------------

# Of ACLN's table 1, SSVR's table 3 and CRAN's table 1.
FIGURES = {
    ("feng-2014-corr-ae-wikipedia", "Corr-AE", "map@all"): (0.188, 0.202),
    ("feng-2014-corr-ae-pascal-sentences", "Corr-AE", "map@all"): (0.268, 0.273),
    ("peng-2018-ccl-pascal-sentences", "Corr-AE", "map@all"): (0.268, 0.273),
    ("peng-2018-ccl-pascal-sentences", "CMDN", "map@all"): (0.334, 0.333),
    ("peng-2018-ccl-flickr30k", "CCL", "r@1"): (0.377, 0.373),
    ("peng-2018-ccl-flickr30k", "CCL", "r@10"): (0.811, 0.800),
    ("peng-2018-ccl-flickr30k", "Corr-AE", "r@1"): (0.303, 0.238),
    ("peng-2018-ccl-flickr30k", "Corr-AE", "r@10"): (0.740, 0.707),
}


@pytest.mark.parametrize(("name", "label", "metric"), FIGURES)
def test_published_figures_of_autoencoders_stand_next_to_their_rows(name, label, metric):
    described = Experiment.from_file(FOLDER / f"{name}.yaml")
    (entry,) = [entry for entry in described.methods if entry.label == label]
    found = entry.published[metric]
    assert (found["image2text"], found["text2image"]) == FIGURES[name, label, metric]


@pytest.mark.parametrize(("name", "n_pairs"), [
    ("feng-2014-corr-ae-wikipedia", 2173), ("feng-2014-corr-ae-pascal-sentences", 800),
    ("peng-2018-ccl-pascal-sentences", 800), ("peng-2018-ccl-flickr30k", 29_783 * 5),
])  # fmt: skip
def test_corr_ae_has_the_settings_of_deepnet(name, n_pairs):
    alphas = {"corr-ae": 0.8, "cross-ae": 0.2, "full-ae": 0.8}
    for entry in Experiment.from_file(FOLDER / f"{name}.yaml").methods:
        if entry.method not in alphas:
            continue
        method = _class(entry.method)(**entry.params)
        assert method.alpha == alphas[entry.method]
        module = method._build_module({"image": 4096, "text": 3000}, None)
        machines = [
            tuple(rbm.weight.shape[::-1]) for part in module.beliefs.values() for rbm in part.rbms
        ]
        assert machines == [(4096, 2048), (2048, 1024), (3000, 1024), (1024, 1024)]
        for role, encoder in module.encoders.items():
            assert [type(layer).__name__ for layer in encoder.layers] == ["Linear", "Sigmoid"]
            assert encoder.layers[0].weight.shape == (1024, 1024)
            for decoder in module.decoders[role].values():
                assert [type(layer).__name__ for layer in decoder.layers] == ["Linear", "Sigmoid"]
        batches = -(-n_pairs // method.batch_size)
        assert batches * method.max_epochs == pytest.approx(10_000, rel=0.05)
        assert batches * method.pretrain == pytest.approx(100_000, rel=0.05)
        (schedule,) = method._schedule()
        assert schedule.at(0)[:2] == (1.0, 0.5) and schedule.at(10_000)[0] == 0.5


def test_cmdn_has_the_sizes_of_its_code():
    entry = Experiment.from_file(FOLDER / "peng-2016-cmdn-wikipedia.yaml").methods[0]
    method = _class("cmdn")(**entry.params)
    trunk = method._build_trunk({"image": 2296, "text": 3000}, 10)
    shapes = {name: tuple(w.shape[::-1]) for name, w in trunk.named_parameters() if w.ndim == 2}
    for role, n in (("image", 2296), ("text", 3000)):
        assert shapes[f"encoders.{role}.layers.0.weight"] == (n, 1024)
        assert shapes[f"encoders.{role}.layers.2.weight"] == (1024, 512)
        assert shapes[f"fusions.{role}.weight"] == (512 + 2048, 1024)
        assert shapes[f"classifiers.{role}.head.weight"] == (1024, 10)
    assert shapes["beliefs.joint.weight"] == (2048, 2048)
    assert [layer.into["text"].weight.shape[0] for layer in trunk.autoencoders] == [512, 256, 128]
    method.n_labels_ = 10
    assert method._build_module({"image": 128, "text": 128}, 10).into["image"].out_features == 64
    batches = {name: -(-2173 // method._stage(name)["batch_size"]) for name in method._stages}
    updates = {name: n * method._stage(name)["max_epochs"] for name, n in batches.items()}
    expected = {
        "sae": 100_000, "dbn": 200_000, "fusion": 100_000, "classifier": 50_000, "bae": 20_000,
    }  # fmt: skip
    assert updates == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("name", ["peng-2018-ccl-pascal-sentences", "peng-2018-ccl-flickr30k"])
def test_ccl_has_the_sizes_of_its_code(name):
    entry = Experiment.from_file(FOLDER / f"{name}.yaml").methods[0]
    method = _class("ccl")(**entry.params)
    levels = {"whole": 4096, "patches": 1024}
    trunk = method._build_trunk({"image": levels, "text": levels}, 20)
    assert trunk.fusions["image"].weight.shape == (2048, 2048)
    assert trunk.correspondences["patches"].encoders["text"].layers[0].weight.shape == (1024, 1024)
    assert [layer.weight.shape[0] for layer in trunk.classifiers["text"].body.layers[::2]] == [
        1024, 1024, 1024,
    ]  # fmt: skip
    assert (method.alpha, method.margin, method.width, method.batch_size) == (0.7, 1.0, 1024, 80)
    settings = {"lr": 1e-4, "optimizer": "SGD", "optimizer__momentum": 0.9,
                "optimizer__weight_decay": 0.004}  # fmt: skip
    assert {key: method.get_params()[key] for key in settings} == settings
