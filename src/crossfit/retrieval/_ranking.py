"""The best items of a snapshot, by all vectors or by candidates of its structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.retrieval._knn import best_rows, merged
from crossfit.retrieval._segments import Segment, Snapshot

__all__ = ["Ranking"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Ranking:
    """Comparison of items with queries: by which metric, and with how many vectors per item.

    Parameters
    ----------
    metric : str
        Metric of the index.
    views : tuple of str
        Names of the vectors of an item; empty if it has one.
    combine : {"max", "sum"}
        How the scores of several vectors become that of the item.
    """

    metric: str
    views: tuple[str, ...]
    combine: str

    @property
    def n_views(self) -> int:
        """Return the number of vectors of an item."""
        return max(len(self.views), 1)

    @property
    def unit(self) -> int:
        """Return the number of vectors of an item that are compared on their own."""
        return self.n_views if self.combine == "max" else 1

    def best(
        self,
        snapshot: Snapshot,
        queries: Array,
        k: int,
        masks: list[NDArray[np.bool_] | None],
        view: str | None,
        settings: Mapping[str, int] | None,
    ) -> tuple[Array, Array]:
        """Return the best rows of each query and their scores; exactly without settings."""
        counts = [
            part.n_rows if mask is None else int(np.count_nonzero(mask))
            for part, mask in zip(snapshot.segments, masks)
        ]
        k = min(k, sum(counts))
        found_rows = [np.empty((len(queries), 0), np.int64)]
        found_scores = [np.empty((len(queries), 0), np.float32)]
        first = 0
        if settings is not None and k:
            first = snapshot.manifest["structure"]["segments"]
            covered = min(k, sum(counts[:first]))
            scores, rows = self._candidates(
                snapshot, queries, covered, masks[:first], view, settings
            )
            if (short := (rows < 0).any(axis=1)).any():
                some, of = self.best(snapshot, queries[short], k, masks, view, None)
                if short.all():
                    return some, of
                many, better = self.best(snapshot, queries[~short], k, masks, view, settings)
                rows = np.empty((len(queries), k), np.int64)
                scores = np.empty((len(queries), k), np.float32)
                rows[short], rows[~short] = some, many
                scores[short], scores[~short] = of, better
                return rows, scores
            found_rows.append(rows)
            found_scores.append(scores)
        rest = zip(snapshot.starts, snapshot.segments, masks, counts)
        for start, part, mask, count in list(rest)[first:]:
            if count and k:
                scores, rows = self._of_segment(part, queries, min(k, count), mask, view)
                found_rows.append(rows + start)
                found_scores.append(scores)
        scores, rows = merged(np.hstack(found_scores), np.hstack(found_rows), k)
        return rows, scores

    def _candidates(
        self,
        snapshot: Snapshot,
        queries: Array,
        k: int,
        masks: list[NDArray[np.bool_] | None],
        view: str | None,
        settings: Mapping[str, int],
    ) -> tuple[Array, Array]:
        """Return scores and rows of candidates of the structure, compared exactly."""
        unit = self.unit
        parts = snapshot.segments[: len(masks)]
        mask = None
        if view is not None or any(each is not None for each in masks):
            alive = np.concatenate(
                [
                    np.ones(part.n_rows, bool) if each is None else each
                    for part, each in zip(parts, masks)
                ]
            )
            mask = np.repeat(alive, unit)
            if view is not None and unit > 1:
                mask &= np.arange(len(mask)) % unit == self.views.index(view)
        n_vectors = int(snapshot.starts[len(masks)]) * unit
        most = min(k * settings["refine"] * unit, n_vectors)
        joined = np.tile(queries, self.n_views) if unit < self.n_views else queries
        numbers = snapshot.structure.search(joined, most, settings, mask)
        scores = np.full(numbers.shape, -np.inf, np.float32)
        step = max(1, 2**24 // (most * joined.shape[1]))
        for at in range(0, len(joined), step):
            some = slice(at, at + step)
            known = numbers[some] >= 0
            own = numbers[some][known]
            vectors = snapshot.vectors(own // unit)
            if unit > 1:
                vectors = vectors[np.arange(len(own)), own % unit]
            vectors = vectors.reshape(len(own), -1)
            query = np.repeat(joined[some], known.sum(axis=1), axis=0)
            if self.metric == "euclidean":
                values = -np.linalg.norm(vectors.astype(np.float64) - query, axis=1)
            else:
                values = np.einsum("ij,ij->i", vectors, query)
            scores[some][known] = values
        rows = np.where(numbers < 0, -1, numbers // unit)
        return merged(scores, rows, k) if unit == 1 else _one_each(scores, rows, k)

    def _of_segment(
        self,
        part: Segment,
        queries: Array,
        k: int,
        mask: NDArray[np.bool_] | None,
        view: str | None,
    ) -> tuple[Array, Array]:
        """Return scores and rows of the best items of one segment."""
        distance, n_views, rows = self.metric == "euclidean", self.n_views, part.vectors
        if n_views == 1 or (self.combine == "sum" and view is None):
            joined = np.tile(queries, n_views) if n_views > 1 else queries
            flat = rows.reshape(len(rows), -1)
            scores, found = best_rows(joined, flat, k, distance, mask)
            return self._exactly(joined, flat, scores, found)
        # The best items by their best vectors are among the owners of the best vectors.
        flat = rows.reshape(-1, rows.shape[-1])
        alive = np.ones(len(rows), bool) if mask is None else mask
        if view is None:
            wide, most = np.repeat(alive, n_views), k * n_views
        else:
            wide, most = np.zeros(len(flat), bool), k
            wide[self.views.index(view) :: n_views] = alive
        scores, found = best_rows(queries, flat, most, distance, wide)
        scores, found = self._exactly(queries, flat, scores, found)
        found //= n_views
        if view is not None:
            return scores, found
        return _one_each(scores, found, k)

    def _exactly(
        self, queries: Array, rows: Array, scores: Array, found: Array
    ) -> tuple[Array, Array]:
        """Return distances that are exact also for near rows, where faiss subtracts squares."""
        if self.metric != "euclidean":
            return scores, found
        for at, (query, near) in enumerate(zip(queries, found)):
            scores[at] = -np.linalg.norm(rows[near].astype(np.float64) - query, axis=1)
        return merged(scores, found, found.shape[1])


def _one_each(scores: Array, rows: Array, k: int) -> tuple[Array, Array]:
    """Return the k best items of results that have an item once per vector."""
    scores, rows = merged(scores, rows, rows.shape[1])
    first = np.zeros(rows.shape, bool)
    for at, items in enumerate(rows):
        first[at, np.unique(items, return_index=True)[1]] = True
    return merged(scores, np.where(first, rows, -1), k)
