"""Deep structure-preserving embedding (DSPE), Wang, Li and Lazebnik, CVPR 2016."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import ExponentialLR

from crossfit.neural import (
    Batch,
    Items,
    MLPBranch,
    NeuralEstimator,
    Standardize,
    init_weights,
    triplet_loss,
)
from crossfit.neural.ranking import check_groups
from crossfit.views import Views
from crossfit_ranking import cards

__all__ = ["DSPE", "DSPENetwork", "distances", "structure_loss"]

# Added under the root of squared distances to make the gradient finite for equal rows.
_EPS = 1e-8


class DSPENetwork(nn.Module):
    """Two branches of fully connected layers, with outputs of length 1.

    Parameters
    ----------
    n_inputs : mapping of str to int
        Width of the feature vectors by role.
    hidden : sequence of int
        Widths of the hidden layers. Each is normalised over the batch, rectified and dropped out.
    width : int
        Width of the outputs.
    dropout : float, default=0.5
        Probability of dropping a hidden unit.
    bn_momentum : float, default=0.1
        Weight of a batch in the running means and variances.
    standardize : bool, default=True
        Whether the features are standardised first.
    """

    def __init__(
        self,
        n_inputs: Mapping[str, int],
        *,
        hidden: Sequence[int],
        width: int,
        dropout: float = 0.5,
        bn_momentum: float = 0.1,
        standardize: bool = True,
    ) -> None:
        super().__init__()
        self.scaling = nn.ModuleDict(
            {role: Standardize(n, role) if standardize else nn.Identity()
             for role, n in n_inputs.items()}
        )  # fmt: skip
        self.branches = nn.ModuleDict(
            {role: MLPBranch([n, *hidden, width], batch_norm=True, dropout=dropout, normalize=True)
             for role, n in n_inputs.items()}
        )  # fmt: skip
        init_weights(self)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.momentum = bn_momentum

    def encode(self, items: Items, view: str) -> Tensor:
        """Map items of one view to rows of length 1, (b, width)."""
        return self.branches[view](self.scaling[view](items.values))


class DSPE(NeuralEstimator):
    r"""Deep structure-preserving embedding (DSPE).

    A network per view maps items to vectors of length 1, which are compared by their Euclidean
    distance d. For an image x and its caption z, the loss compares their distance with those to
    wrong items, and, with a small weight, keeps the captions of an image together:

    .. math::

        \lambda_1 [m + d(x, z) - d(x^-, z)]_+ + [m + d(x, z) - d(x, z^-)]_+
        + \lambda_2 [m + d(z, z^+) - d(z, z^-)]_+ .

    Each term is the mean over the `k_negatives` largest hinges, among the wrong items of the batch,
    and over all pairs of an image and a caption in the batch. In the last term, :math:`z^+` is the
    farthest other caption of the same image in the batch; captions without another one have no
    such term. Rows of one group, such as the captions of an image, are never wrong for each other.

    A batch has up to `captions` captions in a row of each of its images, and every distinct item
    passes through the network once.

    The defaults are for a few thousand pairs; see Notes for the paper's settings.

    Parameters
    ----------
    hidden : sequence of int, default=(512,)
        Widths of the hidden layers of both networks, with batch normalisation, ReLU and dropout.
    width : int, default=128
        Width of the common space.
    margin : float, default=0.1
        Margin m, in units of the distance.
    k_negatives : int, default=10
        Number of largest hinges of which the mean is taken; all if there are fewer.
    text2image : float, default=1.5
        Weight :math:`\lambda_1` of wrong images for a caption.
    structure : float, default=0.05
        Weight :math:`\lambda_2` of the structure of captions.
    captions : int, default=2
        Number of captions of an image that come together in a batch, if it has so many.
    dropout : float, default=0.5
        Probability of dropping a hidden unit.
    bn_momentum : float, default=0.1
        Weight of a batch in the running means and variances of the batch normalisation.
    standardize : bool, default=True
        Subtract the training mean from every feature and divide it by its standard deviation.
    lr_decay : float, default=0.95
        Factor of the learning rate after each epoch; 1 for a constant rate.
    max_epochs : int, default=30
        Number of passes over the training pairs.
    lr : float, default=0.003
        Learning rate.
    batch_size : int, default=100
        Number of pairs per batch: with two captions per image, it has half as many images.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        Its history contains ``train_image2text``, ``train_text2image`` and ``train_structure``,
        with their weights.

    Notes
    -----
    The paper has 2048 hidden units and a common space of 512 for VGG19's features of images and
    Fisher vectors of captions. Its code has a margin of .05, Adam with a learning rate of .0001,
    batches of 500 images with two captions each, 20 epochs, and a momentum of .1 in the sense of
    TensorFlow, which is ``bn_momentum=0.9``. It computes a decay of the learning rate by .794 per
    epoch that it never passes to the optimizer: ``lr_decay=1.0`` is what its figures were obtained
    with, and .794 was intended. These settings are in the experiments
    ``wang-2016-dspe-flickr30k`` and ``wang-2016-dspe-coco``. The paper also defines a structure of
    images, which is not part of the code and is not included.

    References
    ----------
    L. Wang, Y. Li, S. Lazebnik, Learning deep structure-preserving image-text embeddings, CVPR
    2016, 5005-5013.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_ranking.dspe import DSPE
    >>> from crossfit_ranking.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 100)
    >>> method = DSPE(hidden=(32,), width=8, max_epochs=5, device="cpu", random_state=0).fit(views)
    >>> method.transform(views)["text"].shape
    (100, 8)
    """

    card = cards.DSPE

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "batch_size": [Interval(Integral, 2, None, closed="left")],  # one pair has no negatives
        "hidden": [list, tuple],
        "width": [Interval(Integral, 1, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="left")],
        "k_negatives": [Interval(Integral, 1, None, closed="left")],
        "text2image": [Interval(Real, 0, None, closed="left")],
        "structure": [Interval(Real, 0, None, closed="left")],
        "captions": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "bn_momentum": [Interval(Real, 0, 1, closed="right")],
        "standardize": ["boolean"],
        "lr_decay": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (512,),
        width: int = 128,
        margin: float = 0.1,
        k_negatives: int = 10,
        text2image: float = 1.5,
        structure: float = 0.05,
        captions: int = 2,
        dropout: float = 0.5,
        bn_momentum: float = 0.1,
        standardize: bool = True,
        lr_decay: float = 0.95,
        max_epochs: int = 30,
        lr: float = 3e-3,
        batch_size: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_epochs=max_epochs, lr=lr, batch_size=batch_size, **kwargs)
        self.hidden = hidden
        self.width = width
        self.margin = margin
        self.k_negatives = k_negatives
        self.text2image = text2image
        self.structure = structure
        self.captions = captions
        self.dropout = dropout
        self.bn_momentum = bn_momentum
        self.standardize = standardize
        self.lr_decay = lr_decay

    def _validate_params(self) -> None:
        super()._validate_params()
        if any(not isinstance(n, Integral) or isinstance(n, bool) or n < 1 for n in self.hidden):
            raise ValueError(
                f"{self._name()}: hidden must be integers of at least 1, one per layer, got "
                f"{self.hidden!r}"
            )

    def _own_similarity(self) -> str:
        return "l2"

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        check_groups(views, self._name())
        super()._fit(views, y)

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {
            "hidden": list(self.hidden),
            "width": self.width,
            "dropout": self.dropout,
            "bn_momentum": self.bn_momentum,
            "standardize": self.standardize,
        }
        return DSPENetwork(n_inputs, **{**settings, **module})

    def _batch_parameters(self) -> dict[str, Any]:
        return {"together": self.captions, **super()._batch_parameters()}

    def _schedule(self) -> list[Any]:
        return [LRScheduler(ExponentialLR, gamma=self.lr_decay, event_name=None)]

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        found = {}
        for role, items in batch.views.items():
            rows, at = _distinct(batch.item[role])
            found[role] = self._encode_batch(module, Items(items.values[rows]), role)[at]
        return found

    def _loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the three terms of a batch, over its distinct images and captions."""
        (image, image_at), (text, text_at) = (_distinct(each) for each in batch.item.values())
        x, z = (part[rows] for part, rows in zip(outputs.values(), (image, text), strict=True))
        positives = torch.zeros(len(image), len(text), dtype=torch.bool, device=x.device)
        positives[image_at, text_at] = True
        negatives = batch.groups[image][:, None] != batch.groups[text]
        hinges: Any = {"margin": self.margin, "mining": "top-k", "k": self.k_negatives}
        scores = -distances(x, z)
        found = {
            "image2text": triplet_loss(scores, positives, negatives, **hinges),
            "text2image": self.text2image
            * triplet_loss(scores.T, positives.T, negatives.T, **hinges),
        }
        if self.structure:
            # Products of more than 0: captions that share an image.
            siblings = (positives.T.float() @ positives.float()) > 0
            siblings.fill_diagonal_(False)
            others = batch.groups[text][:, None] != batch.groups[text]
            found["structure"] = self.structure * structure_loss(
                distances(z, z), siblings, others, self.margin, self.k_negatives
            )
        return found


