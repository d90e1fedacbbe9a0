"""Experiment files written for a user's own pairs, to be changed and run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossfit import registry
from crossfit._packed import is_file
from crossfit.extraction.formats import PICTURE_SUFFIXES, SOUND_SUFFIXES

__all__ = ["default_features", "written_experiment"]

#: Extractors by kind of item, the first that is installed.
_EXTRACTORS: dict[str, tuple[Any, ...]] = {
    "picture": ("efficientnet-lite0", "grid"),
    "sound": ("log-mel:output=moments",),
    "text": ("minilm", None),
}
_WORDS = [
    {
        "name": "sklearn.feature_extraction.text.TfidfVectorizer",
        "params": {"sublinear_tf": True},
    },
    {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 100}},
]
_TEMPLATE = """\
# Methods compared on {name}: {sizes}.
#   crossfit run FILE                  computes it, and continues where it stopped
#   crossfit run FILE --dry-run        lists what would be computed
#   crossfit report RUN                writes tables and plots with tests (run states its name)
title: Methods on {name}
dataset:
  name: {stem}
  table: {table}  # a relative path starts at the folder of the command
{columns}\
{held_out}\

# Extractors by view; `crossfit list extractors` lists them.
{features}\

# The first measure decides between settings. With labels, map@all counts all items of a class.
metrics: [{metrics}]

# More seeds show how much a method depends on chance.
seeds: [0]

# Settings are chosen on the training pairs alone: {chosen_on}.
tuning: {tuning}

# `crossfit list methods` lists them. With `tune: default` a method is tuned in its own search
# space; without it, its defaults and `params` are used.
methods:
  - {{method: cca, label: CCA}}
  - {{method: cca, label: CCA tuned, tune: default}}
  - {{method: procrustes, label: Procrustes}}
  - {{method: ridge-map, label: ridge map tuned, tune: default}}
"""


def written_experiment(
    source: str | os.PathLike[str],
    dataset: Any,
    features: Mapping[str, Any],
    options: Mapping[str, Any],
) -> str:
    """Return an experiment on a user's own pairs as YAML with comments.

    Parameters
    ----------
    source : path
        The pairs, as they are named in the file.
    dataset : Dataset
        The pairs, as `crossfit.datasets.read_pairs` reads them.
    features : mapping of str to object
        Extractors by view, as in experiment files; other views have those of `default_features`.
    options : mapping of str to object
        Options with which the pairs were read.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If a view is not one of the pairs, or needs an extractor that must be named.
    """
    views = next(iter(dataset.splits.values())).views
    if unknown := [view for view in features if view not in views]:
        raise ValueError(
            f"there is no view {unknown[0]!r}: the views of the pairs are {', '.join(views.names)}"
        )
    chosen = {**default_features(views, features), **features}
    labelled = any(split.y is not None for split in dataset.splits.values())
    validation = next((name for name in ("val", "validation", "dev") if name in dataset), None)
    held_out = "" if "test" in dataset else "  test: 0.2  # share held out; or a file of pairs\n"
    columns = "".join(f"  {key}: {_yaml(value)}\n" for key, value in options.items())
    sizes = ", ".join(f"{len(split)} pairs in {name}" for name, split in dataset.splits.items())
    lines = [f"  {view}: {_yaml(spec)}\n" for view, spec in chosen.items()]
    metrics = ["mrr", "r@1", "r@5", "r@10", "medr"]
    return _TEMPLATE.format(
        name=" ".join(Path(source).name.split()),
        stem=_yaml(Path(source).stem),
        sizes=sizes,
        table=_yaml(os.fspath(source)),
        columns=columns,
        held_out=held_out,
        features="features:\n" + "".join(lines) if lines else "# The views are vectors already.\n",
        metrics=", ".join(["map@all", *metrics[1:]] if labelled else metrics),
        chosen_on=f"on the split {validation}" if validation else "in three folds of them",
        tuning="{trials: 10, validation: true}" if validation else "{trials: 10, folds: 3}",
    )


def default_features(views: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an extractor for each view of pictures, sounds or texts that is not given one.

    Raises
    ------
    ValueError
        If a view holds something else than these and vectors.
    """
    found: dict[str, Any] = {}
    for view in views.names:
        if view in given:
            continue
        items = views.distinct(view)[0]
        kind = _kind(items)
        if kind == "vectors":
            continue
        if kind is None:
            raise ValueError(
                f"the view {view!r} holds neither vectors, pictures, sounds nor texts; name its "
                f"extractor by --features {view}=SPEC"
            )
        names = _EXTRACTORS[kind]
        found[view] = next((name for name in names if name is None or _installed(name)), None)
        if found[view] is None:
            found[view] = _WORDS
    return found


def _kind(items: Any) -> str | None:
    if not isinstance(items, np.ndarray) or items.dtype != object:
        return "vectors" if len(getattr(items, "shape", ())) == 2 else None
    first = items[0]
    if isinstance(first, str):
        suffix = Path(first).suffix.lower()
        if suffix in PICTURE_SUFFIXES and is_file(first):
            return "picture"
        if suffix in SOUND_SUFFIXES and is_file(first):
            return "sound"
        return None if is_file(first) else "text"
    return "picture" if isinstance(first, np.ndarray) and first.dtype == np.uint8 else None


def _installed(name: str) -> bool:
    try:
        registry.get(name.partition(":")[0], "crossfit.extractors")
    except registry.RegistryError:
        return False
    return True


def _yaml(value: Any) -> str:
    """Return a value in YAML's notation on one line; JSON is a part of YAML."""
    plain = isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum()
    return str(value) if plain and not value[0].isdigit() else json.dumps(value, ensure_ascii=False)
