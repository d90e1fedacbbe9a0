"""A small neural method that the tests of the base class train."""

import pytest
import torch
from torch import nn

from crossfit.cards import Float, MethodCard
from crossfit.neural import MLPBranch, NeuralEstimator, triplet_loss

CARD = MethodCard(
    api=1,
    name="towers",
    target=f"{__name__}:Towers",
    summary="Two branches and a ranking loss",
    inputs={
        "image": ("vectors", "regions", "channels"),
        "text": ("vectors", "tokens", "regions"),
    },
    labels="optional",
    search_space={"lr": Float(1e-4, 1e-2, log=True)},
)


class _Module(nn.Module):
    def __init__(self, n_inputs, hidden, dropout, width):
        super().__init__()
        self.words = nn.ModuleDict()
        self.branches = nn.ModuleDict()
        for role, n in n_inputs.items():
            if isinstance(n, dict):
                n = sum(n.values())
            self.words[role] = nn.Embedding(n, hidden)
            self.branches[role] = MLPBranch(
                [n, hidden, width], activation=nn.Tanh, dropout=dropout, normalize=True
            )
            self.branches[role + "_words"] = MLPBranch([hidden, width], normalize=True)

    def encode(self, items, view):
        if isinstance(items, dict):
            return self.branches[view](torch.cat([part.values for part in items.values()], dim=1))
        values, mask = items
        if mask is None and values.ndim == 2:
            return self.branches[view](values)
        if values.dtype == torch.int64:
            values, view = self.words[view](values), view + "_words"
        if mask is None:
            mask = torch.ones(values.shape[:2], dtype=torch.bool)
        weights = mask[..., None] / mask.sum(dim=1).clamp(min=1)[:, None, None]
        return self.branches[view]((values * weights).sum(dim=1))


class Towers(NeuralEstimator):
    """Two branches and a ranking loss.

    Parameters
    ----------
    margin : float
        Of the loss.
    """

    card = CARD

    def __init__(self, *, margin=0.3, max_epochs=4, batch_size=16, device="cpu", **kwargs):
        super().__init__(max_epochs=max_epochs, batch_size=batch_size, device=device, **kwargs)
        self.margin = margin

    def _build_module(self, n_inputs, n_classes, hidden=16, dropout=0.2, width=8):
        return _Module(n_inputs, hidden, dropout, width)

    def _loss(self, outputs, batch):
        scores = outputs["image"] @ outputs["text"].T
        positives, negatives = batch.positives, batch.negatives
        return {
            "forward": triplet_loss(scores, positives, negatives, margin=self.margin),
            "backward": triplet_loss(scores.T, positives.T, negatives.T, margin=self.margin),
        }


@pytest.fixture
def towers():
    return Towers


@pytest.fixture
def weights():
    """Return the network's weights, end to end."""

    def of(method):
        return torch.cat([w.flatten() for w in method.net_.module_.state_dict().values()])

    return of
