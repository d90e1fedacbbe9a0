"""The extractor: mean colours of patches."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit.extraction import ImageExtractor

__all__ = ["Template"]


class Template(ImageExtractor):
    """Mean colours of the patches of a picture.

    Parameters
    ----------
    n_patches : int, default=4
        Patches along either side of a picture.
    output : {"vectors", "regions"}, default="vectors"
        One vector for each picture, (n, 3 n_patches²), or one for each patch,
        (n, n_patches², 3), for methods that attend to regions.
    batch_size : int, default=64
        Pictures at a time; changes no feature.
    cache : bool, default=True
        Whether to keep features for the next time.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_template.extractor import Template
    >>> pictures = np.zeros((5, 32, 32, 3), np.uint8)
    >>> Template(n_patches=2).fit_transform(pictures).shape
    (5, 12)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_patches": [Interval(Integral, 1, None, closed="left")],
        "output": [StrOptions({"vectors", "regions"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "cache": ["boolean"],
    }

    # Stored untouched and never checked here: scikit-learn clones by these names.
    def __init__(
        self,
        n_patches: int = 4,
        output: str = "vectors",
        batch_size: int = 64,
        cache: bool = True,
    ) -> None:
        self.n_patches = n_patches
        self.output = output
        self.batch_size = batch_size
        self.cache = cache

    # Pictures are uint8 (H, W, 3), of any size. One row for each, of this picture alone: no mean
    # over the batch, no padding to the largest of them.
    def _extract(self, batch: list[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        return [self._colours(picture) for picture in batch]

    def _colours(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width, _ = picture.shape
        # Of pictures smaller than the grid, pixels come twice.
        rows, columns = (
            [
                (size * i // self.n_patches, max(size * (i + 1) // self.n_patches, 1))
                for i in range(self.n_patches)
            ]
            for size in (height, width)
        )
        means = [
            picture[min(top, bottom - 1) : bottom, min(left, right - 1) : right].mean((0, 1))
            for top, bottom in rows
            for left, right in columns
        ]
        colours = (np.array(means) / 255).astype(np.float32)
        return colours if self.output == "regions" else colours.ravel()

    def _n_outputs(self) -> int:
        return 3 if self.output == "regions" else 3 * self.n_patches**2
