"""The report: one self-contained HTML page with leaderboards, plots and a retrieval gallery."""

from __future__ import annotations

import base64
import io
import math
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import crossfit
from crossfit._files import whole_file
from crossfit._text import printable
from crossfit.experiment.comparison import Result
from crossfit.metrics import (
    Repeats,
    chance_level,
    interpolated_precision_recall,
    parse_metric,
    recall_at_k_curve,
)
from crossfit.report import figures
from crossfit.report.leaderboard import LEVEL, Board, Row, merged, metric_words
from crossfit.scoring import relevance_of
from crossfit.views import Views, n_rows

__all__ = [
    "Attention",
    "Found",
    "Gallery",
    "GalleryRow",
    "Part",
    "Problem",
    "data_uri",
    "figure",
    "interval_figure",
    "lit",
    "p_figure",
    "write_page",
    "write_report",
    "write_text",
]

#: Longest side of a thumbnail in pixels.
_THUMBNAIL = 112
#: Methods up to which all pairs are laid out in a table.
_MATRIX = 30


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
    """A query with what it found, best first, and the rank of its first relevant item."""

    text: str
    picture: str
    rank: float
    found: Sequence[Found]


@dataclass(frozen=True)
class Gallery:
    """Queries of one direction with what they found.

    Parameters
    ----------
    title : str
        Heading.
    rows : sequence of GalleryRow
        The queries.
    own : str
        What the rank is of: "own picture".
    note : str
        How the queries were chosen.
    """

    title: str
    rows: Sequence[GalleryRow]
    own: str
    note: str = ""


@dataclass(frozen=True)
class Attention:
    """Where a method looks: on a picture, in a text, or between words and regions.

    Parameters
    ----------
    caption : str
        Of which pair.
    picture : str
        A data URI of the picture, lit where the weights are, or empty.
    words : sequence of (str, float)
        Words with their weight as a share of the largest.
    svg : str
        A plot of words against regions, or empty.
    """

    caption: str
    picture: str = ""
    words: Sequence[tuple[str, float]] = ()
    svg: str = ""


@dataclass(frozen=True)
class Problem:
    """A cell that has no result, and why."""

    label: str
    dataset: str
    seed: int
    status: str
    reason: str
    traceback: str = ""


@dataclass(frozen=True, eq=False)
class Part:
    """A leaderboard with what belongs to it.

    Parameters
    ----------
    board : Board
        The leaderboard.
    galleries : sequence of Gallery
        Queries with what they found.
    gallery_note : str
        What answered them, or why there is no gallery.
    attention : sequence of Attention
        Attention maps.
    relevant : str
        What recall counts: ``"their own pair"`` or ``"a relevant item"``.
    labelled : bool
        Whether the gallery tells items of the same class from others.
    """

    board: Board
    galleries: Sequence[Gallery] = ()
    gallery_note: str = ""
    attention: Sequence[Attention] = ()
    relevant: str = "their own pair"
    labelled: bool = True


