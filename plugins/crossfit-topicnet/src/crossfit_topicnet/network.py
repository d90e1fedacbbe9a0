"""The network that predicts topics: CaffeNet for pixels, or fc6 and fc7 for feature vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.extraction.weights import fill, load_weights
from crossfit.neural import Standardize

__all__ = ["CHANNELS", "CaffeNet", "TopicNetwork", "stored_edge"]

CHANNELS = (96, 256, 384, 384, 256)
"""Channels of CaffeNet's five convolutions."""

SMALLEST = 67
"""Edge in pixels of the smallest picture for which pool5 is not empty."""

_MEAN_BGR = (104.007, 116.669, 122.679)
# Typical deviation of a pixel from the mean.
_TYPICAL = 64.0


class CaffeNet(nn.Module):
    """The convolutions of CaffeNet, which is AlexNet with pooling before normalisation.

    Parameters
    ----------
    image_size : int
        Edge of the square that is cut out of a picture, 227 in the papers.
    channels : sequence of int
        Output channels of the five convolutions; the second, fourth and fifth have two groups.
    unit : float, default=1.0
        Divisor of the pixels; 1 in Caffe.
    """

    def __init__(
        self, image_size: int, channels: Sequence[int] = CHANNELS, unit: float = 1.0
    ) -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = channels
        self.unit = unit
        self.conv1 = nn.Conv2d(3, c1, 11, stride=4)
        self.conv2 = nn.Conv2d(c1, c2, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(c2, c3, 3, padding=1)
        self.conv4 = nn.Conv2d(c3, c4, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(c4, c5, 3, padding=1, groups=2)
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(_MEAN_BGR), persistent=False)
        edge = (image_size - 11) // 4 + 1
        for _ in range(3):
            edge = (edge - 3) // 2 + 1
        self.n_outputs = c5 * edge**2

    def forward(self, pixels: Tensor) -> Tensor:
        """Map uint8 RGB (b, image_size, image_size, 3) to the maps of conv5 (b, c5, H, W)."""
        # Caffe's channels are BGR.
        x = (pixels.flip(-1).float() - self.mean) / self.unit
        x = F.relu(self.conv1(x.permute(0, 3, 1, 2)))
        x = _normalised(F.max_pool2d(x, 3, 2))
        x = _normalised(F.max_pool2d(F.relu(self.conv2(x)), 3, 2))
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        return F.relu(self.conv5(x))


class TopicNetwork(nn.Module):
    """A trunk, and one linear head per kind of text.

    Parameters
    ----------
    n_inputs : int
        Width of the feature vectors; ignored for pictures.
    topics : mapping of str to int
        Name of each head, and the number of topics that it predicts.
    hidden : sequence of int
        Widths of fc6, fc7 and further layers.
    dropout : float
        Dropout probability after the ReLU of every hidden layer.
    loss : {"sigmoid", "softmax"}, default="sigmoid"
        Determines how logits are converted to topics.
    image_size : int, optional
        Edge of pictures, see `CaffeNet`; None for feature vectors.
    channels : sequence of int
        See `CaffeNet`.
    init : {"caffe", "kaiming"}, default="caffe"
        Initial weights for pictures: Caffe's, which suit only the published widths, or weights
        that preserve the scale of the signal at any width, with pixels divided by 64.
    standardize : bool, default=False
        Whether to standardise feature vectors by the mean and deviation of the training images.
    """

    def __init__(
        self,
        n_inputs: int,
        topics: Mapping[str, int],
        *,
        hidden: Sequence[int],
        dropout: float,
        loss: str = "sigmoid",
        image_size: int | None = None,
        channels: Sequence[int] = CHANNELS,
        init: str = "caffe",
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self.loss = loss
        unit = 1.0 if init == "caffe" else _TYPICAL
        self.convolutions = None if image_size is None else CaffeNet(image_size, channels, unit)
        width = n_inputs if self.convolutions is None else self.convolutions.n_outputs
        self.scaling: Standardize | None = None
        if standardize and self.convolutions is None:
            self.scaling = Standardize(n_inputs, "image")
            self.register_load_state_dict_pre_hook(_without_scaling)
        self.hidden = nn.ModuleDict()
        for number, after in enumerate(hidden, 6):
            self.hidden[f"fc{number}"] = nn.Linear(width, after)
            width = after
        self.dropout = nn.Dropout(dropout)
        if self.convolutions is not None:
            self._start(init)
        # Drawn last, so that the number of heads does not change the initial weights of the trunk.
        self.heads = nn.ModuleDict({name: nn.Linear(width, k) for name, k in topics.items()})
        if self.convolutions is not None:
            for head in self.heads.values():
                _gaussian(head, 0.01, 0.0)

    def _start(self, init: str) -> None:
        for name, layer in self.named_modules():
            if not isinstance(layer, (nn.Conv2d, nn.Linear)):
                continue
            if init == "caffe":
                raised = name.rpartition(".")[2] not in ("conv1", "conv3")
                std = 0.01 if isinstance(layer, nn.Conv2d) else 0.005
                _gaussian(layer, std, float(raised))
            else:
                _gaussian(layer, (2 / layer.weight[0].numel()) ** 0.5, 0.0)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that `layer` accepts, from the lowest up."""
        return (*(("max5", "pool5") if self.convolutions is not None else ()), *self.hidden)

    def _stages(self, values: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = values
        if self.convolutions is not None:
            maps = self.convolutions(values)
            yield "max5", maps.amax(dim=(2, 3))
            x = F.max_pool2d(maps, 3, 2).flatten(1)
            yield "pool5", x
        elif self.scaling is not None:
            x = self.scaling(values)
        for name, layer in self.hidden.items():
            x = self.dropout(F.relu(layer(x)))
            yield name, x
        yield "", x

    def layer(self, values: Tensor, name: str) -> Tensor:
        """Return the output of one of `layers` for pictures or vectors, (b, width)."""
        return next(x for stage, x in self._stages(values) if stage == name)

    def forward(self, values: Tensor) -> dict[str, Tensor]:
        """Return the logits of every head, (b, n_topics)."""
        *_, (_, x) = self._stages(values)
        return {name: head(x) for name, head in self.heads.items()}

    def encode(self, items: Any, view: str, head: str) -> Tensor:
        """Return topic distributions (b, n_topics).

        Parameters
        ----------
        items : Items, or dict of str to Items
            Pictures or vectors; topics of one or several kinds of texts.
        view : {"image", "text"}
        head : str
            Name of a head, or ``"mean"`` for the mean over the heads, or over the texts that are
            present.
        """
        if view == "image":
            found = {name: self.distribution(z) for name, z in self(items.values).items()}
            chosen = found.values() if head == "mean" else [found[head]]
            return torch.stack(list(chosen)).mean(dim=0)
        if not isinstance(items, dict):
            return _normalised_topics(items.values)
        if head != "mean":
            return _normalised_topics(items[head].values)
        parts = torch.stack([_shares(part.values) for part in items.values()])
        return _normalised_topics(parts.sum(dim=0))

    def distribution(self, logits: Tensor) -> Tensor:
        """Return the outputs of a head, normalised to a sum of one."""
        logits = logits.float()
        # sigmoid(z) / sum sigmoid(z), in a form that stays finite if every sigmoid is 0.
        return (F.logsigmoid(logits) if self.loss == "sigmoid" else logits).softmax(dim=1)

    def fill_trunk(self, path: str | PathLike[str]) -> None:
        """Load the weights of all layers below the heads from a file.

        Parameters
        ----------
        path : path-like
            A .safetensors file or a state dictionary with ``conv1.weight`` and so on to
            ``fc7.bias``, for pictures in Caffe's form (BGR, 0 to 255, with the mean subtracted).

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        ValueError
            If its weights have other names or shapes.
        """
        if not Path(path).expanduser().is_file():
            raise FileNotFoundError(f"trunk_weights must be a file of weights, got {str(path)!r}")
        state = load_weights("alexnet", path)
        for part in (self.convolutions, self.hidden):
            if part is not None:
                fill(part, state, path)


def _without_scaling(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Complete the weights of version 0.1.0, which did not standardise."""
    assert isinstance(module, TopicNetwork) and module.scaling is not None
    for name, values in module.scaling.state_dict(prefix=f"{prefix}scaling.").items():
        state.setdefault(name, values)


def _gaussian(layer: Any, std: float, bias: float) -> None:
    nn.init.normal_(layer.weight, std=std)
    nn.init.constant_(layer.bias, bias)


def _normalised(x: Tensor) -> Tensor:
    return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75)


def _shares(topics: Tensor) -> Tensor:
    """Return rows divided by their sum; rows of zeros stay zeros."""
    total = topics.sum(dim=1, keepdim=True)
    return topics / total.where(total > 0, 1)


def _normalised_topics(topics: Tensor) -> Tensor:
    """Return rows divided by their sum; a text without topics becomes uniform."""
    empty = (topics.sum(dim=1, keepdim=True) == 0).to(topics.dtype)
    return _shares(topics + empty)


def stored_edge(image_size: int) -> int:
    """Return the edge to which pictures are resized before a square is cut out: 256 for 227."""
    return round(image_size * 256 / 227)
