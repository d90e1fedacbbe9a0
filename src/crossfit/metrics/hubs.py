"""Hubness: how unevenly the items of a gallery are among the first ranks of the queries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["hubness"]


def hubness(top: NDArray[Any], n_gallery: int) -> dict[str, Any]:
    """Return how unevenly items of a gallery are among the first k ranks of the queries [1]_.

    Parameters
    ----------
    top : int array of shape (n_queries, k)
        Numbers of the first k items of each query, such as ``top_k(scores, 10).indices``.
    n_gallery : int
        Number of items in the gallery.

    Returns
    -------
    dict
        ``skewness`` and ``max`` of the number of queries that have an item among their first k,
        and ``never``, the share of items with none (orphans). A skewness of 0 means that all items
        are found equally often; above about 1 there are hubs.

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
    counts = np.bincount(np.ravel(top), minlength=n_gallery).astype(np.float64)
    spread = counts.std()
    skewness = float(np.mean((counts - counts.mean()) ** 3) / spread**3) if spread else 0.0
    return {
        "skewness": skewness,
        "max": int(counts.max()),
        "never": float((counts == 0).mean()),
    }
