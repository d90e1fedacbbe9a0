"""Helpers for sets of captioned pictures: token files, Karpathy's JSON, precomputed features."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossfit.cards import DatasetCard
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
from crossfit.datasets.vectors import read_vectors
from crossfit.views import Views

__all__ = [
    "KARPATHY",
    "PER_IMAGE",
    "Captioned",
    "captioned_set",
    "check_per_image",
    "draw",
    "precomputed_set",
    "read_karpathy",
    "read_tokens",
]

KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/"
PRECOMPUTED = "https://github.com/fartashf/vsepp"
PER_IMAGE = 5


class Captioned(NamedTuple):
    """A picture or sound, by its path relative to the data set's folder, and its captions in order.

    The captions may have ids, by which files of other authors name them.
    """

    image: str
    captions: list[str]
    ids: list[Any] | None = None


def check_per_image(given: Any, card: DatasetCard, name: str = "captions_per_image") -> None:
    """Raise a ValueError unless the number of captions is a positive integer."""
    if not isinstance(given, int) or given < 1:
        raise ValueError(
            f"{name} of data set {card.name!r} must be an integer of at least 1, got {given!r}"
        )


def read_tokens(path: Path) -> dict[str, list[str]]:
    """Return the captions of each picture from lines ``<picture>#<number>``, tab, caption.

    Raises
    ------
    ValueError
        If a line has another form; the message gives its number.
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
    """Return the pictures of each split of a ``dataset_<name>.json`` file of Karpathy.

    Parameters
    ----------
    path : path
        The file. The text of a sentence is its ``raw``, in the order of the picture's ``sentids``.
    folder : str, default=""
        Folder of the pictures, if the file does not give it as ``filepath``.

    Raises
    ------
    ValueError
        If the file does not have this form.
    """
    splits: dict[str, list[Captioned]] = {}
    images = read_json(path).get("images")
    for number, image in enumerate(images if isinstance(images, list) else [None]):
        try:
            raw = {sentence["sentid"]: sentence["raw"].strip() for sentence in image["sentences"]}
            captions = [raw[sentid] for sentid in image["sentids"]]
            name = "/".join(filter(None, (image.get("filepath", folder), image["filename"])))
            item = Captioned(name, captions, list(image["sentids"]))
            splits.setdefault(image["split"], []).append(item)
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
        If the file does not contain a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold a JSON object, got {type(content).__name__}")
    return content


def draw(n: int, sizes: Mapping[str, int], seed: int) -> dict[str, NDArray[np.int64]]:
    """Divide n items at random into parts of the given sizes.

    If there are fewer items, they are divided in the same proportions, at least one per part.

    Returns
    -------
    dict of str to int array
        The items of each part, ascending.
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
    view: str = "image",
) -> Dataset:
    """Build a data set of paths of pictures or sounds and captions.

    Parameters
    ----------
    root : path
        Folder of the data set.
    parts : mapping of str to sequence of Captioned
        The pictures of each split.
    per_image : int
        Number of captions per picture, from the first.
    card : DatasetCard
        The card of the data set.
    counts : mapping of str to int, optional
        Official number of pictures per split, if they are checked.
    hashed : iterable of str or path
        Content that determines the revision, in addition to the sizes of the pictures.
    view : str, default="image"
        Name of their view.

    Returns
    -------
    Dataset
        ``info`` has the name of the file of each row as ``image_name``, and the ids of the captions
        as ``caption_id`` if they have any.

    Raises
    ------
    FileNotFoundError
        If pictures are missing.
    ValueError
        If the counts differ, a split is empty, or a picture has no captions.
    """
    if counts is not None:
        check_counts({name: len(part) for name, part in parts.items()}, counts, card)
    splits = {}
    stamped: list[str] = []
    for name, part in parts.items():
        if not part:
            thing = "picture" if view == "image" else "clip"
            raise ValueError(f"data set {card.name!r} has no {thing} of the split {name!r}")
        mute = [item.image for item in part if not item.captions]
        if mute:
            raise ValueError(f"data set {card.name!r} has no caption of {shortened(mute)}")
        stamped += stamps(root, (item.image for item in part), card)
        captions = [item.captions[:per_image] for item in part]
        index = np.repeat(np.arange(len(part)), [len(own) for own in captions])
        views = Views.from_captions(
            [str(root / item.image) for item in part],
            [caption for own in captions for caption in own],
            index,
            names=(view, "text"),
        )
        names = np.array([Path(item.image).name for item in part], dtype=object)
        info = {f"{view}_name": names[index]}
        if all(item.ids is not None for item in part):
            ids = [one for item in part for one in (item.ids or [])[:per_image]]
            info["caption_id"] = np.array(ids, dtype=object)
        splits[name] = Split(views, info=info)
    return Dataset(card, splits, revision=content_hash(str(per_image), *hashed, *stamped))


def precomputed_set(
    root: Path,
    files: Mapping[str, str],
    *,
    per_image: int,
    card: DatasetCard,
    counts: Mapping[str, int] | None,
) -> Dataset:
    """Build a data set of precomputed features of pictures, and captions.

    Parameters
    ----------
    root : path
        Folder of the data set.
    files : mapping of str to str
        Split to the prefix of its files: ``<prefix>_caps.txt``, one caption per line, the same
        number for each picture, and ``<prefix>_ims.npy``, (n, d) or (n, R, d), with one row per
        picture or, as in some of the files, every row five times.
    per_image, card, counts
        See `captioned_set`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If the numbers of captions and features do not match, or the counts differ.
    """
    names = [f"{begin}_{kind}" for begin in files.values() for kind in ("caps.txt", "ims.npy")]
    require(root, *names, card=replace(card, url=PRECOMPUTED))
    splits = {}
    for name, begin in files.items():
        captions = list(read_lines(root / f"{begin}_caps.txt"))
        features = read_vectors(root / f"{begin}_ims.npy")
        if not len(features) or not captions or len(captions) % len(features):
            raise ValueError(
                f"{begin}_caps.txt must have the same number of lines for each picture, and "
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


def _rows_repeat(features: NDArray[Any], begin: str) -> bool:
    """Return True if every row is repeated five times, once per caption of a picture."""
    n = len(features) // PER_IMAGE
    if not n or len(features) % PER_IMAGE:
        return False
    # The file may have gigabytes: at most a thousand pictures are checked.
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
