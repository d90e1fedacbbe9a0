"""PCME++: probabilistic embeddings with a distance in closed form (Chun, ICLR 2024)."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit import Ragged, Views
from crossfit.neural import Batch, Items, NeuralEstimator, in_float64
from crossfit.views import as_numpy
from crossfit_heads import cards
from crossfit_heads.contrastive import BRANCHES, Branch, mixed

__all__ = ["PCMEpp", "PCMEppNetwork", "distances", "divergence", "match_loss", "pseudo_matches"]


class PCMEpp(NeuralEstimator):
    r"""PCME++: items as normal distributions, matched by a distance in closed form.

    Two heads on the features of an item give the mean :math:`\mu`, of unit length, and the
    variances :math:`\sigma^2` of a normal distribution. The distance of two items is the mean
    squared distance of two points that are drawn from their distributions,

    .. math::

        d(x, z) = \|\mu_x - \mu_z\|^2 + \sum_k (\sigma_{x,k}^2 + \sigma_{z,k}^2),

    and they match with probability :math:`\mathrm{sigmoid}(-a\,d + b)` with learnt a and b: the
    larger its variances, the less probable every match of an item. The loss is the binary
    cross-entropy over all pairs of a batch; plus, times `pseudo_weight`, the one in which every
    pair that is not farther apart than a true match of the same image is a match too; plus, times
    `vib_weight`, the Kullback-Leibler divergence of the distributions from the standard one, which
    keeps the variances from vanishing. All captions of an image are its matches.

    The common space has the mean and one more coordinate per view: the root of the sum of the
    variances of an item is in the coordinate of its view, and zero is in the other one. The
    squared Euclidean distance of an image and a text is then :math:`d`, so that any index of
    Euclidean distances ranks by it. For a given query its own variance is the same for all
    items: which of them rank high depends on the variance of the items, not of the query.

    Parameters
    ----------
    width : int, default=256
        Width of the means.
    branch : {"linear", "mlp", "gated"}, default="linear"
        Head of the mean; see `crossfit_heads.contrastive.Branch`. That of the variances is linear,
        or has a perceptron too with ``"mlp"``.
    hidden : int, default=512
        Width of the hidden layer of ``branch="mlp"``.
    dropout : float, default=0.1
        Probability of dropping a feature, and a hidden unit.
    standardize : bool, default=True
        Whether to scale features to mean 0 and variance 1 over the training items.
    scale : float, default=10.0
        First value of a.
    shift : float, default=10.0
        First value of b.
    first_variance : float, default=0.1
        Sum of the variances of an item before training.
    pseudo_weight : float, default=0.1
        Weight of the loss with pseudo-matches.
    pseudo_from : int, default=6
        Number of epochs before the loss with pseudo-matches begins. It begins at once in the paper,
        whose encoders are pretrained together: where true matches are still far apart, almost
        every pair is a pseudo-match.
    vib_weight : float, default=0.01
        Weight of the divergence from the standard normal distribution.
    mixup : float, default=0.0
        Share of the images of a batch whose features are mixed with those of another image of it.
        What a mixed image matches is weighted in the same way. The paper mixes pixels, of 0.25.
    mixup_alpha : float, default=1.0
        Parameter of the beta distribution of the weights of mixed images.
    max_epochs : int, default=10
        Number of passes over the training pairs.
    lr : float, default=0.001
        Learning rate.
    batch_size : int, default=128
        Number of pairs per batch.
    optimizer : str or type, default="AdamW"
        Name of a class in `torch.optim`, or such a class.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        Its history contains ``train_match``, ``train_pseudo`` and ``train_vib``; ``valid_loss`` is
        without the loss with pseudo-matches.

    References
    ----------
    S. Chun, Improved probabilistic image-text representations, ICLR 2024, arXiv:2305.18171.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_heads.pcmepp import PCMEpp
    >>> from crossfit_heads.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 100)
    >>> method = PCMEpp(width=8, max_epochs=5, batch_size=50, random_state=0).fit(views)
    >>> method.transform(views)["image"].shape
    (100, 10)
    >>> method.explain(views)["text"].lengths[:3].tolist()
    [1, 1, 1]
    """

    card = cards.PCMEPP
    # It begins during training, and losses on held-out pairs are compared between epochs.
    _only_shown: ClassVar[tuple[str, ...]] = ("pseudo",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "width": [Interval(Integral, 1, None, closed="left")],
        "branch": [StrOptions(set(BRANCHES))],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "scale": [Interval(Real, 0, None, closed="neither")],
        "shift": [Interval(Real, None, None, closed="neither")],
        "first_variance": [Interval(Real, 0, None, closed="neither")],
        "pseudo_weight": [Interval(Real, 0, None, closed="left")],
        "pseudo_from": [Interval(Integral, 0, None, closed="left")],
        "vib_weight": [Interval(Real, 0, None, closed="left")],
        "mixup": [Interval(Real, 0, 1, closed="both")],
        "mixup_alpha": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        width: int = 256,
        branch: str = "linear",
        hidden: int = 512,
        dropout: float = 0.1,
        standardize: bool = True,
        scale: float = 10.0,
        shift: float = 10.0,
        first_variance: float = 0.1,
        pseudo_weight: float = 0.1,
        pseudo_from: int = 6,
        vib_weight: float = 0.01,
        mixup: float = 0.0,
        mixup_alpha: float = 1.0,
        max_epochs: int = 10,
        lr: float = 1e-3,
        batch_size: int = 128,
        optimizer: str | type[torch.optim.Optimizer] = "AdamW",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            max_epochs=max_epochs, lr=lr, batch_size=batch_size, optimizer=optimizer, **kwargs
        )
        self.width = width
        self.branch = branch
        self.hidden = hidden
        self.dropout = dropout
        self.standardize = standardize
        self.scale = scale
        self.shift = shift
        self.first_variance = first_variance
        self.pseudo_weight = pseudo_weight
        self.pseudo_from = pseudo_from
        self.vib_weight = vib_weight
        self.mixup = mixup
        self.mixup_alpha = mixup_alpha

    # ---- the network and its loss --------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {
            "width": self.width,
            "branch": self.branch,
            "hidden": self.hidden,
            "dropout": self.dropout,
            "standardize": self.standardize,
            "scale": self.scale,
            "shift": self.shift,
            "first_variance": self.first_variance,
        }
        return PCMEppNetwork(n_inputs, **{**settings, **module})

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, Any]:
        """Return means and logarithms of variances by role, and the shares of mixed images."""
        assert isinstance(module, PCMEppNetwork)
        found: dict[str, Any] = {}
        for role, items in batch.views.items():
            if role == "image" and self.mixup and module.training:
                partner, share = self._mixed(batch)
                items = Items(mixed(items.values, share, partner))
                found["mixed"] = partner, share
            found[role] = module(items, role)
        return found

    def _mixed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the partner of each row, and the share that the row's own image keeps."""
        n, device = len(batch), batch.groups.device
        amount = torch.full((n,), float(self.mixup_alpha), device=device)
        share = torch.distributions.Beta(amount, amount).sample()
        chosen = torch.arange(n, device=device) < round(self.mixup * n)
        return torch.randperm(n, device=device), torch.where(chosen, share, 1.0)

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        module = self.net_.module_
        (mean, log_var), (other_mean, other_log_var) = outputs["image"], outputs["text"]
        apart = distances(mean, log_var, other_mean, other_log_var)
        logits = module.shift - module.scale * apart
        targets = batch.positives.to(logits.dtype)
        # Rows of a group that do not share an item are neither matches nor wrong.
        counted = batch.positives | batch.negatives
        pure = torch.ones(len(batch), dtype=torch.bool, device=logits.device)
        if "mixed" in outputs:
            partner, share = outputs["mixed"]
            targets = share[:, None] * targets + (1 - share[:, None]) * targets[partner]
            pure = share == 1
            counted = counted & (counted[partner] | pure[:, None])
        terms = {"match": match_loss(logits, targets, counted)}
        if self.pseudo_weight and round(batch.progress * self.max_epochs) >= self.pseudo_from:
            near = pseudo_matches(apart.detach(), batch.positives)
            loss = match_loss(logits, near.to(logits.dtype), counted & pure[:, None])
            terms["pseudo"] = self.pseudo_weight * loss
        if self.vib_weight:
            total = divergence(mean, log_var) + divergence(other_mean, other_log_var)
            terms["vib"] = self.vib_weight * total.mean()
        return terms

    def _encode_batch(self, module: nn.Module, items: Any, view: str) -> Tensor:
        assert isinstance(module, PCMEppNetwork)
        mean, log_var = module.in_float64(items, view)
        spread = log_var.exp().sum(dim=1, keepdim=True).sqrt()
        columns = [spread if role == view else torch.zeros_like(spread) for role in self._roles()]
        return torch.cat([mean, *columns], dim=1)

    def _own_similarity(self) -> str:
        return "l2"

    # ---- variances -----------------------------------------------------------------------------

    def explain(self, X: Any, Y: Any = None) -> Any:
        """Return the variance of every item: the larger, the less probable its matches.

        Parameters
        ----------
        X : Views, or images
            Any subset of the modalities of the fit.
        Y : texts, optional

        Returns
        -------
        Views, or Ragged, or a pair of Ragged
            In the form of the input: Views, X alone, or X and Y. A row has one number, the sum of
            the variances of the item, and ``info["quantity"]`` is ``"variance"``.
        """
        check_is_fitted(self, "views_in_")
        if isinstance(X, Views):
            if Y is not None:
                raise TypeError(f"{self._name()}.explain expects Views alone or (X, Y), got both")
            return self.fitted_views(X).map(self._variance)
        image, text = self.views_in_.values()
        variance = self._variance(X, image)
        return variance if Y is None else (variance, self._variance(Y, text))

    def _variance(self, values: Any, name: str) -> Ragged:
        role = self._role_of(name)
        encoded = as_numpy(self._encode(self._checked_values(values, role), role))
        # All but one of the coordinates after the mean are zero.
        total = np.square(encoded[:, self.net_.module_.width :]).sum(axis=1)
        return Ragged(total, np.arange(len(total) + 1), {"quantity": "variance"})


