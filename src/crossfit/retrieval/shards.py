"""An index that several processes or machines build: a shard for each part, then one index."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from crossfit._arguments import a_path, check_arguments, integer, shown
from crossfit._files import clear_drafts, draft_of
from crossfit._html import text_of
from crossfit._workers import Lost, Run, cluster, processes
from crossfit.retrieval._segments import arrow, sync_folder
from crossfit.retrieval._table import identifiers, payload_table
from crossfit.retrieval.stored import Index

__all__ = ["Part", "build_shards", "feature_parts"]


@dataclass(frozen=True, eq=False, repr=False)
class Part:
    """Items of an index that one process adds.

    Parameters
    ----------
    vectors : array-like of shape (n, dim), path, callable, or dict of str to these
        Their vectors; a file of NumPy's format (``.npy``) with them, which is mapped into memory;
        or a function without arguments that returns them, which is called where the shard is
        built. A dict if the index has views.
    ids : sequence of n str
        Their names.
    payload : pyarrow.Table, DataFrame or dict of columns, optional
        Further columns of n rows.
    rows : (int, int), optional
        First row of a file, and the row after the last one; by default all rows.

    Examples
    --------
    >>> from crossfit.retrieval import Part
    >>> Part("vectors.npy", ["a.jpg", "b.jpg"], {"year": [2009, 2011]}, rows=(0, 2)).rows
    (0, 2)
    """

    vectors: Any
    ids: Sequence[str]
    payload: Any = None
    rows: tuple[int, int] | None = None

    def __repr__(self) -> str:
        rows = "" if self.rows is None else f", rows {self.rows[0]} to {self.rows[1]}"
        return f"Part({len(self.ids)} items, vectors: {text_of(self.vectors)}{rows})"


def feature_parts(folder: str | os.PathLike[str], view: str, size: int = 100_000) -> list[Part]:
    """Return the features of a view, as ``crossfit embed`` writes them, in parts.

    Parameters
    ----------
    folder : path
        Folder of `crossfit.embedding.embed`.
    view : str
        Name of the view.
    size : int, default=100_000
        Number of items of a part.

    Returns
    -------
    list of Part
        With the names that the folder has, and the column ``item``: a path or a text. If the items
        are not texts, the names are the numbers of the rows.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder does not have such features, or they are not one vector per item.
    """
    from crossfit.datasets.features import manifest_of
    from crossfit.datasets.text_tables import open_csv

    check_arguments(
        "feature_parts", {"folder": [a_path()], "view": [str], "size": [integer(1)]}, locals()
    )
    manifest = manifest_of(folder)
    views = manifest["views"]
    if view not in views:
        raise ValueError(f"there is no view {shown(view)}: the views are {', '.join(views)}")
    place = Path(folder).absolute()
    files = [place / file["name"] for file in views[view]["files"]]
    shapes = [np.load(path, mmap_mode="r", allow_pickle=False).shape for path in files]
    if not files or "offsets" in views[view] or any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"an index needs one vector per item, and {view!r} does not have that")
    n = sum(shape[0] for shape in shapes)
    ids, items = [str(i) for i in range(n)], None
    if "items" in views[view]:
        columns = open_csv(place / Path(views[view]["items"]).name).read(["id", "item"])
        ids, items = columns["id"].tolist(), columns["item"].tolist()
    found = []
    first = 0
    for path, (of_file, _) in zip(files, shapes):
        for start in range(0, of_file, size):
            stop = min(start + size, of_file)
            some = slice(first + start, first + stop)
            payload = None if items is None else {"item": items[some]}
            found.append(Part(path, ids[some], payload, (start, stop)))
        first += of_file
    return found


def build_shards(
    folder: str | os.PathLike[str],
    parts: Sequence[Part],
    dim: int,
    *,
    n_jobs: int = 1,
    scheduler: str | None = None,
    listener: Callable[[int], None] | None = None,
    **options: Any,
) -> Index:
    """Build an index of parts in several processes or on several machines.

    Each part becomes a shard, an index of its own, which appears next to `folder` when it is
    complete; if a process is killed, another one builds its shard. The shards are then merged as
    in `Index.merge`. The index has the items and the answers of one to which the parts were
    added in their order. It is exact until `Index.compact` builds a structure for fast search.

    Parameters
    ----------
    folder : path
        A new folder, or an empty one. All workers must be able to access it under this path.
    parts : sequence of Part
        The items. Each part is held in the memory of one process. Make some hundred at most: the
        files of all shards are open when they are merged, and until `Index.compact` joins them.
    dim : int
        Number of columns of a vector.
    n_jobs : int, default=1
        Number of processes of this machine; -1 is one per processor.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers build the shards in place of `n_jobs`.
    listener : callable, optional
        Called with the number of items of each shard that is built.
    **options
        As in `Index.create`: ``metric``, ``kind``, ``views``, ``combine``, ``correction``,
        ``directions`` and ``meta``.

    Returns
    -------
    Index
        Open for writing.

    Raises
    ------
    FileExistsError
        If there is anything in the folder.
    ValueError
        If names are not different texts, or vectors or columns do not fit.
    RuntimeError
        If a part was lost with its process several times.

    See Also
    --------
    Index.merge : Merges indexes that were built in any way.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from crossfit.retrieval import Part, build_shards
    >>> parts = [Part(np.eye(2), ["a", "b"]), Part([[1.0, 1.0]], ["c"], {"year": [2011]})]
    >>> with build_shards(tempfile.mkdtemp() + "/i", parts, dim=2) as index:
    ...     index.search([[1.0, 0.9]], k=1, where="year > 2010").ids.tolist()
    [['c']]
    """
    check_arguments(
        "build_shards",
        {
            "folder": [a_path()],
            "parts": [list, tuple],
            "n_jobs": [integer(-1)],
            "scheduler": [str, None],
            "listener": [callable, None],
        },
        locals(),
    )
    if n_jobs == 0:
        raise ValueError("n_jobs must be a positive number or -1, got 0")
    if scheduler is not None and n_jobs != 1:
        raise ValueError("scheduler excludes n_jobs: the cluster has its own workers")
    checked = _checked(parts)
    path = Index._new_folder(folder).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    shards = path.with_name(f"{path.name}.shards")
    clear_drafts(shards)
    with draft_of(shards, Path.mkdir) as draft:
        empty = draft / "empty"
        Index.create(empty, dim, **options).close()
        todo = {
            f"{at:06d}": _Task(draft / f"{at:06d}", part, empty) for at, part in enumerate(checked)
        }
        with _workers(n_jobs, scheduler, draft) as run:
            results = run(_make, todo)
            for name, error in results:
                if isinstance(error, Lost):
                    raise RuntimeError(
                        f"part {int(name)} of {len(checked)} was lost: {error.reason}; make parts "
                        "smaller if memory is short"
                    )
                if error is not None:
                    with warnings.catch_warnings():  # joblib's, about parts that are not needed now
                        warnings.simplefilter("ignore")
                        results.close()
                    raise error
                if listener is not None:
                    listener(len(todo[name].part.ids))
        return Index.merge(path, [empty, *(task.path for task in todo.values())])


@dataclass(frozen=True, eq=False)
class _Task:
    """A part, the folder of its shard, and that of an index without items to begin with."""

    path: Path
    part: Part
    empty: Path


def _checked(parts: Sequence[Part]) -> list[Part]:
    """Return parts with columns of the same types, as if they were added one after another."""
    for part in parts:
        if not isinstance(part, Part):
            raise TypeError(f"parts must be of the class Part, got {shown(part)}")
    names = [identifiers(part.ids) for part in parts]
    identifiers(list(chain.from_iterable(names)))
    pa = arrow()
    schema = pa.schema([])
    found = []
    for part, ids in zip(parts, names):
        table = payload_table(part.payload, len(ids), schema)
        schema = pa.unify_schemas([schema, table.schema.remove_metadata()])
        vectors: Any = part.vectors
        if isinstance(vectors, Mapping):
            vectors = {view: _absolute(given) for view, given in vectors.items()}
        else:
            vectors = _absolute(vectors)
        found.append(replace(part, vectors=vectors, ids=ids, payload=table))
    return found


def _absolute(vectors: Any) -> Any:
    """Return the path of a file as a worker in another folder needs it."""
    if not isinstance(vectors, (str, os.PathLike)):
        return vectors
    path = Path(vectors).absolute()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(vectors)!r} with vectors")
    return path


@contextlib.contextmanager
def _workers(n_jobs: int, scheduler: str | None, folder: Path) -> Iterator[Run]:
    """Provide a function that builds shards in other processes, or in this one."""
    if scheduler is not None:
        with cluster(scheduler) as run:
            yield run
    elif n_jobs != 1:
        with processes(n_jobs, lambda name: _begun(folder / name).exists()) as run:
            yield run
    else:
        yield _here


def _here(function: Callable[[Any], Any], values: Mapping[str, Any]) -> Generator[tuple[str, Any]]:
    for name, value in values.items():
        yield name, function(value)


def _begun(path: Path) -> Path:
    return path.with_suffix(".begun")


def _make(task: _Task) -> Exception | None:
    """Build a shard; return the error if its part is wrong."""
    if task.path.exists():  # by a process that was lost afterwards
        return None
    part = task.part

    def begin(draft: Path) -> None:
        shutil.copytree(task.empty, draft)

    try:
        _begun(task.path).touch()
        with draft_of(task.path, begin) as draft:
            with Index.open(draft, "a") as shard:
                if isinstance(part.vectors, Mapping):
                    vectors = {view: _read(given, part) for view, given in part.vectors.items()}
                    shard.add(vectors, part.ids, part.payload)
                else:
                    shard.add(_read(part.vectors, part), part.ids, part.payload)
            try:
                draft.rename(task.path)
            except OSError as error:
                # Another process, which was taken as lost, has built it meanwhile.
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
        sync_folder(task.path.parent)
    except (ValueError, TypeError, OSError) as error:
        return error
    finally:
        _begun(task.path).unlink(missing_ok=True)
    return None


def _read(vectors: Any, part: Part) -> Any:
    """Return the vectors of a part."""
    if callable(vectors):
        return vectors()
    if not isinstance(vectors, Path):
        return vectors
    try:
        rows = np.load(vectors, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{str(vectors)!r} is not a file of an array: {error}") from error
    if part.rows is None:
        return rows
    start, stop = part.rows
    if not 0 <= start <= stop <= len(rows):
        raise ValueError(f"rows {start} to {stop} are not in {str(vectors)!r}, with {len(rows)}")
    return rows[start:stop]
