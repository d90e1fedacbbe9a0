"""Does a network learn visual features from the topics of keywords, without any labels?

``python plugins/crossfit-topicnet/experiments/emoji.py`` trains TextTopicNet from random weights on
the pixels of the emoji set and the topics of its keywords, three seeds, and asks the papers'
question of every layer: how well does a linear SVM tell the classes from what the layer gives? The
same layers before any training, raw pixels, and EfficientNet-Lite0 (trained on ImageNet, as the
papers' supervised row) stand beside it. Writes ``docs/reproduction/texttopicnet.md``. Learning rate
and epochs are chosen on the validation pairs. Needs crossfit-wheels.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossfit.datasets import load
from crossfit.metrics import bootstrap_interval, holm, paired_test
from crossfit.neural import listening
from crossfit_topicnet.estimator import TextTopicNet
from crossfit_topicnet.probe import Probe, linear_probe
from crossfit_wheels.efficientnet import EfficientNetLite0

SEEDS = (0, 1, 2)
RATES = (0.003, 0.01)
EPOCHS, EVERY = 30, 10
LAYERS = ("pool5", "fc6", "fc7")
COSTS = tuple(10.0**power for power in range(-6, 0))
PARTS = ("train", "val", "test")


def network(lr: float, epochs: int, seed: int) -> TextTopicNet:
    """Return TextTopicNet with a narrow CaffeNet for pictures of 67 x 67."""
    return TextTopicNet(
        hidden=(256, 256), init="kaiming", image_size=67, module__channels=(32, 64, 64, 64, 64),
        n_topics=40, no_below=2, minimum_probability=0.01, lr=lr, lr_step=None, batch_size=32,
        max_epochs=epochs, random_state=seed, device="cpu", verbose=0,
    )  # fmt: skip


def probe(features: dict[str, NDArray[Any]], y: dict[str, NDArray[Any]]) -> Probe:
    """Return the probe of one kind of features; C is chosen on the validation pairs."""
    return linear_probe(
        *((features[name], y[name]) for name in PARTS), costs=COSTS, interpolation="none"
    )


def layers_of(model: TextTopicNet, pictures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what every layer gives, by layer and split."""
    return {
        layer: {name: model.visual_features(part, layer=layer) for name, part in pictures.items()}
        for layer in LAYERS
    }


def validated(model: TextTopicNet, pictures: dict[str, Any], y: dict[str, Any]) -> float:
    """Return how well fc7 tells the classes of the validation pairs, by SVMs of the training."""
    X, t = model.visual_features(pictures["train"]), y["train"]
    held = model.visual_features(pictures["val"]), y["val"]
    halves = [(X[start::2], t[start::2]) for start in (0, 1)]
    return linear_probe(*halves, held, costs=COSTS, interpolation="none").mean_average_precision


def run() -> tuple[dict[str, list[Probe]], dict[str, str], Any]:
    """Return probes by features and seed, what was chosen, and the data set."""
    start = time.perf_counter()
    ds = load("emoji")
    pictures = {name: ds[name].views["image"] for name in PARTS}
    texts = ds["train"].views["text"]
    classes = np.unique(ds["train"].y)
    y = {name: (ds[name].y[:, None] == classes).astype(int) for name in PARTS}
    heard: list[tuple[float, float, int]] = []
    for lr in RATES:

        def hear(estimator: Any, epoch: int, record: Any, lr: float = lr) -> None:
            if epoch % EVERY == 0:
                heard.append((validated(estimator, pictures, y), lr, epoch))

        with listening(hear):
            network(lr, EPOCHS, SEEDS[0]).fit(pictures["train"], texts)
    score, lr, epochs = max(heard)
    chosen = {"TextTopicNet": f"lr {lr:g}, {epochs} epochs (validation mAP of fc7 {score:.3f})"}
    print(f"{time.perf_counter() - start:.0f} s  {chosen}", flush=True)
    found: dict[str, list[Probe]] = {}
    for seed in SEEDS:
        trained = network(lr, epochs, seed).fit(pictures["train"], texts)
        # A rate that changes nothing: the random weights that the same seed starts from.
        random = network(1e-12, 1, seed).fit(pictures["train"], texts)
        for name, model in (("trained", trained), ("random", random)):
            for layer, features in layers_of(model, pictures).items():
                found.setdefault(f"{layer}, {name}", []).append(probe(features, y))
        print(f"{time.perf_counter() - start:.0f} s  seed {seed}", flush=True)
    small = {
        name: np.stack([np.asarray(Image.fromarray(p).resize((16, 16))) for p in part])
        for name, part in pictures.items()
    }
    found["pixels, 16 x 16"] = [probe({n: p.reshape(len(p), -1) for n, p in small.items()}, y)]
    lite = EfficientNetLite0()
    found["EfficientNet-Lite0, trained on ImageNet"] = [
        probe({name: lite.fit_transform(part) for name, part in pictures.items()}, y)
    ]
    return found, chosen, ds


