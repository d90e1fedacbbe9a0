"""Checks of the fields of cards and search spaces, without imports that are slow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from crossfit._suggest import did_you_mean
from crossfit._text import shown

__all__ = ["check_names", "check_one", "check_type"]


def check_type(where: str, value: Any, wanted: type) -> None:
    # To Python, True is an int, but it is a mistake in place of a number.
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        kind = {str: "a string", int: "a whole number", bool: "True or False"}.get(
            wanted, f"a {wanted.__name__.lower()}"
        )
        raise TypeError(f"{where} must be {kind}, got {shown(value)}")


def check_names(where: str, names: Any, allowed: Iterable[str] = ()) -> None:
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        hint = f" (for one, write ({shown(names)},))" if isinstance(names, str) else ""
        raise TypeError(f"{where} must be a tuple of strings, got {shown(names)}{hint}")
    if len(set(names)) < len(names):
        raise ValueError(f"{where} must differ from each other, got {shown(names)}")
    if allowed:
        for name in names:
            check_one(where, name, allowed)


def check_one(where: str, value: Any, allowed: Iterable[str]) -> None:
    allowed = tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(
            f"{where} must be among {', '.join(allowed)}, got {shown(value)}"
            + did_you_mean(value, allowed)
        )
