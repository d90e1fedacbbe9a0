"""Canonical correlation analysis: Hotelling's, regularised, for two or more views."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from crossfit.base import CrossModalEstimator
from crossfit.subspace import cards
from crossfit.subspace._linalg import Matrix, Moments, affine, fix_signs, whiten
from crossfit.views import Views

__all__ = ["CCA"]

REG_STYLES = ("relative", "ridge", "shrink", "spectral")


class CCA(CrossModalEstimator):
    """Canonical correlation analysis.

    Finds directions a, b of two views that maximise ``a' Sxz b`` subject to
    ``a' (Sxx + rI) a = b' (Szz + rI) b = 1``. With the covariances whitened,
    ``T = Wx' Sxz Wz`` and its singular value decomposition ``T = U D V'`` give
    ``A = Wx U`` and ``B = Wz V``; the singular values are the canonical correlations.

    With more than two views, the eigenvectors of the matrix of all whitened
    cross-covariances are taken instead (multi-set CCA, maximal sum of correlations), which for
    two views is the same.

    Parameters
    ----------
    n_components : int, optional
        Dimensions of the common space; as many as the ranks allow by default.
    reg : float or mapping of str to float
        Amount of regularisation, for all views or for each by role (or view name).
        Covariances are often singular (histograms sum to one), and on real features the ridge
        matters more than the method.
    reg_style : {"relative", "ridge", "shrink", "spectral"}
        ``"relative"``: S + r tr(S)/p I, free of scale. ``"ridge"``: S + r I. ``"shrink"``:
        (1 - r) S + r I, with r at most 1. ``"spectral"``: S + r λmax(S) I.
    power : float
        Scale every dimension by its canonical correlation to this power. 0 is CCA; 1 and 4 often
        retrieve better.
    standardize : bool
        Scale every column by its training standard deviation first.
    views : mapping of str to str, optional
        Role to view name, where names and order do not say it.

    Attributes
    ----------
    correlations_ : array of shape (n_components,)
        Canonical correlations, descending. With m > 2 views: the mean over the pairs of views
        of a unit-variance direction. With ``reg_style="shrink"`` they may exceed 1, because
        the cross-covariance is not shrunk.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    n_components_ : int
        Dimensions of the common space.

    Notes
    -----
    Costs O(n d²) for the covariances and O(d³) for the decompositions, d the columns of all
    views together, and holds O(d²) numbers; rows are read in chunks, so that memory-mapped
    arrays of any length do. Scores have unit variance (with ``reg=0``), unlike those of
    ``sklearn.cross_decomposition.CCA``.

    References
    ----------
    H. Hotelling, Relations between two sets of variates, Biometrika 28, 1936. Ridge: H. D. Vinod,
    Canonical ridge and econometrics of joint production, J. Econometrics 4, 1976. Weighting by
    powers: Y. Gong, Q. Ke, M. Isard and S. Lazebnik, A multi-view embedding space for modeling
    internet images, tags, and their semantics, IJCV 106, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.subspace import CCA
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(100, 2))
    >>> X, Y = Z @ rng.normal(size=(2, 5)), Z @ rng.normal(size=(2, 4))
    >>> cca = CCA(n_components=2, reg=0).fit(X, Y)
    >>> np.round(cca.correlations_, 6).tolist()
    [1.0, 1.0]
    >>> cca.score(X, Y)
    1.0
    """

    card = cards.CCA

    def __init__(
        self,
        n_components: int | None = None,
        *,
        reg: float | Mapping[str, float] = 1e-3,
        reg_style: str = "relative",
        power: float = 0.0,
        standardize: bool = False,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.reg = reg
        self.reg_style = reg_style
        self.power = power
        self.standardize = standardize
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        k = self.n_components
        if k is not None and (not isinstance(k, Integral) or k < 1):
            raise ValueError(f"n_components must be a positive integer or None, got {k!r}")
        if not isinstance(self.power, Real) or not 0 <= self.power < np.inf:
            raise ValueError(f"power must be a number of at least 0, got {self.power!r}")
        amounts = {role: self._amount(role) for role in views.names}

        moments = Moments()
        # A row is a pair: an image with five captions counts five times in the covariances.
        moments.update(views)
        S, blocks = moments.covariance(), moments.blocks()
        scale = np.ones(len(S))
        if self.standardize:
            deviations = np.sqrt(np.diag(S))
            scale = np.where(deviations > 0, deviations, 1.0)
            S = S / np.outer(scale, scale)

        W = []
        for role, block in zip(views.names, blocks):
            if not np.any(np.diag(S[block, block]) > 0):
                raise ValueError(
                    f"CCA: view {self._view_name(role)!r} is constant: it has no "
                    "variance to correlate"
                )
            regularised = _regularise(S[block, block], amounts[role], self.reg_style)
            W.append(whiten(regularised, tol=10 * moments.eps))

        correlations, directions = _decompose(S, blocks, W)
        largest = len(correlations)
        if k is not None and k > largest:
            warnings.warn(
                f"CCA: n_components={k} is more than the views' rank allows; {largest} are kept",
                stacklevel=3,
            )
        k = largest if k is None else min(int(k), largest)
        weights = fix_signs(
            [w @ u[:, :k] / scale[b, None] for w, u, b in zip(W, directions, blocks)]
        )
        self.correlations_ = np.maximum(correlations[:k], 0.0)
        self.n_components_ = k
        weighting = self.correlations_**self.power
        self.means_: dict[str, Matrix] = dict(zip(views.names, moments.means()))
        self.weights_: dict[str, Matrix] = {
            role: w * weighting for role, w in zip(views.names, weights)
        }

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])

    def _amount(self, role: str) -> float:
        if isinstance(self.reg, Mapping):
            amount = self.reg.get(role, self.reg.get(self._view_name(role)))
            if amount is None:
                raise ValueError(f"reg has no entry for {role!r}, got {', '.join(self.reg)}")
        else:
            amount = self.reg
        if not isinstance(amount, Real) or not 0 <= amount < np.inf:
            raise ValueError(f"reg must be a number of at least 0, got {amount!r}")
        if self.reg_style not in REG_STYLES:
            raise ValueError(
                f"reg_style must be one of {', '.join(REG_STYLES)}, got {self.reg_style!r}"
            )
        if self.reg_style == "shrink" and amount > 1:
            raise ValueError(f"reg must be at most 1 with reg_style='shrink', got {amount!r}")
        return float(amount)


def _regularise(S: Matrix, r: float, style: str) -> Matrix:
    identity = np.eye(len(S))
    if style == "shrink":
        return (1 - r) * S + r * identity
    if style == "relative":
        r *= np.trace(S) / len(S)
    elif style == "spectral":
        r *= scipy.linalg.eigvalsh(S)[-1]
    return S + r * identity


def _decompose(S: Matrix, blocks: list[slice], W: list[Matrix]) -> tuple[Matrix, list[Matrix]]:
    """Return correlations, descending, and each view's directions in whitened coordinates."""
    if len(blocks) == 2:
        T = W[0].T @ S[blocks[0], blocks[1]] @ W[1]
        U, D, Vt = scipy.linalg.svd(T, full_matrices=False)
        return D, [U, Vt.T]
    m = len(blocks)
    stops = np.cumsum([w.shape[1] for w in W])
    parts = [slice(int(stop) - w.shape[1], int(stop)) for w, stop in zip(W, stops)]
    M = np.zeros((stops[-1], stops[-1]))
    for i in range(m):
        for j in range(i):
            M[parts[i], parts[j]] = W[i].T @ S[blocks[i], blocks[j]] @ W[j]
    values, vectors = scipy.linalg.eigh(M, lower=True)
    rank = min(w.shape[1] for w in W)
    vectors = vectors[:, ::-1][:, :rank] * np.sqrt(m)
    return values[::-1][:rank] / (m - 1), [vectors[part] for part in parts]