class PCMEppNetwork(nn.Module):
    """Two heads per view, and the scale and shift of the logits.

    Parameters
    ----------
    n_inputs : dict of str to int
        Width of the features of each view.
    width : int
        Width of the means.
    branch : {"linear", "mlp", "gated"}
        Kind of the heads.
    scale, shift : float
        First values of a and b.
    first_variance : float
        Sum of the variances of an item before training.
    **settings
        `hidden`, `dropout` and `standardize` of `Branch`.
    """

    def __init__(
        self,
        n_inputs: dict[str, Any],
        *,
        width: int,
        branch: str,
        scale: float,
        shift: float,
        first_variance: float,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.width = width
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.shift = nn.Parameter(torch.tensor(float(shift)))
        self.means, self.log_vars = nn.ModuleDict(), nn.ModuleDict()
        for role, n in n_inputs.items():
            self.means[role] = Branch(n, width, role, kind=branch, **settings)
            kind = "linear" if branch == "gated" else branch
            head = Branch(n, width, role, kind=kind, **settings)
            # All items have the same variances at first.
            head.start_from(torch.zeros(n, width).double(), torch.zeros(n).double())
            nn.init.constant_(head.layers.linear.bias, math.log(first_variance / width))
            self.log_vars[role] = head

    def forward(self, items: Items, role: str) -> tuple[Tensor, Tensor]:
        """Return means (b, width), of unit length, and logarithms of variances (b, width)."""
        mean = F.normalize(self.means[role](items.values), dim=1)
        return mean, self.log_vars[role](items.values)

    def in_float64(self, items: Items, role: str) -> tuple[Tensor, Tensor]:
        """Return the same in float64, so that equal items have equal outputs in any batch."""
        heads: Any = self.means[role], self.log_vars[role]
        mean, log_var = (
            in_float64(head.layers, head.scaling(items.values.double())) for head in heads
        )
        return F.normalize(mean, dim=1), log_var


# ---- the loss ------------------------------------------------------------------------------------


def distances(mean: Tensor, log_var: Tensor, other_mean: Tensor, other_log_var: Tensor) -> Tensor:
    r"""Return the mean squared distances of points drawn from normal distributions.

    In closed form, :math:`\|\mu - \mu'\|^2 + \sum_k (\sigma_k^2 + \sigma_k'^2)`.

    Parameters
    ----------
    mean, log_var : Tensor of shape (n, d)
        Means, and logarithms of the variances.
    other_mean, other_log_var : Tensor of shape (m, d)

    Returns
    -------
    Tensor of shape (n, m)
    """
    squares = mean.square().sum(dim=1)[:, None] + other_mean.square().sum(dim=1)
    between = (squares - 2 * mean @ other_mean.T).clamp(min=0)
    return between + log_var.exp().sum(dim=1)[:, None] + other_log_var.exp().sum(dim=1)


def match_loss(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """Return the binary cross-entropy of matches, averaged over some of the pairs.

    Parameters
    ----------
    logits, targets : Tensor of shape (n, m)
        Logits of the probability of a match, and the probability that they should have.
    counted : bool Tensor of shape (n, m)
        Pairs that count.

    Returns
    -------
    Tensor of shape ()
        Zero if no pair counts.
    """
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (losses * counted).sum() / counted.sum().clamp(min=1)


def pseudo_matches(apart: Tensor, positives: Tensor) -> Tensor:
    """Return which texts are not farther from an image than one of its true matches.

    Parameters
    ----------
    apart : Tensor of shape (n, m)
        Distances of images and texts.
    positives : bool Tensor of shape (n, m)
        True matches, at least one in every row.

    Returns
    -------
    bool Tensor of shape (n, m)
        True at true matches too.
    """
    farthest = apart.masked_fill(~positives, -torch.inf).amax(dim=1, keepdim=True)
    return apart <= farthest


def divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    r"""Return the divergence of normal distributions from the standard one, per coordinate.

    :math:`\frac{1}{2d} \sum_k (\sigma_k^2 + \mu_k^2 - 1 - \log \sigma_k^2)`.

    Parameters
    ----------
    mean, log_var : Tensor of shape (n, d)
        Means, and logarithms of the variances.

    Returns
    -------
    Tensor of shape (n,)
    """
    return (log_var.exp() + mean.square() - 1 - log_var).mean(dim=1) / 2
