"""WSABIE: a linear embedding ranked by WARP (Weston, Bengio and Usunier, IJCAI 2011)."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from skorch.callbacks import Callback
from torch import Tensor, nn

from crossfit.cards import MethodCard
from crossfit.neural import Batch, HingeEstimator, Standardize, hinge
from crossfit_ranking import cards
from crossfit_ranking.draws import drawn, first_violations

__all__ = ["WSABIE", "MaxNorm", "WSABIENetwork", "rank_weights", "warp_loss"]


def rank_weights(n: int, kind: str = "harmonic") -> Tensor:
    r"""Return the weights L(0), ..., L(n) of the ranks of a matched item.

    Parameters
    ----------
    n : int
        Largest rank, which is the number of negatives.
    kind : {"harmonic", "rank", "constant"}, default="harmonic"
        :math:`L(k) = \sum_{i \le k} 1/i`, as in the paper, which stresses the top of the list; k,
        which is the mean rank; or 1. L(0) is 0.

    Returns
    -------
    float32 Tensor of shape (n + 1,)
    """
    ranks = torch.arange(n + 1, dtype=torch.float32)
    if kind == "constant":
        return (ranks > 0).float()
    return ranks if kind == "rank" else torch.cat([ranks[:1], (1 / ranks[1:]).cumsum(0)])


def warp_loss(
    scores: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    margin: float = 1.0,
    kind: str = "harmonic",
    sampled: bool = True,
) -> Tensor:
    r"""Return the weighted approximate-rank pairwise (WARP) loss of the rows.

    ``sampled``: negatives of a row are drawn, with replacement, until one violates the margin.
    If that is draw N of at most n, the number of negatives, the rank of the positive is about
    :math:`\lfloor n / N \rfloor`, and the loss is :math:`L(\lfloor n / N \rfloor)` times its
    hinge. Otherwise the rank r is the number of all negatives that violate the margin, and the
    loss L(r) times the mean of their hinges. Both are averaged over the positives.

    Parameters
    ----------
    scores : Tensor of shape (n, m)
        Similarities, higher is better.
    positives, negatives : bool Tensor of shape (n, m)
        True at the matching and at the wrong columns of each row.
    margin : float, default=1.0
        Margin, in units of the scores.
    kind : {"harmonic", "rank", "constant"}, default="harmonic"
        See `rank_weights`.
    sampled : bool, default=True
        Whether ranks are estimated from draws, from torch's random state.

    Returns
    -------
    Tensor of shape ()
        Zero if there are no positives.
    """
    row, column = positives.nonzero(as_tuple=True)
    positive, others, allowed = scores[row, column], scores[row], negatives[row]
    weights = rank_weights(scores.shape[1], kind).to(scores.device)
    if sampled:
        draws = drawn(allowed, replace=True)
        hinges, places = first_violations(positive, others, draws, margin)
        ranks = torch.where(places > 0, allowed.sum(dim=1) // places.clamp(min=1), 0)
        total = (weights[ranks] * hinges).sum()
    else:
        hinges = hinge(margin - positive[:, None] + others.masked_fill(~allowed, 0.0), allowed)
        ranks = (hinges.detach() > 0).sum(dim=1)
        total = (weights[ranks] * hinges.sum(dim=1) / ranks.clamp(min=1)).sum()
    return total / max(len(row), 1)


class MaxNorm(Callback):
    """Scale down the columns of the maps of a `WSABIENetwork` that are too long, after each update.

    Parameters
    ----------
    max_norm : float
        Largest norm C of a column.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **_: Any) -> None:
        """Project the columns of both maps."""
        if training:
            with torch.no_grad():
                for layer in net.module_.maps.values():
                    layer.weight.renorm_(2, 1, self.max_norm)


class WSABIENetwork(nn.Module):
    """One linear map per view, without bias.

    Parameters
    ----------
    n_inputs : dict of str to int
        Widths of the features.
    width : int
        Width of the common space.
    dropout : float
        Probability of dropping a feature.
    standardize : bool
        Whether features are standardised first, and divided by the root of their number.
    """

    def __init__(
        self, n_inputs: dict[str, int], *, width: int, dropout: float, standardize: bool
    ) -> None:
        super().__init__()
        self.scaling = nn.ModuleDict(
            {role: Standardize(n, role) for role, n in n_inputs.items() if standardize}
        )
        self.dropout = nn.Dropout(dropout)
        self.maps = nn.ModuleDict(
            {role: nn.Linear(n, width, bias=False) for role, n in n_inputs.items()}
        )
        for layer in self.maps.values():
            nn.init.normal_(layer.weight, std=width**-0.5)  # type: ignore[arg-type]

    def encode(self, items: Any, view: str) -> Tensor:
        """Return V x or W z, (b, width)."""
        x = items.values
        if view in self.scaling:
            # Items of norm 1 on average, so that scores have the size of the margin at first.
            x = self.scaling[view](x) * x.shape[1] ** -0.5
        return self.maps[view](self.dropout(x))


