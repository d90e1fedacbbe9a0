"""Pairs that look wrong: ranked by the score that models of the other pairs give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods

from crossfit._arguments import integer, validated
from crossfit._random import random_source
from crossfit._tabular import Tabular
from crossfit.diagnosis.estimate import two_views
from crossfit.labels import group_codes
from crossfit.model_selection import PairKFold
from crossfit.retrieval import CSLS
from crossfit.subspace import CCA
from crossfit.views import Views

__all__ = ["PairRanking", "drawn_groups", "rank_pairs"]

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
_BLOCK = 1024


@dataclass(frozen=True, eq=False, repr=False)
class PairRanking(Tabular):
    """Scores of all pairs by models that have not seen them.

    Parameters
    ----------
    scores : array of shape (n,)
        How well both items of each row match; lower is more suspicious.
    chance : array of shape (m,)
        Scores of rows whose second item was replaced by that of a random other row.
    better : int array of shape (n,)
        Row whose second item matches the first item of each row best, among the other groups of
        its fold.
    better_scores : array of shape (n,)
        The score of that match.
    """

    scores: Floats
    chance: Floats
    better: Codes
    better_scores: Floats

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per pair, from the most to the least suspicious.

        Returns
        -------
        list of dict
            Keys ``row, score, better, better_score``.
        """
        return [
            {"row": int(at), "score": float(self.scores[at]), "better": int(self.better[at])}
            | {"better_score": float(self.better_scores[at])}
            for at in self.order
        ]

    def _title(self) -> str:
        random = f"{self.share:.1%} of which score as random ones"
        return f"PairRanking of {len(self.scores)} pairs, {random}"

    @property
    def order(self) -> Codes:
        """Rows from the most to the least suspicious."""
        return np.argsort(self.scores, kind="stable")

    @property
    def share(self) -> float:
        """Estimated share of pairs that are as random ones: twice those below the median of chance.

        Half of all random pairs are below that median. Right pairs that are hard to recognise may
        be, too, so that the estimate is rather too high than too low.
        """
        return min(1.0, 2 * float(np.mean(self.scores < np.median(self.chance))))


@validated(
    method=[HasMethods(["fit", "encode", "transform"]), None],
    n_splits=[integer(2)],
    k=[integer(1)],
    max_pairs=[integer(2), None],
    random_state=["random_state"],
    progress=[callable, None],
)
def rank_pairs(
    views: Views,
    *,
    groups: ArrayLike | None = None,
    method: Any = None,
    n_splits: int = 5,
    k: int = 10,
    max_pairs: int | None = None,
    random_state: Any = 0,
    progress: Callable[[float], object] | None = None,
) -> PairRanking:
    """Score every pair by a model that was fitted on other groups of pairs.

    The score is the cosine in the common space, corrected for hubs as in `CSLS` on the held-out
    items, because the score of an item that matches everything, or nothing, means little.

    Parameters
    ----------
    views : Views
        Two views of the pairs.
    groups : array-like of shape (n,), optional
        Groups that stay together; those of the views by default.
    method : CrossModalEstimator, optional
        The method, unfitted; `crossfit.subspace.CCA` with its defaults by default.
    n_splits : int, default=5
        Number of folds.
    k : int, default=10
        Number of neighbours of the correction.
    max_pairs : int, optional
        Number of pairs that a model is fitted on, drawn by whole groups; all by default.
    random_state : int, RandomState or None, default=0
        Source of the folds and draws.
    progress : callable, optional
        Called after each fold with its share of the work.

    Returns
    -------
    PairRanking

    Raises
    ------
    ValueError
        If there are not two views, or fewer groups than folds.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> Z = np.random.default_rng(0).normal(size=(200, 4))
    >>> text = Z.copy()
    >>> text[[3, 50]] = text[[50, 3]]
    >>> sorted(rank_pairs(Views(image=Z, text=text)).order[:2].tolist())
    [3, 50]
    """
    first, second = two_views(views, "rank_pairs")
    n = len(views)
    own = views.groups if groups is None else group_codes(groups, n)
    rng = random_source(random_state)
    scores, better_scores = np.empty(n), np.empty(n)
    better = np.empty(n, np.int64)
    chance = []
    folds = PairKFold(n_splits, shuffle=True, random_state=rng)
    for train, test in folds.split(views, groups=own):
        if max_pairs is not None and max_pairs < len(train):
            train = train[drawn_groups(own[train], max_pairs, rng)]
        model = clone(CCA() if method is None else method).fit(views[train])
        held_out = model.transform(views[test])
        correction = CSLS(k).fit(held_out)
        (x, x_of), (z, z_of) = held_out.distinct(first), held_out.distinct(second)
        p, q, _ = correction.prepared(x, first, z, second)
        scores[test] = _of_rows(p, q, x_of, z_of)
        other = rng.permutation(len(test))
        apart = own[test] != own[test][other]
        chance.append(_of_rows(p, q, x_of[apart], z_of[other[apart]]))
        rows, values = _best_others(p, q, *(
            own[test][held_out.first_rows(name)] for name in (first, second)
        ))  # fmt: skip
        better[test] = test[held_out.first_rows(second)[rows]][x_of]
        better_scores[test] = values[x_of]
        if progress is not None:
            progress(1 / n_splits)
    return PairRanking(scores, np.concatenate(chance), better, better_scores)


def drawn_groups(groups: Codes, size: int, rng: np.random.RandomState) -> Codes:
    """Return at most `size` rows, and at least one group, drawn by whole groups; sorted.

    Parameters
    ----------
    groups : int array of shape (n,)
        Groups of the rows.
    size : int
        Largest number of rows.
    rng : RandomState
        Source of the draw.
    """
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = rng.permutation(len(sizes))
    fitting = np.cumsum(sizes[order]) <= size
    fitting[0] = True
    return np.flatnonzero(np.isin(codes, order[fitting]))


def _of_rows(p: Floats, q: Floats, at: Codes, other: Codes) -> Floats:
    return np.einsum("ij,ij->i", p[at], q[other])


def _best_others(p: Floats, q: Floats, p_groups: Codes, q_groups: Codes) -> tuple[Codes, Floats]:
    """Return the best item of another group for each row of p, and its score."""
    best, values = np.empty(len(p), np.int64), np.empty(len(p))
    for start in range(0, len(p), _BLOCK):
        some = slice(start, start + _BLOCK)
        block = p[some] @ q.T
        block[p_groups[some, None] == q_groups] = -np.inf
        best[some] = block.argmax(axis=1)
        values[some] = block.max(axis=1)
    return best, values