def write_page(
    path: Path,
    *,
    title: str,
    lead: str,
    parts: Sequence[Part],
    reduced: str = "",
    notes: Sequence[str] = (),
    problems: Sequence[Problem] = (),
    facts: Sequence[tuple[str, str]] = (),
    sources: Sequence[tuple[str, str]] = (),
    footer: str = "",
) -> None:
    """Write a page; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
        The HTML file; its folder is made.
    title, lead : str
        Heading and first sentences.
    parts : sequence of Part
        Leaderboards, one a data set.
    reduced : str
        What to say of a reduced experiment, empty for a full one.
    notes : sequence of str
        What a reader must know before the figures.
    problems : sequence of Problem
        Cells without a result.
    facts : sequence of (str, str)
        What else to state: split sizes, settings, versions, times.
    sources : sequence of (str, str)
        Experiments by name, as their files have them.
    footer : str
        Attribution.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("crossfit.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        # Labels, texts and reasons are other people's words.
        finalize=lambda value: printable(value, lines=True) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=figure, p=p_figure, metric=metric_words, interval=interval_figure
    )
    html = environment.get_template("report.html.j2").render(
        title=title,
        lead=lead,
        parts=[_prepared(part, i) for i, part in enumerate(parts)],
        reduced=reduced,
        notes=notes,
        problems=problems,
        facts=facts,
        sources=sources,
        footer=footer,
    )
    write_text(path, html)


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
    attention: Sequence[Attention] = (),
    facts: Sequence[tuple[str, str]] = (),
    footer: str = "",
) -> None:
    """Write a report of methods that were just evaluated; it appears whole or not at all.

    Parameters
    ----------
    path : Path
        The HTML file; its folder is made.
    title, lead : str
        Heading and first sentences.
    results : sequence of Result
        Rows of the leaderboard, chance among them.
    views : Views
        The test pairs, for the curves.
    text_queries, picture_queries : sequence of GalleryRow
        The retrieval gallery.
    gallery_note : str
        How the gallery's queries were chosen.
    attention : sequence of Attention
        Where a method looks.
    facts : sequence of (str, str)
        What else to state: split sizes, settings, versions, times.
    footer : str
        Attribution.
    """
    methods = [result for result in results if result.scores is not None]
    labelled = methods[0].by_label is not None
    galleries = [
        Gallery(heading, rows, own)
        for heading, rows, own in (
            ("Texts, and the pictures found", text_queries, "own picture"),
            ("Pictures, and the texts found", picture_queries, "own text"),
        )
        if rows
    ]
    board = Board(
        "Leaderboard",
        [_row(result, views) for result in methods],
        ("map@all", "r@1", "r@5", "r@10", "medr") if labelled else ("r@1", "r@5", "r@10", "medr"),
        "mAP: an item is relevant if it shares the query's class. R@K and the median rank (MedR): "
        "only the query's own pair is."
        if labelled
        else "Only the query's own pair is relevant.",
        _chance_of(results, views),
    )
    write_page(
        path,
        title=title,
        lead=lead,
        parts=[Part(board, galleries, gallery_note, attention, labelled=labelled)],
        facts=[*facts, *_versions()],
        footer=footer,
    )


def _row(result: Result, views: Views) -> Row:
    found = [ev for ev in (result.by_label, result.by_pair) if ev is not None]
    direction = result.by_pair.directions[0]
    pairs = relevance_of(views, direction.query, direction.gallery, None)
    curves: dict[str, dict[str, Any]] = {}
    for side, direction in zip(("forward", "backward"), result.by_pair.directions):
        recall = recall_at_k_curve(result.scores, pairs, _cut_offs(views), direction=side)
        precision = interpolated_precision_recall(result.scores, pairs, direction=side)
        curves[direction] = {"recall": recall}
        if result.by_label is None:
            curves[direction]["pr"] = precision
    return Row(
        result.name,
        Repeats([merged(*found)]),
        result.detail,
        curves=curves,
        costs={"fit": result.fit_seconds, "score": result.score_seconds},
    )


def _cut_offs(views: Views) -> list[int]:
    smallest = min(n_rows(views.distinct(name)[0]) for name in views.names)
    return np.unique(np.geomspace(1, min(100, smallest), 24).astype(int)).tolist()


def _chance_of(results: Sequence[Result], views: Views) -> dict[tuple[str, str], float]:
    baseline = next((result for result in results if result.scores is None), None)
    if baseline is None:
        return {}
    forward = baseline.by_pair.directions[0]
    query, gallery = forward.query, forward.gallery
    curve = chance_level(
        relevance_of(views, query, gallery, None),
        [f"r@{k}" for k in _cut_offs(views)],
        names=(query, gallery),
    )
    found = [ev for ev in (baseline.by_label, baseline.by_pair, curve) if ev is not None]
    return {
        (direction, metric): ev.mean(direction, metric)
        for ev in found
        for direction in ev.directions
        for metric in ev.metrics
    }


def write_text(path: Path, text: str) -> None:
    """Write a file by way of a temporary one, so that an interruption leaves nothing broken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, "a text") as draft:
        draft.write_text(text, encoding="utf-8")


