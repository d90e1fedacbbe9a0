"""The process: its socket, its signals, its log and slow connections."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from crossfit.serving.limits import Limits

__all__ = ["bind", "serve"]

# Bytes of the head of a request; more are refused with 400.
_HEAD = 32_768


def bind(host: str, port: int) -> socket.socket:
    """Return a socket for an address, before any work starts.

    Parameters
    ----------
    host : str
        Name or number of an address of this machine.
    port : int
        Number of the port; 0 for any free one.

    Raises
    ------
    OSError
        If the address cannot be used, in one sentence.
    """
    where = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise OSError(f"{host!r} is not the name of an address: {error}") from None
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        # A second process could bind the same address as long as nobody listens; those who connect
        # before the model is loaded wait.
        found.listen(2048)
    except OSError as error:
        found.close()
        reason = error.strerror or str(error)
        raise OSError(f"cannot listen at {where}: {reason}; choose another --port") from None
    return found


def serve(app: Any, listener: socket.socket, limits: Limits) -> None:
    """Serve until a signal comes; then finish the running requests and return.

    Parameters
    ----------
    app : ASGI application
        See `crossfit.serving.build_app`.
    listener : socket
        See `bind`.
    limits : Limits
        Times.
    """
    _log_to_stderr()
    protocol = type("Protocol", (_Protocol,), {"head_seconds": limits.body_seconds})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # Addresses in headers of strangers mean nothing; a proxy's are not used.
        proxy_headers=False,
        h11_max_incomplete_event_size=_HEAD,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(limits.seconds) + 1,
    )
    _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server for which a signal is an ordinary end, with the exit code 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        former = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


class _Protocol(H11Protocol):
    """HTTP in which the head of a request must arrive within a time."""

    head_seconds: float
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if self._late is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()
        super().data_received(data)
        if self._late is not None and self.cycle is not None and not self.cycle.response_complete:
            self._late.cancel()
            self._late = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        body = json.dumps({"error": "the request is not valid HTTP"}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        # Nothing can be sent if the body is malformed and the answer has begun.
        with suppress(h11.LocalProtocolError):
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _expect_head(self) -> None:
        self._late = self.loop.call_later(self.head_seconds, self.timeout_keep_alive_handler)


class _Lines(logging.Formatter):
    """One line of JSON per record."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
        }
        line |= getattr(record, "line", None) or {"message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name, level in (("crossfit", logging.INFO), ("uvicorn", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
