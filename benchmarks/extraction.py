"""Speed of the image extractors, as ratios to what the machine can do, in one run.

``python benchmarks/extraction.py`` prints images per second of GridFeatures on 64 x 64 pictures
(beside scikit-image's HOG alone), of its cache, and of EfficientNet-Lite0 and AlexNet beside the
bare forward pass of the same batches.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable

import numpy as np


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """Return the best time of some runs, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def report(name: str, n: int, took: float, reference: float | None = None) -> None:
    ratio = "" if reference is None else f"   {took / reference:5.2f} x the reference's time"
    print(f"{name:52s} {n / took:9.0f} images/s{ratio}")


def grid(n: int = 512) -> None:
    from skimage.feature import hog

    from crossfit.extraction import GridFeatures

    images = np.random.default_rng(0).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)
    grey = images.mean(3)
    reference = seconds(
        lambda: [hog(image, 9, (8, 8), (1, 1), "L2-Hys", visualize=False) for image in grey]
    )
    report("reference: scikit-image HOG alone, 64 x 64", n, reference)
    for size in (48, 96):
        took = seconds(lambda size=size: GridFeatures(size=size, cache=False).transform(images))
        report(f"GridFeatures, resized to {size} x {size}", n, took, reference)
    cached = GridFeatures()
    start = time.perf_counter()
    cached.transform(images)
    report("GridFeatures, first run with cache", n, time.perf_counter() - start, reference)
    report("GridFeatures, from the cache", n, seconds(lambda: cached.transform(images)), reference)


def efficientnet(n: int = 64) -> None:
    import torch

    from crossfit_wheels.efficientnet import EfficientNetLite0, _network

    images = np.random.default_rng(0).integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)
    batches = (torch.tensor(images).permute(0, 3, 1, 2).float() - 127).div(128).split(32)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = _network(device)

    def bare() -> None:
        with torch.inference_mode():
            for batch in batches:
                network.extract_features(batch.to(device)).mean((2, 3)).cpu()

    reference = seconds(bare)
    report(f"reference: bare forward pass on {device}", n, reference)
    for output in ("pooled", "regions"):
        extractor = EfficientNetLite0(output, cache=False)
        took = seconds(lambda extractor=extractor: extractor.transform(images))
        report(f"EfficientNetLite0({output!r})", n, took, reference)


def backbone(n: int = 128) -> None:
    import torch
    from torchvision.models import alexnet

    from crossfit.extraction import Backbone

    images = np.random.default_rng(0).integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)
    batches = torch.tensor(images).permute(0, 3, 1, 2).float().div(255).split(32)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = alexnet(weights=None).features.eval().to(device)

    def bare() -> None:
        with torch.inference_mode():
            for batch in batches:
                network(batch.to(device)).cpu()

    reference = seconds(bare)
    report(f"reference: bare forward pass of AlexNet on {device}", n, reference)
    # Pictures of the network's own size: what is left of its own is the preparation of pixels.
    extractor = Backbone("alexnet", "pool5", None, resize=224, cache=False)
    took = seconds(lambda: extractor.transform(images))
    report("Backbone('alexnet', 'pool5')", n, took, reference)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CROSSFIT_CACHE"] = folder
        grid()
        efficientnet()
        backbone()