def data_uri(image: Any, longest: int = _THUMBNAIL) -> str:
    """Return a picture as a data URI: small ones as they are, larger ones as a thumbnail.

    Parameters
    ----------
    image : path-like, PIL image or ndarray
        What `crossfit.extraction.load_rgb` takes.
    longest : int
        Longest side in pixels.
    """
    from PIL import Image

    from crossfit.extraction import load_rgb

    picture = Image.fromarray(load_rgb(image))
    buffer = io.BytesIO()
    if max(picture.size) <= longest:
        kind = "png"
        picture.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        picture.thumbnail((longest, longest))
        picture.save(buffer, "JPEG", quality=72, optimize=True)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def lit(image: Any, weights: Any, boxes: Any) -> NDArray[np.uint8]:
    """Darken a picture except where the weights of its regions are high.

    Parameters
    ----------
    image : path-like, PIL image or ndarray
        What `crossfit.extraction.load_rgb` takes.
    weights : array-like of shape (R,)
        Not negative.
    boxes : array-like of shape (R, 4)
        Left, top, right and bottom as shares of the picture.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        A pixel is as bright as the heaviest of the regions that hold it.
    """
    from crossfit.extraction import load_rgb

    pixels = load_rgb(image)
    height, width = pixels.shape[:2]
    light = np.zeros((height, width))
    corners = np.asarray(boxes, np.float64) * (width, height, width, height)
    for weight, (left, top, right, bottom) in zip(weights, corners.round().astype(int)):
        part = light[top:bottom, left:right]
        np.maximum(part, weight, out=part)
    share = light / max(light.max(), 1e-12)
    return (pixels * (0.2 + 0.8 * share[..., None])).astype(np.uint8)


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number as tables show it; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def interval_figure(bounds: tuple[float, float], digits: int = 3) -> str:
    """Return an interval as tables show it, without leading zeros; empty where there is none."""
    if any(math.isnan(bound) for bound in bounds):
        return ""
    return "–".join(re.sub(r"^0(?=\.)", "", f"{bound:.{digits}f}") for bound in bounds)


def p_figure(value: float) -> str:
    """Return a p-value as tables show it."""
    if math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def digits_of(metric: str) -> int:
    """Return how many decimals a metric is shown with."""
    return 1 if parse_metric(metric).kind in ("medr", "meanr") else 3


def rank_figure(ranks: tuple[int, int]) -> str:
    """Return a range of ranks as tables show it."""
    low, high = ranks
    return str(low) if low == high else f"{low}–{high}"


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


# ---------------------------------------------------------------- what the template shows


@dataclass(frozen=True)
class _Cell:
    """A cell of a table: what it says, what stands below, and what it is sorted by."""

    text: str
    below: str = ""
    value: float = math.nan
    kind: str = ""
    bar: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class _Column:
    head: str
    kind: str = ""
    ascending: bool = False
    title: str = ""


@dataclass(frozen=True)
class _Line:
    label: str
    detail: str
    cells: Sequence[_Cell]
    kind: str = ""


@dataclass(frozen=True)
class _Table:
    """A table that can be sorted; `groups` are the headings above the columns."""

    caption: str
    groups: Sequence[tuple[str, int]]
    columns: Sequence[_Column]
    lines: Sequence[_Line]


@dataclass(frozen=True)
class _Plot:
    title: str
    svg: str
    caption: str


@dataclass(frozen=True, eq=False)
class _Prepared:
    part: Part
    anchor: str
    leaderboard: _Table
    tests: str
    first: Sequence[_Plot]
    plots: Sequence[_Plot]
    searches: Sequence[_Plot]
    published: _Table | None
    cost: _Table | None
    hubness: _Table | None
    matrices: Sequence[tuple[str, Sequence[Sequence[str]]]] = field(default_factory=tuple)
    problems: Sequence[str] = ()


def _prepared(part: Part, i: int) -> _Prepared:
    board = part.board
    return _Prepared(
        part,
        f"board-{i + 1}",
        _leaderboard(board),
        about_tests(board),
        _plots_first(board),
        _plots(board, part.relevant),
        [
            _Plot(row.label, svg, "Every trial by its score in the search; the best is orange.")
            for row in board.rows
            if (svg := figures.search(row))
        ],
        _published(board),
        _cost(board),
        _hubness(board),
        _matrices(board),
        board.problems(),
    )


