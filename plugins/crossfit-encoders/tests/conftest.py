"""Tiny models with random weights, written to disk by the libraries themselves."""

import importlib.metadata
import json
import os

# Read when huggingface_hub is imported.
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
from PIL import Image

WORDS = [
    "a", "the", "cat", "dog", "runs", "sleeps", "sings", "waits", "by", "red", "quiet", "old",
    "bright", "heavy", "small", "wet", "engine", "river", "teacher", "violin", "mountain",
    "kitchen", "turns", "falls", "in", "on", "two", "children", "play", "photo", "of",
]  # fmt: skip
TEXTS = [
    "a cat sleeps",
    "two dog runs by the old river in a quiet red kitchen by the mountain",
    "the teacher sings",
    "zebra",
    "a photo of a wet dog on the mountain",
]


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "feature-cache"))
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def texts():
    return list(TEXTS)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 6, 8, 3), dtype=np.uint8)
    sizes = [(40, 30), (32, 48), (36, 36), (50, 33), (31, 64)]
    return [np.asarray(Image.fromarray(c).resize(size)) for c, size in zip(coarse, sizes)]


@pytest.fixture
def sounds():
    rng = np.random.default_rng(0)
    return [rng.normal(size=n).astype(np.float32) / 9 for n in (8000, 5000, 16000, 8000)]


@pytest.fixture(scope="session")
def library():
    """Return a function that imports a library, or skips the test."""

    def get(name, distribution=None):
        try:
            importlib.metadata.version(distribution or name)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"needs {distribution or name}")
        return pytest.importorskip(name)

    return get


