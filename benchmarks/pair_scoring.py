"""Measure the pairs per second that CRAN and BSSAN score in blocks, against their limits.

``python benchmarks/pair_scoring.py`` scores the pairs of a CRAN of common width 1024, as published:
pair by pair, with preparation each time; pair by pair from prepared items; in blocks; and as bare
matrix products of the same 26 vectors, which is the limit of any scorer. The preparation is timed
separately. BSSAN scores all pairs with ``similarity`` and with the bare network, which do the same
arithmetic. SCAN and MaxSim score pairs of 36 regions and 20 words with 256 features: in blocks, and
with a loop over the captions, as SCAN's authors do; on a CPU by the time of the processor on one
thread. ``--device cuda`` does the same on a GPU, except for MaxSim, which has no network.
``--methods`` selects some. Training is measured by ``training.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from training import bssan_views, cran_data

from crossfit import Ragged
from crossfit_bssan.estimator import BSSAN
from crossfit_cran.estimator import CRAN
from crossfit_heads.maxsim import largest_sums
from crossfit_heads.scan import Elements, stacked_attention

METHODS = ("cran", "bssan", "scan", "maxsim")
SMALL: dict[str, Any] = {"channels": (24, 24, 32), "lstm_width": 32, "length": 66}


def rate(
    pairs: int, call: Callable[[], Any], repeats: int, device: str, clock: Any = time.perf_counter
) -> float:
    """Return the pairs per second of the fastest of some calls."""
    best = np.inf
    for _ in range(repeats):
        start = clock()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - start)
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


def unit_sets(n: int, length: int, width: int, device: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, length, width, generator=generator), dim=-1).to(device)


def per_caption_scan(images: Tensor, captions: Tensor, attention: str, scale: float) -> Tensor:
    """Score all pairs caption by caption, forming every attended vector."""
    columns = []
    for caption in captions:
        words = caption[None].repeat(len(images), 1, 1)
        query, context = (words, images) if attention == "t2i" else (images, words)
        products = F.leaky_relu(context @ query.mT, 0.1)
        products = products / (products.square().sum(dim=2, keepdim=True).sqrt() + 1e-8)
        weights = (scale * products.mT.contiguous()).softmax(dim=2)
        attended = (context.mT @ weights.mT.contiguous()).mT.contiguous()
        dots = (query * attended).sum(dim=2)
        norms = query.norm(dim=2) * attended.norm(dim=2)
        columns.append((dots / norms.clamp(min=1e-8)).mean(dim=1))
    return torch.stack(columns, dim=1)


def per_caption_maxsim(images: Tensor, captions: Tensor) -> Tensor:
    """Score all pairs caption by caption, with the norms of the vectors of the pair."""
    columns = []
    for caption in captions:
        words = caption[None].repeat(len(images), 1, 1)
        norms = images.norm(dim=2)[:, :, None] * words.norm(dim=2)[:, None]
        cosines = (images @ words.mT) / norms.clamp(min=1e-8)
        columns.append(cosines.amax(dim=1).mean(dim=1))
    return torch.stack(columns, dim=1)


@contextlib.contextmanager
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def of_sets(method: str, n: int, device: str) -> None:
    """Compare blocks with a loop over captions, for n images and n captions."""
    images, captions = unit_sets(n, 36, 256, device, 0), unit_sets(n, 20, 256, device, 1)
    ways: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {}
    if method == "maxsim":
        sets = [
            Ragged(part.flatten(0, 1).numpy(), np.arange(n + 1) * part.shape[1])
            for part in (images, captions)
        ]
        ways["MaxSim"] = (
            lambda: largest_sums(*sets) / np.float32(20),
            lambda: per_caption_maxsim(images, captions).numpy(),
        )
    for attention, scale in {"t2i": 9.0, "i2t": 4.0}.items() if method == "scan" else ():
        first, second = (images, captions) if attention == "t2i" else (captions, images)
        context, query = (
            Elements(part, torch.full((n,), part.shape[1], device=device), gram)
            for part, gram in ((first, first @ first.mT), (second, None))
        )

        def blocks(context: Any = context, query: Any = query, scale: float = scale) -> Tensor:
            return stacked_attention(context, query, lambda_softmax=scale, leak=0.1)

        def loop(attention: str = attention, scale: float = scale) -> Tensor:
            found = per_caption_scan(images, captions, attention, scale)
            return found if attention == "t2i" else found.T

        ways[f"SCAN, {attention}"] = blocks, loop
    clock = time.process_time if device == "cpu" else time.perf_counter
    with torch.inference_mode(), one_thread():
        products = rate(
            n * n, lambda: images.flatten(0, 1) @ captions.flatten(0, 1).T, 3, device, clock
        )
        for name, (ours, theirs) in ways.items():
            off = float(np.abs(np.asarray(ours() - theirs())).max()) if device == "cpu" else np.nan
            fast, slow = (rate(n * n, call, 3, device, clock) for call in (ours, theirs))
            print(
                f"{name}, {device}, {n} x {n} pairs of 36 regions and 20 words, width 256: "
                f"{fast:,.0f} pairs per second, {slow:,.0f} caption by caption "
                f"({fast / slow:.1f} times), bare products {products:,.0f}; largest difference "
                f"{off:.1e}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, nargs=2, default=(500, 2500), help="of CRAN")
    parser.add_argument(
        "--methods", nargs="*", choices=METHODS, default=list(METHODS), help="all by default"
    )
    chosen = parser.parse_args()
    if "cran" in chosen.methods:
        of_cran(*chosen.pairs, chosen.device)
    if "bssan" in chosen.methods:
        of_bssan(200, chosen.device, lstm_width=128, w2r_mlp=(128, 64, 16), bilstm_width=64,
                 o2w_mlp=(64, 32, 8))  # fmt: skip
        of_bssan(200, chosen.device, lstm_width=24, w2r_mlp=(24, 12), bilstm_width=12,
                 o2w_mlp=(12, 6))  # fmt: skip
    if "scan" in chosen.methods:
        of_sets("scan", 96, chosen.device)
    if "maxsim" in chosen.methods and chosen.device == "cpu":
        of_sets("maxsim", 96, chosen.device)
