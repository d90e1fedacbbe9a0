"""Time small fits alone and at the same time, against a fair share of the cores.

Run ``python benchmarks/busy.py`` on an idle machine. Every copy of a fit is a separate process,
without OMP_NUM_THREADS, and all start at the same moment. With a fair share, copies that together
use more cores than there are take longer by that factor, and no more. If threads wait for each
other, they take many times as long.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

COPIES = (2, 3)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def emoji_sized(n: int = 1149, p: int = 1280, q: int = 384) -> tuple[Any, Any]:
    """Return pairs of the size of the emoji set: features of a network and a sentence encoder."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(n, 60))
    X, T = (Z @ rng.normal(size=(60, d)) + 5 * rng.normal(size=(n, d)) for d in (p, q))
    return X.astype(np.float32), T.astype(np.float32)


def cca() -> Callable[[], Any]:
    from crossfit.subspace import CCA

    X, T = emoji_sized()
    return lambda: CCA(64).fit(X, T)


def choice() -> Callable[[], Any]:
    from sklearn.model_selection import GridSearchCV, KFold

    from crossfit import Views, make_retrieval_scorer
    from crossfit.subspace import CCA

    X, T = emoji_sized()
    settings = {"reg": [0.1, 1.0], "power": [0.0, 4.0]}
    folds = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(CCA(64), settings, cv=folds, scoring=make_retrieval_scorer("mrr"))
    return lambda: search.fit(Views(image=X, text=T))


def kcca() -> Callable[[], Any]:
    from crossfit.subspace import KCCA

    X, T = emoji_sized(600, 128, 64)
    return lambda: KCCA(32).fit(X, T)


def acln() -> Callable[[], Any]:
    from crossfit_acln.estimator import ACLN
    from crossfit_acln.testing import make_inputs

    views, y = make_inputs(np.random.default_rng(0), 400)
    return lambda: ACLN(width=64, max_epochs=10, device="cpu", random_state=0, verbose=0).fit(
        views, y
    )


WORK = {
    "CCA, one fit": cca,
    "CCA, choice of settings": choice,
    "kernel CCA": kcca,
    "ACLN": acln,
}


def work(name: str) -> None:
    """Prepare the work, wait for a line, run it, and print its wall time and its CPU time."""
    warnings.simplefilter("ignore")
    run = WORK[name]()
    print("ready", flush=True)
    sys.stdin.readline()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


def side_by_side(name: str, copies: int) -> np.ndarray:
    """Return the wall time and the CPU time of each copy in seconds, shape (copies, 2)."""
    environment = {key: value for key, value in os.environ.items() if key not in THREADS}
    command = [sys.executable, __file__, "--work", name]
    processes = [
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(copies)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{name} could not be prepared")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return np.array([process.communicate()[0].split() for process in processes], dtype=float)
    finally:
        for process in processes:
            process.kill()


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores; seconds, and the ratio to a fair share")
    for name in WORK:
        alone = np.median([side_by_side(name, 1)[0] for _ in range(3)], axis=0)
        wanted = max(1.0, alone[1] / alone[0])  # cores that one copy keeps busy
        line = f"  {name:<26} alone {alone[0]:7.2f}"
        for copies in COPIES:
            slowest = side_by_side(name, copies)[:, 0].max()
            fair = alone[0] * max(1.0, copies * wanted / (cores or 1))
            line += f"   {copies} copies {slowest:7.2f} ({slowest / fair:5.2f} x)"
        print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", choices=WORK, help=argparse.SUPPRESS)
    chosen = parser.parse_args().work
    if chosen:
        work(chosen)
    else:
        main()
