"""Texts and values of other people, made safe for a screen: a plugin's summary, for instance."""

from __future__ import annotations

import unicodedata
from typing import Any

__all__ = ["printable", "shown"]

# Embeddings, overrides, isolates and marks turn the direction of what follows; the others are not
# seen. Joiners and tags stay: scripts and emoji need them.
_UNSEEN = {0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, 0xFEFF}
_UNSEEN |= {*range(0x202A, 0x202F), *range(0x2060, 0x2070)}


def printable(text: str, *, lines: bool = False) -> str:
    """Return a text without characters that move a cursor, turn its direction or are not seen.

    Parameters
    ----------
    text : str
        Of whatever source.
    lines : bool, default=False
        Keep newlines and tabs; by default they become spaces, so that a row stays a row.

    Returns
    -------
    str
        Terminal escape sequences lose the character that starts them, and with it their meaning.
    """

    def shown(character: str) -> str:
        category = unicodedata.category(character)
        if category == "Cs":  # half of a surrogate pair: no encoding can write it
            return "\ufffd"
        if category not in ("Cc", "Zl", "Zp"):
            return "" if ord(character) in _UNSEEN else character
        if lines and character in "\n\t":
            return character
        return " " if character.isspace() else ""

    return "".join(map(shown, text))


def shown(value: Any) -> str:
    """Return how a message shows what came: on one line, and not all of a long one."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # repr of another's object
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:97]}..."
