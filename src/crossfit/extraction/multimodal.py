"""The base class of extractors whose model takes more than one kind of items."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossfit._arrays import as_numpy, is_missing
from crossfit.extraction.audio import AudioExtractor
from crossfit.extraction.base import Extractor, describe
from crossfit.extraction.formats import PICTURE_SUFFIXES, SOUND_SUFFIXES
from crossfit.extraction.images import ImageExtractor
from crossfit.extraction.text import TextExtractor

__all__ = ["MultimodalExtractor"]

_BASES: dict[str, type[Extractor]] = {
    "image": ImageExtractor,
    "text": TextExtractor,
    "audio": AudioExtractor,
}
_NAMES = {"image": "pictures", "text": "texts", "audio": "sounds"}


class _Item(NamedTuple):
    """An item with its view."""

    view: str
    value: Any


class MultimodalExtractor(Extractor):
    """Base class of extractors of pictures, texts and sounds, such as the towers of one model.

    A subclass implements `_views` and `_encode`, and `_sound` if it takes sounds. The items of a
    call are all of one view: that of the parameter ``view`` if the subclass has it and it is not
    ``"auto"``; otherwise that of their kind. Arrays, images, paths and pairs choose it by their
    kind; strings are texts, unless all of them end like names of picture or sound files. Items are
    in the forms of `ImageExtractor`, `TextExtractor` and `AudioExtractor`.
    """

    expects = "images, texts or sounds, in a list or column"

    def _views(self) -> tuple[str, ...]:
        """Return what the model takes: "image", "text" and "audio"."""
        raise NotImplementedError(f"{type(self).__name__} must implement _views()")

    def _encode(self, view: str, batch: list[Any]) -> NDArray[Any] | Sequence[NDArray[Any]]:
        """Return one row of features for each loaded item; sounds are not padded."""
        raise NotImplementedError(f"{type(self).__name__} must implement _encode(view, batch)")

    def _sound(self) -> tuple[int, float]:
        """Return the rate of sounds in samples per second, and their longest duration in s."""
        raise NotImplementedError(f"{type(self).__name__} must implement _sound()")

    def _as_items(self, X: Any) -> list[_Item]:
        if not np.iterable(X):
            raise TypeError(f"{type(self).__name__} expects {self.expects}, got {describe(X)}")
        view = self._view_of(X)
        return [_Item(view, value) for value in self._part(view)._as_items(X)]

    def _content(self, item: _Item) -> bytes:
        return f"{item.view} ".encode() + self._part(item.view)._content(item.value)

    def _length(self, item: _Item) -> int:
        return self._part(item.view)._length(item.value)

    def _load(self, item: _Item) -> _Item:
        part = self._part(item.view)
        # Models pad sounds in their own ways.
        load = part._samples if isinstance(part, AudioExtractor) else part._load
        return _Item(item.view, load(item.value))

    def _extract(self, batch: list[_Item]) -> NDArray[Any] | Sequence[NDArray[Any]]:
        return self._encode(batch[0].view, [item.value for item in batch])

    def _check_finite(self, row: NDArray[Any], at: int, item: _Item) -> None:
        super()._check_finite(row, at, item.value)

    def _part(self, view: str) -> Extractor:
        """Return an extractor of one view, for its items."""
        part = _part_class(view, type(self).__name__)()
        if isinstance(part, AudioExtractor):
            part.rate, part.duration = self._sound()
        return part

    def _view_of(self, X: Any) -> str:
        views = self._views()
        view = getattr(self, "view", "auto")
        if view == "auto":
            view = views[0] if len(views) == 1 else _guessed(X, views)
        if view not in views:
            raise ValueError(
                f"{type(self).__name__}: the model takes "
                f"{' and '.join(_NAMES[each] for each in views)}, not {_NAMES[view]}"
            )
        return view


@functools.lru_cache(maxsize=64)
def _part_class(view: str, owner: str) -> type[Extractor]:
    """Return a class whose error messages name the extractor."""
    base = _BASES[view]
    return type(owner, (base,), {"__module__": __name__, "__doc__": base.__doc__})


def _guessed(X: Any, views: tuple[str, ...]) -> str:
    """Return the view of items of several possible ones, by their kind."""
    if hasattr(X, "__array__") and not isinstance(X, (list, tuple, Image.Image)):
        X = as_numpy(X)
        if X.dtype != object and X.ndim > 1:
            return "image" if X.dtype == np.uint8 else "audio"
    single = isinstance(X, (str, bytes, os.PathLike, Image.Image)) or not np.iterable(X)
    items = [X] if single else list(X)
    first = next((item for item in items if not is_missing(item)), None)
    if isinstance(first, str):
        names = [item.lower() for item in items if isinstance(item, str)]
        if "image" in views and all(name.endswith(PICTURE_SUFFIXES) for name in names):
            return "image"
        if "audio" in views and all(name.endswith(SOUND_SUFFIXES) for name in names):
            return "audio"
        return "text"
    if isinstance(first, (bytes, os.PathLike)):
        sound = isinstance(first, os.PathLike) and os.fspath(first).lower().endswith(SOUND_SUFFIXES)
        return "audio" if "audio" in views and (sound or "image" not in views) else "image"
    if isinstance(first, Image.Image) or (
        isinstance(first, np.ndarray) and first.ndim > 1 and first.dtype == np.uint8
    ):
        return "image"
    return "audio" if isinstance(first, (np.ndarray, tuple)) else views[0]
