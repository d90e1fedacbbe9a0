"""Data sets from folders of pictures or sounds with texts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import one_of, validated
from crossfit._warnings import warn
from crossfit.datasets.columns import Table, objects
from crossfit.datasets.opening import FORMS, open_table
from crossfit.datasets.record import (
    SPLIT_FOLDERS,
    Dataset,
    Split,
    content_hash,
    read_lines,
    shortened,
    split_order,
)
from crossfit.datasets.tables import (
    ROLES,
    Roles,
    build,
    class_labels,
    columns_of_views,
    default_views,
    own_card,
    states_of,
)
from crossfit.extraction.formats import PICTURE_SUFFIXES, SOUND_SUFFIXES
from crossfit.views import Views

__all__ = ["METADATA", "files_of", "from_folder"]

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


@validated(
    path=[str, os.PathLike],
    captions=[one_of("lines", "whole")],
    text=[str, list, tuple, None],
    **{name: ROLES[name] for name in ("label", "info", "invalid", "revision")},
)
def from_folder(
    path: str | os.PathLike[str],
    *,
    captions: str = "lines",
    text: str | Sequence[str] | None = None,
    label: str | None = None,
    info: Collection[str] = (),
    invalid: str = "raise",
    revision: str = "auto",
) -> Dataset:
    """Build a data set from a folder of pictures or sounds with texts.

    Parameters
    ----------
    path : path
        Folder in one of three layouts.

        A table of texts, as `datasets` and its ImageFolder have it: ``metadata.csv``,
        ``metadata.jsonl`` or ``metadata.parquet``, in the folder or in folders below it, with a
        column ``file_name`` of paths relative to the table.

        A text file for each picture: ``<name>.jpg`` (or another format of pictures or, if there
        are none, of sounds) and ``<name>.txt``, either directly or in one folder per class.

        Class folders without any text: ``<class>/<name>.jpg``. The text of a picture is the name
        of its class, with spaces for underscores.

        If all top-level folders have names of splits (``train``, ``val``, ``test``, ``dev``,
        ``training``, ``valid``, ``validation``, ``testing``), they are the splits, and contain the
        files or the folders of classes. Links to files and folders are followed.
    captions : {"lines", "whole"}, default="lines"
        Whether each non-blank line of a text file is a caption, or the whole file is one text, such
        as an article.
    text, label, info
        Columns of the metadata, as in `from_table`.
    invalid : {"raise", "skip"}, default="raise"
        What to do with a picture without a text, a text without a picture, an empty text or a
        missing file: raise an error that lists the first few, or leave them out and warn of their
        number.
    revision : {"auto", "content", "sizes", "names"}, default="auto"
        What the revision depends on besides the texts and the names of the files; see `from_table`.

    Returns
    -------
    Dataset
        One split, ``"all"``, or those of the folders, sorted by path; with labels if there are
        class folders, the same in all splits. A picture with several captions is one item
        (`Views.from_captions`). The views are ``image`` or ``audio``, and ``text``.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or a file that the metadata name.
    ValueError
        If there are no pictures or sounds, if a picture has no text or a text no picture (the
        message names the first few), if a text is empty, if a link is broken or circular, or if
        only some pictures are in class folders.

    See Also
    --------
    from_table : Build a data set from a table in any place.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}")
    found = sorted(files_of(folder))
    pictures = [file for file in found if file.suffix.lower() in PICTURE_SUFFIXES]
    sounds = [file for file in found if file.suffix.lower() in SOUND_SUFFIXES]
    view, media, suffixes = "image", pictures, PICTURE_SUFFIXES
    if sounds and not pictures:
        view, media, suffixes = "audio", sounds, SOUND_SUFFIXES
    tables = [file for file in found if file.name.lower() in METADATA]
    if tables:
        return _described(folder, tables, media, text, label, info, invalid, revision)
    if text is not None or label is not None or info:
        raise ValueError(
            f"text, label and info name columns of metadata, but {str(folder)!r} has none of "
            f"{', '.join(METADATA)}"
        )
    if not media:
        shards = any(file.suffix.lower() == ".tar" for file in found)
        forms = sorted({file.suffix for file in found if file.suffix.lower() in FORMS})
        hint = "; read its tar files with from_webdataset" if shards else ""
        if forms:
            hint = f"; read its tables with from_table, {str(folder / f'*{forms[0]}')!r}"
        raise ValueError(
            f"{str(folder)!r} holds no pictures ({', '.join(suffixes)}), only "
            f"{len(found)} other files{hint}"
        )
    if any(file.suffix.lower() == ".txt" for file in found):
        media, texts = _with_texts(folder, found, media, suffixes, captions, invalid)
        part_of, class_of = _places(media, folder)
    else:
        part_of, class_of = _places(media, folder)
        if not class_of:
            raise ValueError(
                f"{str(folder)!r} has no texts: put a text of the same name next to each picture "
                f"(a.jpg and a.txt), write a table ({', '.join(METADATA)}) with the columns "
                "file_name and text, or put the pictures into a folder for each class"
            )
        texts = [[name.replace("_", " ")] for name in class_of]

    y, target_names = None, None
    if class_of:
        y, target_names = class_labels(objects(class_of), names=True)
    splits = {}
    for part in sorted(set(part_of), key=split_order):
        at = [i for i, name in enumerate(part_of) if name == part]
        index = np.repeat(np.arange(len(at)), [len(texts[i]) for i in at])
        strings = [caption for i in at for caption in texts[i]]
        absolute = [str(folder / media[i]) for i in at]
        views = (
            Views({view: absolute, "text": strings})
            if len(strings) == len(absolute)
            else Views.from_captions(absolute, strings, index, names=(view, "text"))
        )
        splits[part] = Split(views, None if y is None else y[at][index])
    sizes = {str(folder / file): (folder / file).stat().st_size for file in media}
    states = states_of(sizes, revision)
    hashed = [f"{file} {states.get(str(folder / file), '')}" for file in media]
    hashed += [caption for own in texts for caption in own]
    card = own_card(folder.resolve().name, "folders:from_folder", splits, (view, "text"))
    return Dataset(card, splits, target_names, content_hash(*hashed))


