"""Vectors in an eighth or a thirty-second of their size: 8-bit integers and bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import finite_array, one_of, shown, validated
from crossfit.querying import SearchResult

__all__ = ["QuantizedVectors", "quantize"]

# Queries whose scores are in memory at once, times the size of the gallery.
_SCORES = 2**24


@dataclass(frozen=True, eq=False, repr=False)
class QuantizedVectors:
    """Quantised vectors, made by `quantize`.

    Parameters
    ----------
    codes : ndarray of shape (n, d), int8, or (n, ceil(d / 8)), uint8
        8-bit integers; or bits, eight in a byte, which are 1 where a number is positive.
    n_features : int
        Number d of dimensions.
    start, step : ndarray of shape (d,), float32, or None
        Of integers: the middle of the numbers with a code is ``start + step * (code + 128.5)``.

    See Also
    --------
    quantize : Make them.
    """

    codes: NDArray[Any]
    n_features: int
    start: NDArray[np.float32] | None = None
    step: NDArray[np.float32] | None = None

    @property
    def nbytes(self) -> int:
        """Size of the codes in bytes."""
        return int(self.codes.nbytes)

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        kind = "bits" if self.start is None else str(self.codes.dtype)
        return f"QuantizedVectors({len(self)} of {self.n_features} {kind}, {self.nbytes:,} bytes)"

    def decode(self, rows: Any = slice(None)) -> NDArray[np.float32]:
        """Return vectors again: with an error of half a step, or as signs of -1 and 1.

        Parameters
        ----------
        rows : slice or int array, default=all
            Rows to return.

        Returns
        -------
        float32 array of shape (n, d)
        """
        codes = self.codes[rows]
        if self.start is None or self.step is None:
            bits = np.unpackbits(codes, axis=-1, count=self.n_features)
            return bits.astype(np.float32) * 2 - 1
        return self.start + self.step * (codes.astype(np.float32) + np.float32(128.5))

    def search(
        self, queries: ArrayLike, k: int = 10, *, rescore: Any = None, oversample: int = 4
    ) -> SearchResult:
        """Return the best rows for each query, by dot product.

        Integers are compared with the query as it is. Bits are compared with the bits of the
        query; the ``oversample * k`` rows with most equal bits are then ordered by the dot product
        with `rescore`.

        Parameters
        ----------
        queries : array-like of shape (q, d)
            Vectors that are not quantised; of unit length, as the gallery, for cosines.
        k : int, default=10
            Number of rows.
        rescore : QuantizedVectors or array-like of shape (n, d), optional
            The same gallery in a finer form, such as 8-bit integers or a memory map of its
            vectors. By default the signs.
        oversample : int, default=4
            Candidates per result, for bits.

        Returns
        -------
        SearchResult
        """
        Q = np.asarray(finite_array(queries, "queries"), dtype=np.float32)
        if Q.ndim != 2 or Q.shape[1] != self.n_features:
            raise ValueError(
                f"queries must have shape (q, {self.n_features}), got {np.shape(queries)}"
            )
        for name, value in (("k", k), ("oversample", oversample)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {shown(value)}")
        finer = self if rescore is None else rescore
        if len(finer) != len(self):
            raise ValueError(f"rescore must have the {len(self)} rows of the gallery")
        k = min(k, len(self))
        few = k if self.start is not None else min(k * oversample, len(self))
        found, scores = np.empty((len(Q), k), np.intp), np.empty((len(Q), k), np.float32)
        bits = None if self.start is not None else np.packbits(Q > 0, axis=1)
        step = max(1, _SCORES // (max(len(self), 1) * (1 if bits is None else self.codes.shape[1])))
        decoded = self.decode() if bits is None else None
        for start in range(0, len(Q), step):
            part = slice(start, start + step)
            if bits is None:
                assert decoded is not None
                S = Q[part] @ decoded.T
            else:
                apart = np.bitwise_count(bits[part][:, None] ^ self.codes[None])
                S = -apart.sum(axis=2, dtype=np.int32)
            near = np.argsort(-S, axis=1, kind="stable")[:, :few]
            best = np.take_along_axis(S, near, axis=1).astype(np.float32)
            if bits is not None:
                rows = finer.decode(near.ravel()) if isinstance(finer, QuantizedVectors) else (
                    np.asarray(finer[near.ravel()], dtype=np.float32)
                )  # fmt: skip
                best = np.einsum("qd,qkd->qk", Q[part], rows.reshape(*near.shape, -1))
                order = np.argsort(-best, axis=1, kind="stable")[:, :k]
                near, best = (np.take_along_axis(each, order, axis=1) for each in (near, best))
            found[part], scores[part] = near, best
        return SearchResult(found, scores)


@validated(kind=[one_of("int8", "binary")])
def quantize(
    vectors: ArrayLike, kind: str = "int8", *, calibration: ArrayLike | None = None
) -> QuantizedVectors:
    """Quantise vectors: 8-bit integers with a scale per dimension, or one bit per dimension.

    float32 vectors take a quarter of their size as integers and a thirty-second as bits.

    Parameters
    ----------
    vectors : array-like of shape (n, d)
        Encoded items.
    kind : {"int8", "binary"}, default="int8"
        ``"int8"`` divides the range of a dimension into 255 steps, as sentence-transformers does;
        ``"binary"`` keeps signs.
    calibration : array-like of shape (m, d), optional
        Vectors whose ranges are used, such as those of the training items; by default `vectors`.
        Numbers outside take the end of the range.

    Returns
    -------
    QuantizedVectors

    Raises
    ------
    ValueError
        If the arrays are not finite or do not match.

    Examples
    --------
    >>> Z = np.random.default_rng(0).normal(size=(100, 16))
    >>> small = quantize(Z)
    >>> small.codes.dtype, small.nbytes, quantize(Z, "binary").nbytes
    (dtype('int8'), 1600, 200)
    >>> bool(np.abs(small.decode() - Z).max() <= small.step.max())
    True
    """
    V = np.asarray(finite_array(vectors, "vectors"), dtype=np.float32)
    if V.ndim != 2 or not V.size:
        raise ValueError(f"vectors must have shape (n, d), got {np.shape(vectors)}")
    if kind == "binary":
        return QuantizedVectors(np.packbits(V > 0, axis=1), V.shape[1])
    C = V if calibration is None else np.asarray(
        finite_array(calibration, "calibration"), dtype=np.float32
    )  # fmt: skip
    if C.ndim != 2 or not len(C) or C.shape[1] != V.shape[1]:
        raise ValueError(f"calibration must have shape (m, {V.shape[1]}), got {C.shape}")
    low, high = C.min(axis=0), C.max(axis=0)
    step = ((high - low) / 255).astype(np.float32)  # 0 for a constant, which is kept exactly
    steps = np.floor((V - low) / np.where(step > 0, step, 1))
    codes = (np.clip(steps, 0, 255) - 128).astype(np.int8)
    return QuantizedVectors(codes, V.shape[1], low, step)
