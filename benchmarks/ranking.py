"""Time the ranking measures against sorting alone and against other packages, in one run.

Run ``python benchmarks/ranking.py``; ``--quick`` uses a tenth of the queries. Every line has the
ratio to crossfit on the same scores in the same process, which does not depend on the speed of the
machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from crossfit.metrics import average_precision, evaluate


def best_of(function: Callable[[], Any], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def argsort_map(scores: np.ndarray, y: np.ndarray, gallery: np.ndarray) -> float:
    """Compute MAP as published code does, one row at a time."""
    rank = np.arange(1, scores.shape[1] + 1)
    total = 0.0
    for row, label in zip(scores, y, strict=True):
        relevant = gallery[np.argsort(-row)] == label
        total += (np.cumsum(relevant)[relevant] / rank[relevant]).mean()
    return total / len(scores)


def trec_map(scores: np.ndarray, y: np.ndarray, gallery: np.ndarray) -> float:
    """Compute MAP by ir-measures with pytrec_eval, including the dictionaries that it needs."""
    import ir_measures

    run, qrels = {}, {}
    documents = [str(j) for j in range(scores.shape[1])]
    for i, row in enumerate(scores):
        run[str(i)] = dict(zip(documents, row.tolist(), strict=True))
        qrels[str(i)] = {documents[j]: 1 for j in np.flatnonzero(gallery == y[i])}
    return ir_measures.calc_aggregate([ir_measures.AP], qrels, run)[ir_measures.AP]


def report(name: str, seconds: float, ours: float) -> None:
    print(f"  {name:<46} {seconds:8.2f} s  {seconds / ours:7.1f} x")


def category_map(n: int, m: int, rng: np.random.Generator) -> None:
    scores = rng.standard_normal((n, m), dtype=np.float32)
    y, gallery = rng.integers(0, 10, n), rng.integers(0, 10, m)
    ours = best_of(lambda: average_precision(scores, (y, gallery)))
    print(f"MAP@all, {n} x {m} float32, 10 classes")
    report("crossfit, one thread", ours, ours)

    def threads() -> None:
        evaluate(scores, (y, gallery), directions="forward", ci=None, n_jobs=2)

    report("crossfit, two threads", best_of(threads), ours)
    report("np.sort of the rows alone (the machine's limit)", best_of(
        lambda: [np.sort(row) for row in scores]), ours)  # fmt: skip
    report("argsort and cumsum per row", best_of(lambda: argsort_map(scores, y, gallery), 1), ours)
    few = min(n, 200)
    part, labels = scores[:few], y[:few]
    scale = n / few
    loop = best_of(
        lambda: [average_precision_score(gallery == c, r) for r, c in zip(part, labels)], 1
    )
    report(f"scikit-learn loop (from {few} queries)", loop * scale, ours)
    trec = best_of(lambda: trec_map(part, labels, gallery), 1)
    report(f"ir-measures / pytrec_eval (from {few} queries)", trec * scale, ours)


def instance_ranks(n: int, captions: int, rng: np.random.Generator) -> None:
    m = n * captions
    scores = rng.standard_normal((n, m), dtype=np.float32)
    image = np.repeat(np.arange(n), captions)
    labels = (np.arange(n), image)
    metrics = ["r@1", "r@5", "r@10", "medr", "mrr"]
    ours = best_of(lambda: evaluate(scores, labels, metrics, ci=None))
    print(f"R@K, median rank and MRR, both directions, {n} x {m} float32")
    report("crossfit, one thread", ours, ours)

    def by_argsort() -> None:
        for block, truth in ((scores, image), (scores.T, None)):
            for i in range(len(block)):
                order = np.argsort(-block[i])
                relevant = image[order] == i if truth is not None else order == image[i]
                relevant.argmax()

    report("argsort per row", best_of(by_argsort, 1), ours)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the queries")
    quick = parser.parse_args().quick
    generator = np.random.default_rng(0)
    category_map(1000 if quick else 10_000, 10_000, generator)
    instance_ranks(500 if quick else 5000, 5, generator)
