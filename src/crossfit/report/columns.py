"""The columns of a leaderboard, in one list for the page, Markdown, LaTeX and CSV.

A column that is added in `columns_of` is in all four, except for those in its `elsewhere`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossfit.metrics import Direction, parse_metric
from crossfit.report.findings import compared
from crossfit.report.format import digits_of, figure, metric_words, p_figure, rank_figure
from crossfit.report.leaderboard import LEVEL, Board, Quoted, Row

__all__ = ["MEDIA", "LeaderboardColumn", "Shown", "columns_of"]

#: Media in which a leaderboard is shown.
MEDIA = ("page", "markdown", "latex", "csv")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The contents of a cell of a leaderboard, for all media.

    Parameters
    ----------
    text : str
        The text, or the number as text.
    value : float, default=nan
        Value by which rows are sorted on the page.
    bounds : (float, float), default=(nan, nan)
        The interval of the value.
    spread : float, default=nan
        The standard deviation between seeds.
    digits : int, default=3
        Number of decimals of interval and spread.
    comment : str, default=""
        Text below the cell on the page.
    on_page : str, default=""
        Text on the page; by default `text`.
    style : str, default=""
        CSS class of the cell on the page; by default that of the column.
    """

    text: str
    value: float = math.nan
    bounds: tuple[float, float] = (math.nan, math.nan)
    spread: float = math.nan
    digits: int = 3
    comment: str = ""
    on_page: str = ""
    style: str = ""


def _no_result(row: Quoted) -> Shown:
    return Shown(text="–")


@dataclass(frozen=True, kw_only=True)
class LeaderboardColumn:
    """A column of a leaderboard.

    Parameters
    ----------
    head : str
        Heading on the page, below that of the group.
    alone : str, default=""
        Heading in Markdown and LaTeX, which have no groups; by default `head`.
    latex : str, default=""
        Heading in LaTeX, as LaTeX source; by default `alone`.
    group : str, default=""
        Heading of the group on the page.
    tooltip : str, default=""
        Explanation on the page.
    style : str, default=""
        CSS class of the cells on the page.
    ascending : bool, default=False
        Whether the first click on the heading puts the smallest value first.
    is_text : bool, default=False
        Whether the column is aligned to the left.
    direction : Direction, optional
        Direction of the figures; by default the column is about the method as a whole.
    row : callable
        Function that returns the cell of a `Row`.
    chance : Shown
        Cell in the row of random ranking.
    quoted : callable
        Function that returns the cell of a `Quoted`; by default a dash.
    csv : mapping of str to callable, default={}
        Fields in CSV, each with a function of row, direction (None for the mean) and metric.
        Columns with the figures of a direction or of the mean do not need any, because CSV has a
        line for each figure.
    wanted : bool, default=True
        Whether the column is shown for this leaderboard. Its fields are in CSV in any case.
    elsewhere : mapping of str to str, default={}
        Media of `MEDIA` that do not have the column, with the reasons.
    """

    head: str
    alone: str = ""
    latex: str = ""
    group: str = ""
    tooltip: str = ""
    style: str = ""
    ascending: bool = False
    is_text: bool = False
    direction: Direction | None = None
    row: Callable[[Row], Shown]
    chance: Shown
    quoted: Callable[[Quoted], Shown] = _no_result
    csv: Mapping[str, Callable[[Row, Direction | None, str], Any]] = field(default_factory=dict)
    wanted: bool = True
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def is_in(self, medium: str) -> bool:
        """Return True if the column is shown in a medium."""
        return self.wanted and medium not in self.elsewhere


def columns_of(board: Board) -> list[LeaderboardColumn]:
    """Return the columns of a leaderboard after that of the method, in their order.

    Parameters
    ----------
    board : Board
        The leaderboard.
    """
    figures = [
        _figures(board, direction, metric, "" if j else "first")
        for direction in board.directions
        for j, metric in enumerate(board.metrics)
    ]
    return [_rank(board), _mean(board), _p_value(board), *figures, _published(board), _fit(board),
            _note(board), *_ties(board)]  # fmt: skip


def _rank(board: Board) -> LeaderboardColumn:
    place = {row.label: i for i, row in enumerate(board.rows, 1)}

    def bound(i: int) -> Callable[[Row, Direction | None, str], Any]:
        return lambda row, direction, metric: (
            board.ranks[row.label][i] if direction is None and metric == board.metric else ""
        )

    return LeaderboardColumn(
        head="rank",
        tooltip="ranks that the tests do not rule out",
        style="rank",
        ascending=True,
        is_text=True,
        row=lambda row: Shown(text=rank_figure(board.ranks[row.label]), value=place[row.label]),
        chance=Shown(text=""),
        quoted=lambda row: Shown(text=""),
        csv={"rank_low": bound(0), "rank_high": bound(1)},
    )


def _measured(row: Row, direction: Direction | None, metric: str) -> Shown:
    value, digits = row.repeats.mean(direction, metric), digits_of(metric)
    return Shown(
        text=figure(value, digits),
        value=value,
        bounds=row.repeats.interval(direction, metric),
        spread=row.repeats.spread(direction, metric),
        digits=digits,
    )


def _mean(board: Board) -> LeaderboardColumn:
    metric = board.metric
    chance = float(np.mean([board.chance.get((d, metric), math.nan) for d in board.directions]))
    text = "the mean of one direction is its figure, which these tables have"
    return LeaderboardColumn(
        head=metric_words(metric),
        alone=f"{metric_words(metric)}, mean",
        group=_over(board),
        style="main",
        ascending=not parse_metric(metric).greater_is_better,
        row=lambda row: _measured(row, None, metric),
        chance=Shown(text=figure(chance, digits_of(metric)), value=chance),
        elsewhere={} if len(board.directions) > 1 else {"markdown": text, "latex": text},
    )


