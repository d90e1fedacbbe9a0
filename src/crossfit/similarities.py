"""Similarities between rows of two arrays in a common space.

Higher always means more similar, so distances are negated. Products are computed in float64, so
that equal rows get equal scores at any position; scores are float32.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from crossfit import _tensor_measures
from crossfit._arguments import CheckedParameters, is_word, not_views, shown
from crossfit._arrays import NUMPY_DEFAULTS, as_array, in_rows
from crossfit._files import reserve, whole_file
from crossfit.labels import labelled, read_labels
from crossfit.views import Views, as_numpy, is_tensor, is_views, n_rows, take_rows

__all__ = [
    "MEASURES",
    "KNNPosterior",
    "MethodSimilarity",
    "PosteriorOverPrior",
    "Similarity",
    "check_chunk",
    "check_out",
    "fill_blocks",
    "in_order",
    "pairwise_similarity",
    "resolve",
    "write_scores",
]

Array = NDArray[Any]
Scores = NDArray[np.float32]
Similarity = Callable[[Any, Any], Array]
Out = str | PathLike[str] | Scores | None

# Rows and columns of one block: 2048 x 2048 float64 scores are 32 MiB.
CHUNK = 2048
# Largest entry for which products and distances of rows with a million columns fit into float32.
_LARGE = 1e15
_EPS = 1e-12


class Measure(NamedTuple):
    """A named similarity: `left` and `right` prepare rows once, `block` compares prepared rows."""

    left: Callable[[Array], Array]
    right: Callable[[Array], Array]
    block: Callable[[Array, Array], Array]


def _dot(p: Array, q: Array) -> Array:
    return p @ q.T


def _same(z: Array) -> Array:
    return z


def _unit(z: Array) -> Array:
    z = _squarable(z)
    norms = np.linalg.norm(z, axis=1, keepdims=True)
    return np.divide(z, norms, out=np.zeros_like(z), where=norms > 0)


def _squarable(z: Array) -> Array:
    """Scale rows whose squares would overflow or vanish; their direction does not change."""
    largest = np.abs(z).max(axis=1, keepdims=True, initial=0)
    extreme = (largest > 1e140) | ((largest < 1e-140) & (largest > 0))
    return np.where(extreme, z / np.where(extreme, largest, 1), z) if extreme.any() else z


def _centred_unit(z: Array) -> Array:
    z = _squarable(z)
    # A constant row is not correlated with any other; only rounding errors are left of it.
    centred = z - z.mean(axis=1, keepdims=True)
    tiny = np.linalg.norm(centred, axis=1) <= 1e-12 * np.linalg.norm(z, axis=1)
    centred[tiny] = 0
    return _unit(centred)


def _minus_l2(p: Array, q: Array) -> Array:
    return -cdist(p, q)


def _minus_l1(p: Array, q: Array) -> Array:
    return -cdist(p, q, "cityblock")


def _distribution(z: Array) -> Array:
    if np.any(z < 0):
        raise ValueError(
            f"KL compares probabilities and needs entries of at least 0, got {z.min():.3g}"
        )
    total = z.sum(axis=1, keepdims=True)
    if np.any(total == 0):
        raise ValueError("KL compares probabilities and needs positive rows, got rows of zeros")
    return z / total


def _entropy_and_p(z: Array) -> Array:
    # -KL(p||q) = H(p) + sum p log q, so H(p) is a first column that is multiplied by ones.
    p = _distribution(z)
    entropy = -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=1, keepdims=True)
    return np.hstack([entropy, p])


def _one_and_log_q(z: Array) -> Array:
    q = _distribution(z)
    return np.hstack([np.ones((len(q), 1)), np.log(q + _EPS)])


MEASURES: dict[str, Measure] = {
    "cosine": Measure(_unit, _unit, _dot),
    "dot": Measure(_same, _same, _dot),
    "correlation": Measure(_centred_unit, _centred_unit, _dot),
    "l2": Measure(_same, _same, _minus_l2),
    "l1": Measure(_same, _same, _minus_l1),
    "kl": Measure(_entropy_and_p, _one_and_log_q, _dot),
    "kl_reversed": Measure(_one_and_log_q, _entropy_and_p, _dot),
}
"""Named similarities of rows a and b.

