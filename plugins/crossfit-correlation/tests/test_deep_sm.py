"""Deep-SM against logistic regression and semantic matching, and on pictures."""

import os

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

import crossfit
from crossfit import Views, datasets
from crossfit.metrics import chance_level
from crossfit.neural import Checkpoint
from crossfit.neural.pictures import Pictures
from crossfit.neural.trunks import ALEXNET_CUT, AlexNet
from crossfit.subspace import SM
from crossfit_correlation.deep_sm import DeepSM
from crossfit_correlation.testing import make_inputs


@pytest.fixture(scope="module")
def planted():
    views, y = make_inputs(np.random.default_rng(0), 200)
    return views[:150], y[:150], views[150:], y[150:]


@pytest.fixture(scope="module")
def linear(planted):
    """Linear networks in full batches, which converge to the minimum of the regularised loss."""
    train, y = planted[:2]
    return DeepSM(
        hidden=(), lr=1.0, weight_decay=1 / (0.5 * 150), batch_size=150, max_epochs=400,
        device="cpu", random_state=0, verbose=0,
    ).fit(train, y)  # fmt: skip


def test_linear_networks_are_logistic_regression(linear, planted):
    train, y, test, _ = planted
    for view in ("image", "text"):
        scaler = StandardScaler().fit(train[view])
        oracle = LogisticRegression(C=0.5, tol=1e-8, max_iter=10_000)
        oracle.fit(scaler.transform(train[view]), y)
        expected = oracle.predict_proba(scaler.transform(test[view]))
        np.testing.assert_allclose(linear.encode(test[view], view), expected, atol=2e-4)
        # Another strength of the penalty gives other posteriors.
        other = clone(oracle).set_params(C=5.0).fit(scaler.transform(train[view]), y)
        assert np.abs(other.predict_proba(scaler.transform(test[view])) - expected).max() > 0.02


def test_linear_networks_are_semantic_matching(linear, planted):
    train, y, test, _ = planted
    classifier = LogisticRegression(C=0.5, tol=1e-8, max_iter=10_000)
    for measure in ("cosine", "kl", "posterior_over_prior"):
        expected = SM(classifier, measure=measure).fit(train, y).similarity(test)
        found = clone(linear).set_params(measure=measure)
        found.__crossfit_restore__(*linear.__crossfit_state__())
        np.testing.assert_allclose(found.similarity(test), expected, rtol=5e-3, atol=5e-3)


def test_biases_are_not_decayed_and_alexnet_is_slow(planted, raw):
    pictures, texts, y = raw
    method = DeepSM(**RAW | {"max_epochs": 1}).fit(pictures, texts, y)
    module = method.net_.module_
    names = {id(p): name for name, p in module.named_parameters()}
    for group in method.net_.optimizer_.param_groups:
        assert group["momentum"] == 0.9
        for parameter in group["params"]:
            name = names.pop(id(parameter))
            tuned = name.startswith("classifiers.image.") and "classifier.6" not in name
            assert group["lr"] == (1e-3 if tuned else 0.01), name
            assert group["weight_decay"] == (0.0 if name.endswith("bias") else 5e-4), name
    assert not names
    DeepSM(hidden=(8,), optimizer="Adam", max_epochs=1, device="cpu").fit(*planted[:2])


def test_the_pairing_is_not_used(planted):
    """Each view's network is the one that is trained with any other pairing."""
    train, y, test, _ = planted
    settings = {"hidden": (16,), "dropout": 0, "batch_size": 150, "max_epochs": 5,
                "device": "cpu", "random_state": 0}  # fmt: skip
    rows = np.arange(150)
    for label in range(5):
        rows[y == label] = np.roll(rows[y == label], 1)
    method = DeepSM(**settings).fit(train, y)
    other = DeepSM(**settings).fit(train.replace(text=train["text"][rows]), y)
    for view in ("image", "text"):
        expected = method.encode(test[view], view)
        np.testing.assert_allclose(other.encode(test[view], view), expected, atol=1e-5)


def test_rows_without_a_label_are_not_used(planted):
    train, y, test, y_test = planted
    settings = {"hidden": (), "batch_size": 150, "lr": 0.5, "max_epochs": 200, "device": "cpu",
                "standardize": False, "random_state": 0}  # fmt: skip
    half = np.where(np.arange(150) % 2, -1, y)
    found = DeepSM(**settings).fit(train, half)
    fewer = DeepSM(**settings).fit(train[::2], y[::2])
    np.testing.assert_allclose(
        found.encode(test["text"], "text"), fewer.encode(test["text"], "text"), atol=1e-3
    )
    assert found.score(test, y_test) > 0.6
    with pytest.raises(ValueError, match="DeepSM needs labels of at least two classes, got 1"):
        DeepSM(device="cpu").fit(train, np.zeros(150, int))


def test_several_captions_of_an_image(planted):
    train, y = planted[:2]
    index = np.repeat(np.arange(40), 3)
    views = Views.from_captions(train["image"][:40], train["text"][:120], index)
    method = DeepSM(hidden=(16,), max_epochs=20, device="cpu", random_state=0)
    method.fit(views, y[:40][index])
    assert method.similarity(views).shape == (40, 120)


