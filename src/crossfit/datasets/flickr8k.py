"""Flickr8k (Hodosh, Young and Hockenmaier, JAIR 2013), read from its official files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

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
FEATURES = "features_train_dev.npz"


def load(
    root: Path,
    split: str = "official",
    *,
    features: Literal["precomputed"] | None = None,
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
    features : {"precomputed", None}
        ``None``: paths of the pictures and the captions as strings. ``"precomputed"``: vectors
        from ``features_train_dev.npz``, which needs neither pictures nor captions to be there.
        The file has ``image_ids`` (names of the pictures), ``image_efficientnet_lite0``
        (n_images, 1280), ``caption_image_index`` and ``caption_minilm_l6`` (n_captions, 384);
        float16 is read as float32. The rows are the same either way, in the same order.
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
    if features not in ("precomputed", None):
        raise ValueError(
            f"features of data set 'flickr8k' are 'precomputed' or None, got {features!r}"
        )
    chosen = choose_subsets(subsets, LISTS, CARD)
    data = [FEATURES] if features else [CAPTIONS, IMAGES]
    used = require(root, *(LISTS[name] for name in chosen), *data, card=CARD)
    names = {name: read_text(root / LISTS[name]).split() for name in chosen}
    if strict:
        check_counts({name: len(part) for name, part in names.items()}, CARD.counts, CARD)
    read = _read_features if features else _read_originals
    splits = {}
    for name, views in read(root, names).items():
        pictures = np.array(names[name], dtype=object)[views.distinct("image")[1]]
        splits[name] = Split(views, info={"image_name": pictures})
    hashed: list[Path | str] = [path for path in used if path.is_file()]
    if not features:
        # Reading a gigabyte of pictures for a hash would take longer than the rest.
        listed = [name for part in names.values() for name in part]
        hashed += [f"{name} {(root / IMAGES / name).stat().st_size}" for name in listed]
    return Dataset(CARD, splits, revision=content_hash(*hashed))


def _read_originals(root: Path, names: dict[str, list[str]]) -> dict[str, Views]:
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


def _read_features(root: Path, names: dict[str, list[str]]) -> dict[str, Views]:
    with np.load(root / FEATURES, allow_pickle=False) as archive:
        needed = ("image_ids", "image_efficientnet_lite0", "caption_image_index")
        absent = [key for key in (*needed, "caption_minilm_l6") if key not in archive]
        if absent:
            raise ValueError(f"{FEATURES} must hold {', '.join(absent)}")
        ids, images, owner = (archive[key] for key in needed)
        texts = archive["caption_minilm_l6"]
    row_of = {name: row for row, name in enumerate(ids.tolist())}
    captions = _rows_by_value(owner, len(ids))
    views = {}
    for split, part in names.items():
        absent = [name for name in part if name not in row_of]
        if absent:
            raise ValueError(f"{FEATURES} has no features of {split!r}: {shortened(absent)}")
        rows = np.array([row_of[name] for name in part])
        of_part = [captions[row] for row in rows]
        views[split] = Views.from_captions(
            images[rows].astype(np.float32),
            texts[np.concatenate(of_part)].astype(np.float32),
            np.repeat(np.arange(len(part)), [len(some) for some in of_part]),
        )
    return views


def _rows_by_value(values: NDArray[Any], n: int) -> list[NDArray[np.intp]]:
    order = np.argsort(values, kind="stable")
    return np.split(order, np.searchsorted(values[order], np.arange(1, n)))