def _leaderboard(board: Board) -> _Table:
    main, directions = board.metric, board.directions
    several = len(board.rows) > 1
    columns = [_Column("rank", "rank", True, "ranks that the tests leave open")]
    columns.append(_Column(metric_words(main), "main", not parse_metric(main).greater_is_better))
    if several:
        of = "" if board.tested == board.metric else ", of the mean rank"
        columns.append(_Column("p", "", True, f"against {board.reference}, Holm-corrected{of}"))
    groups = [("", 1), ("mean of directions", len(columns) - 1)]
    for direction in directions:
        groups.append((direction.label, len(board.metrics)))
        columns += [
            _Column(
                metric_words(metric),
                "first" if not j else "",
                not parse_metric(metric).greater_is_better,
            )
            for j, metric in enumerate(board.metrics)
        ]
    timed = any(not math.isnan(row.costs.get("fit", math.nan)) for row in board.rows)
    if timed:
        groups.append(("", 1))
        columns.append(_Column("fit, s", "first", True, "wall time of one fit"))
    ranges = {row.label: row.repeats.interval(None, main) for row in board.rows}
    scale = _Scale(board, ranges.values())
    lines = []
    for i, row in enumerate(board.rows):
        mean = row.repeats.mean(None, main)
        low, high = ranges[row.label]
        bar = scale.bar(low, mean, high)
        best = board.ranks[row.label]
        cells = [_Cell(rank_figure(best), "", i + 1, "rank")]
        cells.append(_Cell(figure(mean, digits_of(main)), _below(row, None, main), mean, "main",
                           bar))  # fmt: skip
        if several:
            p = board.p_value(row.label)
            is_reference = row.label == board.reference
            cells.append(
                _Cell("baseline" if board.baseline else "best", value=0.0, kind="soft")
                if is_reference
                else _Cell(
                    p_figure(p),
                    _compared(board, row.label, board.reference),
                    p,
                    "strong" if p <= LEVEL else "soft",
                )
            )
        for direction in directions:
            for j, metric in enumerate(board.metrics):
                value = row.repeats.mean(direction, metric)
                cells.append(_Cell(figure(value, digits_of(metric)), _below(row, direction, metric),
                                   value, "first" if not j else ""))  # fmt: skip
        if timed:
            seconds = row.costs.get("fit", math.nan)
            cells.append(_Cell(figure(seconds, 2), value=seconds, kind="first"))
        lines.append(_Line(row.label, _detail(row), cells, "top" if best[0] == 1 else ""))
    if board.chance:
        lines.append(_chance_line(board, scale, several, timed))
    return _Table(f"Leaderboard of {board.title}", groups, columns, lines)


class _Scale:
    """Places of intervals on a line from the lowest to the highest of them, chance included."""

    def __init__(self, board: Board, ranges: Iterable[tuple[float, float]]) -> None:
        ends = [end for bounds in ranges for end in bounds]
        ends.append(
            float(np.mean([board.chance.get((d, board.metric), math.nan)
                           for d in board.directions]))
        )  # fmt: skip
        known = [end for end in ends if not math.isnan(end)]
        self.low, self.high = (min(known), max(known)) if known else (0.0, 0.0)

    def bar(self, *values: float) -> tuple[float, float, float] | None:
        if any(map(math.isnan, values)) or self.low == self.high:
            return None
        low, middle, high = ((v - self.low) / (self.high - self.low) for v in values)
        return low, middle, high


def _compared(board: Board, label: str, other: str) -> str:
    """Say whether a method is better or worse than another, where the test says it."""
    if not board.p_value(label, other) <= LEVEL:
        return ""
    test = next(t for t in board.comparisons[None] if {t.first, t.second} == {label, other})
    gain = test.difference if test.first == label else -test.difference
    greater = parse_metric(board.tested).greater_is_better
    return "better" if (gain > 0) == greater else "worse"


def _below(row: Row, direction: str | None, metric: str) -> str:
    digits = digits_of(metric)
    parts = [interval_figure(row.repeats.interval(direction, metric), digits)]
    spread = row.repeats.spread(direction, metric)
    if not math.isnan(spread):
        parts.append(f"± {figure(spread, digits).removeprefix('0')}")
    return "\n".join(part for part in parts if part)


def _detail(row: Row) -> str:
    n = len(row.repeats.evaluations)
    return "; ".join(part for part in (row.detail, f"{n} seeds" if n > 1 else "") if part)


