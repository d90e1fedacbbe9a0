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


def judged_pairs(n: int, judged: int, depth: int, rng: np.random.Generator) -> None:
    """Time the evaluation of runs from dictionaries that every package accepts."""
    import ir_measures
    import ranx

    from crossfit.systems import evaluate_run

    names = [f"d{j}" for j in range(20_000)]
    run, qrels = {}, {}
    for i in range(n):
        items = rng.choice(len(names), judged + depth // 2, replace=False)
        scores = rng.standard_normal(depth)
        run[f"q{i}"] = {names[j]: s for j, s in zip(items[-depth:], scores.tolist(), strict=True)}
        grades = rng.integers(0, 3, judged).tolist()
        qrels[f"q{i}"] = {names[j]: g for j, g in zip(items[:judged], grades, strict=True)}
    print(f"mAP, nDCG@10 and MRR of {n} queries, {n * judged} judged and {n * depth} ranked pairs")
    measures = ["map@all", "ndcg@10", "mrr"]
    ours = best_of(lambda: evaluate_run(run, qrels, measures, ci=None, gain="linear"), 2)
    report("crossfit, three tie rules, bounds and chance", ours, ours)
    intervals = best_of(
        lambda: evaluate_run(run, qrels, measures, gain="linear").evaluation.rows(), 1
    )
    report("crossfit, with bootstrap intervals", intervals, ours)

    def by_ranx() -> None:
        ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), ["map", "ndcg@10", "mrr"])

    by_ranx()  # its functions are compiled at the first call
    report("ranx, from the same dictionaries", best_of(by_ranx, 2), ours)
    asked = [ir_measures.AP, ir_measures.nDCG @ 10, ir_measures.RR]
    theirs = best_of(lambda: ir_measures.calc_aggregate(asked, qrels, run), 2)
    report("ir-measures / pytrec_eval", theirs, ours)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the queries")
    parser.add_argument("--runs", action="store_true", help="only runs with judged pairs")
    given = parser.parse_args()
    quick = given.quick
    generator = np.random.default_rng(0)
    judged_pairs(1000 if quick else 10_000, 100, 100, generator)
    if given.runs:
        raise SystemExit
    category_map(1000 if quick else 10_000, 10_000, generator)
    instance_ranks(500 if quick else 5000, 5, generator)
