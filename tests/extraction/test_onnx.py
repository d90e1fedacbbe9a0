"""Networks that ONNX Runtime runs: the features of torch, exported once into the cache."""

import builtins

import numpy as np
import pytest

from crossfit.extraction import Backbone, onnx
from crossfit.extraction.onnx import onnx_outputs

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path))
    onnx._session.cache_clear()
    return tmp_path


def linear(seed=0):
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Linear(4, 5)


def outputs(x, build=None, identity=("one",), **settings):
    import torch

    def made():
        return linear(), lambda network, x: [network(x).relu()]

    return onnx_outputs(build or made, {"x": torch.from_numpy(x)}, identity, "Made", **settings)


@pytest.mark.parametrize(
    ("name", "layer", "output"),
    [("squeezenet1_1", "features.12", "regions"), ("resnet18", "avgpool", "vectors")],
)
def test_backbones(name, layer, output):
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    settings = {"weights": None, "output": output, "resize": 64, "size": 64, "device": "cpu"}
    expected = Backbone(name, layer, cache=False, **settings).transform(images)
    extractor = Backbone(name, layer, runtime="onnx", batch_size=3, **settings)
    found = extractor.transform(images)
    x, y = (part.reshape(-1, part.shape[-1]).astype(float) for part in (found, expected))
    assert found.shape == expected.shape
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert cosines.min() > 0.9999
    # The features have a key of their own in the cache.
    by_torch = Backbone(name, layer, **settings)
    assert by_torch.fingerprint() != extractor.fingerprint()
    np.testing.assert_array_equal(by_torch.transform(images), expected)


def test_a_network_is_exported_once(folder):
    import torch

    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    expected = linear()(torch.from_numpy(x)).relu().detach().numpy()

    def never():
        raise AssertionError("it is in the cache")

    np.testing.assert_allclose(outputs(x[:1])[0], expected[:1], rtol=1e-5, atol=1e-6)
    onnx._session.cache_clear()  # as in another process
    np.testing.assert_allclose(outputs(x, never)[0], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(AssertionError, match="it is in the cache"):
        outputs(x, never, ("other",))
    (made,) = (folder / "onnx").iterdir()  # nothing is left of the failed export
    (made / "network.onnx").write_bytes(b"damaged")
    onnx._session.cache_clear()
    with pytest.raises(ValueError, match=r"Made: onnxruntime cannot run .* delete it, and it is"):
        outputs(x)


def test_a_network_that_the_exporter_changes_is_rejected(folder):
    calls = []

    def unsteady():
        def run(network, x):
            calls.append(1)
            return [network(x) * (-1) ** len(calls)]

        return linear(), run

    with pytest.raises(ValueError, match="returns other features than torch's"):
        outputs(np.ones((2, 4), np.float32), unsteady)
    assert not list((folder / "onnx").iterdir())


def test_a_network_that_cannot_be_exported(folder):
    def build():
        return linear(), lambda network, x: [network(x) if float(x.sum()) > 0 else x]

    with pytest.raises(ValueError, match=r"^Made: torch cannot export this network to ") as e:
        outputs(np.ones((2, 4), np.float32), build)
    assert "\n" not in str(e.value)
    assert not list((folder / "onnx").iterdir())


@pytest.mark.parametrize(
    ("missing", "message"),
    [("onnxruntime", "needs onnxruntime: "), ("onnxscript", "needs onnx and onnxscript to export")],
)
def test_a_missing_library(monkeypatch, missing, message):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == missing:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf"Made\(runtime='onnx'\) {message}.*\[onnx\]"):
        outputs(np.ones((2, 4), np.float32))


def test_a_gpu_that_onnxruntime_does_not_use():
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime uses a GPU")
    with pytest.raises(ValueError, match="this onnxruntime does not run on 'cuda:1'; install"):
        outputs(np.ones((2, 4), np.float32), device="cuda:1")
