"""Models of transformers: the same features as the library itself, in every batch."""

import json
import shutil

import numpy as np
import pytest

from crossfit import Ragged
from crossfit_encoders.transformers import TransformersFeatures


def made(folder, *pooling, **settings):
    return TransformersFeatures(folder, *pooling, **{"cache": False, "device": "cpu", **settings})


@pytest.fixture
def official(saved, library):
    """Return the model and its tokenizer, image processor or feature extractor."""

    def load(name, kind):
        t, folder = library("transformers"), saved(name)
        return t.AutoModel.from_pretrained(folder).eval(), getattr(t, kind).from_pretrained(folder)

    return load


def run(model, **inputs):
    import torch

    with torch.no_grad():
        return model(**inputs)


def close(found, expected):
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-4, atol=1e-5)


def test_bert(saved, official, texts):
    model, tokenizer = official("bert", "AutoTokenizer")
    expected = {"cls": [], "mean": [], "last": [], "pooler": [], "tokens": []}
    for text in texts:  # alone, so that nothing is padded
        inputs = tokenizer(text, truncation=True, max_length=20, return_tensors="pt")
        out = run(model, **inputs)
        (hidden,) = out.last_hidden_state
        expected["cls"].append(hidden[0])
        expected["mean"].append(hidden.mean(0))
        expected["last"].append(hidden[-1])
        expected["pooler"].append(out.pooler_output[0])
        expected["tokens"].append(hidden)
    for pooling, rows in expected.items():
        found = made(saved("bert"), pooling=pooling, batch_size=3).fit_transform(texts)
        for row, part in zip(found, rows):
            close(row, part)
    assert isinstance(found, Ragged)
    assert found.lengths.tolist() == [len(row) for row in rows]
    auto = made(saved("bert")).fit(texts)
    close(auto.transform(texts), np.stack(expected["mean"]))
    assert auto.n_features_out_ == 16
    cut = made(saved("bert"), max_length=4).transform(texts)
    assert not np.allclose(cut[1], auto.transform(texts)[1])


def test_a_model_without_its_pooler_is_complete(saved, texts):
    assert made(saved("masked_bert")).transform(texts).shape == (5, 16)
    with pytest.raises(ValueError, match="has no trained pooler; set another pooling"):
        made(saved("masked_bert"), pooling="pooler").transform(texts)


def test_decoders(saved, official, texts):
    model, tokenizer = official("gpt2", "AutoTokenizer")
    found = made(saved("gpt2"), pooling="last").transform(texts)
    for row, text in zip(found, texts):
        inputs = tokenizer(text, truncation=True, max_length=20, return_tensors="pt")
        close(row, run(model, **inputs).last_hidden_state[0, -1])


def test_encoders_of_encoder_decoder_models(saved, official, texts):
    model, tokenizer = official("t5", "AutoTokenizer")
    found = made(saved("t5")).transform(texts)
    for row, text in zip(found, texts):
        inputs = tokenizer(text, truncation=True, max_length=20, return_tensors="pt")
        close(row, run(model.get_encoder(), **inputs).last_hidden_state[0].mean(0))


@pytest.mark.parametrize("name", ["clip", "siglip", "siglip2"])
def test_two_towers(saved, official, texts, pictures, name):
    model, tokenizer = official(name, "AutoTokenizer")
    _, processor = official(name, "AutoImageProcessor")
    encoder = made(saved(name), batch_size=2)
    length = {} if name == "clip" else {"padding": "max_length"}
    for row, text in zip(encoder.transform(texts), texts):
        inputs = tokenizer(text, truncation=True, max_length=20, return_tensors="pt", **length)
        mask = {"attention_mask": inputs["attention_mask"]} if name == "clip" else {}
        out = run(model.get_text_features, input_ids=inputs["input_ids"], **mask)
        close(row, out.pooler_output[0])
    tokens = made(saved(name), "tokens")
    regions = tokens.transform(pictures)
    for i, (row, picture) in enumerate(zip(encoder.transform(pictures), pictures)):
        out = run(model.get_image_features, **processor(images=picture, return_tensors="pt"))
        close(row, out.pooler_output[0])
        patches = out.last_hidden_state[0]
        start = {"clip": 1}.get(name, 0)
        close(regions[i], patches[start : start + len(regions[i])])
    assert regions.info["boxes"].shape == (len(regions.values), 4)
    assert regions.info["boxes"].max() == 1
    if name != "siglip2":
        assert regions.lengths.tolist() == [16] * 5
    assert encoder.fit(texts).transform(pictures).shape == (5, {"clip": 12}.get(name, 16))
    assert isinstance(tokens.transform(texts), Ragged)


