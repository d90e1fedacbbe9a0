"""Galleries from what is on disk: an index, a folder of files, or a table."""

from __future__ import annotations

import os
from dataclasses import replace

from crossfit.galleries import names_for_others, read_gallery
from crossfit.retrieval import Index
from crossfit.serving.gallery import IndexGallery, MemoryGallery, Searchable
from crossfit.serving.searcher import Searcher

__all__ = ["open_gallery"]


def open_gallery(
    searcher: Searcher, source: str | os.PathLike[str], view: str | None = None
) -> Searchable:
    """Open a gallery, and compute the features of its items if it is not an index.

    Parameters
    ----------
    searcher : Searcher
        The model.
    source : path-like
        An index, or as in `crossfit.galleries.read_gallery`.
    view : str, optional
        The view of the items; by default the only one of their kind.

    Raises
    ------
    ValueError, OSError
        If the gallery cannot be read, or the model does not take its items.
    """
    if view is not None and view not in searcher.views:
        raise ValueError(
            f"no view {view!r}: the views of {searcher.name} are {', '.join(searcher.views)}"
        )
    if os.path.isfile(os.path.join(source, "manifest.json")):
        return _of_index(searcher, source, view)
    gallery = read_gallery(source, view, searcher.kinds.get(view) if view else None)
    if view is None:
        views = [name for name in searcher.views if searcher.kinds.get(name) == gallery.kind]
        if len(views) != 1:
            kinds = ", ".join(f"{name} ({kind})" for name, kind in searcher.kinds.items()) or "none"
            raise ValueError(
                f"the gallery {os.fspath(source)!r} is one of {gallery.kind}s, and of the views "
                f"that {searcher.name} takes as files or texts ({kinds}) {len(views)} are of this "
                "kind; choose another gallery, or name the view"
            )
        (view,) = views
    gallery = replace(gallery, ids=names_for_others(gallery.ids))
    return MemoryGallery(searcher, view, gallery)


def _of_index(searcher: Searcher, source: str | os.PathLike[str], view: str | None) -> Searchable:
    index = Index.open(source)
    name = os.fspath(source)
    view = view or index.meta.get("view")
    if view is None:
        views = [
            each for each in searcher.views if searcher.kinds.get(each) in ("picture", "sound")
        ]
        view = (views or list(searcher.views))[0]
    if view not in searcher.views:
        raise ValueError(
            f"the index {name!r} is of the view {view!r}: the views of {searcher.name} are "
            f"{', '.join(searcher.views)}"
        )
    kind = searcher.kinds.get(view)
    column = "text" if kind == "text" else "path"
    if kind is None or column not in index.columns:
        raise ValueError(
            f"the index {name!r} has no column {column!r}, and {searcher.name} takes "
            f"{kind or 'array'}s as {view!r}; build it with crossfit index"
        )
    gallery = IndexGallery(searcher, view, index)
    text = searcher.view_of("text")
    if text is not None:
        width = searcher.features(["a"], text).shape[1]
        if width != index.dim:
            raise ValueError(
                f"the index {name!r} has vectors of {index.dim} columns, and those of "
                f"{searcher.name} have {width}; build it with this model"
            )
    return gallery
