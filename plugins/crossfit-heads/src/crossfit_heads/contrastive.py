"""ContrastiveHead: maps of the features of frozen encoders, trained by a contrastive loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from itertools import combinations
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils._param_validation import Interval, StrOptions
from skorch.callbacks import Callback, EarlyStopping
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from crossfit.cards import MethodCard
from crossfit.neural import (
    Batch,
    NeuralEstimator,
    Standardize,
    in_float64,
    init_weights,
    triplet_loss,
)
from crossfit.neural.training import optimizer_class
from crossfit.subspace import CCA
from crossfit.views import Views
from crossfit_heads import cards
from crossfit_heads.losses import (
    barlow_loss,
    info_nce,
    sigmoid_loss,
    structure_loss,
    vicreg_loss,
)

__all__ = ["Branch", "ContrastiveHead", "Heads", "MemoryBank", "OneCycle"]

BRANCHES = ("linear", "mlp", "gated")
# Losses that compare each item with those of other pairs, by their cosines.
RANKING = ("infonce", "sigmoid", "hardest")
LOSSES = (*RANKING, "vicreg", "barlow")
# First temperatures.
_TEMPERATURES = {"infonce": 0.07, "sigmoid": 0.1}
# Largest inverse temperature.
_MOST = 100.0
# With at least so many groups, two are held out where the fraction is less.
_FEW = 5
# Share of the epochs in which the hinges of "hardest" are summed over all negatives.
_SUMMED = 0.25


class Branch(nn.Module):
    """The head of one view.

    Parameters
    ----------
    n_inputs : int
        Number of features.
    width : int
        Number of outputs.
    view : str
        Role of the view, for `crossfit.neural.Standardize`.
    kind : {"linear", "mlp", "gated"}, default="linear"
        A linear map; a linear map plus a perceptron, which has layer normalisation, a hidden layer
        with GELU, and dropout; or a linear map whose outputs are multiplied by the logistic
        function of another one.
    hidden : int, default=512
        Width of the hidden layer.
    dropout : float, default=0.0
        Probability of dropping a feature, and a hidden unit.
    standardize : bool, default=True
        Whether the features are standardised first.
    """

    def __init__(
        self,
        n_inputs: int,
        width: int,
        view: str,
        *,
        kind: str = "linear",
        hidden: int = 512,
        dropout: float = 0.0,
        standardize: bool = True,
    ) -> None:
        super().__init__()
        self.scaling = Standardize(n_inputs, view) if standardize else nn.Identity()
        self.layers = _Layers(n_inputs, width, kind, hidden, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map features to the outputs.

        Parameters
        ----------
        x : Tensor of shape (b, n_inputs)

        Returns
        -------
        Tensor of shape (b, width)
        """
        return self.layers(self.scaling(x))

    def start_from(self, weights: Tensor, mean: Tensor) -> None:
        """Set first weights with which the direction of the outputs is that of a linear map.

        Parameters
        ----------
        weights : float64 Tensor of shape (n_inputs, width)
            The matrix of the map of unscaled features.
        mean : float64 Tensor of shape (n_inputs,)
            Subtracted from the features.
        """
        if isinstance(self.scaling, Standardize):
            own, scale = self.scaling.mean.double().cpu(), self.scaling.scale.double().cpu()
        else:
            own, scale = torch.zeros_like(mean), torch.ones_like(mean)
        layers = self.layers
        with torch.no_grad():
            layers.linear.weight.copy_((scale[:, None] * weights).T)
            layers.linear.bias.copy_((own - mean) @ weights)
            # The perceptron adds nothing, or all gates are equal.
            last = layers.perceptron[-1] if layers.perceptron is not None else layers.gate
            if last is not None:
                nn.init.zeros_(last.weight)  # type: ignore[arg-type]
                nn.init.zeros_(last.bias)  # type: ignore[arg-type]


