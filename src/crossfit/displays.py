"""Plots as objects that hold what they draw, in the manner of scikit-learn's displays.

A display is made from an estimator, from scores or from plain values. All of them draw into the
``ax`` that is passed, or else into a new figure, which is not registered with pyplot. What was
drawn is in ``figure_`` and ``ax_``, and can be changed there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import finite_array, integer, one_of, shown, validated
from crossfit._text import printable
from crossfit.plotting import (
    CHANCE,
    LINES,
    draw_recall,
    finish_recall,
    in_plain_words,
    label_of,
    light_grid,
    losses_of,
    panels_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from crossfit.metrics.evaluation import Evaluation

__all__ = [
    "ClassAPDisplay",
    "HubnessDisplay",
    "PrecisionRecallDisplay",
    "RecallDisplay",
    "SpectrumDisplay",
    "TrainingDisplay",
]

Floats = NDArray[np.float64]

_KS = (1, 2, 5, 10, 20, 50, 100)
_SIDES = ("forward", "backward")


class _Display:
    """Base of the displays, with a picture in a notebook."""

    figure_: Figure
    ax_: Axes

    def _on(self, ax: Any) -> Axes:
        """Set and return the Axes to draw into."""
        self.figure_, (self.ax_,) = panels_of(ax, [""])
        return self.ax_

    def _repr_png_(self) -> bytes | None:
        draw = getattr(getattr(self, "figure_", None), "_repr_png_", None)
        return None if draw is None else draw()  # pyplot shows the figures of others


class RecallDisplay(_Display):
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
    ax_, figure_ : Axes and Figure
        The Axes with the drawing, and their figure.
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
        self.recall = _by_direction(recall, "recall", (len(self.ks),))
        self.intervals = None
        if intervals is not None:
            self.intervals = _by_direction(intervals, "intervals", (2, len(self.ks)))
            if set(self.intervals) != set(self.recall):
                raise ValueError(
                    f"intervals must be of {', '.join(self.recall)}, got "
                    f"{', '.join(self.intervals)}"
                )
        self.name = _name(name)

    @classmethod
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
        estimator : CrossModalEstimator, pipeline or finished search
            Fitted.
        views : Views
            Pairs that were not used in the fit.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels; items that share one are relevant to each other. If None, only the paired item
            is relevant.
        query, gallery : str, optional
            Names of the views; by default the first two of the fit.
        ks : sequence of int, optional
            Cut-offs K; by default 1, 2, 5, 10, 20, 50 and 100, up to the size of the gallery.
        directions : {"both", "forward", "backward"}, default="both"
            Forward is from `query` to `gallery`.
        ci : float or None, default=0.95
            Coverage of the bootstrap intervals over queries; None for no intervals.
        name : str, optional
            Name of the method in the legend; by default that of its class.
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        RecallDisplay

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        found = _scored(estimator, views, y, query, gallery, directions)
        parts = [
            _recall(scores, relevance, ks, side, names, ci, None)
            for scores, relevance, side, names in found
        ]
        return cls._joined(parts, _class_name(estimator) if name is None else name).plot(ax)

    @classmethod
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
        scores : array-like of shape (n, m)
            Higher is better, see `crossfit.evaluate`.
        relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
            See `crossfit.evaluate`.
        ks : sequence of int, optional
            Cut-offs K; by default 1, 2, 5, 10, 20, 50 and 100, up to the larger of n and m.
        directions : {"both", "forward", "backward"}, default="both"
            In the backward direction the columns are the queries.
        ci : float or None, default=0.95
            Coverage of the bootstrap intervals over queries; None for no intervals.
        groups : pair of (array-like or None), optional
            Groups of rows and of columns, which are resampled together.
        names : pair of str, default=("query", "gallery")
            Names of rows and columns.
        name : str, default=""
            Name of the method in the legend.
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        RecallDisplay

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid.
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

    @in_plain_words
    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the lines and bands.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        RecallDisplay
            This display.
        """
        axes = self._on(ax)
        self.lines_, self.bands_ = [], []
        for direction, values in self.recall.items():
            colour = _next_colour(axes)
            label = _label(self.name, direction)
            self.lines_.append(draw_recall(axes, self.ks, values, color=colour, label=label))
            if self.intervals is not None:
                low, high = self.intervals[direction]
                band = axes.fill_between(self.ks, low, high, color=colour, alpha=0.15, linewidth=0)
                self.bands_.append(band)
        finish_recall(axes, int(max(np.max(line.get_xdata()) for line in axes.get_lines())))
        _from_zero(axes)
        axes.set_ylabel("recall at K")
        axes.legend(frameon=False)
        return self


