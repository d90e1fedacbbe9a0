"""Compute the results of a cell: scores of the test pairs, metrics, curves and best items."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.experiment.task import Task
from crossfit.metrics.directions import Direction
from crossfit.metrics.names import parse_metric
from crossfit.views import Views, n_rows

__all__ = ["TOP", "Arrays", "by_label", "evaluate_both_ways", "score_matrix"]

#: Cut-offs of the recall curve.
KS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
#: Number of best items stored per query.
TOP = 10
# Larger score matrices (in bytes) are kept in a temporary file, and processed in blocks of _BLOCK.
_IN_MEMORY = 2**30
_BLOCK = 2**27
Arrays = dict[str, NDArray[Any]]


def by_label(metric: str, relevance: str, y: Any) -> bool:
    """Return True if items with the same label are relevant, False if only paired items are."""
    if relevance == "auto":
        return y is not None and parse_metric(metric).row.by_label
    return relevance == "label"


@contextmanager
def score_matrix(model: Any, views: Views, query: str, gallery: str) -> Iterator[Any]:
    """Provide the scores of all queries against all gallery items, on disk if they are large."""
    from crossfit.querying import similarity

    n, m = (n_rows(views.distinct(name)[0]) for name in (query, gallery))
    if 4 * n * m <= _IN_MEMORY:
        yield similarity(model, views, query=query, gallery=gallery)
        return
    with tempfile.TemporaryDirectory(prefix="crossfit-scores-") as folder:
        file = Path(folder) / "scores.npy"
        yield similarity(model, views, query=query, gallery=gallery, out=file)


def evaluate_both_ways(
    task: Task,
    scores: Sequence[Any],
    views: Views,
    y: Any,
    names: tuple[str, str],
    record: dict[str, Any],
    arrays: Arrays,
) -> None:
    """Evaluate both directions, by one score matrix of both or by one of each."""
    from crossfit.metrics import (
        chance_level,
        evaluate,
        hubness,
        interpolated_precision_recall,
        recall_at_k_curve,
    )
    from crossfit.scoring import relevance_of

    directions = Direction.between(names)
    # As seen from the first view: the scores of each direction, and the direction of evaluation.
    matrices = (scores[0], scores[1].T) if len(scores) == 2 else (scores[0], scores[0])
    ways = ("forward", "backward") if len(scores) == 2 else ("both",)
    first, second = (views.groups[views.first_rows(name)] for name in names)
    groups = (first, second)
    relevant = {
        labelled: relevance_of(views, *names, y if labelled else None)
        for labelled in {by_label(metric, task.relevance, y) for metric in task.metrics}
        | {by_label("r@1", task.relevance, y)}
    }
    results: dict[str, dict[str, Any]] = {direction: {} for direction in directions}
    main = by_label(task.metrics[0], task.relevance, y)
    for labelled, relevance in relevant.items():
        metrics = [m for m in task.metrics if by_label(m, task.relevance, y) == labelled]
        asked = [*metrics, "meanr"] if labelled == main else metrics
        if not asked:
            continue
        evaluated = [
            evaluate(
                part, relevance, asked, groups=groups, names=names, ties=task.ties, directions=way
            )
            for part, way in zip(matrices, ways)
        ]
        at_random = chance_level(relevance, asked, names=names)
        for direction, found in zip(directions, (evaluated[0], evaluated[-1])):
            record["chance"].setdefault(direction, {}).update(
                {metric: at_random.mean(direction, metric) for metric in metrics}
            )
            for metric in metrics:
                values = found.per_query[direction, metric]
                low, high = found.interval(direction, metric)
                results[direction][metric] = {
                    "mean": found.mean(direction, metric),
                    "low": low,
                    "high": high,
                    "n": int((~np.isnan(values)).sum()),
                }
                arrays[f"{direction}|{metric}"] = np.asarray(values)
            if labelled == main:
                arrays[f"{direction}|first"] = np.asarray(found.per_query[direction, "meanr"])
    for i, direction in enumerate(directions):
        side = "forward" if i == 0 else "backward"
        record["results"][direction] = {
            metric: results[direction][metric] for metric in task.metrics
        }
        arrays[f"{direction}|groups"] = groups[i]
        own = matrices[i]
        top, best = _best(own if i == 0 else own.T)
        arrays[f"{direction}|top"], arrays[f"{direction}|top_scores"] = top, best
        size = matrices[i].shape[1 - i]
        record["hubness"][direction] = hubness(top, size)
        record["abstention"][direction] = _abstention(
            matrices[i], arrays[f"{direction}|{task.metrics[0]}"], task.metrics[0], side
        )
        recall = relevant[by_label("r@1", task.relevance, y)]
        ks, values = recall_at_k_curve(
            own, recall, [k for k in KS if k <= size], direction=side, ties=task.ties
        )
        levels, precision = interpolated_precision_recall(own, relevant[main], direction=side)
        record["curves"][direction] = {
            "recall": [ks.tolist(), values.tolist()],
            "pr": [levels.tolist(), precision.tolist()],
        }


def _abstention(
    scores: Any, values: NDArray[np.float64], metric: str, side: str
) -> dict[str, float]:
    """Return how well each confidence foretells the values of the queries."""
    from crossfit.metrics.confidence import confidences, nauc

    certain = confidences(scores, side == "backward")
    values = values if parse_metric(metric).greater_is_better else -values
    return {
        name: nauc(confidence, values)
        for name, confidence in certain.items()
        if np.isfinite(confidence).all()
    }


def _best(scores: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the indices and scores of the best items of each row, best first."""
    n, m = scores.shape
    k = min(TOP, m)
    top = np.empty((n, k), np.int64)
    best = np.empty((n, k), np.float32)
    rows = max(1, _BLOCK // (12 * m))
    for start in range(0, n, rows):
        block = np.asarray(scores[start : start + rows])
        some = np.argpartition(-block, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(block, some, axis=1)
        order = np.lexsort((some, -values), axis=1)
        top[start : start + rows] = np.take_along_axis(some, order, axis=1)
        best[start : start + rows] = np.take_along_axis(values, order, axis=1)
    return top, best
