"""Distribution of the number of queries that find each item of a gallery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from crossfit._arguments import finite_array, integer, one_of, validated
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

__all__ = ["HubnessDisplay"]


@documented
class HubnessDisplay(Display):
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
    {drawn}
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
        self.name = checked_name(name)

    @classmethod
    @documented
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
        {estimator}
        views : Views
            The queries and the gallery.
        y : None
            Ignored: hubness does not depend on labels.
        {sides}
        {k}
        {title}
        {ax}

        Returns
        -------
        HubnessDisplay

        {fitted}
        """
        ((scores, _, _, names),) = scored(estimator, views, None, query, gallery, "forward")
        if name is None:
            name = named(class_name(estimator), " → ".join(names))
        return cls.from_similarity(scores, k=k, name=name, ax=ax)

    @classmethod
    @documented
    @validated(k=[integer(1)], direction=[one_of(*SIDES)])
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
        {scores}
        {k}
        {direction}
        {name}
        {ax}

        Returns
        -------
        HubnessDisplay

        {raises}
        """
        from crossfit.querying import top_k

        found = finite_array(scores, "scores", 2)
        found = found.T if direction == "backward" else found
        if 0 in found.shape:
            raise ValueError(f"scores must not be empty, got shape {found.shape}")
        return cls(top_k(found, k).indices, found.shape[1], name=name).plot(ax)

    def _draw(self, axes: Axes, own: bool) -> None:
        heights = np.bincount(self.counts)
        colour = LINES[len(axes.containers) % len(LINES)]
        label = named(self.name, f"skewness {self.hubness['skewness']:.2f}")
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
