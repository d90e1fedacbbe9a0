"""Methods whose fit takes weights of rows."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._available_if import available_if

from crossfit.base import CrossModalEstimator
from crossfit.labels import row_weights
from crossfit.views import Views, is_views

__all__ = ["Weighted"]


class Weighted(CrossModalEstimator):
    """A method whose statistics are sums over rows, which may have weights.

    The author implements ``_fit(views, y, weights)``; rows of weight 0 have been left out, and
    weights are None if all are 1.
    """

    def _fit(
        self, views: Views, y: NDArray[Any] | None, weights: NDArray[np.float64] | None = None
    ) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not define _fit")

    def fit(
        self, X: Any, Y: Any = None, y: Any = None, *, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit on pairs.

        Parameters
        ----------
        X : Views, or the first modality
            ``fit(views)``, ``fit(views, y)`` or ``fit(X, Y, y)``.
        Y : the second modality, or the labels if X is Views
            Row ``i`` of X and row ``i`` of Y belong together.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows: a row of weight 2 counts as two equal rows, and a row of weight 0
            is left out. In pipelines and searches it is passed on by scikit-learn's metadata
            routing, after ``set_fit_request(sample_weight=True)``.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a parameter violates ``_parameter_constraints``; if the views are misaligned, empty,
            of a kind that the method does not support, or contain NaN; or if the weights are not
            one number of at least 0 per row that add up to at least 2.
        """
        return self._fitted_with(X, Y, y, sample_weight)

    @available_if(lambda self: self._kind() == "embedding")
    def fit_transform(
        self, X: Any, Y: Any = None, y: Any = None, *, sample_weight: ArrayLike | None = None
    ) -> Any:
        """Fit, then transform the same pairs.

        Parameters
        ----------
        X, Y, y, sample_weight
            As in `fit`.

        Returns
        -------
        Views, or a pair of arrays
            As returned by `transform`.

        See Also
        --------
        fit : Fit without transforming.
        transform : Transform other items.
        """
        self.fit(X, Y, y, sample_weight=sample_weight)
        return self.transform(X) if is_views(X) else self.transform(X, Y)

    def _checked_weights(self, given: Any, n: int) -> NDArray[np.float64]:
        """Return weights in float64, one per row, which add up to at least two rows."""
        weights = row_weights(given, n, f"{self._name()}: ")
        if weights.sum() < 2:
            raise ValueError(
                f"{self._name()}: sample_weight must add up to at least 2, because a weight is a "
                f"number of rows, got {weights.sum():g}; multiply the weights by a constant"
            )
        return weights
