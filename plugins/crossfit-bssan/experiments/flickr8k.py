"""Does the paper's order, o2w < w2r < both, hold on a part of Flickr8k?"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crossfit import Ragged, Views
from crossfit.datasets import load
from crossfit.extraction import OnnxDetector, WordVectors, make_regions
from crossfit_wheels.efficientnet import EfficientNetLite0

N_TRAIN, N_HELD_OUT, N_TEST = 3000, 400, 500
GRID = 4


def regions_of(pictures: NDArray[Any]) -> NDArray[np.float32]:
    """Return the 7 x 7 regions of EfficientNet-Lite0, (n, 49, 1280)."""
    return EfficientNetLite0(output="regions").transform(pictures)


def pooled(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 7 x 7 regions pooled to 4 x 4, (n, 16, 1280)."""
    grid = torch.from_numpy(maps).transpose(1, 2).reshape(len(maps), -1, 7, 7)
    smaller = torch.nn.functional.adaptive_avg_pool2d(grid, GRID)
    return np.ascontiguousarray(smaller.flatten(2).transpose(1, 2).numpy())


def objects_of(pictures: NDArray[Any], maps: NDArray[np.float32]) -> Ragged:
    """Return detected boxes, each with the mean of the 7 x 7 cells under it, by area."""
    detector = OnnxDetector(
        os.path.join(os.environ["CROSSFIT_DATA"], "fastestdet", "FastestDet.onnx"),
        top_k=10, score_threshold=0.4,
    )  # fmt: skip
    found = detector.transform(pictures)
    boxes = found.info["boxes"]
    edges = np.arange(8) / 7

    def share(low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
        inside = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        return inside.clip(min=1e-6)

    cover = share(boxes[:, 1], boxes[:, 3])[:, :, None] * share(boxes[:, 0], boxes[:, 2])[:, None]
    cover = cover.reshape(len(boxes), -1)
    cover /= cover.sum(axis=1, keepdims=True)
    owner = np.repeat(np.arange(len(pictures)), found.lengths)
    vectors = np.concatenate(
        [np.einsum("kr,krd->kd", c, maps[o])
         for c, o in zip(np.array_split(cover, 50), np.array_split(owner, 50))]
    ).astype(np.float32)  # fmt: skip
    return Ragged(vectors, found.offsets, found.info)