def _chance_line(board: Board, scale: _Scale, several: bool, timed: bool) -> _Line:
    values = [board.chance.get((d, board.metric), math.nan) for d in board.directions]
    mean = float(np.mean(values))
    bar = scale.bar(mean, mean, mean)
    cells = [_Cell("", kind="rank"), _Cell(figure(mean, digits_of(board.metric)), "", mean, "main",
                                           bar)]  # fmt: skip
    cells += [_Cell("–")] if several else []
    for direction in board.directions:
        for j, metric in enumerate(board.metrics):
            value = board.chance.get((direction, metric), math.nan)
            cells.append(
                _Cell(figure(value, digits_of(metric)), "", value, "first" if not j else "")
            )
    cells += [_Cell("–", kind="first")] if timed else []
    return _Line("chance", "ranking at random, exactly", cells, "chance")


def about_tests(board: Board) -> str:
    """Return in a sentence which method is shown to be the best."""
    if len(board.rows) < 2:
        return ""
    if None not in board.comparisons:
        return "The queries have no groups in common over the directions: see the tests below."
    what = "mean rank" if board.tested == "meanr" else metric_words(board.metric)
    labels = [row.label for row in board.rows]
    first, others = labels[0], labels[1:]
    found = {label: _compared(board, label, first) for label in others}
    ahead = [label for label in others if found[label] == "better"]
    tied = [label for label in others if not found[label]]
    n_pairs = len(board.comparisons[None])
    if ahead:
        said = f"{first} comes first by {metric_words(board.metric)}, but {_listed(ahead)} "
        said += "is better" if len(ahead) == 1 else "are better"
        said += f" and {_listed(tied)} cannot be told apart from it" if tied else ""
    elif not tied:
        said = f"{first} is better than {others[0] if n_pairs == 1 else 'every other method'}"
    elif tied == others and n_pairs > 1:
        said = "No method can be told apart from the best"
    else:
        said = f"{first} cannot be told apart from {_listed(tied)}"
    corrected = "" if n_pairs == 1 else f"Holm-corrected over all {n_pairs} pairs of methods, "
    tests = "test" if n_pairs == 1 else "tests"
    return (
        f"{said} in {what}, averaged over the directions (paired randomisation {tests} over "
        f"queries, groups kept together, {corrected}level {LEVEL:g})." + _about_disagreement(board)
    )


