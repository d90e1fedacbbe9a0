"""Three-view canonical correlation analysis: two views and the semantics of their pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans
from sklearn.kernel_approximation import RBFSampler
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from crossfit._arguments import integer, mapping_of, one_of, real
from crossfit._random import random_source
from crossfit._warnings import at_the_callers_line
from crossfit.subspace import cards
from crossfit.subspace._joint import indicator, joint_covariance
from crossfit.subspace._linalg import (
    affine,
    check_range,
    eigh,
    fix_signs,
    kept_components,
    warn_of_perfect_fit,
    whiten,
)
from crossfit.subspace._weighted import Weighted
from crossfit.views import Views, as_numpy, n_rows, take_rows

__all__ = ["CCA3V"]

SEMANTICS = "semantics"

# Number of rows whose distances determine the kernel width of the random features.
_N_WIDTH = 1000


class CCA3V(Weighted):
    """Canonical correlation analysis with the semantics of the pairs as a third view.

    The third view consists of class labels, tags or clusters. The method minimises the distances
    between all pairs of mapped views, ``min Σ_ij ‖X_i W_i - X_j W_j‖²_F`` subject to
    ``Σ_i W_i'(S_ii + ηI) W_i = I``, by the largest solutions of ``S w = λ B w``, where S is the
    covariance of the stacked views **plus ηI** and B its diagonal blocks, including the ridge.
    Items are mapped by ``(x - mean) W_i diag(λ^p)`` and compared by the cosine.

    Parameters
    ----------
    n_components : int, optional
        Dimensions of the common space. If None, all with λ > 1, which are those on which views
        agree.
    reg : float, default=1.0
        Ridge η. By default, as much as the mean variance of the view's columns.
    reg_style : {"relative", "ridge"}, default="relative"
        Whether η is relative to the mean variance of a view's columns, or absolute, as published
        (where it is 0.0001).
    power : float, default=3.0
        Exponent p with which the eigenvalues weight the dimensions; the paper has 4. Smaller values
        suit the retrieval of the one paired item, larger values that of a class.
    semantics : {"auto", "labels", "clusters"} or None, default="auto"
        The view that is added to the given ones: indicators of the labels, indicators of k-means
        clusters of the last given view (texts or tags), or None, for instance if tags are already
        one of the views. ``"auto"`` uses the labels if there are any, no view if there are more
        than two views, and clusters otherwise.
    n_clusters : int, default=20
        Number of clusters.
    view_weights : mapping of str to float, optional
        Factor of a view's covariances with the others, by role, view name or ``"semantics"``.
        The default factor is 1; a factor of 0 disconnects a view.
    fourier : int or mapping of str to int, optional
        Replace the columns by this number of random Fourier features, which approximate a
        Gaussian kernel whose width is the median squared distance: for all views, or for each by
        role (or view name).
    standardize : bool, default=False
        Divide every column, of features or random features, by its training standard deviation
        first.
    random_state : int, RandomState or None
        Seed of the clusters and random features.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    eigenvalues_ : array of shape (n_components,)
        λ, descending, between 0 and the number of views.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``, where x is first passed through
        ``fourier_`` if the view has an entry there.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    fourier_ : dict of str to Pipeline
        Random features, for the views that have them.
    n_components_ : int
        Dimensions of the common space.

    See Also
    --------
    CCA : Canonical correlation analysis of the given views only.
    MLCCA : Uses labels as weights of pairs instead of as a view.

    Notes
    -----
    The covariances cost O(n d²) and the eigenvalues O(d³), where d is the number of columns of all
    views and the semantics together, including random features, which hold n x ``fourier``
    numbers; clusters cost O(n d n_clusters) per iteration. For a view with more columns than
    items, and more than 1024, d is the number of items. Weights of rows apply to the covariances,
    clusters and scalings; the kernel width of random features is that of the rows without weights.

    References
    ----------
    Y. Gong, Q. Ke, M. Isard and S. Lazebnik, A multi-view embedding space for modeling internet
    images, tags, and their semantics, IJCV 106, 2014.
    """

    card = cards.CCA3V

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [integer(1), None],
        "reg": [real(0, closed="left")],
        "reg_style": [one_of("relative", "ridge")],
        "power": [real(0, closed="left")],
        "semantics": [one_of("auto", "labels", "clusters"), None],
        "n_clusters": [integer(1)],
        "view_weights": [mapping_of(real(0, closed="left")), None],
        "fourier": [integer(1), mapping_of(integer(1), None), None],
        "standardize": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        reg: float = 1.0,
        reg_style: str = "relative",
        power: float = 3.0,
        semantics: str | None = "auto",
        n_clusters: int = 20,
        view_weights: Mapping[str, float] | None = None,
        fourier: int | Mapping[str, int | None] | None = None,
        standardize: bool = False,
        random_state: Any = None,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.reg = reg
        self.reg_style = reg_style
        self.power = power
        self.semantics = semantics
        self.n_clusters = n_clusters
        self.view_weights = view_weights
        self.fourier = fourier
        self.standardize = standardize
        self.random_state = random_state
        self.views = views

    def _fit(
        self, views: Views, y: NDArray[Any] | None, weights: NDArray[np.float64] | None = None
    ) -> None:
        check_range(self, views)
        random = random_source(self.random_state)
        third = self._third_view(views, y, random, weights)
        factors = self._factors([*views.names, *third])
        self.fourier_ = {}
        for role in views.names:
            n_features = self._of_view("fourier", role)
            if n_features is not None:
                self.fourier_[role] = self._random_features(
                    views, role, n_features, random, weights
                )
        lifted = views.map(lambda values, role: self._lifted(values, role))
        joint = joint_covariance(
            self,
            lifted,
            third,
            standardize=self.standardize,
            ridge=self.reg if self.reg_style == "relative" else 0.0,
            weights=weights,
        )

        W = {}
        for part in joint.blocks:
            S, n_columns = joint(part), len(joint(part))
            if part in joint.spans:
                n_columns = self.n_features_in_[part]
            eta = self.reg * (np.trace(S) / n_columns if self.reg_style == "relative" else 1.0)
            W[part] = whiten(S + eta * np.eye(len(S)), 10 * joint.rounding[part])
        # After whitening, B is the identity and the diagonal blocks of S - B are zero.
        T = scipy.linalg.block_diag(*W.values())
        sizes = [w.shape[1] for w in W.values()]
        owner = np.repeat(np.arange(len(W)), sizes)
        factor = np.repeat([factors[part] for part in W], sizes)
        M = (T.T @ joint.S @ T) * np.outer(factor, factor) * (owner[:, None] != owner)
        values, vectors = eigh(M)
        values, vectors = np.maximum(1 + values[::-1], 0), vectors[:, ::-1]

        k = kept_components(self, len(values))
        ranks = {part: W[part].shape[1] for part in views.names}
        warn_of_perfect_fit(
            self,
            joint.n,
            ranks,
            lambda x, z: float(np.linalg.norm(W[x].T @ joint(x, z) @ W[z], 2)),
        )
        if self.n_components is None:
            k = max(1, int(np.count_nonzero(values > 1 + 1e-9)))
        self.eigenvalues_, self.n_components_ = values[:k], k
        v = np.vsplit(T @ vectors[:, :k], np.cumsum([len(w) for w in W.values()])[:-1])
        solved = dict(zip(W, v))
        signed = fix_signs([joint.weights(p, solved[p]) for p in views.names])
        self.means_ = {role: joint.mean(role) for role in views.names}
        self.weights_ = {
            role: w * self.eigenvalues_**self.power for role, w in zip(views.names, signed)
        }

    def _encode(self, values: Any, view: str) -> Any:
        return affine(self._lifted(values, view), self.means_[view], self.weights_[view])

    def _third_view(
        self,
        views: Views,
        y: NDArray[Any] | None,
        random: np.random.RandomState,
        weights: NDArray[np.float64] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Return the indicators of the semantic view, if any."""
        semantics = self.semantics
        if semantics == "auto":
            without = None if len(views.names) > 2 else "clusters"
            semantics = without if y is None else "labels"
        if semantics is None:
            return {}
        if semantics == "labels":
            if y is None:
                raise ValueError("CCA3V: semantics='labels' needs labels, got none; pass y")
            return {SEMANTICS: indicator(self, y)[1]}
        items, row_to_item = views.distinct(views.names[-1])
        items = items if sp.issparse(items) else as_numpy(items)
        # Centring does not change distances; without it, sparse rows stay sparse.
        scaling = StandardScaler(with_mean=not sp.issparse(items), with_std=bool(self.standardize))
        clusters = KMeans(
            min(self.n_clusters, n_rows(items)), n_init=3, random_state=random.randint(2**31)
        )
        of_items = _of_items(views, views.names[-1], weights)
        with at_the_callers_line():
            scaled = scaling.fit(items, sample_weight=of_items).transform(items)
            found = clusters.fit_predict(scaled, sample_weight=of_items)
        return {SEMANTICS: indicator(self, found)[1][row_to_item]}

    def _factors(self, parts: list[str]) -> dict[str, float]:
        if len(set(parts)) < len(parts):
            raise ValueError(
                f"CCA3V: adds a view {SEMANTICS!r}, but one with this name was given; pass "
                "semantics=None or rename the view"
            )
        given = dict(self.view_weights or {})
        factors = {}
        for part in parts:
            name = part if part == SEMANTICS else self._view_name(part)
            factors[part] = given.pop(part, given.pop(name, 1.0))
        if given:
            raise ValueError(
                f"CCA3V: view_weights has an entry for {next(iter(given))!r}, which is not a view; "
                f"the views are {', '.join(parts)}"
            )
        return factors

    def _random_features(
        self,
        views: Views,
        role: str,
        n_features: int,
        random: np.random.RandomState,
        weights: NDArray[np.float64] | None,
    ) -> Pipeline:
        items = views.distinct(role)[0]
        scaling = StandardScaler(with_std=bool(self.standardize)).fit(
            _dense(items), sample_weight=_of_items(views, role, weights)
        )
        rows = random.permutation(n_rows(items))[:_N_WIDTH]
        squares = pdist(scaling.transform(_dense(take_rows(items, np.sort(rows)))), "sqeuclidean")
        width = np.median(squares[squares > 0]) if np.any(squares > 0) else 1.0
        features = RBFSampler(
            gamma=1 / width, n_components=int(n_features), random_state=random.randint(2**31)
        )
        return Pipeline([("scaling", scaling), ("features", features.fit(_dense(items[:1])))])

    def _lifted(self, values: Any, role: str) -> Any:
        if role not in self.fourier_:
            return values
        return self.fourier_[role].transform(_dense(values))


def _of_items(
    views: Views, role: str, weights: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """Return the weights of the items of a view; items that rows share count once."""
    shared = n_rows(views.distinct(role)[0]) < len(views)
    return None if weights is None or shared else weights


def _dense(values: Any) -> NDArray[Any]:
    return values.toarray() if sp.issparse(values) else as_numpy(values)
