"""Reading images: the one and only way from a file, a PIL image or an array to RGB pixels."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from crossfit.extraction.base import Extractor, describe, sequence_of
from crossfit.extraction.formats import PICTURE_FORMATS, PICTURE_SUFFIXES

__all__ = ["PICTURE_FORMATS", "PICTURE_SUFFIXES", "ImageExtractor", "load_rgb"]

_ALPHA_MODES = {"RGBA", "LA", "PA", "RGBa", "La"}
_SIXTEEN_BIT_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N"}


def load_rgb(item: Any) -> np.ndarray:
    """Return an image as RGB pixels: upright, eight bits a channel, on a white ground.

    The orientation written in EXIF is applied, transparency is laid over white, palettes, CMYK
    and greyscale become RGB, and of sixteen bits the upper eight are kept. Of an animation the
    first frame counts.

    Parameters
    ----------
    item : path-like, PIL.Image.Image or ndarray
        A file; an image; or uint8 pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        The pixels. An RGB array comes back as it is, not copied.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, truncated or no image, or the array has another shape or dtype.
    TypeError
        If `item` is none of the above.
    """
    if isinstance(item, np.ndarray):
        return _array_to_rgb(item)
    if isinstance(item, Image.Image):
        name = repr(getattr(item, "filename", "") or "given")
        with _naming(name):
            return _to_rgb(item, f"the image {name}")
    if isinstance(item, (str, os.PathLike)):
        name = repr(os.fspath(item))
        if not Path(item).exists():
            raise FileNotFoundError(f"there is no image file {name}")
        with _naming(name), Image.open(item, formats=_formats()) as image:
            return _to_rgb(image, f"the image {name}")
    raise TypeError(f"an image is a path, a PIL image or a uint8 array, got {type(item).__name__}")


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return those of the formats that this build of Pillow reads."""
    Image.init()
    return tuple(name for name in PICTURE_FORMATS if name in Image.OPEN)


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn what Pillow raises on a file it cannot read into a ValueError with its name."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ValueError(
            f"cannot read the image {name}: it is in no image format that is read here "
            f"({', '.join(_formats())})"
        ) from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        # SyntaxError: what Pillow's PNG reader raises on a broken chunk.
        raise ValueError(f"cannot read the image {name}: {error}") from error


def _array_to_rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8, got an array of {pixels.dtype}")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))) or not all(
        pixels.shape
    ):
        raise ValueError(
            f"pixels must have shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {pixels.shape}"
        )
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels
    return _to_rgb(Image.fromarray(pixels), "the array")


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BIT_MODES:
        # Pillow's own conversion clips at 255. Its upper eight bits are also what Pillow keeps
        # of a file with sixteen bits in each of three channels.
        high = np.clip(np.asarray(image, np.int64), 0, 65535) >> 8
        image = Image.fromarray(high.astype(np.uint8))
    elif image.mode == "F":
        raise ValueError(
            f"{name} has floating-point pixels, whose range is unknown; scale them to uint8 first"
        )
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(image.convert("RGB"))


class ImageExtractor(Extractor):
    """Base of extractors of images; `_extract` gets a list of uint8 arrays (H, W, 3).

    Items are what `load_rgb` reads, mixed as you like: paths, PIL images, uint8 arrays. An array
    of all images, uint8 (n, H, W, 1), (n, H, W, 3) or (n, H, W, 4), does as well.
    """

    expects = "images (uint8 (n, H, W, 3), paths or PIL images)"

    def _as_items(self, X: Any) -> list[Any]:
        owner = type(self).__name__
        if isinstance(X, (str, os.PathLike, Image.Image)):
            raise TypeError(
                f"{owner} expects {self.expects}, got a single {type(X).__name__}: put it in a list"
            )
        if not isinstance(X, (list, tuple)) and hasattr(X, "__array__"):
            pixels = np.asarray(X)
            if pixels.ndim == 4 and pixels.dtype == np.uint8 and pixels.shape[3] in (1, 3, 4):
                return list(pixels)
        items = sequence_of(X, self.expects, owner)
        for item in items:
            if not isinstance(item, (str, os.PathLike, Image.Image)) and not (
                isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim in (2, 3)
            ):
                raise TypeError(f"{owner} expects {self.expects}, got {describe(X, item)}")
        return items

    def _content(self, item: Any) -> bytes:
        if isinstance(item, Image.Image):
            item = load_rgb(item)
        if isinstance(item, np.ndarray):
            return f"pixels {item.shape} ".encode() + item.tobytes()
        try:
            return b"file " + Path(item).read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no image file {str(item)!r}") from None
        except OSError as error:
            raise ValueError(f"cannot read the image {str(item)!r}: {error}") from error

    def _load(self, item: Any) -> np.ndarray:
        return load_rgb(item)