class _Layers(nn.Module):
    def __init__(self, n_inputs: int, width: int, kind: str, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(n_inputs, width)
        self.perceptron: nn.Sequential | None = None
        self.gate: nn.Linear | None = None
        if kind == "mlp":
            self.perceptron = nn.Sequential(
                nn.LayerNorm(n_inputs), nn.Linear(n_inputs, hidden), nn.GELU(),
                nn.Dropout(dropout), nn.Linear(hidden, width),
            )  # fmt: skip
        elif kind == "gated":
            self.gate = nn.Linear(n_inputs, width)
        init_weights(self, "linear")

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        if self.perceptron is not None:
            return self.linear(x) + self.perceptron(x)
        return self.linear(x) if self.gate is None else self.linear(x) * self.gate(x).sigmoid()


class MemoryBank(nn.Module):
    """The outputs of the latest pairs of training, which serve as further negatives.

    Parameters
    ----------
    size : int
        Largest number of pairs.
    n_views : int
        Number of views.
    width : int
        Number of outputs.
    """

    outputs: Tensor
    groups: Tensor
    counts: Tensor

    def __init__(self, size: int, n_views: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("outputs", torch.zeros(n_views, size, width))
        # A pair that is mixed from two has two groups.
        self.register_buffer("groups", torch.full((size, 2), -1))
        # The number of pairs, and the place of the next one.
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))

    def content(self) -> tuple[Tensor, Tensor]:
        """Return copies of the outputs, shape (n_views, n, width), and the groups, (n, 2)."""
        n = int(self.counts[0])
        return self.outputs[:, :n].clone(), self.groups[:n].clone()

    def add(self, outputs: Sequence[Tensor], groups: Tensor) -> None:
        """Add pairs in place of the oldest ones.

        Parameters
        ----------
        outputs : sequence of Tensor of shape (b, width)
            Those of each view.
        groups : int64 Tensor of shape (b, 2)
            The groups of each pair.
        """
        new = torch.stack([part.detach() for part in outputs])[:, -self.size :]
        n, place = self.counts.tolist()
        at = (place + torch.arange(new.shape[1], device=new.device)) % self.size
        self.outputs[:, at] = new.to(self.outputs.dtype)
        self.groups[at] = groups[-self.size :]
        self.counts[0] = min(n + len(at), self.size)
        self.counts[1] = (place + len(at)) % self.size


class Heads(nn.Module):
    """One `Branch` per view, the temperature, and the memory bank.

    Parameters
    ----------
    branches : mapping of str to Branch
        By role, in order.
    scale : float, optional
        First inverse temperature, for losses that have one.
    bias : float, optional
        First bias of the sigmoid loss.
    bank : MemoryBank, optional
        Further negatives.
    """

    def __init__(
        self,
        branches: Mapping[str, Branch],
        scale: float | None = None,
        bias: float | None = None,
        bank: MemoryBank | None = None,
    ) -> None:
        super().__init__()
        self.roles = tuple(branches)
        # Not a dict of modules: a view may have any name.
        self.branches = nn.ModuleList(branches.values())
        logarithm = None if scale is None else torch.tensor(math.log(scale))
        self.log_scale = None if logarithm is None else nn.Parameter(logarithm)
        self.bias = None if bias is None else nn.Parameter(torch.tensor(bias))
        self.bank = bank

    def branch(self, view: str) -> Any:
        """Return the branch of a role.

        Parameters
        ----------
        view : str
            The role.
        """
        return self.branches[self.roles.index(view)]

    def scale(self) -> Tensor | float:
        """Return the inverse temperature, at most 100; 1 for losses without one."""
        if self.log_scale is None:
            return 1.0
        if self.training:
            # As in CLIP, the parameter itself is limited, so that it can decrease again.
            self.log_scale.data.clamp_(max=math.log(_MOST))
        return self.log_scale.clamp(max=math.log(_MOST)).exp()


