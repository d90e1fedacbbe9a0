"""Shared parts of the displays: where they draw, their checks, and descriptions of parameters.

`documented` writes the descriptions into the docstrings, so that each of them is complete and none
is written twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from textwrap import indent
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import finite_array, shown
from crossfit._text import printable
from crossfit.plotting import LINES, in_plain_words, panels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from crossfit.views import Views

__all__ = [
    "SIDES",
    "Display",
    "Pairs",
    "by_direction",
    "by_name",
    "checked_name",
    "class_name",
    "documented",
    "from_zero",
    "named",
    "model_of",
    "next_colour",
    "pairs_of",
    "scored",
]

SIDES = ("forward", "backward")

_PIECES = {
    "estimator": """
estimator : CrossModalEstimator, pipeline, finished search or Winner
    Fitted.""",
    "views": """
views : Views
    Pairs that were not used in the fit.""",
    "y": """
y : array-like of shape (n,) or (n, n_classes), optional
    Labels; items that share one are relevant to each other. If None, only the paired item is
    relevant.""",
    "sides": """
query, gallery : str, optional
    Names of the views; by default the first two of the fit.""",
    "directions": """
directions : {"both", "forward", "backward"}, default="both"
    Forward is from `query` to `gallery`.""",
    "direction": """
direction : {"forward", "backward"}, default="forward"
    Whether the queries are the rows (forward) or the columns (backward).""",
    "scores": """
scores : array-like of shape (n, m)
    Higher is better, see `crossfit.evaluate`.""",
    "relevance": """
relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
    See `crossfit.evaluate`.""",
    "both": """
directions : {"both", "forward", "backward"}, default="both"
    In the backward direction the columns are the queries.""",
    "names": """
names : pair of str, default=("query", "gallery")
    Names of rows and columns.""",
    "ci": """
ci : float or None, default=0.95
    Coverage of the bootstrap intervals over queries; None for no intervals.""",
    "name": """
name : str, default=""
    Name of the method in the legend.""",
    "own_name": """
name : str, optional
    Name of the method in the legend; by default that of its class.""",
    "title": """
name : str, optional
    Name to show; by default that of the class of the method, and the direction.""",
    "n_points": """
n_points : int, default=101
    Number of recalls from 0 to 1.""",
    "k": """
k : int, default=10
    Number of items per query; all if there are fewer.""",
    "target_names": """
target_names : sequence of str, optional
    Names of the classes, by label.""",
    "ax": """
ax : Axes, optional
    Where to draw; by default a new figure.""",
    "raises": """
Raises
------
TypeError, ValueError
    If an argument is invalid.""",
    "fitted": """
Raises
------
TypeError, ValueError
    If an argument is invalid.
sklearn.exceptions.NotFittedError
    If the estimator is not fitted.""",
    "drawn": """
ax_, figure_ : Axes and Figure
    The Axes with the drawing, and their figure.""",
}

T = TypeVar("T", bound=Callable[..., Any])


def documented(thing: T) -> T:
    """Replace each line of a docstring that is a name in braces by the piece of that name.

    Parameters
    ----------
    thing : function or class
        Its docstring is changed in place.

    Returns
    -------
    function or class
        The same.
    """
    if thing.__doc__ is not None:  # without docstrings under python -OO
        thing.__doc__ = re.sub(
            r"^( *)\{(\w+)\}$",
            lambda found: indent(_PIECES[found[2]].strip("\n"), found[1]),
            thing.__doc__,
            flags=re.MULTILINE,
        )
    return thing


class Display:
    """Base of the displays, with a picture in a notebook."""

    figure_: Figure
    ax_: Axes

    @in_plain_words
    def plot(self, ax: Axes | None = None) -> Self:
        """Draw what the display holds.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        Display
            This display, whose `ax_` are the Axes and `figure_` is their figure.
        """
        self.figure_, (self.ax_,) = panels_of(ax, [""])
        self._draw(self.ax_, ax is None)
        return self

    def _draw(self, axes: Axes, own: bool) -> None:
        """Draw into Axes, whose figure is the display's own or that of the user."""
        raise NotImplementedError

    def _repr_png_(self) -> bytes | None:
        draw = getattr(getattr(self, "figure_", None), "_repr_png_", None)
        return None if draw is None else draw()  # pyplot shows the figures of others


