"""The network of ACLN (figure 1 of the paper) and its AlexNet trunk."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossfit.neural import AttentionPool, Items
from crossfit.neural.pictures import SquareCut

__all__ = ["CUT", "GRID", "ACLNNetwork", "Trunk"]

GRID = (6, 6)
"""Rows and columns of the regions of pool5."""

CUT = SquareCut(resized=256, edge=227)
"""How a picture becomes the input of AlexNet, as in Caffe."""

# Mean and deviation of ImageNet, for torchvision's weights.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _dense(before: int, after: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(before, after), nn.Tanh(), nn.Dropout(dropout)]


class ACLNNetwork(nn.Module):
    """Local features, attention and class logits of both modalities.

    Parameters
    ----------
    n_inputs : dict of str to int
        Width of a region's features for ``"image"``, number of words for ``"text"``.
    n_classes : int
        Number of classes.
    attention : {"shared", "separate", "none"}
        One W_a for both modalities, one for each, or the mean.
    width : int
        Width d_a of all hidden layers.
    dropout : float
        Dropout probability after the tanh of every hidden layer.
    attn_act : {"tanh", None}
        Activation of the logits of the attention.
    """

    def __init__(
        self,
        n_inputs: dict[str, int],
        n_classes: int,
        *,
        attention: str,
        width: int,
        dropout: float,
        attn_act: str | None,
    ) -> None:
        super().__init__()
        # Equations 1 to 6. W_e has no bias, because every word has its own vector.
        embedding = [nn.Embedding(n_inputs["text"], width), nn.Tanh(), nn.Dropout(dropout)]
        self.local = nn.ModuleDict(
            {
                "image": nn.Sequential(
                    *_dense(n_inputs["image"], width, dropout),  # FC1i
                    *_dense(width, width, dropout),  # FC2i
                ),
                "text": nn.Sequential(*embedding, *_dense(width, width, dropout)),  # FC1t
            }
        )
        pools = {"shared": ["both"], "separate": ["image", "text"], "none": []}[attention]
        activation = torch.tanh if attn_act == "tanh" else None
        self.attention = nn.ModuleDict(
            {name: AttentionPool(width, activation=activation) for name in pools}
        )
        # FC3i and FC4i, FC2t and FC3t.
        self.heads = nn.ModuleDict(
            {
                view: nn.Sequential(*_dense(width, width, dropout), nn.Linear(width, n_classes))
                for view in ("image", "text")
            }
        )

    def pool(self, items: Items, view: str) -> tuple[Tensor, Tensor]:
        """Return global features (b, width) and attention (b, R), equations 7 to 9."""
        x = self.local[view](items.values)
        if self.attention:
            return self.attention["both" if "both" in self.attention else view](x, items.mask)
        mask = items.mask if items.mask is not None else x.new_ones(x.shape[:2])
        # A picture without regions has no mean; its global features are zero.
        weights = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.einsum("br,brd->bd", weights.to(x.dtype), x), weights

    def forward(self, items: Items, view: str) -> tuple[Tensor, Tensor]:
        """Return global features (b, width) and class logits (b, n_classes)."""
        pooled, _ = self.pool(items, view)
        return pooled, self.heads[view](pooled)

    def encode(self, items: Items, view: str) -> Tensor:
        """Return class posteriors (b, n_classes)."""
        return self(items, view)[1].float().softmax(dim=1)


class Trunk(nn.Module):
    """AlexNet up to pool5, with a classifier on top for fine-tuning.

    Parameters
    ----------
    n_classes : int, optional
        Number of classes. If None, there is no classifier and the output is 36 regions of 256
        features.
    """

    def __init__(self, n_classes: int | None = None) -> None:
        super().__init__()
        from torchvision.models import alexnet

        # On "meta", an unused classifier, nine tenths of AlexNet, costs nothing.
        with torch.device("meta"):
            network = alexnet(weights=None, num_classes=n_classes or 1)
        self.features = _drawn(network.features)
        self.classifier: nn.Sequential | None = None
        if n_classes is not None:
            self.classifier = _drawn(network.classifier)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", 255 * torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(_STD)[:, None, None], persistent=False)

    def fill(self, weights: dict[str, Tensor], source: object) -> None:
        """Load weights of torchvision's AlexNet into all layers but the last."""
        own = self.state_dict()
        last = f"classifier.{len(self.classifier) - 1}." if self.classifier is not None else "?"
        needed = [name for name in own if not name.startswith(last)]
        for name in needed:
            if name not in weights or weights[name].shape != own[name].shape:
                raise ValueError(
                    f"the weights {str(source)!r} are not those of torchvision's AlexNet: "
                    f"{name!r} of shape {tuple(own[name].shape)} is missing"
                )
        self.load_state_dict({**own, **{name: weights[name] for name in needed}})

    def forward(self, pixels: Tensor) -> Tensor:
        """Map uint8 (b, 227, 227, 3) to regions (b, 36, 256), or to class logits."""
        x = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std
        x = self.features(x)
        if self.classifier is not None:
            return self.classifier(x.flatten(1))
        return x.flatten(2).transpose(1, 2)


def _drawn(part: nn.Sequential) -> nn.Sequential:
    """Assign initial weights to a part that was built on "meta"."""
    part.to_empty(device="cpu")
    for layer in part:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.reset_parameters()
    return part
