"""Generalised multiview analysis: BLM, GMLDA and GMMFA solve one eigenvalue problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import kneighbors_graph

from crossfit._arguments import integer, one_of, real
from crossfit.base import CrossModalEstimator
from crossfit.subspace import cards
from crossfit.subspace._graph import quadratic_form
from crossfit.subspace._joint import Joint, indicator, joint_covariance
from crossfit.subspace._linalg import (
    Matrix,
    affine,
    eigh,
    fix_signs,
    generalized_eigh,
    kept_components,
)
from crossfit.subspace._weighted import Weighted
from crossfit.views import Views, as_numpy

__all__ = ["BLM", "GMLDA", "GMMFA"]

LABELS = "label indicator"

# Memory for the distances held at a time.
_MEGABYTES = 64


class _GeneralizedMultiview(CrossModalEstimator):
    """Base class; subclasses define what each view maximises and which constraint it satisfies."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [integer(1), None],
        "alpha": [real(0, closed="left")],
        "variance": [real(0, 1, closed="right")],
        "reg": [real(0, closed="left")],
        "standardize": ["boolean"],
    }

    n_components: int | None
    alpha: float
    align: str = "pairs"
    variance: float
    reg: float
    standardize: bool

    def _scatters(
        self, role: str, views: Views, joint: Joint, P: Matrix, labels: Any
    ) -> tuple[Matrix, Matrix]:
        """Return A and B of one view, in the coordinates of its principal components P."""
        raise NotImplementedError

    def _fit(
        self, views: Views, y: NDArray[Any] | None, weights: NDArray[np.float64] | None = None
    ) -> None:
        labels = {}
        if y is not None:
            self.classes_, labels[LABELS] = indicator(self, y)
        joint = joint_covariance(self, views, labels, standardize=self.standardize, weights=weights)
        x, z = views.names
        P = {p: _principal(joint(p), self.variance, 10 * joint.rounding[p]) for p in (x, z)}
        (A1, B1), (A2, B2) = (self._scatters(p, views, joint, P[p], y) for p in (x, z))
        if self.align == "pairs":
            C = (joint.n - 1) * joint(x, z)
        else:
            M1, M2 = (_class_means(joint, p, labels[LABELS]) for p in (x, z))
            C = M1.T @ M2
        C = self.alpha * (P[x].T @ C @ P[z])

        gamma = np.trace(B1) / np.trace(B2)
        values, v = generalized_eigh(
            np.block([[A1, C], [C.T, A2]]),
            scipy.linalg.block_diag(B1, gamma * B2),
            eps=self.reg,
        )
        # Directions without gain are dropped; if A = 0, so are mirror images of the couplings.
        k = kept_components(self, int(np.count_nonzero(values > 1e-10 * values[0])))
        self.n_components_ = k
        self.eigenvalues_ = values[:k]
        self.means_: dict[str, Matrix] = {p: joint.mean(p) for p in (x, z)}
        halves = zip((x, z), np.vsplit(v, [len(A1)]))
        A, B = fix_signs([joint.weights(p, P[p] @ part[:, :k]) for p, part in halves])
        self.weights_: dict[str, Matrix] = {x: A, z: B}

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])

    def _varying(self, within: Matrix, role: str, joint: Joint) -> Matrix:
        """Return a within-class scatter; raise if it is only rounding error."""
        if not np.trace(within) > joint.n * joint.rounding[role] * np.trace(joint(role)):
            raise ValueError(
                f"{self._name()}: view {self._view_name(role)!r} does not vary within classes; "
                "at least one class must have several different items"
            )
        return within


def _principal(S: Matrix, variance: float, tol: float) -> Matrix:
    """Return the leading eigenvectors of S that hold this share of its trace."""
    values, vectors = eigh(S)
    values, vectors = values[::-1], vectors[:, ::-1]
    share = np.cumsum(values) / np.sum(values)
    enough = 1 + np.count_nonzero(share[:-1] < variance)
    return vectors[:, : min(enough, np.count_nonzero(values > tol * values[0]))]


def _class_means(joint: Joint, role: str, Y: NDArray[Any]) -> Matrix:
    """Return the class means minus the overall mean, shape (n_classes, d)."""
    return (joint.n - 1) * joint(LABELS, role) / Y.sum(axis=0, dtype=np.float64)[:, None]


