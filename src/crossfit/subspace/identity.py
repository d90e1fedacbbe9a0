"""Identity: features that share a space already, compared as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from crossfit.base import CrossModalEstimator
from crossfit.subspace import cards
from crossfit.subspace._linalg import centred, mean_of_rows, unit_rows
from crossfit.views import Views

__all__ = ["Identity"]


class Identity(CrossModalEstimator):
    """Compare features as they are, for encoders that were trained together.

    Vectors of such encoders, for instance CLIP's of pictures and captions, share a space, and a
    method that learns from pairs should be compared with their cosine. ``transform`` divides every
    row by its length.

    Parameters
    ----------
    center : bool, default=False
        Subtract the training mean of each view first. Pictures and texts of jointly trained
        encoders lie in different parts of the space, the modality gap [1]_, which then closes.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    means_ : dict of str to array of shape (d,)
        Vectors subtracted, by role: the training means, or zeros without centring.
    n_components_ : int
        Dimensions of the space.

    Notes
    -----
    All views must have the same number of columns. Without centring nothing is learnt from the
    pairs. Tensors are processed on their device and returned as tensors.

    References
    ----------
    .. [1] W. Liang, Y. Zhang, Y. Kwon, S. Yeung and J. Zou, Mind the gap: understanding the
           modality gap in multi-modal contrastive representation learning, NeurIPS 2022.

    Examples
    --------
    >>> from crossfit.subspace import Identity
    >>> images, texts = [[2.0, 0.0], [0.0, 1.0]], [[5.0, 0.0], [0.0, 3.0]]
    >>> Identity().fit(images, texts).similarity(images, texts).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    card = cards.IDENTITY
    equal_widths = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"center": ["boolean"]}

    def __init__(self, *, center: bool = False, views: Mapping[str, str] | None = None) -> None:
        self.center = center
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        widths = self.n_features_in_
        if len(set(widths.values())) > 1:
            found = ", ".join(f"{self.views_in_[role]}: {d}" for role, d in widths.items())
            raise ValueError(
                "Identity compares features that share a space, and all views must have the same "
                f"number of columns, got {found}; use a method that maps them, such as CCA"
            )
        self.n_components_ = next(iter(widths.values()))
        self.means_ = {
            role: mean_of_rows(*views.distinct(role)) if self.center else np.zeros(d)
            for role, d in widths.items()
        }

    def _encode(self, values: Any, view: str) -> Any:
        return unit_rows(centred(values, self.means_[view]))
