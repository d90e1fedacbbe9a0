"""Hubness: how unevenly the items of a gallery are among the first ranks of the queries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crossfit._arguments import integer, validated
from crossfit._arrays import as_array

__all__ = ["hubness"]


@validated(n_gallery=[integer(1, 2**32)])
def hubness(top: ArrayLike, n_gallery: int) -> dict[str, Any]:
    """Return how unevenly items of a gallery are among the first k ranks of the queries [1]_.

    Parameters
    ----------
    top : array-like of int, shape (n_queries, k)
        Numbers of the first k items of each query, such as ``top_k(scores, 10).indices``.
    n_gallery : int
        Number of items in the gallery.

    Returns
    -------
    dict
        ``skewness`` and ``max`` of the number of queries that have an item among their first k,
        and ``never``, the share of items with none (orphans). A skewness of 0 means that all items
        are found equally often; above about 1 there are hubs.

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
    return {
        "skewness": skewness,
        "max": int(counts.max()),
        "never": float((counts == 0).mean()),
    }