class PrecisionRecallDisplay(_Display):
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
    ax_, figure_ : Axes and Figure
        The Axes with the drawing, and their figure.
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
        self.precision = _by_direction(precision, "precision", self.recall.shape)
        self.name = _name(name)

    @classmethod
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
        estimator : CrossModalEstimator, pipeline or finished search
            Fitted.
        views : Views
            Pairs that were not used in the fit.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels; items that share one are relevant to each other. If None, only the paired item
            is relevant.
        query, gallery : str, optional
            Names of the views; by default the first two of the fit.
        n_points : int, default=101
            Number of recalls from 0 to 1.
        directions : {"both", "forward", "backward"}, default="both"
            Forward is from `query` to `gallery`.
        name : str, optional
            Name of the method in the legend; by default that of its class.
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        PrecisionRecallDisplay

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        found = _scored(estimator, views, y, query, gallery, directions)
        name = _class_name(estimator) if name is None else name
        return cls._of(found, n_points, name).plot(ax)

    @classmethod
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
        scores : array-like of shape (n, m)
            Higher is better, see `crossfit.evaluate`.
        relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
            See `crossfit.evaluate`.
        n_points : int, default=101
            Number of recalls from 0 to 1.
        directions : {"both", "forward", "backward"}, default="both"
            In the backward direction the columns are the queries.
        names : pair of str, default=("query", "gallery")
            Names of rows and columns.
        name : str, default=""
            Name of the method in the legend.
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        PrecisionRecallDisplay

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid.
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

    @in_plain_words
    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the lines.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        PrecisionRecallDisplay
            This display.
        """
        axes = self._on(ax)
        self.lines_ = []
        for direction, values in self.precision.items():
            label = _label(self.name, direction)
            self.lines_ += axes.plot(self.recall, values, color=_next_colour(axes), label=label)
        axes.set(xlabel="recall", ylabel="interpolated precision", xlim=(0, 1))
        _from_zero(axes)
        light_grid(axes)
        axes.legend(frameon=False)
        return self


class SpectrumDisplay(_Display):
    """Canonical correlations by component, of the fit and of other pairs.

    If the correlations of the fit are near 1 and those of other pairs are not, the method needs
    more regularisation or fewer components. With a ridge, those of the fit are the values that the
    method maximises, which are lower than the correlations of its pairs.

    Parameters
    ----------
    correlations : array-like of shape (n_components,)
        The correlations of the fit.
    held_out : array-like of shape (n_components,), optional
        The correlations of pairs that were not used in the fit.
    name : str, default=""
        Name of the method, for the legend.

    Attributes
    ----------
    ax_, figure_ : Axes and Figure
        The Axes with the drawing, and their figure.
    lines_ : list of Line2D
        The line of the fit, and the one of other pairs if there is one.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> from crossfit.methods import CCA
    >>> Z = np.random.default_rng(0).normal(size=(20, 3))
    >>> method = CCA(2, reg=0).fit(Views(image=Z, text=Z[:, ::-1]))
    >>> SpectrumDisplay.from_estimator(method).lines_[0].get_ydata().round(6).tolist()
    [1.0, 1.0]
    """

    def __init__(
        self, correlations: ArrayLike, *, held_out: ArrayLike | None = None, name: str = ""
    ) -> None:
        self.correlations = finite_array(correlations, "correlations", 1)
        if not len(self.correlations):
            raise ValueError("correlations must have at least one entry, got none")
        self.held_out = None if held_out is None else finite_array(held_out, "held_out", 1)
        if self.held_out is not None and self.held_out.shape != self.correlations.shape:
            raise ValueError(
                f"held_out must have {len(self.correlations)} correlations, got "
                f"{len(self.held_out)}"
            )
        self.name = _name(name)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        views: Any = None,
        *,
        query: str | None = None,
        gallery: str | None = None,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the correlations of a fitted method.

        Parameters
        ----------
        estimator : method with ``correlations_``, pipeline with one, or finished search
            Fitted, such as `crossfit.subspace.CCA`.
        views : Views, optional
            Pairs that were not used in the fit, whose correlations are drawn too.
        query, gallery : str, optional
            Names of the views between which `views` are correlated; by default the first two of
            the fit.
        name : str, optional
            Name of the method in the legend; by default that of its class.
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        SpectrumDisplay

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid, or the method has no correlations.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        from crossfit._arguments import not_views
        from crossfit.diagnosis import held_out_correlations
        from crossfit.querying import answering, view_names
        from crossfit.scoring import direction
        from crossfit.views import is_views

        steps, last = answering(estimator)
        names = view_names(last)
        parts = [*steps, last]
        has = [hasattr(step, "correlations_") for step in parts]
        if not any(has):
            raise ValueError(
                f"estimator: {type(last).__name__} has no canonical correlations; pass a method "
                "with correlations_, such as CCA, or a pipeline with one"
            )
        at = has.index(True)
        correlations = np.asarray(parts[at].correlations_)
        held_out = None
        if views is not None:
            if not is_views(views):
                raise not_views("SpectrumDisplay.from_estimator", views)
            q, g = direction(names, views, query, gallery)
            for step in parts[:at]:
                views = step.transform(views)
            views = views.select(q, g)
            held_out = held_out_correlations(parts[at], views, n_permutations=20).correlations
        label = type(parts[at]).__name__ if name is None else name
        return cls(correlations, held_out=held_out, name=label).plot(ax)

    @in_plain_words
    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the lines.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        SpectrumDisplay
            This display.
        """
        axes = self._on(ax)
        components = np.arange(1, len(self.correlations) + 1)
        marker = "o" if len(components) < 20 else ""
        colour = _next_colour(axes)
        self.lines_ = []
        for values, what, dashes in (
            (self.correlations, "fit", "-"), (self.held_out, "held out", (0, (3, 1.2))),
        ):  # fmt: skip
            if values is not None:
                self.lines_ += axes.plot(
                    components, values, marker=marker, markersize=3.5, color=colour,
                    linestyle=dashes, linewidth=1.3, label=_label(self.name, what),
                )  # fmt: skip
        axes.locator_params(axis="x", integer=True)
        _from_zero(axes, min(float(np.min(line.get_ydata())) for line in axes.get_lines()))
        axes.set(xlabel="component", ylabel="correlation")
        light_grid(axes)
        axes.legend(frameon=False)
        return self


