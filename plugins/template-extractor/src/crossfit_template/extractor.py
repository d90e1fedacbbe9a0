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
        Number of patches along each side of a picture.
    output : {"vectors", "regions"}, default="vectors"
        One vector per picture, (n, 3 n_patches²), or one per patch, (n, n_patches², 3), for
        methods that attend to regions.
    batch_size : int, default=64
        Number of pictures per batch; does not change the features.
    cache : bool, default=True
        Whether to store features in the feature cache.

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

    # Parameters are stored unchanged and not checked here, because scikit-learn clones by them.
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

    # Pictures are uint8 (H, W, 3), of any size. Returns one row per picture, which depends on this
    # picture alone: no mean over the batch, no padding to its largest picture.
    def _extract(self, batch: list[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        return [self._colours(picture) for picture in batch]

    def _colours(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width, _ = picture.shape
        # For pictures smaller than the grid, pixels are used more than once.
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
