"""Models of open_clip: the same embeddings as the library itself."""

import numpy as np
import pytest
from PIL import Image

from crossfit_encoders.openclip import OpenClipFeatures


def made(*model, **settings):
    return OpenClipFeatures(*model, **{"cache": False, "device": "cpu", **settings})


def test_both_towers(openclip_folder, library, texts, pictures):
    import torch

    open_clip = library("open_clip", "open_clip_torch")
    name = f"local-dir:{openclip_folder}"
    model, prepare = open_clip.create_model_from_pretrained(name)
    model.eval()
    with torch.no_grad():
        images = model.encode_image(torch.stack([prepare(Image.fromarray(p)) for p in pictures]))
        words = model.encode_text(open_clip.get_tokenizer(name)(texts))
    for where in ((openclip_folder,), ("tiny-clip", openclip_folder / "alone.pt"),
                  ("tiny-clip", openclip_folder / "open_clip_model.safetensors")):  # fmt: skip
        encoder = made(*where, batch_size=2).fit(texts)
        np.testing.assert_allclose(encoder.transform(pictures), images, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(encoder.transform(texts), words, rtol=1e-4, atol=1e-5)
        assert encoder.n_features_out_ == 12


def test_what_is_wrong(openclip_folder, texts, tmp_path):
    alone = openclip_folder / "alone.pt"
    with pytest.raises(ValueError, match=r"no architecture 'ViT-B-23': did you mean 'ViT-B-32"):
        made("ViT-B-23", alone).fit(texts)
    with pytest.raises(ValueError, match="'ViT-B-32' is an architecture without weights; set pre"):
        made("ViT-B-32").fit(texts)
    with pytest.raises(FileNotFoundError, match=r"no weights of ViT-B-32 with this name: did you"):
        made("ViT-B-32", "laion2b_s34b_b79").fit(texts)
    with pytest.raises(ValueError, match=r"'laion/.*' is not a local folder; .*revision="):
        made("ViT-B-32", "laion2b_s34b_b79k").fit(texts)
    with pytest.raises(FileNotFoundError, match=r"has no open_clip_config\.json"):
        made(tmp_path).fit(texts)
    with pytest.raises(ValueError, match=r"open_clip cannot load '.*alone\.pt': "):
        made("ViT-S-32-alt", alone).fit(texts).transform(texts)
    broken = tmp_path / "broken.pt"
    broken.write_bytes(alone.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"open_clip cannot load '.*broken\.pt': ") as caught:
        made("tiny-clip", broken).fit(texts).transform(texts)
    assert "\n" not in str(caught.value)


def test_nothing_is_unpickled(library, texts, tmp_path):
    import torch

    library("open_clip", "open_clip_torch")
    torch.save({"a": np.random.RandomState(0)}, tmp_path / "pickled.pt")
    with pytest.raises(ValueError, match="open_clip cannot load"):
        made("tiny-clip", tmp_path / "pickled.pt").fit(texts).transform(texts)
