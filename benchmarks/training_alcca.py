"""Measure the epoch time of ACMR, as a ratio to a plain PyTorch loop of its network and losses.

``python benchmarks/training_alcca.py`` trains the adversarial network of ALCCA on cached features
at its published size and batch, and on narrow features, where the time of the loop matters: with
its own loop, and with the shortest possible PyTorch loop. The epochs of the two alternate, so that
other load on the machine affects both equally. ``--device cuda`` does the same on a GPU.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from _turns import report_epochs
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.neural import grad_reverse
from crossfit_alcca.estimator import ACMR

MARGIN = 5.0


def projector(n_inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_inputs, hidden), nn.Tanh(), nn.Linear(hidden, 200), nn.Tanh()
    )  # fmt: skip


class PlainLoop:
    """Train with a hand-written loop, one epoch per call."""

    def __init__(self, arrays: tuple[np.ndarray, ...], batch_size: int, device: str) -> None:
        self.tensors = [torch.from_numpy(array).to(device) for array in arrays]
        widths = (arrays[0].shape[1], arrays[1].shape[1])
        self.first, self.second = projector(widths[0], 1000), projector(widths[1], 200)
        self.labels = nn.Linear(200, 20)
        self.modality = nn.Sequential(nn.Linear(200, 50), nn.Tanh(), nn.Linear(50, 2))
        self.network = nn.ModuleList([self.first, self.second, self.labels, self.modality])
        self.network.to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, betas=(0.5, 0.999))
        self.batch_size = batch_size

    def epoch(self, strength: float) -> float:
        """Train for one epoch; return the sum of the batches' losses."""
        X, Z, y = self.tensors
        total = 0.0
        for rows in torch.randperm(len(y), device=y.device).split(self.batch_size):
            self.optimizer.zero_grad()
            loss = self.loss(self.first(X[rows]), self.second(Z[rows]), y[rows], strength)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total

    def loss(self, a: Tensor, t: Tensor, y: Tensor, strength: float) -> Tensor:
        """Return the embedding loss and, after the gradient reversal, the adversarial loss."""
        squares = a.square().sum(dim=1)[:, None] + t.square().sum(dim=1)
        distances = ((squares - 2 * a @ t.T).clamp(min=0) + 1e-4).sqrt()
        same = y[:, None] == y
        near = (distances * same).sum() / same.sum()
        far = ((MARGIN - distances).clamp(min=0) * ~same).sum() / (~same).sum()
        labels = F.cross_entropy(self.labels(a), y) + F.cross_entropy(self.labels(t), y)
        weights = [
            w for part in (self.first, self.second) for w in part.parameters() if w.ndim == 2
        ]
        decay = torch.stack([w.square().sum() for w in weights]).sum()
        modality = torch.arange(2, device=y.device).repeat_interleave(len(y))
        logits = self.modality(grad_reverse(torch.cat([a, t]), strength))
        return 2 * (near + far) + labels + 1e-4 * decay + 2 * F.cross_entropy(logits, modality)


def compare(n: int, widths: tuple[int, int], batch_size: int, epochs: int, device: str) -> None:
    rng = np.random.default_rng(0)
    X, Z = (rng.normal(size=(n, width)).astype(np.float32) for width in widths)
    y = rng.permutation(np.arange(n) % 20)
    method = ACMR(
        hidden={"image": 1000, "text": 200}, margin=MARGIN, batch_size=batch_size,
        lr=1e-4, standardize=False, max_epochs=epochs, device=device, amp=False,
        random_state=0, verbose=0,
    )  # fmt: skip
    plain = PlainLoop((X, Z, y), batch_size, device)
    report_epochs(
        f"{device}, {n} pairs of {widths[0]} and {widths[1]}, batch {batch_size:3d}",
        lambda: method.fit(X, Z, y),
        lambda done: plain.epoch(done / epochs),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=12)
    chosen = parser.parse_args()
    for widths in ((3220, 300), (128, 300)):
        compare(1000, widths, 100, chosen.epochs, chosen.device)
