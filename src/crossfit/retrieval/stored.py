"""An index of a gallery on disk: vectors, names and columns, with filters and removals."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import (
    a_path,
    check_arguments,
    integer,
    mapping_of,
    one_of,
    real,
    shown,
)
from crossfit._arrays import NUMPY_DEFAULTS, as_array, floats, in_rows
from crossfit._files import clear_drafts, draft_of
from crossfit.querying import SearchResult, check_k
from crossfit.retrieval import _segments
from crossfit.retrieval._knn import faiss
from crossfit.retrieval._merging import check_alike, check_columns, check_distinct
from crossfit.retrieval._ranking import Ranking
from crossfit.retrieval._segments import (
    BLOCK,
    Segment,
    Snapshot,
    arrow,
    chained,
    cut,
    dead_of,
    live_ids,
    with_columns,
)
from crossfit.retrieval._structures import (
    FEWEST,
    Structure,
    built,
    default_settings,
    kind_for,
    settings_of,
)
from crossfit.retrieval._structures import KINDS as STRUCTURES
from crossfit.retrieval._table import identifiers, joined, payload_table
from crossfit.retrieval.hubs import HubCorrection
from crossfit.retrieval.tuning import Tuning, measured_series
from crossfit.retrieval.where import matching, parse_filter
from crossfit.similarities import MEASURES

__all__ = ["Index"]

Array = NDArray[Any]
Vectors = Any

#: Metric to the similarity that prepares its rows.
METRICS = {"cosine": "cosine", "dot": "dot", "euclidean": "l2", "correlation": "correlation"}
KINDS = ("auto", "exact", *STRUCTURES)
#: Largest entry of a vector; faiss squares them in float32.
_LARGEST = 1e15
#: Bytes of the vectors of one segment.
_SEGMENT_BYTES = 2**30
_ATTEMPTS = 100
#: Up to so many items that satisfy a filter are compared exactly.
_FEW = 50_000


class Index:
    """A gallery in a folder: vectors in a common space, names, and a table of further columns.

    The files are mapped into memory, so that an index opens at once and may be larger than the
    memory. Every change is complete on disk when the method returns; if the process is killed
    before, the index is as it was. One process at a time may write; any number may read, each of
    which sees the index as it was when it was opened or refreshed. Open one with `Index.open`, and
    make one with `Index.create`.

    Parameters
    ----------
    folder : path
        Folder of an index.
    mode : {"r", "a"}, default="r"
        Whether to read only, or also to add and to remove items.

    Attributes
    ----------
    dim : int
        Number of columns of a vector.
    metric : {"cosine", "dot", "euclidean", "correlation"}
        How vectors are compared.
    kind : str
        How they are searched.
    views : tuple of str
        Names of the vectors that each item has; empty if it has one.
    combine : {"max", "sum"}
        The score of an item with several vectors.
    correction : HubCorrection or None
        Correction of the scores.
    meta : dict
        What was given to `create`.

    See Also
    --------
    ExactIndex : An index in memory, for any similarity, which can be a part of a bundle.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp()) / "photos.index"
    >>> with Index.create(folder, dim=2) as index:
    ...     index.add([[1.0, 0.0], [0.0, 1.0]], ["a.jpg", "b.jpg"], {"year": [2009, 2011]})
    >>> index = Index.open(folder)
    >>> index.search([[1.0, 0.1]], k=2).ids.tolist()
    [['a.jpg', 'b.jpg']]
    >>> index.search([[1.0, 0.1]], where="year > 2010").rows()[0]["id"]
    'b.jpg'
    >>> index.get(["b.jpg"])
    [{'id': 'b.jpg', 'year': 2011}]
    """

    _create_constraints: ClassVar[dict[str, list[Any]]] = {
        "folder": [a_path()],
        "dim": [integer(1, 2**16)],
        "metric": [one_of(*METRICS)],
        "kind": [one_of(*KINDS)],
        "views": [list, tuple, None],
        "combine": [one_of("max", "sum")],
        "correction": [HubCorrection, None],
        "directions": [list, tuple, None],
        "meta": [mapping_of(object), None],
    }

    def __init__(self, folder: str | os.PathLike[str], mode: str = "r") -> None:
        check_arguments("Index", {"folder": [a_path()], "mode": [one_of("r", "a")]}, locals())
        self.folder = Path(folder)
        self.mode = mode
        self._lock: int | None = None
        faiss()
        arrow()
        _segments.read_manifest(self.folder)  # before a lock is made
        if mode == "a":
            self._lock = _locked(self.folder)
        try:
            self._snapshot = self._opened()
            self._set_up()
            if mode == "a":
                _segments.clear_unlisted(self.folder, self._snapshot.manifest)
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        dim: int,
        *,
        metric: str = "cosine",
        kind: str = "auto",
        views: Sequence[str] | None = None,
        combine: str = "max",
        correction: HubCorrection | None = None,
        directions: Sequence[str] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make an index without items in a new folder, and open it for writing.

        Parameters
        ----------
        folder : path
            A new folder, or an empty one.
        dim : int
            Number of columns of a vector.
        metric : {"cosine", "dot", "euclidean", "correlation"}, default="cosine"
            How vectors are compared. The score of "euclidean" is the negated distance.
        kind : {"auto", "exact", "hnsw", "int8", "ivf-pq"}, default="auto"
            How they are searched after `compact`, until then exactly. "hnsw" is a graph, "int8" one
            byte per number, and "ivf-pq" lists of product-quantised codes; all of them compare
            their candidates with the vectors themselves. "auto" is exact below 100,000 vectors, a
            graph below two million, and "ivf-pq" above.
        views : list of str, optional
            Names of the vectors that each item has, for instance ``["image", "caption"]``. By
            default it has one.
        combine : {"max", "sum"}, default="max"
            The score of an item with several vectors: its largest, or their sum. The sum of
            "euclidean" is the negated distance of all vectors joined.
        correction : HubCorrection, optional
            Fitted correction, such as `NNN`, which is kept in the folder and applied to every item
            that is added. Its measure must be the metric.
        directions : (str, str), optional
            Views of the queries and of the gallery in the correction; by default, the last and the
            first of its bank.
        meta : dict, optional
            Anything that JSON can hold, for instance the name of the model.

        Returns
        -------
        Index

        Raises
        ------
        FileExistsError
            If there is anything in the folder.
        ValueError
            If an argument is not valid.
        """
        check_arguments("Index.create", cls._create_constraints, locals())
        names = _view_names(views)
        found = dict(meta or {})
        try:
            json.dumps(found, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"meta must be what JSON can hold, got {shown(meta)}") from error
        corrected = None
        if correction is not None:
            corrected = _directions(correction, directions, metric, dim)
        elif directions is not None:
            raise ValueError("directions are those of a correction, and none was given")
        path = cls._new_folder(folder)
        path.mkdir(parents=True, exist_ok=True)
        if correction is not None:
            from crossfit.persistence import save

            save(correction, path / "correction")
        manifest = {
            "format": _segments.FORMAT,
            "generation": 0,
            "next": 0,
            "dim": int(dim),
            "width": int(dim) + (correction is not None),
            "metric": metric,
            "kind": kind,
            "views": names,
            "combine": combine,
            "correction": corrected,
            "meta": found,
            "segments": [],
            "structure": None,
        }
        _segments.write_manifest(path, manifest)
        return cls(path, "a")

    @staticmethod
    def _new_folder(folder: str | os.PathLike[str]) -> Path:
        """Return the path of a folder for an index, after checking that nothing is in it."""
        faiss()
        arrow()
        path = Path(folder)
        if path.exists() and (not path.is_dir() or any(n != "lock" for n in os.listdir(path))):
            raise FileExistsError(f"{str(path)!r} exists already; choose a new folder")
        return path

    @classmethod
    def merge(
        cls, folder: str | os.PathLike[str], shards: Sequence[str | os.PathLike[str]]
    ) -> Self:
        """Make an index of the items of several, in their order, and open it for writing.

        The folder appears when it is complete. Files of the shards are linked, or copied if they
        are on another disk; as they never change, the shards may be changed or deleted afterwards.
        Structures for fast search are not taken over: the index is exact until `compact`.

        Parameters
        ----------
        folder : path
            A new folder, or an empty one.
        shards : sequence of paths
            Folders of indexes with the same dim, metric, views, correction and meta.

        Returns
        -------
        Index

        Raises
        ------
        FileExistsError
            If there is anything in the folder.
        ValueError
            If the shards differ in how they compare vectors, or in the types of columns, or have
            items with the same name.
        """
        check_arguments("Index.merge", {"folder": [a_path()], "shards": [list, tuple]}, locals())
        if not shards:
            raise ValueError("merge needs at least one index")
        path = cls._new_folder(folder)
        first = cls(shards[0])
        snapshots = [first._snapshot]
        for shard in shards[1:]:
            part = cls(shard)
            check_alike(first, part)
            snapshots.append(part._snapshot)
        check_columns(snapshots)
        segments = [segment for snapshot in snapshots for segment in snapshot.segments]
        check_distinct(segments)
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_drafts(path)
        with draft_of(path.absolute(), Path.mkdir) as draft:
            if first.correction is not None:
                shutil.copytree(first.folder / "correction", draft / "correction")
            entries = [
                _segments.linked_segment(segment, draft, f"s{number:08d}")
                for number, segment in enumerate(segments)
            ]
            generations = [snapshot.manifest["generation"] for snapshot in snapshots]
            manifest = {
                **snapshots[0].manifest,
                # Files of later removals have the generation in their names.
                "generation": 1 + max(generations),
                "next": len(entries),
                "segments": entries,
                "structure": None,
            }
            _segments.write_manifest(draft, manifest)
            (path / "lock").unlink(missing_ok=True)
            draft.rename(path)
        _segments.sync_folder(path.absolute().parent)
        return cls(path, "a")

    @classmethod
    def open(cls, folder: str | os.PathLike[str], mode: str = "r") -> Self:
        """Open an index.

        Parameters
        ----------
        folder : path
            Its folder.
        mode : {"r", "a"}, default="r"
            Whether to read only, or also to add and to remove items.

        Returns
        -------
        Index

        Raises
        ------
        FileNotFoundError
            If there is no index.
        BlockingIOError
            If another process has opened it for writing, and so does this one.
        ValueError
            If it is damaged, or was written by a newer version.
        """
        return cls(folder, mode)

    def close(self) -> None:
        """Allow other processes to write; what was returned before stays valid."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        """Return the index."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_lock", None) is not None:
            self.close()

    def __len__(self) -> int:
        return self._snapshot.n_live

    # Without this, an index without items would be false.
    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _is_text(name) and self._snapshot.locate([name])[0] >= 0

    def __repr__(self) -> str:
        views = f", views={list(self.views)}" if self.views else ""
        return (
            f"<Index of {len(self):,} items in {str(self.folder)!r}: dim={self.dim}, "
            f"metric={self.metric!r}, kind={self.kind!r}{views}>"
        )

    @property
    def kind(self) -> str:
        """Return how the vectors are searched."""
        structure = self._snapshot.manifest["structure"]
        return "exact" if structure is None else str(structure["kind"])

    @property
    def columns(self) -> dict[str, str]:
        """Return the columns of the table, by name, with their Arrow types."""
        return {field.name: str(field.type) for field in self.schema}

    @property
    def schema(self) -> Any:
        """Return the columns of the table as a `pyarrow.Schema`, without ``id``."""
        return self._snapshot.schema

    @property
    def ids(self) -> list[str]:
        """Return the names of all items, in the order of the gallery."""
        return [name for part in self._snapshot.segments for name in live_ids(part)]

    def refresh(self) -> bool:
        """See what other processes have written since the index was opened or refreshed.

        Returns
        -------
        bool
            Whether anything has changed.
        """
        before = self._snapshot.manifest["generation"]
        if _segments.read_manifest(self.folder)["generation"] == before:
            return False
        self._snapshot = self._opened()
        return True

    # ---- changes ---------------------------------------------------------------------------

    def add(self, vectors: Vectors, ids: Sequence[str], payload: Any = None) -> None:
        """Add items; they are on disk when this returns.

        Parameters
        ----------
        vectors : array-like of shape (n, dim), or dict of str to such arrays
            One array, or one for each of `views`.
        ids : sequence of n str
            Their names, which the index does not have yet.
        payload : pyarrow.Table, DataFrame or dict of columns, optional
            Further columns of n rows. A column that an earlier item does not have is empty there.

        Raises
        ------
        ValueError
            If a name is given twice or is in the index, or the rows do not fit.
        """
        snapshot = self._writable()
        names = identifiers(ids)
        self._add(snapshot, vectors, names, payload, {})

    def update(self, vectors: Vectors | None, ids: Sequence[str], payload: Any = None) -> None:
        """Replace vectors or columns of items; they are on disk when this returns.

        Parameters
        ----------
        vectors : array-like of shape (n, dim), dict of str to such arrays, or None
            Their new vectors; None to keep those that they have.
        ids : sequence of n str
            Names of items of the index.
        payload : pyarrow.Table, DataFrame or dict of columns, optional
            Their new columns. Columns that are not given stay as they are.

        Raises
        ------
        ValueError
            If a name is not in the index, or the rows do not fit.
        """
        snapshot = self._writable()
        names = identifiers(ids)
        rows = self._located(snapshot, names)
        if not len(names):
            return
        table = snapshot.take(rows)
        stored = None
        if vectors is None:
            stored = snapshot.vectors(rows)
        if payload is not None:
            new = payload_table(payload, len(names), snapshot.schema)
            for field, column in zip(new.schema, new.columns):
                at = table.schema.get_field_index(field.name)
                table = (
                    table.append_column(field, column)
                    if at < 0
                    else table.set_column(at, field, column)
                )
        self._add(
            snapshot, vectors, names, table.drop_columns(["id"]), dead_of(snapshot, rows), stored
        )

    def remove(self, ids: Sequence[str]) -> None:
        """Remove items; they are gone from the index on disk when this returns.

        Parameters
        ----------
        ids : sequence of str
            Names of items of the index.

        Raises
        ------
        ValueError
            If a name is not in the index, or is given twice.
        """
        snapshot = self._writable()
        names = identifiers(ids)
        if names:
            rows = self._located(snapshot, names)
            self._commit(snapshot, dead_of(snapshot, rows), None)

    def _add(
        self,
        snapshot: Snapshot,
        vectors: Vectors,
        names: list[str],
        payload: Any,
        dead: dict[str, NDArray[np.bool_]],
        stored: Array | None = None,
    ) -> None:
        """Add items, and remove rows of segments in the same change."""
        if stored is None:
            given = self._given(vectors, len(names), "an index holds")
        table = joined(names, payload_table(payload, len(names), snapshot.schema))
        if not dead:
            known = snapshot.locate(names) >= 0
            if known.any():
                first = names[int(np.flatnonzero(known)[0])]
                raise ValueError(
                    f"{int(known.sum())} of {len(names)} ids are in the index already, such as "
                    f"{shown(first)}; use update"
                )
        if not names:
            return

        def blocks() -> Iterator[tuple[Array, Any]]:
            for start in range(0, len(names), BLOCK):
                some = slice(start, start + BLOCK)
                rows = (
                    self._comparable([part[some] for part in given])
                    if stored is None
                    else stored[some]
                )
                yield rows, table.slice(start, BLOCK)

        self._commit(snapshot, dead, (len(names), blocks()))

    def compact(self, kind: str | None = None) -> None:
        """Merge files, drop what was removed, and build the structure for fast search.

        Items that are added later are searched exactly, and those that are removed later are left
        out, until this is called again. The index can be searched meanwhile.

        Parameters
        ----------
        kind : {"auto", "exact", "hnsw", "int8", "ivf-pq"}, optional
            As in `create`; by default, as it was made. Fewer than 256 vectors of
            ``"ivf-pq"`` are searched exactly.

        Raises
        ------
        ValueError
            If the kind is not one of these, or the index is open for reading.
        """
        check_arguments("Index.compact", {"kind": [one_of(*KINDS), None]}, locals())
        snapshot = self._writable()
        try:
            self._merge(snapshot, kind or snapshot.manifest["kind"])
            self._build()
        finally:
            self._snapshot = self._opened()
            _segments.clear_unlisted(self.folder, self._snapshot.manifest)

    def _merge(self, snapshot: Snapshot, kind: str) -> None:
        """Write segments that are small, or have removed rows, again; the rest stays."""
        manifest = snapshot.manifest
        number = manifest["next"]
        entries: list[Mapping[str, Any]] = []
        waiting: list[Segment] = []

        def write() -> None:
            nonlocal number
            if len(waiting) == 1 and waiting[0].dead is None:
                entries.append(waiting[0].entry)
            else:
                for part in cut(chained(waiting, {}, iter(())), self._most_rows):
                    made = _segments.write_segment(self.folder, f"s{number:08d}", part)
                    number += 1
                    if made is not None:
                        entries.append(made)
            waiting.clear()

        for segment in snapshot.segments:
            if segment.dead is None and 2 * segment.n_rows >= self._most_rows:
                write()
                entries.append(segment.entry)
            else:
                waiting.append(segment)
        write()
        changed = {
            **manifest,
            "generation": manifest["generation"] + 1,
            "next": number,
            "kind": kind,
            "segments": entries,
            "structure": None,
        }
        _segments.write_manifest(self.folder, changed)
        self._snapshot = self._opened()

    def _build(self) -> None:
        """Write the structure over all segments."""
        snapshot, unit = self._snapshot, self._ranking.unit
        manifest = snapshot.manifest
        n_vectors = int(snapshot.starts[-1]) * unit
        kind = kind_for(n_vectors) if manifest["kind"] == "auto" else manifest["kind"]
        if kind == "exact" or n_vectors < FEWEST.get(kind, 1):
            return
        width = manifest["width"] * self._ranking.n_views // unit
        generation = manifest["generation"] + 1

        def take(numbers: NDArray[np.int64]) -> Array:
            vectors = snapshot.vectors(numbers // unit)
            if unit > 1:
                vectors = vectors[np.arange(len(numbers)), numbers % unit]
            return vectors.reshape(len(numbers), width)

        file = f"structure-{generation}"
        digest = built(self.folder, file, kind, self.metric == "euclidean", n_vectors, width, take)
        structure = {
            "kind": kind,
            "file": file,
            "segments": len(snapshot.segments),
            "vectors": n_vectors,
            "sha256": digest,
            "settings": default_settings(kind, n_vectors),
            "tuning": None,
        }
        _segments.write_manifest(
            self.folder, {**manifest, "generation": generation, "structure": structure}
        )

    def tune(self, queries: Vectors, target_recall: float = 0.95, k: int = 10) -> Tuning:
        """Choose the fastest settings that find enough of the exact results.

        Parameters
        ----------
        queries : array-like of shape (n, dim)
            A sample of real queries.
        target_recall : float, default=0.95
            Share of the exact results to find, above 0 and at most 1. The lower end of its 95%
            interval over the queries must reach it.
        k : int, default=10
            Number of results per query.

        Returns
        -------
        Tuning
            The curve, which is kept in the index as `tuning`. If no settings reach the target, the
            index has those of the highest recall.

        Raises
        ------
        ValueError
            If the index is exact, is open for reading, or there are no queries.
        """
        check_arguments(
            "Index.tune",
            {"target_recall": [real(0, 1, closed="right")], "k": [integer(1)]},
            locals(),
        )
        snapshot = self._writable()
        if snapshot.structure is None:
            raise ValueError("the index is exact, so that there is nothing to tune; see compact")
        rows = self._queries(queries, True)
        if not len(rows):
            raise ValueError("tune needs at least one query")
        masks = self._masks(snapshot, None)
        started = time.perf_counter()
        exact, _ = self._ranking.best(snapshot, rows, k, masks, None, None)
        exact_speed = len(rows) / (time.perf_counter() - started)
        self._ranking.best(
            snapshot, rows[:1], k, masks, None, default_settings(self.kind, 1)
        )  # reads it

        def measure(settings: Mapping[str, int]) -> dict[str, Any]:
            started = time.perf_counter()
            found, _ = self._ranking.best(snapshot, rows, k, masks, None, settings)
            speed = len(rows) / (time.perf_counter() - started)
            shares = np.array([np.isin(a, b).mean() for a, b in zip(exact, found)])
            low = shares.mean() - 1.96 * shares.std() / np.sqrt(len(shares))
            return {"settings": settings, "recall": float(shares.mean()), "low": float(low),
                    "per_second": float(speed)}  # fmt: skip

        every = settings_of(self.kind, snapshot.structure.n_vectors)
        measured = measured_series(every, measure, target_recall)
        fits = [at for at, row in enumerate(measured) if row["low"] >= target_recall]
        chosen = max(fits, key=lambda at: measured[at]["per_second"]) if fits else None
        best = max(range(len(measured)), key=lambda at: measured[at]["recall"])
        tuning = Tuning(
            self.kind, k, float(target_recall), len(rows), measured, exact_speed, chosen
        )
        manifest = snapshot.manifest
        structure = {
            **manifest["structure"],
            "settings": measured[best if chosen is None else chosen]["settings"],
            "tuning": tuning.to_dict(),
        }
        _segments.write_manifest(
            self.folder,
            {**manifest, "generation": manifest["generation"] + 1, "structure": structure},
        )
        self._snapshot = self._opened()
        return tuning

    @property
    def tuning(self) -> Tuning | None:
        """Return the last result of `tune` since the structure was built, or None."""
        structure = self._snapshot.manifest["structure"]
        found = None if structure is None else structure["tuning"]
        return None if found is None else Tuning(**found)

    def check(self) -> None:
        """Compare all files with their checksums.

        Raises
        ------
        ValueError
            If a file is damaged; the message has its name.
        """
        manifest = self._snapshot.manifest
        for entry in manifest["segments"]:
            for part, digest in entry["files"].items():
                path = self.folder / f"{entry['name']}.{part}"
                if _segments.digest_of(path) != digest:
                    raise _segments.damaged(self.folder, f"{path.name} does not have its checksum")
        if self._snapshot.structure is not None:
            self._snapshot.structure.verify()

    def _commit(
        self,
        snapshot: Snapshot,
        dead: dict[str, NDArray[np.bool_]],
        new: tuple[int, Iterator[tuple[Array, Any]]] | None,
    ) -> None:
        """Write new segments and removed rows, then the manifest."""
        try:
            self._write(snapshot, dead, new)
        finally:  # after Ctrl-C or an error, as the manifest on disk states
            self._snapshot = self._opened()
            _segments.clear_unlisted(self.folder, self._snapshot.manifest)

    def _write(
        self,
        snapshot: Snapshot,
        dead: dict[str, NDArray[np.bool_]],
        new: tuple[int, Iterator[tuple[Array, Any]]] | None,
    ) -> None:
        manifest = snapshot.manifest
        generation, number = manifest["generation"] + 1, manifest["next"]
        fixed = 0 if manifest["structure"] is None else manifest["structure"]["segments"]
        kept = list(snapshot.segments)
        written: list[dict[str, Any]] = []
        if new is not None:
            n_new, blocks = new
            most = self._most_rows
            small: list[Segment] = []
            # As in a binary counter, so that there are few segments and each row is copied rarely.
            total = n_new
            while len(kept) > fixed and kept[-1].n_rows <= min(2 * total, most - total):
                small.insert(0, kept.pop())
                total += small[0].n_rows
            source = chained(small, dead, blocks)
            for part in cut(source, most):
                made = _segments.write_segment(self.folder, f"s{number:08d}", part)
                number += 1
                if made is not None:
                    written.append(made)
        entries: list[Mapping[str, Any]] = []
        for at, segment in enumerate(kept):
            entry: Mapping[str, Any] = segment.entry
            gone = dead.get(segment.name)
            if gone is not None:
                if gone.all() and at >= fixed:
                    continue
                entry = _segments.write_dead(self.folder, entry, gone, generation)
            entries.append(entry)
        changed = {
            **manifest,
            "generation": generation,
            "next": number,
            "segments": [*entries, *written],
        }
        _segments.write_manifest(self.folder, changed)

    # ---- questions -------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the rows of items.

        Parameters
        ----------
        ids : sequence of str
            Names of items of the index.

        Returns
        -------
        list of dict
            ``id`` and the columns.

        Raises
        ------
        ValueError
            If a name is not in the index.
        """
        names = identifiers(ids, distinct=False)
        snapshot = self._snapshot
        rows: list[dict[str, Any]] = snapshot.take(self._located(snapshot, names)).to_pylist()
        return rows

    def vectors(self, ids: Sequence[str]) -> Any:
        """Return the vectors of items, as the metric compares them.

        Parameters
        ----------
        ids : sequence of str
            Names of items of the index.

        Returns
        -------
        float32 array of shape (n, dim), or dict of str to such arrays
            Of length one for "cosine" and "correlation". A dict if the index has `views`.

        Raises
        ------
        ValueError
            If a name is not in the index.
        """
        names = identifiers(ids, distinct=False)
        snapshot = self._snapshot
        found = snapshot.vectors(self._located(snapshot, names))[:, :, : self.dim]
        if not self.views:
            return found[:, 0]
        return {view: found[:, at] for at, view in enumerate(self.views)}

    def table(self, where: str | None = None) -> Any:
        """Return the table of all items that satisfy a filter.

        Parameters
        ----------
        where : str, optional
            As in `search`.

        Returns
        -------
        pyarrow.Table
            ``id`` and the columns, in the order of the gallery.
        """
        snapshot = self._snapshot
        masks = self._masks(snapshot, where)
        rows = [
            start + (np.arange(part.n_rows) if mask is None else np.flatnonzero(mask))
            for start, part, mask in zip(snapshot.starts, snapshot.segments, masks)
        ]
        return snapshot.take(np.concatenate([np.empty(0, np.int64), *rows]))

    def search(
        self,
        vectors: Vectors,
        k: int = 10,
        where: str | None = None,
        view: str | None = None,
        *,
        corrected: bool = True,
        payload: bool = True,
    ) -> SearchResult:
        """Find the best items for queries in the common space.

        Parameters
        ----------
        vectors : array-like of shape (n, dim)
            Queries.
        k : int, default=10
            Number of items; fewer are returned if there are fewer.
        where : str, optional
            Only items whose columns satisfy this are searched, for instance
            ``"label == 'dog' and year > 2010"``: comparisons of columns with constants by ``==``,
            ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``, ``not in``, ``is None`` and ``is not
            None``, joined by ``and``, ``or`` and ``not``. ``'big' in caption`` finds a part of a
            text, or an element of a list. An empty entry does not satisfy any comparison.
            ``column('any name')`` stands for a column whose name is not a word.
        view : str, optional
            Which of the `views` of the items to compare with; by default all of them.
        corrected : bool, default=True
            Whether the scores are corrected, if the index has a correction. It holds for queries
            of another view than the gallery's.
        payload : bool, default=True
            Whether the result has the columns of the items.

        Returns
        -------
        SearchResult
            Best first, equal scores in the order of the gallery. ``indices`` are numbers of rows as
            the index is now, ``ids`` are the names, and ``items`` are the columns, each a dict.

        Raises
        ------
        TypeError, ValueError
            If the queries are not finite rows of the right width, or the filter is not valid.
        """
        check_k(k)
        check_arguments(
            "Index.search", {"corrected": ["boolean"], "payload": ["boolean"]}, locals()
        )
        snapshot = self._snapshot
        if view is not None and view not in self.views:
            raise ValueError(
                f"no view {shown(view)}: "
                + (f"the views are {', '.join(self.views)}" if self.views else "the index has one")
            )
        queries = self._queries(vectors, corrected)
        masks = self._masks(snapshot, where)
        settings = self._settings(snapshot, masks, where, view)
        rows, scores = self._ranking.best(snapshot, queries, int(k), masks, view, settings)
        return self._result(snapshot, rows, scores, payload)

    def _settings(
        self,
        snapshot: Snapshot,
        masks: list[NDArray[np.bool_] | None],
        where: str | None,
        view: str | None,
    ) -> Mapping[str, int] | None:
        """Return the settings of an approximate search, None if an exact one is better."""
        if snapshot.structure is None or (view is not None and self.combine == "sum"):
            return None
        if where is not None:
            count = sum(int(np.count_nonzero(mask)) for mask in masks if mask is not None)
            # A graph, and lists, miss most of few items; comparing with all of them is fast.
            if count <= max(_FEW, len(self) // 20):
                return None
        settings: Mapping[str, int] = snapshot.manifest["structure"]["settings"]
        return settings

    def _masks(self, snapshot: Snapshot, where: str | None) -> list[NDArray[np.bool_] | None]:
        """Return which rows of each segment are searched, None for all of them."""
        alive = [None if part.dead is None else ~part.dead for part in snapshot.segments]
        if where is None:
            return alive
        schema = snapshot.schema
        tree = parse_filter(where, arrow().schema([arrow().field("id", "string"), *schema]))
        found: list[NDArray[np.bool_] | None] = []
        for part, mask in zip(snapshot.segments, alive):
            fits = matching(tree, with_columns(part.table, schema))
            found.append(fits if mask is None else fits & mask)
        return found

    def _result(
        self, snapshot: Snapshot, rows: Array, scores: Array, payload: bool
    ) -> SearchResult:
        unique, back = np.unique(rows, return_inverse=True)
        back = back.reshape(rows.shape)
        table = snapshot.take(unique)
        ids = np.array(table.column("id").to_pylist(), object)[back].reshape(rows.shape)
        items = None
        if payload:
            held = np.empty(len(unique), object)
            held[:] = table.drop_columns(["id"]).to_pylist()
            items = held[back].reshape(rows.shape)
        return SearchResult(rows, scores.astype(np.float32), items, ids)

    # ---- parts -----------------------------------------------------------------------------

    @property
    def _most_rows(self) -> int:
        """Return the number of rows of the largest segments."""
        width: int = self._snapshot.manifest["width"]
        return max(1, _SEGMENT_BYTES // (4 * width * self._ranking.n_views))

    def _set_up(self) -> None:
        manifest = self._snapshot.manifest
        self.dim: int = manifest["dim"]
        self.metric: str = manifest["metric"]
        self.views: tuple[str, ...] = tuple(manifest["views"])
        self.combine: str = manifest["combine"]
        self._ranking = Ranking(self.metric, self.views, self.combine)
        self.meta: dict[str, Any] = dict(manifest["meta"])
        if self.metric not in METRICS or self.combine not in ("max", "sum"):
            raise _segments.damaged(self.folder, "its metric is not known")
        self.correction: HubCorrection | None = None
        self._directions: tuple[str, str] | None = None
        if manifest["correction"] is not None:
            from crossfit.persistence import load

            correction = load(self.folder / "correction")
            if not isinstance(correction, HubCorrection):
                raise _segments.damaged(self.folder, "its correction is another object")
            _directions(correction, manifest["correction"], self.metric, self.dim)
            self.correction = correction
            query, gallery = manifest["correction"]
            self._directions = (query, gallery)

    def _opened(self) -> Snapshot:
        """Return what the manifest states now, with all its files open."""
        for attempt in range(_ATTEMPTS):
            manifest = _segments.read_manifest(self.folder)
            views = max(len(manifest["views"]), 1)
            try:
                parts = [
                    self._segment(entry, views, manifest["width"]) for entry in manifest["segments"]
                ]
                return Snapshot(self.folder, manifest, tuple(parts), self._structure(manifest))
            except FileNotFoundError as error:
                # A writer has replaced the manifest since, and has removed files of this one.
                latest = _segments.read_manifest(self.folder)["generation"]
                if latest == manifest["generation"] or attempt == _ATTEMPTS - 1:
                    missing = Path(error.filename or str(error)).name
                    raise _segments.damaged(self.folder, f"{missing} is missing") from error
        raise AssertionError

    def _segment(self, entry: Mapping[str, Any], views: int, width: int) -> Segment:
        """Return a segment; that of the present snapshot if it has not changed."""
        current = getattr(self, "_snapshot", None)
        for part in current.segments if current is not None else ():
            if part.entry == entry:
                return part
        return Segment(self.folder, entry, views, width)

    def _structure(self, manifest: Mapping[str, Any]) -> Structure | None:
        """Return the structure; that of the present snapshot if it is the same file."""
        entry = manifest["structure"]
        if entry is None:
            return None
        current = getattr(self, "_snapshot", None)
        if current is not None and current.structure is not None:
            held: Structure = current.structure
            if held.file == entry["file"]:
                return held
        return Structure(self.folder, entry)

    def _writable(self) -> Snapshot:
        if self._lock is None:
            raise ValueError(
                f"the index {str(self.folder)!r} is "
                + (
                    "open for reading; use Index.open(folder, 'a')"
                    if self.mode == "r"
                    else "closed"
                )
            )
        return self._snapshot

    def _located(self, snapshot: Snapshot, names: list[str]) -> NDArray[np.int64]:
        rows = snapshot.locate(names)
        if (rows < 0).any():
            missing = np.flatnonzero(rows < 0)
            raise ValueError(
                f"{len(missing)} of {len(names)} ids are not in the index, such as "
                f"{shown(names[int(missing[0])])}"
            )
        return rows

    def _given(self, vectors: Vectors, n: int | None, what: str) -> list[Array]:
        """Return one checked array per view."""
        if self.views:
            if not isinstance(vectors, Mapping) or set(vectors) != set(self.views):
                got = list(vectors) if isinstance(vectors, Mapping) else type(vectors).__name__
                raise ValueError(
                    f"{what} vectors as a dict with the views {', '.join(self.views)}, got "
                    f"{shown(got)}"
                )
            parts = [self._rows(vectors[view], what) for view in self.views]
        else:
            parts = [self._rows(vectors, what)]
        for part in parts:
            if n is not None and len(part) != n:
                raise ValueError(f"one vector per id is required, got {len(part)} for {n} ids")
        return parts

    def _rows(self, values: Any, what: str) -> Array:
        if isinstance(values, Mapping):
            raise TypeError(f"{what} an array of vectors, got a dict; the index has no views")
        rows = as_array(values, "the vectors of an index", numbers=True)
        if rows.ndim == 2 and not len(rows):
            return np.empty((0, self.dim), np.float32)
        if rows.ndim != 2 or rows.dtype.kind not in "fiub" or rows.shape[1] != self.dim:
            raise ValueError(
                f"{what} numeric vectors of shape (n, {self.dim}), got shape {rows.shape} of type "
                f"{rows.dtype}"
            )
        found: Array = np.asarray(floats(rows, "vectors of an index"))
        for start in range(0, len(found), BLOCK):
            _check_values(found[start : start + BLOCK], what)
        return found

    @np.errstate(**NUMPY_DEFAULTS)
    def _comparable(self, parts: list[Array]) -> Array:
        """Return vectors as they are stored, of shape (n, n_views, width)."""
        made = []
        for part in parts:
            if self.correction is None:
                made.append(MEASURES[METRICS[self.metric]].left(part.astype(np.float64)))
            else:
                assert self._directions is not None
                made.append(self.correction.of_gallery(part, *self._directions))
        return _float32(np.stack(made, axis=1))

    @np.errstate(**NUMPY_DEFAULTS)
    def _queries(self, vectors: Vectors, corrected: bool) -> Array:
        rows = self._rows(vectors, "an index is searched with")
        if self.correction is None or not corrected:
            found = MEASURES[METRICS[self.metric]].left(rows.astype(np.float64))
            if self.correction is not None:
                found = np.column_stack([found, np.zeros(len(found))])
        else:
            assert self._directions is not None
            found = self.correction.of_queries(rows, *self._directions)
        return _float32(found)


def _check_values(rows: Array, what: str) -> None:
    if not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        raise ValueError(f"{what} finite vectors, got NaN or infinity in {in_rows(bad, len(rows))}")
    if np.abs(rows).max(initial=0) > _LARGEST:
        raise ValueError(f"{what} vectors in float32, and these are too large for it; scale them")


def _float32(rows: Array) -> Array:
    return np.ascontiguousarray(rows, np.float32)


def _view_names(views: Sequence[str] | None) -> list[str]:
    names = list(views or [])
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise ValueError(f"views must be different names, got {shown(views)}")
    return names


def _directions(
    correction: HubCorrection, directions: Any, metric: str, dim: int
) -> tuple[str, str]:
    """Return the views of queries and gallery, after checking that the correction can be kept."""
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(correction)
    names = list(correction.banks_)
    query, gallery = (names[-1], names[0]) if directions is None else tuple(directions)[:2]
    if correction.measure != metric:
        raise ValueError(
            f"the correction compares by {correction.measure!r}, and the metric is {metric!r}; "
            "they must be the same"
        )
    # Raises if it is more than a number per item, or was fitted on other columns or views.
    correction.of_gallery(np.ones((1, dim)), query, gallery)
    return query, gallery


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _locked(folder: Path) -> int:
    """Return an open file that only one process can have locked."""
    import fcntl  # of POSIX only; readers do without it

    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise BlockingIOError(
            f"the index {str(folder)!r} is open for writing elsewhere; close it there first"
        ) from error
    return descriptor
