"""Limits of one request, and of all of them together."""

from __future__ import annotations

from dataclasses import dataclass, fields

from crossfit._arguments import check_arguments, integer, real

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Limits of the HTTP service; a request beyond one of them is refused with one sentence.

    Parameters
    ----------
    body_bytes : int, default=10_000_000
        Size of an upload.
    json_bytes : int, default=2_000_000
        Size of a body that is not an upload.
    body_seconds : float, default=10.0
        Time in seconds in which the head and the body of a request must arrive, each.
    seconds : float, default=20.0
        Time in seconds from the arrival of the body to the start of the answer.
    queue : int, default=256
        Number of queries that are computed or wait at a time.
    requests : int, default=512
        Number of requests that are served at a time, including those whose body is arriving.
    batch : int, default=64
        Number of queries that are encoded at a time.
    window : float, default=0.002
        Time in seconds for which the first query of a batch waits for others.
    queries : int, default=64
        Number of queries of one request.
    k : int, default=1000
        Number of results per query, and of items that are ranked again.
    text : int, default=10_000
        Number of characters of a text, a name and a filter.
    picture_pixels : int, default=25_000_000
        Number of pixels of a picture, checked before it is decoded.
    sound_seconds : float, default=60.0
        Duration of a sound in seconds.

    Raises
    ------
    ValueError, TypeError
        If a limit is not a positive number.

    Examples
    --------
    >>> from crossfit.serving import Limits
    >>> Limits(queue=16).queue
    16
    """

    body_bytes: int = 10_000_000
    json_bytes: int = 2_000_000
    body_seconds: float = 10.0
    seconds: float = 20.0
    queue: int = 256
    requests: int = 512
    batch: int = 64
    window: float = 0.002
    queries: int = 64
    k: int = 1000
    text: int = 10_000
    picture_pixels: int = 25_000_000
    sound_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Check the limits."""
        for field in fields(self):
            rule = integer(1) if field.type == "int" else real(0)
            check_arguments("Limits", {field.name: [rule]}, {field.name: getattr(self, field.name)})
