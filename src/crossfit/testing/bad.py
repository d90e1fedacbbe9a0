"""Two bad methods that the kit must fail, and the correct one that they spoil."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit.base import CrossModalEstimator
from crossfit.similarities import pairwise_similarity
from crossfit.testing import cards
from crossfit.views import Views

__all__ = ["LabelRegression", "LeaksTestLabels", "ValidatesNothing"]


class LabelRegression(CrossModalEstimator):
    """Ridge regression of every view on the indicator of the class labels.

    Parameters
    ----------
    reg : float
        Amount of the ridge.
    views : mapping of str to str, optional
        Role to view name, where names and order do not say it.

    Attributes
    ----------
    weights_ : dict of str to array of shape (d, n_classes)
        By role.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    """

    card = cards.LABEL_REGRESSION

    def __init__(self, reg: float = 1.0, views: Mapping[str, str] | None = None) -> None:
        self.reg = reg
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
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
    """Overrides every public method, and with it all that the base class refuses."""

    card = cards.VALIDATES_NOTHING

    def fit(self, X: Any, Y: Any = None, y: Any = None) -> Self:
        """Fit on whatever comes, cut to equal length."""
        views, labels = (X, Y if y is None else y) if isinstance(X, Views) else (None, y)
        image, text = (np.asarray(part) for part in ((X, Y) if views is None else _pair(X)))
        n = min(len(image), len(text))
        labels = np.zeros(n) if labels is None else np.asarray(labels)[:n]
        self.views_in_ = {"image": "image", "text": "text"}
        columns = {"image": image[:n].reshape(n, -1), "text": text[:n].reshape(n, -1)}
        self.n_features_in_ = {role: part.shape[1] for role, part in columns.items()}
        self._fit(Views(columns), labels)
        return self

    def transform(self, X: Any, Y: Any = None) -> Any:
        """Encode whatever comes."""
        if isinstance(X, Views):
            return X.map(self.encode)
        return self.encode(X, "image") if Y is None else (self.encode(X, "image"), self.encode(Y, "text"))

    def encode(self, values: Any, view: str) -> Any:
        """Encode, taking every unknown view for text and every missing column for zero."""
        if not hasattr(self, "weights_"):
            return np.asarray(values)
        role = "image" if view == "image" else "text"
        values = np.nan_to_num(np.asarray(values))
        wanted = np.zeros((len(values), self.n_features_in_[role]))
        width = min(wanted.shape[1], values.shape[1])
        wanted[:, :width] = values[:, :width]
        return self._encode(wanted, role)

    def similarity(self, X: Any, Y: Any = None, *, query: Any = None, gallery: Any = None, chunk_size: Any = None) -> Any:
        """Score whatever comes."""
        image, text = _pair(X) if isinstance(X, Views) else (X, Y)
        scores = pairwise_similarity(self.encode(image, "image"), self.encode(text, "text"))
        return scores.T if query == "text" else scores


def _pair(views: Views) -> tuple[Any, Any]:
    image, text = views.names[:2]
    return views.distinct(image)[0], views.distinct(text)[0]


class LeaksTestLabels(LabelRegression):
    """Learns from the rows and labels that it is scored on, and so scores too well."""

    card = cards.LEAKS_TEST_LABELS

    def score(self, X: Any, Y: Any = None, y: Any = None) -> float:
        """Fit on what should only be scored, then score it."""
        views, labels = self._given(X, Y, y)
        if labels is not None:
            self.fit(views, labels)
        return super().score(views, labels)
