"""2WayNet: a bidirectional network with tied weights, Eisenschtat and Wolf, CVPR 2017."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import StepLR

from crossfit.neural import Batch, Items, NeuralEstimator, Standardize, init_weights
from crossfit_ranking import cards

__all__ = ["TwoWayNet", "TwoWayNetwork", "decorrelation"]


@dataclass(frozen=True)
class Targets:
    """Values that are rebuilt, by role.

    Not a dict: the check for outputs that are equal for all items replaces tensors and dicts of
    them, and the targets are not outputs.
    """

    of: Mapping[str, Tensor]


class TwoWayNetwork(nn.Module):
    """Layers from the first view to the second one, and back by the transposed weights.

    Parameters
    ----------
    n_inputs : mapping of str to int
        Width of the feature vectors of the two roles, in order.
    widths : sequence of int
        Widths of the hidden layers from the first view to the second one.
    slope : float, default=0.3
        Slope of the leaky rectifiers below zero.
    dropout : float, default=0.5
        Probability of dropping a hidden unit, in both channels at once. The units that are kept
        are divided by the root of the probability to keep one.
    standardize : bool, default=True
        Whether the features are standardised first; the standardised ones are rebuilt.

    Notes
    -----
    A channel has its own batch normalisations and its own bias of the output.
    """

    def __init__(
        self,
        n_inputs: Mapping[str, int],
        *,
        widths: Sequence[int],
        slope: float = 0.3,
        dropout: float = 0.5,
        standardize: bool = True,
    ) -> None:
        super().__init__()
        (one, n), (two, m) = n_inputs.items()
        self.roles = (one, two)
        self.middle = len(widths) // 2
        self.slope, self.dropout = slope, dropout
        self.scaling = nn.ModuleDict(
            {role: Standardize(k, role) if standardize else nn.Identity()
             for role, k in n_inputs.items()}
        )  # fmt: skip
        # Without biases: a normalisation follows, or an output with the bias of its channel.
        self.layers = nn.ModuleList(
            nn.Linear(a, b, bias=False) for a, b in pairwise([n, *widths, m])
        )
        self.norms = nn.ModuleDict(
            {role: nn.ModuleList(nn.BatchNorm1d(k) for k in widths) for role in n_inputs}
        )
        self.biases = nn.ParameterDict({role: torch.zeros(k) for role, k in n_inputs.items()})
        init_weights(self)

    def channel(
        self, x: Tensor, view: str, masks: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the middle layer of the channel that begins at a view, and what it ends with.

        Parameters
        ----------
        x : Tensor of shape (b, n)
            Scaled features of the view.
        view : str
            Role of the view.
        masks : sequence of Tensor, optional
            Factors of the units of every hidden layer, in the order of the layers.

        Returns
        -------
        middle : Tensor of shape (b, widths[len(widths) // 2])
        rebuilt : Tensor of shape (b, m)
            Scaled features of the other view.
        """
        middle = x
        for k in self._order(view):
            x = self._unit(x, k, view)
            x = x if masks is None else x * masks[k]
            middle = x if k == self.middle else middle
        other = self.roles[1 - self.roles.index(view)]
        return middle, F.linear(x, self._weight(len(self.layers) - 1, view), self.biases[other])

    def encode(self, items: Items, view: str) -> Tensor:
        """Return the middle layer for items of one view, (b, widths[len(widths) // 2])."""
        x = self.scaling[view](items.values)
        for k in self._order(view):
            x = self._unit(x, k, view)
            if k == self.middle:
                break
        return x

    def forward(self, views: Mapping[str, Items]) -> dict[str, Any]:
        """Return the middle layers, what is rebuilt and from which values, by role of the input."""
        scaled = {role: self.scaling[role](items.values) for role, items in views.items()}
        masks = self._masks(scaled[self.roles[0]])
        found = {role: self.channel(x, role, masks) for role, x in scaled.items()}
        one, two = self.roles
        return {
            "middle": {role: middle for role, (middle, _) in found.items()},
            "rebuilt": {one: found[two][1], two: found[one][1]},
            "targets": Targets(scaled),
        }

    def scales(self) -> Tensor:
        """Return the sum of the inverse squared scales of all batch normalisations."""
        norms = [part for part in self.modules() if isinstance(part, nn.BatchNorm1d)]
        return torch.cat([norm.weight for norm in norms]).pow(-2).sum()

    def decay(self) -> Tensor:
        """Return half the sum of the squared weights."""
        return torch.stack([layer.weight.square().sum() for layer in self.layers]).sum() / 2  # type: ignore[operator]

    def _order(self, view: str) -> range:
        """Return the numbers of the hidden layers in the order of a channel."""
        n = len(self.layers) - 1
        return range(n) if view == self.roles[0] else range(n - 1, -1, -1)

    def _weight(self, step: int, view: str) -> Any:
        """Return the matrix of a step of a channel; the steps back have the transposed ones."""
        if view == self.roles[0]:
            return self.layers[step].weight
        return self.layers[len(self.layers) - 1 - step].weight.T  # type: ignore[union-attr]

    def _unit(self, x: Tensor, k: int, view: str) -> Tensor:
        """Return hidden layer k of a channel, without dropout."""
        step = k if view == self.roles[0] else len(self.layers) - 2 - k
        norms: Any = self.norms[view]
        return F.leaky_relu(norms[k](F.linear(x, self._weight(step, view))), self.slope)

    def _masks(self, x: Tensor) -> list[Tensor] | None:
        """Return factors of the hidden units, which are the same in both channels."""
        if not self.training or not self.dropout:
            return None
        keep = 1 - self.dropout
        norms: Any = self.norms[self.roles[0]]
        return [
            torch.empty(len(x), norm.num_features, device=x.device).bernoulli_(keep) / keep**0.5
            for norm in norms
        ]