@dataclass(frozen=True)
class Pairing:
    """Which rows of a batch belong together.

    Parameters
    ----------
    groups : int64 Tensor of shape (b, 2)
        Groups of each row: two if it is mixed from two rows, else the same twice.
    items : int64 Tensor of shape (b, n_views), or None
        Item of each view in each row, -1 if the row is mixed. None if no row shares a group with
        another one.
    bank : int64 Tensor of shape (m, 2), or None
        Groups of the pairs of the memory bank.
    """

    groups: Tensor
    items: Tensor | None
    bank: Tensor | None

    def masks(self, rows: slice) -> tuple[Tensor | None, Tensor | None]:
        """Return positives and negatives of some rows among the whole batch and the bank.

        Parameters
        ----------
        rows : slice
            The rows.

        Returns
        -------
        tuple of (bool Tensor of shape (n, b + m) or None, bool Tensor of shape (n, b + m) or None)
            None for the pairs of the rows, and all others.
        """
        own, bank = self.groups[rows], self.bank
        if bank is None and self.items is None:
            return None, None
        others = self.groups if bank is None else torch.cat([self.groups, bank])
        negatives = ~_share(own, others)
        positives = torch.zeros_like(negatives)
        positives.diagonal(rows.start).fill_(True)
        if self.items is not None:
            b = len(self.groups)
            for items in self.items.T:
                mine = items[rows, None]
                positives[:, :b] |= (mine == items) & (mine >= 0)
        return positives, negatives


def _share(first: Tensor, second: Tensor) -> Tensor:
    """Return whether rows have a group in common, (n, m)."""
    found = first[:, :1] == second[:, 0]
    if bool((first[:, 0] != first[:, 1]).any()) or bool((second[:, 0] != second[:, 1]).any()):
        for i, j in ((0, 1), (1, 0), (1, 1)):
            found |= first[:, i, None] == second[:, j]
    return found


