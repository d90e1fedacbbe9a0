"""Types of columns that are written as texts, as in CSV files."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["typed"]

#: Texts that stand for no value in a column of another type than text.
_EMPTY = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
     "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null")
)  # fmt: skip
# A number that begins with 0, as 007, is a name.
_INTEGER = re.compile(r"-?(?:0|[1-9]\d*)", re.ASCII)
_NUMBER = re.compile(r"-?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d(?:[ T]\d\d(?::\d\d(?::\d\d(?:\.\d{1,9})?)?)?(?P<zone>Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False,
             "FALSE": False}  # fmt: skip


def typed(texts: Sequence[Any]) -> list[Any]:
    """Return a column of texts as integers, numbers, booleans, dates or moments, if all are.

    Parameters
    ----------
    texts : sequence of str
        The entries.

    Returns
    -------
    list
        int, float, bool, datetime.date or datetime.datetime, and None for an empty entry or a word
        for it, such as ``NA``; moments with a time zone are in UTC. Texts that are not all of
        one of these types are unchanged, and so are numbers with zeros in front, which are names,
        and numbers that would lose digits.

    Examples
    --------
    >>> typed(["1", "", "3"]), typed(["007", "042"]), typed(["2010-05-01"])
    ([1, None, 3], ['007', '042'], [datetime.date(2010, 5, 1)])
    """
    given = list(texts)
    if all(isinstance(text, str) for text in given):
        stripped = [text.strip() for text in given]
        full = [text for text in stripped if text not in _EMPTY]
        for read in (_integer, _number, _BOOLEANS.get, _date, _moments(full)) if full else ():
            found = {text: read(text) for text in full}
            if None not in found.values():
                return [found.get(text) for text in stripped]
    return given


def _integer(text: str) -> int | None:
    if not _INTEGER.fullmatch(text) or len(text) > 20:
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def _number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    if not math.isfinite(number) or (_INTEGER.fullmatch(text) and int(text) != number):
        return None
    return number


def _date(text: str) -> datetime.date | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return None


def _moments(texts: Sequence[str]) -> Callable[[str], datetime.datetime | None]:
    """Return a function that reads moments, which either all have a time zone or none has."""
    matches = [_MOMENT.fullmatch(text) for text in texts]
    zones = {match is not None and match["zone"] is not None for match in matches}

    def read(text: str) -> datetime.datetime | None:
        if None in matches or len(zones) > 1:
            return None
        try:
            moment = datetime.datetime.fromisoformat(text)
            return moment if moment.tzinfo is None else moment.astimezone(datetime.UTC)
        except (ValueError, OverflowError):
            return None

    return read