def distances(x: Tensor, z: Tensor) -> Tensor:
    """Return the Euclidean distances of rows of length 1.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Rows of length 1.
    z : Tensor of shape (m, d)
        Rows of length 1.

    Returns
    -------
    Tensor of shape (n, m)
        A small number is added under the root, so that equal rows have a distance of .0001.
    """
    return ((2 - 2 * x @ z.T).clamp(min=0) + _EPS).sqrt()


def structure_loss(
    d: Tensor, siblings: Tensor, others: Tensor, margin: float, k_negatives: int
) -> Tensor:
    """Return the mean over rows of their largest hinges against the farthest sibling.

    Parameters
    ----------
    d : Tensor of shape (n, n)
        Distances between items of one view.
    siblings : bool Tensor of shape (n, n)
        Items that belong together, without the item itself. Rows without any do not count.
    others : bool Tensor of shape (n, n)
        Items that do not belong together.
    margin : float
        Margin of the hinges.
    k_negatives : int
        Number of largest hinges per row.

    Returns
    -------
    Tensor of shape ()
    """
    farthest = d.detach().masked_fill(~siblings, -1.0).argmax(dim=1, keepdim=True)
    chosen = torch.zeros_like(siblings).scatter_(1, farthest, True) & siblings
    return triplet_loss(-d, chosen, others, margin=margin, mining="top-k", k=k_negatives)


def _distinct(item: Tensor) -> tuple[Tensor, Tensor]:
    """Return a row of each distinct item, and the place of every row's item among these."""
    known, at = item.unique(return_inverse=True)
    rows = at.new_full((len(known),), len(item))
    return rows.scatter_reduce_(0, at, torch.arange(len(item), device=at.device), "amin"), at
