"""Figures of results: measures with their intervals, recall, training and attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from crossfit._arguments import shown
from crossfit._text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from crossfit.metrics.directions import Direction
    from crossfit.metrics.evaluation import Evaluation

__all__ = ["plot_attention", "plot_intervals", "plot_recall", "plot_training"]

LINES = ("#2f5bd0", "#d9622b", "#1a8a6b", "#8a4fbf", "#b07a10", "#c23a78")
_DASHES: tuple[Any, ...] = ("-", (0, (7, 2)), (0, (1.5, 1.5)))
CHANCE: Any = (0, (4, 3))

P = ParamSpec("P")
R = TypeVar("R")


def in_plain_words(draw: Callable[P, R]) -> Callable[P, R]:
    """Return a function that draws the same figure, but never sets a text as a formula.

    Labels and words are those of users, and one with dollar signs, such as "$5 or $6", is not a
    formula.
    """

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib as mpl

        with mpl.rc_context({"text.parse_math": False, "text.usetex": False}):
            return draw(*args, **kwargs)

    return drawn


def plot_attention(
    image: Any,
    words: Sequence[str] | None = None,
    *,
    word_to_region: ArrayLike | None = None,
    object_to_word: ArrayLike | None = None,
    grid: tuple[int, int] | None = None,
    region_boxes: ArrayLike | None = None,
    boxes: ArrayLike | None = None,
    labels: Sequence[str] | None = None,
    n_objects: int = 3,
) -> Figure:
    """Draw what ``explain`` of a method returns for one image and one text.

    Parameters
    ----------
    image, words, word_to_region, object_to_word, grid, region_boxes, boxes, labels, n_objects
        As in `crossfit.displays.AttentionDisplay`.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, which a notebook displays, and which can be saved by its ``savefig``. It is not
        registered with pyplot.

    Raises
    ------
    ValueError
        If there is nothing to draw or shapes do not match.

    Examples
    --------
    >>> import numpy as np
    >>> picture = np.zeros((60, 80, 3), np.uint8)
    >>> weights = np.full((2, 16), 1 / 16)
    >>> figure = plot_attention(picture, ["a", "dog"], word_to_region=weights)
    >>> len(figure.subfigs[0].axes)  # the image, two words, the colour bar
    4
    """
    from crossfit.displays import AttentionDisplay

    return AttentionDisplay(
        image, words, word_to_region=word_to_region, object_to_word=object_to_word, grid=grid,
        region_boxes=region_boxes, boxes=boxes, labels=labels, n_objects=n_objects,
    ).plot().figure_  # fmt: skip


@in_plain_words
def plot_intervals(
    evaluations: Evaluation | Mapping[str, Evaluation], metric: str | None = None
) -> Figure:
    """Draw a measure of one or more methods with its intervals, one panel per direction.

    Parameters
    ----------
    evaluations : Evaluation, or mapping of str to Evaluation
        What `crossfit.evaluate` returned, for each method by its name.
    metric : str, optional
        A metric that was evaluated; by default the first one.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, which a notebook displays, and which can be saved by its ``savefig``. It is not
        registered with pyplot.

    Raises
    ------
    TypeError, ValueError
        If these are not evaluations of the same directions that have the metric.

    See Also
    --------
    crossfit.compare : Tests between methods; intervals that overlap are not a test.

    Examples
    --------
    >>> from crossfit import evaluate
    >>> ev = evaluate([[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1]), ["map@all", "r@1"])
    >>> figure = plot_intervals({"one": ev, "another": ev}, "r@1")
    >>> [axes.get_title() for axes in figure.axes]
    ['query → gallery', 'gallery → query']
    """
    from crossfit._figures import ShownFigure
    from crossfit.metrics import parse_metric

    given = _evaluations(evaluations)
    first = next(iter(given.values()))
    name = first.metrics[0] if metric is None else parse_metric(metric).name
    for label, one in given.items():
        _check_evaluated(one, [name], first.directions, f"evaluations: {shown(label)}")
    n = len(first.directions)
    figure = ShownFigure(figsize=(1.5 + 3.5 * n, 0.9 + 0.3 * len(given)), layout="constrained")
    panels = figure.subplots(1, n, sharex=True, sharey=True, squeeze=False)[0]
    for axes, direction in zip(panels, first.directions):
        for i, one in enumerate(given.values()):
            mean = one.mean(direction, name)
            low, high = (mean, mean) if one.ci is None else one.interval(direction, name)
            axes.plot([low, high], [-i, -i], color=LINES[0], linewidth=3)
            axes.plot([mean], [-i], "o", color=LINES[0])
        axes.set_title(label_of(direction), fontsize=11)
        axes.set_ylim(0.5 - len(given), 0.5)
        axes.set_xlabel(name)
        light_grid(axes, "x")
    panels[0].set_yticks(
        [-i for i in range(len(given))], [printable(str(label)) for label in given]
    )
    return figure


@in_plain_words
def plot_recall(
    evaluations: Evaluation | Mapping[str, Evaluation],
    *,
    ks: Sequence[int] | None = None,
    chance: Evaluation | None = None,
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw recall at K over K for one or more methods, one panel per direction.

    Parameters
    ----------
    evaluations : Evaluation, or mapping of str to Evaluation
        What `crossfit.evaluate` returned, for each method by its name, with metrics such as
        ``["r@1", "r@5", "r@10"]``.
    ks : sequence of int, optional
        Cut-offs K, of which each ``r@K`` must have been evaluated; by default all those of the
        first evaluation.
    chance : Evaluation, optional
        What `crossfit.metrics.chance_level` returned for the same relevance, metrics and names. It
        is drawn as a dashed line.
    ax : Axes, or sequence of Axes with one per direction, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, which a notebook displays, and which can be saved by its ``savefig``. A new one
        is not registered with pyplot.

    Raises
    ------
    TypeError, ValueError
        If these are not evaluations of the same directions that have recall at each K, if `ks` are
        not cut-offs, or if there is not one Axes per direction.

    See Also
    --------
    crossfit.metrics.recall_at_k_curve : The values, from scores.

    Examples
    --------
    >>> from crossfit import evaluate
    >>> from crossfit.metrics import chance_level
    >>> relevance, metrics = ([0, 1], [0, 1]), ["r@1", "r@2"]
    >>> ev = evaluate([[0.9, 0.1], [0.4, 0.3]], relevance, metrics)
    >>> figure = plot_recall({"mine": ev}, chance=chance_level(relevance, metrics))
    >>> [line.get_ydata().tolist() for line in figure.axes[0].get_lines()]
    [[0.5, 1.0], [0.5, 1.0]]
    """
    from crossfit.metrics import parse_metric
    from crossfit.metrics.curves import check_cutoffs
    from crossfit.metrics.evaluation import Evaluation

    given = _evaluations(evaluations)
    first = next(iter(given.values()))
    if ks is None:
        measures = [parse_metric(name) for name in first.metrics]
        found = {m.k: m.name for m in measures if m.kind == "r" and m.variant == "any" and m.k}
        if not found:
            raise ValueError(
                f"evaluations must have r@K, such as r@1, got {', '.join(first.metrics)}"
            )
        cutoffs = sorted(found)
    else:
        cutoffs = check_cutoffs(ks).tolist()
    names = [parse_metric(f"r@{k}").name for k in cutoffs]
    for label, one in given.items():
        _check_evaluated(one, names, first.directions, f"evaluations: {shown(label)}")
    if chance is not None:
        if not isinstance(chance, Evaluation):
            raise TypeError(f"chance must be an Evaluation, got {shown(chance)}")
        _check_evaluated(chance, names, first.directions, "chance")
    figure, panels = panels_of(ax, [label_of(direction) for direction in first.directions])
    for axes, direction in zip(panels, first.directions):
        for i, (label, one) in enumerate(given.items()):
            dashes, colour = divmod(i, len(LINES))
            draw_recall(
                axes, cutoffs, [one.mean(direction, name) for name in names],
                color=LINES[colour], linestyle=_DASHES[dashes % len(_DASHES)],
                label=printable(str(label)),
            )  # fmt: skip
        if chance is not None:
            values = [chance.mean(direction, name) for name in names]
            axes.plot(cutoffs, values, color="0.2", linewidth=1, linestyle=CHANCE, label="chance")
        finish_recall(axes, cutoffs[-1])
        axes.set_title(label_of(direction), fontsize=11)
    panels[0].set_ylabel("recall at K")
    # A line without a label has one that matplotlib made.
    lines = [line for line in panels[-1].get_lines()
             if line.get_label() and not str(line.get_label()).startswith("_child")]  # fmt: skip
    if lines:
        panels[-1].legend(lines, [str(line.get_label()) for line in lines], frameon=False)
    return figure


