"""Canonical correlations by component."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from crossfit._arguments import finite_array
from crossfit.displays.base import (
    Display,
    checked_name,
    documented,
    from_zero,
    model_of,
    named,
    next_colour,
)
from crossfit.plotting import light_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SpectrumDisplay"]


@documented
class SpectrumDisplay(Display):
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
    {drawn}
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
        self.name = checked_name(name)

    @classmethod
    @documented
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
        estimator : method with ``correlations_``, or pipeline, search or Winner with one
            Fitted, such as `crossfit.subspace.CCA`.
        views : Views, optional
            Pairs that were not used in the fit, whose correlations are drawn too.
        query, gallery : str, optional
            Names of the views between which `views` are correlated; by default the first two of
            the fit.
        {own_name}
        {ax}

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

        steps, last = answering(model_of(estimator))
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

    def _draw(self, axes: Axes, own: bool) -> None:
        components = np.arange(1, len(self.correlations) + 1)
        marker = "o" if len(components) < 20 else ""
        colour = next_colour(axes)
        self.lines_ = []
        for values, what, dashes in (
            (self.correlations, "fit", "-"), (self.held_out, "held out", (0, (3, 1.2))),
        ):  # fmt: skip
            if values is not None:
                self.lines_ += axes.plot(
                    components, values, marker=marker, markersize=3.5, color=colour,
                    linestyle=dashes, linewidth=1.3, label=named(self.name, what),
                )  # fmt: skip
        axes.locator_params(axis="x", integer=True)
        from_zero(axes, min(float(np.min(line.get_ydata())) for line in axes.get_lines()))
        axes.set(xlabel="component", ylabel="correlation")
        light_grid(axes)
        axes.legend(frameon=False)