``cosine``; ``dot``; ``correlation`` (cosine after the mean of each row is subtracted); ``l2`` and
``l1`` (the negated distances); ``kl``: -KL(a || b); ``kl_reversed``: -KL(b || a). For KL the rows
are normalised to sum to one, and 1e-12 is added to the second argument only.
"""


@np.errstate(**NUMPY_DEFAULTS)
def pairwise_similarity(
    A: ArrayLike, B: ArrayLike, measure: str = "cosine", *, chunk_size: int | None = None
) -> Scores:
    """Return the similarity of every row of A to every row of B.

    Parameters
    ----------
    A : array-like of shape (n, d)
        Rows of the first modality, in the common space.
    B : array-like of shape (m, d)
        Rows of the second modality, in the common space.
    measure : str, default="cosine"
        A name in `MEASURES`.
    chunk_size : int, optional
        Number of rows and columns of a block. It limits the working memory and never changes the
        scores. By default 2,048.

    Returns
    -------
    float32 array of shape (n, m)
        Higher is more similar. For two tensors, a tensor on their device.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, the rows are not finite or the scores would not be, or the
        measure or the chunk size is invalid.

    Examples
    --------
    >>> pairwise_similarity([[1, 0], [0, 1]], [[2, 0], [0, 3]]).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    check_chunk(chunk_size)
    return fill_blocks(*_compared(A, B, measure), chunk_size)


def _compared(A: ArrayLike, B: ArrayLike, measure: str) -> tuple[Similarity, Array, Array]:
    """Return the block function of a named measure, and both arrays prepared for it."""
    left, right, block = _named(measure)
    if _tensor_measures.on_a_device(A, B):
        return partial(_tensor_measures.block, measure), *_tensor_measures.compared(A, B, measure)
    a, b = finite_rows(A, "first"), finite_rows(B, "second")
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            "a similarity compares rows of a common space, so both arrays must have the same "
            f"number of columns, got {a.shape[1]} and {b.shape[1]}"
        )
    largest = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    if largest > _LARGE:
        block = partial(_within_float32, block, measure)
    return block, left(a), right(b)


def of_one_block(similarity: Similarity) -> Similarity:
    """Return a function for one block, without the loop over blocks of a named similarity."""
    if isinstance(similarity, partial) and similarity.func is pairwise_similarity:
        return partial(_block, **similarity.keywords)
    return similarity


@np.errstate(**NUMPY_DEFAULTS)
def _block(A: ArrayLike, B: ArrayLike, measure: str) -> Array:
    block, a, b = _compared(A, B, measure)
    return block(a, b)


