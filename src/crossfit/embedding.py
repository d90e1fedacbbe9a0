"""Features of pairs in a folder: extracted once, and read by every command and by other programs.

The folder has, for each view, its features as ``<view>.npy`` and the items that they were made from
as ``<view>.csv``, with the columns ``id`` and ``item``, or both as ``<view>.parquet``;
``pairs.csv`` with the numbers of the items of each pair, its group and its split; ``extractors/``,
a bundle that embeds further items in the same way; and ``features.json``, which describes all of
this.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import crossfit
from crossfit._arguments import a_path, integer, one_of, validated
from crossfit._devices import resolve_device
from crossfit._files import clear_drafts, draft_of, reserve, room_for
from crossfit._sharding import Part, array_of, extracted_in_parts, is_being_made, parts_of
from crossfit._workers import Run, cluster, processes
from crossfit.datasets.features import FORMAT, LABELS, MANIFEST, PAIRS
from crossfit.datasets.record import Dataset
from crossfit.datasets.text_tables import open_csv
from crossfit.datasets.vectors import VECTOR
from crossfit.views import Ragged, n_rows

if TYPE_CHECKING:
    from crossfit.compose import ViewTransformer

__all__ = ["embed"]

#: Number of items that are extracted at a time, at first and at most.
_FIRST, _MOST = 64, 2**13
#: Seconds that a block of items should take: progress is reported after each.
_SECONDS = 2.0
#: Number of rows of a table that are written at a time.
_ROW_GROUP = 4096

#: Function of the view, the number of items done, and the number of all.
Listener = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Column:
    """The distinct items of a view in all splits, and the item of each row.

    Parameters
    ----------
    items : array-like
        Paths, texts, or whatever the view holds; the items of a split follow one another.
    index : int array of shape (n_rows,)
        Number of the item of each row.
    """

    items: Any
    index: NDArray[np.int64]


def columns_of(pairs: Dataset) -> dict[str, Column]:
    """Return the distinct items of each view, in the order of the splits.

    Parameters
    ----------
    pairs : Dataset
        The pairs.

    Raises
    ------
    ValueError
        If some rows lack a view.
    """
    splits = list(pairs.splits.values())
    found = {}
    for view in splits[0].views.names:
        parts, index, start = [], [], 0
        for split in splits:
            items, rows = split.views.distinct(view)
            if rows.min() < 0:
                raise ValueError(f"some rows lack the view {view!r}; embed needs all views")
            parts.append(items)
            index.append(rows + start)
            start += n_rows(items)
        found[view] = Column(_joined(parts), np.concatenate(index))
    return found


def _joined(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Ragged):
        return Ragged.from_list([row for part in parts for row in part])
    return np.concatenate(parts)


def extracted(
    extractor: Any, items: Any, *, skip: bool = False, size: int | None = None
) -> Iterator[tuple[Any, dict[int, str]]]:
    """Yield the features of items block by block, so that memory is bounded.

    Parameters
    ----------
    extractor : transformer
        Fitted.
    items : array-like of n items
        Any part of the items of a view.
    skip : bool, default=False
        Whether to leave out items that cannot be read; the extractor must be an `Extractor`.
    size : int, optional
        Number of items of a block. By default blocks grow until they take two seconds.

    Yields
    ------
    rows : ndarray or Ragged
        Features of a block.
    problems : dict of int to str
        Positions in the block that were left out, and why.
    """
    n = n_rows(items) if hasattr(items, "shape") else len(items)
    least = max(getattr(extractor, "batch_size", 1), 1)
    step = size or max(_FIRST, least)
    start = 0
    while start < n:
        begun = time.monotonic()
        block = items[start : start + step]
        if skip and hasattr(extractor, "transform_readable"):
            yield extractor.transform_readable(block)
        else:
            yield extractor.transform(block), {}
        start += step
        if size is None and time.monotonic() - begun < _SECONDS / 2:
            step = min(2 * step, _MOST)


def fitted_extractors(pairs: Dataset, extractors: Mapping[str, Any]) -> Any:
    """Return the extractors as one fitted step of a pipeline.

    Extractors that learn are fitted on the training pairs.

    Parameters
    ----------
    pairs : Dataset
        The pairs.
    extractors : mapping of str to transformer
        View to its extractor or pipeline.

    Returns
    -------
    ViewTransformer

    Raises
    ------
    ValueError
        If a view does not exist, an item is not what an extractor expects, or an extractor learns
        but the pairs have no split ``train``.
    """
    from sklearn.base import clone

    from crossfit.compose import ViewTransformer
    from crossfit.experiment.features import needs_fit

    first = next(iter(pairs.splits.values())).views
    for view in extractors:
        if view not in first:
            raise ValueError(
                f"there is no view {view!r}: the views of the pairs are {', '.join(first.names)}"
            )
    fitted: dict[str, Any] = dict.fromkeys(first.names, "passthrough")
    for view, extractor in extractors.items():
        fitted[view] = clone(extractor)
        if needs_fit(extractor) and "train" not in pairs:
            raise ValueError(
                f"the extractor of {view!r}, {type(extractor).__name__}, learns from training "
                "pairs, but the pairs have no split 'train'; give the table a column split, or "
                "name this extractor in crossfit fit, which fits it on the training pairs"
            )
        part = pairs["train"].views if needs_fit(extractor) else first
        try:
            fitted[view].fit(part.distinct(view)[0])
        except (ValueError, TypeError) as error:
            raise ValueError(f"view {view!r}: {error}") from error
    stage = ViewTransformer([(view, extractors[view]) for view in extractors])
    stage.transformers_ = fitted
    stage.views_in_ = {name: name for name in first.names}
    stage.feature_names_in_ = first.columns
    return stage


def _of_these_pairs(stage: Any, pairs: Dataset) -> Any:
    """Return fitted extractors after checking that they are those of the views of the pairs."""
    from crossfit.compose import ViewTransformer

    if not isinstance(stage, ViewTransformer) or not hasattr(stage, "transformers_"):
        raise TypeError(
            f"extractors must be a mapping or a fitted ViewTransformer, got {type(stage).__name__}"
        )
    views = next(iter(pairs.splits.values())).views.names
    known = tuple(stage.transformers_)
    if set(known) != set(views):
        raise ValueError(
            f"the extractors are of the views {', '.join(known)}, but the pairs have "
            f"{', '.join(views)}"
        )
    return stage


@validated(
    pairs=[Dataset], folder=[a_path()], skip=["boolean"],
    n_jobs=[integer(-1)], devices=[list, tuple], scheduler=[str, None],
    format=[one_of("npy", "parquet")],
)  # fmt: skip
def embed(
    pairs: Dataset,
    extractors: Mapping[str, Any] | ViewTransformer,
    folder: str | os.PathLike[str],
    *,
    skip: bool = False,
    about: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
    n_jobs: int = 1,
    devices: Sequence[str] = (),
    scheduler: str | None = None,
    format: str = "npy",
) -> dict[str, dict[int, str]]:
    """Extract the features of pairs, and write them to a folder.

    The feature cache is filled meanwhile, so that a run that was killed continues where it
    stopped; the folder appears when it is complete.

    Parameters
    ----------
    pairs : Dataset
        The pairs, for instance of `crossfit.datasets.read_pairs`.
    extractors : mapping of str to transformer, or ViewTransformer
        View to its extractor. Views without one are written as they are: vectors, or texts. A
        fitted ViewTransformer, such as ``crossfit.load(folder + "/extractors")``, is used as it is.
    folder : path
        Folder to write, which must not exist; `crossfit.datasets.read_pairs` and
        `crossfit.datasets.from_precomputed` read it.
    skip : bool, default=False
        Whether to leave out pairs with a file that cannot be read, instead of raising.
    about : mapping of str to object, optional
        Further entries of ``features.json``, as JSON has them.
    listener : callable, optional
        Called with the view, the number of its items that are done and of all its items.
    n_jobs : int, default=1
        Number of processes of this machine; -1 is one per processor. With more than one, and with
        `devices` or `scheduler`, the features are extracted in parts of 512 items, which are
        kept next to `folder` until it is complete.
    devices : sequence of str, optional
        Devices of torch: one process each, in place of `n_jobs`.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers extract the parts; see ``docs/distributed.md``.
    format : {"npy", "parquet"}, default="npy"
        Files of the features: an array per view, which is read as a memory map, or a table per view
        with a row per item: ``id``; ``path`` or ``text``; ``split``, ``group`` and ``label`` of
        the first pair that has the item; and ``vector``, a list of one length, of float32 or, for
        codes such as those of characters, of integers.

    Returns
    -------
    dict of str to dict
        View to the items that were left out, by their number, and why.

    Raises
    ------
    FileExistsError
        If the folder exists.
    ValueError
        As in `fitted_extractors`; also if an item cannot be read, or features are not arrays of
        numbers, or for parquet not one vector per item.
    ImportError
        If `format` is parquet and pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from crossfit.datasets import from_precomputed, from_table
    >>> from crossfit.extraction import GridFeatures
    >>> pixels = [np.full((8, 8, 3), value, np.uint8) for value in (10, 20)]
    >>> pairs = from_table({"image": pixels, "text": ["dark", "light"]})
    >>> folder = tempfile.mkdtemp() + "/features"
    >>> embed(pairs, {"image": GridFeatures(cache=False)}, folder)
    {}
    >>> from_precomputed(folder)["all"].views["image"].shape
    (2, 828)
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise FileExistsError(f"{str(folder)!r} exists already; choose a new folder")
    devices = tuple(map(resolve_device, devices))
    if format == "parquet":
        _parquet()
    if n_jobs == 0:
        raise ValueError("n_jobs must be a positive number or -1, got 0")
    if scheduler is not None and (devices or n_jobs != 1):
        raise ValueError("scheduler excludes n_jobs and devices: the cluster has its own workers")
    if isinstance(extractors, Mapping):
        stage = fitted_extractors(pairs, extractors)
    else:
        stage = _of_these_pairs(extractors, pairs)
    columns = columns_of(pairs)
    parts = folder.absolute().with_name(f".{folder.name}.parts")
    problems: dict[str, dict[int, str]] = {}
    described: dict[str, Any] = {}
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_drafts(folder)
    known: dict[str, Part] = {}
    with (
        room_for("the features", folder),
        draft_of(folder, Path.mkdir) as draft,
        _processes(n_jobs, devices, scheduler, known) as run,
    ):
        if run is not None:
            parts.mkdir(exist_ok=True)

        def rows_of(view: str, items: Any, extractor: Any) -> Iterator[tuple[Any, dict[int, str]]]:
            done = 0

            def count(n: int) -> None:
                nonlocal done
                done += n
                if listener is not None:
                    listener(view, done, n_rows(items))

            if run is None:
                for rows, left_out in extracted(extractor, items, skip=skip):
                    yield rows, left_out
                    count(n_rows(rows) + len(left_out))
            else:
                made = parts_of(parts, view, extractor, items, skip, devices)
                known.update({part.path.name: part for part in made})
                yield from extracted_in_parts(run, made, count)

        kept = np.ones(len(next(iter(columns.values())).index), dtype=bool)
        for view, column in columns.items():
            written, left_out = _write_view(
                draft, view, column.items, stage.transformers_[view], rows_of, format == "parquet"
            )
            described[view] = written
            if left_out:
                problems[view] = left_out
                kept &= ~np.isin(column.index, list(left_out))
        if not kept.any():
            view, left_out = next(iter(problems.items()))
            first = next(iter(left_out.values()))
            raise ValueError(f"no pair can be used; the first problem of {view!r}: {first}")
        numbers = {view: _numbers(column, problems.get(view, {})) for view, column in
                   columns.items()}  # fmt: skip
        labels = _write_pairs(draft, pairs, numbers, kept)
        if format == "parquet":
            rows = _rows_of_pairs(pairs)
            for view, column in columns.items():
                pair_of = np.unique(column.index, return_index=True)[1]
                good = np.delete(pair_of, list(problems.get(view, {})))
                own = {name: [values[i] for i in good] for name, values in rows.items()}
                described[view] |= _as_parquet(draft, described[view], own)
        if any(not isinstance(part, str) for part in stage.transformers_.values()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                crossfit.save(stage, draft / "extractors")
        manifest = {
            "format": FORMAT,
            "name": pairs.name,
            "revision": pairs.revision,
            "labels": labels,
            "views": described,
            "written_by": f"crossfit {crossfit.__version__}",
            **(about or {}),
        }
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        draft.rename(folder)
    shutil.rmtree(parts, ignore_errors=True)
    return problems


@contextmanager
def _processes(
    n_jobs: int, devices: tuple[str, ...], scheduler: str | None, known: Mapping[str, Part]
) -> Iterator[Run | None]:
    """Provide a function that works in other processes, or None for this one."""
    if scheduler is not None:
        with cluster(scheduler) as run:
            yield run
    elif devices or n_jobs != 1:
        with processes(len(devices) or n_jobs, lambda name: is_being_made(known[name])) as run:
            yield run
    else:
        yield None


def _write_view(
    folder: Path,
    view: str,
    items: Any,
    extractor: Any,
    rows_of: Callable[[str, Any, Any], Iterator[tuple[Any, dict[int, str]]]],
    flat: bool,
) -> tuple[dict[str, Any], dict[int, str]]:
    """Write the features and the items of a view; return its entry in the manifest."""
    n = n_rows(items)
    name = _file_name(view)
    if (folder / f"{name}.csv").exists() or name == PAIRS.removesuffix(".csv"):
        raise ValueError(f"the view {view!r} needs another name, {name} is that of another file")
    written: dict[str, Any] = {"n": n, "files": []}
    problems: dict[int, str] = {}
    strings = isinstance(items, np.ndarray) and items.ndim == 1 and all(
        isinstance(item, (str, os.PathLike)) for item in items
    )  # fmt: skip
    if isinstance(extractor, str):  # passed through
        if not strings:
            with _Array(folder / f"{name}.npy", n, flat) as file:
                file.add(items)
            written |= file.described()
    else:
        done = 0
        with _Array(folder / f"{name}.npy", n, flat) as file, _silent(extractor):
            for rows, left_out in rows_of(view, items, extractor):
                problems |= {done + at: why for at, why in left_out.items()}
                if rows is not None:
                    file.add(rows)
                    done += n_rows(rows)
                done += len(left_out)
        written |= file.described()
        written["extractor"] = repr(extractor)
        written["n"] = n - len(problems)
        if weights := getattr(extractor, "weights_id_", ""):
            written["weights"] = weights
    if strings:
        paths = [os.fspath(item) for at, item in enumerate(items) if at not in problems]
        written["items"] = f"{name}.csv"
        written["paths"] = all(os.path.exists(path.partition("::")[0]) for path in paths)
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as stream:
            lines = csv.writer(stream, lineterminator="\n")
            lines.writerow(["id", "item"])
            lines.writerows(zip(_ids(paths), map(_absolute, paths)))
    return written, problems


@contextmanager
def _silent(extractor: Any) -> Iterator[None]:
    """Switch off the bar of an extractor: the whole run has a progress of its own."""
    verbose = getattr(extractor, "verbose", None)
    if verbose is not None:
        extractor.set_params(verbose=False)
    try:
        yield
    finally:
        if verbose is not None:
            extractor.set_params(verbose=verbose)


def _file_name(view: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in view)


def _absolute(item: str) -> str:
    return os.path.abspath(item) if os.path.exists(item.partition("::")[0]) else item


def _ids(items: list[str]) -> list[str]:
    """Return the paths of files below the folder that all of them are in, or numbers."""
    folders = {os.path.dirname(item) for item in items if os.path.exists(item.partition("::")[0])}
    if not folders or "" in folders or len(set(items)) < len(items):
        return [str(i) for i in range(len(items))]
    try:
        return [os.path.relpath(item, os.path.commonpath(folders)) for item in items]
    except ValueError:  # on several drives
        return items


class _Array:
    """A file in NumPy's format, written block by block, whose size is known only at the end."""

    def __init__(self, path: Path, n: int, flat: bool = False) -> None:
        self.path, self.n, self.flat = path, n, flat
        self.stream: IO[bytes] = path.open("wb")
        self.count = 0
        self.kind: tuple[Any, tuple[int, ...]] | None = None
        self.lengths: list[NDArray[np.int64]] | None = None
        self.header = b""

    def __enter__(self) -> _Array:
        return self

    def add(self, rows: Any) -> None:
        """Append a block."""
        values = array_of(rows, self.path.stem)
        if self.flat and (isinstance(rows, Ragged) or values.ndim != 2):
            what = "several" if isinstance(rows, Ragged) else " × ".join(map(str, values.shape[1:]))
            raise ValueError(
                f"{self.path.stem}: parquet has one vector per item, got {what} numbers each; use "
                "the format npy"
            )
        if isinstance(rows, Ragged):
            self.lengths = [*(self.lengths or []), rows.lengths]
        rows = values
        if self.kind is None:
            self.kind = (rows.dtype, rows.shape[1:])
            self._begin()
            if self.lengths is None:
                reserve(self.stream, len(self.header) + self.n * rows[:1].nbytes)
                self.stream.seek(len(self.header))
        dtype, shape = self.kind
        if rows.shape[1:] != shape:
            raise ValueError(
                f"{self.path.stem}: features must have one shape, got {shape} and {rows.shape[1:]}"
            )
        self.stream.write(np.ascontiguousarray(rows, dtype).tobytes())
        self.count += len(rows)

    def _begin(self) -> None:
        """Write the header with the count so far; its length does not depend on it."""
        assert self.kind is not None
        dtype, shape = self.kind
        described = {
            "descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False,
            "shape": (self.count, *shape),
        }  # fmt: skip
        at = self.stream.tell()
        self.stream.seek(0)
        np.lib.format.write_array_header_1_0(self.stream, described)
        self.header = b" " * self.stream.tell()
        if at:
            self.stream.seek(at)

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None and self.kind is not None:
            self.stream.truncate()
            self._begin()
        self.stream.close()

    def described(self) -> dict[str, Any]:
        """Return the entries of the manifest."""
        if self.kind is None:
            raise ValueError(f"{self.path.stem}: no item can be read")
        dtype, shape = self.kind
        file = _file_of(self.path)
        found: dict[str, Any] = {"files": [file], "dtype": str(dtype), "shape": list(shape)}
        if self.lengths is not None:
            offsets = np.concatenate([[0], np.cumsum(np.concatenate(self.lengths))])
            found["offsets"] = f"{self.path.stem}_offsets.npy"
            np.save(self.path.with_name(found["offsets"]), offsets, allow_pickle=False)
        return found


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "the format parquet needs pyarrow: pip install 'crossfit-retrieval[tables]'"
        ) from error
    return pyarrow, pyarrow.parquet


