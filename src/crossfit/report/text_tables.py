"""Leaderboards as Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from operator import attrgetter, methodcaller
from typing import Any

from crossfit._text import printable
from crossfit.metrics import Direction
from crossfit.report.columns import LeaderboardColumn, Shown, columns_of
from crossfit.report.format import figure, interval_figure
from crossfit.report.leaderboard import LEVEL, Board

__all__ = ["csv_rows", "csv_table", "latex_table", "markdown_line", "markdown_table"]

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "–": "--", "−": "$-$", "±": r"$\pm$",
    "→": r"$\rightarrow$", "×": r"$\times$", "“": "``", "”": "''", "’": "'", "…": r"\dots{}",
}  # fmt: skip


def _with_interval(shown: Shown) -> str:
    bounds = interval_figure(shown.bounds, shown.digits)
    text = f"{shown.text} [{bounds}]" if bounds else shown.text
    known = not math.isnan(shown.spread)
    return f"{text} ± {figure(shown.spread, shown.digits)}" if known else text


def _footnote(board: Board) -> str:
    words = "Brackets: 95 % bootstrap intervals over queries, groups kept together. "
    if any(len(row.repeats.evaluations) > 1 for row in board.rows):
        words += "±: standard deviation between seeds. "
    if len(board.rows) > 1:
        of = "" if board.tested == board.metric else "of the mean rank "
        if len(board.directions) > 1:
            words += (
                f"Ranks and p, against {board.reference}, are of the mean over the directions. "
            )
        else:
            words += f"p is against {board.reference}. "
        words += (
            f"Ranks are those that are not ruled out by paired randomisation tests {of}(Holm's "
            f"correction, level {LEVEL:g}). "
        )
    return " ".join([words.strip(), *board.protocols])


def markdown_table(board: Board) -> str:
    """Return a leaderboard as a Markdown section with one table.

    Parameters
    ----------
    board : Board
        The leaderboard.
    """
    rank, *others = (column for column in columns_of(board) if column.is_in("markdown"))
    head = [rank.head, "method", *(column.alone or column.head for column in others)]
    rule = "| --- | --- |" + "".join(" --- |" if c.is_text else " ---: |" for c in others)
    lines = [
        [rank.row(row).text, row.label, *(_with_interval(c.row(row)) for c in others)]
        for row in board.rows
    ]
    lines += [
        [rank.quoted(paper).text, paper.label, *(c.quoted(paper).text for c in others)]
        for paper in board.quoted
    ]
    if board.chance:
        lines.append([rank.chance.text, "chance", *(c.chance.text for c in others)])
    text = [f"## {_escaped(board.title)}", "", _escaped(board.about), "", markdown_line(head), rule]
    return "\n".join([*text, *map(markdown_line, lines), "", _escaped(_footnote(board)), ""])


def markdown_line(cells: Sequence[str]) -> str:
    """Return cells as a line of a Markdown table."""
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    text = printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    # Many Markdown renderers set text between two dollar signs as mathematics.
    return " ".join(text.replace("$", "\\$").split())


def latex_table(board: Board) -> str:
    r"""Return a leaderboard as a LaTeX table, which needs ``\usepackage{booktabs}``.

    The table has a line per method and direction, so that it fits on a page.

    Parameters
    ----------
    board : Board
        The leaderboard.
    """
    columns = [column for column in columns_of(board) if column.is_in("latex")]
    first = next(i for i, column in enumerate(columns) if column.direction is not None)
    rank, *before = columns[:first]
    after = [column for column in columns[first:] if column.direction is None]
    figures = {d: [c for c in columns if c.direction == d] for d in board.directions}

    def line(lead: Sequence[str], direction: str, cells: Sequence[str], end: Sequence[str]) -> str:
        return " & ".join(map(latex_text, [*lead, direction, *cells, *end])) + r" \\"

    def lines(label: str, shown: Callable[[LeaderboardColumn], Shown]) -> Iterator[str]:
        """Yield a line per direction; cells about the method are only in the first."""
        lead = [_or_blank(shown(rank)), label, *(_or_blank(shown(column)) for column in before)]
        end = [_or_blank(shown(column)) for column in after]
        for direction, parts in figures.items():
            cells = [_with_interval(shown(column)) for column in parts]
            yield line(lead, direction.label, cells, end)
            lead, end = [""] * len(lead), [""] * len(end)

    def places(some: Sequence[LeaderboardColumn]) -> str:
        return "".join("l" if column.is_text else "r" for column in some)

    shared = figures[board.directions[0]]
    heads = [rank, *before, *shared, *after]
    names = [column.latex or latex_text(column.alone or column.head) for column in heads]
    names.insert(1, "method")
    names.insert(2 + len(before), "direction")
    out = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(board.title)}. {latex_text(_footnote(board))}}}",
        rf"\begin{{tabular}}{{@{{}}{places([rank])}l{places(before)}l{places(shared)}"
        rf"{places(after)}@{{}}}}",
        r"\toprule",
        " & ".join(names) + r" \\",
        r"\midrule",
    ]
    for row in board.rows:
        out += lines(row.label, methodcaller("row", row))
    if board.quoted:
        out.append(r"\midrule")
    for paper in board.quoted:
        out += lines(paper.label, methodcaller("quoted", paper))
    if board.chance:
        out += [r"\midrule", *lines("chance", attrgetter("chance"))]
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _or_blank(shown: Shown) -> str:
    return "" if shown.text == "–" else _with_interval(shown)


def latex_text(text: str) -> str:
    """Return a text in which characters that have a meaning in LaTeX are escaped."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(printable(text).split()))


