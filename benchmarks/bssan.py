"""Measure BSSAN: epoch time as a ratio to a plain PyTorch loop, and pairs scored per second.

``python benchmarks/bssan.py`` trains BSSAN on cached features at an eighth and at a fortieth of its
published widths, with crossfit's loop and with the shortest possible PyTorch loop (indexed tensors,
the same network, loss and optimizer). The epochs of the two alternate, so that other load on the
machine affects both equally. Then it scores all pairs of images and texts with ``similarity`` and
with the bare network, which do the same arithmetic. ``--device cuda`` does the same on a GPU,
``--published`` at the published size.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from _turns import report_epochs

from crossfit import Views
from crossfit.neural import Items
from crossfit_bssan.estimator import BSSAN

EIGHTH = {"lstm_width": 128, "w2r_mlp": (128, 64, 16), "bilstm_width": 64, "o2w_mlp": (64, 32, 8)}
FORTIETH = {"lstm_width": 24, "w2r_mlp": (24, 12), "bilstm_width": 12, "o2w_mlp": (12, 6)}
PUBLISHED = {
    "lstm_width": 1024, "w2r_mlp": (1024, 512, 128), "bilstm_width": 512, "o2w_mlp": (512, 256, 64)
}  # fmt: skip
# The plain loop has one random sentence per image, and the features as they are.
LOSS = {
    "mining": "random", "bidirectional": False, "n_components": None, "standardize": False,
    "dropout": 0.0, "optimizer": "SGD",
}  # fmt: skip


def data(n: int, regions: int, width: int, object_width: int, word_width: int) -> Views:
    """Return n pairs: a map, ten objects, and twelve words."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(size=(n, *shape)).astype(np.float32)

    image = {"map": drawn(regions, width), "objects": drawn(10, object_width)}
    return Views(image=image, text=drawn(12, word_width))


class PlainLoop:
    """Train with a hand-written loop, one epoch per call."""

    def __init__(self, method: BSSAN, views: Views, device: str) -> None:
        image, text = views["image"], views["text"]
        method.n_regions_ = image["map"].shape[1]
        n_inputs = {name: image[name].shape[-1] for name in image.names}
        self.module: Any = method._build_module({"image": n_inputs, "text": text.shape[-1]}, None)
        self.module.to(device).train()
        self.map, self.objects, self.words = (
            torch.tensor(np.asarray(part)).to(device)
            for part in (image["map"], image["objects"], text)
        )
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=1e-3, momentum=0.9)
        self.batch_size, self.method = method.batch_size, method

    def epoch(self) -> float:
        """Train for one epoch; return the sum of the batches' losses."""
        device = self.words.device
        total = 0.0
        for rows in torch.randperm(len(self.words), device=device).split(self.batch_size):
            self.optimizer.zero_grad()
            b = len(rows)
            image = self.module.image(
                {"map": Items(self.map[rows]), "objects": Items(self.objects[rows])}
            )
            text = self.module.text(Items(self.words[rows]))
            own = torch.arange(b, device=device)
            other = (own + torch.randint(1, b, (b,), device=device)) % b
            pairs = image.take(own[:, None]), text.take(torch.stack([own, other], 1))
            hinges = {
                name: (1 - part[..., 0] + part[..., 1]).clamp(min=0).mean()
                for name, part in self.module(*pairs).items()
            }
            loss = hinges["w2r"] + 0.6 * hinges["o2w"] + 1e-5 * self.module.squared_norm()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total


def compare(
    views: Views, widths: dict[str, Any], batch_size: int, epochs: int, device: str
) -> BSSAN:
    method = BSSAN(
        **widths, **LOSS, batch_size=batch_size, max_epochs=epochs, lr=1e-3, delta=1e-5,
        device=device, amp=False, random_state=0, verbose=0,
    )  # fmt: skip
    plain = PlainLoop(method, views, device)
    report_epochs(
        f"{device}, {len(views)} pairs, batch {batch_size:3d}, LSTM {method.lstm_width:4d}",
        lambda: method.fit(views),
        lambda _: plain.epoch(),
    )
    return method


def score(method: BSSAN, views: Views, device: str) -> None:
    """Time `similarity` against the bare network on the same pairs."""
    P, Q = (method._prepare(views[role], role).to(torch.device(device)) for role in views.names)
    whole, bare = [], []
    for _ in range(3):
        start = time.perf_counter()
        method.similarity(views)
        whole.append(time.perf_counter() - start)
        start = time.perf_counter()
        with torch.inference_mode():
            for i in range(0, len(P), 16):
                method._score_pairs(method.net_.module_, P[i : i + 16].parts, Q.parts).cpu()
        bare.append(time.perf_counter() - start)
    n = len(P) * len(Q)
    print(
        f"{device}, {len(P)} x {len(Q)} pairs, LSTM {method.lstm_width:4d}: {n / min(whole):8.0f} "
        f"pairs per second, the bare network {n / min(bare):8.0f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--published", action="store_true")
    chosen = parser.parse_args()
    if chosen.published:
        pairs = data(512, 196, 512, 4096, 300)
        method = compare(pairs, PUBLISHED, 128, chosen.epochs, chosen.device)
        score(method, pairs[:64], chosen.device)
    else:
        pairs = data(512, 16, 256, 256, 100)
        for widths in (EIGHTH, FORTIETH):
            method = compare(pairs, widths, 128, chosen.epochs, chosen.device)
            score(method, pairs[:200], chosen.device)