class BLM(_GeneralizedMultiview, Weighted):
    """Bilinear model (BLM): principal components of both views, coupled by the pairs.

    Generalised multiview analysis with ``A = X'X`` and ``B = I``:
    ``max v_1'X'X v_1 + v_2'Z'Z v_2 + 2 α v_1'X'Z v_2`` subject to ``‖v_1‖² + γ ‖v_2‖² = 1``,
    γ = tr(B_1) / tr(B_2). The style of each view is separated from the content shared by both.

    Parameters
    ----------
    n_components : int, optional
        Dimensions of the common space; by default, all that increase the objective. The maps are
        orthonormal, so that dimensions of little variance have little weight.
    alpha : float, default=10.0
        Weight of the coupling. α → ∞ is PLS.
    variance : float, default=0.95
        Share of each view's variance that principal components keep before the analysis.
    reg : float, default=1e-06
        Multiple of the mean of B's diagonal that is added to the diagonal.
    standardize : bool, default=True
        Divide every column by its training standard deviation first. The objective is a sum over
        the views, so their units must agree.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    eigenvalues_ : array of shape (n_components,)
        Eigenvalues, descending.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    n_components_ : int
        Dimensions of the common space.

    See Also
    --------
    PLS : The limit of a strong coupling.
    GMLDA : Member of the same family that uses labels.

    Notes
    -----
    Rows are read once, at O(n d²) for the covariances; the eigenvalue problem costs O(d³), where d
    is the number of columns of both views together.

    References
    ----------
    A. Sharma, A. Kumar, H. Daume and D. Jacobs, Generalized multiview analysis: a
    discriminative latent space, CVPR 2012; J. Tenenbaum and W. Freeman, Separating style and
    content with bilinear models, Neural Computation 12, 2000.
    """

    card = cards.BLM

    def __init__(
        self,
        n_components: int | None = None,
        *,
        alpha: float = 10.0,
        variance: float = 0.95,
        reg: float = 1e-6,
        standardize: bool = True,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.variance = variance
        self.reg = reg
        self.standardize = standardize
        self.views = views

    def _scatters(
        self, role: str, views: Views, joint: Joint, P: Matrix, labels: Any
    ) -> tuple[Matrix, Matrix]:
        return (joint.n - 1) * (P.T @ joint(role) @ P), np.eye(P.shape[1])


class GMLDA(_GeneralizedMultiview):
    """Generalised multiview linear discriminant analysis (GMLDA).

    ``max Σ_i v_i'S_b v_i + 2 α v_1'C v_2`` subject to ``v_1'S_w v_1 + γ v_2'S_w v_2 = 1``, with
    the between-class and within-class scatter of each view and γ = tr(S_w1) / tr(S_w2), solved
    as ``[[S_b1, αC], [αC', S_b2]] v = λ blockdiag(S_w1, γ S_w2) v``.

    Parameters
    ----------
    n_components : int or None, default=10
        Dimensions of the common space. If None, all that increase the objective. The classes
        determine at most n_classes - 1 discriminative dimensions.
    alpha : float, default=100.0
        Weight of the coupling; it must be tuned.
    align : {"pairs", "means"}, default="pairs"
        Couple the views by all pairs, C = X'Z, or by the class means only, C = M_1'M_2. The
        latter is the published form, but performed worse in our experiments.
    variance : float, default=0.95
        Share of each view's variance that principal components keep before the analysis.
    reg : float, default=1e-06
        Multiple of the mean of the within-class diagonal that is added to the diagonal.
    standardize : bool, default=True
        Divide every column by its training standard deviation first. The objective is a sum over
        the views, so their units must agree.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Classes of the training labels.
    eigenvalues_ : array of shape (n_components,)
        Eigenvalues, descending.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    n_components_ : int
        Dimensions of the common space.

    See Also
    --------
    GMMFA : Uses neighbourhood graphs in place of class scatters.

    Notes
    -----
    Rows are read once, at O(n d²) for the covariances; the eigenvalue problem costs O(d³), where d
    is the number of columns of both views together.

    References
    ----------
    A. Sharma, A. Kumar, H. Daume and D. Jacobs, Generalized multiview analysis: a
    discriminative latent space, CVPR 2012.
    """

    card = cards.GMLDA

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_GeneralizedMultiview._parameter_constraints,
        "align": [one_of("pairs", "means")],
    }

    def __init__(
        self,
        n_components: int | None = 10,
        *,
        alpha: float = 100.0,
        align: str = "pairs",
        variance: float = 0.95,
        reg: float = 1e-6,
        standardize: bool = True,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.align = align
        self.variance = variance
        self.reg = reg
        self.standardize = standardize
        self.views = views

    def _scatters(
        self, role: str, views: Views, joint: Joint, P: Matrix, labels: Any
    ) -> tuple[Matrix, Matrix]:
        counts = np.unique(labels, return_counts=True)[1]
        of_classes = (joint.n - 1) * (joint(LABELS, role) @ P)  # sums of centred rows by class
        between = of_classes.T @ (of_classes / counts[:, None])
        within = (joint.n - 1) * (P.T @ joint(role) @ P) - between
        return between, self._varying(within, role, joint)


class GMMFA(_GeneralizedMultiview):
    """Generalised multiview marginal Fisher analysis (GMMFA).

    ``max Σ_i v_i'X_i'L_p X_i v_i + 2 α v_1'C v_2`` subject to
    ``v_1'X_1'L_c X_1 v_1 + γ v_2'X_2'L_c X_2 v_2 = 1``, with the Laplacians of two graphs over the
    items of a view: L_c joins nearest neighbours of the same class (compactness), L_p the
    nearest pairs of different classes (separation).

    Parameters
    ----------
    n_components : int or None, default=10
        Dimensions of the common space. If None, all that increase the objective.
    alpha : float, default=10.0
        Weight of the coupling; it must be tuned.
    n_within : int, default=50
        Number of nearest items of its own class to which each item is joined.
    n_between : int, default=400
        Number of nearest pairs of different classes, among all pairs, that are joined.
    align : {"pairs", "means"}, default="pairs"
        Couple the views by all pairs, C = X'Z, or by the class means only, C = M_1'M_2. The
        latter is the published form, but performed worse in our experiments.
    variance : float, default=0.95
        Share of each view's variance that principal components keep before the analysis.
    reg : float, default=1e-06
        Multiple of the mean of the constraint's diagonal that is added to the diagonal.
    standardize : bool, default=True
        Divide every column by its training standard deviation first. The objective is a sum over
        the views, so their units must agree.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Classes of the training labels.
    eigenvalues_ : array of shape (n_components,)
        Eigenvalues, descending.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    n_components_ : int
        Dimensions of the common space.

    See Also
    --------
    GMLDA : Uses class scatters in place of neighbourhood graphs.

    Notes
    -----
    The graphs cost O(n² d) and hold O(n n_within + n_between) edges (distances are computed in
    chunks); the covariances cost O(n d²) and the eigenvalue problem O(d³).

    References
    ----------
    A. Sharma, A. Kumar, H. Daume and D. Jacobs, Generalized multiview analysis: a
    discriminative latent space, CVPR 2012; S. Yan et al., Graph embedding and extensions, IEEE
    TPAMI 29, 2007.
    """

    card = cards.GMMFA

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_GeneralizedMultiview._parameter_constraints,
        "n_within": [integer(1)],
        "n_between": [integer(1)],
        "align": [one_of("pairs", "means")],
    }

    def __init__(
        self,
        n_components: int | None = 10,
        *,
        alpha: float = 10.0,
        n_within: int = 50,
        n_between: int = 400,
        align: str = "pairs",
        variance: float = 0.95,
        reg: float = 1e-6,
        standardize: bool = True,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.n_within = n_within
        self.n_between = n_between
        self.align = align
        self.variance = variance
        self.reg = reg
        self.standardize = standardize
        self.views = views

    def _scatters(
        self, role: str, views: Views, joint: Joint, P: Matrix, labels: Any
    ) -> tuple[Matrix, Matrix]:
        # An item counts once, whatever the number of its pairs.
        items = views.distinct(role)[0]
        X = as_numpy(affine(items, joint.mean(role), joint.weights(role, P)))
        y = views.item_labels(role, labels)
        within = quadratic_form(X, _laplacian(_nearest_of_one_class(X, y, self.n_within)))
        between = quadratic_form(X, _laplacian(_nearest_of_different_classes(X, y, self.n_between)))
        return between, self._varying(within, role, joint)


def _laplacian(edges: sp.csr_array) -> sp.csr_array:
    """Return the Laplacian D - W of the undirected graph with these edges."""
    W = edges.maximum(edges.T)
    return sp.csr_array(sp.diags_array(W.sum(axis=1)) - W)


def _nearest_of_one_class(X: Matrix, y: NDArray[Any], k: int) -> sp.csr_array:
    """Return the edges from each row to its k nearest of the same class, shape (n, n)."""
    n = len(X)
    edges = sp.coo_array((n, n))
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        if len(rows) > 1:
            found = kneighbors_graph(X[rows], min(k, len(rows) - 1)).tocoo()
            at = rows[found.row], rows[found.col]
            edges = edges + sp.coo_array((found.data, at), shape=(n, n))
    return sp.csr_array(edges)


def _nearest_of_different_classes(X: Matrix, y: NDArray[Any], k: int) -> sp.csr_array:
    """Return the edges of the k nearest pairs of rows of different classes, shape (n, n)."""
    n, first = len(X), 0
    nearest = [np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)]
    for distances in pairwise_distances_chunked(X, working_memory=_MEGABYTES):
        rows = np.arange(first, first + len(distances))
        first += len(distances)
        # Count each pair once.
        distances[(y[rows, None] == y) | (rows[:, None] >= np.arange(n))] = np.inf
        flat = distances.ravel()
        at = np.argpartition(flat, min(k, len(flat) - 1))[:k]
        at = at[np.isfinite(flat[at])]
        found = [flat[at], rows[at // n], at % n]
        nearest = [np.concatenate(parts) for parts in zip(nearest, found)]
        order = np.argsort(nearest[0], kind="stable")[:k]
        nearest = [part[order] for part in nearest]
    _, i, j = nearest
    return sp.csr_array((np.ones(len(i)), (i, j)), shape=(n, n))
