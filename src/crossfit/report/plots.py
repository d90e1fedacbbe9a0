"""Plots of a leaderboard as SVG with the colours of the page, light or dark."""

from __future__ import annotations

import hashlib
import io
import math
import re
import textwrap
import warnings
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from crossfit._text import printable
from crossfit.metrics import parse_metric
from crossfit.plotting import in_plain_words, points_of, scale_cutoffs
from crossfit.report.format import metric_words
from crossfit.report.leaderboard import Board, Row

__all__ = ["attention", "costs", "curves", "intervals", "search", "sweeps", "training"]

# Placeholders, which are replaced by the colours of the page, so that plots can be light or dark.
_INK, _GRID, _SOFT = "#010203", "#040506", "#070809"
_SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
_COLOURS = {
    _INK: "var(--ink)",
    _GRID: "var(--rule)",
    _SOFT: "var(--faint)",
    **{colour: f"var(--series-{i + 1})" for i, colour in enumerate(_SERIES)},
}
_CHANCE = (0, (4, 3))
_DASHES = ("-", (0, (7, 2)), (0, (1.5, 1.5)))
_TERMS = ("-", "--", ":", "-.")
_RATIO = "loss / constant loss"
#: Width of a figure for phones in inches, and of the names of methods in it in letters.
_NARROW, _LETTERS = 4.4, 18


def _axes(n: int, height: float, share: str = "xy", *, narrow: bool = False) -> tuple[Any, Any]:
    """Return a figure with n panels, side by side or, for a narrow page, below each other.

    `share` has the names of the axes that all panels share.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    size, shape = ((_NARROW, n * height), (n, 1)) if narrow else ((9.6, height), (1, n))
    layout = ConstrainedLayoutEngine(h_pad=0.1 if narrow else 0.04, w_pad=0.08)
    figure = Figure(figsize=size, layout=layout)
    axes = figure.subplots(*shape, sharex="x" in share, sharey="y" in share, squeeze=False).ravel()
    for ax in axes:
        ax.patch.set_alpha(0)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(_GRID)
        ax.tick_params(colors=_INK, labelsize=10, color=_GRID, which="both")
        if narrow:
            ax.tick_params(labelbottom=True)
        ax.grid(color=_GRID, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any, words: str) -> str:
    import matplotlib as mpl

    words = printable(words)
    buffer = io.StringIO()
    # Text is kept as text, which is small and selectable, and ids are the same in every run.
    options: Any = {"svg.fonttype": "none", "svg.hashsalt": "crossfit"}
    with mpl.rc_context(options), warnings.catch_warnings():
        # The text is drawn by the browser, with its own font.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Ids of groups would be repeated in every plot of the page; they are not used.
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    # Equal parts of two plots have equal ids, but an id must be unique on a page.
    mark = hashlib.sha256(f"{words}{svg}".encode()).hexdigest()[:8]
    svg = re.sub(r'(\bid="|#)([a-z][0-9a-f]{10})\b', rf"\1\2-{mark}", svg)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    label = words.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _title(ax: Any, words: str) -> None:
    ax.set_title(printable(words), color=_INK, fontsize=11, loc="left")


def _log(ax: Any, values: Collection[float], most: int = 5) -> None:
    """Scale an axis by logarithm, with plain numbers at its ticks, of which there are few."""
    low, high = min(values), max(values)
    ax.set_xscale("log")
    low, high = low / (high / low) ** 0.12, high * (high / low) ** 0.12
    ax.set_xlim(low, high)
    ticks = _log_ticks(low, high, most)
    ax.set_xticks(ticks, [_short(tick) for tick in ticks])
    ax.minorticks_off()


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return two to `most` round numbers between limits: the finest of several steps that fits."""
    from matplotlib.ticker import MaxNLocator

    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps: list[list[float]] = [[digit * 10.0**k for k in decades for digit in (1, 2, 5)]]
    steps += [[10.0**k for k in decades[::step]] for step in range(1, len(decades) + 1)]
    for numbers in steps:
        inside = [number for number in numbers if low <= number <= high]
        if 2 <= len(inside) <= most:
            return inside
    # Less than a decade apart: round numbers of a linear scale.
    numbers = list(MaxNLocator(most - 1, steps=[1, 2, 5, 10]).tick_values(low, high))
    return [number for number in numbers if low <= number <= high]


