"""Bodies of requests, read and checked; each error is one sentence."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from crossfit.serving.errors import Refused
from crossfit.serving.limits import Limits

__all__ = ["media_type", "parsed", "sentence", "short", "upload"]


def media_type(request: Request) -> str:
    """Return the type of a body, which must be one of those that are read.

    Parameters
    ----------
    request : Request
        The request.

    Returns
    -------
    {"application/json", "multipart/form-data"}

    Raises
    ------
    Refused
        With 415 for any other type.
    """
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in ("application/json", "multipart/form-data"):
        raise Refused(
            415,
            "the type of the body must be application/json or multipart/form-data, got "
            f"{found[:100] or 'none'}",
        )
    return found


def parsed(model: type[Any], body: bytes) -> Any:
    """Return a body of JSON as a model of pydantic.

    Parameters
    ----------
    model : type
        Its class.
    body : bytes
        The body.

    Raises
    ------
    Refused
        With 400 if it is not JSON, and with 422 if it is another object.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise sentence(error) from None


def sentence(error: ValidationError | RequestValidationError) -> Refused:
    """Return the first fault of a body as the error that becomes the answer."""
    first = error.errors()[0]
    what = " → ".join(str(part) for part in first["loc"]) or "the body"
    status = 400 if first["type"] == "json_invalid" else 422
    return Refused(status, f"{what}: {first['msg'][:1].lower()}{first['msg'][1:]}")


def short(limits: Limits, text: str, what: str) -> str:
    """Return a text unchanged, or raise if it is too long.

    Parameters
    ----------
    limits : Limits
        What a request may cost.
    text : str
        The text.
    what : str
        What it is, for the error.

    Raises
    ------
    Refused
        With 422 if it has more characters than the limit.
    """
    if len(text) > limits.text:
        raise Refused(422, f"{what} has {len(text)} characters, of at most {limits.text:,}")
    return text


async def upload(request: Request, model: type[Any]) -> tuple[bytes, Any]:
    """Return the file of a form, and its other fields as a model of pydantic.

    Parameters
    ----------
    request : Request
        The request.
    model : type
        The class of the other fields.

    Raises
    ------
    Refused
        With 400 if the form cannot be parsed, and with 422 if the file is missing, a field is given
        twice or is invalid.
    """
    async with AsyncExitStack() as stack:
        try:
            form = await stack.enter_async_context(request.form(max_files=1, max_fields=10))
        except HTTPException as error:
            raise Refused(400, f"the form cannot be parsed: {error.detail}") from None
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Refused(422, "the form must have a file in its field 'file'")
        names = [name for name, _ in form.multi_items()]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise Refused(422, f"the field {twice[0]!r} is given twice")
        try:
            fields = model.model_validate(
                {name: part for name, part in form.items() if name != "file"}
            )
        except ValidationError as error:
            raise sentence(error) from None
        return await file.read(), fields
