"""Models that ONNX Runtime runs: the features of torch, exported once."""

import numpy as np
import pytest

from crossfit import Ragged
from crossfit_encoders.openclip import OpenClipFeatures
from crossfit_encoders.sentence import SentenceTransformerFeatures
from crossfit_encoders.timm import TimmFeatures
from crossfit_encoders.transformers import TransformersFeatures

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def agree(encoder, items):
    """Check the features by ONNX Runtime against those of torch."""
    encoder.set_params(device="cpu", cache=False, batch_size=3)
    expected = encoder.set_params(runtime="torch").fit(items).transform(items)
    found = encoder.set_params(runtime="onnx").transform(items)
    if isinstance(expected, Ragged):
        np.testing.assert_array_equal(found.lengths, expected.lengths)
        found, expected = found.values, expected.values
    assert found.dtype == np.float32
    x, y = (part.reshape(-1, part.shape[-1]).astype(float) for part in (found, expected))
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert cosines.min() > 0.9999
    np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "gpt2", "siglip"])
def test_texts_of_transformers(saved, library, texts, name):
    library("transformers")
    agree(TransformersFeatures(saved(name)), texts)


@pytest.mark.parametrize("name", ["clip", "dinov2"])
def test_pictures_of_transformers(saved, library, pictures, name):
    library("transformers")
    agree(TransformersFeatures(saved(name)), [picture[:30, :30] for picture in pictures])


@pytest.mark.parametrize("name", ["clap", "wav2vec2"])
def test_sounds_of_transformers(saved, library, sounds, name):
    library("transformers")
    agree(TransformersFeatures(saved(name)), sounds)


def test_sentence_transformers(saved, library, texts, tmp_path):
    library("sentence_transformers", "sentence-transformers")
    from sentence_transformers import SentenceTransformer, models

    parts = [models.Transformer(str(saved("bert"))), models.Pooling(16), models.Dense(16, 6)]
    SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path / "model"))
    agree(SentenceTransformerFeatures(tmp_path / "model"), texts)
    agree(SentenceTransformerFeatures(tmp_path / "model", "tokens", prompt="a photo of"), texts)


@pytest.mark.parametrize("layer", ["pooled", "blocks.2"])
def test_timm(timm_folders, pictures, layer):
    agree(TimmFeatures(timm_folders["test_vit"], layer), pictures)


def test_open_clip(openclip_folder, texts, pictures):
    agree(OpenClipFeatures(openclip_folder), texts)
    agree(OpenClipFeatures(openclip_folder), pictures)


def test_what_cannot_be_exported_is_one_sentence(saved, library, pictures, texts):
    library("transformers")
    for name, items, reason in (
        ("siglip2", pictures, "torch cannot export this network to ONNX: .*"),
        ("dinov2", pictures, "keeps the sizes of pictures, and ONNX Runtime .* for one size"),
    ):
        encoder = TransformersFeatures(saved(name), runtime="onnx", device="cpu")
        with pytest.raises(
            ValueError, match=f"^TransformersFeatures: .*{reason}; set runtime"
        ) as e:
            encoder.transform(items)
        assert "\n" not in str(e.value)
    with pytest.raises(ValueError, match="precision='half' is for runtime='torch'"):
        TransformersFeatures(saved("bert"), precision="half", runtime="onnx").fit(texts)
