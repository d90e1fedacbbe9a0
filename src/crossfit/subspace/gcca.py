"""Generalised canonical correlation analysis (MAXVAR) for two or more views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import integer, mapping_of, not_views, one_of, real
from crossfit.subspace import cards
from crossfit.subspace._linalg import (
    REG_STYLES,
    Matrix,
    affine,
    check_range,
    eigh,
    fix_signs,
    kept_components,
    regularised,
    warn_of_perfect_fit,
    whiten,
)
from crossfit.subspace._patterns import Patterns
from crossfit.subspace._span import narrowed
from crossfit.subspace._weighted import Weighted
from crossfit.views import Views, as_numpy, is_views

__all__ = ["GCCA"]


class GCCA(Weighted):
    """Generalised canonical correlation analysis (GCCA), the MAXVAR criterion.

    Finds one representation G of the rows that every view predicts well,
    ``min Σ_i ‖G - X_i U_i‖²`` plus ridges on the U_i, subject to ``G'G = (n - 1) I``. With
    ``C_i = S_ii + r I`` and ``C_i^-1 = W_i W_i'``, G consists of the leading eigenvectors of the
    sum of the ridged projections ``Σ_i X_i C_i^-1 X_i'``, and ``U_i = C_i^-1 X_i' G / (n - 1)``.
    The projections are never formed: their sum has the eigenvalues of ``W' S W``, the joint
    covariance of the whitened views, and with its eigenvectors Q and eigenvalues mλ, for m views,
    ``U_i = W_i Q_i sqrt(m λ)``.

    Rows that lack a view are used too: with the diagonal matrices K_i of the rows that have view i
    and ``K = Σ_i K_i``, the criterion is ``min Σ_i ‖K_i (G - X_i U_i)‖²`` with ``G'KG`` a multiple
    of I. Then the eigenvectors are those of ``Σ_i X_i C_i^-1 X_i'`` weighted by ``K^-1/2`` on both
    sides, and a row with k views has the weight 1 / k in the products of views.

    Parameters
    ----------
    n_components : int, optional
        Dimensions of the common space; as many as the smallest rank of a view by default.
    reg : float or mapping of str to float, default=0.5
        Amount of regularisation, for all views or for each by role (or view name). By default,
        half the mean variance of the view's columns, which does not depend on its units.
    reg_style : {"relative", "ridge", "shrink", "spectral"}, default="relative"
        As in `CCA`.
    power : float, default=2.0
        Scale every dimension by its eigenvalue raised to this power, so that dimensions on which
        views do not agree have little weight in the cosine. 0 is plain GCCA.
    standardize : bool, default=False
        Scale every column by its training standard deviation first.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    eigenvalues_ : array of shape (n_components,)
        λ, descending, between 0 and 1: the mean over the views of the share of a dimension of G
        that the view predicts. Without ridges, 1 / m is the share of a dimension of one view
        alone, and for two views λ is ``(1 + ρ) / 2`` for the canonical correlation ρ. With
        ``reg_style="shrink"`` λ may exceed 1, because the joint covariance is not shrunk.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    n_components_ : int
        Dimensions of the common space.

    See Also
    --------
    CCA : Without ridges it has the same directions; its ridge does not favour directions of large
        variance.
    CCA3V : CCA with labels, tags or clusters as a third view.

    Notes
    -----
    The covariances cost O(n d²) and the eigenvectors O(d³), where d is the number of columns of
    all views together; rows are read once, in chunks. For a view with more columns than items, and
    more than 1024, d is the number of items. Tensors are processed on their device and returned as
    tensors.

    References
    ----------
    J. D. Carroll, Generalization of canonical correlation analysis to three or more sets of
    variables, Proceedings of the 76th Annual Convention of the American Psychological Association,
    1968. J. R. Kettenring, Canonical analysis of several sets of variables, Biometrika 58, 1971.
    Rows that lack a view: M. van de Velden and T. H. A. Bijmolt, Generalized canonical correlation
    analysis of matrices with missing rows: a simulation study, Psychometrika 71, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> from crossfit.subspace import GCCA
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(100, 2))
    >>> parts = [Z @ rng.normal(size=(2, d)) for d in (5, 4, 3)]
    >>> views = Views(image=parts[0], text=parts[1], sound=parts[2])
    >>> gcca = GCCA(n_components=2, reg=0).fit(views)
    >>> np.round(gcca.eigenvalues_, 6).tolist()
    [1.0, 1.0]
    >>> gcca.similarity(views, query="sound", gallery="text").shape
    (100, 100)
    """

    card = cards.GCCA

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [integer(1), None],
        "reg": [real(0, closed="left"), mapping_of(real(0, closed="left"))],
        "reg_style": [one_of(*REG_STYLES)],
        "power": [real(0, closed="left")],
        "standardize": ["boolean"],
    }

    eigenvalues_: Matrix
    n_components_: int
    means_: dict[str, Matrix]
    weights_: dict[str, Matrix]

    def __init__(
        self,
        n_components: int | None = None,
        *,
        reg: float | Mapping[str, float] = 0.5,
        reg_style: str = "relative",
        power: float = 2.0,
        standardize: bool = False,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.reg = reg
        self.reg_style = reg_style
        self.power = power
        self.standardize = standardize
        self.views = views

    def _fit(
        self, views: Views, y: NDArray[Any] | None, weights: NDArray[np.float64] | None = None
    ) -> None:
        roles = list(views.names)
        amounts = {role: float(self._of_view("reg", role)) for role in roles}
        check_range(self, views)
        narrow, spans = narrowed(views, self.standardize, weights=weights)
        moments = Patterns()
        least = min(amounts.values()) if self.reg_style in ("relative", "spectral") else 0.0
        moments.update(narrow, least, weights)

        moments.check(self, views.names)

        W, scales, means, n = {}, {}, {}, {}
        for role in roles:
            own = moments.of(role)
            S, means[role], n[role] = own.covariance(), own.means()[0], own.n
            if not np.any(np.diag(S) > 0):
                raise ValueError(
                    f"GCCA: view {self._view_name(role)!r} is constant: it has no variance to "
                    "correlate"
                )
            scales[role] = np.ones(len(S))
            if self.standardize and role not in spans:  # a span was scaled before it was mapped
                scales[role] = np.sqrt(np.where(np.diag(S) > 0, np.diag(S), 1.0))
            S = S / np.outer(scales[role], scales[role])
            ridged = regularised(S, amounts[role], self.reg_style, self.n_features_in_[role])
            W[role] = whiten(ridged, tol=10 * own.rounding()[0]) / scales[role][:, None]

        # A'A of the whitened views A_i, whose sum of A_i A_i' are the projections.
        crossed = moments.weighted(means)
        root = {role: np.sqrt(n[role] - 1) for role in roles}
        stops = np.cumsum([W[role].shape[1] for role in roles])
        M = np.zeros((stops[-1], stops[-1]))
        parts = {r: slice(int(stop) - W[r].shape[1], int(stop)) for r, stop in zip(roles, stops)}
        for a in roles:
            for b in roles:
                block = W[a].T @ crossed[a, b] @ W[b] / (root[a] * root[b])
                M[parts[a], parts[b]] = block
        values, Q = eigh(M)
        values, Q = np.maximum(values[::-1], 0.0), Q[:, ::-1]
        ranks = {role: W[role].shape[1] for role in roles}
        rank = int(np.count_nonzero(values > 1e-10 * values[0]))
        k = kept_components(self, max(1, min(rank, *ranks.values())))
        if views.is_complete:
            warn_of_perfect_fit(self, n[roles[0]], ranks, lambda a, b: float(
                len(roles) * np.linalg.norm(M[parts[a], parts[b]], 2)
            ))  # fmt: skip

        self.eigenvalues_, self.n_components_ = values[:k], k
        total = sum(n.values()) - len(n)
        maps = []
        for role in roles:
            U = W[role] @ Q[parts[role], :k] * np.sqrt(values[:k] * total) / root[role]
            if role in spans:
                U, means[role] = spans[role].weights(U), spans[role].mean
            maps.append(U)
        self.means_ = means
        weighting = self.eigenvalues_**self.power
        self.weights_ = {role: U * weighting for role, U in zip(roles, fix_signs(maps))}

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])

    def shared(self, X: Views) -> NDArray[Any]:
        """Return the shared representation of rows: the mean over the views that they have.

        Parameters
        ----------
        X : Views
            Any subset of the modalities of the fit.

        Returns
        -------
        array of shape (n, n_components)
            On the training rows and without ridges, the columns of G up to their scales.

        Raises
        ------
        ValueError
            If a row has none of the views.
        TypeError
            If X is not Views.
        """
        if not is_views(X):
            raise not_views("GCCA.shared", X)
        encoded = self.transform(X)
        total = np.zeros((len(X), self.n_components_))
        count = np.zeros((len(X), 1))
        for name in encoded.names:
            items, row_to_item = encoded.distinct(name)
            has = row_to_item >= 0
            total[has] += as_numpy(items)[row_to_item[has]]
            count[has] += 1
        if not count.all():
            raise ValueError(
                f"GCCA.shared: row {int(np.argmin(count))} has none of the views "
                f"{', '.join(encoded.names)}; leave it out"
            )
        return total / count