class TwoWayNet(NeuralEstimator):
    r"""2WayNet: one network from images to texts and back, with tied weights.

    A channel leads from an image x through hidden layers to a text :math:`\hat z`, and a second one
    from the text z to an image :math:`\hat x` by the same layers in reverse, with transposed
    weights. The middle layers :math:`h_x` and :math:`h_z` of the two channels have the same units.
    The loss of a pair is

    .. math::

        \|x - \hat x\|^2 + \|z - \hat z\|^2 + a \|h_x - h_z\|^2
        + b \sum_{h} (\|C_h\|_F - \|\mathrm{diag}\, C_h\|)
        + c \sum_i \gamma_i^{-2} + \tfrac d2 \|W\|^2,

    with squared norms that are summed over features and units and averaged over the pairs of a
    batch, the covariance C of the units of a middle layer in the batch (for h from either channel),
    the scales :math:`\gamma` of all batch normalisations, which this keeps from vanishing, and
    all weights W. The same units of both channels are dropped. Items are compared by the
    correlation of their middle layers.

    There are no negatives, and labels are not used. With several captions per image, every caption
    is a pair of its image.

    The defaults are for a few thousand pairs; see Notes for the paper's settings.

    Parameters
    ----------
    widths : sequence of int, default=(256, 256, 256)
        Widths of the hidden layers from images to texts. The middle one is compared: the second of
        three, the third of four.
    slope : float, default=0.3
        Slope of the leaky rectifiers below zero.
    dropout : float, default=0.1
        Probability of dropping a hidden unit. The others are divided by the root of the probability
        to keep one, so that products of two channels keep their size.
    coupling : float, default=2.0
        Weight a of the distance of the middle layers.
    decorrelation : float, default=0.5
        Weight b of the covariances of different units.
    scale_penalty : float, default=0.05
        Weight c of the inverse squared scales.
    weight_decay : float, default=0.05
        Weight d of half the sum of the squared weights, a term of the loss.
    standardize : bool, default=True
        Subtract the training mean from every feature and divide it by its standard deviation. The
        results are rebuilt.
    lr_halving : int or None, default=None
        Number of epochs after which the learning rate is halved, repeatedly; None for never.
    max_epochs : int, default=30
        Number of passes over the training pairs.
    lr : float, default=0.002
        Learning rate.
    batch_size : int, default=128
        Number of pairs per batch.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        Its history contains the terms with their weights: ``train_reconstruction``,
        ``train_distance``, ``train_decorrelation``, ``train_scales`` and ``train_decay``.
        ``valid_loss`` is the sum of the first three.

    Notes
    -----
    The paper has layers of 2000, 3000 and 16000 units, dropout of .5, a coupling of .25, the other
    weights that are the defaults here, and SGD with momentum, batches of 128 and a learning rate of
    .0001 that is halved after 20, 40, 60 and 80 of 100 epochs: see the experiments
    ``eisenschtat-2017-2waynet-flickr30k`` and ``eisenschtat-2017-2waynet-coco``. The momentum of .9
    is ours.

    The R@1 and R@5 that the paper prints count ranks from 0, and are the shares of queries whose
    item is among the first 2 and the first 6. The metrics ``r@1:twowaynet`` and ``r@5:twowaynet``
    are computed in this way; never compare them with ``r@1`` and ``r@5``.

    References
    ----------
    A. Eisenschtat, L. Wolf, Linking image and text with 2-way nets, CVPR 2017, 4601-4611.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_ranking.two_way_net import TwoWayNet
    >>> from crossfit_ranking.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 100)
    >>> method = TwoWayNet(widths=(16, 8, 16), max_epochs=5, device="cpu", random_state=0)
    >>> method.fit(views).transform(views)["text"].shape
    (100, 8)
    """

    card = cards.TWO_WAY_NET

    # Not properties of the items.
    _only_shown: ClassVar[tuple[str, ...]] = ("scales", "decay")

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "widths": [list, tuple],
        "slope": [Interval(Real, 0, 1, closed="both")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "coupling": [Interval(Real, 0, None, closed="left")],
        "decorrelation": [Interval(Real, 0, None, closed="left")],
        "scale_penalty": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "standardize": ["boolean"],
        "lr_halving": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        *,
        widths: Sequence[int] = (256, 256, 256),
        slope: float = 0.3,
        dropout: float = 0.1,
        coupling: float = 2.0,
        decorrelation: float = 0.5,
        scale_penalty: float = 0.05,
        weight_decay: float = 0.05,
        standardize: bool = True,
        lr_halving: int | None = None,
        max_epochs: int = 30,
        lr: float = 2e-3,
        batch_size: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_epochs=max_epochs, lr=lr, batch_size=batch_size, **kwargs)
        self.widths = widths
        self.slope = slope
        self.dropout = dropout
        self.coupling = coupling
        self.decorrelation = decorrelation
        self.scale_penalty = scale_penalty
        self.weight_decay = weight_decay
        self.standardize = standardize
        self.lr_halving = lr_halving

    def _validate_params(self) -> None:
        super()._validate_params()
        if not self.widths or any(
            not isinstance(n, Integral) or isinstance(n, bool) or n < 1 for n in self.widths
        ):
            raise ValueError(
                f"{self._name()}: widths must be one or more integers of at least 1, one per "
                f"hidden layer, got {self.widths!r}"
            )

    def _own_similarity(self) -> str:
        return "correlation"

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {
            "widths": list(self.widths),
            "slope": self.slope,
            "dropout": self.dropout,
            "standardize": self.standardize,
        }
        return TwoWayNetwork(n_inputs, **{**settings, **module})

    def _schedule(self) -> list[Any]:
        if self.lr_halving is None:
            return []
        return [LRScheduler(StepLR, step_size=self.lr_halving, gamma=0.5, event_name=None)]

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, Any]:
        assert isinstance(module, TwoWayNetwork)
        return {**module(batch.views), "scales": module.scales(), "decay": module.decay()}

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        errors = [
            _squared(outputs["targets"].of[role] - found)
            for role, found in outputs["rebuilt"].items()
        ]
        one, two = outputs["middle"].values()
        return {
            "reconstruction": torch.stack(errors).sum(),
            "distance": self.coupling * _squared(one - two),
            "decorrelation": self.decorrelation * (decorrelation(one) + decorrelation(two)),
            "scales": self.scale_penalty * outputs["scales"],
            "decay": self.weight_decay * outputs["decay"],
        }


def decorrelation(h: Tensor) -> Tensor:
    r"""Return :math:`\|C\|_F - \|\mathrm{diag}\, C\|` for the covariance C of units in a batch.

    Parameters
    ----------
    h : Tensor of shape (b, d)
        Units of b items; C is divided by b.

    Returns
    -------
    Tensor of shape ()
        Zero if no two units are correlated.
    """
    h = h - h.mean(dim=0)
    C = h.T @ h / len(h)
    return torch.linalg.vector_norm(C) - torch.linalg.vector_norm(C.diagonal())


def _squared(difference: Tensor) -> Tensor:
    """Return the squared norm of a row, averaged over the rows."""
    return difference.square().sum(dim=1).mean()