def _short(x: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if x >= size:
            return f"{x / size:g}{letter}"
    return f"{x:g}"


def _styles(board: Board) -> list[dict[str, Any]]:
    """Return colour, dashes and width of the lines of each method, the same in all plots.

    If there are more methods than styles, the methods that are best by the main metric or in one
    of the plots have one, and the others are grey.
    """
    n = len(_SERIES) * len(_DASHES)
    chosen = list(range(len(board.rows)))
    if len(chosen) > n:
        best = [chosen, *(_by_curve(board, kind) for kind in ("recall", "pr"))]
        place = {i: min(order.index(i) for order in best if i in order) for i in chosen}
        chosen = sorted(sorted(chosen, key=place.__getitem__)[:n])
    grey = {"color": _SOFT, "linewidth": 1.2, "zorder": 2}
    styles = [grey] * len(board.rows)
    for k, i in enumerate(chosen):
        dashes, colour = divmod(k, len(_SERIES))
        line = {"color": _SERIES[colour], "linestyle": _DASHES[dashes], "linewidth": 2}
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
    others = [i for i, _ in drawn if styles[i]["color"] == _SOFT]
    for i, row in drawn:
        if i not in others:
            ax.plot([], [], label=printable(row.label), **styles[i])
    if others:
        words = "one other method" if len(others) == 1 else f"{len(others)} other methods"
        ax.plot([], [], label=words, **styles[others[0]])


def _legend(figure: Any, axes: Any, narrow: bool) -> None:
    """Put the labels of one or more panels below them."""
    found = [ax.get_legend_handles_labels() for ax in np.atleast_1d(axes)]
    handles, labels = (list(chain.from_iterable(part)) for part in zip(*found, strict=True))
    if narrow:
        labels = [_wrapped(label, 2 * _LETTERS) for label in labels]
        figure.set_figheight(figure.get_figheight() + 0.22 * len("\n".join(labels).split("\n")))
    if handles:
        figure.legend(
            handles, labels, loc="outside lower left", ncols=1 if narrow else 4, frameon=False,
            labelcolor=_INK, fontsize=9.5, handlelength=2.4, columnspacing=1.6,
        )  # fmt: skip


def _wrapped(label: str, letters: int) -> str:
    return "\n".join(textwrap.wrap(label, letters, max_lines=2, placeholder="…"))


def _label_y(axes: Any, words: str, narrow: bool) -> None:
    """Label the vertical axis, only once if panels are side by side."""
    for ax in axes if narrow else axes[:1]:
        ax.set_ylabel(words, color=_INK)


@in_plain_words
def intervals(board: Board, *, narrow: bool = False) -> str:
    """Draw the main metric of every method with its interval, one panel per direction."""
    figure, axes = _axes(len(board.directions), 0.9 + 0.3 * len(board.rows), narrow=narrow)
    labels = [printable(row.label) for row in board.rows]
    for ax, direction in zip(axes, board.directions):
        for i, row in enumerate(board.rows):
            low, high = row.repeats.interval(direction, board.metric)
            ax.plot([low, high], [-i, -i], color=_SERIES[0], linewidth=3, solid_capstyle="round")
            ax.plot([row.repeats.mean(direction, board.metric)], [-i], "o", color=_SERIES[0],
                    markersize=7, label="obtained" if not i else None)  # fmt: skip
            published = row.published.get((direction, board.metric))
            if published is not None:
                ax.plot([published], [-i], "D", color=_SERIES[1], markersize=6, fillstyle="none",
                        markeredgewidth=1.6)  # fmt: skip
        at = board.chance.get((direction, board.metric))
        if at is not None:
            ax.axvline(at, color=_INK, linewidth=1, linestyle=_CHANCE)
        _title(ax, direction.label)
        ax.set_ylim(-len(board.rows) + 0.5, 0.5)
        ax.set_yticks(
            [-i for i in range(len(board.rows))],
            [_wrapped(label, _LETTERS if narrow else 2 * _LETTERS) for label in labels],
        )
        ax.grid(visible=False, axis="y")
        ax.set_xlabel(metric_words(board.metric), color=_INK)
    return _svg(figure, f"{metric_words(board.metric)} of every method with its interval")


@in_plain_words
def curves(board: Board, kind: str, *, narrow: bool = False) -> str | None:
    """Draw recall over the cut-off (``"recall"``), or precision over recall (``"pr"``)."""
    drawn = _with_curves(board, kind)
    if not drawn:
        return None
    styles = _styles(board)
    figure, axes = _axes(len(board.directions), 3.9, narrow=narrow)
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
                if d == direction and (m := parse_metric(name)).kind == "r" and m.variant == "any"
            }
            if known:
                ks = sorted(k for k in known if k)
                ax.plot(ks, [known[k] for k in ks], color=_INK, linewidth=1, linestyle=_CHANCE)
            scale_cutoffs(ax, max(ends))
            ax.set_xlabel("K", color=_INK)
        else:
            # With another main metric the curve may be of another relevance.
            at = board.chance.get((direction, "map@all"))
            if at is not None and board.metric == "map@all":
                ax.axhline(at, color=_INK, linewidth=1, linestyle=_CHANCE)
            ax.set_xlim(0, 1)
            ax.set_xlabel("recall", color=_INK)
        _title(ax, direction.label)
    axes[0].set_ylim(bottom=0)
    _label_y(axes, "recall at K" if kind == "recall" else "precision", narrow)
    _name(axes[0], drawn, styles)
    if any(line.get_color() == _INK for line in axes[0].get_lines()):
        axes[0].plot([], [], color=_INK, linewidth=1, linestyle=_CHANCE, label="chance")
    _legend(figure, axes[0], narrow)
    words = {"recall": "Recall at K", "pr": "Precision over recall"}[kind]
    return _svg(figure, f"{words} of every method")


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
    figure, axes = _axes(len(sources), 3.2, "y", narrow=narrow)
    scores = {row.label: row.repeats.mean(None, board.metric) for row in board.rows}
    height = max(scores.values()) - min(scores.values()) or 1.0
    for ax, (words, known) in zip(axes, sources):
        width = math.log(max(known.values()) / min(known.values()))
        places: dict[tuple[float, float], list[str]] = {}
        for i, row in enumerate(board.rows):
            if row.label in known:
                at = (known[row.label], scores[row.label])
                ax.plot(*at, "o", color=_SERIES[0], markersize=6)
                # Points whose numbers would overprint share one list of numbers.
                near = (p for p in places if abs(math.log(p[0] / at[0])) < 0.1 * width
                        and abs(p[1] - at[1]) < 0.05 * height)  # fmt: skip
                places.setdefault(next(near, at), []).append(str(i + 1))
        for at, numbers in places.items():
            ax.annotate(", ".join(numbers), at, xytext=(4, 4), textcoords="offset points",
                        color=_INK, fontsize=9)  # fmt: skip
        _log(ax, known.values())
        ax.set_xlabel(words, color=_INK)
    _label_y(axes, f"{metric_words(board.metric)}, mean of directions", narrow)
    return _svg(figure, "Main metric against cost and size")


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
        figure, axes = _axes(1, 3.2, narrow=narrow)
        ax = axes[0]
        for i, direction in enumerate(board.directions):
            ranges = np.array([row.repeats.interval(direction, board.metric) for row in rows])
            means = [row.repeats.mean(direction, board.metric) for row in rows]
            ax.fill_between(values, ranges[:, 0], ranges[:, 1], color=_SERIES[i], alpha=0.15,
                            linewidth=0)  # fmt: skip
            ax.plot(values, means, "o-", color=_SERIES[i], linewidth=2, markersize=5,
                    label=direction.label)  # fmt: skip
        if min(values) > 0 and max(values) / min(values) > 20:
            _log(ax, values)
        ax.set_xlabel(printable(name), color=_INK)
        ax.set_ylabel(metric_words(board.metric), color=_INK)
        _legend(figure, ax, narrow)
        found.append((f"{method}: {name}", _svg(figure, f"{method} against {name}")))
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
    figure, axes = _axes(len(shown), 2.5, "y", narrow=narrow)
    for ax, (name, found) in zip(axes, shown):
        values = [value for value, _ in found]
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        if numbers and min(values) > 0 and max(values) / min(values) > 20:
            _log(ax, values, most=4)
        elif numbers:
            ax.locator_params(axis="x", nbins=4)
        for value, score in found:
            place = value if numbers else _wrapped(printable(str(value)), _LETTERS)
            ax.plot([place], [score], "o", markersize=4.5,
                    color=_SERIES[1] if score == best else _SERIES[0])  # fmt: skip
        if not numbers and sum(len(str(value)) for value in set(map(str, values))) > _LETTERS:
            ax.tick_params(axis="x", labelrotation=30)
            for label in ax.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        ax.set_xlabel(printable(name), color=_INK)
    return _svg(figure, f"Trials of {row.label}")


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
        "train_loss": ("training", {"color": _SERIES[0], "linewidth": 2}),
        "valid_loss": ("validation", {"color": _SERIES[1], "linewidth": 2}),
    }
    shares: dict[str, tuple[str, dict[str, Any]]] = {
        "train_active_hinges": ("active hinges", {"color": _SERIES[2]}),
        "dead_units": ("dead units", {"color": _SERIES[3]}),
        _RATIO: ("loss / loss of equal outputs", {"color": _INK, "linestyle": _CHANCE}),
    }
    cosines = [name for name in names if name.startswith("cosine_")]
    for i, name in enumerate(cosines):
        words = f"cosine, {name.removeprefix('cosine_')}"
        style = {"color": _SERIES[4 + i % 2], "linestyle": _TERMS[i // 2 % len(_TERMS)]}
        shares[name] = (words, style)
    other = re.compile(r"train_(loss|active_hinges|batch_count)$|.*_best$")
    terms = [name for name in names if name.startswith("train_") and not other.match(name)]
    for name, line in zip(terms if len(terms) > 1 else (), _TERMS):
        losses[name] = (name.removeprefix("train_"), {"color": _SOFT, "linestyle": line})
    panels = [("loss", losses), ("fraction", shares)]
    panels = [(title, lines) for title, lines in panels if lines.keys() & names.keys()]
    if not panels:
        return None
    figure, axes = _axes(len(panels), 2.8, "x", narrow=narrow)
    for ax, (title, lines) in zip(axes, panels):
        for name, (words, style) in lines.items():
            label: str | None = printable(words).replace("_", " ")
            for history in histories:
                points = points_of(history, name)
                if points:
                    marker = "." if len(points) == 1 else ""
                    ax.plot(*zip(*points), label=label, marker=marker, **style)
                    label = None
        ax.set_xlabel("epoch", color=_INK)
        _title(ax, title)
        if title == "fraction":
            ax.set_ylim(min(0, ax.get_ylim()[0]), 1.03)
    _legend(figure, axes, narrow)
    return _svg(figure, f"Training of {row.label}")


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
    figure, axes = _axes(1, 0.9 + 0.22 * len(words), narrow=True)
    ax = axes[0]
    # The opacity of one colour is used as a colour map, so that it works on light and dark pages.
    share = np.asarray(weights, np.float64) / max(float(np.max(weights)), 1e-12)
    for t, row in enumerate(share):
        for r, value in enumerate(row):
            ax.barh(-t, 1, left=r, height=1, color=_SERIES[0], alpha=float(value), linewidth=0)
    ax.set_xlim(0, share.shape[1])
    ax.set_ylim(-len(words) + 0.5, 0.5)
    ax.set_yticks([-t for t in range(len(words))], [printable(word) for word in words])
    ax.grid(visible=False)
    ax.set_xlabel("region", color=_INK)
    return _svg(figure, "Attention of words to regions")
