"""Multimedia aggregated correlated components: quantised and completed kernel CCA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from crossfit._arguments import integer
from crossfit._random import random_source
from crossfit._warnings import at_the_callers_line
from crossfit.base import CrossModalEstimator
from crossfit.subspace import cards
from crossfit.subspace._linalg import CHUNK, Matrix
from crossfit.subspace.kcca import KCCA
from crossfit.views import Views, as_numpy

__all__ = ["MACC"]

Kernel = str | Callable[[Any, Any], Any]

_OF_KCCA = (
    "n_components", "kernel", "gamma", "reg", "power", "n_landmarks", "standardize", "random_state"
)  # fmt: skip


class MACC(CrossModalEstimator):
    """Multimedia aggregated correlated components (MACC). Experimental: not the published method.

    The following parts are described in the paper: kernel CCA projects both views; k-means on the
    projected training items of both views together gives one codebook; a missing view is completed
    from training pairs; an item is described by its residuals to codewords, and items are compared
    by the cosine.

    The following parts are not described, and are our choice: an item with projection z is
    completed by c, the mean projection of the other view's partners of its `n_neighbors` nearest
    training items of the same view. Projections have unit length. Both points are then encoded as
    in VLAD, with hard assignment to their `n_assign` nearest codewords w_j,

    ``v_j = Σ_{u in (z, c), w_j near u} (u - w_j)``, ``v = [v_1, ..., v_K]``,

    raised to the power ½ with its sign kept and scaled to unit length. The paper's weights,
    normalisations and choice of neighbours may differ, and none of its figures were reproduced:
    do not report results as those of the published method.

    Parameters
    ----------
    n_components : int, optional
        Number of kernel canonical components; as many as the ranks allow by default.
    kernel, gamma, reg, power, n_landmarks
        As in `KCCA`.
    n_codewords : int, default=16
        Number of codewords K.
    n_assign : int, default=5
        Number of nearest codewords to which a point is assigned.
    n_neighbors : int, default=10
        Number of nearest training items that complete the missing view.
    standardize : bool, default=False
        As in `KCCA`.
    random_state : int, RandomState or None, default=0
        Seed of the landmarks of the analysis and of k-means.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    kcca_ : KCCA
        The fitted kernel CCA.
    codebook_ : array of shape (K, k)
        Codewords, where k is the number of components kept.
    neighbors_ : dict of str to NearestNeighbors
        The projected training items by role.
    partners_ : dict of str to array of shape (n_items, k)
        Mean projection of the partners of each training item, by role.

    See Also
    --------
    KCCA : The kernel CCA that this method starts from.

    Notes
    -----
    Costs a `KCCA`, O(n K k) per step of k-means and O(n k) per encoded item; an encoded item has
    K k entries.

    References
    ----------
    T. Q. N. Tran, H. Le Borgne and M. Crucianu, Aggregating image and text quantized correlated
    components, CVPR 2016.
    """

    card = cards.MACC

    # Bundles that were written before this parameter was added are of methods without weights.
    _absent_parameters: ClassVar[dict[str, Any]] = {"power": 0.0}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{name: KCCA._parameter_constraints[name] for name in _OF_KCCA},
        "n_codewords": [integer(1)],
        "n_assign": [integer(1)],
        "n_neighbors": [integer(1)],
    }

    kcca_: KCCA
    codebook_: Matrix
    neighbors_: dict[str, NearestNeighbors]
    partners_: dict[str, Matrix]

    def __init__(
        self,
        n_components: int | None = None,
        *,
        kernel: Kernel | Mapping[str, Kernel] = "rbf",
        gamma: float | Mapping[str, float | None] | None = None,
        reg: float | Mapping[str, float] = 3.0,
        power: float = 1.0,
        n_landmarks: int = 2500,
        n_codewords: int = 16,
        n_assign: int = 5,
        n_neighbors: int = 10,
        standardize: bool = False,
        random_state: int | np.random.RandomState | None = 0,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.reg = reg
        self.power = power
        self.n_landmarks = n_landmarks
        self.n_codewords = n_codewords
        self.n_assign = n_assign
        self.n_neighbors = n_neighbors
        self.standardize = standardize
        self.random_state = random_state
        self.views = views

    _operations = KCCA._operations

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        rng = random_source(self.random_state)
        names = self.views_in_
        self.kcca_ = KCCA(
            self.n_components,
            kernel=self.kernel,
            gamma=self.gamma,
            reg=self.reg,
            power=self.power,
            n_landmarks=self.n_landmarks,
            standardize=self.standardize,
            random_state=rng.randint(2**31 - 1),
            views=names,
        ).fit(views.rename(names))

        projected = views.map(self._project)
        items = {role: projected.distinct(role)[0] for role in views.names}
        union = np.vstack(list(items.values()))
        if self.n_codewords > len(union):
            raise ValueError(
                f"MACC: n_codewords={self.n_codewords} is more than the {len(union)} training "
                "items of both views; decrease it"
            )
        kmeans = KMeans(self.n_codewords, n_init=1, random_state=rng.randint(2**31 - 1))
        with at_the_callers_line():
            self.codebook_ = kmeans.fit(union).cluster_centers_
        self.neighbors_, self.partners_ = {}, {}
        for role, other in zip(views.names, reversed(views.names)):
            k = min(self.n_neighbors, len(items[role]))
            self.neighbors_[role] = NearestNeighbors(n_neighbors=k).fit(items[role])
            self.partners_[role] = _mean_by_item(projected[other], projected.distinct(role)[1])

    def _project(self, values: Any, role: str) -> Matrix:
        found = as_numpy(self.kcca_.encode(values, self._view_name(role))).astype(np.float64)
        return _unit(found)

    def _encode(self, values: Any, view: str) -> Any:
        dtype = np.dtype(str(values.dtype).removeprefix("torch."))
        encoded = np.empty((values.shape[0], self.codebook_.size), dtype=dtype)
        for start in range(0, len(encoded), CHUNK):
            rows = slice(start, start + CHUNK)
            z = self._project(values[rows], view)
            nearest = self.neighbors_[view].kneighbors(z, return_distance=False)
            completed = _unit(self.partners_[view][nearest].mean(axis=1))
            v = self._residuals(z) + self._residuals(completed)
            encoded[rows] = _unit(np.sign(v) * np.sqrt(np.abs(v)))
        return encoded

    def _residuals(self, z: Matrix) -> Matrix:
        """Return the residuals of each row to its nearest codewords, concatenated."""
        apart = z[:, None] - self.codebook_
        distance = np.sum(apart**2, axis=2)
        k = min(self.n_assign, len(self.codebook_))
        limit = np.partition(distance, k - 1, axis=1)[:, k - 1 : k]
        return np.where((distance <= limit)[:, :, None], apart, 0.0).reshape(len(z), -1)


def _mean_by_item(rows: Matrix, row_to_item: NDArray[np.int64]) -> Matrix:
    member = sp.csr_array((np.ones(len(rows)), (row_to_item, np.arange(len(rows)))))
    return (member @ rows) / member.sum(axis=1)[:, None]


def _unit(z: Matrix) -> Matrix:
    norms = np.linalg.norm(z, axis=1, keepdims=True)
    return np.divide(z, norms, out=np.zeros_like(z), where=norms > 0)