def _rows_of_pairs(pairs: Dataset) -> dict[str, list[Any]]:
    """Return split, group and label of each row; labels have their names, if they are known."""
    splits = pairs.splits.items()
    found: dict[str, list[Any]] = {
        "split": [name for name, split in splits for _ in range(len(split))],
        "group": [group for _, split in splits for group in split.groups.tolist()],
    }
    labels = [split.y for _, split in splits if split.y is not None]
    if len(labels) == len(splits):
        names = pairs.target_names

        def label(value: Any) -> Any:
            if np.ndim(value):
                return [label(int(i)) for i in np.flatnonzero(value)]
            return names[value] if names is not None and value >= 0 else int(value)

        found["label"] = [label(value) for y in labels for value in y]
    return found


def _as_parquet(
    folder: Path, written: Mapping[str, Any], columns: Mapping[str, list[Any]]
) -> dict[str, Any]:
    """Replace the files of a view by one table; return the entries of the manifest that change."""
    pa, parquet = _parquet()
    arrays = [folder / file["name"] for file in written["files"]]
    name = Path(arrays[0].name if arrays else written["items"]).stem
    target = folder / f"{name}.parquet"
    table: dict[str, Any] = {"id": [str(i) for i in range(written["n"])]}
    changed: dict[str, Any] = {}
    if items := written.get("items"):
        read = open_csv(folder / items).read(["id", "item"])
        own = "path" if written.get("paths") else "text"
        table = {"id": read["id"].tolist(), own: read["item"].tolist()}
        changed = {"items": target.name, "column": own}
        (folder / items).unlink()
    table |= columns
    vectors = np.load(arrays[0], mmap_mode="r", allow_pickle=False) if arrays else None
    plain = pa.table(table)
    schema = plain.schema
    if vectors is not None:
        # Codes, such as those of characters, stay integers.
        dtype = vectors.dtype if vectors.dtype.kind in "iu" else np.dtype(np.float32)
        kind = pa.list_(pa.from_numpy_dtype(dtype), vectors.shape[1])
        schema = schema.append(pa.field(VECTOR, kind, nullable=False))
    # A dictionary of different numbers would only take time.
    with parquet.ParquetWriter(target, schema, use_dictionary=list(table)) as file:
        for start in range(0, plain.num_rows, _ROW_GROUP):
            part = plain.slice(start, _ROW_GROUP)
            if vectors is not None:
                block = np.ascontiguousarray(vectors[start : start + _ROW_GROUP], dtype)
                lists = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), block.shape[1])
                part = part.append_column(schema.field(VECTOR), lists)
            file.write_table(part.cast(schema), row_group_size=_ROW_GROUP)
    if vectors is not None:
        arrays[0].unlink()
        changed |= {"files": [_file_of(target)], "dtype": str(dtype)}
    return changed


