"""The gallery: items with names and further columns, and the vectors of the first stage."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from crossfit.galleries import Gallery
from crossfit.protocols import PairScorer
from crossfit.querying import top_k
from crossfit.retrieval import Index
from crossfit.serving.errors import Refused
from crossfit.serving.searcher import Searcher
from crossfit.similarities import fill_blocks
from crossfit.views import Views, take_rows

__all__ = ["HIDDEN", "Hit", "IndexGallery", "MemoryGallery", "Searchable"]

logger = logging.getLogger("crossfit.serving")

HIDDEN = ("path",)
"""Columns that show where files are on this machine: neither answers nor filters have them."""

# Seconds after which changes of an index are looked for.
_REFRESH = 1.0
_MANY = 2_000_000


class Hit(NamedTuple):
    """An item that was found, and its score; higher is better."""

    id: str
    score: float


class Searchable(Protocol):
    """A collection that the service searches in.

    All its methods are called in one thread.
    """

    view: str
    """The view of the items."""
    kind: str
    """The kind of the items: "text", "picture" or "sound"."""
    version: int
    """A number that is another one if anything has changed."""

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns that each item has, by name, with their types."""
        ...

    def refresh(self) -> None:
        """See what other processes have changed; called between two batches."""
        ...

    def sample(self, n: int) -> list[str]:
        """Return the names of at most n items of all parts of the gallery."""
        ...

    def table(self) -> Any:
        """Return the columns as an Arrow table, or None if pyarrow is not installed."""
        ...

    def search(self, features: Any, view: str, k: int, where: str | None) -> list[list[Hit]]:
        """Return the best k items for each query.

        Parameters
        ----------
        features : array of n rows
            What `Searcher.features` returned for the queries.
        view : str
            The view of the queries; that of the gallery for its own items.
        k : int
            Number of items.
        where : str or None
            Filter over the columns.
        """
        ...

    def rows(self, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return the columns of items by name, None for those that are not in the gallery."""
        ...

    def items(self, ids: Sequence[str]) -> list[Any]:
        """Return the items themselves, texts or paths of files, of names that are in it."""
        ...

    def features(self, ids: Sequence[str]) -> Any:
        """Return what the scorer compares, for names that are in the gallery."""
        ...

    def features_of_second(self, ids: Sequence[str]) -> Any:
        """Return what the second stage compares, for names that are in the gallery."""
        ...


class MemoryGallery:
    """A gallery in memory, searched exactly, by any model.

    Parameters
    ----------
    searcher : Searcher
        The model.
    view : str
        The view of the items.
    gallery : Gallery
        The items, their names and their columns.
    """

    def __init__(self, searcher: Searcher, view: str, gallery: Gallery) -> None:
        self.view, self.kind = view, gallery.kind
        self.version = 0
        self._scorer = searcher.scorer
        self._items, self._ids = gallery.items, gallery.ids
        self._columns = gallery.columns
        self._row_of = {name: row for row, name in enumerate(self._ids)}
        self._features = searcher.features(self._items, view)
        self._prepared: Any = None
        self._table: Any = None
        self._of_second: Any = None
        if searcher.second is not None:
            self._of_second = searcher.features_of_second(self._items, view)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._ids)

    @property
    def columns(self) -> dict[str, str]:
        """The columns that each item has, by name, with their types."""
        return {name: _kind_of(values) for name, values in self._columns.items()}

    def refresh(self) -> None:
        """Leave everything as it is: the gallery does not change."""

    def search(self, features: Any, view: str, k: int, where: str | None) -> list[list[Hit]]:
        """Return the best k items for each query; see `Searchable`."""
        scores = self._scores(features, view)
        kept = np.arange(len(self)) if where is None else self._kept(where)
        if not len(kept):
            return [[] for _ in range(len(scores))]
        found = top_k(scores if where is None else scores[:, kept], k)
        return [
            [Hit(self._ids[kept[row]], float(score)) for row, score in zip(rows, scores)]
            for rows, scores in zip(found.indices, found.scores)
        ]

    def sample(self, n: int) -> list[str]:
        """Return the names of some items; see `Searchable`."""
        return _spread(self._ids, n)

    def table(self) -> Any:
        """Return the columns as an Arrow table; see `Searchable`."""
        if self._table is None:
            try:
                import pyarrow as pa
            except ImportError:
                return None
            columns = {"id": self._ids, **self._columns}
            self._table = pa.table(
                {name: _arrow(part) for name, part in columns.items() if name not in HIDDEN}
            )
        return self._table

    def _kept(self, where: str) -> Any:
        """Return the rows that satisfy a filter."""
        from crossfit.retrieval.where import matching, parse_filter

        table = self.table()
        if table is None:
            raise Refused(
                422, "where: filters need pyarrow; pip install 'crossfit-retrieval[tables]'"
            )
        return np.flatnonzero(matching(parse_filter(where, table.schema), table))

    def rows(self, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return the columns of items by name; see `Searchable`."""
        at = [self._row_of.get(name) for name in ids]
        return [
            None if row is None else {name: part[row] for name, part in self._columns.items()}
            for row in at
        ]

    def items(self, ids: Sequence[str]) -> list[Any]:
        """Return the items themselves; see `Searchable`."""
        return [self._items[self._row_of[name]] for name in ids]

    def features(self, ids: Sequence[str]) -> Any:
        """Return what the scorer compares; see `Searchable`."""
        return take_rows(self._features, np.array([self._row_of[name] for name in ids]))

    def features_of_second(self, ids: Sequence[str]) -> Any:
        """Return what the second stage compares; see `Searchable`."""
        return take_rows(self._of_second, np.array([self._row_of[name] for name in ids]))

    def _scores(self, features: Any, view: str) -> Any:
        """Return the scores of all items, as `crossfit.search` does."""
        scorer = self._scorer
        if not isinstance(scorer, PairScorer):
            return scorer.score_items(features, view, self._features, self.view)
        # The gallery is prepared with the first query; later ones are prepared with one item.
        known = self._prepared is not None
        given = take_rows(self._features, slice(0, 1)) if known else self._features
        queries, gallery, block = scorer.prepared(
            Views({view: features})[view], view, given, self.view
        )
        if not known:
            self._prepared = gallery
        names = list(scorer.views_in_.values())  # type: ignore[attr-defined]
        if names.index(view) > names.index(self.view):
            return fill_blocks(block, self._prepared, queries, None).T
        return fill_blocks(block, queries, self._prepared, None)


class IndexGallery:
    """A gallery in an index on disk, to which another process may write meanwhile.

    Parameters
    ----------
    searcher : Searcher
        A model with a common space.
    view : str
        The view of the items.
    index : Index
        Opened for reading; its column ``path`` or ``text`` holds the items.

    Raises
    ------
    ValueError
        If the index cannot be searched with the model.
    """

    def __init__(self, searcher: Searcher, view: str, index: Index) -> None:
        self.view, self.kind = view, searcher.kinds[view]
        self._searcher, self._index = searcher, index
        self._column = "text" if self.kind == "text" else "path"
        self._refreshed = time.monotonic()
        self.version = 0
        if not searcher.embeds:
            raise ValueError(
                f"{searcher.name} scores pairs and cannot search an index; give its gallery as a "
                "folder or a table"
            )

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._index)

    @property
    def columns(self) -> dict[str, str]:
        """The columns that each item has, by name, with their types."""
        return {name: kind for name, kind in self._index.columns.items() if name != "id"}

    def refresh(self) -> None:
        """See what other processes have changed; see `Searchable`."""
        if time.monotonic() - self._refreshed < _REFRESH:
            return
        self._refreshed = time.monotonic()
        try:
            self.version += self._index.refresh()
        except (OSError, ValueError):  # what was read before stays valid
            logger.exception("the index cannot be read again")

    def search(self, features: Any, view: str, k: int, where: str | None) -> list[list[Hit]]:
        """Return the best k items for each query; see `Searchable`."""
        rows = features.toarray() if hasattr(features, "toarray") else features
        if where is not None:
            self._check(where)
        found = self._index.search(rows, k, where, corrected=view != self.view, payload=False)
        return [
            [Hit(str(name), float(score)) for name, score in zip(names, scores)]
            for names, scores in zip(found.ids, found.scores)
        ]

    def _check(self, where: str) -> None:
        """Raise a ValueError if a filter names a column that is not shown."""
        import pyarrow as pa

        from crossfit.retrieval.where import parse_filter

        shown = [field for field in self._index.schema if field.name not in HIDDEN]
        parse_filter(where, pa.schema([pa.field("id", "string"), *shown]))

    def rows(self, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return the columns of items by name; see `Searchable`."""
        known = [name for name in ids if name in self._index]
        found = dict(zip(known, self._index.get(known) if known else []))
        return [
            {column: value for column, value in found[name].items() if column != "id"}
            if name in found
            else None
            for name in ids
        ]

    def items(self, ids: Sequence[str]) -> list[Any]:
        """Return the items themselves; see `Searchable`."""
        return [row[self._column] for row in self._index.get(list(ids))]

    def features(self, ids: Sequence[str]) -> Any:
        """Return what the scorer compares; see `Searchable`."""
        found = self._index.vectors(list(ids))
        if isinstance(found, dict):
            return found.get(self.view, next(iter(found.values())))
        return found

    def features_of_second(self, ids: Sequence[str]) -> Any:
        """Return what the second stage compares; see `Searchable`."""
        return self._searcher.features_of_second(self.items(ids), self.view)

    def sample(self, n: int) -> list[str]:
        """Return the names of some items; see `Searchable`."""
        if len(self) <= _MANY:
            return _spread(self._index.ids, n)
        # The names of ten million items would need a gigabyte.
        queries = np.random.default_rng(0).normal(size=(n, self._index.dim))
        found = self.search(queries, self.view, 1, None)
        return list(dict.fromkeys(hits[0].id for hits in found))

    def table(self) -> Any:
        """Return the columns as an Arrow table; see `Searchable`."""
        return self._index.table()


def _spread(names: list[str], n: int) -> list[str]:
    """Return n names from all over a list, which is often in the order of its classes."""
    return names[:: max(len(names) // n, 1)][:n]


def _kind_of(values: list[Any]) -> str:
    """Return the name of the type of the first entry that is not empty."""
    return next((type(value).__name__ for value in values if value is not None), "str")


def _arrow(values: list[Any]) -> Any:
    """Return a column as an Arrow array."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # of several types
        return pa.array([None if value is None else str(value) for value in values])