def plot_training(method: Any, *, ax: Axes | None = None) -> Figure:
    """Draw the training and validation loss of a neural method over the epochs.

    Parameters
    ----------
    method : NeuralEstimator, or pipeline or search with one
        Fitted. The validation loss is drawn if the fit computed one, see `validation_fraction`. If
        the fit stopped early and went back to its best weights
        (``EarlyStopping(load_best=True)``), a vertical line marks their epoch; a method that was
        loaded from a bundle no longer has this mark.
    ax : Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, which a notebook displays, and which can be saved by its ``savefig``. A new one
        is not registered with pyplot.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the method is not fitted.
    TypeError, ValueError
        If it is not a method, or has no history of losses.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from crossfit.neural import RankingEstimator
    >>> class Linear(RankingEstimator):
    ...     def _build_module(self, n_inputs, n_classes):
    ...         return nn.ModuleDict({view: nn.Linear(n, 4) for view, n in n_inputs.items()})
    ...     def _encode_batch(self, module, items, view):
    ...         return nn.functional.normalize(module[view](items.values))
    >>> X = np.random.default_rng(0).normal(size=(40, 8))
    >>> method = Linear(max_epochs=3, validation_fraction=0.2, device="cpu").fit(X, X[:, ::-1])
    >>> figure = plot_training(method)
    >>> [line.get_label() for line in figure.axes[0].get_lines()]
    ['training', 'validation']
    """
    from crossfit.displays import TrainingDisplay

    return TrainingDisplay.from_estimator(method, ax=ax).figure_


