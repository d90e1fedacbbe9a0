"""Compare `Index` with bare faiss on the same vectors, in one process: speed, recall and memory.

Run ``python benchmarks/search.py``; names of lines select some, and ``--quick`` has a hundredth of
the vectors. Exact search and the approximate one are ratios to faiss' own index of the same
vectors, both called in turn; seconds are those of the processor, the least of several calls. The
vectors come from a seed and are written to disk a block at a time, so that the memory of ``ivf-pq``
is that of the structure: "own" is the peak of what the process allocated, "with files" includes the
pages of mapped files, which the system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from crossfit.retrieval import Index

K = 10
BLOCK = 500_000


def in_turn(*functions: Callable[[], Any], repeats: int = 5) -> list[float]:
    """Return the least seconds of each function, called in turn so that load affects all."""
    times = np.full((repeats, len(functions)), np.inf)
    for at in range(repeats):
        for which, function in enumerate(functions):
            start = time.process_time()
            function()
            times[at, which] = time.process_time() - start
    return times.min(axis=0).tolist()


def vectors(n: int, d: int, seed: int) -> Iterator[np.ndarray]:
    """Yield float32 rows of a space of fewer dimensions with noise, a block at a time."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((d // 4, d), dtype=np.float32)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        found = rng.standard_normal((m, d // 4), dtype=np.float32) @ mixing
        found += 2 * rng.standard_normal((m, d), dtype=np.float32)
        yield found


def filled(folder: Path, n: int, d: int, kind: str = "exact") -> Index:
    index = Index.create(folder, d, kind=kind)
    start = 0
    for block in vectors(n, d, 1):
        names = [f"item {start + i}" for i in range(len(block))]
        index.add(block, names)
        start += len(block)
    return index


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Memory(threading.Thread):
    """Largest memory of the process while it runs, in GiB: its own, and with mapped files."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.all = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        """Read the memory of the process until `over` is set."""
        while not self.over.wait(0.05):
            status = Path("/proc/self/status").read_text()
            found = dict(line.split(":", 1) for line in status.splitlines())
            self.own = max(self.own, int(found["RssAnon"].split()[0]) / 2**20)
            self.all = max(self.all, int(found["VmRSS"].split()[0]) / 2**20)


def exact(n: int, d: int, folder: Path) -> None:
    index = filled(folder, n, d)
    index.compact()
    queries = next(vectors(200, d, 2))
    start = time.perf_counter()
    index = Index.open(folder)
    opened = time.perf_counter() - start
    bare = faiss.IndexFlatIP(d)
    for block in vectors(n, d, 1):
        bare.add(unit(block))
    of_unit = unit(queries)
    same = index.search(queries, K).indices == bare.search(of_unit, K)[1]
    print(f"exact, {n:,} x {d}: {same.mean():.2%} the same rows, opened in {opened:.3f} s")
    for m in (200, 1):
        ours, theirs = in_turn(
            lambda m=m: index.search(queries[:m], K), lambda m=m: bare.search(of_unit[:m], K)
        )
        print(
            f"  {m:>3} queries: {ours * 1e3:8.1f} ms, faiss {theirs * 1e3:8.1f} ms, "
            f"{ours / theirs:5.2f} x",
            flush=True,
        )


def approximate(n: int, d: int, folder: Path) -> None:
    memory = Memory()
    memory.start()
    start = time.perf_counter()
    index = filled(folder, n, d, "ivf-pq")
    print(f"ivf-pq, {n:,} x {d}: written in {time.perf_counter() - start:.0f} s", flush=True)
    start = time.perf_counter()
    index.compact()
    print(f"  built in {time.perf_counter() - start:.0f} s; own memory {memory.own:.2f} GiB")
    queries = next(vectors(200, d, 2))
    print(index.tune(queries[:100], 0.95, K), flush=True)
    index.close()
    start = time.perf_counter()
    index = Index.open(folder)
    print(f"  opened in {time.perf_counter() - start:.3f} s", flush=True)
    snapshot = index._snapshot
    settings = snapshot.manifest["structure"]["settings"]
    truth, _ = index._search(
        snapshot,
        index._queries(queries[100:], True),
        K,
        [None] * len(snapshot.segments),
        None,
        None,
    )
    bare = faiss.read_index(str(folder / snapshot.manifest["structure"]["file"]))
    given = faiss.SearchParametersPreTransform(
        index_params=faiss.SearchParametersIVF(nprobe=settings["nprobe"])
    )
    of_unit = unit(queries[100:])
    found = index.search(queries[100:], K).indices
    alone = bare.search(of_unit, K, params=given)[1]
    ours, theirs = in_turn(
        lambda: index.search(queries[100:], K), lambda: bare.search(of_unit, K, params=given)
    )
    for name, rows, took in (("Index", found, ours), ("faiss", alone, theirs)):
        recall = np.mean([np.isin(a, b).mean() for a, b in zip(truth, rows)])
        print(f"  {name} {settings}: recall@{K} {recall:.3f}, {100 / took:,.0f} queries/s")
    memory.over.set()
    print(f"  memory: own {memory.own:.2f} GiB, with files {memory.all:.2f} GiB", flush=True)


LINES = {
    "exact-200k": lambda scale, folder: exact(200_000 // scale, 256, folder),
    "exact-1m": lambda scale, folder: exact(1_000_000 // scale, 256, folder),
    "ivf-pq-1m": lambda scale, folder: approximate(1_000_000 // scale, 128, folder),
    "ivf-pq-10m": lambda scale, folder: approximate(10_000_000 // scale, 128, folder),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a hundredth of the vectors")
    parser.add_argument(
        "--folder", help="where the index is written; a temporary folder by default"
    )
    parser.add_argument("names", nargs="*", help="lines; all by default", metavar="NAME")
    options = parser.parse_args()
    for name, line in LINES.items():
        if not options.names or name in options.names:
            place = Path(tempfile.mkdtemp(dir=options.folder))
            try:
                line(100 if options.quick else 1, place / "gallery.index")
            finally:
                shutil.rmtree(place)
