"""Estimates with their interval and chance level, and the checks that all questions share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit._arguments import not_views
from crossfit._arrays import as_array, checked_csr
from crossfit.metrics import Evaluation, evaluate
from crossfit.metrics.evaluation import PerQuery
from crossfit.views import Ragged, Views, as_float, is_views

__all__ = [
    "METRICS",
    "Estimate",
    "fitted_and_held_out",
    "matrix",
    "ranked",
    "same_rows",
    "two_views",
    "unit",
]

Floats = NDArray[Any]
#: Measures of the held-out retrieval; the last one decides.
METRICS = ("r@1", "r@10", "mrr")


@dataclass(frozen=True)
class Estimate:
    """A measured value.

    Parameters
    ----------
    value : float
        The value.
    low, high : float, default=nan
        Ends of its 95 % interval; NaN if there is none.
    chance : float, default=nan
        The value that unrelated views would have; NaN if there is none.

    Examples
    --------
    >>> Estimate(0.25, 0.2, 0.3, chance=0.01).above_chance
    True
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    chance: float = math.nan

    @property
    def above_chance(self) -> bool:
        """True if the value, or the lower end of its interval, is above the chance level."""
        return (self.value if math.isnan(self.low) else self.low) > self.chance


def matrix(values: Any, where: str) -> Floats:
    """Return rows of numbers as a dense array in float32 or float64.

    Parameters
    ----------
    values : array, CSR matrix or tensor of shape (n, d)
        Values of a view.
    where : str
        Name of the values in the message.

    Raises
    ------
    ValueError
        If they are not rows of finite numbers.
    """
    if isinstance(values, Ragged | Views):
        what = f"a {type(values).__name__}"
    else:
        if sp.issparse(values):
            values = checked_csr(values, where)
        else:
            values = as_array(values, where, numbers=True)
        what = "texts or objects" if values.dtype.kind in "OUS" else ""
    if what:
        raise ValueError(
            f"{where} holds {what} where one vector per item is needed; extract features first, "
            "for instance by a crossfit.ViewTransformer"
        )
    if len(values.shape) != 2:
        raise ValueError(
            f"{where} has shape {tuple(values.shape)} where one vector per item is needed; extract "
            "or pool features first, for instance by a crossfit.ViewTransformer"
        )
    found = as_float(values, where)
    return found.toarray() if sp.issparse(found) else found


def two_views(views: Any, owner: str) -> tuple[str, str]:
    """Return the names of both views; raise if these are not Views of two modalities."""
    if not is_views(views):
        raise not_views(owner, views)
    if len(views.names) != 2:
        raise ValueError(
            f"{owner} compares two views, got {', '.join(views.names)}; select two of them by "
            "views.select(...)"
        )
    first, second = views.names
    return first, second


def fitted_and_held_out(train: Any, test: Any, owner: str) -> tuple[str, str]:
    """Return the names of both views; raise if `train` and `test` are not Views of the same two."""
    names = two_views(train, owner)
    if set(two_views(test, owner)) != set(names):
        raise ValueError(
            f"{owner}: train has the views {' and '.join(names)}, but test has "
            f"{' and '.join(test.names)}"
        )
    return names


def same_rows(X: Any, Z: Any) -> tuple[Floats, Floats]:
    """Return two matrices in float64, after checking that they have the same rows."""
    first, second = (matrix(as_array, name) for as_array, name in ((X, "X"), (Z, "Z")))
    if len(first) != len(second):
        raise ValueError(
            f"X and Z must have the same number of rows, one per pair, got {len(first)} and "
            f"{len(second)}"
        )
    if len(first) < 3:
        raise ValueError(f"X and Z must have at least 3 rows, got {len(first)}")
    return first.astype(np.float64), second.astype(np.float64)


def unit(rows: Floats) -> Floats:
    """Return rows of length 1 in float64; rows of zeros stay zero."""
    wide = rows.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)


def ranked(
    views: Views, forward: Floats, backward: Floats | None = None, ci: float | None = 0.95
) -> Evaluation:
    """Evaluate the scores of held-out items in both directions; the paired item is relevant.

    Parameters
    ----------
    views : Views
        The held-out pairs.
    forward : array of shape (n_first_items, n_second_items)
        Scores of queries of the first view.
    backward : array of the same shape, optional
        Scores of queries of the second view, which are its columns; the same by default.
    ci : float or None, default=0.95
        As in `crossfit.evaluate`.
    """
    names = (views.names[0], views.names[1])
    first, second = (views.groups[views.first_rows(name)] for name in names)
    about: dict[str, Any] = {"groups": (first, second), "names": names, "ci": ci}
    relevance = views.relevance(*names)
    if backward is None:
        return evaluate(forward, relevance, METRICS, **about)
    one = evaluate(forward, relevance, METRICS, directions="forward", **about)
    other = evaluate(backward, relevance, METRICS, directions="backward", **about)
    values = {
        each.per_query.key(*key): found
        for each in (one, other)
        for key, found in each.per_query.items()
    }
    directions = (*one.directions, *other.directions)
    return replace(one, per_query=PerQuery(values), directions=directions,
                   groups={**one.groups, **other.groups})  # fmt: skip