def test_the_view_is_that_of_the_items(saved, texts, pictures, tmp_path):
    from PIL import Image

    paths = [tmp_path / f"{i}.PNG" for i in range(5)]
    for path, picture in zip(paths, pictures):
        Image.fromarray(picture).save(path)
    encoder = made(saved("clip"))
    expected = encoder.transform(pictures)
    forms = [paths, list(map(str, paths)), [path.read_bytes() for path in paths],
             [Image.fromarray(picture) for picture in pictures]]  # fmt: skip
    for form in forms:
        np.testing.assert_array_equal(encoder.transform(form), expected)
    names = list(map(str, paths))
    assert not np.allclose(made(saved("clip"), view="text").transform(names), expected)
    # One sentence among the names makes all of them texts.
    assert not np.allclose(encoder.transform([*names, "a cat"])[:5], expected)
    with pytest.raises(FileNotFoundError, match=r"there is no image file 'lost\.png'"):
        encoder.transform(["lost.png"])
    with pytest.raises(ValueError, match="the model takes pictures and texts, not sounds"):
        made(saved("clip"), view="audio").transform(pictures)
    with pytest.raises(TypeError, match=r"TransformersFeatures expects texts .* got list of 1 int"):
        made(saved("bert")).transform([3])


def test_dinov2_with_pictures_that_keep_their_shape(saved, official, pictures):
    model, processor = official("dinov2", "AutoImageProcessor")
    found = made(saved("dinov2"), batch_size=4).transform(pictures)
    patches = made(saved("dinov2"), pooling="tokens").transform(pictures)
    means = made(saved("dinov2"), pooling="mean").transform(pictures)
    firsts = made(saved("dinov2"), pooling="cls").transform(pictures)
    for i, picture in enumerate(pictures):
        inputs = processor(images=picture, return_tensors="pt")
        out = run(model, **inputs)
        close(found[i], out.pooler_output[0])
        close(firsts[i], out.last_hidden_state[0, 0])
        close(patches[i], out.last_hidden_state[0, 1:])
        close(means[i], out.last_hidden_state[0, 1:].mean(0))
    assert len(set(patches.lengths.tolist())) > 1
    last = patches[[4]].info["boxes"]  # of a picture of 31 x 64 pixels
    assert (len(np.unique(last[:, 0])), len(np.unique(last[:, 1]))) == (4, 8)


def test_registers_are_not_patches(saved, official, pictures):
    model, processor = official("dinov3", "AutoImageProcessor")
    patches = made(saved("dinov3"), pooling="tokens").transform(pictures)
    out = run(model, **processor(images=pictures[0], return_tensors="pt"))
    assert patches.lengths.tolist() == [16] * 5
    close(patches[0], out.last_hidden_state[0, 5:])


def test_the_first_token_where_the_pooler_is_random(saved, official, pictures):
    model, processor = official("vit", "AutoImageProcessor")
    out = run(model, **processor(images=pictures[1], return_tensors="pt"))
    close(made(saved("vit")).transform(pictures)[1], out.last_hidden_state[0, 0])


def test_convolutional_networks(saved, official, pictures):
    model, processor = official("convnext", "AutoImageProcessor")
    out = run(model, **processor(images=pictures[1], return_tensors="pt"))
    close(made(saved("convnext")).transform(pictures)[1], out.pooler_output[0])
    cells = made(saved("convnext"), pooling="tokens").transform(pictures)
    close(cells[1], out.last_hidden_state[0].flatten(1).T)
    with pytest.raises(ValueError, match="has no first token of pictures; set another pooling"):
        made(saved("convnext"), pooling="cls").transform(pictures)


def test_whisper_ignores_the_padding(saved, official, sounds):
    model, prepare = official("whisper", "AutoFeatureExtractor")
    frames = made(saved("whisper"), pooling="tokens").transform(sounds)
    means = made(saved("whisper")).transform(sounds)
    assert frames.lengths.tolist() == [25, 16, 50, 25]  # fifty a second
    for i, sound in enumerate(sounds):
        inputs = prepare(sound, sampling_rate=16000, return_tensors="pt")
        (hidden,) = run(model.get_encoder(), **inputs).last_hidden_state
        close(frames[i], hidden[: frames.lengths[i]])
        close(means[i], hidden[: frames.lengths[i]].mean(0))
    assert made(saved("whisper"), "tokens", duration=0.2).transform(sounds).lengths.max() == 10


def test_sounds_of_unequal_length_do_not_change_each_other(saved, official, sounds):
    model, prepare = official("wav2vec2", "AutoFeatureExtractor")
    found = made(saved("wav2vec2"), batch_size=4).transform(sounds)
    for row, sound in zip(found, sounds):
        inputs = prepare(sound, sampling_rate=16000, return_tensors="pt")
        close(row, run(model, **inputs).last_hidden_state[0].mean(0))