def _described(
    folder: Path,
    tables: Sequence[Path],
    media: Sequence[Path],
    text: str | Sequence[str] | None,
    label: str | None,
    info: Collection[str],
    invalid: str,
    revision: str,
) -> Dataset:
    """Build a data set from the tables in a folder."""
    for inner, count in Counter(file.parent for file in tables).items():
        if count > 1:
            own = [file.name for file in tables if file.parent == inner]
            raise ValueError(f"{str(folder / inner)!r} has {' and '.join(own)}; keep one of them")
    opened = {file: open_table(folder / file) for file in tables}
    shared = [
        name
        for name in next(iter(opened.values())).names
        if all(name in table.names for table in opened.values())
    ]
    views = default_views(shared, None, text)
    view = next(iter(views))
    if str(views[view]) not in {name.strip().casefold() for name in shared}:
        views = {**views, view: "file_name"}
    if view == "image" and media and all(f.suffix.lower() in SOUND_SUFFIXES for f in media):
        views = {"audio": views["image"], "text": views["text"]}
        view = "audio"
    file_name = str(views[view])
    by_split = {file.parts[0].lower() for file in media if len(file.parts) > 1} <= set(
        SPLIT_FOLDERS
    ) and all(len(file.parts) > 1 for file in media)

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        found: dict[str, list[Any]] = {name: [] for name in wanted}
        for file, table in opened.items():
            own = table.read([name for name in wanted if name != "__split__"])
            names = [_below(file.parent, entry) for entry in own[_exact(table, file_name)]]
            for name, column in own.items():
                found[name] += names if name == _exact(table, file_name) else list(column)
            if "__split__" in wanted:
                found["__split__"] += [Path(str(n)).parts[0].lower() for n in names]
        return {name: objects(column) for name, column in found.items()}

    name = str(tables[0]) if len(tables) == 1 else f"{tables[0]} and {len(tables) - 1} more"
    table = Table(name, [*shared, "__split__"], read, folder.resolve().name, folder)
    split = "__split__" if by_split and media else None
    roles = Roles(
        columns_of_views(views), ("image", "audio"), None, label, None, split, tuple(info)
    )
    made = build(table, roles, "folders:from_folder", folder, invalid, revision)
    used = {os.path.normpath(p) for part in made.splits.values() for p in part.views[view]}
    unused = [str(file) for file in media if os.path.normpath(folder / file) not in used]
    if unused:
        warn(
            f"{len(unused)} files in {str(folder)!r} have no row in {name} and are left out: "
            f"{shortened(unused)}"
        )
    splits = {part: made.splits[part] for part in sorted(made.splits, key=split_order)}
    return Dataset(made.card, splits, made.target_names, made.revision)


