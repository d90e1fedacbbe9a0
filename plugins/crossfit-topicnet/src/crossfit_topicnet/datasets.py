"""Flickr8k with two texts per image: each caption, and all five captions as an article."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from crossfit.datasets import Dataset, Split, flickr8k
from crossfit.views import Views
from crossfit_topicnet.cards import FLICKR8K_TWO_TEXTS as CARD

__all__ = ["load_flickr8k"]


def load_flickr8k(
    root: Path,
    split: str = "official",
    *,
    rank: Literal["captions", "articles"] = "captions",
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load Flickr8k for methods that learn from an article and a caption.

    Parameters
    ----------
    root : path
        Folder of Flickr8k, or its parent folder.
    split : {"official"}, default="official"
        Name of the split.
    rank : {"captions", "articles"}, default="captions"
        Texts that are ranked for development and test images: every caption, or the one article of
        each image. Training images have one row per caption either way.
    subsets, strict
        See `crossfit.datasets.flickr8k.load`.

    Returns
    -------
    Dataset
        A row is a caption with its image, or an image with its article and its first caption. The
        view ``image`` has paths; ``text`` has the channels ``article``, the captions of the image
        joined, and ``caption``, both strings.

    Raises
    ------
    ValueError
        If `rank` is neither of the two.
    """
    # An array is equal to neither of the two.
    if not isinstance(rank, str) or rank not in ("captions", "articles"):
        raise ValueError(f"rank: must be 'captions' or 'articles', got {rank!r}")
    folder = root / "flickr8k" if (root / "flickr8k").is_dir() else root
    words = flickr8k.load(folder, split, subsets=subsets, strict=strict)
    splits = {}
    for name, part in words.splits.items():
        captions = part.views["text"]
        images, owner = part.views.distinct("image")
        joined = np.empty(len(images), object)
        for i in range(len(images)):
            joined[i] = " ".join(captions[owner == i])
        text = {"article": joined[owner], "caption": captions}
        views = Views.from_captions(images, text, owner)
        rows = np.arange(len(views))
        if rank == "articles" and name != "train":
            rows = np.unique(owner, return_index=True)[1]
        info = {key: values[rows] for key, values in part.info.items()}
        splits[name] = Split(views[rows], info=info)
    return Dataset(CARD, splits, revision=words.revision)
