"""The papers' probe of visual features: linear SVMs on VOC2007, layer by layer.

``python plugins/crossfit-topicnet/experiments/voc2007.py MODEL`` reads a bundle of a
TextTopicNet or SSVR trained on pictures, and prints the mAP of every layer beside the published
one. Needs the data set's official files in ``CROSSFIT_DATA`` or ``--root``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import crossfit
from crossfit.datasets import load
from crossfit_topicnet.probe import Probe, linear_probe

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
"""mAP in per cent: Patel et al. (2019), table 1."""


def run(model: Any, root: Path | None = None, **options: Any) -> dict[str, Probe]:
    """Probe every layer of a fitted model; `options` go to `crossfit.datasets.load`."""
    ds = load("voc2007", root, split="train-val-test", **options)
    parts = [ds[name] for name in ("train", "val", "test")]
    labels = [part.y for part in parts]
    difficult = tuple(part.info["difficult"] for part in parts)
    found = {}
    for layer in model.net_.module_.layers:
        features = [model.visual_features(part.views["image"], layer=layer) for part in parts]
        found[layer] = linear_probe(*zip(features, labels), difficult=difficult)
    return found


def table(found: Mapping[str, Probe]) -> str:
    """Return the mAP of every layer, in per cent, above the published ones."""
    layers = list(dict.fromkeys([*found, "max5", "pool5", "fc6", "fc7"]))
    here = {layer: 100 * probe.mean_average_precision for layer, probe in found.items()}
    lines = [f"| features | {' | '.join(layers)} |", "|---|" + "---|" * len(layers)]
    for name, row in {"this model": here, **PUBLISHED}.items():
        cells = [f"{row[layer]:.1f}" if layer in row else "" for layer in layers]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of the bundle")
    parser.add_argument("--root", type=Path, default=None, help="folder of the data set")
    given = parser.parse_args()
    print(table(run(crossfit.load(given.model), given.root)))
