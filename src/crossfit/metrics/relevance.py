"""Relevance of gallery items to queries, from a matrix or from labels, read query by query."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit._arrays import as_numpy, checked_csr
from crossfit.labels import class_codes, joined_labels, read_labels

Row = tuple[NDArray[np.intp], NDArray[np.float64] | None]


class Relevance(Protocol):
    """The interface of relevance: a shape, and the relevant columns of each query."""

    shape: tuple[int, int]

    @property
    def graded(self) -> bool:
        """True if a grade may differ from 1."""
        ...

    def transpose(self) -> Relevance:
        """Swap queries and gallery."""
        ...

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """Yield the relevant columns of each query, and their grades or None if all are 1."""
        ...


class MatrixRelevance:
    """Relevance by the entries of a sparse matrix."""

    def __init__(self, matrix: sp.csr_array) -> None:
        self.matrix = matrix
        self.shape = matrix.shape

    @property
    def graded(self) -> bool:
        """True if a grade may differ from 1."""
        return bool((self.matrix.data != 1).any())

    def transpose(self) -> MatrixRelevance:
        """Swap queries and gallery."""
        return MatrixRelevance(self.matrix.T.tocsr())

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """Yield relevant columns and grades of the requested queries."""
        yield from _matrix_rows(self.matrix[start:stop])


class ClassRelevance:
    """Relevance by one class per item; items with code -1 are not relevant to any other.

    The columns of each class are stored, so that a query does not need a pass over the gallery.
    """

    graded = False

    def __init__(self, query: NDArray[np.intp], gallery: NDArray[np.intp]) -> None:
        self.query, self.gallery = query, gallery
        self.shape = (len(query), len(gallery))
        order = np.argsort(gallery, kind="stable")
        n_classes = max(query.max(), gallery.max()) + 1
        bounds = np.searchsorted(gallery[order], np.arange(n_classes + 1))
        self._members = [order[a:b] for a, b in pairwise(bounds)]

    def transpose(self) -> ClassRelevance:
        """Swap queries and gallery."""
        return ClassRelevance(self.gallery, self.query)

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """Yield relevant columns and grades of the requested queries."""
        nothing = np.empty(0, np.intp)
        for code in self.query[start:stop]:
            yield (self._members[code] if code >= 0 else nothing), None


class SharedLabelRelevance:
    """Relevance by shared labels of multi-label items; the grade is the number of shared labels."""

    def __init__(self, query: sp.csr_array, gallery: sp.csr_array) -> None:
        self.query, self.gallery = query, gallery
        self.shape = (query.shape[0], gallery.shape[0])

    @property
    def graded(self) -> bool:
        """True if a grade may differ from 1."""
        return bool(min(self.query.sum(axis=1).max(), self.gallery.sum(axis=1).max()) > 1)

    def transpose(self) -> SharedLabelRelevance:
        """Swap queries and gallery."""
        return SharedLabelRelevance(self.gallery, self.query)

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """Yield relevant columns and grades of the requested queries."""
        yield from _matrix_rows((self.query[start:stop] @ self.gallery.T).tocsr())


def _matrix_rows(matrix: sp.csr_array) -> Iterator[Row]:
    for a, b in pairwise(matrix.indptr):
        yield matrix.indices[a:b].astype(np.intp), matrix.data[a:b].astype(np.float64)


def as_relevance(relevance: Any) -> Relevance:
    """Convert any accepted form of relevance.

    Parameters
    ----------
    relevance : array-like or sparse of shape (n, m), or a pair (y_query, y_gallery)
        In a matrix, non-zero entries are relevant and are the grades. A pair consists of labels,
        either 1-D (the number -1 marks an unlabelled item) or indicators of shape (n, c) and
        (m, c).

    Returns
    -------
    Relevance

    Raises
    ------
    ValueError, TypeError
        If the input is empty or not numeric, grades are negative or NaN, labels are missing or
        masked, or the labels of queries and gallery have different forms.
    """
    if isinstance(relevance, tuple):
        if len(relevance) != 2:
            raise ValueError(
                "relevance must be a matrix or a pair (y_query, y_gallery) of labels, got a tuple "
                f"of length {len(relevance)}"
            )
        return _from_labels(*relevance)
    if sp.issparse(relevance) and relevance.ndim == 2:
        matrix = checked_csr(relevance, "relevance")
    else:
        matrix = as_numpy(relevance, "relevance")
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"relevance must be a non-empty (n, m) matrix or a pair of labels, got shape "
            f"{matrix.shape}"
        )
    if matrix.dtype.kind not in "biuf":
        raise TypeError(f"relevance must be numbers, got dtype {matrix.dtype}")
    if matrix.dtype.kind == "f" and matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float64)  # SciPy does not support others
    matrix = sp.csr_array(matrix)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    if not np.all(matrix.data >= 0):
        raise ValueError("relevance must be grades >= 0, got negative or NaN entries")
    if not np.all(matrix.data):
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    return MatrixRelevance(matrix)


def _from_labels(y_query: Any, y_gallery: Any) -> Relevance:
    query, gallery = labels = [
        checked_csr(y, "labels") if sp.issparse(y) else read_labels(y) for y in (y_query, y_gallery)
    ]
    shapes = f"{query.shape} and {gallery.shape}"
    if 0 in query.shape + gallery.shape:
        raise ValueError(f"labels must not be empty, got shapes {shapes}")
    if query.ndim == gallery.ndim == 2:
        if query.shape[1] != gallery.shape[1]:
            raise ValueError(
                f"label indicators must have the same number of columns, got shapes {shapes}"
            )
        matrices = []
        for y in labels:
            if y.dtype.kind not in "biuf":
                raise TypeError(f"2-D labels must be numeric indicators, got type {y.dtype}")
            matrix = sp.csr_array(y)
            if not np.isin(matrix.data, (0, 1)).all():
                raise ValueError("2-D labels must be indicators with only 0 and 1")
            matrices.append(matrix.astype(np.int64))
        return SharedLabelRelevance(*matrices)
    if not query.ndim == gallery.ndim == 1:
        raise ValueError(
            f"labels must both be 1-D or both be (n, c) indicators, got shapes {shapes}"
        )
    _, codes = class_codes(joined_labels(query, gallery))
    return ClassRelevance(codes[: len(query)], codes[len(query) :])