def _within_float32(block: Similarity, measure: str, p: Array, q: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        found = block(p, q)
        if not np.isfinite(found.astype(np.float32)).all():
            raise ValueError(
                f"the {measure} similarity of rows with such large entries exceeds the range of "
                f"scores, {np.finfo(np.float32).max:.2g}; scale the rows"
            )
    return found


@np.errstate(**NUMPY_DEFAULTS)
def fill_blocks(
    block: Similarity,
    P: Any,
    Q: Any,
    chunk_size: int | None = None,
    out: Scores | None = None,
) -> Scores:
    """Fill an (n, m) float32 matrix by comparing rows of P and Q block by block.

    Parameters
    ----------
    block : callable
        ``(P_rows, Q_rows) -> scores`` of shape (rows, rows).
    P, Q : array, `Ragged` or `Channels`
        Items in n and m rows.
    chunk_size : int, optional
        Number of rows and columns of a block; 2,048 by default.
    out : float32 array of shape (n, m), optional
        The matrix to fill and return; by default a new one.

    Returns
    -------
    float32 array of shape (n, m)
        The scores, in `out` if one is given. A tensor if P, Q and what `block` returns are tensors
        and there is no `out`.

    Raises
    ------
    ValueError
        If `block` returns scores of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> fill_blocks(lambda p, q: p @ q.T, np.eye(2), np.ones((3, 2)), chunk_size=2).shape
    (2, 3)
    """
    n, m = n_rows(P), n_rows(Q)
    block = of_one_block(block)
    scores: Any = out
    keeps = out is None and _tensor_measures.on_a_device(P, Q)
    for rows in _slices(n, chunk_size):
        p = take_rows(P, rows)
        for columns in _slices(m, chunk_size):
            q = take_rows(Q, columns)
            found: Any = block(p, q)
            if not (keeps and is_tensor(found)):
                found = as_numpy(found)
            elif scores is None:
                scores = found.new_empty((n, m), dtype=sys.modules["torch"].float32)
            if scores is None:
                scores = np.empty((n, m), dtype=np.float32)
            if found.shape != (n_rows(p), n_rows(q)):  # NumPy would broadcast it
                raise ValueError(
                    f"a similarity of {n_rows(p)} and {n_rows(q)} rows must have shape "
                    f"({n_rows(p)}, {n_rows(q)}), got {tuple(found.shape)}"
                )
            scores[rows, columns] = found
    return np.empty((n, m), dtype=np.float32) if scores is None else scores


def in_order(
    block: Similarity, queries: Any, gallery: Any, turned: bool, chunk_size: int | None
) -> Scores:
    """Return scores of queries and gallery by a function of rows of the earlier view first.

    Parameters
    ----------
    block : callable
        As in `fill_blocks`.
    queries, gallery : array
        Items in n and m rows.
    turned : bool
        True if the gallery is the earlier view.
    chunk_size : int, optional
        As in `fill_blocks`.

    Returns
    -------
    float32 array of shape (n, m)

    Examples
    --------
    >>> import numpy as np
    >>> in_order(lambda p, q: p @ q.T, np.eye(2), np.ones((3, 2)), True, None).shape
    (2, 3)
    """
    if turned:
        return fill_blocks(block, gallery, queries, chunk_size).T
    return fill_blocks(block, queries, gallery, chunk_size)


def check_chunk(chunk_size: Any) -> int:
    """Check a chunk size, and return the number of rows and columns of a block.

    Parameters
    ----------
    chunk_size : int, optional
        The size as the user gave it; 2,048 by default.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If it is not an integer of at least 1.

    Examples
    --------
    >>> check_chunk(None)
    2048
    """
    if chunk_size is None:
        return CHUNK
    if not isinstance(chunk_size, Integral) or isinstance(chunk_size, bool) or chunk_size < 1:
        raise ValueError(f"chunk_size must be an integer of at least 1, got {shown(chunk_size)}")
    return int(chunk_size)


def _slices(n: int, chunk_size: int | None) -> Iterator[slice]:
    step = check_chunk(chunk_size)
    for start in range(0, n, step):
        yield slice(start, start + step)


def check_out(out: Any, shape: tuple[int, int]) -> None:
    """Check that scores of a shape can be written to `out`; see `write_scores`.

    Parameters
    ----------
    out : array, path or None
        Destination of the scores.
    shape : tuple of int
        Shape of the scores.

    Raises
    ------
    ValueError
        If `out` is an array of another shape or type, a path in a folder that does not exist, or
        an existing file that is not an array.
    TypeError
        If `out` is neither an array nor a path.

    Examples
    --------
    >>> import numpy as np
    >>> check_out(np.empty((2, 3), np.float32), (2, 3))
    """
    if not isinstance(shape, tuple) or not all(isinstance(size, Integral) for size in shape):
        raise TypeError(f"shape must be a pair of integers, got {shown(shape)}")
    if isinstance(out, np.ndarray):
        if out.shape != shape or out.dtype != np.float32 or not out.flags.writeable:
            raise ValueError(
                f"out must be a writeable float32 array of shape {shape}, got {out.dtype} of "
                f"shape {out.shape}" + ("" if out.flags.writeable else ", read-only")
            )
    elif out is not None:
        if not isinstance(out, str | PathLike) or not isinstance(os.fspath(out), str):
            raise TypeError(f"out must be a path or a float32 array, got {shown(out)}")
        if "\0" in os.fspath(out):
            raise ValueError(f"out must be a path, got {shown(out)}")
        folder = Path(out).absolute().parent
        if not folder.is_dir():
            raise ValueError(f"out names a file in {str(folder)!r}, which is not a folder")
        if Path(out).exists() and not _holds_an_array(Path(out)):
            raise ValueError(
                f"out names {str(out)!r}, which exists and is not a NumPy array; name another file"
            )


def _holds_an_array(path: Path) -> bool:
    magic = np.lib.format.MAGIC_PREFIX
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(magic)) == magic


