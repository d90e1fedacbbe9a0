"""Joint representation learning: sparse label regression with graphs, and kNN posteriors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import expit

from crossfit._arguments import integer, one_of, real
from crossfit._random import draw_seed
from crossfit.labels import labelled
from crossfit.similarities import KNNPosterior
from crossfit.subspace import cards
from crossfit.subspace._graph import (
    neighbor_graph,
    quadratic_form,
    standardized,
)
from crossfit.subspace._joint import indicator, joint_covariance
from crossfit.subspace._linalg import (
    Matrix,
    affine,
    irls21,
    ridge_solve,
)
from crossfit.subspace._posterior import POSTERIOR_MEASURES, PosteriorMethod
from crossfit.views import Views

__all__ = ["JRL"]

# Added inside the roots of the l21 norm to make it differentiable. The published weight of the
# norm shrinks rows to 1e-5, so a larger value would determine the result.
EPS = 1e-16
LABELS = "label indicator"


class JRL(PosteriorMethod):
    """Joint representation learning (JRL).

    Maps both views to the class indicators Y. Pairs, and neighbours within each view, are kept
    close together, and features are switched off row by row:

    ``min μ (‖XP - Y‖² + ‖ZQ - Y‖²) + λ ‖XP - ZQ‖² + σ tr(P'X̂'L_x X̂P + Q'Ẑ'L_z ẐQ)
    + γ (‖P‖₂,₁ + ‖Q‖₂,₁)``.

    X and Z are the labelled pairs; X̂ and Ẑ also contain the unlabelled rows, whose label is -1.
    ``L = I - D^-½ W D^-½`` is the normalised Laplacian of the graph of nearest neighbours with
    weights sigmoid(-distance). Starting from random maps, both are updated simultaneously:

    ``(γR_p + σ X̂'L_x X̂ + (λ + μ) X'X) P <- λ X'Z Q + μ X'Y``, and likewise for Q,

    where R_p reweights the ℓ2,1 norm.

    Items are compared by the posteriors of their nearest training items of both views
    (`crossfit.similarities.KNNPosterior`), not by the angle between their maps. On the features
    of the Wikipedia set this contributes more than any other part of the method.

    Parameters
    ----------
    gamma : float, default=1000.0
        Weight γ of the ℓ2,1 norms. The published value is 1000. On the shallow features of the
        Wikipedia set, standardised, `gamma` and `sigma` of 1 retrieve better; with 1000 the
        result depends on early stopping and on the initial maps.
    sigma : float, default=1000.0
        Weight σ of the graphs; the published value is 1000.
    lam : float, default=1.0
        Weight λ of the pairs.
    mu : float, default=1.0
        Weight μ of the labels.
    n_neighbors : int, default=100
        Number of nearest neighbours in the graphs and in the posterior of an item.
    measure : {"knn_posterior", "cosine"}, default="knn_posterior"
        Similarity of items.
    max_iter : int, default=5
        Maximum number of updates.
    tol : float, default=0.02
        Stop if an update decreases the objective by less than this share.
    standardize : bool, default=True
        Divide every column by its standard deviation over the labelled training rows first.
    random_state : int, RandomState or None, default=0
        Seed of the initial maps, uniform between 0 and 1, the same numbers for both maps.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    weights_ : dict of str to array of shape (d, n_classes)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Means of the labelled training rows by role.
    classes_ : array of shape (n_classes,)
        Classes, in the order of the common space's dimensions.
    objective_ : array of shape (n_updates + 1,)
        The objective with smoothed norms, at the start and after each update; it never increases.
    posterior_ : KNNPosterior
        Fitted on the labelled training items of both views in the common space.

    See Also
    --------
    JFSSL : One graph over the items of all views.

    Notes
    -----
    Unlabelled rows (-1) enter only the graphs: neither their pairing nor their mean and scale is
    used, so queries and gallery items may be among them (the paper's transductive setting). With
    labels for every row the method is inductive, with nearly the same result.

    Updating two maps simultaneously decreases a quadratic objective as well as updating them in
    turn; this would not hold for three maps. The released code multiplies the Laplacian's degrees
    by a dense similarity matrix and returns the maps before the last update; here the degrees are
    those of the graph, and the last maps are returned.

    The covariances cost O(n d²), the neighbours up to O(n² d), each update O(d³), and comparing m
    items with the n training items O(m n c). O(n (d + k)) numbers are held in memory.

    References
    ----------
    X. Zhai, Y. Peng and J. Xiao, Learning cross-media joint representation with sparse and
    semisupervised regularization, IEEE TCSVT 24, 2014.
    """

    card = cards.JRL

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "gamma": [real(0, closed="left")],
        "sigma": [real(0, closed="left")],
        "lam": [real(0, closed="left")],
        "mu": [real(0, closed="left")],
        "n_neighbors": [integer(1)],
        "measure": [one_of(*POSTERIOR_MEASURES)],
        "max_iter": [integer(1)],
        "tol": [real(0, closed="left")],
        "standardize": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        gamma: float = 1000.0,
        sigma: float = 1000.0,
        *,
        lam: float = 1.0,
        mu: float = 1.0,
        n_neighbors: int = 100,
        measure: str = "knn_posterior",
        max_iter: int = 5,
        tol: float = 0.02,
        standardize: bool = True,
        random_state: int | np.random.RandomState | None = 0,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.gamma = gamma
        self.sigma = sigma
        self.lam = lam
        self.mu = mu
        self.n_neighbors = n_neighbors
        self.measure = measure
        self.max_iter = max_iter
        self.tol = tol
        self.standardize = standardize
        self.random_state = random_state
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        seed = draw_seed(self.random_state)

        assert y is not None
        known = labelled(y)
        if not known.any():
            raise ValueError("JRL needs labels, got only -1 (unlabelled)")
        if known.sum() < 2:
            raise ValueError("JRL needs at least 2 labelled rows, got 1")
        train = views[known]
        self.classes_, Y = indicator(self, y[known])
        joint = joint_covariance(self, train, {LABELS: Y}, standardize=self.standardize, apart=True)
        n, roles = joint.n - 1, views.names
        XX = {p: n * joint(p) for p in roles}
        XY = {p: n * joint(p, LABELS) for p in roles}
        XZ = {(p, q): n * joint(p, q) for p in roles for q in roles if p != q}
        XLX = {}
        for p in roles:
            X = standardized(views.distinct(p)[0], joint.means[p], joint.scales[p])
            XLX[p] = quadratic_form(X, _laplacian(neighbor_graph(X, self.n_neighbors, _sigmoid)))

        energy = n * np.trace(joint(LABELS))

        def objective() -> float:
            (p, P), (q, Q) = W.items()
            return sum(
                self.mu * (np.sum(w * (XX[r] @ w - 2 * XY[r])) + energy)
                + self.lam * np.sum(w * (XX[r] @ w))
                + self.sigma * np.sum(w * (XLX[r] @ w))
                + self.gamma * np.sum(np.sqrt(np.sum(w**2, axis=1) + EPS))
                for r, w in W.items()
            ) - 2 * self.lam * np.sum(P * (XZ[p, q] @ Q))

        def update(p: str, q: str) -> Matrix:
            penalty = np.diag(self.gamma * irls21(W[p], EPS)) + self.sigma * XLX[p]
            target = self.lam * XZ[p, q] @ W[q] + self.mu * XY[p]
            return ridge_solve((self.lam + self.mu) * XX[p], penalty, target)

        W = {
            p: np.random.RandomState(seed).uniform(size=(len(XX[p]), len(self.classes_)))
            for p in roles
        }
        first, second = roles
        objectives = [objective()]
        for _ in range(self.max_iter):
            W = {first: update(first, second), second: update(second, first)}
            objectives.append(objective())
            if objectives[-2] - objectives[-1] <= self.tol * abs(objectives[-2]):
                break
        self.objective_ = np.array(objectives)
        self.means_: dict[str, Matrix] = {p: joint.means[p] for p in roles}
        self.weights_: dict[str, Matrix] = {p: W[p] / joint.scales[p][:, None] for p in roles}
        common = train.map(self._encode)
        self.posterior_ = KNNPosterior(self.n_neighbors).fit(common, y[known])

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])


def _sigmoid(distances: Matrix) -> Matrix:
    return expit(-distances)


def _laplacian(W: sp.csr_array) -> sp.csr_array:
    """Return the normalised Laplacian; an item too far from all others is left isolated."""
    degree = W.sum(axis=1)
    joined = degree > 0
    scale = sp.diags_array(np.where(joined, 1 / np.sqrt(np.where(joined, degree, 1.0)), 0.0))
    return sp.diags_array(joined.astype(np.float64)) - scale @ W @ scale
