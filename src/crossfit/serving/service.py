"""From queries to answers: queries of all kinds become items of the gallery, in batches."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from crossfit._packed import container_of, read_file
from crossfit.extraction import load_rgb
from crossfit.extraction.formats import PICTURE_SUFFIXES, SOUND_SUFFIXES
from crossfit.galleries import KINDS
from crossfit.querying import top_k
from crossfit.serving.batching import Batcher, Room
from crossfit.serving.errors import Refused
from crossfit.serving.filters import filters_of
from crossfit.serving.gallery import HIDDEN, Hit, Searchable
from crossfit.serving.limits import Limits
from crossfit.serving.searcher import Searcher
from crossfit.serving.uploads import decode
from crossfit.serving.why import Ends, explain
from crossfit.views import take_rows

__all__ = ["Query", "Service"]

logger = logging.getLogger("crossfit.serving")

_THUMBNAIL = 320  # pixels of the longer side
_THUMBNAILS = 2000  # about 30 MB
_LARGE = 1_000_000  # items of a gallery whose columns are read for the filters
_SAMPLE = 24
_PAUSE = 20  # times as long as it took
_QUICK = 0.25  # seconds


@dataclass
class Query:
    """Queries of one request, of which exactly one kind is given.

    Parameters
    ----------
    values : list, optional
        Texts, pixels of a picture, or samples of a sound with their rate.
    vectors : array of n rows, optional
        Queries in the common space.
    id : str, optional
        An item of the gallery, whose likes are searched.
    view : str
        The view of the queries.
    k : int
        Number of results per query.
    where : str, optional
        Filter over the columns of the gallery.
    rerank : int, optional
        Number of items that the second stage ranks; 0 to use the first stage alone. By default that
        of the model.
    """

    view: str
    k: int = 10
    values: list[Any] | None = None
    vectors: Any = None
    id: str | None = None
    where: str | None = None
    rerank: int | None = None

    def __len__(self) -> int:
        """Return the number of queries."""
        given = self.values if self.values is not None else self.vectors
        return 1 if given is None else len(given)


class _Look(NamedTuple):
    """A first look at the gallery of a version, valid until it changes and some time has passed."""

    version: int
    until: float
    filters: list[dict[str, Any]]
    sample: list[str]


class Service:
    """Search in one gallery by one model, for many callers at once.

    Parameters
    ----------
    searcher : Searcher
        The model.
    gallery : Searchable
        What is searched.
    limits : Limits, optional
        What a request may cost.

    Attributes
    ----------
    accepts : tuple of str
        The kinds of queries that the model takes: "text", "picture", "sound".
    """

    def __init__(
        self, searcher: Searcher, gallery: Searchable, limits: Limits | None = None
    ) -> None:
        self.searcher, self.gallery = searcher, gallery
        self.limits = limits or Limits()
        self.accepts = tuple(kind for kind in KINDS if self.queried(kind) is not None)
        if not self.accepts and not searcher.embeds:
            raise ValueError(
                f"the views {', '.join(searcher.views)} of {searcher.name} take arrays of features "
                "and not texts, pictures or sounds; save a pipeline that begins with extractors, "
                "as crossfit fit --save does"
            )
        self.room = Room(self.limits.queue)
        self.on_batch: Callable[[int], None] = lambda size: None
        self._decoding = _decoder()
        self._batcher: Batcher[Query] = Batcher(
            self._answers, self.limits.batch, self.limits.window, lambda size: self.on_batch(size)
        )
        self._thumbnails: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._ends = Ends(searcher, gallery)
        self._look: _Look | None = None

    def close(self) -> None:
        """Finish what has begun, and stop the threads; a later request starts others."""
        self._batcher.stop()
        self._decoding.shutdown()
        self._decoding = _decoder()

    # ---- in the event loop ---------------------------------------------------------------------

    async def search(self, query: Query) -> list[list[dict[str, Any]]]:
        """Return the results of each query of a request, best first.

        Parameters
        ----------
        query : Query
            The queries.

        Returns
        -------
        list of list of dict
            ``id``, ``score``, ``rank``, ``payload``, ``kind`` and ``file`` of each result.

        Raises
        ------
        Refused
            If the queries are invalid, or too many wait already.
        """
        query = self._settled(query)
        with self.room.hold(len(query)):
            found: list[list[dict[str, Any]]] = await self._batcher.submit(query)
            return found

    async def search_file(self, data: bytes, query: Query) -> list[list[dict[str, Any]]]:
        """Return the results for an uploaded file; see `search`.

        Parameters
        ----------
        data : bytes
            Content of a picture or of a sound.
        query : Query
            What else is required; its values and its view are replaced.
        """
        with self.room.hold(1):
            view, value = await self.decode(data)
            query = self._settled(replace(query, view=view, values=[value]))
            found: list[list[dict[str, Any]]] = await self._batcher.submit(query)
            return found

    async def explain(self, query: Query, name: str) -> dict[str, Any]:
        """Return why an item was found; see `crossfit.serving.why.explain`.

        Parameters
        ----------
        query : Query
            One text, one decoded file, or an item.
        name : str
            Name of the item that was found.

        Returns
        -------
        dict
            Items are described as in `search`, without their ranks.

        Raises
        ------
        Refused
            With 404 if an item is not in the gallery, and with 422 if a text is empty.
        """
        if any(isinstance(text, str) and not text.strip() for text in query.values or ()):
            raise Refused(422, "a text must not be empty")
        found: dict[str, Any] = await self.run(lambda: self._explained(query, name))
        return found

    async def look(self) -> dict[str, Any]:
        """Return a first look at the gallery, computed again if it has changed.

        Returns
        -------
        dict
            ``filters``, as of `filters_of`, and ``sample``, some of the items.
        """
        found: dict[str, Any] = await self.run(self._looked)
        return found

    async def decode(self, data: bytes) -> tuple[str, Any]:
        """Return the view of which a file is a query, and its pixels or its samples.

        Parameters
        ----------
        data : bytes
            Content of a picture or of a sound.

        Raises
        ------
        Refused
            See `crossfit.serving.uploads.decode`.
        """
        kind, value = await asyncio.get_running_loop().run_in_executor(
            self._decoding, decode, data, self.accepts, self.limits
        )
        return self.queried(kind) or "", value

    async def run(self, function: Callable[[], Any]) -> Any:
        """Return the result of a function that uses the model or the gallery.

        It is called in the thread that computes, between two batches.

        Parameters
        ----------
        function : callable
            Function without arguments.
        """
        with self.room.hold(1):
            return await self._batcher.call(function)

    async def item(self, name: str) -> dict[str, Any]:
        """Return ``id``, ``payload``, ``kind`` and ``file`` of an item.

        Parameters
        ----------
        name : str
            Name of the item.

        Raises
        ------
        Refused
            With 404 if it is not in the gallery.
        """
        found: dict[str, Any] = await self.run(lambda: self._item(name))
        return found

    async def path(self, name: str) -> str:
        """Return the path or the address of the file of an item.

        Parameters
        ----------
        name : str
            Name of the item.

        Raises
        ------
        Refused
            With 404 if it is not in the gallery, or has no file that may be sent.
        """
        found: str = await self.run(lambda: self._path(name))
        return found

    async def content(self, path: str) -> bytes | None:
        """Return the content of a file in another file, or None for a file of its own."""
        if container_of(path) is None:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._decoding, read_file, path)

    async def thumbnail(self, name: str) -> bytes:
        """Return a small JPEG picture of an item.

        Parameters
        ----------
        name : str
            Name of the item.

        Raises
        ------
        Refused
            With 404 if it is not a picture of the gallery.
        """
        path = await self.path(name)
        if self.gallery.kind != "picture":
            raise Refused(404, f"the item {name!r} is not a picture")
        with self.room.hold(1):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._decoding, self._thumbnail, path)

    def about(self) -> dict[str, Any]:
        """Return the name of the model, its views, its gallery and what it takes."""
        return {
            "name": self.searcher.name,
            "views": list(self.searcher.views),
            "gallery": {
                "n": len(self.gallery),
                "view": self.gallery.view,
                "kind": self.gallery.kind,
                "columns": _payload(dict(self.gallery.columns)),
            },
            "accepts": list(self.accepts),
            "vectors": self.searcher.embeds,
            "rerank": self.searcher.depth,
            "method": str(self.searcher.winner.record.get("method") or ""),
            "card": self.searcher.card,
        }

    def view_of_texts(self) -> str:
        """Return the view that texts are queries of.

        Raises
        ------
        Refused
            With 422 if the model takes no texts.
        """
        view = self.queried("text")
        if view is None:
            taken = " and ".join(f"{kind}s" for kind in self.accepts) or "vectors"
            raise Refused(422, f"the model does not search by text; it takes {taken}")
        return view

    def view_of_vectors(self) -> str:
        """Return the view that vectors are queries of: the first one that is not the gallery's.

        Raises
        ------
        Refused
            With 422 if the model has no common space.
        """
        if not self.searcher.embeds:
            raise Refused(422, "the model scores pairs and has no common space for vectors")
        return next(view for view in self.searcher.views if view != self.gallery.view)

    def queried(self, kind: str) -> str | None:
        """Return the view of queries of a kind: another one than the gallery's, if possible.

        Parameters
        ----------
        kind : {"text", "picture", "sound"}
            The kind.

        Returns
        -------
        str or None
            None if the model takes no queries of this kind.
        """
        views = [view for view in self.searcher.views if self.searcher.kinds.get(view) == kind]
        others = [view for view in views if view != self.gallery.view]
        return next(iter(others or (views if self.searcher.embeds else [])), None)

    def _two_views(self, query: Query) -> bool:
        return query.values is not None and query.view != self.gallery.view

    def _settled(self, query: Query) -> Query:
        """Return a query with the depth of the model, where it has none of its own."""
        self._check(query)
        if query.rerank is None:
            return replace(query, rerank=self.searcher.depth if self._two_views(query) else 0)
        return query

    def _check(self, query: Query) -> None:
        limits = self.limits
        if not 1 <= len(query) <= limits.queries:
            raise Refused(422, f"a request has 1 to {limits.queries} queries, got {len(query)}")
        if not 1 <= query.k <= limits.k:
            raise Refused(422, f"k must be from 1 to {limits.k}, got {query.k}")
        two_views = self._two_views(query)
        if not 0 <= (query.rerank or 0) <= limits.k:
            raise Refused(422, f"rerank must be from 0 to {limits.k}, got {query.rerank}")
        if query.rerank and self.searcher.second is None:
            raise Refused(422, "rerank: the model has one stage only; see crossfit serve --rerank")
        if query.rerank and not two_views:
            raise Refused(
                422,
                "rerank: the second stage compares texts or files with items of another view only",
            )
        if query.id is not None and not self.searcher.embeds:
            raise Refused(422, "the model scores pairs and cannot compare items of one view")
        for text in query.values or ():
            if isinstance(text, str) and not text.strip():
                raise Refused(422, "a text must not be empty")

    # ---- in the thread that computes -----------------------------------------------------------

    def _answers(self, queries: list[Query]) -> list[Any]:
        """Return the results of each request, or the error that it causes."""
        self.gallery.refresh()
        results: list[Any] = [None] * len(queries)

        def compute(members: list[int], stage: Callable[..., list[Any]]) -> None:
            """Replace results by those of a stage; if it fails, compute one after the other."""
            try:
                found = stage([queries[at] for at in members], [results[at] for at in members])
            except Exception as error:
                if len(members) == 1:
                    results[members[0]] = error
                    return
                for at in members:
                    compute([at], stage)
                return
            for at, part in zip(members, found, strict=True):
                results[at] = part

        for stage, alike in (
            (self._features, lambda query: (query.view, _source(query))),
            (self._hits, lambda query: (query.view, query.id, query.where, _depth(query))),
            (self._shown, lambda query: None),
        ):
            groups: dict[Any, list[int]] = {}
            for at, query in enumerate(queries):
                if not isinstance(results[at], Exception):
                    groups.setdefault(alike(query), []).append(at)
            for members in groups.values():
                compute(members, stage)
        return [_as_refused(found) for found in results]

    def _features(self, queries: list[Query], given: list[Any]) -> list[Any]:
        """Return what the scorer compares for each request."""
        first = queries[0]
        if first.id is not None:
            return [self._of_item(query.id) for query in queries]
        if first.vectors is not None:
            return [np.asarray(query.vectors, np.float32) for query in queries]
        values = [value for query in queries for value in query.values or ()]
        with self.searcher.without_cache():
            features = self.searcher.features(_column(values), first.view)
        return _parts(features, [len(query) for query in queries])

    def _of_item(self, name: str | None) -> Any:
        if name is None or self.gallery.rows([name])[0] is None:
            raise _unknown(name)
        return self.gallery.features([name])

    def _hits(self, queries: list[Query], features: list[Any]) -> list[list[list[Hit]]]:
        """Return the items that the first stage finds for each request."""
        first = queries[0]
        if len(queries) > 1 and not isinstance(features[0], np.ndarray):
            return [self._hits([query], [part])[0] for query, part in zip(queries, features)]
        joined = np.concatenate(features) if len(queries) > 1 else features[0]
        if first.id is None:
            found = self.gallery.search(joined, first.view, _depth(first), first.where)
        else:  # an item is always like itself
            found = self.gallery.search(joined, self.gallery.view, first.k + 1, first.where)
            found = [[hit for hit in hits if hit.id != first.id][: first.k] for hits in found]
        return _parts(found, [len(query) for query in queries])

    def _shown(self, queries: list[Query], found: list[list[list[Hit]]]) -> list[Any]:
        """Return the results of each request as they are shown."""
        shown = []
        for query, hits in zip(queries, found):
            if query.rerank:
                values = query.values or ()
                hits = [self._reranked(query, one, part) for one, part in zip(values, hits)]
            shown.append([self._described(part[: query.k]) for part in hits])
        return shown

    def _reranked(self, query: Query, value: Any, hits: list[Hit]) -> list[Hit]:
        """Return the items that the first stage proposed, in the order of the second."""
        if not hits:
            return hits
        view = self.gallery.view
        with self.searcher.without_cache():
            one = self.searcher.features_of_second(_column([value]), query.view)
        try:
            items = self.gallery.features_of_second([hit.id for hit in hits])
        except (OSError, ValueError) as error:  # which may show where a file is
            logger.warning("no second stage", exc_info=error)
            raise Refused(
                422, "a file of the gallery cannot be read any more; search with rerank 0"
            ) from None
        scores = self.searcher.score_second(one, query.view, items, view)
        found = top_k(scores, len(hits))
        return [
            Hit(hits[at].id, float(score)) for at, score in zip(found.indices[0], found.scores[0])
        ]

    def _described(self, hits: list[Hit]) -> list[dict[str, Any]]:
        rows = self.gallery.rows([hit.id for hit in hits])
        return [
            {**self._shown_item(hit.id, row or {}), "score": hit.score, "rank": rank}
            for rank, (hit, row) in enumerate(zip(hits, rows), 1)
        ]

    def _named(self, names: list[str]) -> list[dict[str, Any]]:
        rows = self.gallery.rows(names)
        return [self._shown_item(name, row or {}) for name, row in zip(names, rows)]

    def _shown_item(self, name: str, row: dict[str, Any]) -> dict[str, Any]:
        kind = self.gallery.kind
        return {"id": name, "payload": _payload(row), "kind": kind, "has_file": kind != "text"}

    def _explained(self, query: Query, name: str) -> dict[str, Any]:
        self._item(name)
        (value,) = query.values or [None]
        known = None if query.id is None else self._of_item(query.id)
        try:
            with self.searcher.without_cache():
                found = explain(
                    self.searcher, self.gallery, self._ends, value, query.view, name, known
                )
        except (OSError, ValueError) as error:  # which may show where a file is
            logger.warning("no reasons", exc_info=error)
            raise Refused(422, f"the reasons for {name!r} cannot be computed") from None
        for direction in found["directions"]:
            for side in ("towards", "away"):
                end = direction[side]
                direction[side] = {"words": end.words, "items": self._named(end.ids)}
        return {**found, "alike": self._named(found["alike"])}

    def _looked(self) -> dict[str, Any]:
        self.gallery.refresh()
        version = self.gallery.version
        begun = time.monotonic()
        known = self._look
        if known is None or (known.version != version and begun >= known.until):
            few = len(self.gallery) <= _LARGE
            table = self.gallery.table() if few else None
            filters = [] if table is None else filters_of(table)
            sample = self.gallery.sample(_SAMPLE)
            ended = time.monotonic()
            # A large gallery to which items are added all the time takes a small share of the time.
            until = ended + _PAUSE * max(0.0, ended - begun - _QUICK)
            self._look = known = _Look(version, until, filters, sample)
        return {"filters": known.filters, "sample": self._named(known.sample)}

    def _item(self, name: str) -> dict[str, Any]:
        self.gallery.refresh()
        row = self.gallery.rows([name])[0]
        if row is None:
            raise _unknown(name)
        return self._shown_item(name, row)

    def _path(self, name: str) -> str:
        self._item(name)
        if self.gallery.kind == "text":
            raise Refused(404, f"the item {name!r} is a text and has no file")
        path = os.fspath(self.gallery.items([name])[0])
        suffixes = PICTURE_SUFFIXES if self.gallery.kind == "picture" else SOUND_SUFFIXES
        inside = container_of(path) is not None
        if not path.lower().endswith(suffixes) or not (inside or os.path.isfile(path)):
            raise Refused(404, f"the file of the item {name!r} is not there any more")
        return path

    def _thumbnail(self, path: str) -> bytes:
        from PIL import Image

        try:
            state = os.stat(container_of(path) or path)
            key = path, state.st_mtime_ns, state.st_size
            known = self._thumbnails.pop(key, None)
            if known is None:
                image = Image.fromarray(load_rgb(path, self.limits.picture_pixels))
        except (OSError, ValueError):
            raise Refused(404, "the file of this item cannot be decoded any more") from None
        if known is None:
            image.thumbnail((_THUMBNAIL, _THUMBNAIL))
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=85)
            known = stream.getvalue()
        self._thumbnails[key] = known
        if len(self._thumbnails) > _THUMBNAILS:
            self._thumbnails.popitem(last=False)
        return known


def _decoder() -> ThreadPoolExecutor:
    # One thread, because a large picture takes up to 200 MB while it is decoded.
    return ThreadPoolExecutor(1, "crossfit-decoding")


def _source(query: Query) -> str:
    if query.id is not None:
        return "id"
    if query.vectors is not None:
        return f"vectors of {np.shape(query.vectors)[1:]}"
    return "values"


def _depth(query: Query) -> int:
    return max(query.k, query.rerank or 0)


def _unknown(name: str | None) -> Refused:
    return Refused(404, f"there is no item {name!r} in the gallery")


def _payload(row: dict[str, Any]) -> dict[str, Any]:
    """Return what may be shown of an item: not where its file is on this machine."""
    return {name: value for name, value in row.items() if name not in HIDDEN}


def _column(values: list[Any]) -> Any:
    """Return items as a column, which Views take as they are."""
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _parts(rows: Any, sizes: list[int]) -> list[Any]:
    ends = np.cumsum(sizes).tolist()
    spans = [slice(end - size, end) for size, end in zip(sizes, ends)]
    return [rows[span] if isinstance(rows, list) else take_rows(rows, span) for span in spans]


def _as_refused(found: Any) -> Any:
    """Return an error of a query as an answer, and leave errors of the program as they are."""
    if isinstance(found, ValueError):
        return Refused(422, str(found))
    return found
