"""A neural method that trains in milliseconds, and methods that record their rows."""

import numpy as np
import pytest
from torch import nn

from crossfit import Views
from crossfit.cards import Choice, Float, Int, MethodCard
from crossfit.neural import MLPBranch, NeuralEstimator, cca_loss
from crossfit.subspace import CCA


class _Branches(nn.Module):
    def __init__(self, n_inputs, width):
        super().__init__()
        self.branches = nn.ModuleDict({role: MLPBranch([n, width]) for role, n in n_inputs.items()})

    def encode(self, items, view):
        return self.branches[view](items.values)


class Tiny(NeuralEstimator):
    """One linear layer for each view, trained on the correlation loss."""

    card = MethodCard(
        api=1,
        name="tiny",
        target=f"{__name__}:Tiny",
        summary="Linear branches",
        inputs={"image": ("vectors",), "text": ("vectors",)},
        search_space={"lr": Float(1e-4, 1e-1, log=True), "width": Int(2, 4)},
    )

    def __init__(self, *, width=3, max_epochs=6, batch_size=64, device="cpu", **kwargs):
        super().__init__(max_epochs=max_epochs, batch_size=batch_size, device=device, **kwargs)
        self.width = width

    def _build_module(self, n_inputs, n_classes):
        return _Branches(n_inputs, self.width)

    def _loss(self, outputs, batch):
        return cca_loss(*outputs.values())


class Recording(CCA):
    """CCA that records the pairs on which it was fitted; see `numbered`."""

    fitted: list = []

    def _fit(self, views, y):
        Recording.fitted.append(numbers(views))
        super()._fit(views, y)


def numbered(views):
    """Write the number of every row into the first column of its image."""
    image = views["image"].copy()
    image[:, 0] = np.arange(len(image)) / 1000
    return Views(image=image, text=views["text"])


def numbers(views):
    return set(np.rint(1000 * views["image"][:, 0]).astype(int).tolist())


@pytest.fixture
def tiny():
    return Tiny


@pytest.fixture
def recording():
    Recording.fitted = []
    return Recording


@pytest.fixture
def rows_of():
    return numbers


@pytest.fixture
def pairs(planted):
    """Return ninety pairs whose rows can be recognised, and their labels."""
    views, y = planted(n=90, noise=1.5)
    return numbered(views), y


@pytest.fixture
def spaces():
    return {
        "n_components": Int(1, 5),
        "reg": Float(1e-4, 10.0, log=True),
        "power": Choice(0.0, 1.0),
    }
