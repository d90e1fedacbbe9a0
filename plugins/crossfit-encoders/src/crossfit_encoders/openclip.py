"""Both towers of CLIP models of open_clip."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from crossfit.extraction.weights import exact, file_sha256, seeded
from crossfit_encoders._base import COMMON_CONSTRAINTS, Encoder, Rows
from crossfit_encoders._files import at_loading, content_id, folder_of, imported, near, tensors_in

__all__ = ["OpenClipFeatures"]

_CONFIG = "open_clip_config.json"


class OpenClipFeatures(Encoder):
    """Embeddings of pictures and texts by a CLIP model [1]_ of open_clip [2]_.

    Parameters
    ----------
    model : str or path-like
        The name of an architecture of open_clip, such as ``"ViT-B-32"``, with `pretrained`; or a
        folder with ``open_clip_config.json`` and ``.safetensors`` weights; or the name of such a
        repository on the Hugging Face Hub, with `revision`.
    pretrained : str or path-like, optional
        Weights of the architecture: a ``.safetensors`` file or a state dictionary saved by torch;
        or the name of weights in open_clip, such as ``"laion2b_s34b_b79k"``, with `revision`.
    view : {"auto", "image", "text"}, default="auto"
        The tower. With ``"auto"``, arrays, images and paths are pictures, and strings are texts,
        unless all of them end like names of picture files.
    revision : str, optional
        Commit hash of the repository on the hub. It is required for a name on the hub, so that the
        weights cannot change.
    precision : {"auto", "float32", "half"}, default="auto"
        On a GPU, ``"auto"`` and ``"half"`` run the model with 16-bit floats. On a CPU, it always
        runs with 32 bits.
    runtime : {"torch", "onnx"}, default="torch"
        What runs the model: torch, or ONNX Runtime with 32 bits, for which the model is exported
        once into the cache, as far as torch can export it.
    batch_size : int, default=32
        Number of items per forward pass.
    device : str, default="auto"
        Any torch device; ``"auto"`` is CUDA if it is available, else the CPU.
    cache : bool, default=True
        Whether to store features in the feature cache.
    verbose : {"auto", True, False}, default="auto"
        Progress bar: for long runs on a terminal, always, or never.

    Attributes
    ----------
    n_features_out_ : int
        Number of columns, which is that of both towers.
    weights_id_ : str
        Hash of the weights and of the architecture.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file.
    ValueError
        If there is no such architecture, if open_clip cannot load the weights, or if `pretrained`
        is missing.
    ImportError
        If open_clip is not installed.

    Notes
    -----
    `transform` returns float32 of shape (n, d), not scaled to length 1. Compare pictures and texts
    by the cosine, as the method ``identity`` does.

    The architecture must be that of the weights in every detail: the weights of OpenAI, for
    instance, belong to ``"ViT-B-32-quickgelu"``.

    References
    ----------
    .. [1] A. Radford et al.: Learning transferable visual models from natural language supervision,
       ICML 2021.
    .. [2] M. Cherti et al.: Reproducible scaling laws for contrastive language-image learning,
       CVPR 2023.
    """

    library = "open_clip"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, os.PathLike],
        "pretrained": [str, os.PathLike, None],
        **COMMON_CONSTRAINTS,
    }

    def __init__(
        self,
        model: str | os.PathLike[str],
        pretrained: str | os.PathLike[str] | None = None,
        view: str = "auto",
        *,
        revision: str | None = None,
        precision: str = "auto",
        runtime: str = "torch",
        batch_size: int = 32,
        device: str = "auto",
        cache: bool = True,
        verbose: bool | str = "auto",
    ) -> None:
        self.model = model
        self.pretrained = pretrained
        self.view = view
        self.revision = revision
        self.precision = precision
        self.runtime = runtime
        self.batch_size = batch_size
        self.device = device
        self.cache = cache
        self.verbose = verbose

    def _views(self) -> tuple[str, ...]:
        return ("image", "text")

    def _place(self) -> tuple[str, Path]:
        """Return the name of the architecture, or "" for a folder that describes its own; a path.

        The path is that of the weights, or of the folder.
        """
        owner = type(self).__name__
        open_clip = imported("open_clip", owner)
        name = os.fspath(self.model)
        if name not in open_clip.list_models() or os.path.isdir(name):
            if self.pretrained is not None:
                hint = near(name, open_clip.list_models()) or "; see open_clip.list_models"
                raise ValueError(f"{owner}: open_clip has no architecture {name!r}{hint}")
            return "", self._described(folder_of(self.model, self.revision, owner))
        if self.pretrained is None:
            raise ValueError(
                f"{owner}: {name!r} is an architecture without weights; set pretrained to a file, "
                "or to one of the names in open_clip.list_pretrained()"
            )
        path = Path(self.pretrained).expanduser()
        if path.is_file():
            return name, path
        tag = os.fspath(self.pretrained)
        known = open_clip.list_pretrained_tags_by_model(name)
        if tag not in known:
            hint = near(tag, known) or f"; open_clip has {', '.join(known) or 'none'}"
            raise FileNotFoundError(
                f"{owner}: there is no file {tag!r}, and no weights of {name} with this name{hint}"
            )
        hub = open_clip.get_pretrained_cfg(name, tag).get("hf_hub", "").strip("/")
        if hub.count("/") != 1:
            raise ValueError(
                f"{owner}: the weights {tag!r} of {name} are not in a repository on the Hugging "
                "Face Hub; download them, and set pretrained to the file"
            )
        return "", self._described(folder_of(hub, self.revision, owner))

    def _described(self, folder: Path) -> Path:
        owner = type(self).__name__
        if not (folder / _CONFIG).is_file():
            raise FileNotFoundError(
                f"{owner}: {str(folder)!r} has no {_CONFIG}, which describes the architecture; "
                "set model to an architecture, and pretrained to the file of its weights"
            )
        tensors_in(folder, owner)
        return folder

    def _configuration(self) -> dict[str, Any]:
        name, path = self._place()
        owner = type(self).__name__
        with at_loading(path, "open_clip", owner):
            if name:
                return dict(imported("open_clip", owner).get_model_config(name))
            return dict(json.loads((path / _CONFIG).read_text(encoding="utf-8"))["model_cfg"])

    def _weights_id(self) -> str:
        name, path = self._place()
        if not name:
            return content_id(path)
        config = json.dumps([name, self._configuration()], sort_keys=True, default=str)
        return hashlib.sha256(f"{config} {file_sha256(path)}".encode()).hexdigest()

    def _n_outputs(self) -> int | None:
        width = self._configuration().get("embed_dim")
        return width if isinstance(width, int) else None

    def _encode(self, view: str, batch: list[Any]) -> Rows:
        import torch

        name, path = self._place()
        network, prepare, tokenizer = _network(
            name, path, self._weights_id(), self._torch_device(), self._half(),
            type(self).__name__,
        )  # fmt: skip
        weight = next(network.parameters())
        with exact():
            if view == "image":
                pixels = torch.stack([prepare(Image.fromarray(image)) for image in batch])
                inputs, method = {"image": pixels.to(weight)}, "encode_image"
            else:
                inputs, method = {"text": tokenizer(batch).to(weight.device)}, "encode_text"
            if self.runtime == "onnx":
                (found,) = self._by_onnx(
                    network,
                    lambda network, **inputs: [getattr(network, method)(**inputs)],
                    inputs,
                    [method],
                )
            else:
                found = getattr(network, method)(**inputs)
            return np.asarray(found.float().cpu())


@functools.lru_cache(maxsize=2)
def _network(
    name: str, path: Path, identity: str, device: str, half: bool, owner: str
) -> tuple[Any, Any, Any]:
    """Load a model once per process and device, with its preparation and its tokenizer."""
    open_clip = imported("open_clip", owner)
    from open_clip.transform import PreprocessCfg, image_transform_v2

    with at_loading(path, "open_clip", owner), exact(), seeded(0):
        model = name or f"local-dir:{path}"
        # The towers are part of the weights, so neither is fetched on its own.
        network = open_clip.create_model(model, pretrained_hf=False, device="cpu")
        if name:
            open_clip.load_checkpoint(network, str(path), weights_only=True)
        prepare = image_transform_v2(PreprocessCfg(**network.visual.preprocess_cfg), is_train=False)
        tokenizer = open_clip.get_tokenizer(model)
    network = network.half() if half else network
    return network.to(device).eval().requires_grad_(False), prepare, tokenizer
