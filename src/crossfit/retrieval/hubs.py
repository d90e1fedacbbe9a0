"""Hub correction: similarities that lower the scores of items which are near to every query.

In a space of many dimensions a few items, the hubs, are among the nearest of most queries. Each
class here learns from training queries, its bank, how near an item of the gallery is to queries in
general, and corrects the scores of that item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from crossfit._arguments import CheckedParameters, is_word, not_views, shown
from crossfit._arrays import NUMPY_DEFAULTS
from crossfit.similarities import CHUNK, MEASURES, Scores, fill_blocks, finite_rows
from crossfit.views import Views, is_views

__all__ = [
    "CORRECTIONS",
    "CSLS",
    "NNN",
    "DualSoftmax",
    "HubCorrection",
    "InvertedSoftmax",
    "QBNorm",
]

#: Rows of a block that are changed at a time, so that they stay in the cache of the processor.
_FEW = 64

Array = NDArray[Any]
Block = Callable[[Array, Array], Array]


class Direction(NamedTuple):
    """Rows of the two banks as the similarity compares them: of the queries, of the gallery."""

    queries: Array
    gallery: Array


class HubCorrection(CheckedParameters, BaseEstimator):
    """Base class of the corrections: the bank, and what is added to rows.

    A correction is a similarity of rows in a common space, as `RetrievalScorer` takes it. It is
    fitted on training rows in that space, whose items of each view are the bank: the queries that
    an item of the gallery is compared with. The scores of one direction are not the transpose of
    those of the other, because the bank is always of the view of the queries.

    Attributes
    ----------
    banks_ : dict of str to array of shape (n_items, n_components)
        Training items of each view.
    """

    one_way: bool = True
    """The transpose of one direction's scores is not the other direction's."""

    transductive: bool = False
    """Whether scores of a query depend on the other queries."""

    additive: bool = True
    """Whether the correction of an item does not depend on the query or on other items."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "measure": [StrOptions({"cosine", "dot", "correlation"})],
        "bank_size": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    measure: str
    bank_size: int | None
    random_state: Any

    def fit(self, views: Views, y: ArrayLike | None = None) -> Self:
        """Store the bank: training items of every view, in the common space.

        Parameters
        ----------
        views : Views
            Training items in the common space.
        y : array-like, optional
            Not used.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the views differ in their number of columns or are not finite rows.
        """
        self._validate_params()
        if not is_views(views):
            raise not_views(type(self).__name__, views)
        some = self._bank_rows(views)
        banks = {name: finite_rows(some.distinct(name)[0], name) for name in some.names}
        if len({bank.shape[1] for bank in banks.values()}) > 1:
            widths = ", ".join(f"{name}: {bank.shape[1]}" for name, bank in banks.items())
            raise ValueError(
                f"{type(self).__name__} needs views of a common space, all with the same number "
                f"of columns, got {widths}"
            )
        self.banks_ = banks
        return self

    def _bank_rows(self, views: Views) -> Views:
        """Return at most ``bank_size`` rows, drawn by whole groups."""
        if self.bank_size is None or self.bank_size >= len(views):
            return views
        groups, group, sizes = np.unique(views.groups, return_inverse=True, return_counts=True)
        order = check_random_state(self.random_state).permutation(len(groups))
        fitting = np.cumsum(sizes[order]) <= self.bank_size
        fitting[0] = True  # a group may be larger than the bank
        return views[np.flatnonzero(np.isin(group, order[fitting]))]

    def __call__(self, A: ArrayLike, B: ArrayLike) -> Scores:
        """Return the (n, m) scores of queries of the first view for items of the second."""
        check_is_fitted(self)
        first, second = list(self.banks_)[:2]
        queries, gallery, block = self.prepared(A, first, B, second)
        return fill_blocks(block, queries, gallery)

    @np.errstate(**NUMPY_DEFAULTS)
    def prepared(
        self, queries: ArrayLike, query: str, gallery: ArrayLike, view: str
    ) -> tuple[Array, Array, Block]:
        """Return queries and gallery with what the correction adds to them, and their similarity.

        Parameters
        ----------
        queries : array-like of shape (n, n_components)
            Queries in the common space.
        query : str
            Their view.
        gallery : array-like of shape (m, n_components)
            Items of another view.
        view : str
            Their view.

        Returns
        -------
        queries, gallery : array of shape (n, d), (m, d)
        similarity : callable
            Compares rows of both, queries first.
        """
        p, q = self._compared(queries, query), self._compared(gallery, view)
        return self._corrected(p, q, self._banks(query, view))

    @np.errstate(**NUMPY_DEFAULTS)
    def fill(
        self,
        queries: ArrayLike,
        query: str,
        gallery: ArrayLike,
        view: str,
        chunk_size: int | None,
        scores: Scores,
    ) -> None:
        """Write the scores of all queries for all items of a gallery.

        Parameters
        ----------
        queries, query, gallery, view
            As in `prepared`.
        chunk_size : int, optional
            Number of rows and columns scored at a time.
        scores : float32 array of shape (n, m)
            Where they are written.
        """
        p, q = self._compared(queries, query), self._compared(gallery, view)
        self._fill(p, q, self._banks(query, view), chunk_size, scores)

    def _fill(
        self, p: Array, q: Array, banks: Direction, chunk_size: int | None, scores: Scores
    ) -> None:
        left, right, block = self._corrected(p, q, banks)
        fill_blocks(block, left, right, chunk_size, scores)

    def of_gallery(self, gallery: ArrayLike, query: str, view: str) -> Array:
        """Return items with one more coordinate, whose inner product with queries is the score.

        Parameters
        ----------
        gallery : array-like of shape (m, n_components)
            Items in the common space.
        query, view : str
            Views of the queries and of the gallery.

        Returns
        -------
        array of shape (m, n_components + 1)

        Raises
        ------
        ValueError
            If the correction is more than a number per item.

        See Also
        --------
        of_queries : The other factor of the product.
        """
        self._require_additive()
        rows = self._compared(gallery, view)
        return np.column_stack([rows, -self._bias(rows, self._banks(query, view).queries)])

    def of_queries(self, queries: ArrayLike, query: str, view: str) -> Array:
        """Return queries with one more coordinate, see `of_gallery`.

        Parameters
        ----------
        queries : array-like of shape (n, n_components)
            Queries in the common space.
        query, view : str
            Views of the queries and of the gallery.

        Returns
        -------
        array of shape (n, n_components + 1)
        """
        self._require_additive()
        rows = self._compared(queries, query)
        return np.column_stack([rows, np.ones(len(rows))])

    def _require_additive(self) -> None:
        if not self.additive:
            raise ValueError(
                f"{type(self).__name__} is more than a number per item, so that an index cannot "
                "hold it; use nnn, csls or inverted_softmax"
            )

    def _compared(self, values: ArrayLike, view: str) -> Array:
        """Return rows as the measure multiplies them, checked against the bank."""
        check_is_fitted(self)
        if not is_word(view, self.banks_):
            raise ValueError(
                f"no view {shown(view)}: the views of the bank are {', '.join(self.banks_)}"
            )
        rows = finite_rows(values, view)
        width = self.banks_[view].shape[1]
        if rows.shape[1] != width:
            raise ValueError(
                f"{type(self).__name__} was fitted on rows of {width} columns, got {rows.shape[1]}"
            )
        return MEASURES[self.measure].left(rows)

    def _banks(self, query: str, view: str) -> Direction:
        left = MEASURES[self.measure].left
        return Direction(left(self.banks_[query]), left(self.banks_[view]))

    def _corrected(self, p: Array, q: Array, banks: Direction) -> tuple[Array, Array, Block]:
        """Return both as one product: the bias of an item is one more coordinate."""
        bias = self._bias(q, banks.queries)
        return np.column_stack([p, np.ones(len(p))]), np.column_stack([q, -bias]), _dot

    def _bias(self, rows: Array, bank: Array) -> Array:
        """Return what is subtracted from the scores of each row of the gallery."""
        raise NotImplementedError