def _about_disagreement(board: Board) -> str:
    """Say where the order of the rows, by the median rank, is not that of the mean rank."""
    place = {row.label: i for i, row in enumerate(board.rows)}
    pairs = [
        f"{test.first} and {test.second}"
        for test in board.comparisons[None] if board.tested != board.metric
        if test.p_adjusted <= LEVEL
        and (test.difference < 0) != (place[test.first] < place[test.second])
    ]  # fmt: skip
    if not pairs:
        return ""
    return (
        " The rows are in the order of the median rank; tests and ranks are of the mean rank, "
        f"which a few very late ranks raise. The two disagree on {'; '.join(pairs)}."
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _plots_first(board: Board) -> list[_Plot]:
    caption = f"{metric_words(board.metric)} with 95 % intervals over queries"
    if board.chance:
        caption += "; the dashed line is chance"
    if any(metric == board.metric and d is not None for row in board.rows
           for d, metric in row.published):  # fmt: skip
        caption += "; diamonds are published figures"
    return [_Plot("", figures.intervals(board), f"{caption}.")]


def _plots(board: Board, relevant: str) -> list[_Plot]:
    candidates = [
        (
            "Recall",
            figures.curves(board, "recall"),
            f"Share of queries with {relevant} among the first K.",
        ),
        (
            "Precision and recall",
            figures.curves(board, "pr"),
            "Interpolated precision at each recall, averaged over queries.",
        ),
        (
            "Score against cost and size",
            figures.costs(board),
            f"{metric_words(board.metric)}, mean of the directions; the numbers are places in "
            "the leaderboard.",
        ),
        *(
            (f"Score against a parameter, {name}", svg, "Bands are 95 % intervals over queries.")
            for name, svg in figures.sweeps(board)
        ),
        ("Training", figures.training(board), "One line a seed."),
    ]
    return [_Plot(title, svg, caption) for title, svg, caption in candidates if svg]


def _published(board: Board) -> _Table | None:
    lines = []
    for row in board.rows:
        for (direction, metric), said in row.published.items():
            known = metric in row.repeats.metrics and direction in (None, *board.directions)
            value = row.repeats.mean(direction, metric) if known else math.nan
            low, high = row.repeats.interval(direction, metric) if known else (math.nan, math.nan)
            digits = digits_of(metric)
            gap = value - said
            inside = "–" if math.isnan(low) else "yes" if low <= said <= high else "no"
            cells = [
                _Cell(metric_words(metric), kind="left"),
                _Cell(_where(direction), kind="left"),
                _Cell(figure(said, digits), value=said),
                _Cell(figure(value, digits), interval_figure((low, high), digits), value),
                _Cell("–" if math.isnan(gap) else f"{gap:+.{digits}f}".replace("-", "−"),
                      value=gap),
                _Cell(inside),
            ]  # fmt: skip
            lines.append(_Line(row.label, "", cells))
    if not lines:
        return None
    heads = ("metric", "direction", "published", "obtained", "difference", "in the interval")
    kinds = ("left", "left", "", "", "", "")
    columns = [_Column(head, kind) for head, kind in zip(heads, kinds)]
    return _Table(f"Published and obtained figures, {board.title}", (), columns, lines)


def _where(direction: str | None) -> str:
    # What was published of a direction that was not evaluated is named as it was written.
    return "mean" if direction is None else getattr(direction, "label", direction)


def _cost(board: Board) -> _Table | None:
    known = [
        ("tune", "tuning, s", 1), ("fit", "fit, s", 2), ("score", "scoring, s", 2),
        ("peak", "peak memory, MiB", 0), ("parameters", "parameters", -1),
        ("dimensions", "dimensions", -1),
    ]  # fmt: skip
    values = {row.label: {**row.costs, **row.size} for row in board.rows}
    shown = [
        (key, head, digits)
        for key, head, digits in known
        if any(not math.isnan(found.get(key, math.nan)) for found in values.values())
    ]
    if not any(key not in ("fit", "score") for key, _, _ in shown):
        return None
    lines = []
    for row in board.rows:
        cells = []
        for key, _, digits in shown:
            value = values[row.label].get(key, math.nan)
            text = figure(value, digits) if digits >= 0 or math.isnan(value) else f"{value:,.0f}"
            cells.append(_Cell(text.replace(",", "\u202f"), value=value))
        lines.append(_Line(row.label, "", cells))
    return _Table(
        f"Time, memory and size, {board.title}",
        (),
        [_Column(head, "", True) for _, head, _ in shown],
        lines,
    )


def _hubness(board: Board) -> _Table | None:
    if not any(row.hubness for row in board.rows):
        return None
    heads = (("skewness", "skewness", 2), ("max", "largest", 0), ("never", "never found", 3))
    columns, groups = [], [("", 0)]
    for direction in board.directions:
        groups.append((direction.label, len(heads)))
        columns += [_Column(head, "first" if not j else "", True)
                    for j, (_, head, _) in enumerate(heads)]  # fmt: skip
    lines = []
    for row in board.rows:
        cells = []
        for direction in board.directions:
            about: Mapping[str, float] = row.hubness.get(direction, {})
            for j, (key, _, digits) in enumerate(heads):
                value = about.get(key, math.nan)
                cells.append(
                    _Cell(figure(value, digits), value=value, kind="first" if not j else "")
                )
        lines.append(_Line(row.label, "", cells))
    return _Table(f"Hubness, {board.title}", groups, columns, lines)


def _matrices(board: Board) -> list[tuple[str, list[list[str]]]]:
    """P-values of all pairs, below the diagonal: a table for each family of tests."""
    if not 2 < len(board.rows) <= _MATRIX:
        return []
    found = []
    labels = [row.label for row in board.rows]
    for family in (None, *board.directions):
        if family not in board.comparisons:
            continue
        rows = [
            [p_figure(board.p_value(label, other, family)) for other in labels[:i]]
            for i, label in enumerate(labels)
        ]
        found.append(("mean of directions" if family is None else family.label, rows))
    return found
