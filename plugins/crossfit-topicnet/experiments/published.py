"""The papers' protocol: train on Wikipedia's images, test on two sets that training never saw.

``python plugins/crossfit-topicnet/experiments/published.py OUT`` trains SSVR, or with ``--method
texttopicnet`` TextTopicNet, on the data set ``wikipedia-captions`` (or ``--train
imageclef-wikipedia``), saves it as the bundle OUT, and prints mAP on the test pairs of
``wikipedia`` and on all pairs of ``pascal-sentences`` next to the published figures. If
training is killed, it resumes from the checkpoint OUT.pt. ``probe.py`` has the papers'
other tests.

This is a script because an experiment file trains and tests on the same data set.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import crossfit
from crossfit import evaluate
from crossfit.datasets import load
from crossfit.neural import Checkpoint
from crossfit_topicnet.estimator import SSVR, TextTopicNet

METHODS = {"ssvr": SSVR, "texttopicnet": TextTopicNet}
SETTINGS: dict[str, Any] = {
    "hidden": (4096, 4096), "dropout": 0.5, "n_topics": 40, "minimum_probability": 0.01,
    "image_size": 227, "init": "caffe", "optimizer": "SGD", "lr": 1e-3, "momentum": 0.9,
    "weight_decay": 5e-4, "bias_lr": 2.0, "lr_gamma": 0.1,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "ssvr": {"batch_size": 128, "lr_step": 200_000, "max_epochs": 36},
    "texttopicnet": {"batch_size": 64, "lr_step": 50_000, "max_epochs": 100},
}
"""36 epochs of 1.8 million images are 500,000 batches of 128; 100 epochs are not published."""

PUBLISHED = {
    ("wikipedia", "ssvr", "wikipedia-captions"): (0.3910, 0.4340),
    ("wikipedia", "texttopicnet", "wikipedia-captions"): (0.3763, 0.4025),
    ("wikipedia", "texttopicnet", "imageclef-wikipedia"): (0.3958, 0.3816),
    ("pascal-sentences", "ssvr", "wikipedia-captions"): (0.326, 0.360),
    ("pascal-sentences", "texttopicnet", "wikipedia-captions"): (0.301, 0.352),
    ("pascal-sentences", "texttopicnet", "imageclef-wikipedia"): (0.264, 0.316),
}
"""mAP, images as queries and texts as queries: Patel et al. (2019), tables 2 and 3."""

HEADS = {"wikipedia": "article", "pascal-sentences": "caption"}
"""Which head answers for articles and which for sentences; the paper does not state it."""


def train(method: str, source: str, out: Path, **params: Any) -> TextTopicNet:
    """Train with the published settings, except what `params` change."""
    text = "both" if method == "ssvr" else "article"
    views = load(source, text=text)["train"].views
    checkpoint = Checkpoint(Path(f"{out}.pt"))
    settings = {**SETTINGS, **OWN[method], **params}
    model = METHODS[method](callbacks=[checkpoint], random_state=0, **settings).fit(views)
    # A bundle holds what was learned; the checkpoint is only for a training that is not complete.
    crossfit.save(model, out)
    return model


def rows(model: TextTopicNet, method: str, source: str) -> list[str]:
    """Return a line of the table for every test set."""
    lines = []
    for name, head in HEADS.items():
        options = {"features": None, "subsets": ["test"]} if name == "wikipedia" else {}
        test = load(name, **options)["test"]
        if isinstance(model, SSVR):
            model.set_params(head=head)
        found = evaluate(model.similarity(test.views), (test.y, test.y), names=("image", "text"))
        here = [found.mean(way, "map@all") for way in found.directions]
        known = PUBLISHED.get((name, method, source), (float("nan"),) * 2)
        cells = [f"{value:.3f} ({paper:.3f})" for value, paper in zip(here, known)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the bundle")
    parser.add_argument("--method", choices=METHODS, default="ssvr")
    parser.add_argument("--train", default="wikipedia-captions")
    given = parser.parse_args()
    fitted = (
        crossfit.load(given.out)
        if given.out.exists()
        else train(given.method, given.train, given.out)
    )
    print("| mAP (published) | image → text | text → image |\n|---|---|---|")
    print("\n".join(rows(fitted, given.method, given.train)))
