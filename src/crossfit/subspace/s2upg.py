"""Semi-supervised unified patch graph regularisation: one hypergraph over items and patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import kneighbors_graph

from crossfit._arguments import integer, one_of, real
from crossfit._warnings import warn
from crossfit.labels import labelled
from crossfit.similarities import KNNPosterior
from crossfit.subspace import cards
from crossfit.subspace._graph import gaussian, hypergraph_form, hypergraph_root, standardized
from crossfit.subspace._joint import indicator, joint_covariance
from crossfit.subspace._linalg import CHUNK, Matrix, affine, feature_weight, irls21, ridge_solve
from crossfit.subspace._posterior import POSTERIOR_MEASURES, PosteriorMethod
from crossfit.views import Channels, Ragged, Views, as_float, as_numpy

__all__ = ["S2UPG"]

# Added inside the roots of the l21 norm to make it differentiable.
EPS = 1e-8
LABELS = "label indicator"
WHOLE, PATCHES = "whole", "patches"

# Default share of the hypergraph in the penalties, relative to the traces.
_SHARE = 0.1

IntArray = NDArray[np.int64]


class S2UPG(PosteriorMethod):
    """Semi-supervised cross-media feature learning with unified patch graph regularisation (S2UPG).

    .. warning:: **Experimental.** Only the abstract of the published method (Peng et al., 2016)
       was available: semi-supervised, sparse, with one hypergraph over the items of all media and
       their patches. The objective below completes it from `JRL`, by the same group. Do not report
       its results as those of the published method.

    Maps every view v to the class indicators Y. Features are switched off row by row, and what an
    edge of the hypergraph joins is kept close together:

    ``min Σ_v ‖X_v P_v - Y‖² + l1 Σ_v ‖P_v‖₂,₁ + g tr(F' L F)``.

    X_v are the labelled rows; F stacks the projections of all items of all views, labelled or not,
    and of all their patches, each by the map of its view. ``L = I - Dv^-½ H W De^-1 H' Dv^-½`` is
    the normalised Laplacian of the hypergraph with incidence H, edge weights W and degrees De and
    Dv of edges and nodes. It has three kinds of edges: each item with its nearest neighbours in its
    own view; each item with its patches, both weighted by the mean of a Gaussian of the distances
    to the item; and each pair, with weight 1.

    Given the reweighting R_v of the ℓ2,1 norms, all maps together are the solution of one linear
    system, whose size is the number of columns of all views:

    ``(blockdiag(X_v'X_v + l1 R_v) + g X'LX) P = X'Y``.

    Parameters
    ----------
    l1 : float, optional
        Weight of the ℓ2,1 norms. By default, a tenth of the smallest weight that would switch off
        all features of a view (without the hypergraph), ``2 max_i ‖(X_v'Y)_i‖``.
    g : float, optional
        Weight of the hypergraph. By default, a tenth of ``Σ_v tr(X_v'X_v) / tr(X'LX)``, which
        depends neither on the units nor on the numbers of rows and patches.
    n_neighbors : int, default=10
        Number of nearest neighbours that an edge joins with an item.
    unlabelled_pairs : bool, default=False
        Whether the pairs of unlabelled rows are edges. By default they are not, so that the rows
        may be queries and gallery items whose pairing is not known.
    measure : {"knn_posterior", "cosine"}, default="knn_posterior"
        Similarity of items, as in `JRL`: of the posteriors of their nearest training items of all
        views, or the cosine of their maps.
    n_votes : int, default=100
        Number of training items that determine the posterior of an item.
    max_iter : int, default=30
        Maximum number of updates.
    tol : float, default=1e-06
        Stop if an update decreases the objective by less than this share.
    standardize : bool, default=True
        Divide every column by its standard deviation over the labelled training rows first.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    weights_ : dict of str to array of shape (d, n_classes)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Means of the labelled training rows by role.
    l1_, g_ : float
        Weights of the ℓ2,1 norms and of the hypergraph.
    classes_ : array of shape (n_classes,)
        Classes, in the order of the common space's dimensions.
    objective_ : array of shape (n_updates + 1,)
        The objective with smoothed norms at the start, the solution without norms, and after each
        update; it never increases.
    posterior_ : KNNPosterior
        Fitted on the labelled training items of all views in the common space.

    See Also
    --------
    JRL : A graph within each view, and pairs in the loss.

    Notes
    -----
    A view with patches has the channels ``whole``, of shape (n, d), and ``patches``, of shape
    (n, R, d) or ragged, with the same d columns: regions of a picture, or sentences of a text. A
    view without patches is an array, or has the channel ``whole`` only; views beyond the first two
    are arrays. Patches are used in `fit` alone; other channels are ignored.

    Unlabelled rows (-1) enter only the hypergraph: their mean and scale are not used. An item that
    several rows share, such as a picture with five captions, is one node, with one edge per pair.

    The Laplacian is never formed: the products of the hypergraph cost O(e d²) for e edges. The
    neighbours cost up to O(n² d), the covariances O(n d²) and each update O(d³), where d is the
    number of columns of all views. O(m d) numbers are held in memory for m items and patches.

    References
    ----------
    Y. Peng, X. Zhai, Y. Zhao and X. Huang, Semi-supervised cross-media feature learning with
    unified patch graph regularization, IEEE TCSVT 26, 2016. Hypergraph Laplacian: D. Zhou, J. Huang
    and B. Schölkopf, Learning with hypergraphs: clustering, classification, and embedding, NIPS
    2006.

    Examples
    --------
    Pictures with three regions each, and every fourth row unlabelled:

    >>> import numpy as np
    >>> from crossfit import Views
    >>> from crossfit.subspace import S2UPG
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 3
    >>> regions = 3 * np.eye(5)[y][:, None] + rng.normal(size=(60, 3, 5))
    >>> image = {"whole": regions.mean(axis=1), "patches": regions}
    >>> views = Views(image=image, text=3 * np.eye(4)[y] + rng.normal(size=(60, 4)))
    >>> method = S2UPG(n_neighbors=5, n_votes=10).fit(views, np.where(np.arange(60) % 4, y, -1))
    >>> method.transform(views)["image"].shape
    (60, 3)
    """

    card = cards.S2UPG

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "l1": [real(0, closed="left"), None],
        "g": [real(0, closed="left"), None],
        "n_neighbors": [integer(1)],
        "unlabelled_pairs": ["boolean"],
        "measure": [one_of(*POSTERIOR_MEASURES)],
        "n_votes": [integer(1)],
        "max_iter": [integer(1)],
        "tol": [real(0, closed="left")],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        l1: float | None = None,
        g: float | None = None,
        *,
        n_neighbors: int = 10,
        unlabelled_pairs: bool = False,
        measure: str = "knn_posterior",
        n_votes: int = 100,
        max_iter: int = 30,
        tol: float = 1e-6,
        standardize: bool = True,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.l1 = l1
        self.g = g
        self.n_neighbors = n_neighbors
        self.unlabelled_pairs = unlabelled_pairs
        self.measure = measure
        self.n_votes = n_votes
        self.max_iter = max_iter
        self.tol = tol
        self.standardize = standardize
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        assert y is not None
        known = labelled(y)
        if known.sum() < 2:
            raise ValueError(
                f"S2UPG needs at least 2 labelled rows, got {known.sum()}; -1 is unlabelled"
            )
        patches = {role: self._patches(views.distinct(role)[0], role) for role in views.names}
        whole = views.map(self._whole)
        train = whole[known]
        self.classes_, Y = indicator(self, y[known])
        joint = joint_covariance(self, train, {LABELS: Y}, standardize=self.standardize, apart=True)
        n, roles = joint.n - 1, views.names
        d = joint.blocks[LABELS].start
        XX, XY = np.zeros((d, d)), n * joint.S[:d, joint.blocks[LABELS]]
        for role in roles:
            XX[joint.blocks[role], joint.blocks[role]] = n * joint(role)
        pairs = np.stack([whole.distinct(role)[1] for role in roles])
        XLX = self._graph(
            [
                [
                    standardized(part, joint.means[role], joint.scales[role])
                    for part in (whole.distinct(role)[0], patches[role].values)
                ]
                for role in roles
            ],
            [patches[role].lengths for role in roles],
            pairs if self.unlabelled_pairs else pairs[:, known],
        )
        smallest = min(feature_weight(XY[joint.blocks[role]]) for role in roles)
        self.l1_ = smallest if self.l1 is None else float(self.l1)
        if self.g is None:
            total = np.trace(XLX)
            self.g_ = float(_SHARE * np.trace(XX) / total) if total > 0 else 0.0
        else:
            self.g_ = float(self.g)
        gram = XX + self.g_ * XLX
        energy = len(roles) * n * np.trace(joint(LABELS))

        P = ridge_solve(gram, np.zeros(d), XY)
        objectives: list[float] = []
        while True:
            R = irls21(P, EPS)
            # irls21 is 1 / (2 norm).
            residual = np.sum(P * (gram @ P - 2 * XY)) + energy
            objectives.append(float(residual + self.l1_ * np.sum(0.5 / R)))
            if len(objectives) > self.max_iter or (
                len(objectives) > 1
                and objectives[-2] - objectives[-1] <= self.tol * abs(objectives[-2])
            ):
                break
            P = ridge_solve(gram, self.l1_ * R, XY)
        self.objective_ = np.array(objectives)
        self.means_: dict[str, Matrix] = {role: joint.means[role] for role in roles}
        self.weights_: dict[str, Matrix] = {}
        for role in roles:
            block = joint.blocks[role]
            W = P[block]
            if np.sum(W * (XX[block, block] @ W)) < 1e-6 * energy / len(roles):
                warn(
                    f"S2UPG: no feature of view {self._view_name(role)!r} is left; decrease l1 or "
                    "g, which are too large for its units"
                )
            self.weights_[role] = W / joint.scales[role][:, None]
        self.posterior_ = KNNPosterior(self.n_votes).fit(train.map(self._encode), y[known])

    def _graph(
        self, parts: list[list[NDArray[Any]]], lengths: list[IntArray], pairs: IntArray
    ) -> Matrix:
        """Return X'LX; the nodes are, for each view, its items and then their patches."""
        sizes = [len(part) for of_view in parts for part in of_view]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        edges = []
        for (items, pieces), first, counts in zip(parts, starts[::2], lengths):
            edges.append(_neighbors(items, self.n_neighbors, first))
            edges.append(_pieces(items, pieces, counts, first))
        members = starts[:-1:2, None] + pairs
        n_pairs = members.shape[1]
        joined = np.tile(np.arange(n_pairs), len(members)), members.ravel()
        edges.append((*joined, np.ones(n_pairs)))
        before = np.cumsum([0, *(len(weights) for _, _, weights in edges)])
        edge = np.concatenate([one + start for (one, _, _), start in zip(edges, before)])
        node = np.concatenate([of_edge for _, of_edge, _ in edges])
        weights = np.concatenate([of_edge for _, _, of_edge in edges])
        S = hypergraph_root(edge, node, weights, starts[-1])
        return hypergraph_form([np.vstack(of_view) for of_view in parts], S)

    def _encode(self, values: Any, view: str) -> Any:
        return affine(self._whole(values, view), self.means_[view], self.weights_[view])

    def _checked(
        self, values: Any, role: str, name: str, fitted: dict[str, int] | None = None
    ) -> Any:
        values = super()._checked(values, role, name, fitted)
        if not isinstance(values, Channels):
            return values
        where = f"S2UPG: view {name!r}"
        if WHOLE not in values:
            raise ValueError(
                f"{where} must have the channel {WHOLE!r}, got {', '.join(values.names)}"
            )
        where += f", channel {WHOLE!r}"
        part = as_float(values[WHOLE], where)
        if isinstance(part, Ragged) or len(part.shape) != 2 or not part.shape[1]:
            what = "a Ragged" if isinstance(part, Ragged) else f"shape {tuple(part.shape)}"
            raise ValueError(f"{where} must be of shape (n, d), got {what}")
        if fitted is not None:
            fitted[role] = part.shape[1]
        elif part.shape[1] != self.n_features_in_[role]:
            raise ValueError(
                f"{where} has {part.shape[1]} features, but S2UPG is expecting "
                f"{self.n_features_in_[role]} features as input"
            )
        return values.replace(**{WHOLE: part})

    def _whole(self, values: Any, role: str) -> Any:
        return values[WHOLE] if isinstance(values, Channels) else values

    def _patches(self, values: Any, role: str) -> Ragged:
        """Return the patches of each item, with as many columns as the items."""
        d = self.n_features_in_[role]
        n = len(values) if isinstance(values, Channels) else values.shape[0]
        if not isinstance(values, Channels) or PATCHES not in values:
            return Ragged(np.empty((0, d)), np.zeros(n + 1, np.int64))
        where = f"S2UPG: view {self._view_name(role)!r}, channel {PATCHES!r}"
        part = as_float(values[PATCHES], where)
        ragged = isinstance(part, Ragged)
        held = part.values if ragged else part
        if len(held.shape) + ragged != 3 or held.shape[-1] != d:
            what = f"{'a Ragged of elements' if ragged else 'an array'} of shape "
            what += str(tuple(held.shape[ragged:]))
            raise ValueError(
                f"{where} must be of shape (n, R, {d}) or ragged, with the {d} columns of the "
                f"channel {WHOLE!r}, got {what}"
            )
        if ragged:
            return part
        return Ragged(as_numpy(part).reshape(-1, d), part.shape[1] * np.arange(n + 1))


Edges = tuple[IntArray, IntArray, Matrix]


def _neighbors(items: NDArray[Any], k: int, first: int) -> Edges:
    """Return the edges of each item and its nearest neighbours; item 0 is the node `first`."""
    n = len(items)
    k = min(k, n - 1)
    if k == 0:
        return np.arange(1), np.array([first]), np.ones(1)
    found = kneighbors_graph(items, k, mode="distance")
    near = gaussian(found.data.reshape(n, k)).mean(axis=1)
    members = np.column_stack([np.arange(n), found.indices.reshape(n, k)])
    return np.repeat(np.arange(n), k + 1), first + members.ravel(), near


def _pieces(items: NDArray[Any], pieces: NDArray[Any], counts: IntArray, first: int) -> Edges:
    """Return the edges of each item that has patches, and its patches."""
    owner = np.repeat(np.arange(len(items)), counts)
    distances = np.empty(len(pieces))
    for start in range(0, len(pieces), CHUNK):
        chunk = slice(start, start + CHUNK)
        apart = pieces[chunk].astype(np.float64) - items[owner[chunk]]
        distances[chunk] = np.linalg.norm(apart, axis=1)
    having = np.flatnonzero(counts)
    number = np.cumsum(counts > 0) - 1  # of an item's edge
    near = np.bincount(number[owner], weights=gaussian(distances), minlength=len(having))
    edge = np.concatenate([np.arange(len(having)), number[owner]])
    node = np.concatenate([having, len(items) + np.arange(len(pieces))])
    return edge, first + node, near / counts[having]
