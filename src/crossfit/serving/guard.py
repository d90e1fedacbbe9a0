"""Access and limits: the layer around the application."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from urllib.parse import quote, unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossfit.serving.errors import Refused
from crossfit.serving.limits import Limits
from crossfit.serving.metrics import Metrics

__all__ = ["LOOPBACK", "Guard", "split_item"]

logger = logging.getLogger("crossfit.serving")

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine in the header Host."""

# What can be seen without a token: whether the service lives, and the page, which holds no data.
_OPEN = ("/health", "/", "/static")
# Sending a large file to a slow reader takes longer than computing an answer.
_SENDING = 300.0
# A sender that does not listen until its body is sent reads an early answer only afterwards.
_DISCARDED = 16
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
}


class Guard:
    """ASGI middleware: token, hosts, limits, headers, figures and one line of log per request.

    Parameters
    ----------
    app : ASGI application
        The application.
    limits : Limits
        Size and time of requests, and their number.
    metrics : Metrics
        Where requests are counted.
    token : str, optional
        What every request must have as ``Authorization: Bearer``.
    hosts : tuple of str, default=()
        Further names of this service in the header Host. Without a token, requests under any other
        name are refused: a page of another site may have a name that leads to this machine.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        metrics: Metrics,
        *,
        token: str | None = None,
        hosts: tuple[str, ...] = (),
    ) -> None:
        self.app = app
        self._limits, self._metrics, self._token = limits, metrics, token
        self._hosts = {name.lower() for name in (*LOOPBACK, *hosts)}
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            self._open += 1
            try:
                await _Exchange(self, scope, receive, send).run()
            finally:
                self._open -= 1

    def check(self, scope: Scope) -> None:
        """Raise if a request is not allowed, before its body is read."""
        headers = Headers(scope=scope)
        if self._open > self._limits.requests:
            raise Refused(503, "too many requests are open; try again soon", {"Retry-After": "1"})
        host = headers.get("host", "")
        if self._token is None and _name_of(host) not in self._hosts:
            raise Refused(403, f"this service is not called {host[:100] or 'nothing'}")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise Refused(403, "requests from pages of other sites are not allowed")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "the body must not be compressed")
        path = scope["path"]
        if path in _OPEN or path.startswith("/static/"):
            return
        if self._token is not None:
            kind, _, given = headers.get("authorization", "").partition(" ")
            known = hmac.compare_digest(
                given.strip().encode("utf-8", "surrogateescape"), self._token.encode()
            )
            if kind.lower() != "bearer" or not known:
                raise Refused(
                    401,
                    "this service needs a token, in the header Authorization: Bearer TOKEN",
                    {"WWW-Authenticate": "Bearer"},
                )


class _Exchange:
    """One request and its answer."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self.guard, self.scope = guard, scope
        self._receive, self._send = receive, send
        self._limits = guard._limits
        self.status = 0
        self.received = self.sent = 0
        self._deadline: asyncio.Timeout | None = None

    async def run(self) -> None:
        begun = time.perf_counter()
        _address(self.scope)
        trouble: str | None = None
        try:
            self.guard.check(self.scope)
            body = await self._body()
            async with asyncio.timeout(self._limits.seconds) as self._deadline:
                await self.guard.app(self.scope, _replay(body, self._receive), self.send)
        except Refused as refused:
            await self._refuse(refused)
        except TimeoutError:
            if not self.status:
                seconds = f"{self._limits.seconds:g} seconds"
                await self._refuse(Refused(504, f"the answer was not ready in {seconds}"))
            else:
                trouble = "the answer was read too slowly"
        except _Gone:
            self.status = 499
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}"
            logger.exception("a request failed")
            if not self.status:
                await self._refuse(Refused(500, "the service failed; its log has the reason"))
        finally:
            self._note(time.perf_counter() - begun, trouble)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
            if self._deadline is not None and not self._deadline.expired():
                self._deadline.reschedule(asyncio.get_running_loop().time() + _SENDING)
        else:
            self.sent += len(message.get("body", b""))
        await self._send(message)

    async def _refuse(self, refused: Refused) -> None:
        body = json.dumps({"error": refused.sentence}).encode()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **refused.headers,
        }
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self._deadline = None
        await self.send({"type": "http.response.start", "status": refused.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})

    async def _body(self) -> bytes:
        """Return the whole body, or raise if it is too large or too slow."""
        headers = Headers(scope=self.scope)
        upload = headers.get("content-type", "").lower().startswith("multipart/form-data")
        most = self._limits.body_bytes if upload else self._limits.json_bytes
        large = Refused(413, f"the body is larger than {most:,} bytes")
        length = headers.get("content-length", "0")
        announced = int(length) if length.isdecimal() and len(length) < 20 else 0
        if announced > most and "100-continue" in headers.get("expect", "").lower():
            raise large
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    part = message.get("body", b"")
                    self.received += len(part)
                    if max(self.received, announced) <= most:
                        parts.append(part)
                    elif self.received > _DISCARDED * most:
                        raise large
                    else:
                        parts.clear()
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            seconds = f"{self._limits.body_seconds:g} seconds"
            raise Refused(408, f"the body did not arrive in {seconds}") from None
        if max(self.received, announced) > most:
            raise large
        return b"".join(parts)

    def _note(self, seconds: float, trouble: str | None) -> None:
        route = getattr(self.scope.get("route"), "path", None) or "none"
        method = self.scope["method"] if self.scope["method"] in _METHODS else "other"
        metrics = self.guard._metrics
        metrics.requests.labels(method, route, str(self.status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        line = {
            "method": method,
            "route": route,
            "status": self.status,
            "ms": round(seconds * 1000, 1),
            "received": self.received,
            "sent": self.sent,
        }
        logger.info(
            "request", extra={"line": line if trouble is None else line | {"error": trouble}}
        )


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class _Gone(Exception):
    """Raised if the sender of a request has left."""


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a function that delivers a body which has been read, and then what follows it."""
    delivered = False

    async def again() -> Message:
        nonlocal delivered
        if delivered:
            return await receive()
        delivered = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _name_of(host: str) -> str:
    """Return the name in a header Host, in lower case and without the port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() else host.lower()


def split_item(raw: str) -> tuple[str, str]:
    """Return the name of an item and what is wanted of it, from a path below ``/items/``.

    Parameters
    ----------
    raw : str
        The path after ``/items/``, percent-encoded.

    Returns
    -------
    name : str
        Decoded. Slashes of names should be encoded, but need not be.
    part : str
        "", "/file" or "/thumbnail".

    Examples
    --------
    >>> split_item("a%2Fb.png/file"), split_item("a/b.png")
    (('a/b.png', '/file'), ('a/b.png', ''))
    """
    name, slash, last = raw.rpartition("/")
    if name and last in ("file", "thumbnail"):
        return unquote(name), slash + last
    return unquote(raw), ""


def _address(scope: Scope) -> None:
    """Encode the name of an item again, so that it is one segment of the path."""
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    path = raw.decode("ascii", "replace")
    if path.startswith("/items/"):
        name, part = split_item(path.removeprefix("/items/"))
        if name:
            scope["path"] = f"/items/{quote(name, safe='')}{part}"
