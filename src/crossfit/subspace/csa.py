"""Canonical similarity analysis: a cosine of canonical variates, weighted by their correlations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from crossfit.similarities import Similarity
from crossfit.subspace import cards
from crossfit.subspace._linalg import Matrix, affine, unit_rows
from crossfit.subspace.cca import CCA

__all__ = ["CSA"]


class CSA(CCA):
    r"""Canonical similarity analysis (CSA) [1]_.

    Rows a and b of the views in the space of plain CCA are divided by their lengths, and compared
    by the cosine in which every dimension is weighted by its canonical correlation,

    .. math:: s(a, b) = \sum_i \rho_i \frac{a_i}{\|a\|} \frac{b_i}{\|b\|}.

    Parameters
    ----------
    n_components : int, optional
        Dimensions of the common space; as many as the ranks allow by default.
    reg : float or mapping of str to float, default=3.0
        Amount of regularisation, for all views or for each by role (or view name); see `CCA`.
    reg_style : {"relative", "ridge", "shrink", "spectral"}, default="relative"
        How the ridge is added; see `CCA`.
    power : float, default=1.0
        Power of the correlations in the sum.
    standardize : bool, default=False
        Scale every column by its training standard deviation first.
    contrast : float, default=0.0
        Share of the covariance of wrong pairs that is subtracted; see `CCA`.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    correlations_ : array of shape (n_components,)
        Canonical correlations, descending.
    weights_ : dict of str to array of shape (d, n_components)
        Weights of plain CCA, by role.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    n_components_ : int
        Dimensions of the common space.
    sums_ : dict of str to object
        Only after `partial_fit`; see `CCA`.

    See Also
    --------
    CCA : Weights the dimensions before the rows are divided by their lengths, which ranks better on
        our data.

    Notes
    -----
    ``transform`` multiplies the rows of length 1 by the square roots of the weights, so that their
    dot product is the similarity. Because dimensions without correlation add to the lengths,
    `n_components` matters more than for `CCA`.

    References
    ----------
    .. [1] P. Li, S. P. Chinchali and U. Topcu, CSA: data-efficient mapping of unimodal features to
           multimodal features, ICLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.subspace import CSA
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(100, 2))
    >>> X, Y = Z @ rng.normal(size=(2, 5)), Z @ rng.normal(size=(2, 4))
    >>> CSA(n_components=2, reg=0).fit(X, Y).score(X, Y)
    1.0
    """

    card = cards.CSA

    def __init__(
        self,
        n_components: int | None = None,
        *,
        reg: float | Mapping[str, float] = 3.0,
        reg_style: str = "relative",
        power: float = 1.0,
        standardize: bool = False,
        contrast: float = 0.0,
        views: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            n_components, reg=reg, reg_style=reg_style, power=power, standardize=standardize,
            contrast=contrast, views=views,
        )  # fmt: skip

    def _weighting(self) -> Matrix:
        return np.ones(self.n_components_)

    def _encode(self, values: Any, view: str) -> Any:
        rows = unit_rows(affine(values, self.means_[view], self.weights_[view]))
        # Its rounding does not matter for a diagonal, and it takes tensors too.
        roots = np.diag(self.correlations_ ** (self.power / 2))
        return affine(rows, np.zeros(self.n_components_), roots)

    def _own_similarity(self) -> str | Similarity:
        return "dot"
