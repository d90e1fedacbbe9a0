"""The files of an index: segments that never change, and a manifest that lists them.

A change writes new files under new names and then replaces the manifest by one rename, so that an
index on disk is always as before the change or as after it. Files that no manifest lists are left
by killed writers and are removed by the next one. A reader keeps the files of its manifest open.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import shown
from crossfit._files import room_for, whole_file

__all__ = [
    "BLOCK",
    "MANIFEST",
    "Segment",
    "Snapshot",
    "arrow",
    "chained",
    "cut",
    "dead_of",
    "keys_of",
    "linked_segment",
    "live_ids",
    "read_manifest",
    "sync_folder",
    "synced",
    "with_columns",
    "write_dead",
    "write_manifest",
    "write_segment",
]

Array = NDArray[Any]

MANIFEST = "manifest.json"
FORMAT = 1
#: Rows that are copied at a time.
BLOCK = 2**16
#: Largest manifest that is read: more than 100,000 segments.
_MANIFEST_BYTES = 2**26
_NAME = re.compile(r"s\d{8}")
_PART = re.compile(r"(s\d{8}\.(vectors|rows|keys|dead-\d{1,12})|structure-\d{1,12})")


def arrow() -> Any:
    """Return pyarrow; raise an ImportError that names the extra if it is not installed."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "an index needs pyarrow for its table; pip install 'crossfit-retrieval[tables]'"
        ) from error
    return pyarrow


