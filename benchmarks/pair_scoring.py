"""Measure the pairs per second that CRAN and BSSAN score in blocks, against their limits.

``python benchmarks/pair_scoring.py`` scores the pairs of a CRAN of common width 1024, as published:
pair by pair, with preparation each time; pair by pair from prepared items; in blocks; and as bare
matrix products of the same 26 vectors, which is the limit of any scorer. The preparation is timed
separately. BSSAN scores all pairs with ``similarity`` and with the bare network, which do the same
arithmetic. ``--device cuda`` does the same on a GPU. Training is measured by ``training.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from training import bssan_views, cran_data

from crossfit_bssan.estimator import BSSAN
from crossfit_cran.estimator import CRAN

SMALL: dict[str, Any] = {"channels": (24, 24, 32), "lstm_width": 32, "length": 66}


def rate(pairs: int, call: Callable[[], Any], repeats: int, device: str) -> float:
    """Return the pairs per second of the fastest of some calls."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return pairs / best


def of_cran(n: int, m: int, device: str) -> None:
    """Compare the ways to score n x m pairs."""
    image, texts = cran_data(max(n, m), 64)
    cran = CRAN(width=1024, **SMALL, max_epochs=1, device=device, random_state=0, verbose=0)
    cran.fit({k: part[:40] for k, part in image.items()}, texts[:40])
    image, texts = {k: part[:n] for k, part in image.items()}, texts[:m]
    images = cran._checked_values(image, "image")
    some = {k: part[:4] for k, part in image.items()}

    def naive() -> None:
        for i in range(4):
            for j in range(4):
                cran.similarity({k: part[[i]] for k, part in some.items()}, texts[[j]])

    start = time.perf_counter()
    P, Q = cran._prepare(images, "image"), cran._prepare(texts, "text")
    prepared = time.perf_counter() - start

    def one_by_one() -> None:
        for i in range(8):
            for j in range(8):
                cran._similarity(P[i : i + 1], Q[j : j + 1])

    scores = np.empty((n, m), np.float32)
    on_device = P.to(torch.device(device)), Q.to(torch.device(device))
    parts = [part.flatten(0, -2) for part in on_device[0].parts.values()]
    columns = [part.T.contiguous() for part in on_device[1].parts.values()]

    def limit() -> None:
        with torch.inference_mode():
            for a, b in zip(parts, columns, strict=True):
                for start in range(0, len(a), 2048):
                    torch.mm(a[start : start + 2048], b)

    rates = {
        "naive loop, items prepared for every pair": rate(16, naive, 2, device),
        "loop over prepared items": rate(64, one_by_one, 3, device),
        "blocks": rate(n * m, lambda: cran._fill(P, Q, scores, None), 3, device),
        "bare matrix products": rate(n * m, limit, 3, device),
    }
    print(f"CRAN, {device}, {n} x {m} pairs, 26 vectors of 1024; preparing took {prepared:.2f} s")
    for name, found in rates.items():
        print(f"  {name:42s} {found:12,.0f} pairs per second")
    blocks = rates["blocks"]
    print(
        f"  blocks: {blocks / rates['naive loop, items prepared for every pair']:,.0f} times the "
        f"naive loop, {rates['bare matrix products'] / blocks:.2f} times the time of the products"
    )


def of_bssan(n: int, device: str, **widths: Any) -> None:
    """Compare the pair scorer of BSSAN with the bare network."""
    views = bssan_views(n, 16, 256, 256, 100)
    bssan = BSSAN(
        **widths, n_components=None, max_epochs=1, device=device, amp=False, random_state=0,
        verbose=0,
    )  # fmt: skip
    bssan.fit(views)
    P, Q = (bssan._prepare(views[role], role).to(torch.device(device)) for role in views.names)

    def bare() -> None:
        with torch.inference_mode():
            for i in range(0, n, 16):
                bssan._score_pairs(bssan.net_.module_, P[i : i + 16].parts, Q.parts).cpu()

    whole = rate(n * n, lambda: bssan.similarity(views), 3, device)
    print(
        f"BSSAN, {device}, {n} x {n} pairs, LSTM of {bssan.lstm_width} units: {whole:,.0f} pairs "
        f"per second, the bare network {rate(n * n, bare, 3, device):,.0f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, nargs=2, default=(500, 2500), help="of CRAN")
    chosen = parser.parse_args()
    of_cran(*chosen.pairs, chosen.device)
    of_bssan(200, chosen.device, lstm_width=128, w2r_mlp=(128, 64, 16), bilstm_width=64,
             o2w_mlp=(64, 32, 8))  # fmt: skip
    of_bssan(200, chosen.device, lstm_width=24, w2r_mlp=(24, 12), bilstm_width=12, o2w_mlp=(12, 6))
