"""Backbones against torchvision's own networks and transforms, and weights from files."""

import json
import os
import pickle
import urllib.error

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from sklearn.base import clone

from crossfit.cache import FeatureCache
from crossfit.extraction import Backbone, backbones, weights


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(n=2, height=90, width=120, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 6, 8, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(c).resize((width, height))) for c in coarse]


def small(*args, **changes):
    """Return a backbone that takes pictures of 64 pixels, on the CPU and without the cache."""
    settings = {"resize": 64, "size": 64, "device": "cpu", "cache": False, **changes}
    return Backbone(*args, **settings)


@pytest.fixture(scope="module")
def alexnet():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return torchvision.models.alexnet(weights=None).eval()


@pytest.fixture(scope="module")
def trunk(alexnet):
    """Return the weights of AlexNet up to pool5, with a hundredth of the parameters."""
    return {k: v for k, v in alexnet.state_dict().items() if k.startswith("features")}


@pytest.fixture(scope="module")
def file(trunk, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(trunk, path)
    return path


def official(images, size=224, resize=256):
    """Return the pictures after torchvision's own transforms."""
    recipe = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.transforms(
        crop_size=size, resize_size=resize
    )
    return torch.stack([recipe(Image.fromarray(image)) for image in images])


@pytest.mark.parametrize(("height", "width"), [(90, 131), (335, 201), (256, 256), (40, 300)])
def test_pixels_are_prepared_as_torchvision_does(alexnet, file, height, width):
    images = pictures(2, height, width)
    with torch.no_grad():
        expected = alexnet.features(official(images)).flatten(2).transpose(1, 2).numpy()
    got = Backbone("alexnet", "pool5", file, device="cpu", cache=False).fit_transform(images)
    assert got.shape == (2, 36, 256)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_layers_of_alexnet(alexnet, tmp_path):
    images, file = pictures(), tmp_path / "whole.pth"
    torch.save(alexnet.state_dict(), file)
    with torch.no_grad():
        x = official(images, 64, 64)
        maps = alexnet.features(x)
        hidden = torch.flatten(alexnet.avgpool(maps), 1)
        fc6 = torch.relu(alexnet.classifier[1](hidden))
        fc7 = torch.relu(alexnet.classifier[4](fc6))
        conv1 = torch.relu(alexnet.features[0](x))
    for layer, expected in {"fc6": fc6, "fc7": fc7}.items():
        got = small("alexnet", layer, file).fit(images)
        assert got.n_features_out_ == 4096
        np.testing.assert_allclose(got.transform(images), expected, atol=1e-5)
    got = small("alexnet", "conv1", file, "map").fit_transform(images)
    np.testing.assert_allclose(got, conv1, atol=1e-5)
    got = small("alexnet", "pool5", file, "vectors").fit_transform(images)
    np.testing.assert_allclose(got, maps.mean((2, 3)), atol=1e-6)
    got = small("alexnet", "classifier.4", file).fit_transform(images)  # before the ReLU
    assert (got < 0).any()
    np.testing.assert_allclose(np.maximum(got, 0), fc7, atol=1e-5)


def test_the_shapes_of_the_papers():
    """METHODS: pool5 is 6 x 6 x 256 at 224 and 227, conv5_4 14 x 14 x 512, fc7 4096."""
    for size in (224, 227):
        assert backbones._output_shape("alexnet", "pool5", size) == (256, 6, 6)
    assert backbones._output_shape("vgg19", "conv5_4", 224) == (512, 14, 14)
    assert backbones._output_shape("vgg19", "pool5", 224) == (512, 7, 7)
    assert backbones._output_shape("vgg19", "fc7", 224) == (4096,)
    assert backbones._output_shape("vgg16_bn", "conv5_3", 224) == (512, 14, 14)


def test_conv5_4_of_vgg19(tmp_path):
    """It is features[:36], after the ReLU; [:35] is before it, under torchvision's own name."""
    with torch.device("meta"):
        features = torchvision.models.vgg19(weights=None).features
    features = features.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for part in features.parameters():
        with torch.no_grad():
            scale = (2 / part[0].numel()) ** 0.5 if part.ndim == 4 else 0
            part.normal_(0, scale, generator=generator) if scale else part.zero_()
    # Without the classifier: only the tensors up to the layer are needed.
    path = tmp_path / "features.safetensors"
    save_file({f"features.{name}": part for name, part in features.state_dict().items()}, path)
    images = pictures()
    with torch.no_grad():
        x = official(images, 64, 64)
        before, after = features[:35](x), features[:36](x)
    assert (before < 0).any()
    for layer, expected in {"features.34": before, "conv5_4": after}.items():
        got = small("vgg19", layer, path, "map").fit_transform(images)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    regions = small("vgg19", "conv5_4", path).fit_transform(images)
    assert regions.shape == (2, 16, 512)
    np.testing.assert_allclose(regions[1, 4 * 2 + 3], after[1, :, 2, 3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("resnet18", "layer4", (2, 4, 512)),
        ("mobilenet_v3_small", "features.12", (2, 4, 576)),
        ("googlenet", "inception5b", (2, 4, 1024)),
    ],
)
def test_any_network_against_a_hook(name, layer, shape):
    options = {"transform_input": True, "init_weights": False} if name == "googlenet" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = torchvision.models.get_model(name, weights=None, **options).eval()
    caught = []
    network.get_submodule(layer).register_forward_hook(lambda *given: caught.append(given[2]))
    images = pictures()
    with torch.no_grad():
        network(official(images, 64, 64))
    expected = caught[0].flatten(2).transpose(1, 2).numpy()
    extractor = small(name, layer, weights=None, random_state=3).fit(images)
    got = extractor.transform(images)
    assert got.shape == shape
    assert extractor.n_features_out_ == shape[-1]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    pooled = clone(extractor).set_params(output="vectors").fit_transform(images)
    np.testing.assert_allclose(pooled, expected.mean(1), rtol=1e-4, atol=1e-4)


def test_a_layer_of_sequences(monkeypatch):
    """Test outputs like those of vision transformers, with a small substitute."""

    class Rows(torch.nn.Module):
        def forward(self, x):
            return {"features": x[:, 0]}

    monkeypatch.setattr(backbones, "_build", lambda name, layer: Rows())
    images = pictures()
    expected = official(images, 64, 64)[:, 0]
    for output, part in {
        "auto": expected,
        "regions": expected,
        "vectors": expected.mean(1),
    }.items():
        extractor = small("rows", output, None, output).fit(images)
        np.testing.assert_allclose(extractor.transform(images), part, rtol=1e-4, atol=1e-6)
        assert extractor.n_features_out_ == 64
    with pytest.raises(ValueError, match="no output='map'"):
        small("rows", "map", None, "map").fit(images)


def test_caffes_preprocessing(alexnet, file):
    images = pictures()
    blue_first = np.stack([np.asarray(Image.fromarray(i).resize((64, 64), 2)) for i in images])
    x = blue_first[..., ::-1].astype(np.float32) - np.float32([104.007, 116.669, 122.679])
    with torch.no_grad():
        expected = alexnet.features(torch.tensor(x.transpose(0, 3, 1, 2).copy()))
    got = small("alexnet", "pool5", file, "map", square=True, preprocessing="caffe")
    np.testing.assert_allclose(got.fit_transform(images), expected, rtol=1e-4, atol=1e-4)


def test_square_and_aspect():
    """A square resize keeps the left edge of a wide picture, the centre crop does not."""
    image = np.zeros((64, 256, 3), np.uint8)
    marked = image.copy()
    marked[:, :60] = 255
    for square, same in ((True, False), (False, True)):
        extractor = small(weights=None, square=square)
        got = extractor.fit_transform([image, marked])
        assert np.array_equal(got[0], got[1]) == same


def test_batches_order_and_copies(file):
    images = pictures(5)
    extractor = small("alexnet", "pool5", file, batch_size=5)
    expected = extractor.fit_transform(images)
    np.testing.assert_array_equal(extractor.transform(images), expected)
    for batch_size in (1, 2):
        got = small("alexnet", "pool5", file, batch_size=batch_size).transform(images)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        extractor.transform(images[::-1])[::-1], expected, rtol=1e-4, atol=1e-6
    )
    for copy in (clone(extractor), pickle.loads(pickle.dumps(extractor))):
        np.testing.assert_array_equal(copy.fit(images).transform(images), expected)
    assert len(pickle.dumps(extractor)) < 2000
    twin = clone(extractor)
    state, arrays = extractor.__crossfit_state__()
    twin.__crossfit_restore__(json.loads(json.dumps(state)), arrays)
    assert twin.weights_id_ == extractor.weights_id_
    np.testing.assert_array_equal(twin.transform(images), expected)


