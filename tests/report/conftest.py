"""A store with runs of simulated methods on the emoji set, for reports and tables."""

from __future__ import annotations

import numpy as np
import pytest

from crossfit.datasets import load
from crossfit.experiment.keys import key_of
from crossfit.experiment.store import Store
from crossfit.metrics import (
    chance_level,
    evaluate,
    interpolated_precision_recall,
    recall_at_k_curve,
)
from crossfit.scoring import relevance_of

METRICS = ("map@all", "r@1", "r@10", "medr")
HOSTILE = "bad </td><script>window.pwned = 1</script> & $x_1$ 100%"
NAMES = ("image", "text")


def planted(test, strength, seed):
    """Return scores that depend on the pairs and the classes with given strengths."""
    rng = np.random.default_rng(seed)
    n = len(test)
    same = np.equal.outer(test.y, test.y)
    noise = rng.standard_normal((n, n))
    return (strength * (same + 2 * np.eye(n)) + noise).astype(np.float32)


def evaluated(test, scores):
    """Return the record and the arrays of a cell, as a runner stores them."""
    by_label = relevance_of(test.views, *NAMES, test.y)
    by_pair = relevance_of(test.views, *NAMES, None)
    groups = (test.views.groups, test.views.groups)
    record = {"results": {}, "chance": {}, "hubness": {}, "abstention": {}, "curves": {}}
    arrays = {}
    for relevance, metrics in ((by_label, ("map@all", "meanr")), (by_pair, METRICS[1:])):
        found = evaluate(scores, relevance, metrics, groups=groups, names=NAMES)
        chance = chance_level(relevance, metrics, names=NAMES)
        for direction in found.directions:
            for metric in metrics:
                if metric == "meanr":
                    arrays[f"{direction}|first"] = found.per_query[direction, metric]
                    continue
                low, high = found.interval(direction, metric)
                record["results"].setdefault(direction, {})[metric] = {
                    "mean": found.mean(direction, metric), "low": low, "high": high, "n": len(test)
                }  # fmt: skip
                record["chance"].setdefault(direction, {})[metric] = chance.mean(direction, metric)
                arrays[f"{direction}|{metric}"] = found.per_query[direction, metric]
    for side, direction in zip(("forward", "backward"), ("image2text", "text2image")):
        matrix = scores if side == "forward" else scores.T
        arrays[f"{direction}|groups"] = test.views.groups
        top = np.argsort(-matrix, axis=1)[:, :10]
        arrays[f"{direction}|top"] = top
        arrays[f"{direction}|top_scores"] = np.take_along_axis(matrix, top, 1)
        ks, recall = recall_at_k_curve(scores, by_pair, (1, 5, 10, 50, 100), direction=side)
        levels, precision = interpolated_precision_recall(scores, by_label, direction=side)
        record["curves"][direction] = {
            "recall": [ks.tolist(), recall.tolist()],
            "pr": [levels.tolist(), precision.tolist()],
        }
        record["hubness"][direction] = {"skewness": 1.0, "max": 20, "never": 0.1}
        record["abstention"][direction] = {"max": 0.25, "std": -0.125, "diff1": None}
    return record, arrays


def trials():
    """Return search parameters: a number over decades, a few words, and a constant."""
    return [
        {"number": i, "value": i / 20 if i < 8 else None,  # the last was pruned
         "params": {"lr": 10.0 ** (-i / 2), "act": ("tanh", "relu")[i % 2], "width": 8}}
        for i in range(9)
    ]  # fmt: skip


def attention():
    """Return one map each of a grid, of words, of boxes, and of words over regions; two numbers."""
    words = np.array(["a", "<em>red</em>", "heart"])
    maps = [
        {"weights": np.eye(9)[4], "view": "image"},
        {"weights": np.array([0.1, 0.2, 0.7]), "view": "text", "words": words},
        {"weights": np.array([[0.5, 0.5]]), "view": "image",
         "regions": np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]])},
        {"weights": np.full((3, 5), 0.2), "view": "w2r", "words": words},
        {"weights": np.full(7, 1 / 7), "view": "neither words nor a grid"},
        {"weights": np.array([0.0478]), "view": "image", "quantity": "variance"},
        {"weights": np.array([1.5]), "view": "text", "quantity": "variance"},
    ]  # fmt: skip
    return {
        f"{i}|{name}": np.asarray(part)
        for i, found in enumerate(maps)
        for name, part in {**found, "item": 3, "query": "a <u>query</u>"}.items()
    }


