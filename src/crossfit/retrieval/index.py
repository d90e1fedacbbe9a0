"""Indexes of a gallery in a common space: exact, or approximate with faiss."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit._arguments import CheckedParameters
from crossfit._arrays import as_array, as_numpy, floats, in_rows
from crossfit.querying import SearchResult, check_k, top_k
from crossfit.similarities import CHUNK, MEASURES, Similarity, resolve

__all__ = ["ApproximateIndex", "ExactIndex"]


class ExactIndex(CheckedParameters, BaseEstimator):
    """A gallery to which items can be added, with exact search in blocks.

    Only the scores of one block of the gallery are held at a time, whereas
    `RetrievalScorer.index` scores the whole gallery. Use `crossfit.save` and `crossfit.load` to
    store the index.

    Parameters
    ----------
    similarity : str, callable or object, default="cosine"
        As in `RetrievalScorer`: a name in `crossfit.similarities.MEASURES`, or a callable
        ``(A, B) -> scores``.
    gallery_first : bool, default=False
        Whether the gallery is of the earlier view. This affects only similarities that are not
        symmetric, such as ``"kl"``.

    Attributes
    ----------
    blocks_ : list of arrays of shape (m_i, n_components)
        The gallery, in the order in which it was added.

    See Also
    --------
    ApproximateIndex : Faster search that may miss some of the best items.

    Examples
    --------
    >>> import numpy as np
    >>> index = ExactIndex().add(np.eye(3)).add([[1.0, 1.0, 0.0]])
    >>> index.search([[1.0, 0.9, 0.0]], k=2).indices
    array([[3, 0]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "similarity": [StrOptions(set(MEASURES)), callable],
        "gallery_first": ["boolean"],
    }

    def __init__(
        self, similarity: str | Similarity = "cosine", *, gallery_first: bool = False
    ) -> None:
        self.similarity = similarity
        self.gallery_first = gallery_first

    def __len__(self) -> int:
        return sum(len(block) for block in getattr(self, "blocks_", ()))

    # Without this, an index without items would be false.
    def __bool__(self) -> bool:
        return True

    def __sklearn_is_fitted__(self) -> bool:
        return len(self) > 0

    def add(self, values: Any) -> Self:
        """Add items to the gallery; the first one added is number 0.

        Parameters
        ----------
        values : array-like of shape (m, n_components)
            Items in the common space. Arrays of 2,048 rows or more are not copied.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the values are not numeric rows, not finite, or differ in width from earlier ones.
        """
        resolve(self.similarity)
        if getattr(self.similarity, "one_way", False):
            raise ValueError(
                f"an index takes {type(self.similarity).__name__} as one more coordinate: use "
                "similarity='dot', add what its of_gallery returns, and search with of_queries"
            )
        self._validate_params()
        block = self._rows(values, "an index holds")
        blocks = list(getattr(self, "blocks_", ()))
        # Many small additions are merged into few blocks.
        if blocks and len(blocks[-1]) < CHUNK:
            blocks[-1] = np.concatenate([blocks[-1], block])
        else:
            blocks.append(block)
        self.blocks_ = blocks
        return self

    def search(self, values: Any, k: int = 10) -> SearchResult:
        """Find the best items of the gallery for queries in the common space.

        Parameters
        ----------
        values : array-like of shape (n, n_components)
            Queries.
        k : int, default=10
            Number of items to return; all items if the gallery is smaller.

        Returns
        -------
        SearchResult
            Best first; equal scores in the order of the gallery.

        Raises
        ------
        ValueError
            If the index is empty, or the queries are not finite rows of the right width.
        """
        queries = self._queries(values, k)
        similarity = resolve(self.similarity)
        parts = []
        for start in range(0, len(queries), CHUNK):
            some = queries[start : start + CHUNK]
            best: SearchResult | None = None
            first = 0
            for block in self.blocks_:
                for at in range(0, len(block), CHUNK):
                    items = block[at : at + CHUNK]
                    scores = as_numpy(
                        similarity(items, some).T if self.gallery_first else similarity(some, items)
                    )
                    found = top_k(np.asarray(scores, dtype=np.float32), k)
                    found = SearchResult(found.indices + first + at, found.scores)
                    best = found if best is None else _better(best, found, k)
                first += len(block)
            assert best is not None
            parts.append(best)
        return SearchResult(*(np.concatenate(part) for part in zip(*parts)))

    def __crossfit_state__(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the items; see `crossfit.save`."""
        return {}, {f"{i}": block for i, block in enumerate(getattr(self, "blocks_", ()))}

    def __crossfit_restore__(
        self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Add the items of `__crossfit_state__`, with the same checks as in `add`."""
        self._validate_params()
        # Earlier bundles of ExactIndex hold them as "blocks_".
        blocks = state.get("blocks_", [arrays.get(str(i)) for i in range(len(arrays))])
        if set(state) - {"blocks_"} or any(type(block) is not np.ndarray for block in blocks):
            raise ValueError("the items of an index must be arrays numbered from 0")
        for block in blocks:
            self.add(block)

    def _queries(self, values: Any, k: int) -> NDArray[Any]:
        check_k(k)
        if not len(self):
            raise ValueError("the index is empty; call add first")
        return self._rows(values, "an index is searched with")

    def _rows(self, values: Any, what: str) -> NDArray[Any]:
        rows = as_array(values, "the rows of an index", numbers=True)
        if rows.ndim != 2 or rows.dtype.kind not in "fiub" or 0 in rows.shape:
            raise ValueError(
                f"{what} numeric rows of shape (n, n_components), got shape {rows.shape} of type "
                f"{rows.dtype}"
            )
        rows = floats(rows, "rows of an index")
        if not np.isfinite(rows).all():
            bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            raise ValueError(
                f"{what} finite rows, got NaN or infinity in {in_rows(bad, len(rows))}"
            )
        width = self.blocks_[0].shape[1] if len(self) else rows.shape[1]
        if rows.shape[1] != width:
            raise ValueError(f"{what} rows of {width} columns, got {rows.shape[1]}")
        return rows


def _better(one: SearchResult, other: SearchResult, k: int) -> SearchResult:
    """Merge two results, where the items of `other` come later in the gallery."""
    scores = np.hstack([one.scores, other.scores])
    order = top_k(scores, k).indices
    indices = np.hstack([one.indices, other.indices])
    return SearchResult(
        np.take_along_axis(indices, order, axis=1), np.take_along_axis(scores, order, axis=1)
    )


class ApproximateIndex(ExactIndex):
    """A gallery to which items can be added, with fast search that may miss some of the best items.

    Uses a hierarchical navigable small-world graph (Malkov and Yashunin, TPAMI 2020) of faiss,
    which ``pip install crossfit-retrieval[ann]`` installs. Compare it with `ExactIndex` on a
    sample of your queries before you rely on it. A bundle holds the items; loading it builds the
    graph again.

    Parameters
    ----------
    similarity : {"cosine", "dot", "l2"}, default="cosine"
        Similarity of items.
    n_links : int, default=32
        Number of links per item, 2 to 1,024.
    ef_construction : int, default=200
        Number of candidates that are kept while the graph is built. More are slower and miss fewer
        items.
    ef_search : int, default=128
        Number of candidates that are kept during search, likewise.

    See Also
    --------
    ExactIndex : Exact search with any similarity.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "similarity": [StrOptions({"cosine", "dot", "l2"})],
        # Compiled code does not check these. With one link the graph has no levels, and memory
        # grows with the number of links.
        "n_links": [Interval(Integral, 2, 1024, closed="both")],
        "ef_construction": [Interval(Integral, 1, 2**31 - 1, closed="both")],
        "ef_search": [Interval(Integral, 1, 2**31 - 1, closed="both")],
    }

    def __init__(
        self,
        similarity: str = "cosine",
        *,
        n_links: int = 32,
        ef_construction: int = 200,
        ef_search: int = 128,
    ) -> None:
        super().__init__(similarity)
        self.n_links = n_links
        self.ef_construction = ef_construction
        self.ef_search = ef_search

    def add(self, values: Any) -> Self:
        """Add items to the gallery and to the graph.

        Parameters
        ----------
        values : array-like of shape (m, n_components)
            Items in the common space.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the values are not numeric rows, not finite, too large for float32, or differ in
            width from earlier ones.
        ImportError
            If faiss is not installed.
        """
        self._validate_params()
        faiss = _faiss()
        rows = self._rows(values, "an index holds")
        comparable = self._comparable(rows)
        if not hasattr(self, "graph_"):
            metric = faiss.METRIC_L2 if self.similarity == "l2" else faiss.METRIC_INNER_PRODUCT
            self.graph_ = faiss.IndexHNSWFlat(rows.shape[1], self.n_links, metric)
            self.graph_.hnsw.efConstruction = self.ef_construction
        super().add(rows)
        self.graph_.add(comparable)
        return self

    def search(self, values: Any, k: int = 10) -> SearchResult:
        """Find approximately the best items of the gallery for queries in the common space.

        Parameters
        ----------
        values : array-like of shape (n, n_components)
            Queries.
        k : int, default=10
            Number of items to return; all items if the gallery is smaller.

        Returns
        -------
        SearchResult
            Best first. If the graph yields fewer than `k` items for a query, all queries are
            searched exactly.

        Raises
        ------
        ValueError
            If the index is empty, or the queries are not finite rows of the right width.
        ImportError
            If faiss is not installed.
        """
        self._validate_params()
        queries = self._queries(values, k)
        k = min(k, len(self))
        # More candidates than items would only waste memory.
        candidates = max(min(self.ef_search, len(self)), k)
        settings = _faiss().SearchParametersHNSW(efSearch=candidates)
        scores, indices = self.graph_.search(self._comparable(queries), k, params=settings)
        if (indices < 0).any():  # the search of the graph found fewer than k
            return super().search(queries, k)
        if self.similarity == "l2":
            scores = -np.sqrt(np.maximum(scores, 0))
        return SearchResult(indices, scores)

    def _comparable(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        prepared = MEASURES[str(self.similarity)].left(rows.astype(np.float64))
        with np.errstate(over="ignore", under="ignore"):
            rows = np.ascontiguousarray(prepared, dtype=np.float32)
        # faiss squares the values.
        if np.abs(rows).max(initial=0) > 1e15:
            raise ValueError(
                "an approximate index compares rows in float32, and these are too large for it; "
                "scale them, or use ExactIndex"
            )
        return rows

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "graph_"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        blocks = state.get("blocks_", ())
        self.__dict__.update({name: value for name, value in state.items() if name != "blocks_"})
        for block in blocks:
            self.add(block)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "an approximate index needs faiss; pip install 'crossfit-retrieval[ann]', or use "
            "ExactIndex"
        ) from error
    return faiss
