"""Grid features: gradients and colours of the cells of an image, without trained weights."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit.extraction.images import MAX_PIXELS, ImageExtractor

__all__ = ["GridFeatures"]

_COLOUR_MOMENTS = 6


class GridFeatures(ImageExtractor):
    """Histograms of gradients and hues, and moments of colours, in a grid of cells.

    An image is resized to a square and divided into ``grid`` x ``grid`` cells. The features of a
    cell are

    - a histogram of the unsigned gradient orientations [1]_ of the luma, in which pixels are
      weighted by the length of the gradient, normalised over the image by L2-Hys (scaled to
      length 1, clipped at 0.2, scaled to length 1 again);
    - a histogram of hues, the angles in the plane of the chroma channels Cb and Cr, in which pixels
      are weighted by their chroma, so that grey pixels have no weight;
    - the means and standard deviations of Y, Cb and Cr.

    Parameters
    ----------
    grid : int, default=6
        Number of cells per row and per column.
    orientations : int, default=9
        Number of bins of the gradient histogram, over half a turn.
    color_bins : int, default=8
        Number of bins of the hue histogram, over a full turn.
    size : int, default=96
        Side in pixels to which images are resized, a multiple of `grid`.
    output : {"flat", "pooled", "regions"}, default="flat"
        All cells in one vector, row by row; the mean of the cells; or one vector per cell.
    max_pixels : int or None, default=50_000_000
        Largest number of pixels of a file; see `load_rgb`.
    batch_size : int, default=32
        Number of images processed at once.
    cache : bool, default=True
        Whether to store features in the feature cache.
    verbose : {"auto", True, False}, default="auto"
        Progress bar: for long runs on a terminal, always, or never.

    Attributes
    ----------
    n_features_out_ : int
        Size of the last axis of the output.

    Notes
    -----
    With ``c = orientations + color_bins + 6``, `transform` returns float32 of shape
    (n, grid**2 * c), (n, c) or (n, grid**2, c).

    References
    ----------
    .. [1] N. Dalal, B. Triggs: Histograms of oriented gradients for human detection, CVPR 2005.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    >>> GridFeatures(cache=False).fit_transform(images).shape
    (2, 828)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "grid": [Interval(Integral, 1, 16_384, closed="both")],
        "orientations": [Interval(Integral, 1, 4_096, closed="both")],
        "color_bins": [Interval(Integral, 1, 4_096, closed="both")],
        "size": [Interval(Integral, 2, 16_384, closed="both")],
        "output": [StrOptions({"flat", "pooled", "regions"})],
        "max_pixels": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "cache": ["boolean"],
        "verbose": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self,
        grid: int = 6,
        orientations: int = 9,
        color_bins: int = 8,
        size: int = 96,
        output: str = "flat",
        *,
        max_pixels: int | None = MAX_PIXELS,
        batch_size: int = 32,
        cache: bool = True,
        verbose: bool | str = "auto",
    ) -> None:
        self.grid = grid
        self.orientations = orientations
        self.color_bins = color_bins
        self.size = size
        self.output = output
        self.max_pixels = max_pixels
        self.batch_size = batch_size
        self.cache = cache
        self.verbose = verbose

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.size % self.grid:
            raise ValueError(
                f"size must be a multiple of grid, got size={self.size} and grid={self.grid}"
            )

    def _n_outputs(self) -> int:
        cell = self.orientations + self.color_bins + _COLOUR_MOMENTS
        return cell * self.grid**2 if self.output == "flat" else cell

    def _extract(self, batch: list[np.ndarray]) -> np.ndarray:
        pixels = np.stack([self._resized(image) for image in batch])
        n = len(batch)

        # Differences of neighbours, which are zero at the border, as in [1]_.
        luma = pixels[..., 0].astype(np.int16)
        dy, dx = np.zeros_like(luma), np.zeros_like(luma)
        dy[:, 1:-1] = luma[:, 2:] - luma[:, :-2]
        dx[:, :, 1:-1] = luma[:, :, 2:] - luma[:, :, :-2]
        gradients = self._histogram(dy, dx, self.orientations, half_turn=True)
        # The epsilon of L2-Hys keeps the gradients of a uniform image at zero.
        gradients /= np.sqrt((gradients**2).sum((1, 2), keepdims=True) + 1e-10)
        np.minimum(gradients, 0.2, out=gradients)
        gradients /= np.sqrt((gradients**2).sum((1, 2), keepdims=True) + 1e-10)

        chroma = pixels[..., 1:].astype(np.int16) - 128
        hues = self._histogram(chroma[..., 1], chroma[..., 0], self.color_bins, half_turn=False)
        hues /= 128 * (self.size // self.grid) ** 2

        means = self._cell_means(pixels)
        squares = self._cell_means(np.square(pixels, dtype=np.uint16))
        deviations = np.sqrt(np.maximum(squares - means**2, 0))
        moments = np.concatenate([means, deviations], axis=-1) / 255

        # Gradients have length 1 over the whole image, the other parts about 1 per cell.
        regions = np.concatenate([gradients * self.grid, hues, moments], axis=-1)
        if self.output == "pooled":
            return regions.mean(1).astype(np.float32)
        regions = regions.astype(np.float32)
        return regions.reshape(n, -1) if self.output == "flat" else regions

    def _resized(self, image: np.ndarray) -> np.ndarray:
        square = Image.fromarray(image)
        if square.size != (self.size, self.size):
            square = square.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.asarray(square.convert("YCbCr"))

    def _cell_means(self, values: np.ndarray) -> np.ndarray:
        """Compute the means over cells: (n, size, size, channels) to (n, grid**2, channels)."""
        n, grid, side = len(values), self.grid, self.size // self.grid
        # Rows are summed first, along contiguous memory.
        rows = values.reshape(n, grid, side, -1).sum(2, dtype=np.int64)
        sums = rows.reshape(n, grid, grid, side, -1).sum(3)
        return sums.reshape(n, grid**2, -1) / side**2

    def _histogram(self, y: np.ndarray, x: np.ndarray, bins: int, half_turn: bool) -> np.ndarray:
        """Compute the sums of the lengths of vectors (n, size, size) by cell and bin of angles."""
        n, cells, side = len(y), self.grid**2, self.size // self.grid
        y, x = y.astype(np.float32), x.astype(np.float32)
        turn = np.float32(np.pi if half_turn else 2 * np.pi)
        # np.mod would take longer than all other steps; a spare bin holds the full turn.
        angle = np.arctan2(y, x)
        angle += (angle < 0) * turn
        row = np.arange(self.size) // side
        cell = np.arange(n)[:, None, None] * cells + row[:, None] * self.grid + row
        slot = (angle * (bins / turn)).astype(np.intp)
        slot += cell * (bins + 1)
        sums = np.bincount(
            slot.ravel(), np.sqrt(y * y + x * x).ravel(), minlength=n * cells * (bins + 1)
        ).reshape(n, cells, bins + 1)
        sums[..., 0] += sums[..., bins]
        return sums[..., :bins]