class OneCycle(Callback):
    """Raise the learning rate from a 25th to the given one, then lower it to almost zero.

    Half a cosine up over the first share of the updates, half a cosine down over the others. It has
    no state: the rate depends on the number of the update alone.

    Parameters
    ----------
    rise : float, default=0.3
        Share of the updates in which the rate rises.

    References
    ----------
    L. Smith, N. Topin, Super-convergence: very fast training of neural networks using large
    learning rates, 2019; as in ``torch.optim.lr_scheduler.OneCycleLR``.
    """

    def __init__(self, rise: float = 0.3) -> None:
        self.rise = rise

    def factor(self, share: float) -> float:
        """Return the factor of the learning rate.

        Parameters
        ----------
        share : float
            Share of the updates that are done, in [0, 1].

        Returns
        -------
        float
        """
        first, last = 1 / 25, 1 / 25e4
        if share < self.rise:
            return 1 + (first - 1) * (1 + math.cos(math.pi * share / self.rise)) / 2
        done = (share - self.rise) / (1 - self.rise)
        return last + (1 - last) * (1 + math.cos(math.pi * done)) / 2

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Remember the given learning rates and the number of updates per epoch.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that is trained.
        X : PairData
            The training pairs.
        y : object
            Unused.
        **kwargs
            Unused.
        """
        self._rates = [group["lr"] for group in net.optimizer_.param_groups]
        self._per_epoch = len(net.get_iterator(X, training=True))

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Count the updates of the epoch from 0.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that is trained.
        **kwargs
            Unused.
        """
        self._done = (len(net.history) - 1) * self._per_epoch

    def on_batch_begin(
        self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Set the learning rates of the next update.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that is trained.
        batch : Batch
            Unused.
        training : bool, default=False
            Whether it is a batch of training; the others have no effect.
        **kwargs
            Unused.
        """
        if training:
            last = max(net.max_epochs * self._per_epoch - 1, 1)
            factor = self.factor(min(self._done / last, 1.0))
            for group, rate in zip(net.optimizer_.param_groups, self._rates, strict=True):
                group["lr"] = rate * factor
            self._done += 1


class ContrastiveHead(NeuralEstimator):
    r"""Contrastive heads on features of frozen encoders.

    One map per view, a and b, is trained on features that stay as they are; items are compared by
    the cosine of their outputs. With the cosines :math:`s_{ij}` of x_i and z_j in a batch, the
    losses are

    - ``"infonce"``: the mean over both directions of the cross-entropy of :math:`s / \tau`, with a
      learnt temperature τ of at least .01 (CLIP);
    - ``"sigmoid"``: a decision for every two items, with a learnt temperature and bias (SigLIP);
    - ``"hardest"``: hinges on the hardest negative of both directions, or, in the first quarter of
      the epochs, on all negatives, without which it does not train (VSE++);
    - ``"vicreg"`` and ``"barlow"``: invariance of matched outputs, and outputs that are not
      correlated with each other. They have no negatives.

    With more than two views, the loss is the sum over all pairs of views.

    **Several captions per image.** Rows of one group, such as captions of one image, are never
    negatives of each other. With ``captions="soft"`` all of them are positives, with equal shares
    of the target; with ``captions="one"`` a batch keeps one of them, the first in its random order.

    **Early stopping.** A tenth of the groups is held out by default, and the weights with the
    lowest held-out loss are kept: heads overfit fast.

    Parameters
    ----------
    loss : {"infonce", "sigmoid", "hardest", "vicreg", "barlow"}, default="infonce"
        The loss.
    branch : {"linear", "mlp", "gated"}, default="linear"
        The maps: linear; linear plus a perceptron of one hidden layer with layer normalisation,
        GELU and dropout; or linear, multiplied by the logistic function of another linear map.
    width : int, default=512
        Number of outputs; at most as many as canonical components with ``init="cca"``.
    hidden : int, default=512
        Width of the hidden layer of ``"mlp"``.
    dropout : float, default=0.2
        Probability of dropping a feature, and a hidden unit.
    standardize : bool, default=True
        Standardise every feature by its training mean and standard deviation first.
    init : {"cca", "random"} or crossfit.subspace.CCA, default="cca"
        First weights: those with which items are ranked as by CCA, which is fitted to the training
        pairs with `cca_reg`; or random ones, which need more updates. A CCA that was fitted before,
        to the same features, is taken as it is; an unfitted one, such as `sklearn.base.clone`
        returns, is fitted.
    cca_reg : float or mapping of str to float, default=3.0
        Ridge of ``init="cca"``, relative to the mean variance of a view's columns, or one for each
        view by role or name.
    temperature : float, optional
        First temperature τ; .07 for InfoNCE and .1 for the sigmoid loss by default.
    bias : float, default=-10.0
        First bias of the sigmoid loss.
    margin : float, default=0.2
        Margin of ``"hardest"``.
    vicreg_weights : tuple of three floats, default=(25.0, 25.0, 1.0)
        Weights of invariance, variance and covariance of ``"vicreg"``.
    barlow_weight : float, default=0.005
        Weight of the squared correlations of different outputs of ``"barlow"``.
    mixup : float, default=0.0
        Parameter of the Beta distribution of the weights with which every pair is mixed with
        another one, the same weight for all views (FuseMix; 1 in its paper). 0 for none.
    structure : float, default=0.0
        Weight of the change of the neighbourhoods of each view, see
        `crossfit_heads.losses.structure_loss`.
    bank_size : int, default=0
        Number of earlier pairs whose outputs are further negatives; rows of the same group are
        left out.
    captions : {"soft", "one"}, default="soft"
        Whether all rows of a group are positives of each other, or one of them is in a batch.
    chunk_size : int, optional
        Number of rows whose activations and scores are in memory at once (gradient caching). The
        gradients are those of the whole batch; an update computes them twice. Without effect on
        ``"vicreg"``, ``"barlow"`` and `structure`, apart from the activations.
    weight_decay : float, default=0.01
        Weight decay of the matrices, if the optimizer has one.
    schedule : {"one-cycle"} or None, default="one-cycle"
        Schedule of the learning rate: up to `lr` in the first 30 % of the updates, then down to
        zero. None for a constant one, or for schedules among the callbacks.
    patience : int or None, default=5
        Number of epochs without a lower held-out loss after which training stops. None for all
        epochs, and the weights of the last one.
    max_epochs : int, default=20
        Largest number of passes over the training pairs. 0 leaves the first weights.
    lr : float, default=0.001
        Largest learning rate.
    batch_size : int, default=512
        Number of pairs per batch; all of them if there are fewer.
    optimizer : str or type, default="AdamW"
        Name of a class in `torch.optim`, or such a class.
    validation_fraction : float or None, default=0.1
        Share of the groups, at least two, that is held out for early stopping. None for no early
        stopping.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    n_outputs_ : int
        Number of outputs.
    net_ : skorch.NeuralNet
        Its history contains ``train_contrast``, ``train_structure`` if there is such a term, and
        ``valid_contrast``, which does not include mixed pairs or the bank.

    Raises
    ------
    ValueError
        In `fit`, if a memory bank is combined with a loss without negatives, or the fitted CCA has
        other views or numbers of features.

    See Also
    --------
    crossfit.subspace.CCA : The closed-form method to compare with.

    Notes
    -----
    On a few thousand pairs a head is about as good as CCA with a tuned ridge; it pays off with more
    pairs, or together with CCA.

    References
    ----------
    InfoNCE with a learnt temperature: A. Radford et al., Learning transferable visual models from
    natural language supervision, ICML 2021. Sigmoid: X. Zhai et al., ICCV 2023. Hardest: F. Faghri
    et al., VSE++, BMVC 2018. VICReg: A. Bardes et al., ICLR 2022. Barlow Twins: J. Zbontar et al.,
    ICML 2021. FuseMix: N. Vouitsis et al., Data-efficient multimodal fusion on a single GPU, CVPR
    2024. STRUCTURE: F. Gröger et al., NeurIPS 2025. Gradient caching: L. Gao et al., Scaling deep
    contrastive learning batch size under memory limited setup, RepL4NLP 2021. Memory bank: X. Wang
    et al., Cross-batch memory for embedding learning, CVPR 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_heads.contrastive import ContrastiveHead
    >>> from crossfit_heads.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 200)
    >>> head = ContrastiveHead(width=16, lr=1e-2, random_state=0).fit(views)
    >>> head.transform(views)["text"].shape  # at most as many as CCA has
    (200, 14)
    """

    card: ClassVar[MethodCard | None] = cards.CONTRASTIVE_HEAD

    # Schedule and the first quarter of "hardest" depend on the share of max_epochs.
    _neutral: ClassVar[tuple[str, ...]] = tuple(
        name for name in NeuralEstimator._neutral if name != "max_epochs"
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "loss": [StrOptions(set(LOSSES))],
        "branch": [StrOptions(set(BRANCHES))],
        "width": [Interval(Integral, 1, None, closed="left")],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "init": [StrOptions({"random", "cca"}), CCA],
        "cca_reg": [Interval(Real, 0, None, closed="left"), dict],
        "temperature": [Interval(Real, 0, None, closed="neither"), None],
        "bias": [Interval(Real, None, None, closed="neither")],
        "margin": [Interval(Real, 0, None, closed="neither")],
        "vicreg_weights": [tuple],
        "barlow_weight": [Interval(Real, 0, None, closed="left")],
        "mixup": [Interval(Real, 0, None, closed="left")],
        "structure": [Interval(Real, 0, None, closed="left")],
        "bank_size": [Interval(Integral, 0, None, closed="left")],
        "captions": [StrOptions({"soft", "one"})],
        "chunk_size": [Interval(Integral, 1, None, closed="left"), None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "schedule": [StrOptions({"one-cycle"}), None],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
    }

    n_outputs_: int

    def __init__(
        self,
        *,
        loss: str = "infonce",
        branch: str = "linear",
        width: int = 512,
        hidden: int = 512,
        dropout: float = 0.2,
        standardize: bool = True,
        init: str | CCA = "cca",
        cca_reg: float | Mapping[str, float] = 3.0,
        temperature: float | None = None,
        bias: float = -10.0,
        margin: float = 0.2,
        vicreg_weights: tuple[float, float, float] = (25.0, 25.0, 1.0),
        barlow_weight: float = 0.005,
        mixup: float = 0.0,
        structure: float = 0.0,
        bank_size: int = 0,
        captions: str = "soft",
        chunk_size: int | None = None,
        weight_decay: float = 0.01,
        schedule: str | None = "one-cycle",
        patience: int | None = 5,
        max_epochs: int = 20,
        lr: float = 1e-3,
        batch_size: int = 512,
        optimizer: str | type[torch.optim.Optimizer] = "AdamW",
        validation_fraction: float | None = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            optimizer=optimizer,
            validation_fraction=validation_fraction,
            **kwargs,
        )
        self.loss = loss
        self.branch = branch
        self.width = width
        self.hidden = hidden
        self.dropout = dropout
        self.standardize = standardize
        self.init = init
        self.cca_reg = cca_reg
        self.temperature = temperature
        self.bias = bias
        self.margin = margin
        self.vicreg_weights = vicreg_weights
        self.barlow_weight = barlow_weight
        self.mixup = mixup
        self.structure = structure
        self.bank_size = bank_size
        self.captions = captions
        self.chunk_size = chunk_size
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.patience = patience

    # ---- the network ---------------------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        width = self.n_outputs_
        settings = {
            "kind": self.branch,
            "hidden": self.hidden,
            "dropout": self.dropout,
            "standardize": self.standardize,
        }
        branches = {
            role: Branch(n, width, role, **{**settings, **module}) for role, n in n_inputs.items()
        }
        first = self.temperature or _TEMPERATURES.get(self.loss)
        tempered = self.loss in _TEMPERATURES
        return Heads(
            branches,
            scale=1 / first if tempered and first else None,
            bias=float(self.bias) if self.loss == "sigmoid" else None,
            bank=MemoryBank(self.bank_size, len(branches), width) if self.bank_size else None,
        )

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        self.n_outputs_ = self.width
        if self.init == "random":
            return
        cca = self._first_cca(views)
        self.n_outputs_ = min(self.width, int(cca.n_components_))
        self._cca = cca

    def _first_cca(self, views: Views) -> CCA:
        if not isinstance(self.init, CCA):
            reg = {role: self._of_view("cca_reg", role) for role in self.views_in_}
            return CCA(reg=reg).fit(views)
        if not hasattr(self.init, "views_in_"):
            return CCA(**self.init.get_params(deep=False)).set_params(views=None).fit(views)
        own = {role: views[role].shape[1] for role in self.views_in_}
        theirs = {role: self.init.n_features_in_.get(role) for role in self.init.views_in_}
        if own != theirs:
            raise ValueError(
                f"{self._name()}: init was fitted on views of columns {theirs}, the training pairs "
                f"have {own}; fit CCA to the same features"
            )
        return self.init

    def _first_weights(self, module: nn.Module, pairs: Any) -> None:
        cca = self.__dict__.pop("_cca", None)
        if cca is None:
            return
        assert isinstance(module, Heads)
        for role in module.roles:
            weights = np.asarray(cca.weights_[role], np.float64)[:, : self.n_outputs_]
            module.branch(role).start_from(
                torch.from_numpy(np.ascontiguousarray(weights)),
                torch.from_numpy(np.asarray(cca.means_[role], np.float64)),
            )

    # ---- the loss ------------------------------------------------------------------------------

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, Any]:
        assert isinstance(module, Heads)
        training = module.training
        values = {role: items.values for role, items in batch.views.items()}
        groups, items = batch.groups, torch.stack(list(batch.item.values()), dim=1)
        if self.captions == "one":
            kept = _first_rows(groups)
            values = {role: part[kept] for role, part in values.items()}
            groups, items = groups[kept], items[kept]
        two = groups[:, None].expand(-1, 2)
        if training and self.mixup:
            weight, other = _drawn(self.mixup, groups)
            values = {role: mixed(part, weight, other) for role, part in values.items()}
            whole = weight == 1
            two = torch.stack([groups, torch.where(whole, groups, groups[other])], dim=1)
            items = items.masked_fill(~whole[:, None], -1)
        outputs = {
            role: self._in_chunks(module.branch(role), part) for role, part in values.items()
        }
        found: dict[str, Any] = {
            "outputs": outputs,
            "scale": module.scale(),
            "bias": 0.0 if module.bias is None else module.bias,
            "summed": training and batch.progress < _SUMMED,
        }
        if self.structure:
            found["inputs"] = {
                role: module.branch(role).scaling(part) for role, part in values.items()
            }
        bank_groups = None
        if training and module.bank is not None:
            earlier, bank_groups = module.bank.content()
            found["bank"] = dict(zip(outputs, earlier))
            module.bank.add(list(outputs.values()), two)
        alone = self.captions == "one" or len(groups.unique()) == len(groups)
        mixes = training and bool(self.mixup)
        found["pairing"] = Pairing(two, None if alone and not mixes else items, bank_groups)
        return found

    def _in_chunks(self, branch: nn.Module, values: Tensor) -> Tensor:
        """Return the outputs of a view; chunk by chunk, their activations are computed again."""
        if self.chunk_size is None or not torch.is_grad_enabled():
            return branch(values)
        return torch.cat(
            [
                checkpoint(branch, part, use_reentrant=False)
                for part in values.split(self.chunk_size)
            ]
        )

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        parts = outputs["outputs"]
        compare = self._ranking if self.loss in RANKING else self._agreement
        contrasts = [compare(x, z, outputs) for x, z in combinations(parts, 2)]
        terms = {"contrast": torch.stack(contrasts).sum()}
        if self.structure:
            changes = [structure_loss(outputs["inputs"][role], parts[role]) for role in parts]
            terms["structure"] = self.structure * torch.stack(changes).mean()
        return terms

    def _agreement(self, first: str, second: str, outputs: Mapping[str, Any]) -> Tensor:
        x, z = outputs["outputs"][first], outputs["outputs"][second]
        if self.loss == "barlow":
            return barlow_loss(x, z, self.barlow_weight)
        return vicreg_loss(x, z, self.vicreg_weights)

    def _ranking(self, first: str, second: str, outputs: Mapping[str, Any]) -> Tensor:
        unit = {role: F.normalize(outputs["outputs"][role], dim=1) for role in (first, second)}
        bank = {
            role: F.normalize(outputs["bank"][role], dim=1)
            for role in (first, second) if "bank" in outputs
        }  # fmt: skip
        pairing: Pairing = outputs["pairing"]
        loss = self._row_loss(outputs)
        b = len(unit[first])
        if self.chunk_size is None and not bank:
            # One matrix for both directions.
            S = unit[first] @ unit[second].T
            positives, negatives = pairing.masks(slice(0, b))
            found = [loss(S, positives, negatives, first=0)]
            if self.loss != "sigmoid":  # which does not depend on the direction
                # The masks are symmetric.
                found.append(loss(S.T, positives, negatives, first=0))
        else:
            found = []
            for query, gallery in ((first, second), (second, first)):
                others = unit[gallery]
                if bank:
                    others = torch.cat([others, bank[gallery]])
                found.append(self._blocks(loss, unit[query], others, pairing))
        total = torch.stack(found)
        return total.sum() if self.loss == "hardest" else total.mean()

    def _blocks(
        self, loss: Callable[..., Tensor], queries: Tensor, gallery: Tensor, pairing: Pairing
    ) -> Tensor:
        """Return the loss of one direction, computed from blocks of scores."""

        def block(part: Tensor, columns: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            positives, negatives = pairing.masks(rows)
            weight = torch.tensor(len(part), device=part.device)
            if self.loss == "hardest" and positives is not None:  # a mean over the positives
                weight = positives.sum()
            value = loss(part @ columns.T, positives, negatives, first=rows.start)
            return value * weight, weight

        n, size = len(queries), self.chunk_size or len(queries)
        sums, weights = [], []
        for start in range(0, n, size):
            rows = slice(start, min(start + size, n))
            if size < n and torch.is_grad_enabled():
                value, weight = checkpoint(block, queries[rows], gallery, rows, use_reentrant=False)
            else:
                value, weight = block(queries[rows], gallery, rows)
            sums.append(value)
            weights.append(weight)
        return torch.stack(sums).sum() / torch.stack(weights).sum()

    def _row_loss(self, outputs: Mapping[str, Any]) -> Callable[..., Tensor]:
        """Return the loss of a block of scores, whose rows are the queries."""
        if self.loss == "infonce":
            return partial(_info_nce, outputs["scale"])
        if self.loss == "sigmoid":
            return partial(_sigmoid, outputs["scale"], outputs["bias"])
        return partial(_hinges, self.margin, "sum" if outputs["summed"] else "hardest")

    # ---- training ------------------------------------------------------------------------------

    def _split(self, views: Views, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows, held_out = super()._split(views, seed)
        groups = views.groups
        few = len(np.unique(groups[held_out])) == 1 and len(np.unique(groups)) >= _FEW
        if few:  # one held-out group has no negatives
            split = GroupShuffleSplit(1, test_size=2, random_state=seed)
            return next(split.split(groups, groups=groups))
        return rows, held_out

    def _optimizer_parameters(self) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        if "weight_decay" in signature(optimizer_class(self.optimizer)).parameters:
            settings["weight_decay"] = self.weight_decay
            # Not of biases, the temperature and the scales of the layer normalisation.
            settings["param_groups"] = [
                (name, {"weight_decay": 0.0}) for name in ("*bias", "log_scale", "*perceptron.0.*")
            ]
        return {**settings, **super()._optimizer_parameters()}

    def _schedule(self) -> list[Any]:
        found: list[Any] = []
        if self.max_epochs and self.schedule == "one-cycle":
            found.append(OneCycle())
        if self.max_epochs and self.patience is not None and self.validation_fraction is not None:
            found.append(EarlyStopping(patience=self.patience, load_best=True))
        return found

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.bank_size and self.loss not in RANKING:
            raise ValueError(
                f"{self._name()}: bank_size={self.bank_size} needs a loss with negatives, one of "
                f"{', '.join(RANKING)}, got loss={self.loss!r}; set bank_size to 0"
            )
        weights = self.vicreg_weights
        if len(weights) != 3 or not all(_is_amount(weight) for weight in weights):
            raise ValueError(
                f"{self._name()}: vicreg_weights must be three numbers of at least 0, got "
                f"{weights!r}"
            )
        if isinstance(self.cca_reg, Mapping) and not all(
            _is_amount(reg) for reg in self.cca_reg.values()
        ):
            raise ValueError(
                f"{self._name()}: cca_reg must be a number of at least 0, or one for each view, "
                f"got {self.cca_reg!r}"
            )

    # ---- encodings -----------------------------------------------------------------------------

    def _encode_batch(self, module: nn.Module, items: Any, view: str) -> Tensor:
        assert isinstance(module, Heads)
        branch = module.branch(view)
        return in_float64(branch.layers, branch.scaling(items.values.double()))

    # ---- bundles -------------------------------------------------------------------------------

    def __crossfit_state__(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the fitted state, without the memory bank, which only training needs."""
        state, arrays = super().__crossfit_state__()
        return state, {k: v for k, v in arrays.items() if not k.startswith("module.bank.")}

    def __crossfit_restore__(
        self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Restore the result of `__crossfit_state__`."""
        bank_size, self.bank_size = self.bank_size, 0
        try:
            super().__crossfit_restore__(state, arrays)
        finally:
            self.bank_size = bank_size


def mixed(values: Tensor, weight: Tensor, other: Tensor) -> Tensor:
    """Return every row mixed with another one.

    Parameters
    ----------
    values : Tensor of shape (b, d)
        Features of one view.
    weight : Tensor of shape (b,)
        Weight of the row itself; that of the other one is 1 less this.
    other : int64 Tensor of shape (b,)
        Number of the other row.

    Returns
    -------
    Tensor of shape (b, d)
    """
    return weight[:, None] * values + (1 - weight[:, None]) * values[other]


def _drawn(alpha: float, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight of every row, and the number of the row with which it is mixed."""
    b, device = len(groups), groups.device
    amount = torch.full((b,), float(alpha), device=device)
    order = torch.randperm(b, device=device)
    other = torch.empty_like(order)
    other[order] = order.roll(1)  # never the row itself
    return torch.distributions.Beta(amount, amount).sample(), other


def _first_rows(groups: Tensor) -> Tensor:
    """Return the number of the first row of every group, in order."""
    distinct, at = groups.unique(return_inverse=True)
    rows = torch.arange(len(groups), device=groups.device)
    first = torch.full_like(distinct, len(groups)).scatter_reduce(0, at, rows, "amin")
    return first.sort().values


def _info_nce(scale: Any, scores: Tensor, *masks: Any, first: int) -> Tensor:
    return info_nce(scores, scale, *masks, first=first)


def _sigmoid(scale: Any, bias: Any, scores: Tensor, *masks: Any, first: int) -> Tensor:
    return sigmoid_loss(scores, scale, bias, *masks, first=first)


def _hinges(
    margin: float, mining: str, scores: Tensor, positives: Any, negatives: Any, *, first: int
) -> Tensor:
    if positives is None:
        positives = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
        positives.diagonal(first).fill_(True)
    return triplet_loss(scores, positives, negatives, margin=margin, mining=mining)


def _is_amount(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < math.inf
