"""The loss of quantised vectors on Flickr8k; needs its features in CROSSFIT_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from crossfit.retrieval import quantize
from crossfit.subspace import CCA


def main() -> None:
    folder = Path(os.environ["CROSSFIT_DATA"]) / "flickr8k"
    with np.load(folder / "features_train_dev.npz") as held:
        pictures = held["image_efficientnet_lite0"].astype(np.float32)
        captions = held["caption_minilm_l6"].astype(np.float32)
        of = held["caption_image_index"]
    first = np.searchsorted(of, np.arange(6000))
    cca = CCA(256).fit(pictures[:6000], captions[first])
    asked = np.flatnonzero((of >= 6000) & (of < 7000))
    gallery = _unit(cca.encode(pictures[6000:7000], "image"))
    queries = _unit(cca.encode(captions[asked], "text"))
    exact = np.argsort(-(queries @ gallery.T), axis=1, kind="stable")[:, :10]
    right = of[asked] - 6000
    integers = quantize(gallery, calibration=_unit(cca.encode(pictures[:6000], "image")))
    bits = quantize(gallery, "binary")
    both = integers.nbytes + bits.nbytes
    for name, size, found in (
        ("float32", gallery.nbytes, exact),
        ("8-bit integers", integers.nbytes, integers.search(queries).indices),
        ("bits, 4 candidates, signs", bits.nbytes, bits.search(queries).indices),
        ("bits, 4, integers", both, bits.search(queries, rescore=integers).indices),
        ("bits, 16, integers", both,
         bits.search(queries, rescore=integers, oversample=16).indices),
    ):  # fmt: skip
        recall = [float(np.mean((found[:, :k] == right[:, None]).any(axis=1))) for k in (1, 5, 10)]
        shared = np.mean([len({*a} & {*b}) / 10 for a, b in zip(found.tolist(), exact.tolist())])
        print(f"{name:28} {size / 1000:6.0f} kB", *(f"{r:.3f}" for r in recall), f"{shared:.3f}")


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
