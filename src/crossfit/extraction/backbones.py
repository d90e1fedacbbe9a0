"""Backbones: features from any layer of a torchvision classification network."""

from __future__ import annotations

import functools
import os
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit._devices import resolve_device
from crossfit._torch import isolated
from crossfit.extraction.images import MAX_PIXELS, ImageExtractor
from crossfit.extraction.onnx import RUNTIME, onnx_outputs
from crossfit.extraction.weights import (
    exact,
    fill,
    load_weights,
    seeded,
    weights_id,
)

if TYPE_CHECKING:
    import torch

__all__ = ["Backbone"]

# Statistics of ImageNet: torchvision's for RGB in [0, 1], and Caffe's for BGR in [0, 255].
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (104.007, 116.669, 122.679)


class Backbone(ImageExtractor):
    """Features from one layer of a torchvision classification network.

    Images are resized, cropped to the centre square and normalised as the weights require.

    Parameters
    ----------
    name : str, default="alexnet"
        Name of a torchvision classification model.
    layer : str, default="pool5"
        Layer whose output is returned. AlexNet [1]_ and VGG networks [2]_ have Caffe's names, such
        as ``"pool5"``, ``"conv5_4"`` and ``"fc7"``; for convolutions and fully connected layers
        these refer to the output after the ReLU, which Caffe computes in place. All networks have
        the names of nodes and modules of ``torchvision.models.feature_extraction``, such as
        ``"features.34"`` (conv5_4 of VGG19 before the ReLU) or ``"layer4"`` of a ResNet.
    weights : str, path-like or None, default="DEFAULT"
        ``"DEFAULT"`` or another torchvision name of weights, which are read from torch's folder of
        downloads or downloaded; or a ``.safetensors`` file or a state dictionary saved by torch.
        If None, weights are random, drawn from `random_state`. Random weights are for tests, or
        for an ablation that measures the effect of the architecture; do not publish results that
        are based on them.
    output : {"auto", "vectors", "regions", "map"}, default="auto"
        The output of the layer if it is a vector, else its mean over positions; one vector per
        position, row by row; or the whole map. ``"auto"`` is ``"vectors"`` if the output of the
        layer is a vector, else ``"regions"``.
    resize : int, default=256
        Side in pixels to which images are resized with bilinear interpolation.
    size : int, default=224
        Side in pixels of the centre square: 224 or, as in Caffe, 227.
    square : bool, default=False
        If True, resize images to ``resize`` x ``resize``, as in most papers that used Caffe. If
        False, resize the shorter side to `resize` and keep the aspect ratio, as in torchvision.
    preprocessing : {"torchvision", "caffe"}, default="torchvision"
        RGB, normalised by torchvision's mean and standard deviation of ImageNet; or BGR from 0 to
        255 minus the mean, for weights that were converted from Caffe.
    random_state : int, default=0
        Seed of random weights.
    max_pixels : int or None, default=50_000_000
        Largest number of pixels of a file; see `load_rgb`.
    batch_size : int, default=32
        Number of images per forward pass.
    runtime : {"torch", "onnx"}, default="torch"
        What runs the network: torch, or ONNX Runtime, which is faster on many CPUs. For that, the
        network is exported once into the cache.
    device : str, default="auto"
        Any torch device; ``"auto"`` is CUDA if it is available, else the CPU.
    cache : bool, default=True
        Whether to store features in the feature cache.
    verbose : {"auto", True, False}, default="auto"
        Progress bar: for long runs on a terminal, always, or never.

    Attributes
    ----------
    n_features_out_ : int
        Size of a vector; absent for ``output="map"``.
    weights_id_ : str
        Identifier of the weights.

    Raises
    ------
    ValueError
        If there is no such network or layer, or if the layer does not have the output.
    FileNotFoundError
        If the weights are not a file and cannot be downloaded.

    Notes
    -----
    `transform` returns float32 of shape (n, d), (n, R, d) or (n, c, h, w). For AlexNet, pool5 is
    (n, 36, 256) as regions, and fc7 (n, 4096). For VGG19, conv5_4 is (n, 196, 512), and fc7
    (n, 4096).

    torchvision's AlexNet has neither the groups nor the normalisation of the original; its pool5
    has the same shape. Features are the same in every call; the last bits depend on the batch size
    and the device.

    References
    ----------
    .. [1] A. Krizhevsky, I. Sutskever, G. Hinton: ImageNet classification with deep convolutional
       neural networks, NIPS 2012.
    .. [2] K. Simonyan, A. Zisserman: Very deep convolutional networks for large-scale image
       recognition, ICLR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    >>> Backbone("alexnet", "pool5", weights=None, cache=False).fit_transform(images).shape
    (2, 36, 256)
    """

    # Results depend on the content of the weights, not on their path.
    neutral_parameters = ImageExtractor.neutral_parameters | {"weights"}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "name": [str],
        "layer": [str],
        "weights": [str, os.PathLike, None],
        "output": [StrOptions({"auto", "vectors", "regions", "map"})],
        "resize": [Interval(Integral, 1, 16_384, closed="both")],
        "size": [Interval(Integral, 1, 16_384, closed="both")],
        "square": ["boolean"],
        "preprocessing": [StrOptions({"torchvision", "caffe"})],
        "random_state": [Interval(Integral, 0, 2**32 - 1, closed="both")],
        "max_pixels": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "runtime": RUNTIME,
        "device": [str],
        "cache": ["boolean"],
        "verbose": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self,
        name: str = "alexnet",
        layer: str = "pool5",
        weights: str | os.PathLike[str] | None = "DEFAULT",
        output: str = "auto",
        *,
        resize: int = 256,
        size: int = 224,
        square: bool = False,
        preprocessing: str = "torchvision",
        random_state: int = 0,
        max_pixels: int | None = MAX_PIXELS,
        batch_size: int = 32,
        runtime: str = "torch",
        device: str = "auto",
        cache: bool = True,
        verbose: bool | str = "auto",
    ) -> None:
        self.name = name
        self.layer = layer
        self.weights = weights
        self.output = output
        self.resize = resize
        self.size = size
        self.square = square
        self.preprocessing = preprocessing
        self.random_state = random_state
        self.max_pixels = max_pixels
        self.batch_size = batch_size
        self.runtime = runtime
        self.device = device
        self.cache = cache
        self.verbose = verbose

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.size > self.resize:
            raise ValueError(
                f"size must be at most resize, got size={self.size} and resize={self.resize}"
            )
        if self.output != "auto":
            shape = _output_shape(self.name, self.layer, self.size)
            if (self.output == "map" and len(shape) != 3) or (
                self.output == "regions" and len(shape) == 1
            ):
                raise ValueError(
                    f"layer {self.layer!r} of {self.name} has no output={self.output!r}: for one "
                    f"image it returns an array of shape {shape}"
                )

    def _n_outputs(self) -> int | None:
        shape = _output_shape(self.name, self.layer, self.size)
        if self.output == "map":
            return None
        return shape[0] if len(shape) == 3 else shape[-1]

    def _weights_id(self) -> str:
        if self.weights is None:
            return f"random {self.random_state}"
        _check_name(self.name)
        return weights_id(self.name, self.weights)

    def _extract(self, batch: list[np.ndarray]) -> np.ndarray:
        import torch
        import torchvision

        device = resolve_device(self.device)
        weights = None if self.weights is None else os.fspath(self.weights)
        identity = self._weights_id()
        onnx = self.runtime == "onnx"
        pixels = torch.from_numpy(np.stack([self._cut(image) for image in batch]))
        with exact():
            x = pixels.to("cpu" if onnx else device).permute(0, 3, 1, 2).float()
            if self.preprocessing == "caffe":
                x = x.flip(1) - _channels(_CAFFE_MEAN, x)
            else:
                x = (x / 255 - _channels(_MEAN, x)) / _channels(_STD, x)
            args = self.name, self.layer, weights, identity, self.random_state
            if onnx:
                (y,) = onnx_outputs(
                    lambda: (_network.__wrapped__(*args, "cpu"), _features),
                    {"pixels": x},
                    [self.name, self.layer, identity, torchvision.__version__],
                    type(self).__name__,
                    device=device,
                )
            else:
                (y,) = _features(_network(*args, device), x)
            if self.output != "map" and y.ndim == 4:
                y = y.flatten(2).transpose(1, 2)
            if self.output == "vectors" and y.ndim == 3:
                y = y.mean(1)
            return y.cpu().contiguous().numpy()

    def _cut(self, image: np.ndarray) -> np.ndarray:
        """Resize and crop the centre, with the same pixels as torchvision's transforms."""
        height, width = image.shape[:2]
        if self.square:
            height = width = self.resize
        elif width <= height:
            height, width = int(self.resize * height / width), self.resize
        else:
            height, width = self.resize, int(self.resize * width / height)
        if image.shape[:2] != (height, width):
            resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
            image = np.asarray(resized)
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return image[top : top + self.size, left : left + self.size]


