"""Flickr8k (Hodosh, Young and Hockenmaier, JAIR 2013), read from its official files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from crossfit.datasets.captions import read_tokens
from crossfit.datasets.cards import FLICKR8K as CARD
from crossfit.datasets.record import (
    Dataset,
    Split,
    check_counts,
    choose_subsets,
    content_hash,
    missing_files,
    read_text,
    require,
    shortened,
)
from crossfit.views import Views

IMAGES = "Flicker8k_Dataset"  # the official archive spells it so
CAPTIONS = "Flickr8k_text/Flickr8k.token.txt"
LISTS = {name: f"Flickr8k_text/Flickr_8k.{name}Images.txt" for name in ("train", "dev", "test")}


def load(
    root: Path,
    split: str = "official",
    *,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load Flickr8k.

    Parameters
    ----------
    root : path
        Folder with ``Flicker8k_Dataset/`` (the pictures) and ``Flickr8k_text/``
        (``Flickr8k.token.txt`` and the list of each split asked for,
        ``Flickr_8k.trainImages.txt`` and so on).
    split : {"official"}, default="official"
        6,000 pictures for training, 1,000 for development and 1,000 for testing.
    subsets : iterable of str, optional
        Splits to load, of ``"train"``, ``"dev"`` and ``"test"``.
    strict : bool, default=True
        Whether the official counts must be met.

    Returns
    -------
    Dataset
        Without labels. A row is a caption with its picture; pictures are in the order of the
        official list, and ``info`` has the name of each row's picture.
    """
    chosen = choose_subsets(subsets, LISTS, CARD)
    used = require(root, *(LISTS[name] for name in chosen), CAPTIONS, IMAGES, card=CARD)
    names = {name: read_text(root / LISTS[name]).split() for name in chosen}
    if strict:
        check_counts({name: len(part) for name, part in names.items()}, CARD.counts, CARD)
    splits = {}
    for name, views in _read(root, names).items():
        pictures = np.array(names[name], dtype=object)[views.distinct("image")[1]]
        splits[name] = Split(views, info={"image_name": pictures})
    hashed: list[Path | str] = [path for path in used if path.is_file()]
    # Reading a gigabyte of pictures for a hash would take longer than the rest.
    listed = [name for part in names.values() for name in part]
    hashed += [f"{name} {(root / IMAGES / name).stat().st_size}" for name in listed]
    return Dataset(CARD, splits, revision=content_hash(*hashed))


def _read(root: Path, names: dict[str, list[str]]) -> dict[str, Views]:
    there = set(os.listdir(root / IMAGES))
    missing = [name for part in names.values() for name in part if name not in there]
    if missing:
        raise missing_files((f"{IMAGES}/{name}" for name in missing), root, CARD)
    captions = read_tokens(root / CAPTIONS)
    views = {}
    for split, part in names.items():
        mute = [name for name in part if name not in captions]
        if mute:
            raise ValueError(f"{CAPTIONS} has no caption of {shortened(mute)}")
        views[split] = Views.from_captions(
            [str(root / IMAGES / name) for name in part],
            [caption for name in part for caption in captions[name]],
            np.repeat(np.arange(len(part)), [len(captions[name]) for name in part]),
        )
    return views
