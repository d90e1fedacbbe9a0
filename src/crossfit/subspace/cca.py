"""Canonical correlation analysis with regularisation, for two or more views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import integer, mapping_of, one_of, real
from crossfit._arrays import NUMPY_DEFAULTS
from crossfit._threads import few_threads
from crossfit.labels import row_weights
from crossfit.subspace import cards
from crossfit.subspace._contrast import confused
from crossfit.subspace._linalg import (
    REG_STYLES,
    Matrix,
    Moments,
    affine,
    check_range,
    eigh,
    fix_signs,
    kept_components,
    leading_svd,
    regularised,
    unit_rows,
    warn_of_perfect_fit,
    whiten,
)
from crossfit.subspace._patterns import Patterns
from crossfit.subspace._span import Span, narrowed
from crossfit.subspace._weighted import Weighted
from crossfit.views import Views, as_numpy

__all__ = ["CCA"]

SOLUTION = ("correlations_", "n_components_", "means_", "weights_")


class CCA(Weighted):
    """Canonical correlation analysis (CCA).

    Finds directions a, b of two views that maximise ``a' Sxz b`` subject to
    ``a' (Sxx + rI) a = b' (Szz + rI) b = 1``. With the covariances whitened,
    ``T = Wx' Sxz Wz`` and its singular value decomposition ``T = U D V'`` give
    ``A = Wx U`` and ``B = Wz V``; the singular values are the canonical correlations.

    With more than two views, the eigenvectors of the matrix of all whitened
    cross-covariances are taken instead (multi-set CCA, maximal sum of correlations); for
    two views the result is the same.

    Rows that lack a view are used too (semi-supervised CCA): the mean and the covariance of a view
    are those of all rows that have it, and the cross-covariance of two views is that of the rows
    that have both. ``fit(views.complete())`` leaves the other rows out.

    Parameters
    ----------
    n_components : int, optional
        Dimensions of the common space; as many as the ranks allow by default.
    reg : float or mapping of str to float, default=3.0
        Amount of regularisation, for all views or for each by role (or view name). By default,
        three times the mean variance of the view's columns is added, which does not depend on its
        units. Covariances are often singular (histograms sum to one), and on real features the
        ridge matters more than the choice of method. Without a ridge, views whose ranks add up to
        more than the number of rows correlate perfectly whatever their values; `fit` then warns.
    reg_style : {"relative", "ridge", "shrink", "spectral"}, default="relative"
        ``"relative"``: S + r tr(S)/p I, independent of scale. ``"ridge"``: S + r I. ``"shrink"``:
        (1 - r) S + r I, with r at most 1. ``"spectral"``: S + r λmax(S) I. The default of `reg` is
        meant for ``"relative"``.
    power : float, default=1.0
        Scale every dimension by its canonical correlation raised to this power, so that dimensions
        without correlation have no weight in the cosine and `n_components` hardly matters. 0 is
        plain CCA. Smaller values suit the retrieval of the one paired item, larger values that of
        a class.
    standardize : bool, default=False
        Scale every column by its training standard deviation first.
    contrast : float, default=0.0
        Share c, below 1, of the covariance of wrong pairs that is subtracted from that of the
        pairs, in one step from the solution without it; see Notes. 0 is plain CCA; try 0.5. Two
        views only, and not with `partial_fit`, because the pairs are read again.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    correlations_ : array of shape (n_components,)
        Canonical correlations, descending. With m > 2 views: the mean over the pairs of views
        for a unit-variance direction. With ``reg_style="shrink"`` they may exceed 1, because
        the cross-covariance is not shrunk, and if rows lack a view, because it is that of fewer
        rows.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    n_components_ : int
        Dimensions of the common space.
    sums_ : dict of str to object
        Only after `partial_fit`: sums over the pairs so far, to which more can be added.

    See Also
    --------
    PLS : Maximises the covariance instead of the correlation.
    KCCA : CCA in the feature spaces of kernels.
    CCA3V : CCA with labels, tags or clusters as a third view.

    Notes
    -----
    The covariances cost O(n d²) and the decompositions O(d³), where d is the number of columns of
    all views together; O(d²) numbers are held in memory. Rows are read in chunks, so memory-mapped
    arrays of any length can be used. For a view with more columns than items, and more than 1024,
    d is the number of items, and sparse rows stay sparse. Products are computed in the precision
    of the data and summed in float64; they are computed in float64 too if float32 would lose a
    small variance next to a large one and no ridge compensates. Small fits run on one thread.
    Use `partial_fit` for pairs that arrive in batches; for pairs spread over several workers, fit
    one CCA per worker and combine them with `merge`. Tensors are processed on their device and
    returned as tensors; the decompositions of small matrices run in NumPy. Scores have unit
    variance with ``reg=0, power=0``, unlike those of ``sklearn.cross_decomposition.CCA``.

    With `contrast`, pairs that the solution confuses are pushed apart [1]_, [2]_: of whitened
    rows x and z, ``T - c N`` is decomposed in place of ``T = E[x z']``. N is the same mean over
    wrong pairs, each x with every z of other groups, weighted by the softmax of ten times the
    cosine in the common space of the first solution, averaged with that of each z with every x.
    This takes the products of all items of both views. `correlations_` are the singular values of
    the difference.

    The defaults of `reg` and `power` are fixed numbers, chosen once such that the defaults come
    close to tuned parameters on several data sets; the documentation shows the comparison.

    References
    ----------
    H. Hotelling, Relations between two sets of variates, Biometrika 28, 1936. Ridge: H. D. Vinod,
    Canonical ridge and econometrics of joint production, J. Econometrics 4, 1976. Weighting by
    powers: Y. Gong, Q. Ke, M. Isard and S. Lazebnik, A multi-view embedding space for modeling
    internet images, tags, and their semantics, IJCV 106, 2014.

    .. [1] R. Nakada et al., Understanding multimodal contrastive learning and incorporating
           unpaired data, AISTATS 2023.
    .. [2] UniCon, ICLR 2026.

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

    Fitting in batches:

    >>> streamed = CCA(n_components=2, reg=0)
    >>> for start in range(0, 100, 25):
    ...     streamed = streamed.partial_fit(X[start : start + 25], Y[start : start + 25])
    >>> bool(np.allclose(streamed.transform(X), cca.transform(X)))
    True
    """

    card = cards.CCA

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [integer(1), None],
        "reg": [real(0, closed="left"), mapping_of(real(0, closed="left"))],
        "reg_style": [one_of(*REG_STYLES)],
        "power": [real(0, closed="left")],
        "standardize": ["boolean"],
        "contrast": [real(0, 1, closed="left")],
    }

    correlations_: Matrix
    n_components_: int
    means_: dict[str, Matrix]
    weights_: dict[str, Matrix]
    sums_: dict[str, Any]

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
        self.n_components = n_components
        self.reg = reg
        self.reg_style = reg_style
        self.power = power
        self.standardize = standardize
        self.contrast = contrast
        self.views = views

    def _fit(
        self, views: Views, y: NDArray[Any] | None, weights: NDArray[np.float64] | None = None
    ) -> None:
        self._forget(["sums_"])
        self._ridges()
        if self.contrast and len(views.names) > 2:
            raise ValueError(
                f"{self._name()}: contrast needs two views, got {len(views.names)}; set contrast=0"
            )
        if self.contrast and weights is not None:
            raise ValueError(
                f"{self._name()}: contrast does not take weights of rows; set contrast=0, or fit "
                "without sample_weight"
            )
        complete = views.is_complete
        if self.contrast and not complete:
            raise ValueError(
                f"{self._name()}: contrast compares pairs, but some rows lack a view; fit on "
                "views.complete(), or set contrast=0"
            )
        check_range(self, views)
        # A row is a pair: an image with five captions counts five times in the covariances.
        narrow, spans = narrowed(views, self.standardize, weights=weights)
        moments = Patterns()
        moments.update(narrow, self._least_ridge(), weights)
        moments.check(self, views.names)
        joint = moments.joint(*views.names)
        whitening = self._solve(joint, spans, complete=complete)
        if self.contrast:
            self._solve(joint, spans, self.contrast * self._wrong_pairs(narrow, whitening))

    def _wrong_pairs(self, views: Views, whitening: Mapping[str, _Whitened]) -> Matrix:
        """Return the mean of x z' over pairs of the wrong groups that the solution confuses."""
        x, z = (
            part.items(views.distinct(role)[0], self.correlations_**self.power)
            for role, part in whitening.items()
        )
        return confused(views, x, z)

    def partial_fit(
        self, X: Any, Y: Any = None, y: Any = None, *, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit on more pairs; the result equals one `fit` on the pairs of all calls.

        Only sums are kept, O(d²) numbers whatever the number of rows. The decomposition is
        computed when a fitted attribute, `transform` or `similarity` first needs it, with the
        parameters at that time.

        Parameters
        ----------
        X, Y, y
            As in `fit`; one row is enough. Views of later calls are matched by name.
        sample_weight : array-like of shape (n,), optional
            Weights of these rows, as in `fit`; those of one call may add up to any number.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            As for `fit`, or if this CCA was fitted by `fit`, which keeps no sums. A call that
            raises adds nothing.
        """
        self._validate_params()
        if self.contrast:
            raise ValueError(
                f"{self._name()}: contrast reads the pairs twice, but partial_fit keeps only sums; "
                "call fit, or set contrast=0"
            )
        self._streams()
        # Summed separately, so that rows that cannot be read leave nothing half added.
        moments = Moments()
        with self._more_rows(X, Y, y) as views:
            self._ridges()
            check_range(self, views)
            weights = None
            if sample_weight is not None:
                weights = row_weights(sample_weight, len(views), f"{self._name()}: ")
            moments.update(views, self._least_ridge(), weights=weights)
        return self._add(moments)

    def merge(self, other: CCA) -> Self:
        """Add the pairs that another CCA has received by `partial_fit`, for instance on a worker.

        Parameters
        ----------
        other : CCA
            A CCA of the same views; it is not changed.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If either was fitted by `fit`, which keeps no sums, or their views differ.

        Examples
        --------
        >>> import numpy as np
        >>> from crossfit.subspace import CCA
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 5))
        >>> Y = X[:, :4] + rng.normal(size=(100, 4))
        >>> first, second = CCA().partial_fit(X[:30], Y[:30]), CCA().partial_fit(X[30:], Y[30:])
        >>> bool(np.allclose(first.merge(second).correlations_, CCA().fit(X, Y).correlations_))
        True
        """
        first = not self._streams()
        if not other._streams():
            return self
        if first:
            self.views_in_, self.n_features_in_ = other.views_in_, other.n_features_in_
            self._set_columns(getattr(other, "feature_names_in_", {}))
        mine, others = (
            {m.views_in_[role]: size for role, size in m.n_features_in_.items()}
            for m in (self, other)
        )
        if list(mine.items()) != list(others.items()):
            raise ValueError(f"CCA.merge expects views of columns {mine}, got {others}")
        return self._add(Moments(**other.sums_))

    def _streams(self) -> bool:
        """Return True if rows were added by `partial_fit`; raise if `fit` was called."""
        if "sums_" in vars(self):
            return True
        if hasattr(self, "views_in_"):
            raise ValueError(
                "CCA: was fitted by fit, which keeps no sums to which rows could be added; "
                "call partial_fit on a new CCA"
            )
        return False

    def _add(self, moments: Moments) -> Self:
        total = Moments(**self.sums_) if "sums_" in vars(self) else Moments()
        with np.errstate(**NUMPY_DEFAULTS):
            total.merge(moments)
        self.sums_ = vars(total)
        self._forget(SOLUTION)
        return self

    def __getattr__(self, name: str) -> Any:
        # Called only for missing attributes, such as the solution after partial_fit.
        if name in SOLUTION and "sums_" in self.__dict__:
            d = sum(self.n_features_in_.values())
            with np.errstate(**NUMPY_DEFAULTS), few_threads(d**3):
                self._solve(Moments(**self.sums_))
            return self.__dict__[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self.__dict__.pop(name, None)

    def _solve(
        self,
        moments: Moments,
        spans: Mapping[str, Span] = MappingProxyType({}),
        wrong: Matrix | None = None,
        *,
        complete: bool = True,
    ) -> dict[str, _Whitened]:
        if moments.n < 2:
            raise ValueError(f"CCA needs at least 2 rows, got n_samples = {moments.n}")
        self._validate_params()
        roles, amounts = list(self.views_in_), self._ridges()
        S, blocks = moments.covariance(), moments.blocks()
        scale = np.ones(len(S))
        if self.standardize:
            deviations = np.sqrt(np.diag(S))
            scale = np.where(deviations > 0, deviations, 1.0)
            for role, block in zip(roles, blocks):
                if role in spans:  # was scaled before it was mapped
                    scale[block] = 1.0
            S = S / np.outer(scale, scale)

        W = []
        for role, block, rounding in zip(roles, blocks, moments.rounding()):
            if not np.any(np.diag(S[block, block]) > 0):
                raise ValueError(
                    f"CCA: view {self._view_name(role)!r} is constant: it has no "
                    "variance to correlate"
                )
            n_columns = self.n_features_in_[role]
            ridged = regularised(S[block, block], amounts[role], self.reg_style, n_columns)
            W.append(whiten(ridged, tol=10 * rounding))

        correlations, directions = _decompose(S, blocks, W, self.n_components, wrong)
        # A ridge makes whitening possible even for directions without variance, but these have no
        # correlation and are determined by rounding alone.
        rank = np.count_nonzero(correlations > np.sqrt(max(moments.rounding())) * correlations[0])
        limit = "the views' rank allows"
        if rank < min(w.shape[1] for w in W):
            limit = "the directions whose correlation exceeds rounding errors"
        k = kept_components(self, max(1, int(rank)), limit)

        def largest(x: str, z: str) -> float:
            if len(roles) == 2:
                return float(correlations[0])
            i, j = roles.index(x), roles.index(z)
            return float(np.linalg.norm(W[i].T @ S[blocks[i], blocks[j]] @ W[j], 2))

        if complete:
            ranks = {role: w.shape[1] for role, w in zip(roles, W)}
            warn_of_perfect_fit(self, moments.n, ranks, largest)
        weights = [w @ u[:, :k] / scale[b, None] for w, u, b in zip(W, directions, blocks)]
        means = dict(zip(roles, moments.means()))
        whitened = {
            role: _Whitened(means[role], w / scale[b, None], u[:, :k])
            for role, w, u, b in zip(roles, W, directions, blocks)
        }
        for i, role in enumerate(roles):
            if role in spans:
                weights[i], means[role] = spans[role].weights(weights[i]), spans[role].mean
        self.correlations_ = np.maximum(correlations[:k], 0.0)
        self.n_components_ = k
        weighting = self._weighting()
        self.means_ = means
        self.weights_ = {role: w * weighting for role, w in zip(roles, fix_signs(weights))}
        return whitened

    def _weighting(self) -> Matrix:
        """Return the factors of the dimensions."""
        return self.correlations_**self.power

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])

    def _ridges(self) -> dict[str, float]:
        """Return the amount of regularisation by role."""
        return {role: float(self._of_view("reg", role)) for role in self.views_in_}

    def _least_ridge(self) -> float:
        """Return the least share of the mean variance that is added to the variances of a view."""
        relative = self.reg_style in ("relative", "spectral")
        return min(self._ridges().values()) if relative else 0.0

    def _validate_params(self) -> None:
        super()._validate_params()
        amounts = self.reg.values() if isinstance(self.reg, Mapping) else [self.reg]
        for amount in amounts:
            if self.reg_style == "shrink" and amount > 1:
                raise ValueError(f"reg must be at most 1 with reg_style='shrink', got {amount!r}")


class _Whitened(NamedTuple):
    """The whitening of a view, in the coordinates of its moments, and the solution in it."""

    mean: Matrix
    weights: Matrix
    directions: Matrix

    def items(self, values: Any, weighting: Matrix) -> tuple[Matrix, Matrix]:
        """Return whitened items, and unit rows in the common space."""
        white = as_numpy(affine(values, self.mean, self.weights))
        return white, unit_rows(white @ (self.directions * weighting))


def _decompose(
    S: Matrix,
    blocks: list[slice],
    W: list[Matrix],
    k: int | None = None,
    wrong: Matrix | None = None,
) -> tuple[Matrix, list[Matrix]]:
    """Return correlations, descending, and each view's directions in whitened coordinates."""
    if len(blocks) == 2:
        T = W[0].T @ S[blocks[0], blocks[1]] @ W[1]
        if wrong is not None:
            T = T - wrong
        U, D, V = leading_svd(T, k)
        return D, [U, V]
    m = len(blocks)
    stops = np.cumsum([w.shape[1] for w in W])
    parts = [slice(int(stop) - w.shape[1], int(stop)) for w, stop in zip(W, stops)]
    M = np.zeros((stops[-1], stops[-1]))
    for i in range(m):
        for j in range(i):
            M[parts[i], parts[j]] = W[i].T @ S[blocks[i], blocks[j]] @ W[j]
    values, vectors = eigh(M, lower=True)
    rank = min(w.shape[1] for w in W)
    vectors = vectors[:, ::-1][:, :rank] * np.sqrt(m)
    return values[::-1][:rank] / (m - 1), [vectors[part] for part in parts]
