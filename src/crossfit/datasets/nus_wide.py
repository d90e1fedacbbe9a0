"""NUS-WIDE-10k, drawn from the files of NUS-WIDE (Chua et al., CIVR 2009) as in Corr-AE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import is_word
from crossfit.datasets.cards import NUS_WIDE_10K as CARD
from crossfit.datasets.record import (
    Dataset,
    Split,
    check_counts,
    choose_subsets,
    content_hash,
    read_text,
    require,
    shortened,
    stamps,
)
from crossfit.views import Views

CLASSES = (
    "animal", "clouds", "flowers", "food", "grass", "person", "sky", "toy", "water", "window",
)  # fmt: skip
IMAGES = "Flickr"
IMAGE_LIST = "ImageList/Imagelist.txt"
LABELS = "Groundtruth/AllLabels/Labels_{}.txt"
TAGS_1K = "NUS_WID_Tags/AllTags1k.txt"
TAGS = "NUS_WID_Tags/All_Tags.txt"
# Rows are those of the training list and the test list, which together form the image list.
PARTS = {
    f"ImageList/{part}Imagelist.txt": f"Low_Level_Features/BoW_{part}_int.dat"
    for part in ("Train", "Test")
}


def load(
    root: Path,
    split: str = "official",
    *,
    features: Literal["raw"] | None = None,
    seed: int = 0,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load NUS-WIDE-10k.

    The ten classes and the sizes are those of Feng et al. (2014), whose list of pictures is not
    published. Here, the candidates of a class are the pictures that have its label, none of the
    other nine, and at least one of the 1,000 tags; 1,000 of them are drawn.

    Parameters
    ----------
    root : path
        Folder with ``ImageList/Imagelist.txt``, ``Groundtruth/AllLabels/Labels_<class>.txt`` and
        ``NUS_WID_Tags/AllTags1k.txt``, and the files needed for `features`.
    split : {"official"}, default="official"
        800 pictures of each class for training, 100 for validation and 100 for testing.
    features : {"raw", None}, default=None
        ``None``: paths of the pictures, under ``Flickr/`` as in the list, and all tags of a
        picture as a string, from ``NUS_WID_Tags/All_Tags.txt``. ``"raw"``: the authors' 500 bins
        of SIFT words, from ``Low_Level_Features/BoW_{Train,Test}_int.dat`` with
        ``ImageList/{Train,Test}Imagelist.txt``, and 1,000 tags as 0 and 1.
    seed : int, default=0
        Seed of the draw. The pictures are the same for any `features`.
    subsets : iterable of str, optional
        Splits to load, of ``"train"``, ``"val"`` and ``"test"``.
    strict : bool, default=True
        Whether to check that every class has its 1,000 pictures. Otherwise smaller classes are
        divided in the same proportions and, with paths, only existing pictures are drawn.

    Returns
    -------
    Dataset
        With labels 0 to 9 and ``image_name`` in ``info``.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If an option is invalid, files do not match each other, or the counts differ.
    """
    if features is not None and not is_word(features, ("raw",)):
        raise ValueError(
            f"features of data set 'nus-wide-10k' must be 'raw' or None, got {features!r}"
        )
    chosen = choose_subsets(subsets, CARD.counts, CARD)
    labels = [LABELS.format(cls) for cls in CLASSES]
    data = [*PARTS, *PARTS.values()] if features else [TAGS, IMAGES]
    used = require(root, IMAGE_LIST, *labels, TAGS_1K, *data, card=CARD)
    names = _names(root / IMAGE_LIST)
    has = np.stack([_read_labels(root / path, len(names)) for path in labels], axis=1)
    tagged = np.array([b"1" in line for line in _lines(root / TAGS_1K, len(names))])
    taken = (has.sum(axis=1) == 1) & tagged
    if not strict and not features:
        taken[taken] = [(root / IMAGES / names[i]).is_file() for i in np.flatnonzero(taken)]
    rows, y = _draw(np.where(taken, has.argmax(axis=1), -1), seed)
    rows, y = {name: rows[name] for name in chosen}, {name: y[name] for name in chosen}
    if strict:
        check_counts({name: len(part) for name, part in rows.items()}, CARD.counts, CARD)
    drawn = np.sort(np.concatenate([*rows.values()]))
    if len(drawn) == 0:
        raise ValueError("data set 'nus-wide-10k' has no picture of exactly one class with a tag")
    image, text = (_raw if features else _originals)(root, names, drawn)
    splits = {}
    for name, part in rows.items():
        at = np.searchsorted(drawn, part)
        of_part = np.array([names[i] for i in part], dtype=object)
        splits[name] = Split(Views(image=image[at], text=text[at]), y[name],
                             {"image_name": of_part})  # fmt: skip
    # The 1,000 tags take half a gigabyte: large files are represented by their size.
    files = [path for path in used if path.is_file()]
    hashed: list[str | bytes | Path] = [str(features), *(part.tobytes() for part in rows.values())]
    hashed += [path for path in files if "ImageList" in path.parts]
    hashed += stamps(root, (str(path.relative_to(root)) for path in files), CARD)
    if not features:
        hashed += stamps(root, (f"{IMAGES}/{names[i]}" for i in drawn), CARD)
    return Dataset(CARD, splits, CLASSES, content_hash(*hashed))