def _file_of(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"name": path.name, "size": path.stat().st_size, "sha256": digest}


def _numbers(column: Column, left_out: Mapping[int, str]) -> NDArray[np.int64]:
    """Return the item of each row, counted without those left out."""
    if not left_out:
        return column.index
    good = np.ones(n_rows(column.items), dtype=bool)
    good[list(left_out)] = False
    return (np.cumsum(good) - 1)[column.index]


def _write_pairs(
    folder: Path, pairs: Dataset, numbers: Mapping[str, NDArray[np.int64]], kept: NDArray[np.bool_]
) -> Any:
    """Write the rows of the pairs; return the names of the classes, or whether there are labels."""
    names = [name for name, split in pairs.splits.items() for _ in range(len(split))]
    groups = np.concatenate([split.groups for split in pairs.splits.values()])
    with open(folder / PAIRS, "w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow([*numbers, "group", "split"])
        rows = zip(*(column.tolist() for column in numbers.values()), groups.tolist(), names)
        lines.writerows(row for row, keep in zip(rows, kept) if keep)
    y = [split.y for split in pairs.splits.values() if split.y is not None]
    if len(y) < len(pairs.splits):
        return False
    np.save(folder / LABELS, np.concatenate(y)[kept], allow_pickle=False)
    return list(pairs.target_names) if pairs.target_names is not None else True
