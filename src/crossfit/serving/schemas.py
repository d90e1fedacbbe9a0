"""The bodies of requests and answers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["About", "Error", "Found", "Health", "Item", "Result", "Search", "addressed"]


class Search(BaseModel):
    """A request: exactly one of text, texts, vector, vectors and id."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    text: str | None = Field(None, description="A text to search with.")
    texts: list[str] | None = Field(None, description="Several texts, each a query.")
    vector: list[float] | None = Field(None, description="A query in the common space.")
    vectors: list[list[float]] | None = Field(None, description="Several such queries.")
    id: str | None = Field(None, description="An item of the gallery, whose likes are searched.")
    k: int = Field(10, ge=1, description="Number of results per query.")
    where: str | None = Field(None, description="Filter over the columns of the gallery.")
    rerank: int | None = Field(
        None,
        ge=0,
        description="Number of items that the second stage ranks, 0 for the first stage alone; "
        "by default that of the model.",
    )


class Upload(BaseModel):
    """The fields of an upload: a file, and what else a request may have."""

    model_config = ConfigDict(extra="forbid")

    k: int = Field(10, ge=1, description="Number of results per query.")
    where: str | None = Field(None, description="Filter over the columns of the gallery.")
    rerank: int | None = Field(None, ge=0, description="Number of items that are ranked again.")


class Item(BaseModel):
    """An item of the gallery."""

    id: str
    payload: dict[str, Any] = Field(description="The columns of the item.")
    kind: str = Field(description="text, picture or sound.")
    file: str | None = Field(description="Address of its file, if it has one.")


class Result(Item):
    """An item that was found."""

    score: float = Field(description="Higher is better.")
    rank: int = Field(description="From 1.")


class Found(BaseModel):
    """The results of each query, best first."""

    results: list[list[Result]]
    took_ms: float = Field(description="Milliseconds from the arrival of the request.")


class Shown(BaseModel):
    """The gallery."""

    n: int
    view: str
    kind: str
    columns: dict[str, str]


class About(BaseModel):
    """The model and its gallery."""

    name: str
    views: list[str]
    gallery: Shown
    accepts: list[str] = Field(description="Kinds of queries: text, picture, sound.")
    vectors: bool = Field(description="Whether queries may be vectors.")
    rerank: int = Field(description="Number of items that the second stage ranks, or 0.")
    method: str = Field(description="Label of the fitted method, as far as it is recorded.")
    card: str = Field(description="The model card, in Markdown.")


class Health(BaseModel):
    """The state of the service."""

    status: str
    items: int


class Error(BaseModel):
    """A sentence on what is wrong."""

    error: str


def addressed(row: dict[str, Any]) -> dict[str, Any]:
    """Return an item as `Service` describes it, with the address of its file."""
    file = f"/items/{quote(row['id'], safe='')}/file" if row["has_file"] else None
    return {**{name: value for name, value in row.items() if name != "has_file"}, "file": file}
