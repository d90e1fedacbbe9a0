"""Tables in tar shards in the layout of webdataset."""

from __future__ import annotations

import glob
import io
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import shown
from crossfit._packed import member_address, tar_members
from crossfit.datasets.columns import Table, objects
from crossfit.datasets.record import read_lines, shortened, split_order
from crossfit.extraction.formats import PICTURE_SUFFIXES, SOUND_SUFFIXES

__all__ = ["open_shards", "shards_of"]

#: Largest size in bytes of a text, a JSON object or an array in a shard.
_TEXT_LIMIT = 2**24
_PICKLED = ("pkl", "pickle", "pyd", "pth", "pt", "ten")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def shards_of(source: Any) -> tuple[dict[str, list[Path]], Path]:
    """Return the tar files of each split, and the folder that holds them."""
    if isinstance(source, (list, tuple)):
        wrong = [one for one in source if not isinstance(one, (str, os.PathLike))]
        if wrong:
            raise TypeError(f"from_webdataset needs paths of tar files, got {shown(wrong[0])}")
        files = [Path(path) for one in source for path in _expanded(os.fspath(one))]
        if not files:
            raise ValueError("from_webdataset needs a tar file, got an empty list")
        return {"all": files}, _common(files)
    folder = Path(source)
    if not folder.is_dir():
        files = [Path(path) for path in _expanded(os.fspath(source))]
        return {"all": files}, _common(files)
    own = _in_order(folder)
    if own:
        return {"all": own}, folder
    parts = {inner.name: _in_order(inner) for inner in sorted(folder.iterdir()) if inner.is_dir()}
    found = {name: files for name, files in parts.items() if files}
    if not found:
        raise FileNotFoundError(
            f"{str(folder)!r} holds no tar files, in itself or one folder below"
        )
    return {name: found[name] for name in sorted(found, key=split_order)}, folder


def _common(files: Sequence[Path]) -> Path:
    """Return the folder below which all files lie."""
    return Path(os.path.commonpath([path.absolute().parent for path in files]))


def _in_order(folder: Path) -> list[Path]:
    """Return the tar files of a folder, by their numbers, after checking that none is missing."""
    files = sorted(folder.glob("*.tar"), key=lambda path: (len(path.stem), path.stem))
    count = folder / "nshards.txt"
    if count.is_file():
        stated = "".join(read_lines(count)).strip()
        if not stated.isdecimal():
            raise ValueError(f"{str(count)!r} must hold the number of shards, got {stated[:80]!r}")
        names = {path.name for path in files}
        missing = [f"{i}.tar" for i in range(int(stated)) if f"{i}.tar" not in names]
        if missing:
            raise FileNotFoundError(
                f"{str(folder)!r} should hold {stated} shards, but lacks {shortened(missing)}"
            )
    return files


def _expanded(pattern: str) -> Iterator[str]:
    """Yield the files of a pattern with ranges in braces, or with wildcards."""
    ranges = [
        [str(i).zfill(len(low)) for i in range(int(low), int(high) + 1)]
        for low, high in _BRACES.findall(pattern)
    ]
    pieces = _BRACES.split(pattern)[::3]
    for numbers in itertools.product(*ranges):
        path = "".join(
            itertools.chain.from_iterable(itertools.zip_longest(pieces, numbers, fillvalue=""))
        )
        if os.path.exists(path):
            yield path
        elif not ranges and glob.has_magic(path) and (found := sorted(glob.glob(path))):
            yield from found
        else:
            raise FileNotFoundError(f"there is no tar file {path!r}")


