"""Figures as SVG in the colours of a page, light or dark: panels, scales and legends."""

from __future__ import annotations

import hashlib
import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from crossfit._text import printable

__all__ = [
    "CHANCE",
    "GRID",
    "INK",
    "LETTERS",
    "Plot",
    "SERIES",
    "SOFT",
    "as_svg",
    "drawn",
    "heading",
    "in_panels",
    "label_y",
    "legend",
    "log_scale",
    "wrapped",
]

# Placeholders, which are replaced by the colours of the page, so that plots can be light or dark.
INK, GRID, SOFT = "#010203", "#040506", "#070809"
SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
_COLOURS = {
    INK: "var(--ink)",
    GRID: "var(--rule)",
    SOFT: "var(--faint)",
    **{colour: f"var(--series-{i + 1})" for i, colour in enumerate(SERIES)},
}
CHANCE = (0, (4, 3))
#: Width of a figure for phones in inches, and of the names of methods in it in letters.
_NARROW, LETTERS = 4.4, 18


def in_panels(n: int, height: float, share: str = "xy", *, narrow: bool = False) -> tuple[Any, Any]:
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
        ax.spines[["left", "bottom"]].set_color(GRID)
        ax.tick_params(colors=INK, labelsize=10, color=GRID, which="both")
        if narrow:
            ax.tick_params(labelbottom=True)
        ax.grid(color=GRID, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def as_svg(figure: Any, words: str) -> str:
    """Return a figure as SVG that takes the colours of the page; `words` describe it."""
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


def heading(ax: Any, words: str) -> None:
    """Set the title of a panel."""
    ax.set_title(printable(words), color=INK, fontsize=11, loc="left")


def log_scale(ax: Any, values: Collection[float], most: int = 5) -> None:
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


def legend(figure: Any, axes: Any, narrow: bool) -> None:
    """Put the labels of one or more panels below them."""
    found = [ax.get_legend_handles_labels() for ax in np.atleast_1d(axes)]
    handles, labels = (list(chain.from_iterable(part)) for part in zip(*found, strict=True))
    if narrow:
        labels = [wrapped(label, 2 * LETTERS) for label in labels]
        figure.set_figheight(figure.get_figheight() + 0.22 * len("\n".join(labels).split("\n")))
    if handles:
        figure.legend(
            handles, labels, loc="outside lower left", ncols=1 if narrow else 4, frameon=False,
            labelcolor=INK, fontsize=9.5, handlelength=2.4, columnspacing=1.6,
        )  # fmt: skip


def wrapped(label: str, letters: int) -> str:
    """Return a label on at most two lines."""
    return "\n".join(textwrap.wrap(label, letters, max_lines=2, placeholder="…"))


def label_y(axes: Any, words: str, narrow: bool) -> None:
    """Label the vertical axis, only once if panels are side by side."""
    for ax in axes if narrow else axes[:1]:
        ax.set_ylabel(words, color=INK)


@dataclass(frozen=True)
class Plot:
    """A plot in two versions, with panels side by side and, for phones, below each other."""

    title: str
    wide: str
    narrow: str
    caption: str


def drawn(title: str, draw: Callable[..., str | None], caption: str) -> list[Plot]:
    """Return a plot in both versions in a list, which is empty if there is nothing to draw."""
    wide = draw(narrow=False)
    return [Plot(title, wide, draw(narrow=True) or "", caption)] if wide else []
