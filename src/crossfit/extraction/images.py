"""Conversion of files, PIL images and arrays to RGB pixels, and the base class of extractors."""

from __future__ import annotations

import functools
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from crossfit._arguments import integer, validated
from crossfit._arrays import as_numpy
from crossfit._packed import container_of, read_file
from crossfit.extraction.base import Extractor, check_file, describe, sequence_of
from crossfit.extraction.formats import PICTURE_FORMATS, PICTURE_SUFFIXES

__all__ = ["MAX_PIXELS", "PICTURE_FORMATS", "PICTURE_SUFFIXES", "ImageExtractor", "load_rgb"]

MAX_PIXELS = 50_000_000
"""Default of the largest number of pixels of a picture."""

_ALPHA_MODES = {"RGBA", "LA", "PA", "RGBa", "La"}
_WIDE_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N"}
_DEPTHS = (8, 10, 12, 14, *range(16, 32))
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The chunks of a PNG file on which its pixels depend.
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"}


@validated(max_pixels=[integer(1), None])
def load_rgb(item: Any, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Return an image as upright RGB pixels with eight bits per channel, on a white background.

    The EXIF orientation is applied, transparent pixels are blended with white, and palettes, CMYK
    and greyscale are converted to RGB. Only the first frame of an animation is used. Parts of a
    file other than its pixels may be damaged.

    Grey values of more than eight bits are assumed to have the smallest of 8, 10, 12, 14, and 16 to
    31 bits that can represent the largest of them, and the upper eight of these bits are kept, so
    that white remains white in 12-bit pictures in 16-bit files. Of files with sixteen bits in each
    of several channels, Pillow keeps the upper eight; a picture that this makes almost black is
    rejected.

    Parameters
    ----------
    item : path-like, bytes, PIL.Image.Image or ndarray
        A file in one of the formats of `crossfit.extraction.formats`, by its path, its content or
        the address of a file in a tar, parquet or Arrow file (see
        `crossfit.datasets.from_webdataset`); an image; or uint8 pixels (H, W), (H, W, 1),
        (H, W, 3) or (H, W, 4).
    max_pixels : int or None, default=50_000_000
        Largest number of pixels (width times height) of a file, checked before decoding. Larger
        JPEG and JPEG 2000 files are decoded at half, a quarter or an eighth of their size; others
        are rejected. If None, only Pillow's limit applies, which is about 180 million.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        The pixels. RGB arrays are returned unchanged, without a copy.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, truncated, too large, not a regular file or not an image; if the
        range of its pixels is unknown (floating-point or negative); or if the array has another
        shape or dtype.
    TypeError
        If `item` is not of these types.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.extraction import load_rgb
    >>> load_rgb(np.full((4, 6), 255, np.uint8)).shape
    (4, 6, 3)
    """
    if isinstance(item, np.ndarray):
        return _array_to_rgb(item)
    if isinstance(item, Image.Image):
        name = repr(getattr(item, "filename", "") or "given")
        return _reading(name, lambda: _image_to_rgb(item, name, max_pixels))
    if isinstance(item, bytes):
        return _reading("given", lambda: _file_to_rgb(item, "given", max_pixels))
    if isinstance(item, (str, os.PathLike)):
        path = check_file(item, "image")
        return _reading(repr(path), lambda: _file_to_rgb(_source(path), repr(path), max_pixels))
    raise TypeError(
        "item must be the content of a file, a path, a PIL image or a uint8 array, got "
        f"{type(item).__name__}"
    )


def _source(path: str) -> str | bytes:
    """Return the path of a file, or the content of a file in another one."""
    return path if container_of(path) is None else read_file(path)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this build of Pillow supports."""
    Image.init()
    return tuple(name for name in PICTURE_FORMATS if name in Image.OPEN)


def _reading(name: str, read: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the result of `read`; errors of Pillow become a ValueError with the file's name."""
    try:
        try:
            return read()
        except Warning:
            # Pillow warns about unusual files; a filter of the user makes this an error.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return read()
    except _Rejected:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(
            f"cannot read the image {name}: it is not in a supported image format "
            f"({', '.join(_formats())})"
        ) from error
    except Exception as error:  # damaged files cause errors of many classes
        reason = str(error) or type(error).__name__
        raise ValueError(f"cannot read the image {name}: {reason}") from error


class _Rejected(ValueError):
    """Error for a picture that is not damaged but cannot be used."""


def _file_to_rgb(source: str | bytes, name: str, max_pixels: int | None) -> np.ndarray:
    def opened() -> Any:
        return io.BytesIO(source) if isinstance(source, bytes) else source

    try:
        with Image.open(opened(), formats=_formats()) as image:
            return _to_rgb(_within(image, name, max_pixels), f"the image {name}")
    except _Rejected:
        raise
    except ValueError:
        # Texts and profiles of a PNG file may exceed a limit of Pillow.
        data = _png_pixels_only(source if isinstance(source, bytes) else Path(source).read_bytes())
        if data is None:
            raise
        with Image.open(data, formats=["PNG"]) as image:
            return _to_rgb(_within(image, name, max_pixels), f"the image {name}")


def _image_to_rgb(image: Image.Image, name: str, max_pixels: int | None) -> np.ndarray:
    if image.format is not None:  # the image may not have been decoded yet
        _check_size(image.size, name, max_pixels)
    return _to_rgb(image, f"the image {name}")


def _within(image: Image.Image, name: str, max_pixels: int | None) -> Image.Image:
    """Return the image, decoded at a size within the limit, or raise an error."""
    for halvings in range(4):
        size = tuple(-(-side // 2**halvings) for side in image.size)
        if max_pixels is None or size[0] * size[1] <= max_pixels:
            break
    else:
        halvings = 0
    if halvings and image.format in ("JPEG", "MPO"):
        image.draft(None, (image.width >> halvings, image.height >> halvings))
    elif halvings and image.format == "JPEG2000":
        image.reduce = halvings  # type: ignore[method-assign, assignment]
        return image
    _check_size(image.size, name, max_pixels)
    return image


def _check_size(size: tuple[int, int], name: str, max_pixels: int | None) -> None:
    if max_pixels is not None and size[0] * size[1] > max_pixels:
        raise _Rejected(
            f"the image {name} has {size[0]} x {size[1]} pixels, more than "
            f"max_pixels={max_pixels}; make it smaller, or increase max_pixels"
        )


def _png_pixels_only(data: bytes) -> io.BytesIO | None:
    """Return a PNG file without its texts and profiles, or None if it is not a PNG file."""
    signature, at = b"\x89PNG\r\n\x1a\n", 8
    if not data.startswith(signature):
        return None
    kept = [signature]
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] in _PNG_CHUNKS:
            kept.append(data[at:end])
        at = end
    return io.BytesIO(b"".join(kept))


def _array_to_rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8:
        raise ValueError(
            f"pixels must be uint8, got an array of {pixels.dtype}: scale them to 0 ... 255"
        )
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
    raw_mode = _raw_mode(image)
    image.load()
    turn = _TURNS.get(_orientation(image))
    if image.mode in _WIDE_MODES:
        image = _eight_bits(image, name)
    elif image.mode == "F":
        raise _Rejected(
            f"{name} has floating-point pixels, whose range is unknown; scale them to uint8 first"
        )
    elif ";16" in raw_mode and 0 < max(high for _, high in image.getextrema()[:3]) < 16:  # type: ignore[misc, index]
        raise _Rejected(
            f"{name} has sixteen bits a channel and uses only the lowest twelve, of which Pillow "
            "keeps four; scale it to uint8 first"
        )
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        layer = image.convert("LA") if image.mode == "La" else image
        layer = layer if layer.mode == "RGBA" else layer.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if turn is not None:
        image = image.transpose(turn)
    return np.asarray(image)


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's name of the layout of the pixels in the file, or "" if it is unknown."""
    tile = getattr(image, "tile", None)
    args = tile[0][3] if tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged EXIF data cause errors of many classes
        return 1
    return found if isinstance(found, int) else 1


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0:
        raise _Rejected(
            f"{name} has negative pixels, whose range is unknown; scale them to uint8 first"
        )
    bits = next(bits for bits in _DEPTHS if values.max() < 2**bits)
    grey = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


class ImageExtractor(Extractor):
    """Base class of image extractors; `_extract` receives a list of uint8 arrays (H, W, 3).

    Items are paths, contents of files, PIL images and uint8 arrays, as in `load_rgb`, in any
    mixture. A single uint8 array of all images, (n, H, W, 1), (n, H, W, 3) or (n, H, W, 4), is
    also accepted.

    Notes
    -----
    If a subclass has a parameter ``max_pixels``, it is passed to `load_rgb`.
    """

    expects = "images (uint8 (n, H, W, 3), paths or PIL images)"

    def _as_items(self, X: Any) -> list[Any]:
        owner = type(self).__name__
        if isinstance(X, (str, os.PathLike, Image.Image)):
            raise TypeError(
                f"{owner} expects {self.expects}, got a single {type(X).__name__}: put it in a list"
            )
        if not isinstance(X, (list, tuple)) and hasattr(X, "__array__"):
            pixels = as_numpy(X)
            if pixels.ndim == 4 and pixels.dtype == np.uint8 and pixels.shape[3] in (1, 3, 4):
                return list(pixels)
        items = sequence_of(X, self.expects, owner)
        for item in items:
            if not isinstance(item, (str, bytes, os.PathLike, Image.Image)) and not (
                isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim in (2, 3)
            ):
                raise TypeError(f"{owner} expects {self.expects}, got {describe(X, item)}")
        return items

    def _content(self, item: Any) -> bytes:
        if isinstance(item, Image.Image):
            item = self._load(item)
        if isinstance(item, np.ndarray):
            return f"pixels {item.shape} ".encode() + item.tobytes()
        if isinstance(item, bytes):
            return b"file " + item
        path = check_file(item, "image")
        try:
            return b"file " + read_file(path)
        except OSError as error:
            raise ValueError(f"cannot read the image {path!r}: {error}") from error

    def _load(self, item: Any) -> np.ndarray:
        return load_rgb(item, getattr(self, "max_pixels", MAX_PIXELS))
