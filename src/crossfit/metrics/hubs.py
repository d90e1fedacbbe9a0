"""Hubness: how unevenly the items of a gallery are among the first ranks of the queries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crossfit._arguments import integer, real, validated
from crossfit._arrays import as_array
from crossfit._tabular import Tabular

__all__ = ["hubness"]


class Hubness(dict[str, Any], Tabular):
    """Skewness of a gallery: a mapping with a table.

    Parameters
    ----------
    skewness : float
        Skewness of the number of queries that have an item among their first k.
    max : int
        Largest such number.
    never : float
        Share of the items that no query has.

    See Also
    --------
    hubness : Returns it.

    Examples
    --------
    >>> Hubness(skewness=0.5, max=2, never=0.25)
    Hubness(skewness=0.5, max=2, never=0.25)
    """

    @validated(skewness=[real()], max=[integer(0)], never=[real()])
    def __init__(self, *, skewness: float, max: int, never: float) -> None:
        super().__init__(skewness=skewness, max=max, never=never)

    def rows(self) -> list[dict[str, Any]]:
        """Return the values as a row.

        Returns
        -------
        list of dict
        """
        return [dict(self)]

    def _title(self) -> str:
        return "Hubness"

    def __repr__(self) -> str:
        return f"Hubness({', '.join(f'{name}={value:.4g}' for name, value in self.items())})"


@validated(n_gallery=[integer(1, 2**32)])
def hubness(top: ArrayLike, n_gallery: int) -> Hubness:
    """Return how unevenly items of a gallery are among the first k ranks of the queries [1]_.

    Parameters
    ----------
    top : array-like of int, shape (n_queries, k)
        Numbers of the first k items of each query, such as ``top_k(scores, 10).indices``.
    n_gallery : int
        Number of items in the gallery.

    Returns
    -------
    Hubness
        A mapping: ``skewness`` and ``max`` of the number of queries that have an item among their
        first k, and ``never``, the share of items with none (orphans). A skewness of 0 means that
        all items are found equally often; above about 1 there are hubs.

    Raises
    ------
    ValueError
        If `top` are not numbers of items in the gallery.

    See Also
    --------
    crossfit.retrieval.NNN : A correction of the scores of hubs.

    References
    ----------
    .. [1] Radovanović, Nanopoulos and Ivanović, "Hubs in Space: Popular Nearest Neighbors in
           High-Dimensional Data", JMLR 11, 2010.

    Examples
    --------
    >>> import numpy as np
    >>> found = hubness(np.array([[0], [0], [1]]), 4)
    >>> round(found["skewness"], 3), found["max"], found["never"]
    (0.493, 2, 0.5)
    """
    found = as_array(top, "top", numbers=True)
    whole = found.dtype.kind in "iu" and found.size > 0
    if not whole or found.min() < 0 or found.max() >= n_gallery:
        ends = f" from {found.min()} to {found.max()}" if whole else ""
        raise ValueError(
            f"top must be numbers of items from 0 to {n_gallery - 1}, got an array of shape "
            f"{found.shape} and type {found.dtype}{ends}"
        )
    counts = np.bincount(found.ravel(), minlength=n_gallery).astype(np.float64)
    spread = counts.std()
    skewness = float(np.mean((counts - counts.mean()) ** 3) / spread**3) if spread else 0.0
    never = float((counts == 0).mean())
    return Hubness(skewness=skewness, max=int(counts.max()), never=never)
