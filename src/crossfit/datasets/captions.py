"""What the sets of captioned pictures share: token files, Karpathy's JSON, precomputed features."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import a_path, check_arguments
from crossfit.cards import API, DatasetCard
from crossfit.datasets.record import (
    Dataset,
    Split,
    check_counts,
    content_hash,
    read_lines,
    require,
    shortened,
    stamps,
)
from crossfit.views import Views

__all__ = [
    "KARPATHY",
    "PER_IMAGE",
    "Captioned",
    "captioned_set",
    "check_per_image",
    "draw",
    "from_precomputed",
    "precomputed_set",
    "read_karpathy",
    "read_tokens",
]

KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/"
PRECOMPUTED = "https://github.com/fartashf/vsepp"
PER_IMAGE = 5


class Captioned(NamedTuple):
    """A picture, by its path relative to the data set's folder, and its captions in order."""

    image: str
    captions: list[str]


def check_per_image(captions_per_image: Any, card: DatasetCard) -> None:
    """Refuse a number of captions that is no positive integer."""
    if not isinstance(captions_per_image, int) or captions_per_image < 1:
        raise ValueError(
            f"captions_per_image of data set {card.name!r} must be an integer of at least 1, got "
            f"{captions_per_image!r}"
        )


def read_tokens(path: Path) -> dict[str, list[str]]:
    """Return the captions of each picture from lines ``<picture>#<number>``, tab, caption.

    Raises
    ------
    ValueError
        If a line has another form.
    """
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(read_lines(path), 1):
        key, tab, caption = line.partition("\t")
        picture, hash_sign, _ = key.rpartition("#")
        if not tab or not hash_sign:
            raise ValueError(
                f"{path.name}, line {number}: expected '<picture>#<number>', a tab and a "
                f"caption, got {line.strip()[:80]!r}"
            )
        captions.setdefault(picture, []).append(caption.strip())
    return captions


def read_karpathy(path: Path, folder: str = "") -> dict[str, list[Captioned]]:
    """Return the pictures of each split of a ``dataset_<name>.json`` of Karpathy.

    Parameters
    ----------
    path : path
        The file. A sentence's text is its ``raw``, in the order of the picture's ``sentids``.
    folder : str, default=""
        Where the pictures lie, if the file does not say so as ``filepath``.

    Raises
    ------
    ValueError
        If the file is not of that form.
    """
    splits: dict[str, list[Captioned]] = {}
    images = read_json(path).get("images")
    for number, image in enumerate(images if isinstance(images, list) else [None]):
        try:
            raw = {sentence["sentid"]: sentence["raw"].strip() for sentence in image["sentences"]}
            captions = [raw[sentid] for sentid in image["sentids"]]
            name = "/".join(filter(None, (image.get("filepath", folder), image["filename"])))
            splits.setdefault(image["split"], []).append(Captioned(name, captions))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path.name} must hold images with sentids, sentences, split and filename; image "
                f"{number} does not ({type(error).__name__}: {error})"
            ) from None
    return splits


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold a JSON object, got {type(content).__name__}")
    return content


def draw(n: int, sizes: Mapping[str, int], seed: int) -> dict[str, NDArray[np.int64]]:
    """Cut n items at random into parts of the given sizes.

    Fewer items than the sizes need are cut in the same proportions, with at least one a part.

    Returns
    -------
    dict of str to int array
        The items of each part, rising.
    """
    order = np.random.default_rng(seed).permutation(n)
    total = sum(sizes.values())
    counts = {name: max(1, round(n * size / total)) for name, size in sizes.items()}
    largest = max(sizes, key=lambda name: sizes[name])
    counts[largest] = max(0, n - sum(counts.values()) + counts[largest])
    ends = np.cumsum([0, *counts.values()])
    return {name: np.sort(order[a:b]) for name, a, b in zip(sizes, ends, ends[1:])}


def captioned_set(
    root: Path,
    parts: Mapping[str, Sequence[Captioned]],
    *,
    per_image: int,
    card: DatasetCard,
    counts: Mapping[str, int] | None,
    hashed: Iterable[str | Path],
) -> Dataset:
    """Make a data set of paths and captions.

    Parameters
    ----------
    root : path
        Folder of the data set.
    parts : mapping of str to sequence of Captioned
        The pictures of each split.
    per_image : int
        How many captions of a picture are taken, its first ones.
    card : DatasetCard
    counts : mapping of str to int, optional
        Official number of pictures by split, if they must be met.
    hashed : iterable of str or path
        What the revision follows, besides the pictures' sizes.

    Raises
    ------
    FileNotFoundError
        If pictures are missing.
    ValueError
        If the counts differ, a split is empty, or a picture has no caption.
    """
    if counts is not None:
        check_counts({name: len(part) for name, part in parts.items()}, counts, card)
    splits = {}
    stamped: list[str] = []
    for name, part in parts.items():
        if not part:
            raise ValueError(f"data set {card.name!r} has no picture of the split {name!r}")
        mute = [image for image, captions in part if not captions]
        if mute:
            raise ValueError(f"data set {card.name!r} has no caption of {shortened(mute)}")
        stamped += stamps(root, (image for image, _ in part), card)
        captions = [own[:per_image] for _, own in part]
        index = np.repeat(np.arange(len(part)), [len(own) for own in captions])
        views = Views.from_captions(
            [str(root / image) for image, _ in part],
            [caption for own in captions for caption in own],
            index,
        )
        names = np.array([Path(image).name for image, _ in part], dtype=object)
        splits[name] = Split(views, info={"image_name": names[index]})
    return Dataset(card, splits, revision=content_hash(str(per_image), *hashed, *stamped))


