"""Time hub corrections and fusion against the products and the partial sort that they need.

Run ``python benchmarks/hubs.py``; ``--quick`` has a tenth of the queries, the bank and the gallery.
5,000 queries are ranked in a gallery of 25,000 items (the test pictures and captions of MS-COCO)
with a bank of 5,000 training queries. Every line has the ratio to what nobody can avoid in the same
process: the product of queries and gallery, and for a correction the product of bank and gallery,
each in blocks and in float64 as crossfit computes them, and one partial sort. Seconds are those of
the processor, which other processes change less than those of the clock. Memory is the peak of what
is allocated in addition to the scores, as a share of the scores.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from crossfit import RetrievalScorer, Views
from crossfit.retrieval import Fusion
from crossfit.retrieval.hubs import CORRECTIONS
from crossfit.similarities import CHUNK

K = 10


def seconds(function: Callable[[], Any], repeats: int = 2) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def blocks(n: int, m: int) -> Iterator[tuple[slice, slice]]:
    for start in range(0, n, CHUNK):
        for other in range(0, m, CHUNK):
            yield slice(start, start + CHUNK), slice(other, other + CHUNK)


def product(P: np.ndarray, Q: np.ndarray, out: np.ndarray | None = None) -> None:
    """Multiply in blocks; the products are kept if `out` is given."""
    for rows, columns in blocks(len(P), len(Q)):
        found = P[rows] @ Q[columns].T
        if out is not None:
            out[rows, columns] = found


def partial_sort(n: int, m: int, rng: np.random.Generator) -> float:
    """Return the seconds for the K largest of every row of an (n, m) matrix, block by block."""
    block = rng.standard_normal((CHUNK, CHUNK))
    return seconds(lambda: np.partition(block, -K, axis=1)) * n * m / CHUNK**2


def main(n: int, m: int, bank: int, d: int, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    image, text = (rng.standard_normal((size, d)) for size in (n, m))
    train = Views(image=rng.standard_normal((bank, d)), text=rng.standard_normal((bank, d)))
    scores = np.empty((n, m), np.float32)
    given = (image, "image", text, "text")
    plain = RetrievalScorer("cosine").fit(train)
    own = seconds(lambda: product(image, text, scores))
    of_bank = seconds(lambda: product(text, train["image"]))
    sort = partial_sort(bank, m, rng)
    print(f"{n} queries, {m} items, a bank of {bank}, {d} dimensions; seconds:")
    print(f"  product {own:.2f}, product with the bank {of_bank:.2f}, partial sort {sort:.2f}")

    def report(name: str, model: Any, floor: float) -> None:
        def score() -> None:
            model.score_items(*given, out=scores)

        took = seconds(score)
        tracemalloc.start()
        score()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        share = peak / scores.nbytes
        print(f"  {name:<34} {took:7.2f} s  {took / floor:5.2f} x  {share:5.2f} of the scores")

    of_scores = partial_sort(n, m, rng)
    lines = {"cosine": (plain, own)}
    for name in CORRECTIONS:
        # The bank of dual softmax are the queries themselves; CSLS has one for each view.
        floor = own + (of_scores if name == "dual_softmax" else of_bank + sort)
        if name == "csls":
            floor += seconds(lambda: product(image, train["text"])) + partial_sort(n, bank, rng)
        lines[name] = RetrievalScorer(name).fit(train), floor
    for how in ("zsum", "rrf"):
        two = Fusion([("a", plain), ("b", plain)], how, prefit=True)
        lines[f"fusion by {how}"] = two, 2 * own + of_scores
    for name, (model, floor) in lines.items():
        if not names or name in names:
            report(name, model, floor)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("names", nargs="*", help="lines to time; all by default")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    main(5000 // scale, 25_000 // scale, 5000 // scale, options.dimensions, options.names)
