"""The method in closed form: reduced-rank regression."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval

from crossfit import CrossModalEstimator, Views
from crossfit_template import cards

__all__ = ["Template"]


class Template(CrossModalEstimator):
    r"""Reduced-rank ridge regression of the text on the image.

    With centred X (images) and Z (texts) of n rows, the ridge solution is

    .. math:: B = (X^\top X + n \lambda \bar{s} I)^{-1} X^\top Z,

    where s̄ is the mean variance of a column of X, so that λ has no unit. The k leading right
    singular vectors V of the fitted values XB span the part of the texts that images predict
    best. Images are mapped to XBV and texts to ZV, and compared by the cosine.

    Parameters
    ----------
    n_components : int, default=64
        Dimensions k of the common space; fewer if the views have fewer.
    reg : float, default=0.01
        Ridge λ, relative to the mean variance of a column.

    Attributes
    ----------
    means_ : dict of str to array of shape (d,)
        Training means by role.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``.

    References
    ----------
    A. J. Izenman, Reduced-rank regression for the multivariate linear model, Journal of
    Multivariate Analysis 5 (1975), 248-264.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_template.estimator import Template
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(100, 3))
    >>> images, texts = Z @ rng.normal(size=(3, 8)), Z @ rng.normal(size=(3, 5))
    >>> Template(n_components=3).fit(images, texts).similarity(images, texts).shape
    (100, 100)
    """

    card = cards.TEMPLATE

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "reg": [Interval(Real, 0, None, closed="neither")],
    }

    # Parameters are stored unchanged and not checked here, because scikit-learn clones by them.
    def __init__(self, n_components: int = 64, reg: float = 1e-2) -> None:
        self.n_components = n_components
        self.reg = reg

    # The base class has checked parameters, shapes, types and missing values; views are named by
    # role.
    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        data = {role: _dense(views[role]).astype(np.float64) for role in views.names}
        self.means_ = {role: values.mean(axis=0) for role, values in data.items()}
        X, Z = (data[role] - self.means_[role] for role in ("image", "text"))
        for role, values in (("image", X), ("text", Z)):
            if not np.any(values):
                raise ValueError(f"view {role!r} is constant: it has no variance to learn from")
        gram = X.T @ X
        ridge = self.reg * np.trace(gram) / len(gram)
        B = scipy.linalg.solve(gram + ridge * np.eye(len(gram)), X.T @ Z, assume_a="pos")
        _, _, Vt = np.linalg.svd(X @ B, full_matrices=False)
        V = Vt[: self.n_components].T
        self.weights_ = {"image": B @ V, "text": V}

    # Encodes one modality alone, as for a query. The dtype of the input is kept.
    def _encode(self, values: Any, view: str) -> NDArray[Any]:
        values = _dense(values)
        return ((values - self.means_[view]) @ self.weights_[view]).astype(values.dtype)


def _dense(values: Any) -> NDArray[Any]:
    return values.toarray() if sp.issparse(values) else values