def write_scores(
    fill: Callable[[Scores], object], shape: tuple[int, int], out: Out = None
) -> Scores:
    """Write scores to an array or a file, and return them.

    Parameters
    ----------
    fill : callable
        Function that writes all scores into the matrix that is its argument.
    shape : tuple of int
        Numbers of queries and gallery items.
    out : path or float32 array of that shape, optional
        An array, or a file in NumPy's format, which is written as a memory map. The file gets
        its name when it is complete. By default a new array.

    Returns
    -------
    float32 array of that shape
        The array, or the file as a read-only memory map.

    Raises
    ------
    TypeError, ValueError
        As in `check_out`.
    OSError
        If there is not enough space for the file; this is checked before `fill` is called.

    Examples
    --------
    >>> write_scores(lambda scores: scores.fill(0.5), (1, 2)).tolist()
    [[0.5, 0.5]]
    """
    check_out(out, shape)
    if out is None or isinstance(out, np.ndarray):
        scores = np.empty(shape, np.float32) if out is None else out
        fill(scores)
        return scores
    path = Path(out)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    size = 4 * shape[0] * shape[1]
    with whole_file(path, f"scores of shape {shape}", size) as draft:
        with open(draft, "wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            start = stream.tell()
            reserve(stream, start + size)
        mapped = np.memmap(draft, "<f4", "r+", start, shape)
        fill(mapped)
        mapped.flush()
        del mapped
    return np.load(path, mmap_mode="r", allow_pickle=False)


def resolve(similarity: str | Similarity) -> Similarity:
    """Return a callable ``(A, B) -> scores`` for a name, a callable or a fitted object.

    Parameters
    ----------
    similarity : str or callable
        A name in `MEASURES`, or a callable that compares two arrays.

    Raises
    ------
    ValueError
        If there is no similarity of that name.
    TypeError
        If it is neither a name nor callable.

    Examples
    --------
    >>> resolve("dot")([[1, 2]], [[3, 4]]).tolist()
    [[11.0]]
    """
    if callable(similarity):
        return similarity
    if not isinstance(similarity, str):
        raise TypeError(
            "a similarity must be a name, a callable (A, B) -> scores or an object with fit and "
            f"__call__, got {type(similarity).__name__}"
        )
    _named(similarity)
    return partial(pairwise_similarity, measure=similarity)


def _named(name: str) -> Measure:
    if not is_word(name, MEASURES):
        raise ValueError(f"unknown similarity {shown(name)}; use one of {', '.join(MEASURES)}")
    return MEASURES[name]


def finite_rows(values: Any, which: str) -> Array:
    """Return rows of numbers as float64, or raise if they are not finite or not a matrix."""
    array = as_array(values, f"the {which} array", numbers=True)
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise ValueError(
            f"a similarity expects numeric arrays of shape (n, d), got shape {array.shape} of "
            f"type {array.dtype} as the {which} array"
        )
    array = array.astype(np.float64, copy=False)
    if not np.isfinite(array).all():
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
        raise ValueError(
            f"a similarity expects finite rows, got NaN or infinity in the {which} array, in "
            f"{in_rows(bad, len(array))}"
        )
    return array


class MethodSimilarity(BaseEstimator):
    """Similarity of rows in the common space of a method, as computed by that method.

    Parameters
    ----------
    method : CrossModalEstimator
        A fitted method.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> from crossfit.methods import CCA
    >>> Z = np.random.default_rng(0).normal(size=(20, 3))
    >>> cca = CCA(3).fit(Views(image=Z, text=Z[:, ::-1]))
    >>> similarity = MethodSimilarity(cca)
    >>> similarity(cca.encode(Z, "image"), cca.encode(Z[:, ::-1], "text")).argmax(axis=1)[:4]
    array([0, 1, 2, 3])
    """

    def __init__(self, method: Any) -> None:
        self.method = method

    def __call__(self, A: ArrayLike, B: ArrayLike) -> Array:
        """Return the (n, m) similarities of rows of an earlier view to rows of a later view."""
        found: Array = self.method._similarity(A, B)
        return found


def _class_labels(y: ArrayLike | None, owner: str) -> Array:
    if y is None:
        raise ValueError(f"{owner} needs training labels, got none")
    labels = read_labels(y)
    if labels.ndim != 1:
        raise ValueError(f"{owner} needs one class label per row, got shape {labels.shape}")
    if not labelled(labels).any():
        raise ValueError(f"{owner} needs training labels, got only -1 (unlabelled)")
    return labels


def _measurable(rows: Array) -> Array:
    """Return rows, checked that distances between them are finite."""
    largest = np.abs(rows).max(initial=0)
    if largest > 1e140:
        raise ValueError(
            f"distances between rows with entries as large as {largest:.3g} are infinite; scale "
            "the rows"
        )
    return rows


class PosteriorOverPrior(BaseEstimator):
    """Similarity of two class posteriors: sum over classes of p(c|a) p(c|b) / p(c).

    If items are independent given their class, this is the probability that both belong to the
    same class, relative to chance. The priors are the frequencies of the classes among the
    training labels. The columns of the posteriors must be in the sorted order of the classes.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The classes, sorted.
    prior_ : array of shape (n_classes,)
        Their frequencies, which sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> views = Views(image=np.zeros((4, 1)), text=np.zeros((4, 1)))
    >>> similarity = PosteriorOverPrior().fit(views, [0, 0, 0, 1])
    >>> similarity([[1, 0], [0, 1]], [[0, 1]]).tolist()
    [[0.0], [4.0]]
    """

    def fit(self, views: Views, y: ArrayLike | None = None) -> Self:
        """Compute the priors from training labels of shape (n,).

        Parameters
        ----------
        views : Views
            Training items, which are not used.
        y : array-like of shape (n,)
            Their labels; -1 marks an unlabelled item.

        Returns
        -------
        Self
            The fitted object.
        """
        labels = _class_labels(y, type(self).__name__)
        self.classes_, counts = np.unique(labels[labelled(labels)], return_counts=True)
        self.prior_ = counts / counts.sum()
        return self

    @np.errstate(**NUMPY_DEFAULTS)
    def __call__(self, A: ArrayLike, B: ArrayLike) -> Scores:
        """Return the (n, m) similarities of posteriors of shape (n, c) and (m, c)."""
        check_is_fitted(self)
        a, b = finite_rows(A, "first"), finite_rows(B, "second")
        for part in (a, b):
            if part.shape[1] != len(self.prior_):
                raise ValueError(
                    f"PosteriorOverPrior was fitted on {len(self.prior_)} classes, got "
                    f"posteriors of {part.shape[1]} columns"
                )
        return fill_blocks(_dot, a / self.prior_, b)


class KNNPosterior(CheckedParameters, BaseEstimator):
    """Similarity p_a' p_b of class posteriors that are estimated from nearest training items.

    The posterior of an item is the vote of its ``n_neighbors`` nearest training items of all
    views in the common space, weighted by sigmoid(-distance), as in JRL (Zhai, Peng and Xiao,
    TCSVT 2014).

    Parameters
    ----------
    n_neighbors : int, default=100
        Number of training items that vote; all of them if there are fewer.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The classes, sorted.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> views = Views(image=np.eye(2), text=np.eye(2))
    >>> similarity = KNNPosterior(n_neighbors=2).fit(views, [0, 1])
    >>> similarity.posterior([[1, 0]]).tolist()
    [[1.0, 0.0]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")]
    }

    def __init__(self, n_neighbors: int = 100) -> None:
        self.n_neighbors = n_neighbors

    def fit(self, views: Views, y: ArrayLike | None = None) -> Self:
        """Store the labelled training items of every view, in the common space.

        Parameters
        ----------
        views : Views
            Training items in the common space.
        y : array-like of shape (n,)
            Their labels; -1 marks an unlabelled item.

        Returns
        -------
        Self
            The fitted object.
        """
        self._validate_params()
        if not is_views(views):
            raise not_views("KNNPosterior", views)
        row_labels = _class_labels(y, type(self).__name__)
        labels = np.concatenate([views.item_labels(name, row_labels) for name in views.names])
        spaces = [_measurable(finite_rows(views.distinct(name)[0], name)) for name in views.names]
        if len({space.shape[1] for space in spaces}) > 1:
            widths = ", ".join(f"{n}: {s.shape[1]}" for n, s in zip(views.names, spaces))
            raise ValueError(
                "KNNPosterior needs views of a common space, all with the same number of columns, "
                f"got {widths}"
            )
        items = np.vstack(spaces)
        known = labelled(labels)
        self.classes_, codes = np.unique(labels[known], return_inverse=True)
        self._votes = np.eye(len(self.classes_))[codes]
        n_neighbors = min(self.n_neighbors, len(codes))
        self._neighbors = NearestNeighbors(n_neighbors=n_neighbors).fit(items[known])
        return self

    @np.errstate(**NUMPY_DEFAULTS)
    def posterior(self, Z: ArrayLike) -> NDArray[np.float64]:
        """Return class posteriors of shape (n, n_classes) for rows of shape (n, d).

        Parameters
        ----------
        Z : array-like of shape (n, d)
            Items in the common space.
        """
        check_is_fitted(self)
        # Both are restored from bundles, and neighbours are indices into the votes.
        if self._votes.shape != (self._neighbors.n_samples_fit_, len(self.classes_)):
            raise ValueError("the votes of this KNNPosterior do not match its training items")
        distances, nearest = self._neighbors.kneighbors(_measurable(finite_rows(Z, "given")))
        # sigmoid(-d) up to a factor per row, so that it does not underflow; the factor cancels in
        # the normalisation.
        nearest_first = distances - distances.min(axis=1, keepdims=True)
        weights = np.exp(-nearest_first) / (1 + np.exp(-distances))
        votes = np.einsum("ij,ijc->ic", weights, self._votes[nearest])
        return votes / votes.sum(axis=1, keepdims=True)

    def __call__(self, A: ArrayLike, B: ArrayLike) -> Scores:
        """Return the (n, m) similarities of rows in the common space."""
        return fill_blocks(_dot, self.posterior(A), self.posterior(B))