class HubnessDisplay(_Display):
    """Distribution of how often the items of a gallery are among the first k of the queries.

    A few items that many queries find are hubs. Their number of queries is far beyond the mean,
    which a vertical line marks.

    Parameters
    ----------
    top : array-like of int, shape (n_queries, k)
        Numbers of the first k items of each query, such as ``top_k(scores, 10).indices``.
    n_gallery : int
        Number of items in the gallery.
    name : str, default=""
        Name of the method or direction, for the legend.

    Attributes
    ----------
    counts : ndarray of shape (n_gallery,)
        Number of queries that find each item.
    ax_, figure_ : Axes and Figure
        The Axes with the drawing, and their figure.
    bars_ : BarContainer
        Number of items with 0, 1, 2, ... queries.

    See Also
    --------
    crossfit.metrics.hubness : Skewness, maximum and share of items that are never found.

    Examples
    --------
    >>> display = HubnessDisplay([[0], [0], [1]], 4).plot()
    >>> [int(bar.get_height()) for bar in display.bars_]
    [2, 1, 1]
    """

    @validated(n_gallery=[integer(1, 2**32)])
    def __init__(self, top: ArrayLike, n_gallery: int, *, name: str = "") -> None:
        from crossfit._arrays import as_array
        from crossfit.metrics import hubness

        self.hubness = hubness(top, n_gallery)
        found = as_array(top, "top", numbers=True)
        self.counts = np.bincount(found.ravel(), minlength=n_gallery)
        self.name = _name(name)

    @classmethod
    @validated(k=[integer(1)])
    def from_estimator(
        cls,
        estimator: Any,
        views: Any,
        y: Any = None,
        *,
        query: str | None = None,
        gallery: str | None = None,
        k: int = 10,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw how often a fitted method finds each item of the gallery.

        Parameters
        ----------
        estimator : CrossModalEstimator, pipeline or finished search
            Fitted.
        views : Views
            The queries and the gallery.
        y : None
            Ignored: hubness does not depend on labels.
        query, gallery : str, optional
            Names of the views; by default the first two of the fit.
        k : int, default=10
            Number of items per query.
        name : str, optional
            Name in the legend; by default that of the class of the method, and the direction.
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        HubnessDisplay

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        ((scores, _, _, names),) = _scored(estimator, views, None, query, gallery, "forward")
        if name is None:
            name = _label(_class_name(estimator), " → ".join(names))
        return cls.from_similarity(scores, k=k, name=name, ax=ax)

    @classmethod
    @validated(k=[integer(1)], direction=[one_of(*_SIDES)])
    def from_similarity(
        cls,
        scores: Any,
        *,
        k: int = 10,
        direction: str = "forward",
        name: str = "",
        ax: Axes | None = None,
    ) -> Self:
        """Draw how often each item of the gallery is among the first k by scores.

        Parameters
        ----------
        scores : array-like of shape (n, m)
            Higher is better.
        k : int, default=10
            Number of items per query; all if there are fewer.
        direction : {"forward", "backward"}, default="forward"
            Whether the queries are the rows (forward) or the columns (backward).
        name : str, default=""
            Name in the legend.
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        HubnessDisplay

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid.
        """
        from crossfit.querying import top_k

        found = finite_array(scores, "scores", 2)
        found = found.T if direction == "backward" else found
        if 0 in found.shape:
            raise ValueError(f"scores must not be empty, got shape {found.shape}")
        return cls(top_k(found, k).indices, found.shape[1], name=name).plot(ax)

    @in_plain_words
    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the distribution.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        HubnessDisplay
            This display.
        """
        axes = self._on(ax)
        heights = np.bincount(self.counts)
        colour = LINES[len(axes.containers) % len(LINES)]
        label = _label(self.name, f"skewness {self.hubness['skewness']:.2f}")
        self.bars_ = axes.bar(
            np.arange(len(heights)), heights, width=0.9 if len(heights) < 60 else 1.0,
            color=colour, alpha=0.75, label=label,
        )  # fmt: skip
        mean = self.counts.mean()
        axes.axvline(mean, color="0.2", linewidth=1, linestyle=CHANCE, label=f"mean, {mean:.3g}")
        axes.set_yscale("log")  # the few hubs would not be seen next to the many other items
        tallest = max(bar.get_height() for bars in axes.containers for bar in bars)
        axes.set_ylim(0.5, 2 * tallest**1.4)  # with room for the legend
        axes.locator_params(axis="x", integer=True)
        axes.set(xlabel="queries that find an item", ylabel="items of the gallery")
        light_grid(axes, "y")
        axes.legend(handles=[*axes.containers, axes.get_lines()[-1]], frameon=False, fontsize=9)
        return self


class ClassAPDisplay(_Display):
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
    ax_, figure_ : Axes and Figure
        The Axes with the drawing, and their figure.
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
        self.name = _name(name)

    @classmethod
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
        estimator : CrossModalEstimator, pipeline or finished search
            Fitted.
        views : Views
            Pairs that were not used in the fit.
        y : array-like of shape (n,)
            Labels of the pairs; -1 is unlabelled.
        query, gallery : str, optional
            Names of the views; by default the first two of the fit.
        target_names : sequence of str, optional
            Names of the classes, by label.
        name : str, optional
            Title; by default the class of the method, and the direction.
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        ClassAPDisplay

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        if y is None:
            raise TypeError("ClassAPDisplay needs y, the labels of the pairs, got None")
        ((scores, labels, _, names),) = _scored(estimator, views, y, query, gallery, "forward")
        if name is None:
            name = _label(_class_name(estimator), " → ".join(names))
        return cls.from_similarity(scores, labels, target_names=target_names, name=name, ax=ax)

    @classmethod
    @validated(direction=[one_of(*_SIDES)])
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
        scores : array-like of shape (n, m)
            Higher is better, see `crossfit.evaluate`.
        labels : pair (y_query, y_gallery) of array-like of shape (n,) and (m,)
            Labels of rows and columns; -1 is unlabelled.
        direction : {"forward", "backward"}, default="forward"
            Whether the queries are the rows (forward) or the columns (backward).
        target_names : sequence of str, optional
            Names of the classes, by label.
        name : str, default=""
            Title.
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        ClassAPDisplay
            Classes none of whose queries has a relevant item are left out.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid.
        """
        from crossfit.metrics import evaluate

        if not isinstance(labels, tuple) or len(labels) != 2:
            raise TypeError(f"labels must be a pair (y_query, y_gallery), got {shown(labels)}")
        metric = "map@all"
        found = evaluate(scores, labels, metric, directions=direction, ci=None)
        own = labels[_SIDES.index(direction)]
        rows = [row for row in found.by_class(direction, metric, own, target_names)
                if not np.isnan(row["value"])]  # fmt: skip
        values = [row["value"] for row in rows]
        mean = found.mean(direction, metric)
        return cls([row["class"] for row in rows], values, mean=mean, name=name).plot(ax)

    @in_plain_words
    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        ClassAPDisplay
            This display.
        """
        n = len(self.classes)
        axes = self._on(ax)
        if ax is None:  # a line of text for each class
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
        return self


class TrainingDisplay(_Display):
    """Training and validation loss of a neural method over the epochs.

    Parameters
    ----------
    losses : mapping of str to array-like of shape (n, 2)
        Epochs and losses by the name of the line, such as ``"training"``.
    kept : int, optional
        Epoch whose weights were kept, which a vertical line marks.

    Attributes
    ----------
    ax_, figure_ : Axes and Figure
        The Axes with the drawing, and their figure.
    lines_ : list of Line2D
        The lines of the losses.

    See Also
    --------
    crossfit.plotting.plot_training : The same as a function.

    Examples
    --------
    >>> display = TrainingDisplay({"training": [[1, 0.9], [2, 0.5]]}, kept=2).plot()
    >>> display.lines_[0].get_ydata().tolist()
    [0.9, 0.5]
    """

    @validated(kept=[integer(0), None])
    def __init__(self, losses: Mapping[str, ArrayLike], *, kept: int | None = None) -> None:
        self.losses = _by_name(losses, "losses", "lines to epochs and losses")
        for name, points in self.losses.items():
            if points.ndim != 2 or points.shape[1] != 2 or not len(points):
                raise ValueError(
                    f"losses of {shown(name)} must be epochs and losses of shape (n, 2), got "
                    f"{points.shape}"
                )
        self.kept = kept

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None) -> Self:
        """Draw the losses of a trained method.

        Parameters
        ----------
        estimator : NeuralEstimator, or pipeline or search with one
            Fitted.
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        TrainingDisplay

        Raises
        ------
        TypeError, ValueError
            If it is not a method, or has no history of losses.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        losses, kept = losses_of(estimator)
        return cls(losses, kept=kept).plot(ax)

    @in_plain_words
    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the losses.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        TrainingDisplay
            This display.
        """
        axes = self._on(ax)
        self.lines_ = []
        for (label, points), colour in zip(self.losses.items(), cycle(LINES)):
            marker = "." if len(points) == 1 else ""
            self.lines_ += axes.plot(*points.T, label=label, color=colour, marker=marker)
        if self.kept is not None:
            label = f"weights kept, epoch {self.kept}"
            axes.axvline(self.kept, color="0.4", linewidth=1, linestyle=CHANCE, label=label)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.legend(edgecolor="none")
        light_grid(axes)
        return self


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


def _scored(
    estimator: Any, views: Any, y: Any, query: Any, gallery: Any, directions: str
) -> list[tuple[Any, Any, str, tuple[str, str]]]:
    """Return scores, relevance, the sides of them to evaluate, and the names of rows and columns.

    If the query decides which pairs are scored, the transpose is not the other direction, which is
    therefore scored by itself.
    """
    from crossfit._arguments import not_views
    from crossfit.metrics.evaluation import sides
    from crossfit.querying import answering, view_names
    from crossfit.scoring import direction, relevance_of, score_views
    from crossfit.views import is_views

    steps, last = answering(estimator)
    names = view_names(last)
    if not is_views(views):
        raise not_views("from_estimator", views)
    q, g = direction(names, views, query, gallery)
    if q == g:
        raise ValueError(f"query and gallery must be two views, got {q!r} twice")
    wanted = sides(directions, (q, g))
    for step in steps:
        views = step.transform(views)
    views = last.fitted_views(views)
    if not last.one_way:
        scores = score_views(last, names, views, q, g)
        return [(scores, relevance_of(views, q, g, y), directions, (q, g))]
    turns = [(q, g) if side == "forward" else (g, q) for side in wanted]
    return [(score_views(last, names, views, *turn), relevance_of(views, *turn, y), "forward", turn)
            for turn in turns]  # fmt: skip


def _by_direction(given: Any, name: str, shape: tuple[int, ...]) -> dict[str, Floats]:
    """Return values by the names of directions, checked."""
    found = _by_name(given, name, "directions to values")
    for direction, array in found.items():
        if array.shape != shape:
            raise ValueError(
                f"{name} of {shown(direction)} must be of shape {shape}, got {array.shape}"
            )
    return found


def _by_name(given: Any, name: str, what: str) -> dict[str, Floats]:
    """Return finite values by names, checked."""
    keys = list(given) if isinstance(given, Mapping) else []
    if not keys or not all(isinstance(key, str) for key in keys):
        raise TypeError(f"{name} must map names of {what}, got {shown(given)}")
    return {
        printable(key): finite_array(values, f"{name} of {shown(key)}").astype(np.float64)
        for key, values in given.items()
    }


def _name(given: Any) -> str:
    if not isinstance(given, str):
        raise TypeError(f"name must be a string, got {shown(given)}")
    return printable(given)


def _label(name: str, what: str) -> str:
    return f"{name}, {what}" if name else what


def _class_name(estimator: Any) -> str:
    from crossfit.querying import answering

    return type(answering(estimator)[1]).__name__


def _next_colour(axes: Axes) -> str:
    """Return a colour that the lines so far do not have."""
    taken = {line.get_color() for line in axes.get_lines()}
    return next((colour for colour in LINES if colour not in taken), LINES[0])


def _from_zero(axes: Axes, low: float = 0.0) -> None:
    """Make the vertical axis start at 0, or a lower value, and include all lines so far."""
    axes.autoscale(axis="y")
    axes.set_ylim(bottom=min(low, axes.get_ylim()[0]) if low < 0 else 0)
