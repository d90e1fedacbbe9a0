"""The HTTP interface of the service."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import numpy as np
from fastapi import FastAPI, Request
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

import crossfit
from crossfit.serving.errors import Refused
from crossfit.serving.guard import Guard
from crossfit.serving.limits import Limits
from crossfit.serving.metrics import Metrics
from crossfit.serving.pages import add_pages
from crossfit.serving.reading import media_type, parsed, sentence, short, upload
from crossfit.serving.schemas import (
    About,
    Error,
    Found,
    Health,
    Item,
    Search,
    Upload,
    addressed,
)
from crossfit.serving.service import Query, Service

__all__ = ["make_app"]

_TYPES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jpe": "image/jpeg", ".jfif": "image/jpeg",
    ".png": "image/png", ".apng": "image/png", ".webp": "image/webp", ".gif": "image/gif",
    ".bmp": "image/bmp", ".avif": "image/avif", ".tif": "image/tiff", ".tiff": "image/tiff",
    ".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".oga": "audio/ogg",
    ".opus": "audio/ogg", ".mp3": "audio/mpeg", ".aif": "audio/aiff", ".aiff": "audio/aiff",
}  # fmt: skip

# What a request searches with.
_KINDS = ("text", "texts", "vector", "vectors", "id")

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "The body cannot be parsed."},
    401: {"model": Error, "description": "The token is missing or wrong."},
    403: {"model": Error, "description": "The request comes from a foreign page."},
    408: {"model": Error, "description": "The body did not arrive in time."},
    404: {"model": Error, "description": "There is no such item."},
    413: {"model": Error, "description": "The body or the file is too large."},
    415: {"model": Error, "description": "The body or the file is of an unknown type."},
    422: {"model": Error, "description": "A value is invalid."},
    429: {"model": Error, "description": "Too many queries wait; see Retry-After."},
    503: {"model": Error, "description": "Too many requests are open, or the service stops."},
    504: {"model": Error, "description": "The answer was not ready in time."},
}
_FOR_ITEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Error, "description": "There is no such item, or it has no file."},
    **{status: _ERRORS[status] for status in (401, 403, 408, 413, 415, 422, 429, 503, 504)},
}
_FOR_STATE: dict[int | str, dict[str, Any]] = {
    status: _ERRORS[status] for status in (401, 403, 408, 413, 415, 503, 504)
}

Name = Annotated[
    str,
    InPath(description="Name of the item, percent-encoded as one segment.", min_length=1),
]


def make_app(service: Service, *, token: str | None = None, hosts: tuple[str, ...] = ()) -> Guard:
    """Return the ASGI application; see `crossfit.serving.build_app`."""
    metrics = Metrics(service)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="crossfit",
        version=crossfit.__version__,
        description=f"Search with {service.searcher.name}.",
        docs_url=None,  # the page that FastAPI offers loads scripts of other sites
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(Exception, _failed)

    @app.post(
        "/search",
        responses=_ERRORS,
        openapi_extra={"requestBody": {"required": True, "content": _contents(service.limits)}},
    )
    async def search(request: Request) -> Found:
        """Find the best items of the gallery for a text, a file, a vector or another item."""
        begun = time.perf_counter()
        if media_type(request) == "application/json":
            query = _query(service, parsed(Search, await request.body()))
            results = await service.search(query)
        else:
            data, fields = await upload(request, Upload)
            where = _where(service, fields.where)
            wanted = Query("", k=fields.k, where=where, rerank=fields.rerank)
            results = await service.search_file(data, wanted)
        took = round((time.perf_counter() - begun) * 1000, 3)
        return Found(
            results=[[addressed(row) for row in rows] for rows in results],  # type: ignore[misc]
            took_ms=took,
        )

    @app.get("/items/{id}", responses=_FOR_ITEMS)
    async def item(id: Name) -> Item:
        """Return an item of the gallery."""
        return Item(**addressed(await service.item(unquote(id))))

    @app.get(
        "/items/{id}/file",
        responses=_FOR_ITEMS | {200: {"content": {"image/*": {}, "audio/*": {}}}},
        response_class=Response,
    )
    async def file(id: Name) -> Response:
        """Return the file of an item."""
        path = await service.path(unquote(id))
        kind = _TYPES.get(Path(path).suffix.lower(), "application/octet-stream")
        content = await service.content(path)
        if content is not None:
            return Response(content, media_type=kind)
        return FileResponse(path, media_type=kind)

    @app.get(
        "/items/{id}/thumbnail",
        responses=_FOR_ITEMS | {200: {"content": {"image/jpeg": {}}}},
        response_class=Response,
    )
    async def thumbnail(id: Name) -> Response:
        """Return a small picture of an item."""
        found = await service.thumbnail(unquote(id))
        return Response(
            found, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"}
        )

    @app.get("/about", responses=_FOR_STATE)
    async def about() -> About:
        """Return the name of the model, what it takes, and the size of the gallery."""
        return About(**service.about())

    @app.get("/health", responses=_FOR_STATE)
    async def health() -> Health:
        """Return the state of the service; needs no token."""
        return Health(status="ok", items=len(service.gallery))

    @app.get(
        "/metrics",
        responses=_FOR_STATE | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        response_class=Response,
    )
    async def figures() -> Response:
        """Return figures for Prometheus."""
        return Response(metrics.text(), media_type=metrics.media_type)

    add_pages(app, service, _ERRORS)
    return Guard(app, service.limits, metrics, token=token, hosts=hosts)


def _contents(limits: Limits) -> dict[str, Any]:
    """Return the bodies of a search, with what FastAPI cannot see: their types and limits."""
    search, fields = Search.model_json_schema(), Upload.model_json_schema()
    for schema in (search, fields):
        for name, part in schema["properties"].items():
            part.pop("default", None)
            if "anyOf" in part:  # null stands for a field that is not given
                part |= part.pop("anyOf")[0]
            if part["type"] == "string":
                part["maxLength"] = limits.text
            if name in ("k", "rerank"):
                part["maximum"] = limits.k
    search["properties"]["text"]["pattern"] = r"\S"
    for name in ("texts", "vectors"):
        search["properties"][name] |= {"minItems": 1, "maxItems": limits.queries}
    search["oneOf"] = [{"required": [name]} for name in _KINDS]
    fields["properties"]["file"] = {
        "type": "string", "format": "binary", "description": "A picture or a sound.",
    }  # fmt: skip
    fields["required"] = ["file"]
    return {
        "application/json": {"schema": search},
        "multipart/form-data": {"schema": fields},
    }


def _query(service: Service, asked: Any) -> Query:
    """Return the query of a request, with its values checked against the limits."""
    given = [name for name in _KINDS if getattr(asked, name) is not None]
    if len(given) != 1:
        raise Refused(
            422,
            f"exactly one of {', '.join(_KINDS)} is required, got {' and '.join(given) or 'none'}",
        )
    query = Query("", k=asked.k, where=_where(service, asked.where), rerank=asked.rerank)
    if given[0] in ("text", "texts"):
        texts = [asked.text] if asked.texts is None else asked.texts
        query.view = service.view_of_texts()
        query.values = [short(service.limits, text, "a text") for text in texts]
    elif given[0] in ("vector", "vectors"):
        query.view = service.view_of_vectors()
        query.vectors = _vectors(
            service, [asked.vector] if asked.vectors is None else asked.vectors
        )
    else:
        query.view = service.gallery.view
        query.id = short(service.limits, asked.id, "id")
    return query


def _where(service: Service, where: str | None) -> str | None:
    if where is None or not where.strip():
        return None
    return short(service.limits, where, "where")


def _vectors(service: Service, rows: list[list[float]]) -> Any:
    if not 1 <= len(rows) <= service.limits.queries:
        raise Refused(422, f"a request has 1 to {service.limits.queries} queries, got {len(rows)}")
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise Refused(422, "vectors must be rows of equal length")
    with np.errstate(over="ignore"):
        found = np.array(rows, dtype=np.float64).astype(np.float32)
    if not np.isfinite(found).all():
        raise Refused(422, "a vector must consist of finite numbers")
    return found


def _answer(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers)


async def _refused(request: Request, error: Any) -> JSONResponse:
    return _answer(error.status, error.sentence, error.headers)


async def _invalid(request: Request, error: Any) -> JSONResponse:
    return await _refused(request, sentence(error))


async def _unrouted(request: Request, error: Any) -> JSONResponse:
    path = request.url.path[:200]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        sentence = f"{request.method} is not a method of {path}; it has {allowed}"
        return _answer(405, Refused(405, sentence).sentence, dict(error.headers or {}))
    if error.status_code == 404:
        return _answer(404, Refused(404, f"there is nothing at {path}").sentence)
    return _answer(error.status_code, Refused(error.status_code, str(error.detail)).sentence)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return _answer(500, "the service failed; its log has the reason")
