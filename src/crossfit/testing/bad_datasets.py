"""Faulty loaders that must fail a check of the kit, and the correct loader they derive from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from crossfit.cards import DatasetCard
from crossfit.datasets.record import (
    Dataset,
    Split,
    check_counts,
    choose_subsets,
    content_hash,
    require,
)
from crossfit.testing import cards
from crossfit.views import Views

__all__ = ["load_colours", "load_forgetting", "load_leaking", "make_files"]

_FILES = ("train.csv", "test.csv")


def make_files(folder: Path) -> None:
    """Write twelve colours with their names, ten for training and two for the test."""
    rng = np.random.default_rng(0)
    colours = enumerate(rng.integers(0, 256, (12, 3)))
    rows = [f"{r},{g},{b},colour {i}\n" for i, (r, g, b) in colours]
    for name, part in zip(_FILES, (rows[:10], rows[10:])):
        (folder / name).write_text("".join(part), encoding="utf-8")


def load_colours(
    root: Path, split: str = "official", *, subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:  # fmt: skip
    """Load colours and their names; a correct loader."""
    return _load(root, cards.COLOURS, subsets, strict)


def load_leaking(
    root: Path, split: str = "official", *, subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:  # fmt: skip
    """Load colours, with three training rows in the test split too."""
    found = _load(root, cards.LEAKING, None, strict)
    train, test = found["train"].views, found["test"].views
    both = {name: np.concatenate([test[name], train[name][:3]]) for name in train.names}
    splits = {"train": found["train"], "test": Split(Views(both))}
    chosen = choose_subsets(subsets, cards.LEAKING.counts, cards.LEAKING)
    return Dataset(cards.LEAKING, {name: splits[name] for name in chosen}, None, found.revision)


def load_forgetting(
    root: Path, split: str = "official", *, subsets: Iterable[str] | None = None
) -> Dataset:
    """Load the files that exist, without an error for missing ones or a revision of the content."""
    splits = {
        name.partition(".")[0]: Split(_views(root / name)) for name in _FILES
        if (root / name).exists()
    }  # fmt: skip
    chosen = choose_subsets(subsets, cards.FORGETTING.counts, cards.FORGETTING)
    found = {name: splits[name] for name in chosen if name in splits}
    return Dataset(cards.FORGETTING, found, None, "1")


def _load(root: Path, card: DatasetCard, subsets: Any, strict: bool) -> Dataset:
    chosen = choose_subsets(subsets, card.counts, card)
    paths = require(root, *(f"{name}.csv" for name in chosen), card=card)
    splits = {name: Split(_views(path)) for name, path in zip(chosen, paths)}
    if strict:
        check_counts({name: len(split) for name, split in splits.items()}, card.counts, card)
    return Dataset(card, splits, None, content_hash(*paths))


def _views(path: Path) -> Views:
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    colours = np.array([[float(part) for part in row[:3]] for row in rows])
    return Views(image=colours, text=[row[3] for row in rows])