def _cell(ds, name, params, seed, **protocol):
    return {
        "dataset": {"name": "emoji", "params": {}, "revision": ds.revision, "subset": {},
                    "splits": {"train": "train", "validation": "val", "test": "test"}},
        "features": {},
        "method": {"name": name, "distribution": "planted", "version": "1.0", "params": params,
                   "similarity": None},
        "seed": seed,
        "protocol": {"metrics": list(METRICS), "relevance": "auto", "ties": "expected",
                     "tuning": None, "tune": None, **protocol},
    }  # fmt: skip


@pytest.fixture(scope="session")
def report_store(tmp_path_factory):
    """Write the runs ``main`` (many methods, seeds, failures) and ``second`` (one more method)."""
    ds = load("emoji")
    test = ds["test"]
    store = Store(tmp_path_factory.mktemp("reported") / "store")
    wanted = [
        # label, registry name, params, strength, seeds
        ("good", "net", {"width": 8}, 1.0, (0, 1, 2)),
        ("twin", "net", {"width": 9}, 1.0, (3, 4, 5)),
        ("middle", "pls", {}, 0.6, (6,)),
        (HOSTILE, "cm", {}, 0.1, (7,)),
        *((f"CCA {k}", "cca", {"n_components": k}, k / 20, (10 + k,)) for k in (2, 4, 8)),
    ]
    runs = {"main": wanted, "second": [("late", "kcca", {}, 0.8, (30,))]}
    for run, methods in runs.items():
        cells, specs = [], []
        for label, name, params, strength, seeds in methods:
            published = {"map@all": {"i2t": 0.4, "text2image": 0.1, "mean": 0.25}}
            specs.append(
                {"method": name, "label": label, "params": params,
                 "published": published if label == "good" else {}}
            )  # fmt: skip
            for seed in seeds:
                keyed = _cell(ds, name, params, seed)
                key = key_of(keyed)
                record, arrays = evaluated(test, planted(test, strength, seed))
                net = name == "net"
                history = [
                    {"epoch": e, "train_loss": 2.0 / e, "valid_loss": 2.5 / e, "dur": 0.1}
                    for e in range(1, 6)
                ]
                store.write_cell(
                    key,
                    {"status": "done", "cell": keyed, **record,
                     "chosen": {"lr": 0.01} if net else {},
                     "tuning": {"trials": 9, "best_value": 0.4, "metric": "map@all",
                                "seconds": 12.0, "on": "3 folds of train"} if net else {},
                     "timing": {"fit": 1.0 + strength, "score": 0.1, "total": 2.0},
                     "memory": {"peak_rss_mib": 300.0},
                     "size": {"parameters": 1000 * seed + 1 if net else None,
                              "dimensions": params.get("n_components", 10)},
                     "n": {"train": 900, "test": {"image": len(test), "text": len(test)}},
                     "relevant": {"map@all": "label", "r@1": "pair", "r@10": "pair",
                                  "medr": "pair", "first": "label", "recall curve": "pair"},
                     "environment": {"python": "3.12.0", "platform": "Linux",
                                     "packages": {"numpy": "2.1.0"}},
                     "warnings": ["UserWarning: <em>careful</em>"] if label == "middle" else []},
                    arrays, attention=attention() if label == "good" else None,
                    history=history if net else (), trials=trials() if net else (),
                )  # fmt: skip
                store.count_test("emoji", "test", key)
                cells.append({"key": key, "method": label, "dataset": "emoji", "seed": seed,
                              "features": "planted"})  # fmt: skip
        if run == "main":
            extra = {
                "failed": {"traceback": 'Traceback\n  File "x.py"\nValueError: <b>no</b>'},
                "skipped": {"reason": "needs the distribution crossfit-cran"},
                "pending": None,
            }
            for status, about in extra.items():
                keyed = _cell(ds, status, {}, 0)
                key = key_of(keyed)
                if about is not None:
                    store.write_cell(key, {"status": status, "cell": keyed, **about})
                cells.append({"key": key, "method": f"never {status}", "dataset": "emoji",
                              "seed": 0, "features": ""})  # fmt: skip
        store.write_run(
            run,
            {"title": "Planted methods, reduced" if run == "main" else "A later run",
             "spec": {"methods": specs, "metrics": list(METRICS), "baseline": None,
                      "reduced": run == "main"},
             "cells": cells, "command": f"crossfit run {run}.yaml --seeds 0,1 'a b'",
             "created": "2026-01-01T00:00:00+00:00", "crossfit version": "0.1.0"},
        )  # fmt: skip
    return store