def open_shards(
    parts: Mapping[str, Sequence[Path]],
    folder: Path,
    captions: str = "lines",
    classes: Sequence[str] = (),
) -> Table:
    """Open the tar files of each split as a table with a row per sample; see `from_webdataset`."""
    files = [(part, path) for part, paths in parts.items() for path in paths]
    first = files[0][1]
    names: dict[str, None] = {}
    for _, path in files:
        for _, sample in _samples(path):
            names.update(dict.fromkeys(sample))
    json_names = {name for name in names if name == "json" or name.endswith(".json")}
    if json_names:
        for row in _rows(files[:1], folder, sorted(json_names), captions, limit=100):
            for name in sorted(json_names):
                names.update({f"{name}.{key}": None for key in row[name] or ()})
    pictures = [name for name in names if f".{name.rpartition('.')[2]}" in PICTURE_SUFFIXES]
    sounds = [name for name in names if f".{name.rpartition('.')[2]}" in SOUND_SUFFIXES]
    texts: list[str] = [name for name in ("txt", "json.caption", "json.text") if name in names]
    label = ["cls"] if "cls" in names else []
    virtual: dict[str, list[str]] = {
        "image": pictures,
        "audio": sounds,
        "text": texts[:1],
        "label": label,
        "label_name": label if classes else [],
    }
    offered = [name for name, sources in virtual.items() if sources]
    offered += [name for name in names if name not in offered] + ["__key__", "__split__"]

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        columns: dict[str, list[Any]] = {name: [] for name in wanted}
        sources = {name: virtual.get(name) or [name] for name in wanted}
        needed = sorted({source for own in sources.values() for source in own})
        for row in _rows(files, folder, needed, captions):
            for name, own in sources.items():
                value = next((row[source] for source in own if row.get(source) is not None), None)
                columns[name].append(_named(value, classes) if name == "label_name" else value)
        return {name: objects(column) for name, column in columns.items()}

    name = first.name if len(files) == 1 else f"{first.name} and {len(files) - 1} more"
    stem = first.stem if len(files) == 1 else folder.absolute().name
    named = {"label": classes, "cls": classes} if classes else {}
    return Table(name, offered, read, stem, folder, named)


def _named(code: Any, classes: Sequence[str]) -> str | None:
    return classes[code] if isinstance(code, int) and 0 <= code < len(classes) else None


def _samples(path: Path) -> Iterator[tuple[str, dict[str, tuple[str, int, int]]]]:
    """Yield the key of each sample and its members by extension: name, offset and size."""
    sample: dict[str, tuple[str, int, int]] = {}
    current = ""
    for name, offset, size in tar_members(path):
        folder, _, base = name.rpartition("/")
        key, dot, extension = base.partition(".")
        if not key or not dot or base.startswith("."):
            continue
        key, extension = f"{folder}/{key}" if folder else key, extension.lower()
        if extension.rpartition(".")[2] in _PICKLED:
            raise ValueError(
                f"{str(path)!r} has the member {name!r}, a pickle, which crossfit does not read; "
                "write the shard without it"
            )
        if key != current:
            if sample:
                yield current, sample
            sample, current = {}, key
        if extension in sample:
            raise ValueError(f"{str(path)!r} has two members of the name {name!r}")
        sample[extension] = (name, offset, size)
    if sample:
        yield current, sample


def _rows(
    files: Sequence[tuple[str, Path]],
    folder: Path,
    wanted: Sequence[str],
    captions: str,
    limit: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the values of each sample by column; pictures and sounds as addresses."""
    media = {*PICTURE_SUFFIXES, *SOUND_SUFFIXES}
    for part, path in files:
        # As in other tables, relative to the folder: the revision does not depend on the place.
        shard = path.absolute().relative_to(folder.absolute()).as_posix()
        with path.open("rb") as file:
            for key, sample in itertools.islice(_samples(path), limit):
                row: dict[str, Any] = {"__split__": part, "__key__": key}
                read: dict[str, Any] = {}
                for column in wanted:
                    if column in row:
                        continue
                    name, inner = column, ""
                    if column not in sample and ".json." in f".{column}":
                        name, _, inner = column.rpartition(".")
                    if name not in sample:
                        row[column] = None
                    elif f".{name.rpartition('.')[2]}" in media:
                        row[column] = member_address(shard, sample[name][0])
                    else:
                        if name not in read:
                            read[name] = _value(path, file, *sample[name], captions)
                        row[column] = read[name].get(inner) if inner else read[name]
                yield row


def _value(path: Path, file: Any, name: str, offset: int, size: int, captions: str) -> Any:
    """Return what is in a member that is a text, a class, a JSON object or an array."""
    where = f"{str(path)!r}, member {name!r}"
    kind = name.rpartition(".")[2].lower()
    if size > _TEXT_LIMIT:
        raise ValueError(f"{where}: has {size:,} bytes, more than {_TEXT_LIMIT:,} of a {kind}")
    file.seek(offset)
    content = file.read(size)
    if kind == "npy":
        try:
            return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{where}: not an array of numbers ({error})") from None
    try:
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: not a text in UTF-8 (byte 0x{content[error.start]:02x} at {error.start})"
        ) from None
    if kind == "json":
        try:
            found = json.loads(decoded)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not valid JSON ({error})") from None
        if not isinstance(found, dict):
            raise ValueError(f"{where}: expected a JSON object, got {type(found).__name__}")
        return found
    if kind in ("cls", "cls2", "index", "inx", "id"):
        text = decoded.strip()
        return int(text) if re.fullmatch(r"-?\d{1,18}", text) else text
    if captions == "whole":
        return decoded.strip()
    return [line.strip() for line in decoded.split("\n") if line.strip()]