@pytest.mark.parametrize("name", ["clap", "clap_fused"])
def test_clap(saved, official, texts, sounds, name):
    model, prepare = official(name, "AutoFeatureExtractor")
    sounds = [*sounds, np.tile(sounds[0], 8)]  # longer than the model can take: its beginning
    encoder = made(saved(name), batch_size=2)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    found = encoder.transform([(sound, 48000) for sound in sounds])
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    for row, sound in zip(found, sounds):
        inputs = prepare(sound[:48000], sampling_rate=48000, return_tensors="pt")
        inputs["is_longer"] = inputs["is_longer"] & False
        close(row, run(model.get_audio_features, **inputs).pooler_output[0])
    assert encoder.transform(texts).shape == found[:5].shape == (5, 12)


# -- what can be wrong -----------------------------------------------------------------------------


def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="TransformersFeatures: there is no folder"):
        made(tmp_path / "absent").fit(["a"])
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file; give the folder that contains the model"):
        made(tmp_path / "file").fit(["a"])


def test_names_on_the_hub(saved, texts, tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    with pytest.raises(ValueError, match="pin the commit with revision="):
        made("someone/tiny").fit(texts)
    with pytest.raises(FileNotFoundError, match=r"'someone/tiny' at revision 'main' is neither a "):
        made("someone/tiny", revision="main").fit(texts)
    # A copy in the hub's own cache, as a download leaves it.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(saved("bert"), tmp_path / "models--someone--tiny" / "snapshots" / commit)
    found = made("someone/tiny", revision=commit).fit_transform(texts)
    np.testing.assert_array_equal(found, made(saved("bert")).transform(texts))


def test_weights_that_are_pickled_are_not_read(saved, texts, tmp_path):
    import torch

    folder = copied(saved("bert"), tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"has no \.safetensors file; .* unpickled"):
        made(folder).fit(texts)


def test_damaged_and_foreign_weights(saved, texts, tmp_path):
    folder = copied(saved("bert"), tmp_path)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"transformers cannot load '.*copy': ") as caught:
        made(folder).fit(texts).transform(texts)
    assert "\n" not in str(caught.value)
    from safetensors.torch import load_file, save_file

    tensors = load_file(saved("bert") / "model.safetensors")
    tensors.pop("encoder.layer.1.output.dense.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"weights lack 1 tensors of BertModel, such as 'encoder"):
        made(folder).transform(texts)


def test_code_of_a_repository_is_not_run(saved, texts, tmp_path):
    folder = copied(saved("bert"), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "mine"
    config["auto_map"] = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError, match="transformers cannot load"):
        made(folder).fit(texts).transform(texts)
    assert not (tmp_path / "ran").exists()


def test_the_cache_key_is_of_the_content_and_not_of_the_place(saved, texts, tmp_path, monkeypatch):
    from crossfit_encoders import transformers

    first = made(saved("bert"), cache=True)
    expected = first.fit_transform(texts)
    folder = copied(saved("bert"), tmp_path)
    again = made(folder, cache=True)
    assert again.fingerprint() == first.fingerprint()
    assert again.fit(texts).weights_id_ == first.weights_id_
    monkeypatch.setattr(transformers, "_network", None)
    np.testing.assert_array_equal(again.transform(texts), expected)
    config = json.loads((folder / "config.json").read_text())
    config["hidden_act"] = "relu"
    (folder / "config.json").write_text(json.dumps(config))
    assert made(folder).fingerprint() != first.fingerprint()
    with pytest.raises(ValueError, match="its weights are now"):
        again.transform(texts)


def test_a_missing_library_names_its_extra(saved, texts, monkeypatch):
    import sys

    folder = saved("bert")
    from crossfit_encoders import transformers

    transformers._views.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install crossfit-encoders\[transformers\]"):
        made(folder).fit(texts)


def test_a_multilingual_model_cuts_chinese_and_thai_by_its_own_pieces(tmp_path, library):
    """Texts without spaces, as models such as XLM-R, BGE-M3 and multilingual E5 take them."""
    t, tokenizers = library("transformers"), library("tokenizers")
    texts = ["我喜欢音乐", "ผมชอบดนตรี", "I like music", "我喜欢苹果", "ผมชอบแอปเปิล"]
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = tokenizers.Tokenizer(tokenizers.models.Unigram())
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=60, special_tokens=names, unk_token="<unk>", show_progress=False
    )
    pieces.train_from_iterator(texts * 20, trainer)
    pieces.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer = t.PreTrainedTokenizerFast(
        tokenizer_object=pieces, model_max_length=30, bos_token="<s>", eos_token="</s>",
        cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>",
    )  # fmt: skip
    config = t.XLMRobertaConfig(
        vocab_size=pieces.get_vocab_size(), hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=16, max_position_embeddings=40,
    )  # fmt: skip
    model = t.XLMRobertaModel(config).eval()
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    found = made(str(tmp_path / "model"), pooling="mean").transform(texts)
    for row, text in zip(found, texts):
        inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        assert inputs["input_ids"].shape[1] > 4 and 3 not in inputs["input_ids"]
        close(row, run(model, **inputs).last_hidden_state[0].mean(0))
    assert np.linalg.matrix_rank(found) == len(texts)
