"""Deep-SM: deep semantic matching (Wei et al., IEEE Transactions on Cybernetics 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from crossfit.extraction.weights import load_weights
from crossfit.neural import (
    AlexNet,
    Batch,
    Items,
    MLPBranch,
    PosteriorEstimator,
    Standardize,
    label_loss,
)
from crossfit.neural.pictures import READING, Pictures
from crossfit.neural.training import optimizer_class
from crossfit.neural.trunks import ALEXNET_CUT
from crossfit.views import Views
from crossfit_correlation import cards

__all__ = ["DeepSM"]


class DeepSM(PosteriorEstimator):
    r"""Deep semantic matching (Deep-SM): semantic matching with one network per view.

    Every view has a network that is trained on the labels alone and maps an item to its class
    posteriors :math:`p(c \mid x) = \mathrm{softmax}_c\, f(x)`; the pairing is not used. The
    posteriors of two views have the same meaning and are compared directly, as in `SM`. The loss is

    .. math:: \mathrm{CE}(\text{image}) + \mathrm{CE}(\text{text}).

    Images are pictures (paths, PIL images, uint8 pixels), for which :math:`f` is an AlexNet that is
    fine-tuned as a whole, or vectors. For vectors, as for texts, :math:`f` is a stack of fully
    connected layers. Rows labelled -1 are not used. An image with several captions counts once per
    labelled caption.

    The sizes of the text network and the training of both are not in the sources at hand: `hidden`
    and `dropout`, and the optimiser and its rates, are ours.

    Parameters
    ----------
    hidden : sequence of int, default=(1024,)
        Widths of the hidden layers, with ReLU, of networks for vectors. Without hidden layers they
        are multinomial logistic regression.
    dropout : float, default=0.5
        Dropout probability after every hidden layer.
    standardize : bool, default=True
        Whether to scale vectors to mean 0 and variance 1 over the training items.
    measure : str, default="cosine"
        Similarity of posteriors: a name in `crossfit.similarities.MEASURES` or
        ``"posterior_over_prior"``.
    max_epochs : int, default=30
        Number of passes over the training pairs.
    lr : float, default=0.01
        Learning rate of layers that start from random weights.
    batch_size : int, default=64
        Number of pairs per batch.
    optimizer : str or type, default="SGD"
        Name of a class in `torch.optim`, or such a class.
    momentum : float, default=0.9
        Momentum. Other optimizers are passed those of `momentum` and `weight_decay` that they
        accept.
    weight_decay : float, default=0.0005
        Weight decay, of which biases are exempt. With the sum of squares of logistic regression,
        it is 1 / (C n).
    trunk_weights : str, path-like or None, default="DEFAULT"
        Initial weights of AlexNet: ``"DEFAULT"`` or another name of torchvision, a file, or
        None for random weights. Only for pictures.
    trunk_lr : float, default=0.001
        Learning rate of all layers of AlexNet but the last.
    num_workers : int or None, default=None
        Number of processes that read pictures; see `crossfit.neural.pictures.Pictures`. Results do
        not depend on it.
    picture_memory : int, default=2 ** 30
        Pictures are read once and kept if they take at most this many bytes; 5,461 pictures take
        a gibibyte. Otherwise they are read again for every batch. Results do not depend on it.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes, in the order of the columns of the common space.
    prior_ : ndarray of shape (n_classes,)
        Frequencies of the classes in the rows that are trained on.
    net_ : skorch.NeuralNet
        Its history contains ``train_image`` and ``train_text``.

    See Also
    --------
    crossfit.subspace.SM : Semantic matching with classifiers of scikit-learn.

    References
    ----------
    Y. Wei, Y. Zhao, C. Lu, S. Wei, L. Liu, Z. Zhu, S. Yan, Cross-modal retrieval with CNN visual
    features: a new baseline, IEEE Transactions on Cybernetics 47(2), 2017, 449-460.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_correlation.deep_sm import DeepSM
    >>> from crossfit_correlation.testing import make_inputs
    >>> views, y = make_inputs(np.random.default_rng(0), 100)
    >>> sm = DeepSM(hidden=(32,), max_epochs=20, random_state=0).fit(views, y)
    >>> sm.transform(views)["text"].shape
    (100, 5)
    """

    card = cards.DEEP_SM
    _neutral: ClassVar[tuple[str, ...]] = (*PosteriorEstimator._neutral, *READING)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PosteriorEstimator._parameter_constraints,
        "hidden": [list, tuple],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "momentum": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "trunk_weights": [str, PathLike, None],
        "trunk_lr": [Interval(Real, 0, None, closed="neither")],
        **READING,
    }

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (1024,),
        dropout: float = 0.5,
        standardize: bool = True,
        measure: str = "cosine",
        max_epochs: int = 30,
        lr: float = 0.01,
        batch_size: int = 64,
        optimizer: str | type[torch.optim.Optimizer] = "SGD",
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        trunk_weights: str | PathLike[str] | None = "DEFAULT",
        trunk_lr: float = 1e-3,
        num_workers: int | None = None,
        picture_memory: int = 2**30,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            measure=measure,
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            optimizer=optimizer,
            **kwargs,
        )
        self.hidden = hidden
        self.dropout = dropout
        self.standardize = standardize
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.trunk_weights = trunk_weights
        self.trunk_lr = trunk_lr
        self.num_workers = num_workers
        self.picture_memory = picture_memory

    def _validate_params(self) -> None:
        super()._validate_params()
        if not all(isinstance(width, Integral) and int(width) >= 1 for width in self.hidden):
            raise ValueError(
                f"{self._name()}: hidden must be integers of at least 1, got {self.hidden!r}"
            )

    # ---- the parts of the method ---------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        assert n_classes is not None
        settings = {
            "hidden": self.hidden,
            "dropout": self.dropout,
            "standardize": self.standardize,
            "pictures": self.pictures_,
        }
        network = DeepSMNetwork(n_inputs, n_classes, **{**settings, **module})
        start = self.__dict__.pop("_start", None)
        if start is not None:
            network.classifiers["image"].fill(start, self.trunk_weights)  # type: ignore[operator]
        return network

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {view: module(items, view) for view, items in batch.views.items()}

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        assert batch.y is not None
        return {view: label_loss(logits, batch.y) for view, logits in outputs.items()}

    def _optimizer_parameters(self) -> dict[str, Any]:
        known = signature(optimizer_class(self.optimizer)).parameters
        names = ("momentum", "weight_decay")
        settings: dict[str, Any] = {name: getattr(self, name) for name in names if name in known}
        free = {"weight_decay": 0.0} if "weight_decay" in known else {}
        slow = {"lr": self.trunk_lr}
        groups: list[tuple[str, dict[str, Any]]] = []
        if getattr(self, "pictures_", False):
            for layers in ("features.*", "classifier.[14]"):
                groups += [
                    (f"classifiers.image.{layers}.bias", {**slow, **free}),
                    (f"classifiers.image.{layers}.weight", slow),
                ]
        groups.append(("*.bias", free))
        return {**settings, "param_groups": groups, **super()._optimizer_parameters()}

    # ---- pictures ------------------------------------------------------------------------------

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        super()._fit_features(views, y)
        self.pictures_ = _are_pictures(views.distinct("image")[0])
        if self.pictures_ and self.trunk_weights is not None:
            self._start = load_weights("alexnet", self.trunk_weights)

    def _features(self, values: Any, view: str) -> Any:
        if view == "text":
            return values
        kinds = ("vectors", "pictures")
        given = _are_pictures(values)
        where = f"{self._name()}: view {self._view_name(view)!r}"
        if given != self.pictures_:
            raise ValueError(f"{where} was fitted on {kinds[self.pictures_]}, got {kinds[given]}")
        if not given:
            return values
        return Pictures(
            values,
            ALEXNET_CUT,
            augment=True,
            num_workers=self.num_workers,
            memory=self.picture_memory,
            where=where,
        )


class DeepSMNetwork(nn.Module):
    """One classifier per view.

    Parameters
    ----------
    n_inputs : dict of str to int
        Width of the vectors of each view; not used for pictures.
    n_classes : int
        Number of classes.
    hidden : sequence of int
        Widths of the hidden layers for vectors.
    dropout : float
        Dropout probability after every hidden layer.
    standardize : bool
        Whether vectors are standardised by the training items.
    pictures : bool
        Whether images are pictures, for AlexNet.
    """

    def __init__(
        self,
        n_inputs: dict[str, Any],
        n_classes: int,
        *,
        hidden: Sequence[int],
        dropout: float,
        standardize: bool,
        pictures: bool,
    ) -> None:
        super().__init__()
        self.scalings = nn.ModuleDict()
        self.classifiers = nn.ModuleDict()
        for view, width in n_inputs.items():
            if view == "image" and pictures:
                self.classifiers[view] = AlexNet(n_classes)
                continue
            if standardize:
                self.scalings[view] = Standardize(width, view)
            self.classifiers[view] = MLPBranch([width, *hidden, n_classes], dropout=dropout)

    def forward(self, items: Items, view: str) -> Tensor:
        """Return class logits (b, n_classes)."""
        x = items.values
        if view in self.scalings:
            x = self.scalings[view](x)
        logits: Tensor = self.classifiers[view](x)
        return logits

    def encode(self, items: Items, view: str) -> Tensor:
        """Return class posteriors (b, n_classes)."""
        return self(items, view).float().softmax(dim=1)


def _are_pictures(values: Any) -> bool:
    """Return True for pictures, False for vectors."""
    dtype = str(getattr(values, "dtype", ""))
    return dtype == "object" or (dtype.endswith("uint8") and len(values.shape) == 4)
