"""ASIF: items represented by their similarities to the training pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit._arguments import integer, real
from crossfit._random import random_source
from crossfit.base import CrossModalEstimator
from crossfit.subspace import cards
from crossfit.subspace._linalg import CHUNK, centred, check_range, mean_of_rows, unit_rows
from crossfit.views import Views, as_numpy, is_tensor

__all__ = ["ASIF"]


class ASIF(CrossModalEstimator):
    """ASIF [1]_, relative representations [2]_ by pairs: nothing is trained.

    An item is represented by its cosines with the items of its own view in the training pairs, the
    anchors: the k largest are kept if they are positive, raised to a power p, and the rest is 0.
    Items of two views are similar if they are near to the same pairs, by the cosine of these rows.
    A group of pairs, such as an image with its captions, is one anchor, at the mean direction of
    its items.

    Parameters
    ----------
    n_neighbors : int, default=400
        Number k of similarities that are kept per item; of equal ones all.
    power : float, default=6.0
        Power p of the similarities.
    n_anchors : int, default=5000
        Largest number of anchors in `fit`; they are drawn at random from more groups.
    center : bool, default=False
        Subtract the training mean of each view first.
    random_state : int, Generator, RandomState or None, default=None
        Seed for drawing the anchors.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    anchors_ : dict of str to array of shape (n_anchors, d)
        Anchors of length 1, by role; centred if `center`.
    means_ : dict of str to array of shape (d,)
        Vectors subtracted, by role: the training means, or zeros without centring.
    n_components_ : int
        Number of anchors, which is the number of dimensions.

    See Also
    --------
    CCA : Learns from the same pairs, and usually ranks better.

    Notes
    -----
    `partial_fit` adds pairs as further anchors without a change of the others. Rows are mostly
    zeros but are returned as dense arrays, of as many numbers as there are anchors. Encoding n
    items takes O(n m d) with m anchors.

    References
    ----------
    .. [1] A. Norelli et al., ASIF: coupled data turns unimodal models to multimodal without
           training, NeurIPS 2023.
    .. [2] L. Moschella et al., Relative representations enable zero-shot latent space
           communication, ICLR 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.subspace import ASIF
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 4))
    >>> Z = X @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    >>> ASIF(n_neighbors=10).fit(X[:40], Z[:40]).score(X[40:], Z[40:])
    1.0
    """

    card = cards.ASIF

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_neighbors": [integer(1)],
        "power": [real(0, closed="neither")],
        "n_anchors": [integer(1)],
        "center": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_neighbors: int = 400,
        power: float = 6.0,
        *,
        n_anchors: int = 5000,
        center: bool = False,
        random_state: Any = None,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.power = power
        self.n_anchors = n_anchors
        self.center = center
        self.random_state = random_state
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        check_range(self, views)
        self.means_ = {
            role: mean_of_rows(*views.distinct(role)) if self.center else np.zeros(d)
            for role, d in self.n_features_in_.items()
        }
        groups = np.unique(views.groups)
        if len(groups) > self.n_anchors:
            rng = random_source(self.random_state)
            drawn = rng.choice(groups, self.n_anchors, replace=False)
            views = views[np.isin(views.groups, drawn)]
        self.anchors_ = self._anchors(views)
        self.n_components_ = min(len(groups), self.n_anchors)

    def partial_fit(self, X: Any, Y: Any = None, y: Any = None) -> Self:
        """Add the groups of pairs as anchors; the first call is `fit`.

        Parameters
        ----------
        X, Y, y
            As in `fit`; one row is enough. All groups become anchors, which a group of an earlier
            call does not join, and `means_` stay.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            As for `fit`. A call that raises adds nothing.
        """
        if not hasattr(self, "anchors_"):
            return self.fit(X, Y, y)
        self._validate_params()
        with self._more_rows(X, Y, y) as views:
            check_range(self, views)
            added = self._anchors(views)
        self.anchors_ = {
            role: np.concatenate([part, added[role]]) for role, part in self.anchors_.items()
        }
        self.n_components_ = len(next(iter(self.anchors_.values())))
        return self

    def _anchors(self, views: Views) -> dict[str, NDArray[Any]]:
        """Return the mean direction of the distinct items of each group, by role."""
        _, group = np.unique(views.groups, return_inverse=True)
        found = {}
        for role in views.names:
            items, index = views.distinct(role)
            rows = as_numpy(unit_rows(centred(items, self.means_[role])))
            shape = (int(group.max()) + 1, len(rows))
            member = sp.csr_array((np.ones(len(index), rows.dtype), (group, index)), shape)
            member.data[:] = 1  # an item that several rows of a group have counts once
            found[role] = unit_rows(member @ rows)
        return found

    def _encode(self, values: Any, view: str) -> Any:
        rows = unit_rows(centred(values, self.means_[view]))
        anchors = self.anchors_[view]
        k = min(self.n_neighbors, len(anchors))
        if is_tensor(rows):
            import torch

            near = rows @ torch.as_tensor(anchors, device=rows.device, dtype=rows.dtype).T
            least = near.topk(k, dim=1).values[:, -1:]
            return unit_rows(torch.where(near >= least, near, 0).clamp(min=0) ** self.power)
        found = np.empty((len(rows), len(anchors)), dtype=rows.dtype)
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            near = rows[part] @ anchors.T
            least = np.partition(near, len(anchors) - k, axis=1)[:, [len(anchors) - k]]
            near[near < least] = 0
            found[part] = unit_rows(np.maximum(near, 0) ** self.power)
        return found