class WSABIE(HingeEstimator):
    r"""WSABIE: a linear embedding that ranks by the WARP loss.

    The score of an image x and a text z is :math:`f(x, z) = (V x)'(W z)`. For a matched pair,
    texts of other images are drawn until one violates the margin, :math:`f(x, \bar z) > f(x, z) -
    m`. If that is draw N of Y - 1, the rank of the text is about :math:`\lfloor (Y - 1) / N
    \rfloor`, and the loss

    .. math:: L(\lfloor (Y - 1) / N \rfloor) \, [m - f(x, z) + f(x, \bar z)]_+, \qquad
              L(k) = \sum_{i \le k} 1 / i,

    so that a text far down the list weighs more, but the step from rank 2 to rank 1 more than one
    further down. After each update the columns of V and W are scaled down to the norm C if they are
    longer. Another caption of the same image is never a negative.

    Negatives are drawn from the batch, whose pairs are all scored by one product of matrices;
    Y - 1 is their number. With ``sampled=False`` the ranks in the batch are exact, without draws.

    The defaults are for a few thousand pairs; see Notes for what the paper has.

    Parameters
    ----------
    width : int, default=256
        Width of the common space.
    max_norm : float, default=3.0
        Largest norm C of a column of V and W, which begin with norms of about 1.
    rank_weight : {"harmonic", "rank", "constant"}, default="harmonic"
        Weights L of the ranks: as above; k, which is the mean rank; or 1, a plain hinge.
    sampled : bool, default=True
        Whether ranks are estimated from draws, as in the paper. False averages the hinges of all
        negatives of the batch that violate the margin and weighs them by the exact rank.
    bidirectional : bool, default=True
        Also rank images for a text. The paper ranks texts (annotations) for an image alone.
    dropout : float, default=0.5
        Probability of dropping a feature; 0 in the paper.
    standardize : bool, default=True
        Subtract the training mean from every feature and divide it by its standard deviation and
        by the root of the number of features. Not in the paper.
    margin : float, default=1.0
        Margin m.
    clip : float or None, default=None
        Largest norm of the gradient.
    lr_step : int or None, default=10
        Number of epochs after which the learning rate is multiplied by `lr_gamma`, repeatedly.
    lr_gamma : float, default=0.1
        Factor of the learning rate.
    max_epochs : int, default=15
        Number of passes over the training pairs.
    lr : float, default=0.003
        Learning rate.
    batch_size : int, default=128
        Number of pairs per batch.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        Its history contains ``train_image2text`` and ``train_text2image``.

    See Also
    --------
    crossfit_ranking.devise.DeViSE : Text vectors are fixed, and a single violating negative counts.

    Notes
    -----
    The paper's texts are single annotations, each with a column of W of its own: pass indicators
    of the annotations. It draws negatives from all of them, and updates after each pair by
    stochastic gradient descent; here a batch of pairs is an update. Items are compared by the dot
    product, as in the loss. We have not read the paper's code; first weights have the standard
    deviation :math:`width^{-1/2}`.

    References
    ----------
    J. Weston, S. Bengio, N. Usunier, WSABIE: scaling up to large vocabulary image annotation,
    IJCAI 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_ranking.testing import make_inputs
    >>> from crossfit_ranking.wsabie import WSABIE
    >>> views, _ = make_inputs(np.random.default_rng(0), 60)
    >>> wsabie = WSABIE(width=16, max_epochs=2, random_state=0).fit(views)
    >>> wsabie.transform(views)["text"].shape
    (60, 16)
    """

    card: ClassVar[MethodCard | None] = cards.WSABIE

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HingeEstimator._parameter_constraints,
        "width": [Interval(Integral, 1, None, closed="left")],
        "max_norm": [Interval(Real, 0, None, closed="neither")],
        "rank_weight": [StrOptions({"harmonic", "rank", "constant"})],
        "sampled": ["boolean"],
        "bidirectional": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        *,
        width: int = 256,
        max_norm: float = 3.0,
        rank_weight: str = "harmonic",
        sampled: bool = True,
        bidirectional: bool = True,
        dropout: float = 0.5,
        standardize: bool = True,
        margin: float = 1.0,
        clip: float | None = None,
        lr_step: int | None = 10,
        lr_gamma: float = 0.1,
        max_epochs: int = 15,
        lr: float = 3e-3,
        batch_size: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            margin=margin,
            clip=clip,
            lr_step=lr_step,
            lr_gamma=lr_gamma,
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            **kwargs,
        )
        self.width = width
        self.max_norm = max_norm
        self.rank_weight = rank_weight
        self.sampled = sampled
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.standardize = standardize

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {
            "width": self.width, "dropout": self.dropout, "standardize": self.standardize,
        }  # fmt: skip
        return WSABIENetwork(n_inputs, **{**settings, **module})

    def _schedule(self) -> list[Any]:
        return [*super()._schedule(), MaxNorm(self.max_norm)]

    def _own_similarity(self) -> str:
        return "dot"

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        scores, positives, negatives = self._scores(outputs), batch.positives, batch.negatives
        settings: dict[str, Any] = {
            "margin": self.margin, "kind": self.rank_weight, "sampled": self.sampled,
        }  # fmt: skip
        terms = {"image2text": warp_loss(scores, positives, negatives, **settings)}
        if self.bidirectional:
            terms["text2image"] = warp_loss(scores.T, positives.T, negatives.T, **settings)
        return terms
