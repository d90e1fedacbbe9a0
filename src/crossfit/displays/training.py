"""Losses over the epochs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import ArrayLike

from crossfit._arguments import integer, shown, validated
from crossfit.displays.base import Display, by_name, documented, model_of
from crossfit.plotting import CHANCE, LINES, light_grid, losses_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["TrainingDisplay"]


@documented
class TrainingDisplay(Display):
    """Training and validation loss of a neural method over the epochs.

    Parameters
    ----------
    losses : mapping of str to array-like of shape (n, 2)
        Epochs and losses by the name of the line, such as ``"training"``.
    kept : int, optional
        Epoch whose weights were kept, which a vertical line marks.

    Attributes
    ----------
    {drawn}
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
        self.losses = by_name(losses, "losses", "lines to epochs and losses")
        for name, points in self.losses.items():
            if points.ndim != 2 or points.shape[1] != 2 or not len(points):
                raise ValueError(
                    f"losses of {shown(name)} must be epochs and losses of shape (n, 2), got "
                    f"{points.shape}"
                )
        self.kept = kept

    @classmethod
    @documented
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None) -> Self:
        """Draw the losses of a trained method.

        Parameters
        ----------
        estimator : NeuralEstimator, or pipeline, search or Winner with one
            Fitted.
        {ax}

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
        losses, kept = losses_of(model_of(estimator))
        return cls(losses, kept=kept).plot(ax)

    def _draw(self, axes: Axes, own: bool) -> None:
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