def model_of(estimator: Any) -> Any:
    """Return the fitted pipeline of a Winner, and anything else as it is."""
    from crossfit.winners import Winner

    return estimator.model if isinstance(estimator, Winner) else estimator


class Pairs(NamedTuple):
    """Pairs with what is known of them: labels, further columns and the names of classes."""

    views: Views
    y: Any
    info: Mapping[str, Any]
    target_names: Sequence[str] | None


def pairs_of(given: Any, y: Any, what: str, target_names: Sequence[str] | None = None) -> Pairs:
    """Return the pairs of Views, a Split or a Dataset.

    Parameters
    ----------
    given : Views, Split or Dataset
        A data set stands for its split "test", or the only one.
    y : array-like or None
        Labels that replace those of the split.
    what : str
        Name of the argument, for messages.
    target_names : sequence of str, optional
        Names of the classes that replace those of the data set.

    Raises
    ------
    TypeError, ValueError
        If it is none of them, or a data set of several splits without "test".
    """
    from crossfit._arguments import not_views
    from crossfit.datasets import Dataset, Split
    from crossfit.views import is_views

    if isinstance(given, Dataset):
        target_names = given.target_names if target_names is None else target_names
        names = list(given.splits)
        if "test" not in names and len(names) != 1:
            raise ValueError(
                f"{what}: the data set has the splits {', '.join(names)}; pass one of them"
            )
        given = given["test" if "test" in names else names[0]]
    if isinstance(given, Split):
        return Pairs(given.views, given.y if y is None else y, given.info, target_names)
    if not is_views(given):
        raise not_views(what, given)
    return Pairs(given, y, {}, target_names)


def scored(
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

    steps, last = answering(model_of(estimator))
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


def by_direction(given: Any, name: str, shape: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    """Return values by the names of directions, checked."""
    found = by_name(given, name, "directions to values")
    for direction, array in found.items():
        if array.shape != shape:
            raise ValueError(
                f"{name} of {shown(direction)} must be of shape {shape}, got {array.shape}"
            )
    return found


def by_name(given: Any, name: str, what: str) -> dict[str, NDArray[np.float64]]:
    """Return finite values by names, checked."""
    keys = list(given) if isinstance(given, Mapping) else []
    if not keys or not all(isinstance(key, str) for key in keys):
        raise TypeError(f"{name} must map names of {what}, got {shown(given)}")
    return {
        printable(key): finite_array(values, f"{name} of {shown(key)}").astype(np.float64)
        for key, values in given.items()
    }


def checked_name(given: Any) -> str:
    """Return the name of a method without characters that cannot be seen."""
    if not isinstance(given, str):
        raise TypeError(f"name must be a string, got {shown(given)}")
    return printable(given)


def named(name: str, what: str) -> str:
    """Return what a line is with the name of its method before it, if there is one."""
    return f"{name}, {what}" if name else what


def class_name(estimator: Any) -> str:
    """Return the name of the class of the step that scores."""
    from crossfit.querying import answering

    return type(answering(model_of(estimator))[1]).__name__


def next_colour(axes: Axes) -> str:
    """Return a colour that the lines so far do not have."""
    taken = {line.get_color() for line in axes.get_lines()}
    return next((colour for colour in LINES if colour not in taken), LINES[0])


def from_zero(axes: Axes, low: float = 0.0) -> None:
    """Make the vertical axis start at 0, or a lower value, and include all lines so far."""
    axes.autoscale(axis="y")
    axes.set_ylim(bottom=min(low, axes.get_ylim()[0]) if low < 0 else 0)
