"""DeViSE: a linear map from images to fixed text vectors (Frome et al., NIPS 2013)."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.cards import MethodCard
from crossfit.neural import Batch, HingeEstimator, Standardize
from crossfit_ranking import cards
from crossfit_ranking.draws import drawn, first_violations

__all__ = ["DeViSE", "DeViSENetwork"]


class DeViSENetwork(nn.Module):
    """A linear map M of images, without bias, and unit vectors of texts.

    Parameters
    ----------
    n_inputs : dict of str to int
        Widths of the images and of the text vectors.
    dropout : float
        Probability of dropping a feature of an image.
    standardize : bool
        Whether features of images are standardised first, and divided by the root of their number.
    center : bool
        Whether the mean of the training texts is subtracted before texts are scaled to unit length.
    """

    def __init__(
        self, n_inputs: dict[str, int], *, dropout: float, standardize: bool, center: bool
    ) -> None:
        super().__init__()
        n = n_inputs["image"]
        self.scaling = Standardize(n, "image") if standardize else None
        self.centre = Standardize(n_inputs["text"], "text") if center else None
        self.dropout = nn.Dropout(dropout)
        self.map = nn.Linear(n, n_inputs["text"], bias=False)

    def encode(self, items: Any, view: str) -> Tensor:
        """Return M x for images, t for texts, (b, width of the texts)."""
        x = items.values
        if view == "text":
            return F.normalize(x if self.centre is None else x - self.centre.mean, dim=1)
        if self.scaling is not None:
            x = self.scaling(x) * x.shape[1] ** -0.5
        return self.map(self.dropout(x))


class DeViSE(HingeEstimator):
    r"""DeViSE: images are mapped linearly to the vectors of their texts, which are fixed.

    Texts are unit vectors t, such as averaged word vectors or sentence embeddings, which are not
    trained. The linear map M of images minimises, for an image x with the text t,

    .. math:: [m - t' M x + \bar t' M x]_+

    where the negatives :math:`\bar t`, texts of other images in the batch, are tried in random
    order and the first that violates the margin is the only one that counts. Another caption of the
    same image is never a negative. Only texts are ranked for an image in the loss. Items are
    compared by the cosine of M x and t, which ranks texts for an image as the dot product does.

    The defaults are for a few thousand pairs; see Notes for what the paper has.

    Parameters
    ----------
    dropout : float, default=0.5
        Probability of dropping a feature of an image; 0 in the paper.
    standardize : bool, default=True
        Subtract the training mean from every feature of the images and divide it by its standard
        deviation and by the root of the number of features. Not in the paper.
    center : bool, default=True
        Subtract the mean of the training texts before texts are scaled to unit length, since
        sentence vectors have much in common. Not in the paper.
    margin : float, default=0.2
        Margin m; 0.1 in the paper, with which fewer negatives violate it.
    clip : float or None, default=None
        Largest norm of the gradient.
    lr_step : int or None, default=10
        Number of epochs after which the learning rate is multiplied by `lr_gamma`, repeatedly.
    lr_gamma : float, default=0.1
        Factor of the learning rate.
    max_epochs : int, default=15
        Number of passes over the training pairs.
    lr : float, default=0.001
        Learning rate.
    batch_size : int, default=128
        Number of pairs per batch.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        Its history contains ``train_image2text``.

    See Also
    --------
    crossfit_ranking.wsabie.WSABIE : Both views are mapped, and ranks are weighted.

    Notes
    -----
    The paper's texts are single words, the names of classes, with skip-gram vectors of 500 or 1,000
    features, which are also its negatives; its images go through a convolutional network, which is
    fine-tuned after M. This class takes vectors of both. We have not read the paper's code.

    References
    ----------
    A. Frome, G. Corrado, J. Shlens, S. Bengio, J. Dean, M. Ranzato, T. Mikolov, DeViSE: a deep
    visual-semantic embedding model, NIPS 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_ranking.devise import DeViSE
    >>> from crossfit_ranking.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 60)
    >>> devise = DeViSE(max_epochs=2, random_state=0).fit(views)
    >>> devise.transform(views)["image"].shape
    (60, 14)
    """

    card: ClassVar[MethodCard | None] = cards.DEVISE

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HingeEstimator._parameter_constraints,
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "center": ["boolean"],
    }

    def __init__(
        self,
        *,
        dropout: float = 0.5,
        standardize: bool = True,
        center: bool = True,
        margin: float = 0.2,
        clip: float | None = None,
        lr_step: int | None = 10,
        lr_gamma: float = 0.1,
        max_epochs: int = 15,
        lr: float = 1e-3,
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
        self.dropout = dropout
        self.standardize = standardize
        self.center = center

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {
            "dropout": self.dropout, "standardize": self.standardize, "center": self.center,
        }  # fmt: skip
        return DeViSENetwork(n_inputs, **{**settings, **module})

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        scores, (row, column) = self._scores(outputs), batch.positives.nonzero(as_tuple=True)
        draws = drawn(batch.negatives[row], replace=False)
        hinges, _ = first_violations(scores[row, column], scores[row], draws, self.margin)
        return {"image2text": hinges.sum() / max(len(row), 1)}
