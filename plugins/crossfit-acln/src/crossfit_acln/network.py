"""The network of ACLN (figure 1 of the paper)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from crossfit.neural import AttentionPool, Items

__all__ = ["GRID", "ACLNNetwork"]

GRID = (6, 6)
"""Rows and columns of the regions of pool5."""


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

    def second_last(self, items: Items, view: str) -> Tensor:
        """Return the output (b, width) of FC3i for ``"image"``, of FC2t for ``"text"``."""
        pooled, _ = self.pool(items, view)
        head: Any = self.heads[view]
        hidden: Tensor = head[:-1](pooled)
        return hidden

    def encode(self, items: Items, view: str) -> Tensor:
        """Return class posteriors (b, n_classes)."""
        return self(items, view)[1].float().softmax(dim=1)
