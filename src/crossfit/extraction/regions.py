"""Regions of images: boxes with vectors, in a common format, and pictures of them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from crossfit._arguments import integer, shown, validated
from crossfit._arrays import as_array, in_rows
from crossfit.extraction.base import Extractor
from crossfit.extraction.images import load_rgb
from crossfit.views import Ragged

__all__ = ["MeanRegions", "draw_boxes", "grid_boxes", "make_regions"]


@validated(rows=[integer(1, 4096)], columns=[integer(1, 4096)])
def grid_boxes(rows: int, columns: int) -> NDArray[np.float32]:
    """Return the boxes of a grid's cells, row by row.

    Parameters
    ----------
    rows, columns : int
        Number of cells from top to bottom and from left to right, each at most 4,096.

    Returns
    -------
    float32 ndarray of shape (rows * columns, 4)
        Left, top, right and bottom, as shares of the width and height.

    Examples
    --------
    >>> from crossfit.extraction import grid_boxes
    >>> grid_boxes(1, 2).tolist()
    [[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]
    """
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    return np.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], 1).astype("f4")


def make_regions(
    vectors: Sequence[ArrayLike] | NDArray[Any],
    boxes: Sequence[ArrayLike] | None = None,
    scores: Sequence[ArrayLike] | None = None,
    labels: Sequence[ArrayLike] | None = None,
    label_names: Sequence[str] = (),
) -> Ragged:
    """Return the regions of images in the format that methods with regions accept.

    Parameters
    ----------
    vectors : n arrays of shape (R_i, d)
        Features of the regions of each image.
    boxes : n arrays of shape (R_i, 4), optional
        Left, top, right and bottom, as shares of the image's width and height. By default the
        regions are the cells of a square grid, row by row.
    scores : n arrays of shape (R_i,), optional
        Confidence in each region; 1 by default.
    labels : n arrays of shape (R_i,), optional
        Class of each region, as a position in `label_names`; -1, for no class, by default.
    label_names : sequence of str, default=()
        Names of the classes.

    Returns
    -------
    Ragged
        The vectors, with ``info["boxes"]`` (float32), ``info["scores"]`` (float32) and
        ``info["labels"]`` (int64), which are indexed together with the rows, and
        ``info["label_names"]`` (tuple).

    Raises
    ------
    ValueError
        If the shapes do not match, or if a box is not inside its image.
    TypeError
        If `label_names` is not a sequence of strings.

    Examples
    --------
    >>> import numpy as np
    >>> regions = make_regions(np.ones((2, 36, 256)))
    >>> regions.info["boxes"][1].tolist()
    [0.1666666716337204, 0.0, 0.3333333432674408, 0.1666666716337204]
    """
    arrays = _per_image(vectors, "vectors")
    counts = [len(part) if part.ndim == 2 else -1 for part in arrays]
    if not arrays or min(counts) < 1:
        shape = arrays[int(np.argmin(counts))].shape if arrays else "no image"
        raise ValueError(f"every image needs vectors of shape (R, d) with R >= 1, got {shape}")
    if boxes is None:
        sides = [round(count**0.5) for count in counts]
        if any(side**2 != count for side, count in zip(sides, counts)):
            raise ValueError(
                f"without boxes the regions must be a square grid, got {max(counts)} regions"
            )
        boxes = [grid_boxes(side, side) for side in sides]
    if scores is None:
        scores = [np.ones(count) for count in counts]
    if labels is None:
        labels = [np.full(count, -1) for count in counts]
    info: dict[str, Any] = {}
    for name, parts, trailing, dtype in (
        ("boxes", boxes, (4,), np.float32),
        ("scores", scores, (), np.float32),
        ("labels", labels, (), np.int64),
    ):
        found = _per_image(parts, name)
        expected = [(count, *trailing) for count in counts]
        if [part.shape for part in found] != expected:
            raise ValueError(
                f"{name} must have a row for each of an image's regions, {expected[:3]}, got "
                f"{[part.shape for part in found[:3]]}"
            )
        info[name] = np.concatenate(found).astype(dtype)
    box = info["boxes"]
    # In this form, the comparisons fail for NaN.
    if not ((box >= 0) & (box <= 1)).all() or not (box[:, :2] <= box[:, 2:]).all():
        raise ValueError(
            "boxes are left, top, right and bottom as shares of the image, between 0 and 1 and "
            "in this order"
        )
    if not isinstance(label_names, list | tuple) or not all(
        isinstance(name, str) for name in label_names
    ):
        raise TypeError(f"label_names must be a tuple of strings, got {shown(label_names)}")
    info["label_names"] = tuple(label_names)
    return Ragged.from_list(arrays, info)


def _per_image(parts: Any, name: str) -> list[NDArray[Any]]:
    """Return numbers as one array per image."""
    try:
        listed = [] if isinstance(parts, str | bytes) else list(parts)
    except Exception as error:  # objects that cannot be iterated raise various errors
        raise TypeError(
            f"{name} must be a list with one array per image, got {shown(parts)}"
        ) from error
    arrays = [as_array(part, name, numbers=True) for part in listed]
    for i, array in enumerate(arrays):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name} must be numbers, got type {array.dtype} for image {i}")
    return arrays


class MeanRegions(Extractor):
    """Mean of the regions of each picture, or of the word vectors of each text.

    In a pipeline after an extractor of regions, it allows a method for vectors to use the same
    features as a method for regions, which are extracted only once.

    See Also
    --------
    FisherVector : A vector of each set that represents more than its mean.

    Notes
    -----
    The input of `transform` is a `Ragged` of n rows of shape (R_i, d), an array of shape (n, R, d)
    or a list of arrays of shape (R_i, d); the output is an array of shape (n, d).

    Examples
    --------
    >>> import numpy as np
    >>> MeanRegions().fit_transform(make_regions(np.ones((2, 36, 256)))).shape
    (2, 256)
    """

    expects = "regions"

    def _as_items(self, X: Any) -> list[Any]:
        sets = sets_of(X, type(self).__name__)
        empty = np.flatnonzero(sets.lengths == 0).tolist()
        if empty or not len(sets):
            where = in_rows(empty, len(sets)) if empty else "no rows"
            raise ValueError(
                f"MeanRegions expects at least one region per row, got none in {where}"
            )
        return list(sets)

    def _content(self, item: Any) -> bytes:
        return repr((item.dtype.str, item.shape)).encode() + item.tobytes()

    def _extract(self, batch: list[Any]) -> list[np.ndarray]:
        return [item.mean(axis=0) for item in batch]


def sets_of(X: Any, owner: str) -> Ragged:
    """Return sets of vectors as a Ragged.

    Parameters
    ----------
    X : Ragged of n rows of shape (R_i, d), array of shape (n, R, d) or list of such arrays
        The argument of the user.
    owner : str
        Name of the class, for the error message.

    Raises
    ------
    TypeError, ValueError
        If X has another form, or if the vectors are not finite.
    """
    if isinstance(X, (list, tuple)) and all(getattr(row, "ndim", 0) == 2 for row in X):
        X = Ragged.from_list(X)
    if isinstance(X, np.ndarray) and X.ndim == 3:
        X = Ragged.from_list(list(X))
    if not isinstance(X, Ragged) or X.values.ndim != 2 or X.dtype.kind not in "fiu":
        what = repr(X) if isinstance(X, Ragged) else type(X).__name__
        raise TypeError(
            f"{owner} expects a Ragged of vectors, or a list of arrays of shape (R, d), got {what}"
        )
    if not np.isfinite(X.values).all():
        raise ValueError(f"{owner} expects finite vectors, got NaN or infinity")
    return X


def draw_boxes(
    image: Any,
    boxes: ArrayLike,
    labels: Sequence[str] | None = None,
    scores: ArrayLike | None = None,
) -> Image.Image:
    """Draw boxes on a picture.

    Parameters
    ----------
    image : path-like, PIL.Image.Image or ndarray
        The picture, in any form that `load_rgb` accepts.
    boxes : array-like of shape (R, 4)
        Left, top, right and bottom, as shares of the image's width and height.
    labels : sequence of R str, optional
        Name of each box. Boxes with the same name have the same colour.
    scores : array-like of shape (R,), optional
        Score of each box, written after the name.

    Returns
    -------
    PIL.Image.Image
        A new picture of the same size.

    Raises
    ------
    ValueError
        If boxes, labels or scores are invalid, or if their numbers differ.

    Examples
    --------
    >>> import numpy as np
    >>> draw_boxes(np.zeros((60, 80, 3), np.uint8), [[0.1, 0.2, 0.5, 0.9]], ["dog"], [0.8]).size
    (80, 60)
    """
    frames = as_array(boxes, "boxes", numbers=True)
    if frames.dtype.kind not in "biuf" or frames.size % 4 or not np.isfinite(frames).all():
        raise ValueError(
            f"boxes must be finite numbers of shape (R, 4), got shape {frames.shape} of type "
            f"{frames.dtype}"
        )
    # Edges outside the picture are drawn at its border.
    frames = frames.astype(np.float64).reshape(-1, 4).clip(0, 1)
    if (frames[:, :2] > frames[:, 2:]).any():
        raise ValueError("boxes are left, top, right and bottom, in this order")
    names, values = [""] * len(frames), [""] * len(frames)
    if labels is not None:
        given = as_array(labels, "labels")
        if given.ndim != 1:
            raise ValueError(f"labels must be a list of strings, got {shown(labels)}")
        names = [str(label) for label in given.tolist()]
    if scores is not None:
        numbers = as_array(scores, "scores", numbers=True)
        if numbers.ndim != 1 or numbers.dtype.kind not in "biuf":
            raise ValueError(
                f"scores must be numbers of shape (R,), got shape {numbers.shape} of type "
                f"{numbers.dtype}"
            )
        values = [f"{score:.2f}" for score in numbers.astype(np.float64)]
    if not len(frames) == len(names) == len(values):
        raise ValueError(
            f"expected a label and a score for each of {len(frames)} boxes, got {len(names)} "
            f"labels and {len(values)} scores"
        )
    picture = Image.fromarray(load_rgb(image))
    width, height = picture.size
    line = max(1, round(max(width, height) / 200))
    font = ImageFont.load_default(max(9, round(max(width, height) / 32)))
    pen = ImageDraw.Draw(picture)
    # The first box is usually the best, and is drawn last, on top of the others.
    for frame, name, value in reversed(list(zip(frames, names, values))):
        # A colour that depends on the name, dark enough for white letters.
        colour = f"hsl({zlib.crc32(name.encode(errors='replace')) % 360}, 80%, 38%)"
        corners = [
            (min(frame[0] * width, width - 1), min(frame[1] * height, height - 1)),
            (min(frame[2] * width, width - 1), min(frame[3] * height, height - 1)),
        ]
        pen.rectangle(corners, outline=colour, width=line)
        text = f"{name} {value}".strip()
        if not text:
            continue
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        # The text is inside the picture: above the box if there is room, else in its upper corner.
        x = max(0.0, min(corners[0][0], width - (right - left) - 2 * line))
        y = corners[0][1] - (bottom - top) - 2 * line
        if y < 0:
            y = corners[0][1]
        pen.rectangle((x, y, x + right - left + 2 * line, y + bottom - top + 2 * line), colour)
        pen.text((x + line - left, y + line - top), text, fill="white", font=font)
    return picture