def _no_formula(text: str) -> str:
    """Return a text that spreadsheets do not evaluate as a formula."""
    text = printable(text)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def csv_table(found: Sequence[Board]) -> str:
    """Return all figures of leaderboards as CSV, with one figure per line.

    Parameters
    ----------
    found : sequence of Board
        The leaderboards.

    Returns
    -------
    str
        The columns are ``dataset, method, direction, metric, value, low, high, seed_sd, seeds,
        rank_low, rank_high, p_adjusted, published, fit_s, note``. The direction ``mean`` is the
        mean over the directions, and the p-value is for the difference from the best method or
        the baseline (for ``medr`` it is of the mean rank). A published figure without a result
        has a line with an empty value. Values that belong to the method, and
        not to a figure, are in the line with the mean of the main metric. A text that a
        spreadsheet would evaluate as a formula is preceded by an apostrophe.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows(map(_csv_cell, row) for row in csv_rows(found))
    return buffer.getvalue()


def csv_rows(found: Sequence[Board]) -> Iterator[list[Any]]:
    """Yield the rows of `csv_table`, with numbers as such; the first has the names of the columns.

    Parameters
    ----------
    found : sequence of Board
        The leaderboards.

    Yields
    ------
    list
        One value per column; None where there is none.
    """
    names = ("dataset", "method", "direction", "metric")
    figures = ("value", "low", "high", "seed_sd", "seeds")
    for i, board in enumerate(found):
        fields = {name: of for column in columns_of(board) for name, of in column.csv.items()}
        if not i:
            yield [*names, *figures, *fields]
        families: list[Direction | None] = [None, *board.directions]
        for row, direction, metric in product(board.rows, families, board.metrics):
            values = [row.repeats.mean(direction, metric), *row.repeats.interval(direction, metric)]
            values += [row.repeats.spread(direction, metric), len(row.repeats.evaluations)]
            values += [of(row, direction, metric) for of in fields.values()]
            about: list[str] = [board.title, row.label, direction or "mean", metric]
            yield [*about, *values]
        for paper in board.quoted:
            for (where, metric), printed in paper.published.items():
                about = [board.title, paper.label, where or "mean", metric]
                only = {"published": printed, "note": paper.note}
                yield [*about, *[None] * len(figures), *(only.get(name) for name in fields)]
        for (key, metric), value in board.chance.items():
            if metric in board.metrics:
                about = [board.title, "chance", key, metric]
                yield [*about, value, *[None] * (len(figures) - 1 + len(fields))]


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str):
        return _no_formula(value)
    if value is None or math.isnan(value):
        return ""
    return value if isinstance(value, int) else f"{value:.6g}"
