"""PosteriorEstimator: base class of networks whose common space are class posteriors."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import StrOptions

from crossfit.neural.estimator import NeuralEstimator
from crossfit.similarities import MEASURES, PosteriorOverPrior, Similarity
from crossfit.views import Views

__all__ = ["PosteriorEstimator"]


class PosteriorEstimator(NeuralEstimator):
    """Base class of networks that map items of every view to class posteriors.

    As in semantic matching (`crossfit.subspace.SM`), the posteriors of two views are compared. A
    subclass has the parameter `measure`; its `_fit_features`, if it has one, calls the inherited
    one, which stores the priors.

    Parameters
    ----------
    measure : str, default="cosine"
        Similarity of posteriors: a name in `crossfit.similarities.MEASURES` or
        ``"posterior_over_prior"``.
    **kwargs
        See `NeuralEstimator`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes, in the order of the columns of the common space.
    prior_ : ndarray of shape (n_classes,)
        Frequencies of the classes in the rows that are trained on; a class of which all rows are
        held out counts as if it had one.

    See Also
    --------
    crossfit.subspace.SM : Semantic matching with classifiers of scikit-learn.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "measure": [StrOptions({*MEASURES, "posterior_over_prior"})],
    }

    def __init__(self, *, measure: str = "cosine", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.measure = measure

    def _targets(self, y: NDArray[Any] | None) -> NDArray[Any] | None:
        targets = super()._targets(y)
        assert targets is not None
        if len(self.classes_) < 2:
            raise ValueError(
                f"{self._name()} needs labels of at least two classes, got {len(self.classes_)}"
            )
        return targets

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        assert y is not None
        known = np.searchsorted(self.classes_, y[np.isin(y, self.classes_)])
        # All rows of a class may be held out, and similarities divide by its prior.
        counts = np.bincount(known, minlength=len(self.classes_)).clip(min=1)
        self.prior_ = counts / counts.sum()

    def _own_similarity(self) -> str | Similarity:
        if self.measure != "posterior_over_prior":
            return self.measure
        measure = PosteriorOverPrior()
        measure.classes_, measure.prior_ = self.classes_, self.prior_
        return measure
