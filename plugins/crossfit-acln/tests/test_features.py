"""ACLNFeatures against torchvision and the weights, in pipelines, bundles and experiments."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

import crossfit
from crossfit import Views
from crossfit.experiment import Experiment, SpecError, run
from crossfit.methods import CCA
from crossfit.testing import parametrize_with_checks
from crossfit_acln.estimator import ACLN
from crossfit_acln.features import ACLNFeatures
from crossfit_acln.testing import make_inputs

SMALL = {"width": 16, "max_epochs": 2, "device": "cpu"}
RAW = SMALL | {"trunk_epochs": 0, "min_count": 1}


@parametrize_with_checks(["acln-features"])
def test_conformance(check):
    check()


@pytest.fixture(scope="module")
def raw():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (12, 40, 40, 3)).astype(np.uint8)
    texts = np.array([f"a {name} square" for name in ("red", "blue", "green")] * 4, object)
    return Views(image=pictures, text=texts), np.arange(12) % 3


def test_pictures_become_fc7_and_texts_fc2t(raw, tmp_path):
    from torchvision.models import alexnet
    from torchvision.transforms import v2

    views, y = raw
    torch.manual_seed(0)
    network = alexnet(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "alexnet.pth")
    settings = RAW | {"trunk_weights": str(tmp_path / "alexnet.pth")}
    features = ACLNFeatures(settings, random_state=0).fit(views, y)
    found = features.transform(views)
    prepare = v2.Compose(
        [v2.Resize((256, 256)), v2.CenterCrop(227), v2.ToImage(),
         v2.ToDtype(torch.float32, scale=True),
         v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )  # fmt: skip
    pixels = prepare(Image.fromarray(views["image"][0]))[None]
    with torch.no_grad():
        pool5 = network.features(pixels).flatten(1)
        expected = network.classifier[:-1](pool5)[0]
    np.testing.assert_allclose(found["image"][0], expected, rtol=1e-3, atol=1e-5)
    # The posteriors are the last layer of these.
    acln = features.acln_
    assert acln.attention == "none"
    last = acln.net_.module_.heads["text"][-1]
    with torch.no_grad():
        posteriors = last(torch.tensor(found["text"])).softmax(dim=1)
    np.testing.assert_allclose(posteriors, acln.encode(views["text"], "text"), rtol=1e-4)
    assert found["image"].shape == (12, 4096) and found["text"].shape == (12, 16)
    crossfit.save(features, tmp_path / "bundle")
    read = crossfit.load(tmp_path / "bundle").transform(views)
    for name in ("image", "text"):
        np.testing.assert_array_equal(read[name], found[name])


def test_fc7_must_be_kept(raw):
    views, y = raw
    acln = ACLN(**RAW, trunk_weights=None).fit(views, y)
    with pytest.raises(ValueError, match="fc7 of AlexNet was not kept in the fit"):
        acln.vector_features(views["image"], "image")
    with pytest.raises(ValueError, match="'image' was fitted on pictures, got regions"):
        acln.vector_features(np.zeros((2, 36, 256)), "image")


def test_a_pipeline_is_fitted_on_the_training_pairs_alone():
    views, y = make_inputs(np.random.default_rng(0), 90)
    model = make_pipeline(ACLNFeatures(SMALL, random_state=0), CCA(4))
    model.fit(views[:60], y[:60])
    assert model[0].acln_.random_state == 0 and model[0].acln is SMALL
    scores = crossfit.similarity(model, views[60:])
    # By hand, and whatever the labels of the test pairs are.
    acln = ACLN(**SMALL, attention="none", random_state=0).fit(views[:60], y[:60])

    def by_hand(part):
        return part.map(acln.vector_features)

    expected = CCA(4).fit(by_hand(views[:60])).similarity(by_hand(views[60:]))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_images_may_stay_and_an_acln_may_be_given():
    views, y = make_inputs(np.random.default_rng(0), 40)
    features = ACLNFeatures(ACLN(**SMALL, attention="shared"), image="passthrough").fit(views, y)
    found = clone(features).fit(views, y).transform(views)
    np.testing.assert_array_equal(found["image"], views["image"])
    assert found["text"].shape == (40, 16) and features.acln_.attention == "shared"
    assert not hasattr(features.acln, "net_")
    with pytest.raises(ValueError, match=r"ACLNFeatures: acln: .*breadth"):
        ACLNFeatures({"breadth": 3}).fit(views, y)
    with pytest.raises(TypeError, match="ACLNFeatures expects Views"):
        features.transform(views["image"])


# ---- experiments -------------------------------------------------------------------------------

PARAMS = {"acln": RAW | {"trunk_weights": None}}


def experiment(**changes):
    settings = {
        "title": "Vectors of an ACLN",
        "dataset": {"name": "emoji", "subset": {"train": 24, "test": 12}},
        "features": {"*": {"name": "acln-features", "params": PARAMS}},
        "methods": [{"method": "cca", "params": {"n_components": 3}}, "pls"],
    }
    return Experiment(**settings | changes)


@pytest.mark.filterwarnings("ignore:.*hold no word of the vocabulary")
def test_in_an_experiment_one_fit_serves_all_methods(tmp_path, monkeypatch):
    fitted = []
    fit = ACLN.fit

    def counting(self, X, Y=None, y=None):
        fitted.append((len(np.unique(X.groups)), self.random_state))
        return fit(self, X, Y, y)

    monkeypatch.setattr(ACLN, "fit", counting)
    record = run(experiment(), tmp_path)
    assert [cell.status for cell in record.cells] == ["done", "done"], record.cells
    assert fitted == [(24, 0)]  # the training pairs, once
    assert {cell.features for cell in record.cells} == {"all views: acln-features"}


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ({"image": "acln-features"}, r"'acln-features' transforms all views at once; name it"),
        ({"*": "grid"}, r"'grid' transforms a single view"),
        ({"*": {"name": "sklearn.decomposition.PCA"}}, "transforms a single view"),
    ],
)
def test_transformers_of_views_and_of_all_views_are_told_apart(features, says, tmp_path):
    with pytest.raises(SpecError, match=says):
        run(experiment(features=features), tmp_path)
