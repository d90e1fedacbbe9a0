"""The page for people, and what it needs beyond search: filters, a first look, explanations."""

from __future__ import annotations

import asyncio
from importlib import resources
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from crossfit.serving.errors import Refused
from crossfit.serving.filters import filters_of
from crossfit.serving.gallery import Hit
from crossfit.serving.schemas import Item
from crossfit.serving.service import Service
from crossfit.serving.uploads import decode
from crossfit.serving.why import explain

__all__ = ["add_pages"]

# Items of a gallery whose columns are read for the filters.
_LARGE = 200_000
_SAMPLE = 24
_STATIC = resources.files(__package__) / "static"


class Filter(BaseModel):
    """A column, with its choices or its range."""

    column: str
    choices: list[tuple[bool | int | str, int]] | None = Field(
        None, description="Values with their numbers, the most frequent first."
    )
    low: float | None = None
    high: float | None = None


class Look(BaseModel):
    """A first look at the gallery."""

    filters: list[Filter] = Field(description="What its columns can be filtered by.")
    sample: list[Item] = Field(description="Some of its items.")


class Asked(BaseModel):
    """A query, exactly one of text and id, and an item that it found."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = Field(None, description="The text that was searched with.")
    id: str | None = Field(None, description="The item of the gallery that was searched with.")
    item: str = Field(description="The item that was found.")


class Direction(BaseModel):
    """A dimension of the common space."""

    number: int = Field(description="From 1.")
    part: float = Field(description="What it adds to the score.")
    items: list[Item] = Field(description="Items of the gallery that lie most along it.")


class Word(BaseModel):
    """A word of the query."""

    word: str
    change: float = Field(description="By how much the score falls without it.")


class Attention(BaseModel):
    """Weights of the words or regions that a method attends to."""

    view: str
    words: list[tuple[str, float]] | None = Field(None, description="Words with their weights.")
    regions: list[tuple[float, float, float, float, float]] | None = Field(
        None, description="Left, top, right, bottom as shares of the picture, and weight."
    )


class Why(BaseModel):
    """Why an item was found."""

    score: float | None = Field(description="The score, or null if it cannot be decomposed.")
    rest: float | None = Field(description="The part of the score that is of no dimension.")
    dimensions: int = Field(description="Number of dimensions of the common space.")
    directions: list[Direction] = Field(description="The dimensions that add most to the score.")
    words: list[Word]
    attention: list[Attention]
    alike: list[Item] = Field(description="The items of the gallery that are closest to it.")


def add_pages(app: FastAPI, service: Service, errors: dict[int | str, Any]) -> None:
    """Add the page and its routes to an application.

    Parameters
    ----------
    app : FastAPI
        The application.
    service : Service
        What it serves.
    errors : dict
        Descriptions of errors by status.
    """
    app.mount("/static", StaticFiles(directory=str(_STATIC)), name="static")
    look: dict[str, Any] = {}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(
            (_STATIC / "index.html").read_bytes(), media_type="text/html; charset=utf-8"
        )

    @app.get("/gallery", responses={key: errors[key] for key in (401, 403, 413, 429, 503, 504)})
    async def gallery() -> Look:
        """Return what the gallery can be filtered by, and some of its items."""
        size = len(service.gallery)
        if look.get("size") != size:
            look.update(await service.run(lambda: _look(service)), size=size)
        return Look(filters=look["filters"], sample=look["sample"])

    @app.post(
        "/explain",
        responses=errors | {404: {**errors[422], "description": "There is no such item."}},
        openapi_extra={"requestBody": {"required": True, "content": _contents()}},
    )
    async def why(request: Request) -> Why:
        """Return why an item was found for a text, a file or another item."""
        from crossfit.serving.app import _form, _parsed

        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            asked = _parsed(Asked, await request.body())
            if (asked.text is None) == (asked.id is None):
                raise Refused(422, "exactly one of text and id is required")
            if asked.text is not None and not asked.text.strip():
                raise Refused(422, "a text must not be empty")
            _check_length(service, asked.text, asked.id, asked.item)
            view = service.gallery.view if asked.text is None else service.view_of_texts()
            value, item = asked.text, asked.item
        elif kind == "multipart/form-data":
            data, fields = await _form(request, UploadWhy)
            asked, item = None, fields.item
            _check_length(service, item)
            loop = asyncio.get_running_loop()
            with service.room.hold(1):
                found, value = await loop.run_in_executor(
                    service._decoding, decode, data, service.accepts, service.limits
                )
            view = service._queried(found) or ""
        else:
            raise Refused(
                415, "the type of the body must be application/json or multipart/form-data"
            )

        def run() -> dict[str, Any]:
            query = value
            service._item(item)
            if asked is not None and asked.id is not None:
                service._item(asked.id)
                query = service.gallery.items([asked.id])[0]
            with service.winner.without_cache():
                answer = explain(service.winner, service.gallery, query, view, item)
            for direction in answer["directions"]:
                direction["items"] = _items(service, direction.pop("ids"))
            answer["alike"] = _items(service, answer["alike"])
            return answer

        return Why(**await service.run(run))


class UploadWhy(BaseModel):
    """The fields of an upload whose result is explained."""

    model_config = ConfigDict(extra="forbid")

    item: str = Field(description="The item that was found.")


def _check_length(service: Service, *texts: str | None) -> None:
    for text in texts:
        if text is not None and len(text) > service.limits.text:
            raise Refused(
                422, f"a text has {len(text)} characters, of at most {service.limits.text:,}"
            )


def _contents() -> dict[str, Any]:
    fields = UploadWhy.model_json_schema()
    fields["properties"]["file"] = {"type": "string", "format": "binary"}
    fields["required"] = ["file", "item"]
    return {
        "application/json": {"schema": Asked.model_json_schema()},
        "multipart/form-data": {"schema": fields},
    }


def _look(service: Service) -> dict[str, Any]:
    gallery = service.gallery
    if len(gallery) > _LARGE:
        return {"filters": [], "sample": []}
    ids = gallery.names()
    # Spread over the gallery, which is often in the order of its classes.
    chosen = ids[:: max(len(ids) // _SAMPLE, 1)][:_SAMPLE]
    table = gallery.table()
    return {
        "filters": [] if table is None else filters_of(table),
        "sample": _items(service, chosen),
    }


def _items(service: Service, ids: list[str]) -> list[dict[str, Any]]:
    rows = service._described([Hit(name, 0.0) for name in ids])
    return [
        {
            "id": row["id"],
            "payload": row["payload"],
            "kind": row["kind"],
            "file": f"/items/{quote(row['id'], safe='')}/file" if row["has_file"] else None,
        }
        for row in rows
    ]
