"""The report: one self-contained HTML page with leaderboard, plots and a retrieval gallery."""

from __future__ import annotations

import base64
import io
import math
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import crossfit
from crossfit.experiment.comparison import Result, significance_marks
from crossfit.metrics import recall_at_k_curve
from crossfit.scoring import relevance_of
from crossfit.views import Views

__all__ = ["Found", "GalleryRow", "write_report", "write_text"]

# Stand-ins that the page replaces by its own colours, so that plots follow light and dark.
_INK, _GRID = "#010203", "#040506"
_SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")


@dataclass(frozen=True)
class Found:
    """One item that a query found.

    Parameters
    ----------
    text : str
        The item's text, or what to say of its picture.
    picture : str
        A data URI, or empty.
    verdict : {"pair", "relevant", "wrong"}
        The paired item itself, another of the same class, or neither.
    """

    text: str
    picture: str
    verdict: str


@dataclass(frozen=True)
class GalleryRow:
    """A query with what it found, best first, and the rank of its own pair."""

    text: str
    picture: str
    rank: int
    found: Sequence[Found]


def write_report(
    path: Path,
    *,
    title: str,
    lead: str,
    results: Sequence[Result],
    views: Views,
    text_queries: Sequence[GalleryRow] = (),
    picture_queries: Sequence[GalleryRow] = (),
    gallery_note: str = "",
    facts: Sequence[tuple[str, str]] = (),
    footer: str = "",
) -> None:
    """Write a report; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
        The HTML file; its folder is made.
    title, lead : str
        Heading and first sentences.
    results : sequence of Result
        Rows of the leaderboard, chance among them.
    views : Views
        The test pairs, for the recall curves.
    text_queries, picture_queries : sequence of GalleryRow
        The retrieval gallery.
    gallery_note : str
        How the gallery's queries were chosen.
    facts : sequence of (str, str)
        What else to state: split sizes, settings, versions, times.
    footer : str
        Attribution.
    """
    import jinja2

    methods = [r for r in results if r.scores is not None]
    methods.sort(key=_quality, reverse=True)
    baseline = next((r for r in results if r.scores is None), None)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("crossfit.experiment", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    html = environment.get_template("report.html.j2").render(
        title=title,
        lead=lead,
        methods=methods,
        baseline=baseline,
        directions=methods[0].by_pair.directions,
        p_values=significance_marks(methods) if methods[0].by_label is not None else {},
        plots=_plots(methods, baseline, views),
        text_queries=text_queries,
        picture_queries=picture_queries,
        gallery_note=gallery_note,
        facts=[*facts, *_versions()],
        footer=footer,
        arrow=lambda d: d.replace("2", " → "),
    )
    write_text(path, html)


def write_text(path: Path, text: str) -> None:
    """Write a file by way of a temporary one, so that an interruption leaves nothing broken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def data_uri(image: Any) -> str:
    """Return an RGB uint8 picture of shape (H, W, 3) as a PNG data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _quality(result: Result) -> float:
    if result.by_label is not None:
        return result.by_label.mean(None, "map@all")
    return result.by_pair.mean(None, "mrr")


def _figure(value: float, digits: int = 3) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _versions() -> list[tuple[str, str]]:
    import scipy
    import sklearn

    parts = (
        f"crossfit {crossfit.__version__}",
        f"Python {platform.python_version()}",
        f"numpy {np.__version__}",
        f"scipy {scipy.__version__}",
        f"scikit-learn {sklearn.__version__}",
    )
    return [("versions", ", ".join(parts))]


def _plots(
    methods: Sequence[Result], baseline: Result | None, views: Views
) -> list[dict[str, str]]:
    plots = []
    if methods[0].by_label is not None:
        plots.append(
            {
                "svg": _map_plot(methods, baseline),
                "caption": "mAP with 95 % intervals over queries; the dashed line is chance. "
                "An item is relevant if it shares the query's class.",
            }
        )
    plots.append(
        {
            "svg": _recall_plot(methods, baseline, views),
            "caption": "Share of queries whose own pair is among the first K.",
        }
    )
    return plots


def _axes(n: int, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, height), layout="constrained")
    axes = figure.subplots(1, n, sharex=True, sharey=True, squeeze=False)[0]
    for ax in axes:
        ax.patch.set_alpha(0)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(_GRID)
        ax.tick_params(colors=_INK, labelsize=10, color=_GRID)
        ax.grid(color=_GRID, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    # Text stays text (small, selectable), and ids do not change from run to run.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "crossfit"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = svg.replace(_INK, "var(--ink)").replace(_GRID, "var(--rule)")
    for i, colour in enumerate(_SERIES):
        svg = svg.replace(colour, f"var(--series-{i + 1})")
    return svg


def _map_plot(methods: Sequence[Result], baseline: Result | None) -> str:
    directions = methods[0].by_pair.directions
    figure, axes = _axes(len(directions), 0.8 + 0.42 * len(methods))
    for ax, direction in zip(axes, directions):
        for i, result in enumerate(methods):
            assert result.by_label is not None
            colour = _SERIES[i % len(_SERIES)]
            low, high = result.by_label.interval(direction, "map@all")
            mean = result.by_label.mean(direction, "map@all")
            ax.plot([low, high], [-i, -i], color=colour, linewidth=3, solid_capstyle="round")
            ax.plot([mean], [-i], "o", color=colour, markersize=8)
        if baseline is not None and baseline.by_label is not None:
            at = baseline.by_label.mean(direction, "map@all")
            ax.axvline(at, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
        ax.set_title(direction.replace("2", " → "), color=_INK, fontsize=11, loc="left")
        ax.set_xlim(left=0)
        ax.set_ylim(-len(methods) + 0.5, 0.5)
        ax.set_yticks([-i for i in range(len(methods))], [r.name for r in methods])
        ax.grid(visible=False, axis="y")
        ax.set_xlabel("mAP", color=_INK)
    return _svg(figure)


def _recall_plot(methods: Sequence[Result], baseline: Result | None, views: Views) -> str:
    query, gallery = methods[0].by_pair.directions[0].split("2")
    pairs = relevance_of(views, query, gallery, None)
    sides = ("forward", "backward")
    figure, axes = _axes(2, 3.4)
    for ax, side, direction in zip(axes, sides, methods[0].by_pair.directions):
        size = pairs.shape[1] if side == "forward" else pairs.shape[0]
        ks = np.unique(np.geomspace(1, min(100, size), 24).astype(int))
        for i, result in enumerate(methods):
            _, recall = recall_at_k_curve(result.scores, pairs, ks.tolist(), direction=side)
            ax.plot(ks, recall, color=_SERIES[i % len(_SERIES)], linewidth=2, label=result.name)
        _, recall = recall_at_k_curve(
            np.zeros(pairs.shape, np.float32), pairs, ks.tolist(), direction=side
        )
        ax.plot(ks, recall, color=_INK, linewidth=1, linestyle=(0, (4, 3)), label="chance")
        ax.set_xscale("log")
        ticks = [k for k in (1, 2, 5, 10, 20, 50, 100) if k <= ks[-1]]
        ax.set_xticks(ticks, [str(k) for k in ticks])
        ax.minorticks_off()
        ax.set_ylim(0, 1)
        ax.set_title(direction.replace("2", " → "), color=_INK, fontsize=11, loc="left")
        ax.set_xlabel("K", color=_INK)
    axes[0].set_ylabel("recall at K", color=_INK)
    axes[1].legend(frameon=False, labelcolor=_INK, fontsize=10, loc="upper left")
    return _svg(figure)