@pytest.mark.parametrize("hidden", [(0,), (16, 0.5), [True, -1]])
def test_widths_are_checked(planted, hidden):
    with pytest.raises(ValueError, match="DeepSM: hidden must be integers of at least 1"):
        DeepSM(hidden=hidden).fit(*planted[:2])


# ---- pictures ----------------------------------------------------------------------------------

COLOURS = {"red": (220, 30, 30), "blue": (20, 40, 230)}
RAW = {"hidden": (16,), "max_epochs": 2, "trunk_weights": None, "batch_size": 8, "device": "cpu",
       "random_state": 0}  # fmt: skip


@pytest.fixture(scope="module")
def raw():
    rng = np.random.default_rng(0)
    names = np.array([list(COLOURS)[i % 2] for i in range(8)])
    pictures = np.array([COLOURS[name] for name in names])[:, None, None]
    pictures = np.clip(pictures + rng.normal(0, 20, (8, 32, 32, 3)), 0, 255).astype(np.uint8)
    return pictures, (names[:, None] == list(COLOURS)) + rng.normal(0, 0.1, (8, 2)), names


class _Dies(Callback):
    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if net.history[-1]["epoch"] == 2:
            raise InterruptedError


def test_the_trunk_is_trained_as_a_whole_and_kept(raw, tmp_path):
    pictures, texts, y = raw
    torch.manual_seed(3)
    from torchvision.models import alexnet

    start = alexnet(weights=None).state_dict()
    torch.save(start, tmp_path / "alexnet.pth")
    method = DeepSM(**RAW | {"trunk_weights": tmp_path / "alexnet.pth"}).fit(pictures, texts, y)
    trunk = method.net_.module_.classifiers["image"]
    assert isinstance(trunk, AlexNet)
    for name, weights in trunk.state_dict().items():
        if not name.startswith("classifier.6"):
            # Fine-tuned from these weights, not drawn again.
            assert 0 < (weights - start[name]).abs().max() < 0.01, name
    pixels = Pictures(pictures[:3], ALEXNET_CUT).take(torch.arange(3)).values
    with torch.no_grad():
        expected = trunk.eval()(pixels).softmax(dim=1)
    np.testing.assert_allclose(method.encode(pictures[:3], "image"), expected, atol=1e-6)
    expected = method.similarity(pictures, texts)
    crossfit.save(method, tmp_path / "bundle")
    loaded = crossfit.load(tmp_path / "bundle")
    np.testing.assert_array_equal(loaded.similarity(pictures, texts), expected)
    with pytest.raises(ValueError, match="'image' was fitted on pictures, got vectors"):
        method.encode(np.zeros((2, 5)), "image")


def test_a_killed_fit_on_pictures_ends_with_the_same_weights(raw, tmp_path):
    pictures, texts, y = raw
    through = DeepSM(**RAW).fit(pictures, texts, y)
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    with pytest.raises(InterruptedError):
        clone(through).set_params(callbacks=[checkpoint, _Dies()]).fit(pictures, texts, y)
    resumed = clone(through).set_params(callbacks=[checkpoint]).fit(pictures, texts, y)
    for name, weights in through.net_.module_.state_dict().items():
        assert torch.equal(resumed.net_.module_.state_dict()[name], weights), name


def test_vectors_and_pictures_are_not_mixed(planted):
    method = DeepSM(hidden=(8,), max_epochs=1, device="cpu").fit(*planted[:2])
    with pytest.raises(ValueError, match="'image' was fitted on vectors, got pictures"):
        method.encode(np.zeros((2, 32, 32, 3), np.uint8), "image")


# ---- real data ---------------------------------------------------------------------------------


def test_the_defaults_learn_on_emoji():
    """Pictures as colours and edges, names as words: far above chance on test pairs."""
    from crossfit import ViewTransformer
    from crossfit.extraction import GridFeatures

    emoji = datasets.load("emoji")
    words = TfidfVectorizer(sublinear_tf=True, max_features=500)
    features = ViewTransformer([("image", GridFeatures(2, cache=False)), ("text", words)])
    train, test = features.fit_transform(emoji["train"].views), emoji["test"]
    method = DeepSM(device="cpu", random_state=0, verbose=0).fit(train, emoji["train"].y)
    scores = method.similarity(features.transform(test.views))
    found = crossfit.evaluate(scores, (test.y, test.y), "map@all", ci=None)
    chance = chance_level(test.y[:, None] == test.y, "map@all").mean(None, "map@all")
    for direction in found.directions:
        assert found.mean(direction, "map@all") > 2 * chance


@pytest.mark.data
def test_the_defaults_are_near_semantic_matching_on_wikipedia():
    if not os.environ.get("CROSSFIT_DATA"):
        pytest.skip("CROSSFIT_DATA does not name a folder with the real data sets")
    wikipedia = datasets.load("wikipedia")
    train, test = wikipedia["train"], wikipedia["test"]
    method = DeepSM(device="cpu", random_state=0, verbose=0).fit(train.views, train.y)
    linear = SM().fit(train.views, train.y)
    # A random order has .12.
    assert method.score(test.views, test.y) > linear.score(test.views, test.y) - 0.02
