"""Data sets from folders of pictures with texts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossfit._arguments import one_of, validated
from crossfit.datasets.columns import objects
from crossfit.datasets.record import Dataset, Split, content_hash, read_lines, shortened
from crossfit.datasets.tables import SPLIT_FOLDERS, class_labels, own_card, split_order
from crossfit.extraction.formats import PICTURE_SUFFIXES
from crossfit.extraction.weights import file_sha256
from crossfit.views import Views

__all__ = ["from_folder"]


@validated(path=[str, os.PathLike], captions=[one_of("lines", "whole")])
def from_folder(path: str | os.PathLike[str], *, captions: str = "lines") -> Dataset:
    """Build a data set from a folder of pictures with a text file for each.

    Parameters
    ----------
    path : path
        Folder with ``<name>.jpg`` (or another picture format) and ``<name>.txt``, either directly
        or in one folder per class. If all top-level folders have names of splits (``train``,
        ``val``, ``test``, ``dev``, ``training``, ``valid``, ``validation``, ``testing``), they are
        the splits, and contain the pictures or the folders of classes. Links to files and folders
        are followed.
    captions : {"lines", "whole"}, default="lines"
        Whether each non-blank line of a text file is a caption, or the whole file is one text, such
        as an article.

    Returns
    -------
    Dataset
        One split, ``"all"``, or those of the folders, sorted by path; with labels if there are
        class folders, the same in all splits. A picture with several captions is one item
        (`Views.from_captions`). The revision depends on the texts and on the names and content of
        the pictures, which are read once per process unless they change.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If there are no pictures, if a picture has no text or a text no picture (the message names
        the first few), if a text is empty, if a link is broken or circular, or if only some
        pictures are in class folders.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}")
    found = sorted(_files(folder))
    pictures = [file for file in found if file.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        raise ValueError(
            f"{str(folder)!r} holds no pictures ({', '.join(PICTURE_SUFFIXES)}), only "
            f"{len(found)} other files"
        )
    texts = {file.with_suffix(""): file for file in found if file.suffix.lower() == ".txt"}
    stems = Counter(file.with_suffix("") for file in pictures)
    # Other files with the name of a text may be pictures in a format that is not supported.
    beside = {file.with_suffix(""): file for file in found if file not in set(pictures)
              and file.suffix.lower() != ".txt"}  # fmt: skip
    problems: dict[str, list[Any]] = {
        "pictures without a text": [p for p in pictures if p.with_suffix("") not in texts],
        "texts without a picture": [
            f"{texts[stem]} (next to {beside[stem].name}, which is not among "
            f"{', '.join(PICTURE_SUFFIXES)})"
            if stem in beside
            else texts[stem]
            for stem in texts
            if stem not in stems
        ],
        "texts with several pictures": [t for stem, t in texts.items() if stems[stem] > 1],
        "links or pipes that are not files": [
            file
            for file in found
            if file.suffix.lower() in (*PICTURE_SUFFIXES, ".txt") and not (folder / file).is_file()
        ],
    }
    wrong = [f"{what}: {shortened(map(str, files))}" for what, files in problems.items() if files]
    if wrong:
        raise ValueError(
            f"each picture in {str(folder)!r} needs one text of the same name (a.jpg and a.txt), "
            f"but there are {'; '.join(wrong)}"
        )
    found_texts = [_captions(folder / texts[file.with_suffix("")], captions) for file in pictures]
    part_of, class_of = _places(pictures, folder)
    y, target_names = None, None
    if class_of:
        y, target_names = class_labels(objects(class_of), names=True)
    splits = {}
    for part in sorted(set(part_of), key=split_order):
        at = [i for i, name in enumerate(part_of) if name == part]
        index = np.repeat(np.arange(len(at)), [len(found_texts[i]) for i in at])
        strings = [caption for i in at for caption in found_texts[i]]
        absolute = [str(folder / pictures[i]) for i in at]
        views = (
            Views(image=absolute, text=strings)
            if len(strings) == len(absolute)
            else Views.from_captions(absolute, strings, index)
        )
        splits[part] = Split(views, None if y is None else y[at][index])
    hashed = [f"{file} {file_sha256((folder / file).absolute())}" for file in pictures]
    hashed += [caption for own in found_texts for caption in own]
    card = own_card(folder.resolve().name, "folders:from_folder", splits)
    return Dataset(card, splits, target_names, content_hash(*hashed))


def _files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder that are not hidden, following links, as relative paths."""

    def within(inner: Path, above: frozenset[str]) -> Iterator[Path]:
        here = os.path.realpath(inner)
        if here in above:
            raise ValueError(f"{str(inner)!r} is a link to a folder that contains it")
        for entry in os.scandir(inner):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from within(inner / entry.name, above | {here})
            else:
                yield (inner / entry.name).relative_to(folder)

    return within(folder, frozenset())


def _places(pictures: Sequence[Path], folder: Path) -> tuple[list[str], list[str]]:
    """Return the split of each picture, and its class, or an empty list if there are no classes."""
    top = {file.parts[0].lower() if len(file.parts) > 1 else "" for file in pictures}
    by_split = top <= set(SPLIT_FOLDERS)
    part_of = [file.parts[0].lower() if by_split else "all" for file in pictures]
    depth = 2 if by_split else 1
    nested = [len(file.parts) > depth for file in pictures]
    if any(nested) and not all(nested):
        loose = [str(file) for file, inside in zip(pictures, nested) if not inside]
        raise ValueError(
            f"either all or no pictures in {str(folder)!r} lie in class folders"
            + (f" of {', '.join(sorted(top))}" if by_split else "")
            + f", but these lie outside: {shortened(loose)}"
        )
    return part_of, [file.parts[depth - 1] for file in pictures] if all(nested) else []


def _captions(path: Path, how: str) -> list[str]:
    lines = [line.strip() for line in read_lines(path)]
    captions = [line for line in lines if line]
    if not captions:
        raise ValueError(f"{str(path)!r} is empty: expected one caption per line, or a text")
    return ["\n".join(lines).strip()] if how == "whole" else captions
