"""Measure pairs per second of the blocked pair scorer, and a training epoch, against their limits.

``python benchmarks/pair_scoring.py`` scores the pairs of a CRAN of common width 1024, as published:
pair by pair, with preparation each time; pair by pair from prepared items; in blocks; and as bare
matrix products of the same 26 vectors, which is the limit of any scorer. The preparation is timed
separately. Then it trains a small CRAN, whose epochs alternate with those of the shortest possible
PyTorch loop over the same network. ``--device cuda`` does the same on a GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _turns import report_epochs
from torch import Tensor

from crossfit.neural import Items, triplet_loss
from crossfit_cran.estimator import CRAN

SMALL: dict[str, Any] = {"channels": (24, 24, 32), "lstm_width": 32, "length": 66}


def data(n: int, width: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return images (n, width) and (n, 5, width), and texts."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz "))
    image = {
        "global": rng.normal(size=(n, width)).astype(np.float32),
        "regions": rng.normal(size=(n, 5, width)).astype(np.float32),
    }
    texts = ["".join(row) for row in rng.choice(letters, (n, 60))]
    return image, np.array(texts, dtype=object)


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


def scoring(n: int, m: int, device: str) -> None:
    """Compare the ways to score n x m pairs."""
    image, texts = data(max(n, m), 64)
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
    print(f"{device}, {n} x {m} pairs, 26 vectors of 1024; preparing took {prepared:.2f} s")
    for name, found in rates.items():
        print(f"  {name:42s} {found:12,.0f} pairs per second")
    blocks = rates["blocks"]
    print(
        f"  blocks: {blocks / rates['naive loop, items prepared for every pair']:,.0f} times the "
        f"naive loop, {rates['bare matrix products'] / blocks:.2f} times the time of the products"
    )


class PlainLoop:
    """Train with a hand-written loop, one epoch per call."""

    def __init__(self, cran: CRAN, image: dict[str, np.ndarray], texts: Any, device: str) -> None:
        n_inputs = {"image": {k: part.shape[-1] for k, part in image.items()}, "text": cran.length}
        self.module: Any = cran._build_module(n_inputs, None).to(device)
        self.image = {k: torch.from_numpy(part).to(device) for k, part in image.items()}
        self.ids = torch.from_numpy(cran._characters(texts)).to(device)
        self.optimizer = torch.optim.RMSprop(self.module.parameters(), lr=cran.lr)
        self.batch_size = cran.batch_size

    def epoch(self) -> float:
        """Train for one epoch; return the sum of the batches' losses."""
        self.module.train()
        total = 0.0
        for rows in torch.randperm(len(self.ids), device=self.ids.device).split(self.batch_size):
            self.optimizer.zero_grad()
            P = self.module.images({k: Items(part[rows]) for k, part in self.image.items()})
            scores = self.module.scores(P, self.module.texts(self.ids[rows]))
            own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
            loss: Tensor = sum(
                (
                    triplet_loss(S.T, own, ~own, margin=1.0, mining="random")
                    for S in scores.values()
                ),
                start=triplet_loss(scores["global"], own, ~own, margin=1.0, mining="random"),
            )
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total


def training(n: int, batch_size: int, size: dict[str, Any], epochs: int, device: str) -> None:
    """Compare epochs in turns, so that other load on the machine affects both equally."""
    image, texts = data(n, 1280)
    cran = CRAN(
        **size, batch_size=batch_size, max_epochs=epochs, device=device, amp=False,
        optimizer="RMSprop", lr=4e-4, margin=1.0, mining="random", bidirectional_local=False,
        standardize=False, dropout=0.0, random_state=0, verbose=0,
    )  # fmt: skip
    plain = PlainLoop(cran, image, texts, device)
    report_epochs(
        f"{device}, {n} pairs, batch {batch_size:3d}, LSTM {size['lstm_width']}",
        lambda: cran.fit(image, texts),
        lambda _: plain.epoch(),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--pairs", type=int, nargs=2, default=(500, 2500))
    chosen = parser.parse_args()
    scoring(*chosen.pairs, chosen.device)
    reduced = {"channels": (48, 64, 128), "lstm_width": 128, "width": 128, "length": 84}
    for batch_size, size in ((40, reduced), (100, reduced), (40, {**SMALL, "width": 32})):
        training(400, batch_size, size, chosen.epochs, chosen.device)
