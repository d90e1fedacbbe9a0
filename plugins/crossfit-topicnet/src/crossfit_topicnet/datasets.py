"""Flickr8k with two texts to an image: each caption, and all five of them as an article."""

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
    features: Literal["precomputed"] | None = None,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load Flickr8k for methods that learn from article and caption.

    Parameters
    ----------
    root : path
        Folder of Flickr8k, or the folder that holds ``flickr8k/``.
    split : {"official"}, default="official"
    features : {"precomputed", None}
        Vectors of the images from ``features_train_dev.npz``, or paths.
    subsets, strict
        See `crossfit.datasets.flickr8k.load`.

    Returns
    -------
    Dataset
        A row is a caption with its image. The view ``text`` has the channels ``article``, the
        captions of the image joined, and ``caption``, both strings.
    """
    folder = root / "flickr8k" if (root / "flickr8k").is_dir() else root
    words = flickr8k.load(folder, split, subsets=subsets, strict=strict)
    vectors = words
    if features is not None:
        names = list(words.splits)
        vectors = flickr8k.load(folder, split, features=features, subsets=names, strict=strict)
    splits = {}
    for name, part in words.splits.items():
        captions = part.views["text"]
        images, owner = vectors[name].views.distinct("image")
        joined = np.empty(len(images), object)
        for i in range(len(images)):
            joined[i] = " ".join(captions[owner == i])
        text = {"article": joined[owner], "caption": captions}
        splits[name] = Split(Views.from_captions(images, text, owner), info=part.info)
    return Dataset(CARD, splits, revision=vectors.revision + words.revision)
