"""Recall at K over K."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from crossfit._arguments import shown
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
from crossfit.plotting import draw_recall, finish_recall, label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from crossfit.metrics.evaluation import Evaluation

__all__ = ["RecallDisplay"]

_KS = (1, 2, 5, 10, 20, 50, 100)


@documented
class RecallDisplay(Display):
    """Recall at K over K, a line for each direction, with intervals as bands.

    Parameters
    ----------
    ks : sequence of int
        Cut-offs K.
    recall : mapping of str to array-like of shape (k,)
        Recall at each cut-off, from 0 to 1, by the name of the direction.
    intervals : mapping of str to array-like of shape (2, k), optional
        Lower and upper ends of the intervals, for the same directions.
    name : str, default=""
        Name of the method, for the legend.

    Attributes
    ----------
    {drawn}
    lines_ : list of Line2D
        The lines, by direction.
    bands_ : list of PolyCollection
        The intervals, by direction; empty if there are none.

    See Also
    --------
    crossfit.plotting.plot_recall : Several methods with chance, a panel for each direction.

    Examples
    --------
    >>> scores, labels = [[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1])
    >>> display = RecallDisplay.from_similarity(scores, labels)
    >>> [(line.get_label(), line.get_ydata().tolist()) for line in display.lines_]
    [('query → gallery', [0.5, 1.0]), ('gallery → query', [1.0, 1.0])]
    """

    def __init__(
        self,
        ks: Sequence[int],
        recall: Mapping[str, ArrayLike],
        *,
        intervals: Mapping[str, ArrayLike] | None = None,
        name: str = "",
    ) -> None:
        from crossfit.metrics.curves import check_cutoffs

        self.ks = check_cutoffs(ks)
        if len(self.ks) != np.size(np.asarray(ks)) or (self.ks != np.asarray(ks)).any():
            raise ValueError(f"ks must ascend without duplicates, got {shown(ks)}")
        self.recall = by_direction(recall, "recall", (len(self.ks),))
        self.intervals = None
        if intervals is not None:
            self.intervals = by_direction(intervals, "intervals", (2, len(self.ks)))
            if set(self.intervals) != set(self.recall):
                raise ValueError(
                    f"intervals must be of {', '.join(self.recall)}, got "
                    f"{', '.join(self.intervals)}"
                )
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
        ks: Sequence[int] | None = None,
        directions: str = "both",
        ci: float | None = 0.95,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the recall of a fitted method for pairs.

        Parameters
        ----------
        {estimator}
        {views}
        {y}
        {sides}
        ks : sequence of int, optional
            Cut-offs K; by default 1, 2, 5, 10, 20, 50 and 100, up to the size of the gallery.
        {directions}
        {ci}
        {own_name}
        {ax}

        Returns
        -------
        RecallDisplay

        {fitted}
        """
        found = scored(estimator, views, y, query, gallery, directions)
        parts = [
            _recall(scores, relevance, ks, side, names, ci, None)
            for scores, relevance, side, names in found
        ]
        return cls._joined(parts, class_name(estimator) if name is None else name).plot(ax)

    @classmethod
    @documented
    def from_similarity(
        cls,
        scores: Any,
        relevance: Any,
        *,
        ks: Sequence[int] | None = None,
        directions: str = "both",
        ci: float | None = 0.95,
        groups: tuple[Any, Any] | None = None,
        names: tuple[str, str] = ("query", "gallery"),
        name: str = "",
        ax: Axes | None = None,
    ) -> Self:
        """Draw the recall of scores.

        Parameters
        ----------
        {scores}
        {relevance}
        ks : sequence of int, optional
            Cut-offs K; by default 1, 2, 5, 10, 20, 50 and 100, up to the larger of n and m.
        {both}
        {ci}
        groups : pair of (array-like or None), optional
            Groups of rows and of columns, which are resampled together.
        {names}
        {name}
        {ax}

        Returns
        -------
        RecallDisplay

        {raises}
        """
        part = _recall(scores, relevance, ks, directions, names, ci, groups)
        return cls._joined([part], name).plot(ax)

    @classmethod
    def _joined(cls, parts: Sequence[Evaluation], name: str) -> Self:
        from crossfit.metrics import parse_metric

        ks: list[int] = []
        recall: dict[str, Any] = {}
        intervals: dict[str, Any] = {}
        for part in parts:
            ks = [parse_metric(metric).k or 0 for metric in part.metrics]
            for one in part.directions:
                recall[label_of(one)] = [part.mean(one, metric) for metric in part.metrics]
                if part.ci is not None:
                    ends = [part.interval(one, metric) for metric in part.metrics]
                    intervals[label_of(one)] = np.transpose(ends)
        return cls(ks, recall, intervals=intervals or None, name=name)

    def _draw(self, axes: Axes, own: bool) -> None:
        self.lines_, self.bands_ = [], []
        for direction, values in self.recall.items():
            colour = next_colour(axes)
            label = named(self.name, direction)
            self.lines_.append(draw_recall(axes, self.ks, values, color=colour, label=label))
            if self.intervals is not None:
                low, high = self.intervals[direction]
                band = axes.fill_between(self.ks, low, high, color=colour, alpha=0.15, linewidth=0)
                self.bands_.append(band)
        finish_recall(axes, int(max(np.max(line.get_xdata()) for line in axes.get_lines())))
        from_zero(axes)
        axes.set_ylabel("recall at K")
        axes.legend(frameon=False)


def _recall(
    scores: Any, relevance: Any, ks: Any, directions: str, names: Any, ci: Any, groups: Any
) -> Evaluation:
    from crossfit.metrics import evaluate
    from crossfit.metrics.curves import check_cutoffs
    from crossfit.metrics.relevance import as_relevance

    largest = max(as_relevance(relevance).shape)
    cutoffs = [k for k in _KS if k <= largest] if ks is None else check_cutoffs(ks).tolist()
    metrics = [f"r@{k}" for k in cutoffs]
    return evaluate(
        scores, relevance, metrics, directions=directions, ci=ci, names=names, groups=groups
    )
