"""Pairs and words for `explain` of the methods over sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crossfit.views import Ragged, Views

__all__ = ["pairs_of", "words_of"]


def pairs_of(views: Views, name: str) -> Views:
    """Return views that hold pairs.

    Parameters
    ----------
    views : Views
        The views of the fit that are given.
    name : str
        Name of the class, for the message.

    Raises
    ------
    ValueError
        If there is only one.
    """
    if len(views.names) < 2:
        raise ValueError(
            f"{name}.explain needs pairs of both views, got only {views.names[0]!r}; add the other"
        )
    return views


def words_of(texts: Any, lengths: Sequence[int]) -> dict[str, Any]:
    """Return ``{"words": ...}``, the first words of ragged texts that carry them, or nothing.

    Parameters
    ----------
    texts : a view
        Texts of the pairs.
    lengths : sequence of int
        Number of words of each text that are used; a text without words has one, "".
    """
    if not isinstance(texts, Ragged) or "words" not in texts.info:
        return {}
    words = np.split(texts.info["words"], texts.offsets[1:-1])
    none = np.array([""], dtype=object)
    used = [part[:n] if len(part) else none for part, n in zip(words, lengths, strict=True)]
    return {"words": np.concatenate(used)}
