"""Pictures inside a page: thumbnails as data URIs, and pictures that are bright at high weights."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._packed import is_cell, is_file
from crossfit.extraction.formats import PICTURE_SUFFIXES

__all__ = ["data_uri", "is_picture", "lit"]

#: Longest side of a thumbnail in pixels.
_THUMBNAIL = 192


def data_uri(image: Any, longest: int = _THUMBNAIL) -> str:
    """Return a picture as a data URI, of a thumbnail if the picture is larger.

    Parameters
    ----------
    image : path-like, PIL image or ndarray
        Any input of `crossfit.extraction.load_rgb`.
    longest : int, default=192
        Length of the longest side of a thumbnail, in pixels.

    Returns
    -------
    str
    """
    from PIL import Image

    from crossfit.extraction import load_rgb

    picture = Image.fromarray(load_rgb(image))
    buffer = io.BytesIO()
    if max(picture.size) <= longest:
        kind = "png"
        picture.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        picture.thumbnail((longest, longest))
        picture.save(buffer, "JPEG", quality=72, optimize=True)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def lit(image: Any, weights: Any, boxes: Any) -> NDArray[np.uint8]:
    """Darken a picture except where the weights of its regions are high.

    Parameters
    ----------
    image : path-like, PIL image or ndarray
        Any input of `crossfit.extraction.load_rgb`.
    weights : array-like of shape (R,)
        Weights of the regions, at least 0.
    boxes : array-like of shape (R, 4)
        Left, top, right and bottom of the regions, as fractions of the picture.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        The brightness of a pixel is given by the largest weight of the regions that contain it.
    """
    from crossfit.extraction import load_rgb

    pixels = load_rgb(image)
    height, width = pixels.shape[:2]
    light = np.zeros((height, width))
    corners = np.asarray(boxes, np.float64) * (width, height, width, height)
    for weight, (left, top, right, bottom) in zip(weights, corners.round().astype(int)):
        part = light[top:bottom, left:right]
        np.maximum(part, weight, out=part)
    share = light / max(light.max(), 1e-12)
    return (pixels * (0.2 + 0.8 * share[..., None])).astype(np.uint8)


def is_picture(value: Any) -> bool:
    """Return True if a value is an image file that exists, also inside another, or pixels."""
    if isinstance(value, bytes) or (isinstance(value, str) and is_cell(value)):
        return _can_be_read(value)  # it may be a sound as well
    if isinstance(value, str):
        return Path(value).suffix.lower() in PICTURE_SUFFIXES and is_file(value)
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3


def _can_be_read(value: str | bytes) -> bool:
    from crossfit.extraction import load_rgb

    try:
        load_rgb(value)
    except (ValueError, OSError, ImportError):
        return False
    return True
