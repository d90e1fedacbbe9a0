"""Precision over recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from crossfit._arguments import finite_array, shown
from crossfit.displays.base import (
    Display,
    by_direction,
    checked_name,
    class_name,
    documented,
    from_zero,
    named,
    next_colour,
    scored,
)
from crossfit.plotting import label_of, light_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PrecisionRecallDisplay"]


@documented
class PrecisionRecallDisplay(Display):
    """Interpolated precision over recall, as a mean over queries, a line for each direction.

    Parameters
    ----------
    recall : array-like of shape (n_points,)
        Recalls from 0 to 1, ascending.
    precision : mapping of str to array-like of shape (n_points,)
        Mean of the interpolated precision at each recall, by the name of the direction.
    name : str, default=""
        Name of the method, for the legend.

    Attributes
    ----------
    {drawn}
    lines_ : list of Line2D
        The lines, by direction.

    See Also
    --------
    crossfit.metrics.interpolated_precision_recall : The values.

    Examples
    --------
    >>> scores, labels = [[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1])
    >>> display = PrecisionRecallDisplay.from_similarity(scores, labels, n_points=2)
    >>> display.lines_[0].get_ydata().tolist()
    [0.75, 0.75]
    """

    def __init__(
        self, recall: ArrayLike, precision: Mapping[str, ArrayLike], *, name: str = ""
    ) -> None:
        self.recall = finite_array(recall, "recall", 1)
        if not len(self.recall) or (np.diff(self.recall.astype(np.float64)) < 0).any():
            raise ValueError(f"recall must ascend from 0 to 1, got {shown(recall)}")
        self.precision = by_direction(precision, "precision", self.recall.shape)
        self.name = checked_name(name)

    @classmethod
    @documented
    def from_estimator(
        cls,
        estimator: Any,
        views: Any,
        y: ArrayLike | None = None,
        *,
        query: str | None = None,
        gallery: str | None = None,
        n_points: int = 101,
        directions: str = "both",
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the precision of a fitted method for pairs.

        Parameters
        ----------
        {estimator}
        {views}
        {y}
        {sides}
        {n_points}
        {directions}
        {own_name}
        {ax}

        Returns
        -------
        PrecisionRecallDisplay

        {fitted}
        """
        found = scored(estimator, views, y, query, gallery, directions)
        name = class_name(estimator) if name is None else name
        return cls._of(found, n_points, name).plot(ax)

    @classmethod
    @documented
    def from_similarity(
        cls,
        scores: Any,
        relevance: Any,
        *,
        n_points: int = 101,
        directions: str = "both",
        names: tuple[str, str] = ("query", "gallery"),
        name: str = "",
        ax: Axes | None = None,
    ) -> Self:
        """Draw the precision of scores.

        Parameters
        ----------
        {scores}
        {relevance}
        {n_points}
        {both}
        {names}
        {name}
        {ax}

        Returns
        -------
        PrecisionRecallDisplay

        {raises}
        """
        return cls._of([(scores, relevance, directions, names)], n_points, name).plot(ax)

    @classmethod
    def _of(cls, parts: Sequence[tuple[Any, Any, str, Any]], n_points: int, name: str) -> Self:
        from crossfit.metrics import interpolated_precision_recall
        from crossfit.metrics.evaluation import sides

        recall: Any = ()
        precision = {}
        for scores, relevance, directions, names in parts:
            for side, direction in sides(directions, names).items():
                recall, precision[label_of(direction)] = interpolated_precision_recall(
                    scores, relevance, n_points=n_points, direction=side
                )
        return cls(recall, precision, name=name)

    def _draw(self, axes: Axes, own: bool) -> None:
        self.lines_ = []
        for direction, values in self.precision.items():
            label = named(self.name, direction)
            self.lines_ += axes.plot(self.recall, values, color=next_colour(axes), label=label)
        axes.set(xlabel="recall", ylabel="interpolated precision", xlim=(0, 1))
        from_zero(axes)
        light_grid(axes)
        axes.legend(frameon=False)
