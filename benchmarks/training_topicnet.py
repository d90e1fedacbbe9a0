"""Measure the epoch time of SSVR, as a ratio to a plain PyTorch loop of the same network.

``python benchmarks/training_topicnet.py`` trains SSVR on cached vectors and topics at the
published widths of fc6 and fc7 and at smaller ones, and on pixels with a narrow CaffeNet: with its
own loop, and with the shortest possible PyTorch loop. The epochs of the two alternate, so that
other load on the machine affects both equally.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from _turns import report_epochs
from torch.nn import functional as F

from crossfit.neural.pictures import SquareCut
from crossfit_topicnet.estimator import SSVR
from crossfit_topicnet.network import stored_edge


class PlainLoop:
    """Train with a hand-written loop, one epoch per call."""

    def __init__(self, method: SSVR, images: np.ndarray, topics: dict[str, np.ndarray]) -> None:
        method.raw_ = {"image": images.ndim == 4, "text": False}
        sizes = {name: part.shape[1] for name, part in topics.items()}
        channels = method._prefixed("module")
        self.module = method._build_module(
            {"image": images.shape[-1], "text": sizes}, None, **channels
        )
        del method.raw_
        self.images = torch.from_numpy(images)
        self.topics = {name: torch.from_numpy(part) for name, part in topics.items()}
        bias = [p for name, p in self.module.named_parameters() if name.endswith("bias")]
        rest = [p for name, p in self.module.named_parameters() if not name.endswith("bias")]
        groups = [{"params": bias, "lr": 2e-3, "weight_decay": 0.0}, {"params": rest}]
        self.optimizer = torch.optim.SGD(groups, lr=1e-3, momentum=0.9, weight_decay=5e-4)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 200_000)
        self.batch_size = method.batch_size

    def epoch(self) -> None:
        """Train for one epoch."""
        self.module.train()
        for rows in torch.randperm(len(self.images)).split(self.batch_size):
            self.optimizer.zero_grad()
            logits = self.module(self.images[rows])
            loss = torch.zeros(())
            for name, topics in self.topics.items():
                loss = loss + F.binary_cross_entropy_with_logits(
                    logits[name], topics[rows], reduction="sum"
                ) / len(rows)  # fmt: skip
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            loss.item()


def compare(what: str, images: np.ndarray, epochs: int, **settings: Any) -> None:
    rng = np.random.default_rng(0)
    topics = {name: rng.dirichlet(np.full(40, 0.1), len(images)).astype(np.float32)
              for name in ("article", "caption")}  # fmt: skip
    method = SSVR(max_epochs=epochs, batch_size=128, lr=1e-3, lr_step=200_000, standardize=False,
                  device="cpu", amp=False, random_state=0, verbose=0, **settings)  # fmt: skip
    held = images
    if images.ndim == 4:
        cut = SquareCut(stored_edge(method.image_size), method.image_size)
        held = np.stack([cut.cut(cut.whole(image), None) for image in images])
    plain = PlainLoop(method, held, topics)
    report_epochs(
        what,
        lambda: method.fit(images, topics),
        lambda _: plain.epoch(),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    epochs = parser.parse_args().epochs
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4096, 1280)).astype(np.float32)
    compare("1024 vectors, fc6 and fc7 of 4096", vectors[:1024], max(3, epochs // 4),
            hidden=(4096, 4096))  # fmt: skip
    compare("4096 vectors, fc6 of 512", vectors, epochs, hidden=(512,))
    compare("4096 vectors, no hidden layer", vectors, epochs, hidden=())
    pixels = rng.integers(0, 256, (256, 76, 76, 3), dtype=np.uint8)
    compare("256 pictures of 67 pixels, 32 channels", pixels, epochs, hidden=(64,), image_size=67,
            init="caffe", module__channels=(32,) * 5)  # fmt: skip
