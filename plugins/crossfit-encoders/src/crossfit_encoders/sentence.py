"""Models of sentence-transformers, for texts and for whatever else they take."""

from __future__ import annotations

import copy
import functools
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils._param_validation import StrOptions

from crossfit import Ragged
from crossfit.extraction.weights import exact, seeded
from crossfit_encoders._base import COMMON_CONSTRAINTS, Encoder, Rows
from crossfit_encoders._files import at_loading, content_id, folder_of, imported, tensors_in
from crossfit_encoders.transformers import quiet, token_counts

__all__ = ["SentenceTransformerFeatures"]

_OUTPUTS = {"vectors": "sentence_embedding", "tokens": "token_embeddings"}


class SentenceTransformerFeatures(Encoder):
    """Embeddings by a model of sentence-transformers [1]_.

    The modules of the model, such as pooling and scaling to length 1, are those in its files.

    Parameters
    ----------
    model : str or path-like
        A folder, as ``SentenceTransformer.save`` writes it, with weights in ``.safetensors`` files;
        or the name of a repository on the Hugging Face Hub, with `revision`.
    output : {"vectors", "tokens"}, default="vectors"
        One vector per item; or for texts one per word piece, with the special tokens.
    view : {"auto", "image", "text"}, default="auto"
        What the items are, for models that take more than texts. With ``"auto"``, arrays, images
        and paths are pictures, and strings are texts, unless all of them end like names of picture
        files.
    prompt : str, optional
        Text that is put before every text, as some models require: ``"query: "``. By default, the
        model's own default, if it has one.
    revision : str, optional
        Commit hash of the repository. It is required for a name on the hub, so that the weights
        cannot change.
    precision : {"auto", "float32", "half"}, default="auto"
        On a GPU, ``"auto"`` and ``"half"`` run the model with 16-bit floats. On a CPU, it always
        runs with 32 bits.
    runtime : {"torch", "onnx"}, default="torch"
        What runs the model: torch, or ONNX Runtime with 32 bits, for which the model is exported
        once into the cache, as far as torch can export it.
    batch_size : int, default=32
        Number of items per forward pass. Long texts are in other batches than short ones.
    device : str, default="auto"
        Any torch device; ``"auto"`` is CUDA if it is available, else the CPU.
    cache : bool, default=True
        Whether to store features in the feature cache.
    verbose : {"auto", True, False}, default="auto"
        Progress bar: for long runs on a terminal, always, or never.

    Attributes
    ----------
    weights_id_ : str
        Hash of the weights, the configurations and the vocabulary.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or it has no ``.safetensors`` file.
    ValueError
        If the library cannot load the model, or the model does not take the items.
    ImportError
        If sentence-transformers is not installed.

    Notes
    -----
    `transform` returns float32 of shape (n, d), or a Ragged with rows of shape (T, d).

    Modules in a repository are never run: ``trust_remote_code`` is False.

    References
    ----------
    .. [1] N. Reimers, I. Gurevych: Sentence-BERT: sentence embeddings using Siamese
       BERT-networks, EMNLP-IJCNLP 2019.
    """

    library = "sentence_transformers"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, os.PathLike],
        "output": [StrOptions({"vectors", "tokens"})],
        "prompt": [str, None],
        **COMMON_CONSTRAINTS,
        "view": [StrOptions({"auto", "image", "text"})],
    }

    def __init__(
        self,
        model: str | os.PathLike[str],
        output: str = "vectors",
        view: str = "auto",
        *,
        prompt: str | None = None,
        revision: str | None = None,
        precision: str = "auto",
        runtime: str = "torch",
        batch_size: int = 32,
        device: str = "auto",
        cache: bool = True,
        verbose: bool | str = "auto",
    ) -> None:
        self.model = model
        self.output = output
        self.view = view
        self.prompt = prompt
        self.revision = revision
        self.precision = precision
        self.runtime = runtime
        self.batch_size = batch_size
        self.device = device
        self.cache = cache
        self.verbose = verbose

    def _folder(self) -> Path:
        owner = type(self).__name__
        folder = folder_of(self.model, self.revision, owner)
        tensors_in(folder, owner)
        return folder

    def _weights_id(self) -> str:
        return content_id(self._folder())

    def _network(self) -> Any:
        return _network(
            self._folder(), self._weights_id(), self._torch_device(), self._half(),
            type(self).__name__,
        )  # fmt: skip

    def _views(self) -> tuple[str, ...]:
        if self.view == "text":  # every model takes texts, so it need not be loaded to find out
            return ("text",)
        taken = self._network().modalities
        return tuple(view for view in ("text", "image") if view in taken)

    def _lengths(self, items: list[Any]) -> list[int]:
        # Models of fixed word vectors have another kind of tokenizer, and pad nothing.
        tokenizer = getattr(self._network(), "tokenizer", None)
        if items and items[0].view == "text" and callable(tokenizer):
            return token_counts(tokenizer, [item.value for item in items])
        return super()._lengths(items)

    def _encode(self, view: str, batch: list[Any]) -> Rows:
        network = self._network()
        if self.runtime == "onnx":
            network = copy.copy(network)  # the one that torch runs is shared
            network.forward = functools.partial(self._forward, self._network())
        tokens = self.output == "tokens"
        if tokens and view != "text":
            raise ValueError(f"{type(self).__name__}: output='tokens' is for texts, not pictures")
        with exact():
            found = network.encode(
                [Image.fromarray(item) for item in batch] if view == "image" else batch,
                prompt=self.prompt,
                batch_size=len(batch),
                show_progress_bar=False,
                output_value=_OUTPUTS[self.output],
                convert_to_numpy=not tokens,
            )
        if tokens:
            return [row.float().cpu().numpy() for row in found]
        return np.asarray(found, np.float32)

    def _forward(self, network: Any, features: dict[str, Any], **settings: Any) -> dict[str, Any]:
        """Return what the modules of a model add to the inputs, computed by ONNX Runtime."""
        import torch

        inputs = {name: x for name, x in features.items() if isinstance(x, torch.Tensor)}
        others = {name: x for name, x in features.items() if name not in inputs}
        name = _OUTPUTS[self.output]
        if len({len(x) for x in inputs.values()}) != 1 or any(x.ndim < 2 for x in inputs.values()):
            raise ValueError(
                f"{type(self).__name__}: the model {os.fspath(self.model)!r} does not take one row "
                "per item, as ONNX Runtime requires; set runtime='torch'"
            )
        (found,) = self._by_onnx(
            network,
            lambda network, **inputs: [network({**others, **inputs}, **settings)[name]],
            inputs,
            [name, sorted(others.items()), sorted(settings.items())],
            tuple(inputs) if "input_ids" in inputs else (),
        )
        return {**features, name: found}

    def _collect(self, rows: list[NDArray[Any]]) -> Any:
        return Ragged.from_list(rows) if self.output == "tokens" else np.stack(rows)


@functools.lru_cache(maxsize=2)
def _network(folder: Path, identity: str, device: str, half: bool, owner: str) -> Any:
    """Load a model once per process and device, so that estimators need not contain it."""
    library = imported("sentence_transformers", owner)
    transformers = imported("transformers", owner)
    with (
        at_loading(folder, "sentence-transformers", owner),
        exact(),
        seeded(0),
        quiet(transformers),
    ):
        network = library.SentenceTransformer(
            str(folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
        network = network.half() if half else network.float()
    return network.eval().requires_grad_(False)
