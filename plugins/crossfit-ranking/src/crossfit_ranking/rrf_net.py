"""Recurrent residual fusion network (RRF-Net), Liu, Guo, Bakker and Lew, ICCV 2017."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import StepLR

from crossfit.neural import Batch, Items, NeuralEstimator, hinge, init_weights
from crossfit.neural.ranking import check_groups
from crossfit.views import Views
from crossfit_ranking import cards

__all__ = ["RRFBranch", "RRFNet", "RRFNetwork", "bi_rank_loss"]


class RRFBranch(nn.Module):
    """The network of one view: layers, residual steps with one weight, and their fusion.

    Parameters
    ----------
    n_inputs : int
        Number of features.
    hidden : int
        Width of the first layer.
    width : int
        Width of the states and of the outputs.
    steps : int
        Number of residual steps, T. All have one matrix, and a batch normalisation each.
    dropout : float, default=0.5
        Probability of dropping a unit of the first layer.
    """

    def __init__(
        self, n_inputs: int, hidden: int, width: int, steps: int, *, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.BatchNorm1d(n_inputs), nn.Linear(n_inputs, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, width), nn.BatchNorm1d(width), nn.ReLU(),
        )  # fmt: skip
        self.step = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(steps))
        # A convolution of size 1 over the states, which are its channels: one weight per state.
        self.fusion = nn.Sequential(
            nn.Conv1d(steps + 1, 1, 1), nn.BatchNorm1d(1), nn.ReLU(), nn.Flatten()
        )
        self.last = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width))

    def states(self, x: Tensor) -> Tensor:
        """Return the state before the first step and after each, (b, steps + 1, width)."""
        state = self.first(x)
        found = [state]
        for norm in self.norms:
            state = state + F.relu(norm(self.step(state)))
            found.append(state)
        return torch.stack(found, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (b, n_inputs) to rows of length 1, (b, width)."""
        return F.normalize(self.last(self.fusion(self.states(x))), dim=1)


