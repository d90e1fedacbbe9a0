"""Time CCA against other packages and against its bare matrix products, in one run.

Run ``python benchmarks/cca.py``; ``--quick`` uses a tenth of the rows. Every line has the ratio to
crossfit on the same data in the same process, which does not depend on the speed of the machine.
With ``--stream N``, partial_fit runs over memory-mapped files of N x (2048 + 768) float32 numbers
(1e6 rows are 11 GB in a temporary folder, see ``--folder``), and over a quarter and half of
them: the time per row and the memory should be the same for all three.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crossfit.subspace import CCA

N_COMPONENTS = 32


def best_of(function: Callable[[], Any], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def in_turn(*functions: Callable[[], Any], repeats: int = 5) -> list[float]:
    """Return the median time of each; they alternate, so that other load affects all of them."""
    times = [[best_of(function, 1) for function in functions] for _ in range(repeats)]
    return np.median(times, axis=0).tolist()


def report(name: str, seconds: float, ours: float) -> None:
    print(f"  {name:<54} {seconds:8.2f} s  {seconds / ours:7.2f} x", flush=True)


def pairs(n: int, p: int, q: int, dtype: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 40), dtype=dtype)
    views = []
    for d in (p, q):
        mixing = rng.standard_normal((40, d), dtype=dtype) * np.linspace(0.05, 0.5, 40)[:, None]
        view = shared @ mixing.astype(dtype)
        views.append(view + rng.standard_normal((n, d), dtype=dtype))
    return views[0], views[1]


def products(x: np.ndarray, t: np.ndarray) -> None:
    """Compute the matrix products that every CCA needs."""
    _ = x.T @ x, x.T @ t, t.T @ t


def correlations_of(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Compute the canonical correlations in float64 from orthonormal bases, as textbooks do."""
    Q = [np.linalg.qr(part - part.mean(axis=0))[0] for part in (x.astype(float), t.astype(float))]
    return np.linalg.svd(Q[0].T @ Q[1], compute_uv=False)[:N_COMPONENTS]


def against_cca_zoo(n: int) -> None:
    from cca_zoo.linear import RidgeCCA

    for dtype in (np.float32, np.float64):
        x, t = pairs(n, 1024, 300, dtype)
        print(f"CCA, n = {n}, 1024 and 300 columns, {N_COMPONENTS} components, {x.dtype}")
        ours, bare, zoo = in_turn(
            lambda x=x, t=t: CCA(N_COMPONENTS).fit(x, t),
            lambda x=x, t=t: products(x, t),
            lambda x=x, t=t: RidgeCCA(n_components=N_COMPONENTS, shrinkage=1e-3).fit([x, t]),
        )
        report("crossfit", ours, ours)
        report("the matrix products alone", bare, ours)
        print(f"  {'crossfit / matrix products':<54} {'':10}  {ours / bare:7.2f} x")
        report("cca-zoo RidgeCCA", zoo, ours)
        found = CCA(N_COMPONENTS, reg=0).fit(x, t).correlations_
        error = np.abs(found - correlations_of(x, t)).max()
        print(f"  {'largest error of a correlation (reg=0)':<54} {error:12.1e}")


def against_sklearn(n: int) -> None:
    from sklearn.cross_decomposition import CCA as Iterative

    x, t = pairs(n, 1024, 300, np.float64)
    few = 2  # every component takes the same time, and all of them would take many minutes
    print(f"CCA, n = {n}, 1024 and 300 columns, {N_COMPONENTS} components, float64")
    ours = best_of(lambda: CCA(N_COMPONENTS).fit(x, t))
    report("crossfit", ours, ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a stop at max_iter
        theirs = best_of(lambda: Iterative(few).fit(x, t), 1)
    report(f"scikit-learn (from {few} components)", theirs * N_COMPONENTS / few, ours)


class Peak:
    """Measure the peak anonymous memory of this process, without the pages of mapped files."""

    def __enter__(self) -> Peak:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self.bytes = max(self.bytes, 1024 * int(line.split()[1]))

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()


def stream(n: int, folder: str | None) -> None:
    p, q, batch = 2048, 768, 32_768
    print(f"partial_fit over memory-mapped files, {p} and {q} columns, float32")
    with tempfile.TemporaryDirectory(dir=folder) as home:
        x, t = (
            np.lib.format.open_memmap(Path(home) / f"{name}.npy", "w+", np.float32, (n, d))
            for name, d in (("x", p), ("t", q))
        )
        for start in range(0, n, batch):
            rows = slice(start, min(start + batch, n))
            x[rows], t[rows] = pairs(rows.stop - rows.start, p, q, np.float32, seed=start)
        x.flush(), t.flush()
        x, t = (np.load(Path(home) / f"{name}.npy", mmap_mode="r") for name in ("x", "t"))
        for rows_seen in (n // 4, n // 2, n):
            cca = CCA(N_COMPONENTS)
            with Peak() as peak:
                start = time.perf_counter()
                for first in range(0, rows_seen, batch):
                    part = slice(first, min(first + batch, rows_seen))
                    cca.partial_fit(x[part], t[part])
                summed = time.perf_counter() - start
                assert cca.n_components_ == N_COMPONENTS
                solved = time.perf_counter() - start - summed
            print(
                f"  {rows_seen:9d} rows: {summed:8.2f} s, {1e6 * summed / rows_seen:6.1f} µs per "
                f"row, then {solved:5.2f} s to solve; memory {peak.bytes / 1e9:.2f} GB",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--stream", type=int, metavar="N", help="only partial_fit over N rows")
    parser.add_argument("--folder", help="folder for the temporary files of --stream")
    arguments = parser.parse_args()
    if arguments.stream:
        stream(arguments.stream, arguments.folder)
    else:
        against_cca_zoo(10_000 if arguments.quick else 100_000)
        against_sklearn(2000 if arguments.quick else 10_000)
        stream(20_000 if arguments.quick else 100_000, arguments.folder)