def tokenizer(bert=True):
    """Return word pieces as in BERT, or with an end of text as in CLIP."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    first, last = ("[CLS]", "[SEP]") if bert else ("<start>", "<end>")
    letters = [f"##{chr(c)}" for c in range(97, 123)] + [chr(c) for c in range(97, 123)]
    names = ["[PAD]", "[UNK]", *WORDS, *letters, first, last]
    names = list(dict.fromkeys(names))
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(names)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(first, names.index(first)), (last, names.index(last))],
    )
    return made, {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": first,
                  "sep_token": last, "eos_token": last}  # fmt: skip


TEXT = {
    "vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 20,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip


def _bert(t):
    return t.BertModel(t.BertConfig(**TEXT)), ["text"]


def _masked_bert(t):
    return t.BertForMaskedLM(t.BertConfig(**TEXT)), ["text"]


def _gpt2(t):
    config = t.GPT2Config(vocab_size=100, n_embd=16, n_layer=1, n_head=2, n_positions=20)
    return t.GPT2Model(config), ["text"]


def _t5(t):
    config = t.T5Config(vocab_size=100, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return t.T5Model(config), ["text"]


def _clip(t):
    end = tokenizer(bert=False)[0].token_to_id("<end>")
    text = {**TEXT, "eos_token_id": end, "bos_token_id": end - 1, "pad_token_id": 0}
    config = t.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)
    return t.CLIPModel(config), ["text", "CLIPImageProcessor"]


def _siglip(t):
    config = t.SiglipConfig(text_config=TEXT, vision_config=VISION)
    return t.SiglipModel(config), ["text", "SiglipImageProcessor"]


def _siglip2(t):
    vision = {**VISION, "num_patches": 16}
    vision.pop("image_size")
    config = t.Siglip2Config(text_config=TEXT, vision_config=vision)
    return t.Siglip2Model(config), ["text", "Siglip2ImageProcessor"]


def _dinov2(t):
    return t.Dinov2Model(t.Dinov2Config(**VISION)), ["BitImageProcessor"]


def _dinov3(t):
    config = t.DINOv3ViTConfig(**VISION, num_register_tokens=4)
    return t.DINOv3ViTModel(config), ["DINOv3ViTImageProcessor"]


def _vit(t):
    return t.ViTForImageClassification(t.ViTConfig(**VISION)), ["ViTImageProcessor"]


def _convnext(t):
    config = t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)
    return t.ConvNextModel(config), ["ConvNextImageProcessor"]


def _whisper(t):
    config = t.WhisperConfig(
        vocab_size=60, num_mel_bins=80, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_target_positions=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    return t.WhisperModel(config), ["WhisperFeatureExtractor"]


def _wav2vec2(t):
    config = t.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8, 8), conv_stride=(16, 8), conv_kernel=(20, 9), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, num_feat_extract_layers=2,
    )  # fmt: skip
    return t.Wav2Vec2Model(config), ["Wav2Vec2FeatureExtractor"]


def _clap(t, fusion=False):
    audio = {
        "spec_size": 128, "num_mel_bins": 64, "patch_size": 4, "patch_stride": [4, 4],
        "hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1], "window_size": 4,
        "num_attention_heads": [2, 2], "projection_dim": 12, "enable_fusion": fusion,
    }  # fmt: skip
    text = {**TEXT, "projection_dim": 12, "max_position_embeddings": 40, "pad_token_id": 0}
    text["type_vocab_size"] = 1
    config = t.ClapConfig(audio_config=audio, text_config=text, projection_dim=12)
    return t.ClapModel(config), ["text", "fused" if fusion else "unfused"]


MODELS = {
    name[1:]: made
    for name, made in list(globals().items())
    if name[0] == "_" and callable(made) and made.__module__ == __name__
}
MODELS["clap_fused"] = lambda t: _clap(t, fusion=True)


@pytest.fixture(scope="session")
def saved(tmp_path_factory, library):
    """Return a function that writes a model of transformers once, and returns its folder."""
    folders = {}

    def save(name):
        if name in folders:
            return folders[name]
        import torch

        t = library("transformers")
        folder = tmp_path_factory.mktemp(name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, parts = MODELS[name](t)
            for part in model.parameters():  # layers that start at zero would hide mistakes
                if part.ndim == 1:
                    torch.nn.init.normal_(part, 0.5, 0.5)
        model.save_pretrained(folder)
        for part in parts:
            if part == "text":
                made, names = tokenizer(bert=name != "clip")
                t.PreTrainedTokenizerFast(
                    tokenizer_object=made, model_max_length=20, **names
                ).save_pretrained(folder)
            elif part.endswith("fused"):
                t.ClapFeatureExtractor(
                    max_length_s=1, hop_length=480,
                    truncation="fusion" if part == "fused" else "rand_trunc",
                ).save_pretrained(folder)  # fmt: skip
            else:
                settings = {}
                if "Image" in part:
                    settings = {"size": {"height": 32, "width": 32}}
                    if name == "clip":
                        settings = {"size": {"shortest_edge": 32}, "crop_size": 32}
                    if name == "dinov2":
                        settings = {"size": {"shortest_edge": 32}, "do_center_crop": False}
                    if name == "siglip2":
                        settings = {"patch_size": 8, "max_num_patches": 16}
                    if name == "convnext":
                        settings = {"size": {"shortest_edge": 32}, "crop_pct": 1.0}
                getattr(t, part)(**settings).save_pretrained(folder)
        folders[name] = folder
        return folder

    return save


@pytest.fixture(scope="session")
def openclip_folder(tmp_path_factory, library):
    """Return a folder of open_clip, whose weights also are in the file ``alone.pt``."""
    import torch

    open_clip = library("open_clip", "open_clip_torch")
    from open_clip.push_to_hf_hub import save_config_for_hf
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("openclip")
    config = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2,
                     "layers": 1},
    }  # fmt: skip
    (folder / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "tiny-clip.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model("tiny-clip")
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    save_config_for_hf(model, folder / "open_clip_config.json", model_config=config)
    torch.save(model.state_dict(), folder / "alone.pt")
    return folder


@pytest.fixture(scope="session")
def timm_folders(tmp_path_factory, library):
    """Return folders of timm by the name of the architecture."""
    import torch

    timm = library("timm")
    from timm.models import save_for_hf

    made = {
        "test_vit": {}, "test_resnet": {}, "test_efficientnet": {},
        "swin_tiny_patch4_window7_224": {
            "img_size": 64, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2),
            "window_size": 4,
        },
    }  # fmt: skip
    folders = {}
    for name, settings in made.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = timm.create_model(name, num_classes=5, **settings)
        folder = tmp_path_factory.mktemp(name)
        save_for_hf(model, folder, model_args=settings, safe_serialization=True)
        folders[name] = folder
    return folders
