"""Texts and values of other people, made safe for a screen: a plugin's summary, for instance."""

from __future__ import annotations

import unicodedata
from typing import Any

__all__ = ["printable", "shown"]

# Embeddings, overrides, isolates and marks change the direction of the following text; the others
# are invisible. Joiners and tags are kept, because scripts and emoji need them.
_UNSEEN = {0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, 0xFEFF}
_UNSEEN |= {*range(0x202A, 0x202F), *range(0x2060, 0x2070)}


def printable(text: str, *, lines: bool = False) -> str:
    """Return a text without characters that move the cursor, change direction or are invisible.

    Parameters
    ----------
    text : str
        Text of any source.
    lines : bool, default=False
        Keep newlines and tabs; by default they become spaces, so that a row stays on one line.

    Returns
    -------
    str
        Terminal escape sequences lose their first character, and with it their effect.
    """

    def shown(character: str) -> str:
        category = unicodedata.category(character)
        if category == "Cs":  # half of a surrogate pair, which cannot be encoded
            return "\ufffd"
        if category not in ("Cc", "Zl", "Zp"):
            return "" if ord(character) in _UNSEEN else character
        if lines and character in "\n\t":
            return character
        return " " if character.isspace() else ""

    return "".join(map(shown, text))


def shown(value: Any) -> str:
    """Return the representation of a value for a message, on one line and shortened."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # raised by the repr of a foreign object
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:97]}..."
