"""Moments of views, of which rows may lack some."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.subspace._linalg import Matrix, Moments
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
        self.parts.setdefault(views.names, Moments()).update(views, ridge, weights=weights)

    def of(self, *names: str) -> Moments:
        """Return the moments of some views over all rows that have these views."""
        found = Moments()
        for pattern, part in self.parts.items():
            if set(names) <= set(pattern):
                found.merge(part.select(*map(pattern.index, names)))
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
