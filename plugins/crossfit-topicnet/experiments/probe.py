"""Test the visual features of Gomez et al. (2017): linear SVMs on every layer of a network.

``python plugins/crossfit-topicnet/experiments/probe.py emoji`` trains TextTopicNet from random
weights on the pixels of the emoji set and the topics of its keywords, and prints how well the SVMs
classify, layer by layer, next to the same layers before training, raw pixels, and
EfficientNet-Lite0 (trained on ImageNet; needs crossfit-wheels).

``probe.py voc2007`` prints table 1 of Patel et al. (2019): every published row, and below it what
was computed here, if it was. ``--alexnet ImageNet=DEFAULT --alexnet Places=FILE`` computes rows by
the layers of torchvision's AlexNet with torchvision's weights or those of a local file, and
``--model SSVR=BUNDLE`` by any model that reads pictures: by the layers of TextTopicNet or SSVR, by
the common space of another method or pipeline, or by the features of an extractor of images. The
other rows are of networks whose weights crossfit cannot read; they have published figures only.

This is a script because an experiment file describes retrieval: a probe classifies pictures, one
view, with its own classifiers. With the classes as queries it would be retrieval too, but a class
belongs to many pictures and a picture to many classes, so that no groups of pairs would be left to
resample.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import crossfit
from crossfit.datasets import Dataset, load
from crossfit.extraction import Backbone, ImageExtractor
from crossfit.metrics import bootstrap_interval, holm, paired_test
from crossfit.views import as_numpy
from crossfit_topicnet.estimator import TextTopicNet
from crossfit_topicnet.probe import Probe, linear_probe

PARTS = ("train", "val", "test")
#: C of the SVMs on the emoji set, chosen on the validation pictures.
COSTS = tuple(10.0**power for power in range(-6, 0))
#: Layers of CaffeNet and AlexNet, in the order of the table.
LAYERS = ("max5", "pool5", "fc6", "fc7")
#: mAP in per cent: Patel et al. (2019), table 1.
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "SSVR": {"pool5": 53.8, "fc6": 54.9, "fc7": 56.8},
    "TextTopicNet (Wikipedia)": {"pool5": 51.9, "fc6": 54.2, "fc7": 55.8},
    "TextTopicNet (ImageCLEF)": {"pool5": 47.4, "fc6": 48.1, "fc7": 48.5},
    "Sound": {"max5": 39.4, "pool5": 46.7, "fc6": 47.1, "fc7": 47.4},
    "Texton-CNN": {"max5": 28.9, "pool5": 37.5, "fc6": 35.3, "fc7": 32.5},
    "K-means": {"max5": 27.5, "pool5": 34.8, "fc6": 33.9, "fc7": 32.1},
    "Tracking": {"max5": 33.5, "pool5": 42.2, "fc6": 42.4, "fc7": 40.2},
    "Patch position": {"max5": 26.8, "pool5": 46.1},
    "Egomotion": {"max5": 22.7, "pool5": 31.1},
    "ImageNet": {"max5": 63.6, "pool5": 65.6, "fc6": 69.6, "fc7": 73.6},
    "Places": {"max5": 59.0, "pool5": 63.2, "fc6": 65.3, "fc7": 66.2},
}


def voc2007(
    model: Any, root: Path | None = None, *, view: str = "image", **options: Any
) -> dict[str, Probe]:
    """Return the probes of a fitted model on VOC2007, by the name of the features.

    `model` is a method or pipeline that encodes pictures of the view `view`, an extractor of
    images, or functions of pictures by name; `options` are passed to `crossfit.datasets.load`.
    """
    ds = load("voc2007", root, split="train-val-test", **options)
    parts = [ds[name] for name in PARTS]
    difficult = tuple(part.info["difficult"] for part in parts)
    found = {}
    found_by = model if isinstance(model, Mapping) else ways(model, view)
    for name, features in found_by.items():
        labelled = [(flat(features(part.views["image"])), part.y) for part in parts]
        found[name] = linear_probe(*labelled, difficult=difficult)
    return found


def ways(model: Any, view: str) -> dict[str, Callable[[Any], Any]]:
    """Return the functions that map pictures to features, by name."""
    if isinstance(model, TextTopicNet):
        layers = model.net_.module_.layers
        return {layer: partial(model.visual_features, layer=layer) for layer in layers}
    if isinstance(model, ImageExtractor):
        return {"features": model.transform}
    return {"encoding": partial(crossfit.encode, model, view=view)}


def alexnet(weights: str | Path | None) -> dict[str, Callable[[Any], Any]]:
    """Return the functions that map pictures to the layers of torchvision's AlexNet.

    `weights` are those of `Backbone`. Pictures are read as by Caffe, 227 pixels wide.
    """

    def layer(name: str, pictures: Any) -> Any:
        # max5 is the maximum of each channel of conv5, as in TextTopicNet.
        conv5 = {"layer": "conv5", "output": "map"} if name == "max5" else {"layer": name}
        network = Backbone("alexnet", weights=weights, square=True, size=227, **conv5)
        found = network.fit_transform(pictures)
        return found.max(axis=(2, 3)) if name == "max5" else found

    return {name: partial(layer, name) for name in LAYERS}


def flat(features: Any) -> np.ndarray:
    """Return one vector per picture."""
    array = as_numpy(features)
    return array.reshape(len(array), -1)


def published_table(found: Mapping[str, Mapping[str, Probe]]) -> str:
    """Return the published rows, and below each the mAP by layer, in per cent, that was found."""
    layers = list(dict.fromkeys([*LAYERS, *(layer for row in found.values() for layer in row)]))
    lines = [f"| features | mAP | {' | '.join(layers)} |", "|---|---|" + "---|" * len(layers)]

    def add(name: str, kind: str, row: Mapping[str, float]) -> None:
        cells = [f"{row[layer]:.1f}" if layer in row else "" for layer in layers]
        lines.append(f"| {name} | {kind} | {' | '.join(cells)} |")

    for name in dict.fromkeys([*PUBLISHED, *found]):
        if name in PUBLISHED:
            kind = "published" if name in found else "published, not computed here"
            add(name, kind, PUBLISHED[name])
        if name in found:
            here = {layer: 100 * part.mean_average_precision for layer, part in found[name].items()}
            add(name, "here", here)
    return "\n".join(lines)


def network(lr: float, epochs: int, seed: int) -> TextTopicNet:
    """Return TextTopicNet with a narrow CaffeNet for pictures of 67 x 67."""
    return TextTopicNet(
        hidden=(256, 256), init="kaiming", image_size=67, module__channels=(32, 64, 64, 64, 64),
        n_topics=40, no_below=2, minimum_probability=0.01, lr=lr, lr_step=None, batch_size=32,
        max_epochs=epochs, random_state=seed, device="cpu", verbose=0,
    )  # fmt: skip


def emoji(ds: Dataset, lr: float, epochs: int, seeds: int) -> dict[str, list[Probe]]:
    """Return the probes by features, one for each seed."""
    pictures = {name: ds[name].views["image"] for name in PARTS}
    texts = ds["train"].views["text"]
    classes = np.unique(ds["train"].y)
    y = {name: (ds[name].y[:, None] == classes).astype(int) for name in PARTS}

    def probe(features: Mapping[str, Any]) -> Probe:
        parts = ((features[name], y[name]) for name in PARTS)
        return linear_probe(*parts, costs=COSTS, interpolation="none")

    found: dict[str, list[Probe]] = {}
    for seed in range(seeds):
        # A rate that changes nothing: the random weights that the same seed starts from.
        for kind, settings in (("trained", (lr, epochs)), ("random", (1e-12, 1))):
            model = network(*settings, seed).fit(pictures["train"], texts)
            for layer in ("pool5", "fc6", "fc7"):
                features = {n: model.visual_features(p, layer=layer) for n, p in pictures.items()}
                found.setdefault(f"{layer}, {kind}", []).append(probe(features))
    small = {
        name: np.stack([np.asarray(Image.fromarray(p).resize((16, 16))).ravel() for p in part])
        for name, part in pictures.items()
    }
    found["pixels, 16 x 16"] = [probe(small)]
    lite = crossfit.registry.load("efficientnet-lite0", "crossfit.extractors")()
    found["EfficientNet-Lite0, trained on ImageNet"] = [
        probe({name: lite.fit_transform(part) for name, part in pictures.items()})
    ]
    return found


def emoji_table(found: Mapping[str, list[Probe]], ds: Dataset) -> str:
    """Return mAP and accuracy by features, and the differences between trained and random."""
    y, groups = ds["test"].y, ds["test"].views.groups
    classes = np.unique(ds["train"].y)
    right = {
        name: np.mean([classes[one.scores.argmax(axis=1)] == y for one in probes], axis=0)
        for name, probes in found.items()
    }
    lines = ["| features | mAP | seeds | accuracy |", "|---|---|---|---|"]
    for name, probes in found.items():
        values = [100 * one.mean_average_precision for one in probes]
        low, high = bootstrap_interval(right[name], groups=groups)
        spread = f"{np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        lines.append(
            f"| {name} | {np.mean(values):.1f} | {spread} | {right[name].mean():.3f} "
            f"[{low:.3f}, {high:.3f}] |"
        )
    layers = [name.partition(",")[0] for name in found if name.endswith(", trained")]
    tests = [
        paired_test(right[f"{layer}, trained"], right[f"{layer}, random"], groups=groups)
        for layer in layers
    ]
    lines += ["", "| layer | difference | 95 % interval | p | p, Holm |", "|---|---|---|---|---|"]
    for layer, test, p in zip(layers, tests, holm([test.p_value for test in tests])):
        lines.append(
            f"| {layer} | {test.difference:+.3f} | [{test.low:+.3f}, {test.high:+.3f}] | "
            f"{test.p_value:.4f} | {p:.4f} |"
        )
    return "\n".join(lines)


def named(text: str) -> tuple[str, str]:
    """Return the row and the file of ``ROW=FILE``."""
    row, _, file = text.partition("=")
    if not row or not file:
        raise argparse.ArgumentTypeError(f"must have the form ROW=FILE, got {text!r}")
    return row, file


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=["emoji", "voc2007"])
    parser.add_argument("--model", type=named, action="append", default=[], metavar="ROW=BUNDLE",
                        help="compute a row of voc2007 by a model; repeatable")  # fmt: skip
    parser.add_argument("--alexnet", type=named, action="append", default=[], metavar="ROW=WEIGHTS",
                        help="compute a row of voc2007 by AlexNet: a file, or DEFAULT for "
                        "torchvision's weights; repeatable")  # fmt: skip
    parser.add_argument("--view", default="image", help="view of the model that takes pictures")
    parser.add_argument("--root", type=Path, default=None, help="folder of the data set")
    # Chosen on the validation pictures among 0.003 and 0.01, and 10, 20 and 30 epochs.
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if given.data == "emoji":
        data = load("emoji")
        print(emoji_table(emoji(data, given.lr, given.epochs, given.seeds), data))
    else:
        models = {row: crossfit.load(bundle) for row, bundle in given.model}
        models |= {row: alexnet(weights) for row, weights in given.alexnet}
        print(published_table(
            {row: voc2007(model, given.root, view=given.view) for row, model in models.items()}
        ))  # fmt: skip
