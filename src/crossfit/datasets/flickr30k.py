"""Flickr30k (Young, Lai, Hodosh and Hockenmaier, TACL 2014): photographs with five captions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from crossfit._arguments import is_word
from crossfit.datasets.captions import (
    KARPATHY,
    PER_IMAGE,
    Captioned,
    captioned_set,
    check_per_image,
    draw,
    precomputed_set,
    read_karpathy,
    read_tokens,
)
from crossfit.datasets.cards import FLICKR30K as CARD
from crossfit.datasets.record import Dataset, choose_subsets, require

IMAGES = "flickr30k_images"
TOKENS = "results_20130124.token"
JSON = "dataset_flickr30k.json"
COUNTS = {
    "karpathy": CARD.counts,
    "bssan": {"train": 29783, "val": 1000, "test": 1000},
}


def load(
    root: Path,
    split: str = "karpathy",
    *,
    features: Literal["precomputed"] | None = None,
    captions_per_image: int = PER_IMAGE,
    seed: int = 0,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load Flickr30k.

    Parameters
    ----------
    root : path
        Folder with ``flickr30k_images/`` and the captions: ``dataset_flickr30k.json`` of
        Karpathy for his split, ``results_20130124.token`` for the other.
    split : {"karpathy", "bssan"}, default="karpathy"
        ``"karpathy"``: 29,000 pictures for training, 1,014 for validation and 1,000 for testing.
        ``"bssan"``: all 31,783 pictures, of which 1,000 and 1,000 are drawn for validation and
        testing, as in BSSAN and CRAN. The pictures that they drew are not published.
    features : {"precomputed", None}, default=None
        ``None``: paths and captions. ``"precomputed"``: features of the pictures from
        ``f30k_precomp/{train,dev,test}_ims.npy`` and the captions from ``..._caps.txt``, the
        files of VSE++ and SCAN; only for the split ``"karpathy"``.
    captions_per_image : int, default=5
        Number of captions per picture, from the first.
    seed : int, default=0
        Seed of the split ``"bssan"``.
    subsets : iterable of str, optional
        Splits to load, of ``"train"``, ``"val"`` and ``"test"``.
    strict : bool, default=True
        Whether to check the official counts.

    Returns
    -------
    Dataset
        A row is a caption with its picture. There are no labels.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If an option is invalid, or the counts differ.
    """
    precomputed = is_word(features, ("precomputed",)) and split == "karpathy"
    if features is not None and not precomputed:
        raise ValueError(
            "features of data set 'flickr30k' must be None, or 'precomputed' with the split "
            f"'karpathy', got {features!r} with {split!r}"
        )
    check_per_image(captions_per_image, CARD)
    chosen = choose_subsets(subsets, COUNTS[split], CARD)
    counts = COUNTS[split] if strict else None
    if features:
        files = {"train": "train", "val": "dev", "test": "test"}
        return precomputed_set(
            root,
            {name: f"f30k_precomp/{files[name]}" for name in chosen},
            per_image=captions_per_image,
            card=CARD,
            counts=counts,
        )
    require(root, IMAGES, card=CARD)
    if split == "karpathy":
        (source,) = require(root, JSON, card=replace(CARD, url=KARPATHY))
        of_split = read_karpathy(source, IMAGES)
        parts = {name: of_split.get(name, []) for name in chosen}
        which = split
    else:
        (source,) = require(root, TOKENS, card=CARD)
        pictures = [
            Captioned(f"{IMAGES}/{name}", captions)
            for name, captions in read_tokens(source).items()
        ]
        rows = draw(len(pictures), COUNTS[split], seed)
        parts = {name: [pictures[row] for row in rows[name]] for name in chosen}
        which = f"{split} {seed}"
    return captioned_set(
        root,
        parts,
        per_image=captions_per_image,
        card=CARD,
        counts=counts,
        hashed=[which, source],
    )
