"""Splitters for pairs that keep groups together, spread labels and fix the size of the gallery.

Recall depends on the number of items that are ranked, so figures of folds of unequal size cannot
be compared; ``gallery_size`` makes all test parts the same size.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator
from sklearn.model_selection._split import GroupsConsumerMixin
from sklearn.utils import check_random_state

from crossfit._arguments import check_arguments, integer, real, shown
from crossfit.labels import class_codes, group_codes, read_labels
from crossfit.views import Views, is_views, n_rows

__all__ = ["PairKFold", "PairShuffleSplit", "check_folds"]

Rows = NDArray[np.int64]


class _PairSplitter(GroupsConsumerMixin, BaseCrossValidator):
    """Base class of both splitters, with groups, strata and the draw of galleries."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_splits": [integer(1)],
        "gallery_size": [integer(2), None],
        "n_draws": [integer(1)],
        "random_state": ["random_state"],
    }
    gallery_size: int | None
    n_draws: int
    random_state: Any

    def split(
        self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[Rows, Rows]]:
        """Yield the rows to train on and the rows to test on.

        Parameters
        ----------
        X : Views, or array-like of n rows
            Rows with the same value in ``X.groups`` stay together.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels, which are spread evenly over the test parts.
        groups : array-like of shape (n,), optional
            Groups that are coarser than ``X.groups``, for instance the recording that clips were
            cut from.

        Yields
        ------
        train, test : int arrays
            Row numbers in ascending order.

        Raises
        ------
        ValueError
            If there are too few groups, if `groups` separates rows of one group of ``X``, or if a
            test part has fewer items than ``gallery_size``.
        """
        self._check()
        n = _n_rows(X)
        codes = _group_codes(X, groups, n)
        classes = _class_codes(y, n)
        rng = check_random_state(self.random_state)
        items = _items(X, n)
        for test_groups in self._iter_test_groups(codes, classes, rng):
            inside = test_groups[codes]
            test = np.flatnonzero(inside)
            for _ in range(self.n_draws if self.gallery_size is not None else 1):
                drawn = test
                if self.gallery_size is not None:
                    drawn = _draw(test, items, classes, self.gallery_size, rng)
                yield np.flatnonzero(~inside), drawn

    def get_n_splits(
        self, X: Any = None, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> int:
        """Return the number of splits, which is ``n_splits`` times the draws per fold."""
        self._check()
        return self.n_splits * (self.n_draws if self.gallery_size is not None else 1)

    n_splits: int

    def _iter_test_groups(
        self, codes: Rows, classes: Rows, rng: np.random.RandomState
    ) -> Iterator[NDArray[np.bool_]]:
        raise NotImplementedError

    def _check(self) -> None:
        check_arguments(type(self).__name__, self._parameter_constraints, dict(vars(self)))
        if self.gallery_size is None and self.n_draws != 1:
            raise ValueError("n_draws: there are no galleries to draw repeatedly; set gallery_size")


class PairKFold(_PairSplitter):
    """K folds of pairs that never divide a group; without galleries every row is tested once.

    Rows that share an item (the captions of an image), or that ``views.with_groups`` put into one
    group, are in the same fold. If there are labels, every class is spread over the folds: the
    numbers of its rows in two folds differ by at most the size of its largest group, as long as
    all rows of a group have the same label. A group with several labels is assigned to its most
    frequent one.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds.
    shuffle : bool, default=False
        Whether to assign the groups to folds in random order.
    gallery_size : int, optional
        Number of distinct items to draw for each test part, with all their rows. They are items
        of the view that has the fewest, so that an image is drawn with all its captions. By
        default a test part is the whole fold.
    n_draws : int, default=1
        Number of galleries that are drawn from each fold; there are ``n_splits * n_draws`` splits.
    random_state : int, RandomState or None, default=None
        Seed of the order and of the galleries.

    See Also
    --------
    PairShuffleSplit : Random hold-out parts.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> v = Views.from_captions(np.eye(3), ["a", "b", "c", "d", "e", "f"], [0, 0, 1, 1, 2, 2])
    >>> [test.tolist() for train, test in PairKFold(3).split(v)]
    [[0, 1], [2, 3], [4, 5]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_PairSplitter._parameter_constraints,
        "n_splits": [integer(2)],
        "shuffle": ["boolean"],
    }

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = False,
        gallery_size: int | None = None,
        n_draws: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.gallery_size = gallery_size
        self.n_draws = n_draws
        self.random_state = random_state

    def _iter_test_groups(
        self, codes: Rows, classes: Rows, rng: np.random.RandomState
    ) -> Iterator[NDArray[np.bool_]]:
        sizes = np.bincount(codes)
        if len(sizes) < self.n_splits:
            raise ValueError(
                f"n_splits={self.n_splits} folds need at least as many groups of rows, "
                f"got {len(sizes)} groups"
            )
        order = rng.permutation(len(sizes)) if self.shuffle else np.arange(len(sizes))
        order = order[np.argsort(-sizes[order], kind="stable")]
        strata = _strata(codes, classes)
        # Groups are assigned from the largest to the smallest, each to the fold with the fewest
        # rows of its class, so that two folds never differ by more than one group.
        of_class = np.zeros((int(strata.max()) + 1, self.n_splits), np.int64)
        n_groups, n_of_fold = np.zeros(self.n_splits, np.int64), np.zeros(self.n_splits, np.int64)
        fold = np.empty(len(sizes), np.int64)
        for left, group in zip(range(len(order), 0, -1), order):
            # No fold may stay empty, whatever the classes of the remaining groups are.
            empty = n_groups == 0
            allowed = empty if empty.sum() == left else np.ones(self.n_splits, bool)
            candidates = np.flatnonzero(allowed)
            load = of_class[strata[group], candidates]
            best = candidates[np.lexsort((n_of_fold[candidates], load))[0]]
            fold[group] = best
            of_class[strata[group], best] += sizes[group]
            n_of_fold[best] += sizes[group]
            n_groups[best] += 1
        for k in range(self.n_splits):
            yield fold == k


class PairShuffleSplit(_PairSplitter):
    """Random hold-out parts of pairs that never divide a group.

    Parameters
    ----------
    n_splits : int, default=5
        Number of independent splits.
    test_size : float or int, default=0.2
        Fraction of the groups to test on, or their number. If there are labels, each class
        contributes the same fraction of its groups, to within one group.
    gallery_size, n_draws, random_state
        As in `PairKFold`.

    See Also
    --------
    PairKFold : Folds in which every row is tested once.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> v = Views.from_captions(np.eye(3), ["a", "b", "c", "d", "e", "f"], [0, 0, 1, 1, 2, 2])
    >>> train, test = next(PairShuffleSplit(1, test_size=1, random_state=0).split(v))
    >>> len(train), len(test)
    (4, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_PairSplitter._parameter_constraints,
        "test_size": [integer(1), real(0, 1)],
    }

    def __init__(
        self,
        n_splits: int = 5,
        *,
        test_size: float | int = 0.2,
        gallery_size: int | None = None,
        n_draws: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_splits = n_splits
        self.test_size = test_size
        self.gallery_size = gallery_size
        self.n_draws = n_draws
        self.random_state = random_state

    def _iter_test_groups(
        self, codes: Rows, classes: Rows, rng: np.random.RandomState
    ) -> Iterator[NDArray[np.bool_]]:
        strata = _strata(codes, classes)
        n_groups = len(strata)
        if isinstance(self.test_size, Integral):
            n_test = int(self.test_size)
        else:
            n_test = max(1, round(float(self.test_size) * n_groups))
        if not 0 < n_test < n_groups:
            raise ValueError(
                f"test_size={self.test_size!r} does not leave a group to train on: there are "
                f"{n_groups} groups of rows"
            )
        for _ in range(self.n_splits):
            chosen = np.zeros(n_groups, bool)
            chosen[_stratified(np.arange(n_groups), strata, n_test, rng)] = True
            yield chosen


def check_folds(folds: Any, groups: NDArray[Any]) -> list[tuple[Rows, Rows]]:
    """Check that folds are not empty and do not divide a group, and return their row numbers.

    Parameters
    ----------
    folds : iterable of (train, test)
        Row numbers or masks.
    groups : array of shape (n,)
        Group of each row.

    Raises
    ------
    ValueError
        If there are no folds, or if a fold is not such a pair, is empty or has rows of one group
        on both sides.
    """
    checked: list[tuple[Rows, Rows]] = []
    n = len(groups)
    for i, fold in enumerate(folds):
        try:
            train, test = (np.asarray(part) for part in fold)
        except (TypeError, ValueError):
            raise ValueError(
                f"fold {i} must be a pair (rows to train on, rows to test on), got {shown(fold)}"
            ) from None
        sides = []
        for rows in (train, test):
            rows = np.flatnonzero(rows) if rows.dtype == bool and rows.shape == (n,) else rows
            if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
                raise ValueError(
                    f"fold {i} must have row numbers on both sides, got {train.size} to train on "
                    f"and {test.size} to test on"
                )
            for row in (rows.min(), rows.max()):
                if not 0 <= row < n:
                    raise ValueError(f"fold {i} has the row {row}, but there are {n} rows")
            sides.append(rows.astype(np.int64))
        both = np.intersect1d(groups[sides[0]], groups[sides[1]])
        if len(both):
            raise ValueError(
                f"fold {i} has rows of the same groups on both sides ({len(both)} in all, "
                f"for instance {both[0]}); keep each group on one side, as PairKFold does"
            )
        checked.append((sides[0], sides[1]))
    if not checked:
        raise ValueError("expected at least one fold, got none")
    return checked


def _n_rows(X: Any) -> int:
    try:
        return n_rows(X) if hasattr(X, "shape") else len(X)
    except (TypeError, IndexError):  # a number, or a 0-D array
        raise TypeError(f"X must be Views or have rows, got {type(X).__name__}") from None


def _group_codes(X: Any, groups: ArrayLike | None, n: int) -> Rows:
    """Return the number of each row's group, in order of first appearance."""
    own = X.groups if is_views(X) else np.arange(n)
    given = own if groups is None else group_codes(groups, n)
    if groups is not None and len(np.unique(own)) < n:
        _, first, codes = np.unique(own, return_index=True, return_inverse=True)
        if np.any(given[first][codes] != given):
            raise ValueError(
                "groups must not separate rows that share an item or a group of the Views; give "
                "coarser groups"
            )
    _, first, codes = np.unique(given, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes]


def _class_codes(y: ArrayLike | None, n: int) -> Rows:
    if y is None:
        return np.zeros(n, np.int64)
    labels = read_labels(y)
    if labels.ndim not in (1, 2) or len(labels) != n:
        raise ValueError(f"expected one label per row ({n}), got shape {labels.shape}")
    if labels.ndim == 2:
        return np.unique(labels, axis=0, return_inverse=True)[1].ravel()
    # Unlabelled rows are spread over the parts as if they were a class.
    return np.unique(class_codes(labels)[1], return_inverse=True)[1]


def _strata(codes: Rows, classes: Rows) -> Rows:
    """Return the most frequent class of each group."""
    n_classes = int(classes.max()) + 1
    pairs, counts = np.unique(codes * n_classes + classes, return_counts=True)
    order = np.lexsort((-counts, pairs // n_classes))
    _, first = np.unique(pairs[order] // n_classes, return_index=True)
    return pairs[order][first] % n_classes


def _items(X: Any, n: int) -> Rows:
    """Return the item of each row, in the view of all rows that has the fewest distinct items."""
    if not isinstance(X, Views):
        return np.arange(n)
    whole = [name for name in X.names if X.present(name).all()]
    if not whole:
        return X.groups
    fewest = min(whole, key=lambda name: n_rows(X.distinct(name)[0]))
    return X.distinct(fewest)[1]


def _draw(test: Rows, items: Rows, classes: Rows, size: int, rng: np.random.RandomState) -> Rows:
    """Draw `size` of the items in the test part; return all their rows."""
    offered, first = np.unique(items[test], return_index=True)
    if len(offered) < size:
        raise ValueError(
            f"gallery_size={size} exceeds the {len(offered)} items of a test part; reduce it"
        )
    chosen = _stratified(offered, classes[test][first], size, rng)
    return test[np.isin(items[test], chosen)]


def _stratified(values: Rows, strata: Rows, total: int, rng: np.random.RandomState) -> Rows:
    """Draw `total` of the values, from every stratum its share to within one."""
    counts = np.bincount(strata)
    shares = counts * (total / len(values))
    quota = np.floor(shares + 1e-9).astype(np.int64)
    # The rest is drawn from the strata with the largest remainders, equal ones in random order.
    remainder = np.lexsort((rng.permutation(len(counts)), -(shares - quota)))
    quota[remainder[: total - int(quota.sum())]] += 1
    picked = [
        rng.permutation(values[strata == stratum])[:n] for stratum, n in enumerate(quota) if n
    ]
    return np.sort(np.concatenate(picked))
