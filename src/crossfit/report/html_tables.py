"""Sortable tables of a page: leaderboard, published figures, cost, hubness and others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from crossfit.report.columns import LeaderboardColumn, Shown, columns_of
from crossfit.report.format import digits_of, figure, interval_figure, metric_words, p_figure
from crossfit.report.leaderboard import Board, Row

__all__ = [
    "Cell",
    "Column",
    "Line",
    "Table",
    "abstention_table",
    "cost_table",
    "differences_table",
    "hubness_table",
    "leaderboard_table",
    "pair_tables",
    "published_table",
    "ties_table",
]

#: Largest number of methods for which there is a table of all pairs.
_MATRIX = 30


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, the text below it, and the value by which rows are sorted."""

    text: str
    below: str = ""
    value: float = math.nan
    kind: str = ""
    bar: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Column:
    """A column: its heading, its style, its order after the first click, and its tooltip."""

    head: str
    kind: str = ""
    ascending: bool = False
    title: str = ""


@dataclass(frozen=True)
class Line:
    """A row: the label of the method, the text below it, and the cells."""

    label: str
    detail: str
    cells: Sequence[Cell]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table that can be sorted; `groups` are the headings above the columns."""

    caption: str
    groups: Sequence[tuple[str, int]]
    columns: Sequence[Column]
    lines: Sequence[Line]

    def __post_init__(self) -> None:
        n = len(self.columns)
        spans = sum(span for _, span in self.groups)
        if self.groups and spans != n:
            raise ValueError(
                f"{self.caption}: groups span {spans} columns, but there are {n}; they must span "
                "all"
            )
        for line in self.lines:
            if len(line.cells) != n:
                raise ValueError(
                    f"{self.caption}: {line.label!r} has {len(line.cells)} cells for {n} columns; "
                    "give it one per column"
                )


def leaderboard_table(board: Board) -> Table:
    """Build the table of a leaderboard: rank, mean and p-value, followed by all figures."""
    columns = [column for column in columns_of(board) if column.is_in("page")]
    groups = [(words, len([*members])) for words, members in groupby(c.group for c in columns)]
    scale = _Scale(board, (row.repeats.interval(None, board.metric) for row in board.rows))

    def cell(column: LeaderboardColumn, shown: Shown, bar: Sequence[float]) -> Cell:
        return Cell(
            shown.on_page or shown.text,
            shown.comment or _below(shown),
            shown.value,
            shown.style or column.style,
            scale.bar(*bar) if column.style == "main" else None,
        )

    lines = []
    for row in board.rows:
        cells = []
        for column in columns:
            shown = column.row(row)
            low, high = shown.bounds
            cells.append(cell(column, shown, (low, shown.value, high)))
        best = board.ranks[row.label][0] == 1
        lines.append(Line(row.label, _detail(row), cells, "top" if best else ""))
    if board.chance:
        cells = [cell(column, column.chance, [column.chance.value] * 3) for column in columns]
        lines.append(Line("chance", "ranking at random (exact)", cells, "chance"))
    heads = [Column(c.head, c.style, c.ascending, c.tooltip) for c in columns]
    return Table(f"Leaderboard of {board.title}", groups, heads, lines)


class _Scale:
    """Positions of intervals on a line from the lowest to the highest of them, chance included."""

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


def _below(shown: Shown) -> str:
    parts = [interval_figure(shown.bounds, shown.digits)]
    if not math.isnan(shown.spread):
        parts.append(f"± {figure(shown.spread, shown.digits).removeprefix('0')}")
    return "\n".join(part for part in parts if part)


def _detail(row: Row) -> str:
    n = len(row.repeats.evaluations)
    return "; ".join(part for part in (row.detail, f"{n} seeds" if n > 1 else "") if part)


def published_table(board: Board) -> Table | None:
    """Build the table of published and obtained figures; None if nothing is published."""
    lines = []
    for row in board.rows:
        for (direction, metric), published in row.published.items():
            known = metric in row.repeats.metrics and direction in (None, *board.directions)
            value = row.repeats.mean(direction, metric) if known else math.nan
            low, high = row.repeats.interval(direction, metric) if known else (math.nan, math.nan)
            digits = digits_of(metric)
            gap = value - published
            inside = "–" if math.isnan(low) else "yes" if low <= published <= high else "no"
            cells = [
                Cell(metric_words(metric), kind="left"),
                Cell(_where(direction), kind="left"),
                Cell(figure(published, digits), value=published),
                Cell(figure(value, digits), interval_figure((low, high), digits), value),
                Cell("–" if math.isnan(gap) else f"{gap:+.{digits}f}".replace("-", "−"),
                      value=gap),
                Cell(inside),
            ]  # fmt: skip
            lines.append(Line(row.label, "", cells))
    for paper in board.quoted:
        for (direction, metric), published in paper.published.items():
            cells = [
                Cell(metric_words(metric), kind="left"),
                Cell(_where(direction), kind="left"),
                Cell(figure(published, digits_of(metric)), value=published),
                *[Cell("–")] * 3,
            ]
            lines.append(Line(paper.label, paper.note, cells))
    if not lines:
        return None
    heads = ("metric", "direction", "published", "obtained", "difference", "in the interval")
    kinds = ("left", "left", "", "", "", "")
    columns = [Column(head, kind) for head, kind in zip(heads, kinds)]
    return Table(f"Published and obtained figures, {board.title}", (), columns, lines)


def _where(direction: str | None) -> str:
    # A published direction that was not evaluated is a string, as in the experiment.
    return "mean" if direction is None else getattr(direction, "label", direction)


def cost_table(board: Board) -> Table | None:
    """Build the table of times, memory and sizes; None if only times are known."""
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
            cells.append(Cell(text.replace(",", "\u202f"), value=value))
        lines.append(Line(row.label, "", cells))
    return Table(
        f"Time, memory and size, {board.title}",
        (),
        [Column(head, "", True) for _, head, _ in shown],
        lines,
    )


def differences_table(board: Board) -> Table | None:
    """Build the table of planned comparisons; None if the experiment does not plan any."""
    if not board.differences:
        return None
    digits = digits_of(board.tested)
    lines = []
    for test in board.differences:
        by_seed = board.difference_by_seed(test.first, test.second)
        low, high = (f"{bound:+.{digits}f}" for bound in (test.low, test.high))
        cells = [
            Cell(f"{test.difference:+.{digits}f}", value=test.difference),
            Cell(f"[{low}, {high}]"),
            Cell(p_figure(test.p_value), value=test.p_value),
            Cell(p_figure(test.p_adjusted), value=test.p_adjusted),
            Cell(", ".join(f"{value:+.{digits}f}" for value in by_seed)),
        ]
        lines.append(Line(f"{test.first} − {test.second}", "", cells))
    heads = ("difference", "95 % interval", "p", "p, Holm", "by seed")
    columns = [Column(head, "", head.startswith("p")) for head in heads]
    return Table(f"Planned comparisons, {board.title}", (), columns, lines)


def hubness_table(board: Board) -> Table | None:
    """Build the table of hubness in each direction; None if it was not measured."""
    heads = (("skewness", "skewness", 2), ("max", "largest", 0), ("never", "never found", 3))
    facts = [row.hubness for row in board.rows]
    return _by_direction(board, "Hubness", heads, facts)


def abstention_table(board: Board) -> Table | None:
    """Build the table of abstention in each direction; None if it was not measured."""
    heads = (("max", "highest score", 3), ("std", "spread", 3), ("diff1", "lead", 3))
    facts = [row.abstention for row in board.rows]
    return _by_direction(board, "Abstention", heads, facts)


def ties_table(board: Board) -> Table | None:
    """Build the table of how far ties could move the figures; None if there are none."""
    lines = []
    for row in board.rows:
        for direction in board.directions:
            for metric in board.metrics:
                found = row.ties.get((direction, metric), {})
                if not found.get("tied"):
                    continue
                digits = digits_of(metric)
                values = (found["worst"], row.repeats.mean(direction, metric), found["best"])
                cells = [
                    Cell(metric_words(metric), kind="left"),
                    Cell(direction.label, kind="left"),
                    *(Cell(figure(value, digits), value=value) for value in values),
                    Cell(f"{found['tied']:.1%}", value=found["tied"]),
                ]
                lines.append(Line(row.label, "", cells))
    if not lines:
        return None
    heads = ("metric", "direction", "worst", "reported", "best", "queries with ties")
    kinds = ("left", "left", "", "", "", "")
    columns = [Column(head, kind) for head, kind in zip(heads, kinds)]
    return Table(f"Range of ties, {board.title}", (), columns, lines)


def _by_direction(
    board: Board,
    caption: str,
    heads: Sequence[tuple[str, str, int]],
    facts: Sequence[Mapping[str, Mapping[str, float]]],
) -> Table | None:
    if not any(facts):
        return None
    columns, groups = [], [("", 0)]
    for direction in board.directions:
        groups.append((direction.label, len(heads)))
        columns += [Column(head, "first" if not j else "", True)
                    for j, (_, head, _) in enumerate(heads)]  # fmt: skip
    lines = []
    for row, known in zip(board.rows, facts, strict=True):
        cells = []
        for direction in board.directions:
            about: Mapping[str, float] = known.get(direction, {})
            for j, (key, _, digits) in enumerate(heads):
                value = about.get(key, math.nan)
                cells.append(
                    Cell(figure(value, digits), value=value, kind="first" if not j else "")
                )
        lines.append(Line(row.label, "", cells))
    return Table(f"{caption}, {board.title}", groups, columns, lines)


def pair_tables(board: Board) -> list[tuple[str, list[list[str]]]]:
    """Return the p-values of all pairs, below the diagonal, as a table per family of tests."""
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
