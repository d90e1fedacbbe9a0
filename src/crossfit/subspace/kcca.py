"""Kernel canonical correlation analysis, exact or on a Nyström basis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial.distance import squareform
from sklearn.metrics.pairwise import (
    euclidean_distances,
    kernel_metrics,
    manhattan_distances,
    pairwise_kernels,
)
from sklearn.preprocessing import StandardScaler

from crossfit._arguments import integer, mapping_of, one_of, real
from crossfit._random import random_source
from crossfit.base import CrossModalEstimator
from crossfit.subspace import cards
from crossfit.subspace._linalg import (
    CHUNK,
    Matrix,
    Moments,
    check_range,
    fix_signs,
    kept_components,
    leading_svd,
    warn_of_perfect_fit,
)
from crossfit.views import Views, as_numpy

__all__ = ["KCCA"]

Kernel = str | Callable[[Any, Any], Any]

_KERNEL = one_of(*kernel_metrics())

# Directions of the feature space below this share of the largest variance are rounding errors.
_RANK = 1e-10


class KCCA(CrossModalEstimator):
    """Kernel canonical correlation analysis (KCCA).

    CCA in the feature spaces of two kernels. With the centred kernel matrices of the training
    rows it maximises ``α' Kx Kz β`` subject to ``α' (Kx² + k Kx) α = β' (Kz² + k Kz) β = 1``,
    which is ridge CCA of the features, with ``Φ'Φ + k I`` in place of ``Φ'Φ``.

    Parameters
    ----------
    n_components : int, optional
        Dimensions of the common space; as many as the ranks allow by default.
    kernel : str, callable or mapping of str to either, default="rbf"
        For both views or for each by role (or view name): a name accepted by
        ``sklearn.metrics.pairwise.pairwise_kernels`` (``"rbf"``, ``"poly"``, ``"linear"``,
        ``"laplacian"``, ``"chi2"``, ...), or a function ``(A, B) -> K`` of two arrays of rows, for
        instance one of ``sklearn.gaussian_process.kernels``.
    gamma : float or mapping of str to float, optional
        Parameter of the named kernels that have it. Default: 1 / median squared distance of
        training rows for ``"rbf"`` (median L1 distance for ``"laplacian"``), 1 / mean squared norm
        for ``"poly"`` and ``"sigmoid"`` (1 / p on standardised columns), scikit-learn's otherwise.
    degree : float, default=2
        Degree of the polynomial kernel.
    coef0 : float, default=1.0
        Constant of the polynomial and sigmoid kernels.
    reg : float or mapping of str to float, default=3.0
        ``k`` in units of the mean diagonal ``tr(K) / n`` of the centred kernel matrix, for both
        views or for each. Near 0, the correlations are 1 for any data and retrieval is at chance.
    power : float, default=1.0
        Scale every dimension by its correlation raised to this power, as in `CCA`. 0 is plain
        kernel CCA.
    n_landmarks : int, default=2500
        Number of training rows that span the feature space. With at most this many rows, all of
        them are used and the solution is exact; otherwise this number is drawn at random (Nyström).
    standardize : bool, default=False
        Subtract the training means and divide by the training standard deviations first.
    random_state : int, RandomState or None
        Seed for drawing the landmarks.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    correlations_ : array of shape (n_components,)
        Regularised canonical correlations, descending.
    landmarks_ : dict of str to array of shape (m, d)
        Rows with which the kernel is evaluated, by role, standardised if requested.
    weights_ : dict of str to array of shape (m, n_components)
        The coefficients α and β by role, which sum to zero; ``transform`` is
        ``(K(x, landmarks) - kernel_means) @ weights``.
    kernel_means_ : dict of str to array of shape (m,)
        Mean of the kernel over the training rows, for each landmark.
    means_, scales_ : dict of str to array of shape (d,)
        Values subtracted from the columns and then divided by; only with `standardize`.
    gamma_ : dict of str to float or None
        The value of gamma, or None if the kernel has no such parameter.
    n_components_ : int
        Dimensions of the common space.

    See Also
    --------
    CCA : The linear method.
    MACC : Quantises the components of kernel CCA.

    Notes
    -----
    With m landmarks, the kernels cost O(n m d), the covariances of the features O(n m²) and the
    decompositions O(m³); O(m (m + d)) numbers are held in memory. Beyond `n_landmarks` rows,
    nothing of size n × n is formed. Kernels are computed in float64. The features come from the
    incomplete Cholesky decomposition of the landmarks' centred kernel matrix, which leaves out
    linearly dependent rows; of an indefinite kernel (``"sigmoid"``) it keeps a positive part.
    Training scores have unit variance with ``reg=0, power=0``.

    References
    ----------
    D. R. Hardoon, S. Szedmak and J. Shawe-Taylor, Canonical correlation analysis: an overview
    with application to learning methods, Neural Computation 16, 2004, section 3.
    C. K. I. Williams and M. Seeger, Using the Nyström method to speed up kernel machines, NIPS
    2000. F. R. Bach and M. I. Jordan, Kernel independent component analysis, JMLR 3, 2002
    (incomplete Cholesky).

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.subspace import KCCA
    >>> angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 200)
    >>> X = np.c_[np.cos(angle), np.sin(angle)]
    >>> Y = np.c_[np.cos(2 * angle), np.sin(2 * angle)]  # no linear relation
    >>> kcca = KCCA(n_components=2, kernel="poly", reg=0.1).fit(X, Y)
    >>> bool(kcca.correlations_.min() > 0.95)
    True
    """

    card = cards.KCCA

    # Bundles that were written before this parameter was added are of methods without weights.
    _absent_parameters: ClassVar[dict[str, Any]] = {"power": 0.0}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [integer(1), None],
        "kernel": [_KERNEL, callable, mapping_of(_KERNEL, callable)],
        "gamma": [real(0), mapping_of(real(0), None), None],
        "degree": [real(1, closed="left")],
        "coef0": [real()],
        "reg": [real(0, closed="left"), mapping_of(real(0, closed="left"))],
        "power": [real(0, closed="left")],
        "n_landmarks": [integer(2)],
        "standardize": ["boolean"],
        "random_state": ["random_state"],
    }

    correlations_: Matrix
    landmarks_: dict[str, Matrix]
    weights_: dict[str, Matrix]
    kernel_means_: dict[str, Matrix]
    means_: dict[str, Matrix]
    scales_: dict[str, Matrix]
    gamma_: dict[str, float | None]
    n_components_: int

    def __init__(
        self,
        n_components: int | None = None,
        *,
        kernel: Kernel | Mapping[str, Kernel] = "rbf",
        gamma: float | Mapping[str, float | None] | None = None,
        degree: float = 2,
        coef0: float = 1.0,
        reg: float | Mapping[str, float] = 3.0,
        power: float = 1.0,
        n_landmarks: int = 2500,
        standardize: bool = False,
        random_state: int | np.random.RandomState | None = None,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.reg = reg
        self.power = power
        self.n_landmarks = n_landmarks
        self.standardize = standardize
        self.random_state = random_state
        self.views = views

    def _operations(self, n: int) -> float:
        m = min(n, self.n_landmarks)
        return n * (2 * m) ** 2 + m**3

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        check_range(self, views)
        reg = {role: self._of_view("reg", role) for role in views.names}
        for role in views.names:  # raises for missing entries before anything is computed
            self._of_view("kernel", role), self._of_view("gamma", role)

        n = len(views)
        rows: Any = slice(None)
        if n > self.n_landmarks:
            rng = random_source(self.random_state)
            rows = np.sort(rng.choice(n, self.n_landmarks, replace=False))
        self.means_, self.scales_, self.landmarks_, self.gamma_ = {}, {}, {}, {}
        features = {}
        for role in views.names:
            if self.standardize:
                scaler = StandardScaler()
                for chunk in _chunks(views):
                    scaler.partial_fit(_as_double(chunk[role]))
                self.means_[role], self.scales_[role] = scaler.mean_, scaler.scale_
            self.landmarks_[role] = self._columns(_as_double(views[rows][role]), role)
            self.gamma_[role] = self._gamma(role)
            features[role] = _Features(self._kernel(self.landmarks_[role], role))
            if features[role].rank == 0:
                raise self._alike(role)

        # ΦΦ' is K itself if all rows are landmarks, and Nyström's approximation otherwise.
        moments = Moments()
        self.kernel_means_ = {role: np.zeros(len(self.landmarks_[role])) for role in views.names}
        for chunk in _chunks(views):
            mapped = {}
            for role in views.names:
                K = self._kernel(self._columns(_as_double(chunk[role]), role), role)
                self.kernel_means_[role] += K.sum(axis=0) / n
                mapped[role] = features[role](K)
            moments.update(Views(mapped))
        S, (x, z) = moments.covariance(), moments.blocks()
        # Lx Lx' = (Φx'Φx + k I) / (n - 1), with k = reg tr(K) / n.
        Lx, Lz = (
            scipy.linalg.cholesky(
                S[b, b] + reg[role] * np.trace(S[b, b]) / n * np.eye(b.stop - b.start), lower=True
            )
            for role, b in zip(views.names, (x, z))
        )
        T = scipy.linalg.solve_triangular(Lx, S[x, z], lower=True)
        T = scipy.linalg.solve_triangular(Lz, T.T, lower=True).T
        U, D, V = leading_svd(T, self.n_components)
        k = kept_components(self, len(D))
        ranks = {role: part.rank for role, part in features.items()}
        warn_of_perfect_fit(self, n, ranks, lambda x, z: float(D[0]))
        directions = (
            scipy.linalg.solve_triangular(L, part, lower=True, trans="T")
            for L, part in ((Lx, U), (Lz, V))
        )
        alpha_beta = fix_signs(
            [features[role].coefficients(w) for role, w in zip(views.names, directions)]
        )
        self.correlations_ = D
        self.n_components_ = k
        weighting = D**self.power
        self.weights_ = {role: w * weighting for role, w in zip(views.names, alpha_beta)}

    def _encode(self, values: Any, view: str) -> Any:
        dtype = np.dtype(str(values.dtype).removeprefix("torch."))
        encoded = np.empty((values.shape[0], self.n_components_), dtype=dtype)
        for start in range(0, len(encoded), CHUNK):
            rows = slice(start, start + CHUNK)
            K = self._kernel(self._columns(_as_double(values[rows]), view), view)
            encoded[rows] = (K - self.kernel_means_[view]) @ self.weights_[view]
        return encoded

    def _columns(self, rows: Matrix, role: str) -> Matrix:
        if self.standardize:
            return (rows - self.means_[role]) / self.scales_[role]
        return rows

    def _kernel(self, rows: Matrix, role: str) -> Matrix:
        """Return the kernel between rows and landmarks."""
        kernel, landmarks = self._of_view("kernel", role), self.landmarks_[role]
        with np.errstate(over="ignore", invalid="ignore"):
            if callable(kernel):
                K = np.asarray(kernel(rows, landmarks), dtype=np.float64)
            else:
                options: dict[str, Any] = {"degree": self.degree, "coef0": self.coef0}
                if self.gamma_[role] is not None:
                    options["gamma"] = self.gamma_[role]
                K = pairwise_kernels(rows, landmarks, kernel, filter_params=True, **options)
        if K.shape != (len(rows), len(landmarks)):
            raise ValueError(
                f"kernel must return an array of shape (n, m), {(len(rows), len(landmarks))} "
                f"here, got {K.shape}"
            )
        if not np.isfinite(K).all():
            raise ValueError(
                f"KCCA: the kernel of view {self._view_name(role)!r} is not finite; change gamma "
                "or set standardize=True"
            )
        return K

    def _gamma(self, role: str) -> float | None:
        gamma, kernel = self._of_view("gamma", role), self._of_view("kernel", role)
        if gamma is not None:
            return float(gamma)
        landmarks = self.landmarks_[role]
        if kernel in ("poly", "polynomial", "sigmoid"):
            square = np.mean(np.sum(landmarks**2, axis=1))
            if square == 0:
                raise self._alike(role)
            return float(1 / square)
        if kernel not in ("rbf", "laplacian"):
            return None
        # Centring does not change distances, but makes them more accurate.
        centred = landmarks - landmarks.mean(axis=0)
        distances = squareform(
            euclidean_distances(centred, squared=True)
            if kernel == "rbf"
            else manhattan_distances(centred),
            checks=False,
        )
        # Equal rows must not make it 0; differences up to rounding error do not count as distances.
        apart = distances[distances > 1e-12 * distances.max()]
        if len(apart) == 0:
            raise self._alike(role)
        return float(1 / np.median(apart))

    def _alike(self, role: str) -> ValueError:
        return ValueError(
            f"KCCA: the kernel of view {self._view_name(role)!r} is the same for all rows: it "
            "has no variance to correlate"
        )


class _Features:
    """Features Φ of rows, from their kernel with the landmarks by incomplete Cholesky.

    With the landmarks' centred kernel matrix ``K = R'R`` on its pivots p,
    ``Φ(x) = k(x)_p R^-1``.
    """

    def __init__(self, K: Matrix) -> None:
        self._means = K.mean(axis=0)
        K = self._centred((K + K.T) / 2)
        largest = np.diag(K).max()
        noise = 10 * np.finfo(float).eps * np.abs(self._means).max()
        root, pivots, rank, _ = scipy.linalg.lapack.dpstrf(K, tol=max(_RANK * largest, noise))
        self.rank = int(rank) if largest > noise else 0
        self._root = np.triu(root[:rank, :rank])
        self._pivots = pivots[:rank] - 1

    def __call__(self, K: Matrix) -> Matrix:
        pivots = self._centred(K)[:, self._pivots]
        return scipy.linalg.solve_triangular(self._root, pivots.T, trans="T").T

    def coefficients(self, w: Matrix) -> Matrix:
        """Return α, of shape (m, k), with ``Φ w = K α`` for centred kernels K."""
        alpha = np.zeros((len(self._means), w.shape[1]))
        alpha[self._pivots] = scipy.linalg.solve_triangular(self._root, w)
        return alpha - alpha.mean(axis=0)

    def _centred(self, K: Matrix) -> Matrix:
        K = K - self._means
        return K - K.mean(axis=1, keepdims=True)


def _as_double(values: Any) -> Matrix:
    rows = values.toarray() if sp.issparse(values) else as_numpy(values)
    return rows.astype(np.float64)


def _chunks(views: Views) -> Iterator[Views]:
    for start in range(0, len(views), CHUNK):
        yield views[start : start + CHUNK]
