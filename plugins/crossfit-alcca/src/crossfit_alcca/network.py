"""The network of ACMR: two projectors, a label predictor and a modality classifier."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from crossfit.neural import Items, MLPBranch, Standardize, grad_reverse

__all__ = ["AdversarialNetwork"]


class AdversarialNetwork(nn.Module):
    """Two projectors into one space, and two classifiers applied to their outputs.

    Parameters
    ----------
    n_inputs : dict of str to int
        Width of the feature vectors by role, in order.
    n_classes : int
        Number of classes.
    hidden : mapping of str to int
        Width of the projector's hidden layer by role.
    width : int
        Width of the common space.
    modality_hidden : int
        Width of the modality classifier's hidden layer.
    standardize : bool, default=False
        Whether the features are standardised first.
    """

    def __init__(
        self,
        n_inputs: Mapping[str, int],
        n_classes: int,
        *,
        hidden: Mapping[str, int],
        width: int,
        modality_hidden: int,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self.scaling = nn.ModuleDict(
            {role: Standardize(n, role) if standardize else nn.Identity()
             for role, n in n_inputs.items()}
        )  # fmt: skip
        self.projectors = nn.ModuleDict(
            {
                role: MLPBranch([n, hidden[role], width], activation=nn.Tanh,
                                last_activation=nn.Tanh)
                for role, n in n_inputs.items()
            }
        )  # fmt: skip
        self.label_predictor = nn.Linear(width, n_classes)
        self.discriminator = MLPBranch([width, modality_hidden, 2], activation=nn.Tanh)
        self.batches: Tensor
        self.register_buffer("batches", torch.zeros(1, dtype=torch.int64))

    def encode(self, items: Items, view: str) -> Tensor:
        """Map items of one view, (b, d), into the common space, (b, width)."""
        return self.projectors[view](self.scaling[view](items.values))

    def modality(self, embedded: Tensor, strength: float, learns: bool = True) -> Tensor:
        """Return the modality classifier's logits, (b, 2), after gradient reversal.

        Parameters
        ----------
        embedded : Tensor of shape (b, width)
        strength : float
            Factor of the reversed gradient.
        learns : bool, default=True
            Whether the classifier's own weights get a gradient.
        """
        x = grad_reverse(embedded, strength)
        if learns:
            return self.discriminator(x)
        frozen = {name: w.detach() for name, w in self.discriminator.named_parameters()}
        return functional_call(self.discriminator, frozen, (x,))

    def discriminator_learns(self, every: int) -> bool:
        """Count a training batch; return True if the modality classifier is trained on it."""
        if every == 1 or not self.training:
            return True  # without reading the counter, which would synchronise a GPU
        self.batches += 1
        return int(self.batches) % every == 0

    def decay(self, power: int) -> Tensor:
        """Return the sum of the Frobenius norms of the projectors' layers, raised to a power."""
        norms = torch.stack([w.square().sum() for w in self.projectors.parameters() if w.ndim == 2])
        return norms.sum() if power == 2 else norms.sqrt().sum()
