"""AlexNet, the trunk of networks that are fine-tuned on pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from crossfit.neural.pictures import SquareCut

__all__ = ["ALEXNET_CUT", "AlexNet"]

ALEXNET_CUT = SquareCut(resized=256, edge=227)
"""How a picture becomes the input of AlexNet, as in Caffe."""

# Mean and deviation of ImageNet, for torchvision's weights.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class AlexNet(nn.Module):
    """torchvision's AlexNet: regions of pool5, fc7, or class logits.

    torchvision's network has neither the groups nor the normalisation of the original.

    Parameters
    ----------
    n_classes : int, optional
        Number of classes of the last layer; by default there is no last layer.
    dense : bool, default=False
        Whether there are the layers fc6 and fc7, which hold nine tenths of the weights, if there
        is no last layer.

    Attributes
    ----------
    features : Sequential
        The layers up to pool5.
    classifier : Sequential or None
        fc6 and fc7 with ReLU and dropout, and the last layer.
    """

    def __init__(self, n_classes: int | None = None, *, dense: bool = False) -> None:
        super().__init__()
        from torchvision.models import alexnet

        # On "meta", an unused classifier costs nothing.
        with torch.device("meta"):
            network = alexnet(weights=None, num_classes=n_classes or 1)
        self.features = _drawn(network.features)
        self.classifier: nn.Sequential | None = None
        if n_classes is not None:
            self.classifier = _drawn(network.classifier)
        elif dense:
            self.classifier = _drawn(network.classifier[:-1])
        self.has_last = n_classes is not None
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", 255 * torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(_STD)[:, None, None], persistent=False)

    def fill(self, weights: Mapping[str, Tensor], source: object) -> None:
        """Load weights of torchvision's AlexNet into all layers but the last.

        Parameters
        ----------
        weights : mapping of str to Tensor
            The weights by name, as `crossfit.extraction.weights.load_weights` returns them.
        source : object
            Where they come from, for the error message.

        Raises
        ------
        ValueError
            If a weight is missing or has another shape.
        """
        own = self.state_dict()
        last = "classifier.6."
        needed = [name for name in own if not name.startswith(last)]
        for name in needed:
            if name not in weights or weights[name].shape != own[name].shape:
                raise ValueError(
                    f"the weights {str(source)!r} are not those of torchvision's AlexNet: "
                    f"{name!r} of shape {tuple(own[name].shape)} is missing"
                )
        self.load_state_dict({**own, **{name: weights[name] for name in needed}})

    def cut(self, *, dense: bool = False) -> None:
        """Remove the last layer, and by default fc6 and fc7.

        Parameters
        ----------
        dense : bool, default=False
            Whether to keep fc6 and fc7.
        """
        if self.classifier is not None and self.has_last:
            self.classifier = self.classifier[:-1]
        self.has_last = False
        if not dense:
            self.classifier = None

    def _pool5(self, pixels: Tensor) -> Tensor:
        maps: Tensor = self.features((pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        return maps

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels to class logits, or to regions if there is no last layer.

        Parameters
        ----------
        pixels : uint8 Tensor of shape (b, 227, 227, 3)
            Squares of pixels, as `ALEXNET_CUT` cuts them out.

        Returns
        -------
        Tensor of shape (b, n_classes) or (b, 36, 256)
        """
        if self.has_last:
            assert self.classifier is not None
            logits: Tensor = self.classifier(self._pool5(pixels).flatten(1))
            return logits
        return self._pool5(pixels).flatten(2).transpose(1, 2)

    def fc7(self, pixels: Tensor) -> Tensor:
        """Map pixels to fc7, after its ReLU.

        Parameters
        ----------
        pixels : uint8 Tensor of shape (b, 227, 227, 3)
            Squares of pixels, as `ALEXNET_CUT` cuts them out.

        Returns
        -------
        Tensor of shape (b, 4096)
        """
        assert self.classifier is not None
        top = self.classifier[:-1] if self.has_last else self.classifier
        x: Tensor = top(self._pool5(pixels).flatten(1))
        return x


def _drawn(part: Any) -> nn.Sequential:
    """Assign initial weights to a part that was built on "meta"."""
    part.to_empty(device="cpu")
    for layer in part:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.reset_parameters()
    return part  # type: ignore[no-any-return]
