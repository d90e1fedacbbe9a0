"""Moments of views, of which rows may lack some."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.base import CrossModalEstimator
from crossfit.subspace._linalg import CHUNK, Matrix, Moments
from crossfit.views import Views

__all__ = ["Patterns"]


@dataclass
class Patterns:
    """Moments of the rows of each pattern, a pattern being the views that a row has.

    Attributes
    ----------
    parts : dict of tuple of str to Moments
        By the names of the views that the rows have, in the order of the views.
    """

    parts: dict[tuple[str, ...], Moments] = field(default_factory=dict)

    def update(self, views: Views, ridge: float = 0.0, weights: NDArray[Any] | None = None) -> None:
        """Add rows; the arguments are those of `Moments.update`."""
        if views.is_complete:
            self.parts.setdefault(views.names, Moments()).update(views, ridge, weights=weights)
            return
        has = np.stack([views.present(name) for name in views.names], axis=1)
        for start in range(0, len(views), CHUNK):
            chunk = has[start : start + CHUNK]
            for row in np.unique(chunk, axis=0):
                names = tuple(name for name, there in zip(views.names, row) if there)
                if not names:  # the row has only views that are not used
                    continue
                rows = start + np.flatnonzero((chunk == row).all(axis=1))
                self.parts.setdefault(names, Moments()).update(
                    views.select(*names)[rows],
                    ridge,
                    weights=None if weights is None else weights[rows],
                )

    def check(self, method: CrossModalEstimator, roles: tuple[str, ...]) -> None:
        """Raise a ValueError if a view shares fewer than two rows with every other view."""
        for role in roles:
            shared = {other: self.of(role, other).n for other in roles if other != role}
            if max(shared.values()) < 2:
                other = max(shared, key=lambda name: shared[name])
                raise ValueError(
                    f"{type(method).__name__}: needs at least 2 rows that have view "
                    f"{method.views_in_[role]!r} and another view, got {shared[other]}"
                )

    def of(self, *names: str) -> Moments:
        """Return the moments of some views over all rows that have these views."""
        found = Moments()
        for pattern, part in self.parts.items():
            if set(names) <= set(pattern):
                found.merge(part.select(*map(pattern.index, names)))
        return found

    def joint(self, *names: str) -> Moments:
        """Return moments with the variances of all rows of a view, and covariances of pairs.

        The means, variances and covariances within a view are those of all rows that have it, the
        covariances of two views those of the rows that have both, about their own means. The
        number of rows is the smallest number of rows that two views share.
        """
        if set(self.parts) == {names}:
            return self.of(*names)
        own = [self.of(name) for name in names]
        sizes = tuple(part.sizes[0] for part in own)
        n = min(count for a, b in combinations(names, 2) if (count := self.of(a, b).n) > 1)
        found = Moments(n, max(part.eps for part in own), sizes)
        found.shift = np.concatenate([part.means()[0] for part in own])
        found.sums = np.zeros(sum(sizes))
        found.products = np.zeros((sum(sizes), sum(sizes)))
        found.rounded = np.zeros(sum(sizes))
        blocks = dict(zip(names, found.blocks()))
        for name, part in zip(names, own):
            block, share = blocks[name], (n - 1) / max(part.n - 1, 1)
            found.products[block, block] = part.covariance() * (n - 1)
            found.rounded[block] = part.rounded * share
        for a, b in combinations(names, 2):
            both = self.of(a, b)
            if both.n > 1:
                covariance = both.covariance()[both.blocks()[0], both.blocks()[1]]
                found.products[blocks[a], blocks[b]] = covariance * (n - 1)
                found.products[blocks[b], blocks[a]] = covariance.T * (n - 1)
        return found

    def weighted(self, means: dict[str, Matrix]) -> dict[tuple[str, str], Matrix]:
        """Return the products of centred views, a row with k views having the weight 1 / k.

        Parameters
        ----------
        means : dict of str to array of shape (d_i,)

        Returns
        -------
        dict of pair of str to array of shape (d_i, d_j)
        """
        found = {(a, b): np.zeros((len(means[a]), len(means[b]))) for a in means for b in means}
        for pattern, part in self.parts.items():
            products = part.about(np.concatenate([means[name] for name in pattern]))
            blocks = dict(zip(pattern, part.blocks()))
            for a in pattern:
                for b in pattern:
                    found[a, b] += products[blocks[a], blocks[b]] / len(pattern)
        return found
