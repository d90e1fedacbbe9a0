"""Galleries from what is on disk: a folder of files, or a table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from crossfit.extraction.formats import PICTURE_SUFFIXES, SOUND_SUFFIXES
from crossfit.serving.gallery import Gallery, MemoryGallery
from crossfit.serving.winner import Winner

__all__ = ["open_gallery"]

_SUFFIXES = {"picture": PICTURE_SUFFIXES, "sound": SOUND_SUFFIXES}


def open_gallery(winner: Winner, source: Any, view: str | None = None) -> Gallery:
    """Open a gallery, and compute the features of its items if it is not an index.

    Parameters
    ----------
    winner : Winner
        The model.
    source : path-like
        A folder of pictures or sounds, or a table.
    view : str, optional
        The view of the items.
    """
    path = Path(os.fspath(source))
    if not path.exists():
        raise FileNotFoundError(f"there is no gallery {str(path)!r}")
    if view is None:
        views = [name for name in winner.views if winner.kinds.get(name) in _SUFFIXES]
        if not views:
            raise ValueError(f"{winner.name} has no view of pictures or sounds")
        view = views[0]
    suffixes = _SUFFIXES[winner.kinds[view]]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes)
    if not files:
        raise ValueError(f"the gallery {str(path)!r} has no {winner.kinds[view]}s")
    ids = [file.relative_to(path).as_posix() for file in files]
    return MemoryGallery(winner, view, [str(file) for file in files], ids, {"path": ids})
