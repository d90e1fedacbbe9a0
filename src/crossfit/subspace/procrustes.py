"""Orthogonal Procrustes: a rotation of the principal components of one view onto the other's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import integer
from crossfit.subspace import cards
from crossfit.subspace._joint import joint_covariance
from crossfit.subspace._linalg import (
    CHUNK,
    affine,
    eigh,
    fix_signs,
    kept_components,
    svd,
    unit_rows,
)
from crossfit.subspace._weighted import Weighted
from crossfit.views import Views, as_numpy

__all__ = ["Procrustes"]


class Procrustes(Weighted):
    """Orthogonal Procrustes alignment of principal components [1]_.

    Both views are reduced to their k principal components and to rows of length 1, x and z. The
    rotation ``R = U V'`` of the singular value decomposition ``X'Z = U S V'`` minimises
    ``||X R - Z||²``; equivalently, ``x U`` and ``z V`` are compared.

    Parameters
    ----------
    n_components : int, optional
        Number k of principal components of each view; by default as many as both have.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    singular_values_ : array of shape (n_components,)
        The singular values of ``X'Z / n``, descending: at most 1 in total.
    weights_ : dict of str to array of shape (d, n_components)
        Principal directions, by role.
    rotations_ : dict of str to array of shape (n_components, n_components)
        U and V, by role.
    means_ : dict of str to array of shape (d,)
        Training means, by role.
    n_components_ : int
        Dimensions of the common space.

    See Also
    --------
    CCA : Whitens the views, so that directions of low variance count as much as others.

    Notes
    -----
    A rotation keeps angles within a view, so that it suits views whose geometries are alike.
    Costs O(n d²), where d is the number of columns of both views together. For a view with more
    columns than items, and more than 1024, d is the number of items. Rows are read in chunks.

    References
    ----------
    .. [1] P. H. Schönemann, A generalized solution of the orthogonal Procrustes problem,
           Psychometrika 31, 1966.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.subspace import Procrustes
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 3)) * [3, 2, 1]
    >>> Z = X[:, [2, 0, 1]]
    >>> scores = Procrustes().fit(X, Z).similarity(X, Z)
    >>> bool((scores.argmax(axis=1) == np.arange(50)).all())
    True
    """

    card = cards.PROCRUSTES

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"n_components": [integer(1), None]}

    def __init__(
        self, n_components: int | None = None, *, views: Mapping[str, str] | None = None
    ) -> None:
        self.n_components = n_components
        self.views = views

    def _fit(
        self, views: Views, y: NDArray[Any] | None, weights: NDArray[np.float64] | None = None
    ) -> None:
        roles = views.names
        S = joint_covariance(self, views, weights=weights)
        spectra = {role: eigh(S(role)) for role in roles}  # ascending
        ranks = [
            int(np.sum(values > 10 * S.rounding[role] * values.max()))
            for role, (values, _) in spectra.items()
        ]
        k = kept_components(self, max(1, min(ranks)))
        leading = {role: vectors[:, ::-1][:, :k] for role, (_, vectors) in spectra.items()}
        self.means_ = {role: S.mean(role) for role in roles}
        self.weights_ = {role: fix_signs([S.weights(role, W)])[0] for role, W in leading.items()}
        products = np.zeros((k, k))
        for start in range(0, len(views), CHUNK):
            rows = slice(start, start + CHUNK)
            chunk = views[rows]
            x, z = (as_numpy(self._components(chunk[role], role)) for role in roles)
            x = x.astype(np.float64)
            if weights is not None:
                x *= weights[rows, None]
            products += x.T @ z.astype(np.float64)
        U, s, Vt = svd(products / S.n)
        U, V = fix_signs([U, Vt.T])
        self.singular_values_ = s
        self.n_components_ = k
        self.rotations_ = dict(zip(roles, (U, V)))

    def _components(self, values: Any, view: str) -> Any:
        return unit_rows(affine(values, self.means_[view], self.weights_[view]))

    def _encode(self, values: Any, view: str) -> Any:
        rotation = self.rotations_[view]
        return affine(self._components(values, view), np.zeros(len(rotation)), rotation)
