"""Late fusion: several fitted methods rank together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import _BaseComposition

from crossfit._arguments import CheckedParameters, not_views, shown
from crossfit._arrays import NUMPY_DEFAULTS
from crossfit.metrics import evaluate
from crossfit.protocols import PairScorer
from crossfit.querying import answering, view_names
from crossfit.scoring import mean_over_directions, relevance_of
from crossfit.similarities import Out, Scores, check_chunk, fill_blocks, write_scores
from crossfit.views import Views, as_numpy, is_views, n_rows, take_rows

__all__ = ["Fusion"]

Rows = Callable[[slice], NDArray[Any]]

#: Number of scores of each member in memory at once, and of rows of them that are changed at once.
_AT_ONCE = 2**23
_FEW = 16
#: Largest weight, so that their sum is finite.
_LARGEST = 1e290
#: Steps of the grid of weights between 0 and 1.
_STEPS = 10


class Fusion(CheckedParameters, _BaseComposition, BaseEstimator):
    r"""Rank by several methods at once.

    Each method scores all items for a query; the scores of a query are made comparable and then
    averaged with weights :math:`w_i` that sum to 1. It is used like any method, by
    `crossfit.similarity`, `crossfit.search` and the scorers, alone or at the end of a pipeline.
    Each method receives the original items and may itself be a pipeline, for instance with
    features of its own or with a hub correction.

    Parameters
    ----------
    estimators : sequence of (str, estimator)
        Names and methods, or pipelines that end in a method or a `RetrievalScorer`.
    how : {"zsum", "rrf", "weighted"}, default="zsum"
        ``"zsum"`` is :math:`\sum_i w_i (s_i - \mu_i) / \sigma_i` with the mean and standard
        deviation of the scores of a query over the gallery; ``"rrf"`` is reciprocal rank
        fusion [1]_, :math:`\sum_i w_i / (60 + r_i)` with the rank from 1 on, equal scores with
        their mean rank; ``"weighted"`` is ``"zsum"`` with weights chosen in `fit`.
    weights : sequence of float or mapping of str to float, optional
        One weight of at least 0 per estimator, not all 0, in their order or by their names; equal
        by default. Not for ``"weighted"``.
    rank_constant : int, default=60
        The 60 in reciprocal rank fusion.
    prefit : bool, default=False
        Whether the estimators are fitted already. They are then used unchanged, and `fit` is
        needed for ``"weighted"`` only: the weights are chosen on all rows that it is given, which
        should not be those of the training.
    random_state : int, RandomState or None, default=0
        Source of the groups that are held out for ``"weighted"``.

    Attributes
    ----------
    estimators_ : list of estimators
        The fitted methods.
    weights_ : array of shape (n_estimators,)
        Weights, with the sum 1.
    views_in_ : dict of str to str
        Names of the views of the first estimator, in its order.

    See Also
    --------
    Reranker : A method that proposes items and another one that ranks them.

    Notes
    -----
    For ``"weighted"``, the estimators are first fitted without a fifth of the groups, which are
    then ranked with every combination of weights on a grid of tenths; the best mean MRR over the
    directions (mAP with labels) wins, and equal weights win among equals. Then they are fitted on
    all rows.

    Scores depend on the whole gallery, so that a matrix of some items is not a part of that of
    more. The matrix of one direction is not the transpose of the other: pass ``query=`` and
    ``gallery=`` to `crossfit.similarity`, and ``directions="forward"`` to `crossfit.evaluate`. The
    scorers do so automatically.

    References
    ----------
    .. [1] Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and
           individual rank learning methods", SIGIR 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views, search
    >>> from crossfit.subspace import CCA
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(60, 3))
    >>> views = Views(image=Z @ rng.normal(size=(3, 8)), text=Z @ rng.normal(size=(3, 6)))
    >>> both = Fusion([("weak", CCA(3, reg=0.001)), ("strong", CCA(3, reg=0.01))]).fit(views)
    >>> search(both, views["image"][:2], view="image", gallery=views["text"], k=1).indices.tolist()
    [[0], [1]]
    """

    one_way: bool = True
    """The transpose of one direction's scores is not the other direction's."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimators": ["array-like"],
        "how": [StrOptions({"zsum", "rrf", "weighted"})],
        "weights": ["array-like", dict, None],
        "rank_constant": [Interval(Integral, 0, None, closed="left")],
        "prefit": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimators: Sequence[tuple[str, Any]],
        how: str = "zsum",
        *,
        weights: Sequence[float] | Mapping[str, float] | None = None,
        rank_constant: int = 60,
        prefit: bool = False,
        random_state: Any = 0,
    ) -> None:
        self.estimators = estimators
        self.how = how
        self.weights = weights
        self.rank_constant = rank_constant
        self.prefit = prefit
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, and with ``deep`` those of the estimators by their names.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the estimators.
        """
        found: dict[str, Any] = self._get_params("estimators", deep=deep)
        return found

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also of the estimators: ``cca__reg=0.1``, or an estimator by its name.

        Parameters
        ----------
        **params
            Names and values.

        Returns
        -------
        self
        """
        self._set_params("estimators", **params)
        return self

    def fit(self, X: Views, y: ArrayLike | None = None) -> Self:
        """Fit every estimator on the same pairs, and choose weights for ``"weighted"``.

        Parameters
        ----------
        X : Views
            The training pairs.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the estimators, their names or the weights are invalid, or there is only one group.
        """
        _require_views(X)
        self._validate_params()
        members = [part for _, part in self.estimators]
        if self.prefit:
            for part in members:
                view_names(answering(part)[1])  # raises if it is not fitted
            weights = self._best(members, X, y) if self.how == "weighted" else self._given()
            self.estimators_ = members
        else:
            weights = self._held_out(members, X, y) if self.how == "weighted" else self._given()
            self.estimators_ = [_fitted(part, X, y) for part in members]
        self.weights_ = weights
        return self

    def _validate_params(self) -> None:
        super()._validate_params()
        given = self.estimators
        if not given or any(
            not isinstance(part, (tuple, list)) or len(part) != 2 for part in given
        ):
            raise ValueError(
                f"estimators must be a list of pairs (name, estimator), got {shown(given)}"
            )
        self._validate_names([name for name, _ in given])
        for name, part in given:
            if not hasattr(part, "fit") or isinstance(part, type):
                raise ValueError(f"estimators: {name!r} must be an estimator, got {shown(part)}")
        if self.how == "weighted" and self.weights is not None:
            raise ValueError("weights are chosen by how='weighted'; use how='zsum' to set them")
        self._given()

    def _given(self) -> NDArray[np.float64]:
        n = len(self.estimators)
        if self.weights is None:
            return np.full(n, 1 / n)
        weights: list[Any] = list(self.weights)
        if isinstance(self.weights, Mapping):
            names = [name for name, _ in self.estimators]
            if set(weights) != set(names):
                raise ValueError(
                    f"weights must be numbers for {', '.join(names)}, got {shown(self.weights)}"
                )
            weights = [self.weights[name] for name in names]
        numbers = all(isinstance(w, Real) and 0 <= float(w) <= _LARGEST for w in weights)
        if len(weights) != n or not numbers or not any(weights):
            raise ValueError(
                f"weights must be {n} numbers of at least 0, not all 0, got {shown(self.weights)}"
            )
        found = np.array(weights, dtype=np.float64)
        return found / found.sum()

    def _held_out(
        self, members: Sequence[Any], X: Views, y: ArrayLike | None
    ) -> NDArray[np.float64]:
        """Choose weights on a fifth of the groups, with members that were not fitted on them."""
        if len(np.unique(X.groups)) < 2:
            raise ValueError("how='weighted' holds out groups of rows, and there is only one group")
        folds = GroupShuffleSplit(1, test_size=0.2, random_state=self.random_state)
        ((train, rest),) = folds.split(X.groups, groups=X.groups)
        labels = None if y is None else np.asarray(y)
        some, held = (None, None) if labels is None else (labels[train], labels[rest])
        fitted = [_fitted(part, X[train], some) for part in members]
        return self._best(fitted, X[rest], held)

    def _best(self, members: Sequence[Any], X: Views, y: ArrayLike | None) -> NDArray[np.float64]:
        """Return the weights with the best mean metric over all directions."""
        metric = "mrr" if y is None else "map@all"
        names = view_names(answering(members[0])[1])
        parts = []
        for query in names:
            for gallery in names:
                if query == gallery:
                    continue
                given = X.distinct(query)[0], query, X.distinct(gallery)[0], gallery
                n = n_rows(given[0])
                scores = [_standardised(_rows_of(part, *given)(slice(n))) for part in members]
                parts.append((scores, relevance_of(X, query, gallery, y)))
        best, chosen = -np.inf, self._given()
        for weights in _grid(len(members)):
            values = [
                evaluate(
                    np.asarray(sum(w * s for w, s in zip(weights, scores)), np.float32),
                    relevance, (metric,), directions="forward", ci=None,
                ).mean(None, metric)
                for scores, relevance in parts
            ]  # fmt: skip
            if np.mean(values) > best:
                best, chosen = float(np.mean(values)), weights
        return chosen

    def _members(self) -> tuple[Sequence[Any], NDArray[np.float64]]:
        if hasattr(self, "estimators_"):
            return self.estimators_, self.weights_
        if not self.prefit or self.how == "weighted":
            raise NotFittedError("this Fusion is not fitted yet")
        self._validate_params()
        return [part for _, part in self.estimators], self._given()

    @property
    def views_in_(self) -> dict[str, str]:
        """Names of the views of the first estimator, in its order."""
        return {name: name for name in view_names(answering(self._members()[0][0])[1])}

    def fitted_views(self, X: Views) -> Views:
        """Return those of the views that the estimators were fitted on.

        Parameters
        ----------
        X : Views
            As they reach the fusion.
        """
        return X.select(*(name for name in X.names if name in self.views_in_))

    def score_items(
        self,
        queries: Any,
        query: str,
        gallery: Any,
        view: str,
        chunk_size: int | None = None,
        out: Out = None,
    ) -> Scores:
        """Score items of the view `query` against items of the view `view`.

        Parameters
        ----------
        queries : array-like of n rows
            Items of one view.
        query : str
            The view of the queries.
        gallery : array-like of m rows
            Items of another view.
        view : str
            The view of the gallery.
        chunk_size, out
            As in `CrossModalEstimator.similarity`.

        Returns
        -------
        float32 array of shape (n, m)
        """
        members, weights = self._members()
        step = check_chunk(chunk_size)
        parts = [_rows_of(part, queries, query, gallery, view, chunk_size) for part in members]
        made = partial(_reciprocal, self.rank_constant) if self.how == "rrf" else _standardised

        def fill(scores: Scores) -> None:
            n, m = scores.shape
            at_once = min(step, max(_FEW, _AT_ONCE // max(m, 1)))
            for start in range(0, n, at_once):
                rows = slice(start, min(start + at_once, n))
                found = [part(rows) for part in parts]
                target = scores[rows]
                for few in (slice(i, i + _FEW) for i in range(0, len(target), _FEW)):
                    target[few] = sum(w * made(part[few]) for w, part in zip(weights, found))

        return write_scores(fill, (n_rows(queries), n_rows(gallery)), out)

    def score(self, X: Views, y: ArrayLike | None = None) -> float:
        """Return the mean over both directions of mAP with labels, or of MRR without.

        Parameters
        ----------
        X : Views
            The pairs, ranked against each other.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows.

        Returns
        -------
        float
        """
        _require_views(X)
        return mean_over_directions(self, X, y)


def _fitted(part: Any, X: Views, y: ArrayLike | None) -> Any:
    return clone(part).fit(X, y)


def _rows_of(
    member: Any, queries: Any, query: str, gallery: Any, view: str, chunk: int | None = None
) -> Rows:
    """Return a function of a slice of queries that returns their scores of the whole gallery."""
    steps, last = answering(member)
    found, shown_items = Views({query: queries}), Views({view: gallery})
    for step in steps:
        found, shown_items = step.transform(found), step.transform(shown_items)
    given = found[query], query, shown_items[view], view
    if not isinstance(last, PairScorer):
        scores = as_numpy(last.score_items(*given, chunk))
        return lambda rows: scores[rows]
    left, right, block = last.prepared(*given)
    names = view_names(last)
    turned = names.index(query) > names.index(view)

    def rows_of(rows: slice) -> NDArray[Any]:
        some = take_rows(left, rows)
        if turned:
            scores = np.empty((n_rows(some), n_rows(right)), np.float32)
            fill_blocks(block, right, some, chunk, scores.T)
            return scores
        return as_numpy(fill_blocks(block, some, right, chunk))

    return rows_of


@np.errstate(**NUMPY_DEFAULTS)
def _standardised(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return scores less the mean of their row, divided by its standard deviation."""
    found: NDArray[np.float64] = scores.astype(np.float64)
    mean = found.mean(axis=1, keepdims=True)
    found -= mean
    spread = np.sqrt(np.einsum("ij,ij->i", found, found) / found.shape[1])[:, None]
    # Of equal scores only rounding errors are left.
    level = spread <= 1e-12 * np.abs(mean)
    found *= np.divide(1.0, spread, out=np.zeros_like(spread), where=~level)
    return found


def _reciprocal(constant: int, scores: NDArray[Any]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 1 / (constant + rankdata(-scores, axis=1))
    return found


def _grid(n: int) -> Iterator[NDArray[np.float64]]:
    """Yield equal weights, then all weights in tenths with the sum 1."""
    yield np.full(n, 1 / n)
    for parts in product(range(_STEPS + 1), repeat=n):
        if sum(parts) == _STEPS:
            yield np.array(parts) / _STEPS


def _require_views(X: Any) -> None:
    if not is_views(X):
        raise not_views("Fusion", X)
