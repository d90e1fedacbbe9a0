"""Average precision of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from crossfit._arguments import finite_array, one_of, shown, validated
from crossfit._text import printable
from crossfit.displays.base import (
    SIDES,
    Display,
    checked_name,
    class_name,
    documented,
    named,
    scored,
)
from crossfit.plotting import CHANCE, LINES, light_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ClassAPDisplay"]


@documented
class ClassAPDisplay(Display):
    """Average precision of the queries of each class, as bars, with their mean.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes.
    average_precision : array-like of shape (n_classes,)
        Mean of the average precision over the queries of each class, from 0 to 1.
    mean : float, optional
        Mean over all queries, which a vertical line marks.
    name : str, default=""
        Name of the method or direction, for the title.

    Attributes
    ----------
    {drawn}
    bars_ : BarContainer
        A bar for each class, from top to bottom.

    See Also
    --------
    crossfit.metrics.Evaluation.by_class : The values, for any measure.

    Examples
    --------
    >>> display = ClassAPDisplay.from_similarity([[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1]))
    >>> [float(bar.get_width()) for bar in display.bars_]
    [1.0, 0.5]
    """

    def __init__(
        self,
        classes: Sequence[str],
        average_precision: ArrayLike,
        *,
        mean: float | None = None,
        name: str = "",
    ) -> None:
        if not isinstance(classes, list | tuple) or not classes:
            raise TypeError(f"classes must be a list of names, got {shown(classes)}")
        self.classes = [printable(str(one)) for one in classes]
        self.average_precision = finite_array(average_precision, "average_precision", 1)
        if len(self.average_precision) != len(self.classes):
            raise ValueError(
                f"average_precision must have {len(self.classes)} values, one for each class, got "
                f"{len(self.average_precision)}"
            )
        self.mean = None if mean is None else float(finite_array(mean, "mean", 0))
        self.name = checked_name(name)

    @classmethod
    @documented
    def from_estimator(
        cls,
        estimator: Any,
        views: Any,
        y: ArrayLike,
        *,
        query: str | None = None,
        gallery: str | None = None,
        target_names: Sequence[str] | None = None,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the average precision of a fitted method for each class.

        Parameters
        ----------
        {estimator}
        {views}
        y : array-like of shape (n,)
            Labels of the pairs; -1 is unlabelled.
        {sides}
        {target_names}
        {title}
        {ax}

        Returns
        -------
        ClassAPDisplay

        {fitted}
        """
        if y is None:
            raise TypeError("ClassAPDisplay needs y, the labels of the pairs, got None")
        ((scores, labels, _, names),) = scored(estimator, views, y, query, gallery, "forward")
        if name is None:
            name = named(class_name(estimator), " → ".join(names))
        return cls.from_similarity(scores, labels, target_names=target_names, name=name, ax=ax)

    @classmethod
    @documented
    @validated(direction=[one_of(*SIDES)])
    def from_similarity(
        cls,
        scores: Any,
        labels: tuple[Any, Any],
        *,
        direction: str = "forward",
        target_names: Sequence[str] | None = None,
        name: str = "",
        ax: Axes | None = None,
    ) -> Self:
        """Draw the average precision of scores for each class.

        Parameters
        ----------
        {scores}
        labels : pair (y_query, y_gallery) of array-like of shape (n,) and (m,)
            Labels of rows and columns; -1 is unlabelled.
        {direction}
        {target_names}
        name : str, default=""
            Title.
        {ax}

        Returns
        -------
        ClassAPDisplay
            Classes none of whose queries has a relevant item are left out.

        {raises}
        """
        from crossfit.metrics import evaluate

        if not isinstance(labels, tuple) or len(labels) != 2:
            raise TypeError(f"labels must be a pair (y_query, y_gallery), got {shown(labels)}")
        metric = "map@all"
        found = evaluate(scores, labels, metric, directions=direction, ci=None)
        own = labels[SIDES.index(direction)]
        rows = [row for row in found.by_class(direction, metric, own, target_names)
                if not np.isnan(row["value"])]  # fmt: skip
        values = [row["value"] for row in rows]
        mean = found.mean(direction, metric)
        return cls([row["class"] for row in rows], values, mean=mean, name=name).plot(ax)

    def _draw(self, axes: Axes, own: bool) -> None:
        n = len(self.classes)
        if own:  # a line of text for each class
            self.figure_.set_size_inches(5.0, min(1.0 + 0.24 * n, 100))
        self.bars_ = axes.barh(np.arange(n), self.average_precision, color=LINES[0], height=0.7)
        axes.set_yticks(np.arange(n), self.classes)
        axes.set_ylim(n - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        if self.mean is not None:
            label = f"mean over queries, {self.mean:.3f}"
            axes.axvline(self.mean, color="0.2", linewidth=1, linestyle=CHANCE, label=label)
            axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=9)
        axes.set_xlabel("average precision")
        axes.set_title(self.name, fontsize=11, pad=22 if self.mean is not None else 6)
        light_grid(axes, "x")
