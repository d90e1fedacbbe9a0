"""Suggestions of known names for misspelled ones, for error messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["did_you_mean"]


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return ``": did you mean 'x'?"`` with known names close to `name`, or "" without any."""
    import difflib

    near = difflib.get_close_matches(name, list(known), 3) if isinstance(name, str) else []
    return f": did you mean {' or '.join(map(repr, near))}?" if near else ""