def keys_of(ids: Iterable[str]) -> NDArray[np.uint64]:
    """Return a number for each identifier, under which its row is looked up."""
    blake = hashlib.blake2b
    joined = b"".join(blake(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(joined, "<u8")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def damaged(folder: Path, what: str) -> ValueError:
    """Return the error of an index that is not as it was written."""
    return ValueError(f"the index {str(folder)!r} is damaged: {what}; build it again")


class Segment:
    """Rows that were written together: vectors, identifiers and columns, in mapped files.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the index.
    entry : dict
        What the manifest states of the segment.
    n_views : int
        Vectors per row.
    width : int
        Numbers per vector.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a file is damaged.
    """

    def __init__(self, folder: Path, entry: Mapping[str, Any], n_views: int, width: int) -> None:
        self.folder, self.entry = folder, entry
        self.name, self.n_rows = str(entry["name"]), int(entry["rows"])
        n = self.n_rows
        self.vectors = self._mapped("vectors", "<f4", (n, n_views, width))
        keys = self._mapped("keys", np.uint8, (n, 12)).reshape(-1)
        self.keys = keys[: 8 * n].view("<u8")
        self.order = keys[8 * n :].view("<u4")
        self._rows = self._opened()
        self.dead = self._dead(entry["dead"])

    @property
    def n_dead(self) -> int:
        """The number of removed rows."""
        return 0 if self.dead is None else int(self.dead.sum())

    def path(self, part: str) -> Path:
        """Return the path of one of the files."""
        return self.folder / f"{self.name}.{part}"

    def _mapped(self, part: str, kind: Any, shape: tuple[int, ...]) -> Array:
        path = self.path(part)
        expected = int(np.dtype(kind).itemsize * np.prod(shape, dtype=np.int64))
        if (size := path.stat().st_size) != expected:
            raise damaged(self.folder, f"{path.name} has {size:,} bytes instead of {expected:,}")
        return np.asarray(np.memmap(path, kind, "r", shape=shape))

    def _opened(self) -> Any:
        pa = arrow()
        path = self.path("rows")
        if not path.exists():  # Arrow's own error does not have a number
            raise FileNotFoundError(str(path))
        try:
            return pa.ipc.open_file(pa.memory_map(str(path)))
        except (pa.ArrowException, OSError) as error:
            raise damaged(self.folder, f"{path.name} is not an Arrow file") from error

    @cached_property
    def table(self) -> Any:
        """The table of identifiers and columns, checked on first use."""
        pa = arrow()
        try:
            table = self._rows.read_all()
            table.validate(full=True)
            names = table.schema.names
            fits = len(table) == self.n_rows and len(set(names)) == len(names) and names[0] == "id"
            fits = fits and pa.types.is_string(table.schema.field(0).type)
            fits = fits and not table.column(0).null_count
        except (pa.ArrowException, OSError, IndexError) as error:
            raise damaged(self.folder, f"{self.name}.rows cannot be read") from error
        if not fits:
            raise damaged(self.folder, f"{self.name}.rows does not have the rows of the manifest")
        return table

    @property
    def schema(self) -> Any:
        """The Arrow schema of the columns, without the identifiers."""
        schema = self._rows.schema
        return schema.remove(schema.get_field_index("id"))

    def _dead(self, entry: Mapping[str, Any] | None) -> NDArray[np.bool_] | None:
        if entry is None:
            return None
        raw = self.path(f"dead-{int(entry['generation'])}").read_bytes()
        n = self.n_rows
        bits = np.frombuffer(raw, np.uint8)
        if len(bits) == (n + 7) // 8:
            found = np.unpackbits(bits, count=n, bitorder="little").astype(bool)
            if int(found.sum()) == entry["count"]:
                return found
        raise damaged(self.folder, f"the removed rows of {self.name} do not fit")

    def locate(self, ids: Sequence[str], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the row of each identifier, -1 where this segment does not have it."""
        found = np.full(len(ids), -1, np.int64)
        at = np.searchsorted(self.keys, keys)
        open_ = np.arange(len(ids))
        while len(open_):
            # Equal keys of different identifiers stand next to each other.
            open_ = open_[at[open_] < self.n_rows]
            open_ = open_[self.keys[at[open_]] == keys[open_]]
            if not len(open_):
                break
            rows = self.order[at[open_]].astype(np.int64)
            if rows.max() >= self.n_rows:
                raise damaged(self.folder, f"{self.name}.keys names rows that do not exist")
            names = self.table.column(0).take(arrow().array(rows)).to_pylist()
            same = np.array([name == ids[i] for name, i in zip(names, open_)], bool)
            alive = same if self.dead is None else same & ~self.dead[rows]
            found[open_[alive]] = rows[alive]
            open_ = open_[~same]
            at[open_] += 1
        return found

    def blocks(self, dead: NDArray[np.bool_] | None) -> Iterator[tuple[Array, Any]]:
        """Yield vectors and table of the rows that are not removed, a block at a time."""
        for start in range(0, self.n_rows, BLOCK):
            vectors = self.vectors[start : start + BLOCK]
            table = self.table.slice(start, BLOCK)
            if dead is not None:
                alive = ~dead[start : start + BLOCK]
                vectors, table = vectors[alive], table.filter(arrow().array(alive))
            if len(vectors):
                yield vectors, table


@dataclass(frozen=True, eq=False)
class Snapshot:
    """An index as one manifest states it; it never changes.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the index.
    manifest : dict
        The manifest.
    segments : tuple of Segment
    structure : Structure or None
        The approximate structure of the first segments.
    """

    folder: Path
    manifest: Mapping[str, Any]
    segments: tuple[Segment, ...]
    structure: Any = None

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The first row of each segment, and the number of rows."""
        return np.cumsum([0, *(segment.n_rows for segment in self.segments)], dtype=np.int64)

    @cached_property
    def n_live(self) -> int:
        """The number of items."""
        return sum(segment.n_rows - segment.n_dead for segment in self.segments)

    @cached_property
    def schema(self) -> Any:
        """The Arrow schema of the columns."""
        pa = arrow()
        return pa.unify_schemas(
            [segment.schema for segment in self.segments] or [pa.schema([])],
            promote_options="default",
        ).remove_metadata()

    def locate(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each identifier, -1 for those that the index does not have."""
        keys = keys_of(ids)
        found = np.full(len(ids), -1, np.int64)
        for start, segment in zip(self.starts, self.segments):
            rows = segment.locate(ids, keys)
            found[rows >= 0] = start + rows[rows >= 0]
        return found

    def by_segment(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[Segment, NDArray[np.intp], NDArray[np.int64]]]:
        """Yield segments, the places in `rows` that are of it, and their rows in it."""
        of = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(of):
            places = np.flatnonzero(of == number)
            yield self.segments[number], places, rows[places] - self.starts[number]

    def take(self, rows: NDArray[np.int64]) -> Any:
        """Return the table of some rows, in their order."""
        pa = arrow()
        parts, places = [], []
        for segment, at, own in self.by_segment(rows):
            parts.append(segment.table.take(pa.array(own)))
            places.append(at)
        if not parts:
            return pa.schema([pa.field("id", pa.string()), *self.schema]).empty_table()
        table = pa.concat_tables(parts, promote_options="default").combine_chunks()
        order = np.argsort(np.concatenate(places), kind="stable")
        return table.take(pa.array(order))

    def vectors(self, rows: NDArray[np.int64]) -> Array:
        """Return the stored vectors of some rows, of shape (n, n_views, width)."""
        manifest = self.manifest
        shape = (len(rows), max(len(manifest["views"]), 1), manifest["width"])
        found = np.empty(shape, np.float32)
        for segment, at, own in self.by_segment(rows):
            found[at] = segment.vectors[own]
        return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an index, after checking it.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the index.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is damaged, or of a newer version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no index in {str(folder)!r}; Index.create or crossfit index makes one"
        )
    if path.stat().st_size > _MANIFEST_BYTES:
        raise damaged(folder, f"{MANIFEST} is too large")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            version = found.get("format") if isinstance(found, dict) else None
            if isinstance(version, int) and version > FORMAT:
                raise ValueError(
                    f"the index {str(folder)!r} has format {version}, and this version of crossfit "
                    f"reads {FORMAT}; upgrade crossfit"
                )
            raise damaged(folder, f"{MANIFEST} is not the manifest of an index")
        stated = found.pop("sha256", None)
        if stated != _digest(found):
            raise damaged(folder, f"{MANIFEST} does not have its checksum")
        _check_manifest(found)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise damaged(folder, f"{MANIFEST} is not JSON") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(folder, f"{MANIFEST} lacks entries ({shown(error)})") from error
    return found


def _check_manifest(found: dict[str, Any]) -> None:
    """Raise a TypeError if entries that files are opened by are not what they must be."""
    for name in ("generation", "next", "dim", "width"):
        if type(found[name]) is not int or found[name] < 0:
            raise TypeError(name)
    if not found["dim"] <= found["width"] <= found["dim"] + 1 or not found["dim"]:
        raise TypeError("width")
    for name in ("views", "segments"):
        if not isinstance(found[name], list):
            raise TypeError(name)
    for name in ("metric", "kind", "combine"):
        if not isinstance(found[name], str):
            raise TypeError(name)
    for entry in found["segments"]:
        if not _NAME.fullmatch(entry["name"]) or type(entry["rows"]) is not int:
            raise TypeError("segments")
        if entry["rows"] < 1 or not isinstance(entry["files"], dict):
            raise TypeError("segments")
        if (dead := entry["dead"]) is not None and not (
            type(dead["generation"]) is type(dead["count"]) is int
        ):
            raise TypeError("dead")
    if (structure := found["structure"]) is not None:
        if not _PART.fullmatch(structure["file"]) or not isinstance(structure["settings"], dict):
            raise TypeError("structure")
        if not 0 < structure["segments"] <= len(found["segments"]):
            raise TypeError("structure")


def _digest(manifest: Mapping[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replace the manifest by another one, which is the moment at which a change takes place."""
    text = json.dumps({**manifest, "sha256": _digest(manifest)}, indent=1)
    with whole_file(folder / MANIFEST, "the manifest of an index") as draft:
        draft.write_text(text, encoding="utf-8")
        _sync(draft)
    sync_folder(folder)


def write_segment(
    folder: Path, name: str, blocks: Iterable[tuple[Array, Any]]
) -> dict[str, Any] | None:
    """Write a segment, and return its entry in the manifest, None if it does not have rows.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the index.
    name : str
        Name of the segment.
    blocks : iterable of (float32 array of shape (n, n_views, width), pyarrow.Table)
        Vectors, and a table of identifiers and columns; all tables have the same schema.
    """
    pa = arrow()
    paths = {part: folder / f"{name}.{part}" for part in ("vectors", "rows", "keys")}
    tables = []
    with room_for("the vectors of an index", folder), paths["vectors"].open("wb") as stream:
        for vectors, table in blocks:
            stream.write(np.ascontiguousarray(vectors, "<f4").data)
            tables.append(table)
        _flush(stream)
    if not tables:
        paths["vectors"].unlink()
        return None
    table = pa.concat_tables(tables, promote_options="default").combine_chunks()
    with room_for("the table of an index", folder):
        with (
            pa.OSFile(str(paths["rows"]), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)
        _sync(paths["rows"])
        keys = keys_of(table.column(0).to_pylist())
        order = np.argsort(keys, kind="stable")
        with paths["keys"].open("wb") as stream:
            stream.write(keys[order].astype("<u8").data)
            stream.write(order.astype("<u4").data)
            _flush(stream)
    files = {part: digest_of(path) for part, path in paths.items()}
    return {"name": name, "rows": len(table), "dead": None, "files": files}


def linked_segment(segment: Segment, folder: Path, name: str) -> dict[str, Any]:
    """Put the files of a segment into another index, and return its entry in the manifest there.

    Parameters
    ----------
    segment : Segment
        Segment of an index.
    folder : pathlib.Path
        Folder of the other index.
    name : str
        Name of the segment there.
    """
    entry = segment.entry
    parts = list(entry["files"])
    if entry["dead"] is not None:
        parts.append(f"dead-{entry['dead']['generation']}")
    for part in parts:
        target = folder / f"{name}.{part}"
        try:
            os.link(segment.path(part), target)
        except FileNotFoundError:
            raise
        except OSError:  # another disk, or one without links
            with room_for("a part of an index", target):
                shutil.copyfile(segment.path(part), target)
                _sync(target)
    return {**entry, "name": name}


def write_dead(
    folder: Path, entry: Mapping[str, Any], dead: NDArray[np.bool_], generation: int
) -> dict[str, Any]:
    """Write which rows of a segment are removed, and return its new entry in the manifest."""
    path = folder / f"{entry['name']}.dead-{generation}"
    with room_for("the removed rows of an index", path), path.open("wb") as stream:
        stream.write(np.packbits(dead, bitorder="little").data)
        _flush(stream)
    return {**entry, "dead": {"generation": generation, "count": int(dead.sum())}}


def listed_files(manifest: Mapping[str, Any]) -> set[str]:
    """Return the names of the files that a manifest lists."""
    found = set()
    for entry in manifest["segments"]:
        found |= {f"{entry['name']}.{part}" for part in entry["files"]}
        if entry["dead"] is not None:
            found.add(f"{entry['name']}.dead-{entry['dead']['generation']}")
    if manifest["structure"] is not None:
        found.add(manifest["structure"]["file"])
    return found


def clear_unlisted(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Remove files of earlier manifests and of killed writers."""
    kept = listed_files(manifest)
    for name in os.listdir(folder):
        if _PART.fullmatch(name) and name not in kept:
            (folder / name).unlink(missing_ok=True)


def _flush(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def synced(path: Path) -> str:
    """Make sure that a file is on disk, and return its checksum."""
    _sync(path)
    return digest_of(path)


def _sync(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Make sure that the names of new files are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def chained(
    small: list[Segment], dead: dict[str, NDArray[np.bool_]], blocks: Iterator[tuple[Array, Any]]
) -> Iterator[tuple[Array, Any]]:
    """Yield the rows of segments that are left, then new ones."""
    for segment in small:
        yield from segment.blocks(dead.get(segment.name, segment.dead))
    yield from blocks


def cut(blocks: Iterator[tuple[Array, Any]], most: int) -> Iterator[Iterator[tuple[Array, Any]]]:
    """Yield runs of blocks of at most so many rows in total."""
    waiting: list[tuple[Array, Any]] = []
    ended = False

    def run() -> Iterator[tuple[Array, Any]]:
        nonlocal ended
        left = most
        while left:
            if not waiting:
                block = next(blocks, None)
                if block is None:
                    ended = True
                    return
                waiting.append(block)
            vectors, table = waiting.pop()
            if len(vectors) > left:
                waiting.append((vectors[left:], table.slice(left)))
                vectors, table = vectors[:left], table.slice(0, left)
            left -= len(vectors)
            yield vectors, table

    while not ended:
        yield run()


def dead_of(snapshot: Snapshot, rows: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Return the removed rows of each segment after these have been removed too."""
    found = {}
    for segment, _, own in snapshot.by_segment(rows):
        dead = np.zeros(segment.n_rows, bool) if segment.dead is None else segment.dead.copy()
        dead[own] = True
        found[segment.name] = dead
    return found


def live_ids(part: Segment) -> list[str]:
    column = part.table.column("id")
    if part.dead is not None:
        column = column.filter(arrow().array(~part.dead))
    names: list[str] = column.to_pylist()
    return names


def with_columns(table: Any, schema: Any) -> Any:
    """Return a table with the columns of the whole gallery, in the types of the whole."""
    pa = arrow()
    for field in schema:
        at = table.schema.get_field_index(field.name)
        if at < 0:
            table = table.append_column(field, pa.nulls(len(table), field.type))
        elif table.schema.field(at).type != field.type:
            table = table.set_column(at, field, table.column(at).cast(field.type))
    return table
