"""Measure the epoch time of a neural method, as a ratio to a plain PyTorch loop of its network.

``python benchmarks/training.py`` trains ACLN on cached regions and words, at its published size
and batch, with a larger batch, and with a network so small that the time of the loop matters: with
its own loop, and with the shortest possible PyTorch loop (indexed tensors, the same module, loss
and optimizer). The epochs of the two alternate, so that other load on the machine affects both
equally. ``--device cuda`` does the same on a GPU.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from _turns import report_epochs
from torch import Tensor
from torch.nn import functional as F

from crossfit.neural import Items
from crossfit_acln.estimator import ACLN


def data(n: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return regions (n, 36, width), word ids (n, 12) and labels."""
    rng = np.random.default_rng(0)
    regions = rng.normal(size=(n, 36, width)).astype(np.float32)
    return regions, rng.integers(2, 1000, (n, 12)), rng.permutation(np.arange(n) % 10)


class PlainLoop:
    """Train with a hand-written loop, one epoch per call."""

    def __init__(self, method: ACLN, arrays: tuple[np.ndarray, ...], device: str) -> None:
        self.module = method._build_module({"image": arrays[0].shape[2], "text": 1000}, 10)
        self.module.to(device)
        self.tensors = [torch.from_numpy(array).to(device) for array in arrays]
        self.optimizer = torch.optim.RMSprop(self.module.parameters(), lr=4e-4)
        self.batch_size = method.batch_size

    def epoch(self) -> float:
        """Train for one epoch; return the sum of the batches' losses."""
        self.module.train()
        regions, words, y = self.tensors
        order = torch.randperm(len(y), device=y.device)
        total = 0.0
        for rows in order.split(self.batch_size):
            self.optimizer.zero_grad()
            g, z = self.module(Items(regions[rows]), "image")
            ids = words[rows]
            h, w = self.module(Items(ids, ids != 0), "text")
            loss: Tensor = F.cross_entropy(z, y[rows]) + F.cross_entropy(w, y[rows])
            loss = loss + (1 - F.cosine_similarity(g, h)).mean()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total


def compare(n: int, batch_size: int, width: int, epochs: int, device: str) -> None:
    arrays = data(n, 256)
    method = ACLN(
        width=width, batch_size=batch_size, max_epochs=epochs, device=device, amp=False,
        random_state=0, verbose=0,
    )  # fmt: skip
    plain = PlainLoop(method, arrays, device)
    report_epochs(
        f"{device}, {n} pairs, batch {batch_size:3d}, width {width}",
        lambda: method.fit(*arrays),
        lambda _: plain.epoch(),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=12)
    chosen = parser.parse_args()
    for batch_size, width in ((20, 512), (128, 512), (20, 64)):
        compare(400, batch_size, width, chosen.epochs, chosen.device)
