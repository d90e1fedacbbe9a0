"""The error that becomes an answer."""

from __future__ import annotations

from collections.abc import Mapping

from crossfit._text import printable

__all__ = ["Refused"]

# Messages may quote what was sent.
_LONGEST = 500


class Refused(Exception):
    """Raised if a request cannot be answered, with the status and the sentence of the answer.

    Parameters
    ----------
    status : int
        HTTP status.
    sentence : str
        What is wrong, for the sender of the request.
    headers : mapping of str to str, optional
        Further headers of the answer.
    """

    def __init__(
        self, status: int, sentence: str, headers: Mapping[str, str] | None = None
    ) -> None:
        sentence = printable(" ".join(sentence.split()))
        if len(sentence) > _LONGEST:
            sentence = f"{sentence[: _LONGEST - 3]}..."
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = dict(headers or {})