def losses_of(method: Any) -> tuple[dict[str, list[tuple[int, float]]], int | None]:
    """Return the losses of each epoch by name, and the epoch whose weights were kept."""
    from crossfit.experiment.model_facts import history_of, kept_epoch
    from crossfit.querying import answering, view_names

    steps, last = answering(method)
    view_names(last)  # raises if it is not fitted
    trained = [(step, history) for step in (*steps, last) if (history := history_of(step))]
    if not trained:
        raise ValueError(
            f"method: {type(last).__name__} has no history of losses; pass a neural method that "
            "was trained for at least one epoch"
        )
    step, history = trained[-1]
    named = {"training": "train_loss", "validation": "valid_loss"}
    found = {label: points_of(history, name) for label, name in named.items()}
    return {label: points for label, points in found.items() if points}, kept_epoch(step)


def points_of(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """Return the epochs that have a number under a name, and the numbers."""
    return [
        (epoch.get("epoch", i + 1), epoch[name])
        for i, epoch in enumerate(history)
        if isinstance(epoch.get(name), (int, float))
    ]


def draw_recall(axes: Axes, ks: ArrayLike, recall: ArrayLike, **style: Any) -> Line2D:
    """Draw the line of recall at K of one method, and return it."""
    (line,) = axes.plot(ks, recall, marker="o", markersize=3.5, **style)
    return line


def finish_recall(axes: Axes, largest: int) -> None:
    """Set scales, grid and label of Axes with lines of recall at K."""
    scale_cutoffs(axes, largest)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("K")
    light_grid(axes)


def scale_cutoffs(axes: Axes, largest: int) -> None:
    """Scale the horizontal axis by the logarithm of K, with plain numbers at its ticks."""
    axes.set_xscale("log")
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= largest]
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()


def _evaluations(given: Any) -> Mapping[str, Evaluation]:
    from crossfit.metrics.evaluation import Evaluation

    named = {"": given} if isinstance(given, Evaluation) else given
    if not isinstance(named, Mapping) or not all(
        isinstance(one, Evaluation) for one in named.values()
    ):
        raise TypeError(
            "evaluations must be an Evaluation, or map names of methods to them, got "
            f"{shown(given)}"
        )
    if not named:
        raise ValueError("evaluations must have at least one entry, got none")
    return named


def _check_evaluated(
    one: Evaluation, names: Sequence[str], directions: Sequence[Direction], who: str
) -> None:
    if not set(names) <= set(one.metrics) or tuple(one.directions) != tuple(directions):
        raise ValueError(
            f"{who} must have {', '.join(names)} for {', '.join(directions)}, "
            f"got {', '.join(one.metrics)} for {', '.join(one.directions)}"
        )


def label_of(direction: str) -> str:
    """Return the title of a direction."""
    return printable(getattr(direction, "label", str(direction)))


def light_grid(axes: Axes, axis: Any = "both") -> None:
    """Draw a grid below everything else, and no frame."""
    axes.grid(axis=axis, color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def panels_of(ax: Any, titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Return the figure and one Axes per title: those of the caller, or new ones side by side."""
    from matplotlib.axes import Axes

    from crossfit._figures import ShownFigure

    n = len(titles)
    if ax is None:
        figure = ShownFigure(figsize=(1.2 + 3.8 * n, 3.4), layout="constrained")
        return figure, list(figure.subplots(1, n, sharex=True, sharey=True, squeeze=False)[0])
    panels = [ax] if isinstance(ax, Axes) else ax
    if isinstance(panels, np.ndarray):
        panels = panels.ravel().tolist()
    if not isinstance(panels, list | tuple) or not all(isinstance(one, Axes) for one in panels):
        raise TypeError(f"ax must be Axes of matplotlib, got {shown(ax)}")
    if len(panels) != n:
        which = f", one for each of {', '.join(titles)}" if n > 1 else ""
        raise ValueError(f"ax must be {n} Axes{which}, got {len(panels)}")
    found = panels[0].get_figure(root=True)
    assert found is not None
    return found, list(panels)