class RRFNetwork(nn.Module):
    """One `RRFBranch` per view.

    Parameters
    ----------
    n_inputs : mapping of str to int
        Width of the feature vectors by role.
    init_std : float, optional
        Standard deviation of the first weights of fully connected layers, around 0. By default
        those of `crossfit.neural.init_weights`.
    **branch
        Parameters of `RRFBranch`.

    Notes
    -----
    At first the fusion is the mean of the states.
    """

    def __init__(
        self, n_inputs: Mapping[str, int], *, init_std: float | None = None, **branch: Any
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(
            {role: RRFBranch(n, **branch) for role, n in n_inputs.items()}
        )
        init_weights(self)
        for part in self.modules():
            if isinstance(part, nn.Linear) and init_std is not None:
                nn.init.normal_(part.weight, std=init_std)
            elif isinstance(part, nn.Conv1d):
                nn.init.constant_(part.weight, 1 / part.in_channels)

    def encode(self, items: Items, view: str) -> Tensor:
        """Map items of one view to rows of length 1, (b, width)."""
        return self.branches[view](items.values)


class RRFNet(NeuralEstimator):
    r"""Recurrent residual fusion network (RRF-Net).

    A network per view has, above two layers, a residual block that is repeated with the same
    weights W and a batch normalisation :math:`B_t` of its own each time,

    .. math:: r_t = r_{t-1} + \mathrm{ReLU}(B_t(W r_{t-1})), \quad t = 1, ..., T.

    A convolution of size 1 fuses the states :math:`r_0, ..., r_T` into one, and a last layer maps
    it to vectors of length 1, which are compared by their dot product s.

    The loss ranks in both directions, and within the views. For a pair of an image i and a caption
    t it is, with :math:`p = s(i, t)` and wrong captions :math:`t^-` and images :math:`i^-`,

    .. math::

        \frac1k \sum_{t^-} w_1 [m - p + s(i, t^-)]_+ + w_2 [m - p + s(t, t^-)]_+
        + \frac1k \sum_{i^-} w_3 [m - p + s(i^-, t)]_+ + w_4 [m - p + s(i, i^-)]_+

    where the sums are over up to k items of the batch: those nearest to the anchor, i or t, among
    the wrong ones that violate the margin m, that is, for which the first hinge of the sum is
    positive. The hinge between items of one view is for the same items. The loss is the mean over
    the pairs of a batch. Rows of one group, such as the captions of an image, are never wrong for
    each other.

    The defaults are for a few thousand pairs; see Notes for the paper's settings.

    Parameters
    ----------
    hidden : int, default=512
        Width of the first layer, with ReLU and dropout.
    width : int, default=128
        Width of the second layer, the states and the common space.
    steps : int, default=3
        Number T of residual steps; 0 for fully connected layers alone.
    margin : float, default=0.2
        Margin m, in units of the dot product.
    k_negatives : int, default=50
        Largest number k of wrong items per anchor.
    weights : sequence of 4 floats, default=(1.0, 0.5, 2.0, 1.0)
        Weights of the hinges, from :math:`w_1` to :math:`w_4`.
    dropout : float, default=0.5
        Probability of dropping a unit of the first layer.
    init_std : float, optional
        Standard deviation of the first weights; by default they are those of
        `crossfit.neural.init_weights`.
    lr_step : int or None, default=None
        Number of updates after which the learning rate is divided by ten, repeatedly; None for a
        constant rate.
    max_epochs : int, default=30
        Number of passes over the training pairs.
    lr : float, default=0.003
        Learning rate.
    batch_size : int, default=100
        Number of pairs per batch.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        Its history contains the four terms, with their weights: ``train_image2text``,
        ``train_text2text``, ``train_text2image`` and ``train_image2image``.

    Notes
    -----
    The paper's code has layers of 2048 and 512 units, three steps, a margin of .1,
    up to 50 negatives, first weights with a deviation of .05, and SGD with momentum .9, weight
    decay .0005, batches of 1,500 pairs and a learning rate of .1 that is divided by ten after every
    2,000 of 6,500 updates (Flickr30K) or 5,500 of 16,500 (COCO). These settings are in the
    experiments ``liu-2017-rrf-net-flickr30k`` and ``liu-2017-rrf-net-coco``.

    The fused state is one channel of a convolution, so that its batch normalisation has one mean
    and one variance, over the batch and all units.

    References
    ----------
    Y. Liu, Y. Guo, E. M. Bakker, M. S. Lew, Learning a recurrent residual fusion network for
    multimodal matching, ICCV 2017, 4107-4116.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_ranking.rrf_net import RRFNet
    >>> from crossfit_ranking.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 100)
    >>> method = RRFNet(hidden=32, width=8, max_epochs=5, device="cpu", random_state=0).fit(views)
    >>> method.transform(views)["text"].shape
    (100, 8)
    """

    card = cards.RRF_NET

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "batch_size": [Interval(Integral, 2, None, closed="left")],  # one pair has no negatives
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "steps": [Interval(Integral, 0, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="left")],
        "k_negatives": [Interval(Integral, 1, None, closed="left")],
        "weights": [list, tuple],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "init_std": [Interval(Real, 0, None, closed="neither"), None],
        "lr_step": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        *,
        hidden: int = 512,
        width: int = 128,
        steps: int = 3,
        margin: float = 0.2,
        k_negatives: int = 50,
        weights: Sequence[float] = (1.0, 0.5, 2.0, 1.0),
        dropout: float = 0.5,
        init_std: float | None = None,
        lr_step: int | None = None,
        max_epochs: int = 30,
        lr: float = 3e-3,
        batch_size: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_epochs=max_epochs, lr=lr, batch_size=batch_size, **kwargs)
        self.hidden = hidden
        self.width = width
        self.steps = steps
        self.margin = margin
        self.k_negatives = k_negatives
        self.weights = weights
        self.dropout = dropout
        self.init_std = init_std
        self.lr_step = lr_step

    def _validate_params(self) -> None:
        super()._validate_params()
        if len(self.weights) != 4 or any(
            not isinstance(w, Real) or isinstance(w, bool) or not 0 <= float(w) < float("inf")
            for w in self.weights
        ):
            raise ValueError(
                f"{self._name()}: weights must be four numbers of at least 0, got {self.weights!r}"
            )

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        check_groups(views, self._name())
        super()._fit(views, y)

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {
            "hidden": self.hidden,
            "width": self.width,
            "steps": self.steps,
            "dropout": self.dropout,
            "init_std": self.init_std,
        }
        return RRFNetwork(n_inputs, **{**settings, **module})

    def _schedule(self) -> list[Any]:
        if self.lr_step is None:
            return []
        return [LRScheduler(StepLR, step_size=self.lr_step, gamma=0.1, step_every="batch",
                            event_name=None)]  # fmt: skip

    def _loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        (one, x), (two, z) = outputs.items()
        terms = bi_rank_loss(x, z, batch.negatives, self.margin, self.k_negatives)
        names = (f"{one}2{two}", f"{two}2{two}", f"{two}2{one}", f"{one}2{one}")
        return {name: w * term for name, w, term in zip(names, self.weights, terms, strict=True)}


def bi_rank_loss(
    x: Tensor, z: Tensor, negatives: Tensor, margin: float, k_negatives: int
) -> list[Tensor]:
    """Return the four terms of the bi-rank loss, without their weights.

    Parameters
    ----------
    x, z : Tensor of shape (b, d)
        Rows of length 1 of the two views.
    negatives : bool Tensor of shape (b, b)
        Rows that are wrong for each other.
    margin : float
        Margin of the hinges.
    k_negatives : int
        Number k of wrong rows per anchor, and the divisor of their hinges.

    Returns
    -------
    list of Tensor of shape ()
        The terms :math:`w_1` to :math:`w_4` of `RRFNet`.
    """
    scores = x @ z.T
    base = margin - scores.diagonal()[:, None]
    terms = []
    for across, within in ((scores, z @ z.T), (scores.T, x @ x.T)):
        nearest, at = across.masked_fill(~negatives, -torch.inf).topk(
            min(k_negatives, len(scores)), dim=1
        )
        known = nearest > -torch.inf
        # Masked before the hinge, so that no infinity enters the gradient.
        first = hinge(base + nearest.masked_fill(~known, 0.0), known)
        second = hinge(base + within.gather(1, at), first > 0)
        terms += [each.sum() / (len(scores) * k_negatives) for each in (first, second)]
    return terms
