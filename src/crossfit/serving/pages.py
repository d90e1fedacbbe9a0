"""The page for people, and what it needs beyond search: filters, a first look, explanations."""

from __future__ import annotations

from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from crossfit.serving.errors import Refused
from crossfit.serving.reading import media_type, parsed, short, upload
from crossfit.serving.schemas import Item, addressed
from crossfit.serving.service import Query, Service

__all__ = ["add_pages"]

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


class End(BaseModel):
    """One end of a dimension of the common space."""

    words: list[str] = Field(description="Words of the items there, and not of the other end.")
    items: list[Item] = Field(description="Items of the gallery that lie most in this direction.")


class Direction(BaseModel):
    """A dimension of the common space."""

    number: int = Field(description="From 1.")
    part: float = Field(description="What it adds to the score.")
    towards: End = Field(description="Its end on the side of the item.")
    away: End = Field(description="Its other end.")


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

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(
            (_STATIC / "index.html").read_bytes(), media_type="text/html; charset=utf-8"
        )

    @app.get("/gallery", responses={key: errors[key] for key in (401, 403, 413, 429, 503, 504)})
    async def gallery() -> Look:
        """Return what the gallery can be filtered by, and some of its items."""
        found = await service.look()
        return Look(filters=found["filters"], sample=_items(found["sample"]))

    @app.post(
        "/explain",
        responses=errors | {404: {**errors[422], "description": "There is no such item."}},
        openapi_extra={"requestBody": {"required": True, "content": _contents()}},
    )
    async def why(request: Request) -> Why:
        """Return why an item was found for a text, a file or another item."""
        if media_type(request) == "application/json":
            asked = parsed(Asked, await request.body())
            if (asked.text is None) == (asked.id is None):
                raise Refused(422, "exactly one of text and id is required")
            if asked.text is None:
                query = Query(service.gallery.view, id=short(service.limits, asked.id, "id"))
            else:
                values = [short(service.limits, asked.text, "a text")]
                query = Query(service.view_of_texts(), values=values)
        else:
            data, asked = await upload(request, UploadWhy)
            with service.room.hold(1):
                view, value = await service.decode(data)
            query = Query(view, values=[value])
        found = await service.explain(query, short(service.limits, asked.item, "item"))
        for direction in found["directions"]:
            for side in ("towards", "away"):
                direction[side]["items"] = _items(direction[side]["items"])
        return Why(**{**found, "alike": _items(found["alike"])})


class UploadWhy(BaseModel):
    """The fields of an upload whose result is explained."""

    model_config = ConfigDict(extra="forbid")

    item: str = Field(description="The item that was found.")


def _contents() -> dict[str, Any]:
    fields = UploadWhy.model_json_schema()
    fields["properties"]["file"] = {"type": "string", "format": "binary"}
    fields["required"] = ["file", "item"]
    return {
        "application/json": {"schema": Asked.model_json_schema()},
        "multipart/form-data": {"schema": fields},
    }


def _items(rows: list[dict[str, Any]]) -> list[Item]:
    return [Item(**addressed(row)) for row in rows]