def _features(network: Any, pixels: torch.Tensor) -> list[torch.Tensor]:
    return [network(pixels)["features"]]


def _channels(values: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
    return like.new_tensor(values)[:, None, None]


def _check_name(name: str) -> None:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(
            f"name must be a classification model of torchvision ({', '.join(known[:3])}, ...; "
            f"see torchvision.models.list_models), got {name!r}"
        )


def _build(name: str, layer: str) -> torch.nn.Module:
    """Return the part of a network up to a layer, on the default device."""
    from torchvision.models import get_model
    from torchvision.models.feature_extraction import create_feature_extractor

    _check_name(name)
    # torchvision sets these options when it loads the weights of these two networks.
    options = {"transform_input": True} if name in ("googlenet", "inception_v3") else {}
    if options:
        options["init_weights"] = False
    network = get_model(name, weights=None, **options).eval()
    aliases = _caffe_layers(name, network)
    try:
        return create_feature_extractor(
            network, {aliases.get(layer, layer): "features"}, suppress_diff_warning=True
        )
    except ValueError:
        examples = aliases or dict(network.named_children())
        raise ValueError(
            f"{name} has no layer {layer!r}; it has {', '.join(examples)}, and the nodes that "
            "torchvision.models.feature_extraction.get_graph_node_names lists"
        ) from None


def _caffe_layers(name: str, network: Any) -> dict[str, str]:
    """Return torchvision's nodes by Caffe's names of layers, for AlexNet and VGG."""
    from torch import nn

    nodes: dict[str, str] = {}
    if not name.startswith(("alexnet", "vgg")):
        return nodes
    block, conv = 1, 0
    for i, part in enumerate(network.features):
        node = f"features.{i}"
        if isinstance(part, nn.Conv2d):
            conv += 1
        elif isinstance(part, nn.ReLU):
            nodes[f"conv{conv}" if name == "alexnet" else f"conv{block}_{conv}"] = node
        elif isinstance(part, nn.MaxPool2d) and name == "alexnet":
            nodes[f"pool{conv}"] = node
        elif isinstance(part, nn.MaxPool2d):
            nodes[f"pool{block}"] = node
            block, conv = block + 1, 0
    relus = [i for i, part in enumerate(network.classifier) if isinstance(part, nn.ReLU)]
    return {**nodes, "fc6": f"classifier.{relus[0]}", "fc7": f"classifier.{relus[1]}"}


@functools.lru_cache(maxsize=16)
def _output_shape(name: str, layer: str, size: int) -> tuple[int, ...]:
    """Return the shape of a layer's output for one image, without computing it."""
    import torch

    with torch.device("meta"):
        network = _build(name, layer)
        try:
            shape = tuple(network(torch.empty(1, 3, size, size))["features"].shape[1:])
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"{name} cannot work on images of {size} x {size} pixels: "
                f"{str(error).splitlines()[0]}"
            ) from error
    if not 1 <= len(shape) <= 3:
        raise ValueError(
            f"layer {layer!r} of {name} must return a vector, a sequence of vectors or a map, got "
            f"an array of shape {shape} for one image"
        )
    return shape


@functools.lru_cache(maxsize=2)
def _network(
    name: str, layer: str, weights: str | None, identity: str, seed: int, device: str
) -> torch.nn.Module:
    """Build a network once per process and device, so that estimators need not contain it."""
    import torch

    with isolated():
        if weights is None:
            with seeded(seed):
                network = _build(name, layer)
        else:
            # On "meta", no weights are drawn and no memory is allocated before they are replaced.
            with torch.device("meta"):
                network = _build(name, layer)
            fill(network, load_weights(name, weights), weights)
    return network.to(device).eval().requires_grad_(False)