def test_random_weights_follow_the_seed_and_nothing_else():
    images = pictures()
    before = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    make = lambda seed: small("mobilenet_v3_small", "features.3", None, random_state=seed)  # noqa: E731
    one = make(0).fit_transform(images)
    backbones._network.cache_clear()
    np.testing.assert_array_equal(make(0).fit_transform(images), one)
    assert not np.array_equal(make(1).fit_transform(images), one)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == before[1:]


def test_kinds_of_files(trunk, file, tmp_path):
    images, state = pictures(), trunk
    expected = small("alexnet", "pool5", str(file)).fit_transform(images)
    save_file(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "b.pth")
    # The number of classes may differ, because the last layer is not needed.
    torch.save({**state, "classifier.6.weight": torch.zeros(5, 4096)}, tmp_path / "c.pth")
    for name in ("a.safetensors", "b.pth", "c.pth"):
        got = small("alexnet", "pool5", tmp_path / name).fit_transform(images)
        np.testing.assert_array_equal(got, expected)


def test_weights_by_name(file, tmp_path, monkeypatch):
    """Weights are read from torch's folder, and downloaded if they are not there."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    images = pictures()
    asked = []

    def fail(url, path, prefix, progress):
        asked.append((url, prefix))
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    extractor = small("alexnet", "pool5", "IMAGENET1K_V1").fit(images)
    message = (
        r"'alexnet-owt-7be5be79\.pth' are not in '.*' and cannot be fetched \(.*no network.*\): "
        r"put them there from https://.*alexnet-owt-7be5be79\.pth, or give a local path"
    )
    with pytest.raises(FileNotFoundError, match=message):
        extractor.transform(images)
    assert [prefix for _, prefix in asked] == ["7be5be79"]
    (tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth").write_bytes(file.read_bytes())
    got = extractor.transform(images)
    np.testing.assert_array_equal(got, small("alexnet", "pool5", file).fit_transform(images))
    assert small(weights="DEFAULT").fit(images).weights_id_ == "alexnet-owt-7be5be79.pth"


@pytest.mark.parametrize(
    "held",
    [
        lambda state: {f"module.{name}": part for name, part in state.items()},
        lambda state: {f"_orig_mod.module.{name}": part for name, part in state.items()},
        lambda state: {
            "n_averaged": torch.tensor(3),
            **{f"module.{name}": part for name, part in state.items()},
        },
        lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 3},
        lambda state: {"state_dict": {f"model.{name}": part for name, part in state.items()}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"model_state_dict": state, "loss": torch.tensor(0.1)},
    ],
)
def test_weights_as_training_programs_keep_them(trunk, file, tmp_path, held):
    images = pictures()
    torch.save(held(trunk), tmp_path / "kept.pth")
    np.testing.assert_array_equal(
        small("alexnet", "pool5", tmp_path / "kept.pth").fit_transform(images),
        small("alexnet", "pool5", str(file)).fit_transform(images),
    )


def test_a_file_is_read_by_its_content_and_not_by_its_name(trunk, file, tmp_path):
    save_file(trunk, tmp_path / "weights.bin")
    (tmp_path / "torch.safetensors").write_bytes(file.read_bytes())
    for name in ("weights.bin", "torch.safetensors"):
        assert set(weights.load_weights("alexnet", tmp_path / name)) == set(trunk)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize(
    "content, says",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html><title>Sign in</title>", "web page"),
        (b"\xef\xbb\xbf<HTML>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
        (b'{"message": "Not Found"}', 'text file, which begins with \'{"message"'),
        (b"", "empty"),
        (b"\x80\x02garbage", "not written by torch.save, or is damaged"),
    ],
)
def test_what_is_saved_in_place_of_weights_is_called_what_it_is(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="as weights") as raised:
        weights.load_weights("alexnet", tmp_path / name)
    assert says in str(raised.value)
    assert not any(word in str(raised.value) for word in ("weights_only", "torch.load", "trust"))


def test_a_whole_network_is_not_unpickled_and_nothing_advises_to(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "network.pth")
    with pytest.raises(
        ValueError, match=r"holds torch\.nn\.\S*Linear, which is more than"
    ) as raised:
        weights.load_weights("alexnet", tmp_path / "network.pth")
    assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize("weights", [None, "file"])
def test_features_are_the_same_whatever_is_set_for_the_process(file, weights):
    images = pictures()
    extractor = small("alexnet", "pool5", None if weights is None else str(file))
    expected = extractor.fit_transform(images)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        with torch.autocast("cpu", dtype=torch.bfloat16), np.errstate(all="raise"):
            backbones._network.cache_clear()
            got = extractor.fit_transform(images)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        backbones._network.cache_clear()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_is_unpickled(tmp_path, capsys):
    for name, content in {"evil.pth": Evil(), "list.pth": {"features.0.weight": [1]}}.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match=rf"cannot read '.*{name}' as weights"):
            small("alexnet", "pool5", tmp_path / name).fit_transform(pictures())
    assert capsys.readouterr().out == ""


def test_damaged_and_foreign_files(file, tmp_path):
    (tmp_path / "cut.pth").write_bytes(file.read_bytes()[:5000])
    (tmp_path / "text.safetensors").write_text("no weights at all")
    for name in ("cut.pth", "text.safetensors"):
        with pytest.raises(ValueError, match=rf"cannot read '.*{name}' as weights"):
            small("alexnet", "pool5", tmp_path / name).fit_transform(pictures())
    message = "belong to another network: among 1 misfits, the file has no 'features.0.bias'"
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=message):
        small("alexnet", "conv1", tmp_path / "part.pth").fit_transform(pictures())
    with pytest.raises(ValueError, match=r"has shape \(64, 3, 11, 11\) for 'features\.0\.weight'"):
        small("vgg11", "conv1_1", file).fit_transform(pictures())


def test_the_cache_belongs_to_the_content_of_the_weights(trunk, file, tmp_path, monkeypatch):
    images, path = pictures(), tmp_path / "w.pth"
    first = small("alexnet", "pool5", file, cache=True).fit_transform(images)
    path.write_bytes(file.read_bytes())
    extractor = small("alexnet", "pool5", path, cache=True).fit(images)
    with monkeypatch.context() as patch:
        patch.setattr(backbones, "_network", None)
        np.testing.assert_array_equal(extractor.transform(images), first)
    torch.save({k: v + 0.01 for k, v in trunk.items()}, path)
    # Other weights under the same path: the cache and the fitted extractor reject them.
    with pytest.raises(
        ValueError, match=r"was fitted with the weights '[0-9a-f]+', but its weights are now"
    ):
        extractor.transform(images)
    assert not np.allclose(clone(extractor).fit_transform(images), first)
    assert FeatureCache().info()["extractors"]["Backbone"]["entries"] == 4


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"name": "alexnet2"}, ValueError, "name must be a classification model of torchvision"),
        ({"name": "fcn_resnet50"}, ValueError, "name must be a classification model"),
        ({"layer": "pool9"}, ValueError, r"alexnet has no layer 'pool9'; it has conv1, pool1, .*"),
        ({"name": "resnet18"}, ValueError, r"has no layer 'pool5'; it has conv1, .*layer4"),
        ({"size": 65}, ValueError, "size must be at most resize, got size=65 and resize=64"),
        ({"size": 16}, ValueError, "alexnet cannot work on images of 16 x 16 pixels"),
        ({"layer": "fc7", "output": "map"}, ValueError, r"'fc7' of alexnet has no output='map'"),
        ({"output": "flat"}, ValueError, "'output' parameter of Backbone"),
        ({"device": "gpu"}, ValueError, "'auto' or a torch device, got 'gpu'"),
        ({"weights": os.devnull}, ValueError, f"{os.devnull}' are not a regular file"),
        ({"weights": "absent.pth"}, FileNotFoundError, "IMAGENET1K_V1, .* or a file, got 'absent"),
    ],
)
def test_wrong_parameters_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        small(**{"weights": None, **changes}).fit(pictures()).transform(pictures())


def test_a_map_has_no_named_features():
    extractor = small(weights=None, output="map").fit(pictures())
    assert not hasattr(extractor, "n_features_out_")
    with pytest.raises(AttributeError, match="no named features"):
        extractor.get_feature_names_out()


def test_hashes_are_read_once(file, monkeypatch):
    first = weights.file_sha256(file)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert weights.file_sha256(str(file)) == first
    with pytest.raises(FileNotFoundError, match="there is no file 'absent'"):
        weights.file_sha256("absent")