def precomputed_set(
    root: Path,
    files: Mapping[str, str],
    *,
    per_image: int,
    card: DatasetCard,
    counts: Mapping[str, int] | None,
) -> Dataset:
    """Make a data set of precomputed features of pictures, and captions.

    Parameters
    ----------
    root : path
        Folder of the data set.
    files : mapping of str to str
        Split to what the names of its files begin with: ``<begin>_caps.txt``, one caption per
        line, equally many for each picture, and ``<begin>_ims.npy``, (n, d) or (n, R, d), with
        one row per picture or, as some of the files have it, every row five times.
    per_image, card, counts
        See `captioned_set`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If captions and features do not go together, or the counts differ.
    """
    names = [f"{begin}_{kind}" for begin in files.values() for kind in ("caps.txt", "ims.npy")]
    require(root, *names, card=replace(card, url=PRECOMPUTED))
    splits = {}
    for name, begin in files.items():
        captions = list(read_lines(root / f"{begin}_caps.txt"))
        features = _read_array(root / f"{begin}_ims.npy")
        if not len(features) or not captions or len(captions) % len(features):
            raise ValueError(
                f"{begin}_caps.txt must have equally many lines for each picture, and "
                f"{begin}_ims.npy one row per picture or per line, got {len(captions)} lines and "
                f"{len(features)} rows"
            )
        if len(features) == len(captions) and _rows_repeat(features, begin):
            features = features[::PER_IMAGE]
        n = len(features)
        own = len(captions) // n
        if counts is not None:
            check_counts({name: n}, counts, card)
        kept = [own * image + k for image in range(n) for k in range(min(per_image, own))]
        index = np.array(kept) // own
        views = Views.from_captions(features, [captions[row] for row in kept], index)
        splits[name] = Split(views, info={"image_row": index})
    texts = [root / name for name in names if name.endswith(".txt")]
    arrays = stamps(root, (name for name in names if name.endswith(".npy")), card)
    return Dataset(card, splits, revision=content_hash(str(per_image), *texts, *arrays))


def _read_array(path: Path) -> NDArray[Any]:
    """Return the array of a file as a memory map."""
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        # np.load would advise to unpickle what is no array.
        array = np.lib.format.open_memmap(path, mode="r")
        if array.ndim < 2:
            raise ValueError("not an array (n, d) or (n, R, d)")
    except ValueError as error:
        raise ValueError(f"{str(path)!r} does not hold features: {error}") from None
    return array


def _rows_repeat(features: NDArray[Any], begin: str) -> bool:
    """Say whether every row stands there five times, once for each caption of a picture."""
    n = len(features) // PER_IMAGE
    if not n or len(features) % PER_IMAGE:
        return False
    # The file may have gigabytes: of many pictures, a thousand are looked at.
    some = np.linspace(0, n - 1, min(n, 1000)).astype(np.int64)
    rows = features[PER_IMAGE * some[:, None] + np.arange(PER_IMAGE)].reshape(
        len(some), PER_IMAGE, -1
    )
    equal = (rows == rows[:, :1]).all(axis=(1, 2))
    if equal.any() and not equal.all():
        raise ValueError(
            f"{begin}_ims.npy has as many rows as {begin}_caps.txt has lines, but the five rows of "
            f"a picture differ for {int((~equal).sum())} of {len(some)} pictures and are the same "
            "for the others: neither every row is repeated five times nor none is"
        )
    return bool(equal.all())


def from_precomputed(
    path: str | os.PathLike[str], *, captions_per_image: int = PER_IMAGE
) -> Dataset:
    """Make a data set of a folder with precomputed features, in the layout of VSE++ and SCAN.

    Parameters
    ----------
    path : path
        Holds ``<split>_caps.txt`` (one caption per line in UTF-8, equally many for each picture,
        those of a picture one after the other) with ``<split>_ims.npy``: features (n, d), or of
        regions (n, R, d), with one row per picture or, with five captions each, every row five
        times.
    captions_per_image : int
        How many captions of a picture are taken, its first ones.

    Returns
    -------
    Dataset
        A split for each pair of files, with the views ``image`` (a memory map) and ``text``
        (strings).

    Raises
    ------
    FileNotFoundError
        If the folder has no such files, or one of a pair is missing.
    ValueError
        If captions and features do not go together, or a file cannot be read; it is named.
    """
    check_arguments("from_precomputed", {"path": [a_path()]}, {"path": path})
    folder = Path(path)
    begins = [file.name.removesuffix("_caps.txt") for file in sorted(folder.glob("*_caps.txt"))]
    if not begins:
        raise FileNotFoundError(f"{str(folder)!r} holds no <split>_caps.txt")
    card = DatasetCard(
        api=API,
        name=folder.resolve().name,
        target="crossfit.datasets.captions:from_precomputed",
        summary=f"precomputed features: {folder.resolve().name}",
    )
    check_per_image(captions_per_image, card)
    files = dict(zip(begins, begins))
    return precomputed_set(folder, files, per_image=captions_per_image, card=card, counts=None)
