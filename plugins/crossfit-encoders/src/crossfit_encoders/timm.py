"""Picture encoders of timm: the pooled vector, or any layer."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from sklearn.utils._param_validation import StrOptions

from crossfit.extraction.weights import (
    exact,
    file_sha256,
    fill,
    read_state,
    seeded,
)
from crossfit_encoders._base import COMMON_CONSTRAINTS, Encoder, Rows
from crossfit_encoders._files import at_loading, content_id, folder_of, imported, near, tensors_in

__all__ = ["TimmFeatures"]


class TimmFeatures(Encoder):
    """Features of pictures from any layer of a network of timm [1]_.

    Pictures are prepared as the configuration of the weights requires.

    Parameters
    ----------
    model : str or path-like
        A folder with ``config.json`` and ``model.safetensors``, as timm writes it; or the name of
        such a repository on the Hugging Face Hub, such as ``"timm/resnet50.a1_in1k"``, with
        `revision`; or the name of an architecture of timm, such as ``"resnet50"``, with `weights`.
    layer : str, default="pooled"
        ``"pooled"`` is the vector before the classifier, and ``"last"`` are the patches or cells
        before pooling; otherwise the name of a module of the network, such as ``"layer3"`` or
        ``"blocks.8"``, whose output is returned.
    output : {"auto", "vectors", "regions"}, default="auto"
        One vector per picture, which is the mean over positions if the layer has several; or one
        vector per position, without the class token and registers. ``"auto"`` is ``"vectors"`` if
        the layer has no positions, else ``"regions"``.
    weights : str or path-like, optional
        A ``.safetensors`` file or a state dictionary saved by torch, for an architecture.
    revision : str, optional
        Commit hash of the repository. It is required for a name on the hub, so that the weights
        cannot change.
    precision : {"auto", "float32", "half"}, default="auto"
        On a GPU, ``"auto"`` and ``"half"`` run the network with 16-bit floats. On a CPU, it always
        runs with 32 bits.
    runtime : {"torch", "onnx"}, default="torch"
        What runs the model: torch, or ONNX Runtime with 32 bits, for which the model is exported
        once into the cache, as far as torch can export it.
    batch_size : int, default=32
        Number of pictures per forward pass.
    device : str, default="auto"
        Any torch device; ``"auto"`` is CUDA if it is available, else the CPU.
    cache : bool, default=True
        Whether to store features in the feature cache.
    verbose : {"auto", True, False}, default="auto"
        Progress bar: for long runs on a terminal, always, or never.

    Attributes
    ----------
    weights_id_ : str
        Hash of the weights and of the configuration.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file, or the folder has no ``.safetensors`` file.
    ValueError
        If there is no such architecture or layer, if the weights belong to another network, or if
        the layer does not have the output.
    ImportError
        If timm is not installed.

    Notes
    -----
    `transform` returns float32 of shape (n, d) or (n, R, d), positions row by row.

    References
    ----------
    .. [1] R. Wightman: PyTorch image models, 2019.
    """

    library = "timm"
    view = "image"
    expects = "images (uint8 (n, H, W, 3), paths or PIL images)"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, os.PathLike],
        "layer": [str],
        "output": [StrOptions({"auto", "vectors", "regions"})],
        "weights": [str, os.PathLike, None],
        **{name: part for name, part in COMMON_CONSTRAINTS.items() if name != "view"},
    }

    def __init__(
        self,
        model: str | os.PathLike[str],
        layer: str = "pooled",
        output: str = "auto",
        weights: str | os.PathLike[str] | None = None,
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
        self.layer = layer
        self.output = output
        self.weights = weights
        self.revision = revision
        self.precision = precision
        self.runtime = runtime
        self.batch_size = batch_size
        self.device = device
        self.cache = cache
        self.verbose = verbose

    def _views(self) -> tuple[str, ...]:
        return ("image",)

    def _place(self) -> tuple[str, Path]:
        """Return the name of the architecture and the file of its weights, or "" and a folder."""
        owner = type(self).__name__
        timm = imported("timm", owner)
        name = os.fspath(self.model)
        if self.weights is not None:
            if not timm.is_model(name):
                hint = near(name, timm.list_models()) or "; see timm.list_models"
                raise ValueError(f"{owner}: timm has no architecture {name!r}{hint}")
            path = Path(self.weights).expanduser()
            if not path.is_file():
                raise FileNotFoundError(f"{owner}: there is no file {str(path)!r}")
            return name, path
        if timm.is_model(name) and not os.path.isdir(name):
            raise ValueError(
                f"{owner}: {name!r} is an architecture without weights; set weights to a file, or "
                "model to a folder or a repository such as 'timm/resnet50.a1_in1k'"
            )
        folder = folder_of(self.model, self.revision, owner)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"{owner}: {str(folder)!r} has no config.json; set model to an architecture, and "
                "weights to the file of its weights"
            )
        tensors_in(folder, owner)
        return "", folder

    def _weights_id(self) -> str:
        name, path = self._place()
        if not name:
            return content_id(path)
        return hashlib.sha256(f"{json.dumps(name)} {file_sha256(path)}".encode()).hexdigest()

    def _encode(self, view: str, batch: list[Any]) -> Rows:
        import torch

        name, path = self._place()
        network, prepare = _network(
            name, path, self._weights_id(), self._torch_device(), self._half(),
            type(self).__name__,
        )  # fmt: skip
        weight = next(network.parameters())
        with exact():
            pixels = torch.stack([prepare(Image.fromarray(image)) for image in batch])
            if self.runtime == "onnx":
                (found,) = self._by_onnx(
                    network,
                    lambda network, pixels: [self._of_layer(network, pixels)],
                    {"pixels": pixels},
                    [self.layer, self.output],
                )
                return np.asarray(found)
            return np.asarray(self._of_layer(network, pixels.to(weight)).float().cpu())

    def _of_layer(self, network: Any, pixels: Any) -> Any:
        if self.layer == "pooled":
            found = network.forward_head(network.forward_features(pixels), pre_logits=True)
        elif self.layer == "last":
            found = network.forward_features(pixels)
        else:
            with self._recorded(network) as outputs:
                network(pixels)
            if not outputs:
                raise ValueError(
                    f"{type(self).__name__}: the layer {self.layer!r} is not used for pictures"
                )
            found = outputs[-1]
        if isinstance(found, (tuple, list)):
            found = found[0]
        if found.ndim == 4:
            # Networks that work on windows have channels at the end.
            if getattr(network, "output_fmt", "NCHW") == "NCHW":
                found = found.permute(0, 2, 3, 1)
            found = found.flatten(1, 2)
        elif found.ndim == 3:
            found = found[:, getattr(network, "num_prefix_tokens", 0) :]
        elif found.ndim != 2 or self.output == "regions":
            raise ValueError(
                f"{type(self).__name__}: the layer {self.layer!r} has no output={self.output!r}: "
                f"for one picture it returns an array of shape {tuple(found.shape[1:])}"
            )
        return found.mean(1) if self.output == "vectors" and found.ndim == 3 else found

    @contextmanager
    def _recorded(self, network: Any) -> Iterator[list[Any]]:
        modules = dict(network.named_modules())
        if self.layer not in modules or not self.layer:
            known = near(self.layer, modules) or (
                f"; it has {', '.join(n for n, _ in network.named_children())} and their parts"
            )
            raise ValueError(
                f"{type(self).__name__}: the network has no layer {self.layer!r}{known}"
            )
        outputs: list[Any] = []
        hook = modules[self.layer].register_forward_hook(lambda *given: outputs.append(given[2]))
        try:
            yield outputs
        finally:
            hook.remove()


@functools.lru_cache(maxsize=2)
def _network(
    name: str, path: Path, identity: str, device: str, half: bool, owner: str
) -> tuple[Any, Any]:
    """Load a network once per process and device, with its preparation of pictures."""
    timm = imported("timm", owner)
    with at_loading(path, "timm", owner), exact(), seeded(0):
        network = timm.create_model(name or f"local-dir:{path}", pretrained=False)
        file = path if name else tensors_in(path, owner)
        fill(network, read_state(file), file)
        settings = timm.data.resolve_model_data_config(network)
        prepare = timm.data.create_transform(**settings, is_training=False)
    network = network.half() if half else network
    return network.to(device).eval().requires_grad_(False), prepare
