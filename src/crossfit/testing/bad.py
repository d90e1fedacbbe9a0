"""Faulty methods that must fail a check of the kit, and the correct methods they derive from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit.base import CrossModalEstimator
from crossfit.similarities import pairwise_similarity
from crossfit.testing import cards
from crossfit.views import Ragged, Views

__all__ = [
    "DividesByLongest",
    "LabelRegression",
    "LeaksTestLabels",
    "RegionRegression",
    "SumsPadding",
    "TakesPaddingForRegions",
    "ValidatesNothing",
]


class LabelRegression(CrossModalEstimator):
    """Ridge regression of every view on the class indicator; a correct method.

    Parameters
    ----------
    reg : float, default=1.0
        Ridge penalty.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    weights_ : dict of str to array of shape (d, n_classes)
        Regression weights of each role.
    means_ : dict of str to array of shape (d,)
        Training means of each role.
    """

    card = cards.LABEL_REGRESSION

    def __init__(self, reg: float = 1.0, views: Mapping[str, str] | None = None) -> None:
        self.reg = reg
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        assert y is not None
        targets = np.unique(y)[:, None] == y
        self.means_, self.weights_ = {}, {}
        for role in views.names:
            X = _dense(views[role]).astype(np.float64)
            mean = X.mean(axis=0)
            X = X - mean
            ridge = self.reg * np.eye(X.shape[1])
            self.means_[role] = mean
            self.weights_[role] = np.linalg.solve(X.T @ X + ridge, (targets @ X).T)

    def _encode(self, values: Any, view: str) -> NDArray[Any]:
        values = _dense(values)
        return ((values - self.means_[view]) @ self.weights_[view]).astype(values.dtype)


def _dense(values: Any) -> NDArray[Any]:
    return values.toarray() if sp.issparse(values) else np.asarray(values)


class ValidatesNothing(LabelRegression):
    """Overrides every public method, and so skips all checks of the base class."""

    card = cards.VALIDATES_NOTHING

    def fit(self, X: Any, Y: Any = None, y: Any = None) -> Self:
        """Fit on any input, cut to equal length and flattened."""
        if isinstance(X, Views):
            (X, Y), y = (X[name] for name in X.names[:2]), Y if y is None else y
        n = min(len(X), len(Y))
        views = Views(image=np.reshape(X[:n], (n, -1)), text=np.reshape(Y[:n], (n, -1)))
        self.views_in_ = {name: name for name in views.names}
        self.n_features_in_ = {}
        self._fit(views, np.zeros(n) if y is None else np.asarray(y)[:n])
        return self

    def transform(self, X: Any, Y: Any = None) -> Any:
        """Encode any input."""
        if isinstance(X, Views):
            return X.map(self.encode)
        first = self.encode(X, "image")
        return first if Y is None else (first, self.encode(Y, "text"))

    def encode(self, values: Any, view: str) -> Any:
        """Encode any input; unknown views are treated as text, and NaN as zero."""
        values = np.nan_to_num(np.asarray(values))
        if not hasattr(self, "weights_"):
            return values[:, :1]
        role = "image" if view == "image" else "text"
        full = np.zeros((len(values), len(self.means_[role])))
        width = min(full.shape[1], values.shape[1])
        full[:, :width] = values[:, :width]
        return self._encode(full, role)

    def similarity(
        self,
        X: Any,
        Y: Any = None,
        *,
        query: str | None = None,
        gallery: str | None = None,
        chunk_size: int | None = None,
        out: Any = None,
    ) -> Any:
        """Compute similarities of any input."""
        if isinstance(X, Views):
            X, Y = (X.distinct(name)[0] for name in X.names[:2])
        scores = pairwise_similarity(self.encode(X, "image"), self.encode(Y, "text"), "cosine")
        return scores.T if query == "text" else scores


class LeaksTestLabels(LabelRegression):
    """Fits on the rows and labels that it is scored on, so that its score is too high."""

    card = cards.LEAKS_TEST_LABELS

    def score(self, X: Any, Y: Any = None, y: Any = None) -> float:
        """Fit on the test rows and their labels, then score them."""
        honest = super().score(X, Y, y)
        labelled = y is not None or (isinstance(X, Views) and Y is not None)
        if not labelled:
            return honest
        self.fit(X, Y, y)
        return super().score(X, Y, y)


class RegionRegression(LabelRegression):
    """Ridge regression of the mean region on the class labels; a correct method."""

    card = cards.REGION_REGRESSION

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        super()._fit(views.map(lambda values, _: self._mean(values)), y)

    def _encode(self, values: Any, view: str) -> NDArray[Any]:
        return super()._encode(self._mean(values), view)

    def _mean(self, values: Any) -> NDArray[Any]:
        if not isinstance(values, Ragged):
            return _dense(values).mean(axis=1) if values.ndim == 3 else _dense(values)
        padded, mask = values.padded()
        return self._mean_of(padded, mask)

    def _mean_of(self, padded: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
        """Return the means (n, d) of the regions (n, R, d) that are not padding."""
        total = np.where(mask[:, :, None], padded, 0).sum(axis=1)
        return total / mask.sum(axis=1, keepdims=True).clip(1)


class DividesByLongest(RegionRegression):
    """Includes the padding in the mean, so that an item depends on the longest of its batch."""

    card = cards.DIVIDES_BY_LONGEST

    def _mean_of(self, padded: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
        return padded.mean(axis=1)


class SumsPadding(RegionRegression):
    """Adds the padding to the sum, which is correct only if it is zero."""

    card = cards.SUMS_PADDING

    def _mean_of(self, padded: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
        return padded.sum(axis=1) / mask.sum(axis=1, keepdims=True).clip(1)


class TakesPaddingForRegions(RegionRegression):
    """A pair method that scores the best region of an image, and treats padding as a region."""

    card = cards.TAKES_PADDING_FOR_REGIONS

    def _prepare(self, values: Any, view: str) -> NDArray[Any]:
        values = values.padded()[0] if isinstance(values, Ragged) else _dense(values)
        regions = values[:, None] if values.ndim == 2 else values
        return (regions - self.means_[view]) @ self.weights_[view]

    def _similarity(self, P: Any, Q: Any) -> NDArray[Any]:
        return np.einsum("nrc,mc->nrm", P, Q[:, 0]).max(axis=1)