def _exact(table: Table, name: str) -> str:
    """Return the name of a column as the table writes it."""
    return next(own for own in table.names if own.strip().casefold() == name.strip().casefold())


def _below(inner: Path, entry: Any) -> Any:
    """Return a path of a table in the folder `inner`, relative to the whole folder."""
    return (inner / entry).as_posix() if isinstance(entry, str) and entry.strip() else entry


def _with_texts(
    folder: Path,
    found: Sequence[Path],
    media: Sequence[Path],
    suffixes: Sequence[str],
    captions: str,
    invalid: str,
) -> tuple[list[Path], list[list[str]]]:
    """Return the files that have a text of the same name, and their captions."""
    texts = {file.with_suffix(""): file for file in found if file.suffix.lower() == ".txt"}
    stems = Counter(file.with_suffix("") for file in media)
    # Other files with the name of a text may be pictures in a format that is not supported.
    known = set(media)
    beside = {file.with_suffix(""): file for file in found if file not in known
              and file.suffix.lower() != ".txt"}  # fmt: skip
    irregular = {
        file
        for file in found
        if file.suffix.lower() in (*suffixes, ".txt") and not (folder / file).is_file()
    }
    problems: dict[str, list[Any]] = {
        "pictures without a text": [p for p in media if p.with_suffix("") not in texts],
        "texts without a picture": [
            f"{texts[stem]} (next to {beside[stem].name}, which is not among {', '.join(suffixes)})"
            if stem in beside
            else texts[stem]
            for stem in texts
            if stem not in stems
        ],
        "texts with several pictures": [t for stem, t in texts.items() if stems[stem] > 1],
        "links or pipes that are not files": sorted(irregular),
    }
    if suffixes is not PICTURE_SUFFIXES:
        problems = {what.replace("picture", "sound"): files for what, files in problems.items()}
    usable, own = list(media), []
    if invalid == "skip":
        usable = [
            file
            for file in media
            if stems[file.with_suffix("")] == 1
            and file.with_suffix("") in texts
            and not {file, texts[file.with_suffix("")]} & irregular
        ]
    wrong = [f"{what}: {shortened(map(str, files))}" for what, files in problems.items() if files]
    if wrong and invalid == "raise":
        thing = "picture" if suffixes is PICTURE_SUFFIXES else "sound"
        raise ValueError(
            f"each {thing} in {str(folder)!r} needs one text of the same name (a.jpg and a.txt), "
            f"but there are {'; '.join(wrong)}"
        )
    empty = []
    kept = []
    for file in usable:
        lines = _captions(folder / texts[file.with_suffix("")], captions)
        if lines:
            kept.append(file)
            own.append(lines)
        else:
            empty.append(texts[file.with_suffix("")])
    if empty and invalid == "raise":
        raise ValueError(
            f"{str(folder / empty[0])!r} is empty: expected one caption per line, or a text"
            + (f" (as are {len(empty) - 1} more)" if len(empty) > 1 else "")
        )
    if empty:
        wrong.append(f"empty texts: {shortened(map(str, empty))}")
    if not kept:
        raise ValueError(f"{str(folder)!r} has no file that can be used: {'; '.join(wrong)}")
    if wrong:
        counts = {what: len(files) for what, files in problems.items() if files}
        counts |= {"empty texts": len(empty)} if empty else {}
        listed = ", ".join(f"{count} {what}" for what, count in counts.items())
        warn(f"{str(folder)!r}: left out {listed}; the first are {'; '.join(wrong)}")
    return kept, own


def files_of(folder: Path) -> Iterator[Path]:
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
    return ["\n".join(lines).strip()] if how == "whole" and captions else captions