class NNN(HubCorrection):
    r"""Nearest neighbour normalisation [1]_.

    .. math:: s'(q, g) = s(q, g) - w \, \frac1k \sum_{b \in N_k(g)} s(b, g)

    where the sum is over the k queries of the bank that are nearest to g.

    Parameters
    ----------
    k : int, default=10
        Number of queries of the bank; all of them if there are fewer.
    weight : float, default=0.5
        The weight w of the correction, at least 0; 0 is the plain similarity.
    measure : {"cosine", "dot", "correlation"}, default="cosine"
        The similarity s, see `crossfit.similarities.MEASURES`.
    bank_size : int, optional
        Number of training rows in the bank, drawn by whole groups; all of them by default.
    random_state : int, RandomState or None, default=0
        Source of the draw.

    Attributes
    ----------
    banks_ : dict of str to array of shape (n_items, n_components)
        Training items of each view.

    References
    ----------
    .. [1] Chowdhury, Wang, Sun, Krishna and Anwar, "Nearest Neighbor Normalization Improves
           Multimodal Retrieval", EMNLP 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> bank = Views(image=np.eye(2), text=np.array([[1.0, 0.0], [1.0, 0.0]]))
    >>> NNN(k=2, weight=1.0).fit(bank)([[0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]).tolist()
    [[-0.5, 0.5]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HubCorrection._parameter_constraints,
        "k": [Interval(Integral, 1, None, closed="left")],
        "weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        k: int = 10,
        weight: float = 0.5,
        *,
        measure: str = "cosine",
        bank_size: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.k = k
        self.weight = weight
        self.measure = measure
        self.bank_size = bank_size
        self.random_state = random_state

    def _bias(self, rows: Array, bank: Array) -> Array:
        return self.weight * _mean_of_largest(rows, bank, self.k)


class CSLS(HubCorrection):
    r"""Cross-domain similarity local scaling [1]_.

    .. math:: s'(q, g) = 2 s(q, g) - r(q) - r(g)

    where r(g) is the mean similarity of g to the k queries of the bank that are nearest to it, and
    r(q) that of q to the k nearest training items of the view of g.

    Parameters
    ----------
    k : int, default=5
        Number of items of the bank; all of them if there are fewer.
    measure, bank_size, random_state
        As in `NNN`.

    Attributes
    ----------
    banks_ : dict of str to array of shape (n_items, n_components)
        Training items of each view.

    References
    ----------
    .. [1] Conneau, Lample, Ranzato, Denoyer and Jégou, "Word Translation Without Parallel Data",
           ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> bank = Views(image=np.eye(2), text=np.eye(2))
    >>> CSLS(k=1).fit(bank)([[0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]).tolist()
    [[-2.0, 0.0]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HubCorrection._parameter_constraints,
        "k": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        k: int = 5,
        *,
        measure: str = "cosine",
        bank_size: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.k = k
        self.measure = measure
        self.bank_size = bank_size
        self.random_state = random_state

    def _corrected(self, p: Array, q: Array, banks: Direction) -> tuple[Array, Array, Block]:
        own = _mean_of_largest(p, banks.gallery, self.k)
        left = np.column_stack([2 * p, np.ones(len(p)), -own])
        right = np.column_stack([q, -self._bias(q, banks.queries), np.ones(len(q))])
        return left, right, _dot

    def of_queries(self, queries: ArrayLike, query: str, view: str) -> Array:
        """Return queries with one more coordinate; r(q), equal for all items, is left out.

        Parameters
        ----------
        queries : array-like of shape (n, n_components)
            Queries in the common space.
        query, view : str
            Views of the queries and of the gallery.

        Returns
        -------
        array of shape (n, n_components + 1)
        """
        rows = super().of_queries(queries, query, view)
        rows[:, :-1] *= 2
        return rows

    def _bias(self, rows: Array, bank: Array) -> Array:
        return _mean_of_largest(rows, bank, self.k)


class InvertedSoftmax(HubCorrection):
    r"""Inverted softmax over a bank of queries [1]_.

    .. math:: s'(q, g) = s(q, g) - \frac1\beta \log \sum_b \exp(\beta s(b, g))

    This is the logarithm of the printed quotient, divided by :math:`\beta`; the order of the items
    is the same.

    Parameters
    ----------
    beta : float, default=10.0
        Inverse temperature, above 0.
    measure, bank_size, random_state
        As in `NNN`.

    Attributes
    ----------
    banks_ : dict of str to array of shape (n_items, n_components)
        Training items of each view.

    References
    ----------
    .. [1] Smith, Turban, Hamblin and Hammerla, "Offline Bilingual Word Vectors, Orthogonal
           Transformations and the Inverted Softmax", ICLR 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> bank = Views(image=np.eye(2)[:1], text=np.eye(2)[:1])
    >>> InvertedSoftmax().fit(bank)([[0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]).tolist()
    [[-1.0, 1.0]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HubCorrection._parameter_constraints,
        "beta": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        beta: float = 10.0,
        *,
        measure: str = "cosine",
        bank_size: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.beta = beta
        self.measure = measure
        self.bank_size = bank_size
        self.random_state = random_state

    def _bias(self, rows: Array, bank: Array) -> Array:
        return _log_of_sum(rows, bank, self.beta)


class QBNorm(InvertedSoftmax):
    """Query bank normalisation with a dynamic inverted softmax [1]_.

    The scores are those of `InvertedSoftmax` for queries whose best item, by the plain similarity,
    is also the best of some query of the bank, and the plain similarity for all others.

    Parameters
    ----------
    beta : float, default=10.0
        Inverse temperature, above 0.
    measure, bank_size, random_state
        As in `NNN`.

    Attributes
    ----------
    banks_ : dict of str to array of shape (n_items, n_components)
        Training items of each view.

    References
    ----------
    .. [1] Bogolin, Croitoru, Jin, Liu and Albanie, "Cross Modal Retrieval with Querybank
           Normalisation", CVPR 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> bank = Views(image=np.eye(2)[:1], text=np.eye(2)[:1])
    >>> QBNorm().fit(bank)([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]).tolist()
    [[0.0, 0.0], [0.0, 1.0]]
    """

    additive = False

    def _corrected(self, p: Array, q: Array, banks: Direction) -> tuple[Array, Array, Block]:
        bias, hubs = _log_of_sum_and_hubs(q, banks.queries, self.beta)
        corrected = hubs[_nearest(p, q)].astype(p.dtype)
        return np.column_stack([p, corrected]), np.column_stack([q, -bias]), _dot

    def _fill(
        self, p: Array, q: Array, banks: Direction, chunk_size: int | None, scores: Scores
    ) -> None:
        bias, hubs = _log_of_sum_and_hubs(q, banks.queries, self.beta)
        fill_blocks(_dot, p, q, chunk_size, scores)
        # The plain scores show which queries are corrected, without a second product.
        for few in _slices(len(scores), _FEW):
            for row in scores[few]:
                if hubs[row.argmax()]:
                    row -= bias


class DualSoftmax(HubCorrection):
    r"""Dual softmax over the queries that are ranked together [1]_.

    .. math:: s'(q, g) = s(q, g) \, \frac{\exp(\beta s(q, g))}{\sum_{q'} \exp(\beta s(q', g))}

    where the sum is over all queries of the call. It is transductive: the scores of a query depend
    on the other test queries, so that figures cannot be compared with those of methods that rank
    one query at a time, and a search for single queries is rejected.

    Parameters
    ----------
    beta : float, default=10.0
        Inverse temperature, above 0.
    measure : {"cosine", "dot", "correlation"}, default="cosine"
        The similarity s, see `crossfit.similarities.MEASURES`.

    Attributes
    ----------
    banks_ : dict of str to array of shape (1, n_components)
        One training item of each view, for its width; there is no bank.

    References
    ----------
    .. [1] Cheng, Lin, Wu, Yang and Shen, "Improving Video-Text Retrieval by Multi-Stream Corpus
           Alignment and Dual Softmax Loss", arXiv 2109.04290, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> views = Views(image=np.eye(2), text=np.eye(2))
    >>> DualSoftmax().fit(views)(np.eye(2), np.eye(2)).round(3).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    transductive = True
    additive = False
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "beta": [Interval(Real, 0, None, closed="neither")],
        "measure": HubCorrection._parameter_constraints["measure"],
    }

    def __init__(self, beta: float = 10.0, *, measure: str = "cosine") -> None:
        self.beta = beta
        self.measure = measure

    def _bank_rows(self, views: Views) -> Views:
        return views[:1]

    def _corrected(self, p: Array, q: Array, banks: Direction) -> tuple[Array, Array, Block]:
        sums = _log_of_sum(q, p, self.beta)
        return p, np.column_stack([q, sums]), partial(_dual, self.beta)

    def _fill(
        self, p: Array, q: Array, banks: Direction, chunk_size: int | None, scores: Scores
    ) -> None:
        fill_blocks(_dot, p, q, chunk_size, scores)
        top = np.full(len(q), -np.inf)
        sums = np.zeros(len(q))
        for few in _slices(len(scores), _FEW):
            np.maximum(top, scores[few].max(axis=0), out=top)
        for few in _slices(len(scores), _FEW):
            part = scores[few] - top
            part *= self.beta
            sums += np.exp(part, out=part).sum(axis=0)
        sums = top + np.log(sums) / self.beta
        for few in _slices(len(scores), _FEW):
            part = scores[few] - sums
            part *= self.beta
            scores[few] *= np.exp(part, out=part)


def _dual(beta: float, p: Array, q: Array) -> Array:
    scores = p @ q[:, :-1].T
    weighted: Array = scores * np.exp(beta * (scores - q[:, -1]))
    return weighted


CORRECTIONS: dict[str, type[HubCorrection]] = {
    "nnn": NNN,
    "csls": CSLS,
    "inverted_softmax": InvertedSoftmax,
    "qb_norm": QBNorm,
    "dual_softmax": DualSoftmax,
}
"""Corrections by the names under which `crossfit.RetrievalScorer` and experiments take them."""


def _dot(p: Array, q: Array) -> Array:
    return p @ q.T


def _slices(n: int, step: int = CHUNK) -> Iterator[slice]:
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _mean_of_largest(rows: Array, bank: Array, k: int) -> Array:
    """Return the mean of the k largest products of each row with the rows of a bank."""
    k = min(k, len(bank))
    found = np.empty(len(rows))
    for some in _slices(len(rows)):
        largest: Array | None = None
        for part in _slices(len(bank)):
            products = rows[some] @ bank[part].T
            if largest is not None:
                products = np.hstack([largest, products])
            largest = products
            if products.shape[1] > k:
                largest = np.partition(products, -k, axis=1)[:, -k:]
        assert largest is not None
        # Sorted, so that the mean does not depend on the order of the bank.
        found[some] = np.sort(largest, axis=1).mean(axis=1)
    return found


def _log_of_sum(rows: Array, bank: Array, beta: float) -> Array:
    """Return log(sum of exp(beta s)) / beta of each row, s its products with the rows of a bank."""
    found = np.full(len(rows), -np.inf)
    for some in _slices(len(rows)):
        for part in _slices(len(bank)):
            sums = _log_of_sum_in_place(rows[some] @ bank[part].T, beta)
            found[some] = np.logaddexp(found[some], sums)
    return found / beta


def _log_of_sum_in_place(products: Array, beta: float) -> Array:
    """Return log(sum of exp(beta s)) of each row; the products are overwritten."""
    found = np.empty(len(products))
    for few in _slices(len(products), _FEW):
        part = products[few]
        part *= beta
        top = part.max(axis=1)
        part -= top[:, None]
        np.exp(part, out=part)
        found[few] = np.log(part.sum(axis=1)) + top
    return found


def _log_of_sum_and_hubs(rows: Array, bank: Array, beta: float) -> tuple[Array, NDArray[np.bool_]]:
    """Return `_log_of_sum`, and whether a row is the best of some query of the bank."""
    found = np.full(len(rows), -np.inf)
    best = np.full(len(bank), -np.inf, np.float32)
    at = np.zeros(len(bank), np.intp)
    for some in _slices(len(rows)):
        for part in _slices(len(bank)):
            products = rows[some] @ bank[part].T
            # Rounded as scores are, so that equal items have equal products.
            rounded = products.astype(np.float32)
            higher = np.flatnonzero(rounded.max(axis=0) > best[part])
            here = rounded[:, higher].argmax(axis=0)
            best[part][higher] = rounded[here, higher]
            at[part][higher] = here + some.start
            sums = _log_of_sum_in_place(products, beta)
            found[some] = np.logaddexp(found[some], sums)
    hubs = np.zeros(len(rows), bool)
    hubs[at] = True
    return found / beta, hubs


def _nearest(queries: Array, gallery: Array) -> NDArray[np.intp]:
    """Return the number of the best item of the gallery for each query; the first of equal ones."""
    found = np.empty(len(queries), dtype=np.intp)
    for some in _slices(len(queries)):
        best = np.full(len(queries[some]), -np.inf)
        at = np.zeros(len(best), dtype=np.intp)
        for part in _slices(len(gallery)):
            # Rounded as scores are, so that equal items have equal products.
            products = (queries[some] @ gallery[part].T).astype(np.float32)
            here = products.argmax(axis=1)
            value = products[np.arange(len(here)), here]
            better = value > best
            best[better], at[better] = value[better], here[better] + part.start
        found[some] = at
    return found
