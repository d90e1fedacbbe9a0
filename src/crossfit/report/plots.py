"""Plots of a leaderboard as SVG with the colours of the page, light or dark."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossfit._sizes import COSTS
from crossfit._text import printable
from crossfit.metrics import parse_metric
from crossfit.plotting import in_plain_words, points_of, scale_cutoffs
from crossfit.report.drawing import (
    CHANCE,
    INK,
    LETTERS,
    SERIES,
    SOFT,
    as_svg,
    heading,
    in_panels,
    label_y,
    legend,
    log_scale,
    wrapped,
)
from crossfit.report.format import metric_words
from crossfit.report.front import costs_of, front_of
from crossfit.report.leaderboard import Board, Row

__all__ = ["attention", "costs", "curves", "intervals", "search", "sweeps", "training"]

_DASHES = ("-", (0, (7, 2)), (0, (1.5, 1.5)))
_TERMS = ("-", "--", ":", "-.")
_RATIO = "loss / constant loss"


def _styles(board: Board) -> list[dict[str, Any]]:
    """Return colour, dashes and width of the lines of each method, the same in all plots.

    If there are more methods than styles, the methods that are best by the main metric or in one
    of the plots have one, and the others are grey.
    """
    n = len(SERIES) * len(_DASHES)
    chosen = list(range(len(board.rows)))
    if len(chosen) > n:
        best = [chosen, *(_by_curve(board, kind) for kind in ("recall", "pr"))]
        place = {i: min(order.index(i) for order in best if i in order) for i in chosen}
        chosen = sorted(sorted(chosen, key=place.__getitem__)[:n])
    grey = {"color": SOFT, "linewidth": 1.2, "zorder": 2}
    styles = [grey] * len(board.rows)
    for k, i in enumerate(chosen):
        dashes, colour = divmod(k, len(SERIES))
        line = {"color": SERIES[colour], "linestyle": _DASHES[dashes], "linewidth": 2}
        styles[i] = {**line, "zorder": 3}
    return styles


def _by_curve(board: Board, kind: str) -> list[int]:
    """Return the methods by the mean height of a curve over all directions, best first."""
    height = {
        i: np.mean([np.mean(row.curves[d][kind][1]) for d in board.directions])
        for i, row in _with_curves(board, kind)
    }
    return sorted(height, key=lambda i: -height[i])


def _with_curves(board: Board, kind: str) -> list[tuple[int, Row]]:
    return [(i, row) for i, row in enumerate(board.rows)
            if all(row.curves.get(d, {}).get(kind) for d in board.directions)]  # fmt: skip


def _name(ax: Any, drawn: Sequence[tuple[int, Row]], styles: Sequence[dict[str, Any]]) -> None:
    """Add the methods to the legend; those in grey share an entry."""
    others = [i for i, _ in drawn if styles[i]["color"] == SOFT]
    for i, row in drawn:
        if i not in others:
            ax.plot([], [], label=printable(row.label), **styles[i])
    if others:
        words = "one other method" if len(others) == 1 else f"{len(others)} other methods"
        ax.plot([], [], label=words, **styles[others[0]])


@in_plain_words
def intervals(board: Board, *, narrow: bool = False) -> str:
    """Draw the main metric of every method with its interval, one panel per direction."""
    figure, axes = in_panels(len(board.directions), 0.9 + 0.3 * len(board.rows), narrow=narrow)
    labels = [printable(row.label) for row in board.rows]
    for ax, direction in zip(axes, board.directions):
        for i, row in enumerate(board.rows):
            low, high = row.repeats.interval(direction, board.metric)
            ax.plot([low, high], [-i, -i], color=SERIES[0], linewidth=3, solid_capstyle="round")
            ax.plot([row.repeats.mean(direction, board.metric)], [-i], "o", color=SERIES[0],
                    markersize=7, label="obtained" if not i else None)  # fmt: skip
            published = row.published.get((direction, board.metric))
            if published is not None:
                ax.plot([published], [-i], "D", color=SERIES[1], markersize=6, fillstyle="none",
                        markeredgewidth=1.6)  # fmt: skip
        at = board.chance.get((direction, board.metric))
        if at is not None:
            ax.axvline(at, color=INK, linewidth=1, linestyle=CHANCE)
        heading(ax, direction.label)
        ax.set_ylim(-len(board.rows) + 0.5, 0.5)
        ax.set_yticks(
            [-i for i in range(len(board.rows))],
            [wrapped(label, LETTERS if narrow else 2 * LETTERS) for label in labels],
        )
        ax.grid(visible=False, axis="y")
        ax.set_xlabel(metric_words(board.metric), color=INK)
    return as_svg(figure, f"{metric_words(board.metric)} of every method with its interval")


@in_plain_words
def curves(board: Board, kind: str, *, narrow: bool = False) -> str | None:
    """Draw recall over the cut-off (``"recall"``), or precision over recall (``"pr"``)."""
    drawn = _with_curves(board, kind)
    if not drawn:
        return None
    styles = _styles(board)
    figure, axes = in_panels(len(board.directions), 3.9, narrow=narrow)
    for ax, direction in zip(axes, board.directions):
        ends = []
        for i, row in reversed(drawn):
            x, y = row.curves[direction][kind]
            ends.append(x[-1])
            ax.plot(x, y, **styles[i])
        if kind == "recall":
            known = {
                m.k: value
                for (d, name), value in board.chance.items()
                if d == direction
                and (m := parse_metric(name)).kind == "r"
                and m.variant == "any"
                and not m.adjusted
            }
            if known:
                ks = sorted(k for k in known if k)
                ax.plot(ks, [known[k] for k in ks], color=INK, linewidth=1, linestyle=CHANCE)
            scale_cutoffs(ax, max(ends))
            ax.set_xlabel("K", color=INK)
        else:
            # With another main metric the curve may be of another relevance.
            at = board.chance.get((direction, "map@all"))
            if at is not None and board.metric == "map@all":
                ax.axhline(at, color=INK, linewidth=1, linestyle=CHANCE)
            ax.set_xlim(0, 1)
            ax.set_xlabel("recall", color=INK)
        heading(ax, direction.label)
    axes[0].set_ylim(bottom=0)
    label_y(axes, "recall at K" if kind == "recall" else "precision", narrow)
    _name(axes[0], drawn, styles)
    if any(line.get_color() == INK for line in axes[0].get_lines()):
        axes[0].plot([], [], color=INK, linewidth=1, linestyle=CHANCE, label="chance")
    legend(figure, axes[0], narrow)
    words = {"recall": "Recall at K", "pr": "Precision over recall"}[kind]
    return as_svg(figure, f"{words} of every method")


@in_plain_words
def costs(board: Board, *, narrow: bool = False) -> str | None:
    """Draw the main metric over fit time, parameters and dimensions, as far as they are known."""
    sources: list[tuple[str, Mapping[str, float]]] = []
    for words, found in (
        ("seconds to fit", {row.label: row.costs.get("fit", math.nan) for row in board.rows}),
        ("parameters", {row.label: row.size.get("parameters", math.nan) for row in board.rows}),
        ("dimensions", {row.label: row.size.get("dimensions", math.nan) for row in board.rows}),
    ):
        kept = {label: value for label, value in found.items() if value > 0}
        if len(set(kept.values())) > 1:
            sources.append((words, kept))
    if not sources:
        return None
    figure, axes = in_panels(len(sources), 3.2, "y", narrow=narrow)
    scores = {row.label: row.repeats.mean(None, board.metric) for row in board.rows}
    height = max(scores.values()) - min(scores.values()) or 1.0
    for ax, (words, known) in zip(axes, sources):
        width = math.log(max(known.values()) / min(known.values()))
        places: dict[tuple[float, float], list[str]] = {}
        for i, row in enumerate(board.rows):
            if row.label in known:
                at = (known[row.label], scores[row.label])
                ax.plot(*at, "o", color=SERIES[0], markersize=6)
                # Points whose numbers would overprint share one list of numbers.
                near = (p for p in places if abs(math.log(p[0] / at[0])) < 0.1 * width
                        and abs(p[1] - at[1]) < 0.05 * height)  # fmt: skip
                places.setdefault(next(near, at), []).append(str(i + 1))
        for at, numbers in places.items():
            ax.annotate(", ".join(numbers), at, xytext=(4, 4), textcoords="offset points",
                        color=INK, fontsize=9)  # fmt: skip
        log_scale(ax, known.values())
        ax.set_xlabel(words, color=INK)
    label_y(axes, f"{metric_words(board.metric)}, mean of directions", narrow)
    return as_svg(figure, "Main metric against cost and size")


@in_plain_words
def sweeps(board: Board, *, narrow: bool = False) -> list[tuple[str, str]]:
    """Draw the score over a parameter, if rows of one method differ only in one number.

    Returns
    -------
    list of (str, str)
        Method and parameter, and the plot.
    """
    families: dict[str, list[Row]] = {}
    for row in board.rows:
        if row.method:
            families.setdefault(row.method, []).append(row)
    found = []
    for method, rows in families.items():
        name = _varied(rows) if len(rows) > 2 else None
        if name is None:
            continue
        rows = sorted(rows, key=lambda row: row.params[name])
        values = [row.params[name] for row in rows]
        figure, axes = in_panels(1, 3.2, narrow=narrow)
        ax = axes[0]
        for i, direction in enumerate(board.directions):
            ranges = np.array([row.repeats.interval(direction, board.metric) for row in rows])
            means = [row.repeats.mean(direction, board.metric) for row in rows]
            ax.fill_between(values, ranges[:, 0], ranges[:, 1], color=SERIES[i], alpha=0.15,
                            linewidth=0)  # fmt: skip
            ax.plot(values, means, "o-", color=SERIES[i], linewidth=2, markersize=5,
                    label=direction.label)  # fmt: skip
        if min(values) > 0 and max(values) / min(values) > 20:
            log_scale(ax, values)
        ax.set_xlabel(printable(name), color=INK)
        ax.set_ylabel(metric_words(board.metric), color=INK)
        legend(figure, ax, narrow)
        found.append((f"{method}: {name}", as_svg(figure, f"{method} against {name}")))
    return found


def _varied(rows: Sequence[Row]) -> str | None:
    """Return the parameter in which rows differ, if it is the only one and always a number."""
    names = {name for row in rows for name in row.params}
    missing = object()
    differ = [n for n in names if len({repr(row.params.get(n, missing)) for row in rows}) > 1]
    if len(differ) != 1:
        return None
    values = [row.params.get(differ[0]) for row in rows]
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return differ[0] if numbers and len(set(values)) == len(values) else None


@in_plain_words
def search(row: Row, *, narrow: bool = False) -> str | None:
    """Draw the scores of all trials over each setting that was searched, up to four settings."""
    trials = [trial for trial in row.trials if trial.get("value") is not None]
    wanted = {}
    for name in dict.fromkeys(name for trial in trials for name in trial["params"]):
        found = [(t["params"][name], t["value"]) for t in trials if name in t["params"]]
        if len({repr(value) for value, _ in found}) > 1:
            wanted[name] = found
    shown = list(wanted.items())[:4]
    if not shown:
        return None
    best = max(trial["value"] for trial in trials)
    figure, axes = in_panels(len(shown), 2.5, "y", narrow=narrow)
    for ax, (name, found) in zip(axes, shown):
        values = [value for value, _ in found]
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        if numbers and min(values) > 0 and max(values) / min(values) > 20:
            log_scale(ax, values, most=4)
        elif numbers:
            ax.locator_params(axis="x", nbins=4)
        for value, score in found:
            place = value if numbers else wrapped(printable(str(value)), LETTERS)
            ax.plot([place], [score], "o", markersize=4.5,
                    color=SERIES[1] if score == best else SERIES[0])  # fmt: skip
        if not numbers and sum(len(str(value)) for value in set(map(str, values))) > LETTERS:
            ax.tick_params(axis="x", labelrotation=30)
            for label in ax.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        ax.set_xlabel(printable(name), color=INK)
    return as_svg(figure, f"Trials of {row.label}")


@in_plain_words
def front(row: Row, *, narrow: bool = False) -> str | None:
    """Draw the scores of all trials over each cost, with the Pareto front of all objectives."""
    costs = costs_of(row.trials)
    if not costs:
        return None
    best = front_of(row.trials)
    known = [trial for trial in row.trials if trial.get("scores")]
    figure, axes = in_panels(len(costs), 2.5, "y", narrow=narrow)
    for ax, cost in zip(axes, costs):
        values = [trial["scores"][cost] for trial in known]
        if min(values) > 0 and max(values) / min(values) > 20:
            log_scale(ax, values, most=4)
        else:
            ax.locator_params(axis="x", nbins=4)
        ax.plot(values, [trial["value"] for trial in known], "o", markersize=4.5, color=SERIES[0])
        points = sorted((trial["scores"][cost], trial["value"]) for trial in best)
        marks = "o-" if len(costs) == 1 else "o"
        ax.plot(*zip(*points), marks, markersize=4.5, drawstyle="steps-post", color=SERIES[1])
        ax.set_xlabel(COSTS[cost], color=INK)
    metric = next(name for name in known[0]["scores"] if name not in COSTS)
    axes[0].set_ylabel(metric_words(metric), color=INK)
    return as_svg(figure, f"Pareto front of {row.label}")


def _with_ratio(row: Mapping[str, Any]) -> dict[str, Any]:
    loss, equal = row.get("checked_loss"), row.get("constant_loss")
    if not isinstance(loss, (int, float)) or not isinstance(equal, (int, float)) or equal <= 0:
        return dict(row)
    return {**row, _RATIO: loss / equal}


@in_plain_words
def training(row: Row, *, narrow: bool = False) -> str | None:
    """Draw the training curves of a method, with a line for every seed.

    One panel has the loss and its terms. The other one has fractions: active hinges, dead units,
    cosines of outputs, and the loss divided by that of equal outputs.
    """
    histories = [[_with_ratio(each) for each in history] for history in row.histories.values()]
    names = dict.fromkeys(
        name for history in histories for each in history for name, value in each.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    )  # fmt: skip
    losses: dict[str, tuple[str, dict[str, Any]]] = {
        "train_loss": ("training", {"color": SERIES[0], "linewidth": 2}),
        "valid_loss": ("validation", {"color": SERIES[1], "linewidth": 2}),
    }
    shares: dict[str, tuple[str, dict[str, Any]]] = {
        "train_active_hinges": ("active hinges", {"color": SERIES[2]}),
        "dead_units": ("dead units", {"color": SERIES[3]}),
        _RATIO: ("loss / loss of equal outputs", {"color": INK, "linestyle": CHANCE}),
    }
    cosines = [name for name in names if name.startswith("cosine_")]
    for i, name in enumerate(cosines):
        words = f"cosine, {name.removeprefix('cosine_')}"
        style = {"color": SERIES[4 + i % 2], "linestyle": _TERMS[i // 2 % len(_TERMS)]}
        shares[name] = (words, style)
    other = re.compile(r"train_(loss|active_hinges|batch_count)$|.*_best$")
    terms = [name for name in names if name.startswith("train_") and not other.match(name)]
    for name, line in zip(terms if len(terms) > 1 else (), _TERMS):
        losses[name] = (name.removeprefix("train_"), {"color": SOFT, "linestyle": line})
    panels = [("loss", losses), ("fraction", shares)]
    panels = [(title, lines) for title, lines in panels if lines.keys() & names.keys()]
    if not panels:
        return None
    figure, axes = in_panels(len(panels), 2.8, "x", narrow=narrow)
    for ax, (title, lines) in zip(axes, panels):
        for name, (words, style) in lines.items():
            label: str | None = printable(words).replace("_", " ")
            for history in histories:
                points = points_of(history, name)
                if points:
                    marker = "." if len(points) == 1 else ""
                    ax.plot(*zip(*points), label=label, marker=marker, **style)
                    label = None
        ax.set_xlabel("epoch", color=INK)
        heading(ax, title)
        if title == "fraction":
            ax.set_ylim(min(0, ax.get_ylim()[0]), 1.03)
    legend(figure, axes, narrow)
    return as_svg(figure, f"Training of {row.label}")


@in_plain_words
def attention(weights: Any, words: Sequence[str]) -> str:
    """Draw weights of words (rows) against regions or objects (columns).

    Parameters
    ----------
    weights : ndarray of shape (T, R)
        Weights of R regions for each of T words.
    words : sequence of T str
        The words.

    Returns
    -------
    str
        The plot as SVG.
    """
    figure, axes = in_panels(1, 0.9 + 0.22 * len(words), narrow=True)
    ax = axes[0]
    # The opacity of one colour is used as a colour map, so that it works on light and dark pages.
    share = np.asarray(weights, np.float64) / max(float(np.max(weights)), 1e-12)
    for t, row in enumerate(share):
        for r, value in enumerate(row):
            ax.barh(-t, 1, left=r, height=1, color=SERIES[0], alpha=float(value), linewidth=0)
    ax.set_xlim(0, share.shape[1])
    ax.set_ylim(-len(words) + 0.5, 0.5)
    ax.set_yticks([-t for t in range(len(words))], [printable(word) for word in words])
    ax.grid(visible=False)
    ax.set_xlabel("region", color=INK)
    return as_svg(figure, "Attention of words to regions")
