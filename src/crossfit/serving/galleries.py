"""Galleries from what is on disk: an index, a folder of files, or a table."""

from __future__ import annotations

import os

from crossfit.galleries import read_gallery
from crossfit.serving.gallery import MemoryGallery, Searchable
from crossfit.serving.winner import Winner

__all__ = ["open_gallery"]


def open_gallery(
    winner: Winner, source: str | os.PathLike[str], view: str | None = None
) -> Searchable:
    """Open a gallery, and compute the features of its items if it is not an index.

    Parameters
    ----------
    winner : Winner
        The model.
    source : path-like
        As in `crossfit.galleries.read_gallery`.
    view : str, optional
        The view of the items; by default the only one of their kind.

    Raises
    ------
    ValueError, OSError
        If the gallery cannot be read, or the model does not take its items.
    """
    if view is not None and view not in winner.views:
        raise ValueError(
            f"no view {view!r}: the views of {winner.name} are {', '.join(winner.views)}"
        )
    gallery = read_gallery(source, view, winner.kinds.get(view) if view else None)
    if view is None:
        views = [name for name in winner.views if winner.kinds.get(name) == gallery.kind]
        if len(views) != 1:
            kinds = ", ".join(f"{name} ({kind})" for name, kind in winner.kinds.items()) or "none"
            raise ValueError(
                f"the gallery {os.fspath(source)!r} is one of {gallery.kind}s, and of the views "
                f"that {winner.name} takes as files or texts ({kinds}) {len(views)} are of this "
                "kind; choose another gallery, or name the view"
            )
        (view,) = views
    return MemoryGallery(winner, view, gallery)