def _draw(
    label: NDArray[np.int64], seed: int
) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
    """Return the rows and labels of each split; `label` is -1 for rows that are not candidates."""
    rng = np.random.default_rng(seed)
    per_class = sum(CARD.counts.values()) // len(CLASSES)
    ends = np.cumsum([0, *CARD.counts.values()]) / sum(CARD.counts.values())
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in CARD.counts}
    for k in range(len(CLASSES)):
        some = rng.permutation(np.flatnonzero(label == k))[:per_class]
        bounds = [round(len(some) * end) for end in ends]
        for name, a, b in zip(parts, bounds, bounds[1:]):
            parts[name].append(some[a:b])
    rows = {name: np.sort(np.concatenate(part)) for name, part in parts.items()}
    return rows, {name: label[part] for name, part in rows.items()}


def _names(path: Path) -> list[str]:
    # The lists have Windows paths: actor\0001_2124494179.jpg
    return read_text(path).replace("\\", "/").split()


def _read_labels(path: Path, n: int) -> NDArray[np.bool_]:
    tokens = path.read_bytes().split()
    if len(tokens) != n or not set(tokens) <= {b"0", b"1"}:
        raise ValueError(
            f"{path.name} must have 0 or 1 for each of the {n} pictures of {IMAGE_LIST}, got "
            f"{len(tokens)} entries, {shortened(sorted(t.decode('latin-1') for t in set(tokens)))}"
        )
    return np.array(tokens) == b"1"


def _lines(path: Path, n: int) -> Iterator[bytes]:
    """Yield the n lines of a file that may be larger than the memory; check their number."""
    count = 0
    with path.open("rb") as stream:
        for line in stream:
            if line.strip():
                count += 1
                yield line
    if count != n:
        raise ValueError(f"{path.name} must have a line for each of {n} pictures, got {count}")


def _originals(
    root: Path, names: list[str], rows: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[Any]]:
    stamps(root, (f"{IMAGES}/{names[i]}" for i in rows), CARD)  # raises for missing pictures
    wanted = set(rows.tolist())
    tags = []
    for i, line in enumerate(_lines(root / TAGS, len(names))):
        if i in wanted:
            photo, *words = line.decode("utf-8", errors="replace").split()
            if photo != Path(names[i]).stem.rpartition("_")[2]:
                raise ValueError(
                    f"All_Tags.txt, row {i + 1} is of the photo {photo}, but {IMAGE_LIST} has "
                    f"{names[i]}"
                )
            tags.append(" ".join(words))
    paths = [str(root / IMAGES / names[i]) for i in rows]
    return np.array(paths, dtype=object), np.array(tags, dtype=object)


def _raw(
    root: Path, names: list[str], rows: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[Any]]:
    position = {names[i]: k for k, i in enumerate(rows)}
    words: dict[int, NDArray[Any]] = {}
    for listed, table in PARTS.items():
        of_part = _names(root / listed)
        for name, line in zip(of_part, _lines(root / table, len(of_part)), strict=True):
            if name in position:
                words[position[name]] = np.array(line.split(), dtype=np.float32)
    absent = [name for name, k in position.items() if k not in words]
    if absent:
        raise ValueError(f"neither of {', '.join(PARTS)} lists {shortened(absent)}")
    wanted = set(rows.tolist())
    tags = [
        np.array(line.split(), dtype=np.float32)
        for i, line in enumerate(_lines(root / TAGS_1K, len(names)))
        if i in wanted
    ]
    return np.stack([words[k] for k in range(len(rows))]), np.stack(tags)