def _over(board: Board) -> str:
    """Return the heading of the figures that are means over the directions."""
    return "mean of directions" if len(board.directions) > 1 else board.directions[0].label


def _p_value(board: Board) -> LeaderboardColumn:
    def shown(row: Row) -> Shown:
        if row.label == board.reference:
            words = "baseline" if board.baseline else "best"
            return Shown(text="–", on_page=words, value=0.0, style="soft")
        p = board.p_value(row.label)
        return Shown(
            text=p_figure(p),
            value=p,
            comment=compared(board, row.label, board.reference),
            style="strong" if p <= LEVEL else "soft",
        )

    def adjusted(row: Row, direction: Direction | None, metric: str) -> float:
        tested = metric == board.metric and row.label != board.reference
        return board.p_value(row.label, None, direction) if tested else math.nan

    of = "" if board.tested == board.metric else ", of the mean rank"
    return LeaderboardColumn(
        head="p",
        alone=f"p against {board.reference}",
        latex="$p$",
        group=_over(board),
        tooltip=f"against {board.reference}, Holm-corrected{of}",
        ascending=True,
        row=shown,
        chance=Shown(text="–"),
        csv={"p_adjusted": adjusted},
        wanted=len(board.rows) > 1,
    )


def _figures(board: Board, direction: Direction, metric: str, style: str) -> LeaderboardColumn:
    chance = board.chance.get((direction, metric), math.nan)
    return LeaderboardColumn(
        head=metric_words(metric),
        alone=f"{metric_words(metric)} {direction.label}",
        latex=metric_words(metric),  # it has no characters with a meaning in LaTeX
        group=direction.label,
        style=style,
        ascending=not parse_metric(metric).greater_is_better,
        direction=direction,
        row=lambda row: _measured(row, direction, metric),
        chance=Shown(text=figure(chance, digits_of(metric)), value=chance),
        elsewhere={"page": "it is the mean"}
        if metric == board.metric and len(board.directions) == 1
        else {},
    )


def _published(board: Board) -> LeaderboardColumn:
    def shown(row: Row | Quoted) -> Shown:
        paper = [row.published.get((d, board.metric)) for d in board.directions]
        known = any(value is not None for value in paper)
        digits = digits_of(board.metric)
        return Shown(text=" ".join(figure(value, digits) for value in paper) if known else "")

    return LeaderboardColumn(
        head=f"published {metric_words(board.metric)}",
        row=shown,
        chance=Shown(text=""),
        quoted=shown,
        csv={"published": lambda row, direction, metric: row.published.get((direction, metric))},
        wanted=any(
            (d, board.metric) in row.published for row in board.entries for d in board.directions
        ),
        elsewhere={"page": "published and obtained figures have a table of their own"},
    )


def _fit(board: Board) -> LeaderboardColumn:
    def seconds(row: Row) -> float:
        return row.costs.get("fit", math.nan)

    text = "times depend on the machine, and these tables are for papers and repositories"
    return LeaderboardColumn(
        head="fit, s",
        tooltip="wall time of one fit",
        style="first",
        ascending=True,
        row=lambda row: Shown(text=figure(seconds(row), 2), value=seconds(row)),
        chance=Shown(text="–"),
        csv={
            "fit_s": lambda row, direction, metric: (
                seconds(row) if direction is None and metric == board.metric else math.nan
            )
        },
        wanted=any(not math.isnan(seconds(row)) for row in board.rows),
        elsewhere={"markdown": text, "latex": text},
    )


def _note(board: Board) -> LeaderboardColumn:
    return LeaderboardColumn(
        head="note",
        style="left",
        is_text=True,
        row=lambda row: Shown(text=row.note),
        chance=Shown(text=""),
        quoted=lambda row: Shown(text=row.note),
        csv={
            "note": lambda row, direction, metric: (
                row.note if direction is None and metric == board.metric else ""
            )
        },
        wanted=any(row.note for row in board.entries),
    )


def _ties(board: Board) -> list[LeaderboardColumn]:
    """Return the column of tied queries, whose fields are in CSV only if ties were measured."""
    if not any(row.ties for row in board.rows):
        return []

    def of(name: str) -> Callable[[Row, Direction | None, str], Any]:
        def value(row: Row, direction: Direction | None, metric: str) -> float:
            ways = board.directions if direction is None else (direction,)
            return float(np.mean([row.ties[way, metric][name] for way in ways]))

        return value

    def shown(row: Row) -> Shown:
        share = of("tied")(row, None, board.metric)
        low, high = (of(name)(row, None, board.metric) for name in ("worst", "best"))
        digits = digits_of(board.metric)
        ends = f"{figure(low, digits)}–{figure(high, digits)}" if share else "none"
        return Shown(text=ends, value=share,
                     comment=f"in {share:.1%} of the queries" if share else "")  # fmt: skip

    return [
        LeaderboardColumn(
            head="ties",
            alone=f"{metric_words(board.metric)} by order of ties",
            latex="ties",
            tooltip="the main metric with relevant items last and first among tied ones",
            ascending=True,
            row=shown,
            chance=Shown(text=""),
            csv={"worst": of("worst"), "best": of("best"), "tied": of("tied")},
        )
    ]
