"""Networks of timm: the same features as the library itself."""

import shutil

import numpy as np
import pytest
from PIL import Image

from crossfit_encoders.timm import TimmFeatures


def made(*model, **settings):
    return TimmFeatures(*model, **{"cache": False, "device": "cpu", **settings})


@pytest.fixture
def official(timm_folders, library, pictures):
    """Return a network with the prepared pictures."""

    def load(name):
        import torch

        timm = library("timm")
        model = timm.create_model(f"local-dir:{timm_folders[name]}", pretrained=True).eval()
        settings = timm.data.resolve_model_data_config(model)
        prepare = timm.data.create_transform(**settings, is_training=False)
        return model, torch.stack([prepare(Image.fromarray(picture)) for picture in pictures])

    return load


NAMES = ("test_vit", "test_resnet", "test_efficientnet", "swin_tiny_patch4_window7_224")


@pytest.mark.parametrize("name", NAMES)
def test_pooled_and_cells(timm_folders, official, pictures, name):
    import torch

    model, x = official(name)
    with torch.no_grad():
        cells = model.forward_features(x)
        pooled = model.forward_head(cells, pre_logits=True)
        if cells.ndim == 3:
            cells = cells[:, model.num_prefix_tokens :]
        elif name.startswith("swin"):
            cells = cells.flatten(1, 2)
        else:
            cells = cells.flatten(2).transpose(1, 2)
    folder = timm_folders[name]
    found = made(folder, batch_size=2).fit_transform(pictures)
    np.testing.assert_allclose(found, pooled, rtol=1e-4, atol=1e-5)
    regions = made(folder, "last").transform(pictures)
    np.testing.assert_allclose(regions, cells, rtol=1e-4, atol=1e-5)
    means = made(folder, "last", "vectors").transform(pictures)
    np.testing.assert_allclose(means, cells.mean(1), rtol=1e-4, atol=1e-5)


def test_any_layer(timm_folders, official, pictures):
    import torch

    model, x = official("test_resnet")
    with torch.no_grad():
        expected = model.layer2(model.layer1(model.maxpool(model.act1(model.bn1(model.conv1(x))))))
    found = made(timm_folders["test_resnet"], "layer2").transform(pictures)
    np.testing.assert_allclose(found, expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)
    blocks = made(timm_folders["test_vit"], "blocks.1").transform(pictures)
    assert blocks.shape[:2] == made(timm_folders["test_vit"], "last").transform(pictures).shape[:2]
    logits = made(timm_folders["test_vit"], "head").transform(pictures)
    assert logits.shape == (5, 5)


def test_an_architecture_with_a_file(timm_folders, library, pictures, tmp_path):
    import torch

    timm = library("timm")
    with torch.random.fork_rng(devices=[]):
        model = timm.create_model("test_vit").eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "vit.pth")
    found = made("test_vit", weights=tmp_path / "vit.pth").fit(pictures).transform(pictures)
    assert found.shape == (5, model.num_features)
    with pytest.raises(ValueError, match="belong to another network"):
        made("test_resnet", weights=tmp_path / "vit.pth").transform(pictures)


def test_what_is_wrong(timm_folders, pictures, tmp_path):
    folder = timm_folders["test_resnet"]
    with pytest.raises(ValueError, match="no layer 'layer22': did you mean 'layer2"):
        made(folder, "layer22").transform(pictures)
    with pytest.raises(ValueError, match="the layer 'pooled' has no output='regions'"):
        made(folder, output="regions").transform(pictures)
    with pytest.raises(ValueError, match="'resnet50' is an architecture without weights"):
        made("resnet50").fit(pictures)
    with pytest.raises(ValueError, match="no architecture 'resnet5': did you mean 'resnet5"):
        made("resnet5", weights=folder / "model.safetensors").fit(pictures)
    with pytest.raises(FileNotFoundError, match="there is no file 'absent'"):
        made("resnet50", weights="absent").fit(pictures)
    with pytest.raises(ValueError, match=r"'timm/resnet50\.a1_in1k' is not a local .*revision="):
        made("timm/resnet50.a1_in1k").fit(pictures)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"timm cannot load '.*copy': .*it is a web page"):
        made(copy).transform(pictures)