def right(probes: list[Probe], y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return for every test image the share of seeds that name its class."""
    return np.mean([classes[one.scores.argmax(axis=1)] == y for one in probes], axis=0)


def page(found: dict[str, list[Probe]], chosen: dict[str, str], ds: Any) -> str:
    """Return the reproduction card as Markdown."""
    y, groups = ds["test"].y, ds["test"].views.groups
    classes = np.unique(ds["train"].y)
    lines = [
        "# TextTopicNet from pixels: does it learn visual features? Reduced",
        "",
        "Gomez et al. (2017) and Patel et al. (2019) train AlexNet from scratch to predict the "
        "topics of the text around an image, and find its layers useful to linear SVMs on VOC2007: "
        "mAP of fc7 48.5 (ImageCLEF), 55.8 (Wikipedia) and 56.8 (SSVR), against 73.6 of ImageNet's "
        "labels.",
        "",
        "This is a **reduced** run, by `plugins/crossfit-topicnet/experiments/emoji.py`: the emoji "
        f"set (revision `{ds.revision[:12]}`; {len(ds['train'])} training pairs of a picture and "
        "its keywords), pictures of 67 x 67, CaffeNet with convolutions of 32 and 64 channels and "
        "layers of 256, from random weights. No label is used in training. The SVMs then learn "
        f"the {len(classes)} classes from training and validation pictures (C chosen on "
        f"validation) and are tested on {len(y)} pictures. It says nothing about the papers' data.",
        "",
        "mAP is the mean over classes of the average precision; accuracy is of the highest of the "
        "SVMs' scores, in brackets a 95 % bootstrap interval over groups of near-duplicate "
        f"pictures. Means of {len(SEEDS)} seeds, with the standard deviation of mAP.",
        "",
        "| features | mAP | seeds | accuracy |",
        "|---|---|---|---|",
    ]
    for name, probes in found.items():
        values = [100 * one.mean_average_precision for one in probes]
        hits = right(probes, y, classes)
        low, high = bootstrap_interval(hits, groups=groups)
        spread = f"{np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        lines.append(
            f"| {name} | {np.mean(values):.1f} | {spread} | {hits.mean():.3f} "
            f"[{low:.3f}, {high:.3f}] |"
        )
    tests = {
        layer: paired_test(
            *(right(found[f"{layer}, {kind}"], y, classes) for kind in ("trained", "random")),
            groups=groups,
        )
        for layer in LAYERS
    }
    adjusted = holm([test.p_value for test in tests.values()])
    lines += [
        "", f"Chosen on the validation pairs: {chosen['TextTopicNet']}.", "",
        "Differences of accuracy, trained less random weights, image by image, averaged over the "
        "seeds; randomisation test that exchanges whole groups, 10,000 draws.", "",
        "| layer | difference | 95 % interval | p | p, Holm |", "|---|---|---|---|---|",
    ]  # fmt: skip
    better, worse = [], []
    for (layer, test), p in zip(tests.items(), adjusted):
        lines.append(
            f"| {layer} | {test.difference:+.3f} | [{test.low:+.3f}, {test.high:+.3f}] | "
            f"{test.p_value:.4f} | {p:.4f} |"
        )
        if p < 0.05:
            (better if test.difference > 0 else worse).append(layer)
    said = []
    if better:
        said.append(f"training on topics makes {', '.join(better)} better than random weights")
    if worse:
        said.append(f"training on topics makes {', '.join(worse)} worse than random weights")
    if unclear := [layer for layer in LAYERS if layer not in better + worse]:
        said.append(f"for {', '.join(unclear)} no difference can be told")
    lines += ["", f"**Here, at a level of 5 % after Holm: {'; '.join(said)}.**", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/reproduction/texttopicnet.md"))
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(*run()), encoding="utf-8")
    print(f"wrote {out}")
