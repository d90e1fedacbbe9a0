"""Leaderboards as Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from crossfit._text import printable
from crossfit.report.format import (
    digits_of,
    figure,
    interval_figure,
    metric_words,
    p_figure,
    rank_figure,
)
from crossfit.report.leaderboard import LEVEL, Board

__all__ = ["csv_table", "latex_table", "markdown_line", "markdown_table"]

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "–": "--", "−": "$-$", "±": r"$\pm$",
    "→": r"$\rightarrow$", "×": r"$\times$", "“": "``", "”": "''", "’": "'", "…": r"\dots{}",
}  # fmt: skip


def _grid(board: Board) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of a leaderboard: rank, method, the mean, then every figure."""
    head = ["rank", "method", f"{metric_words(board.metric)}, mean"]
    several = len(board.rows) > 1
    head += [f"p against {board.reference}"] if several else []
    shown = [(d, m) for d in board.directions for m in board.metrics]
    head += [f"{metric_words(metric)} {direction.label}" for direction, metric in shown]
    printed = any(
        (d, board.metric) in row.published for row in board.rows for d in board.directions
    )
    head += [f"published {metric_words(board.metric)}"] if printed else []
    noted = any(row.note for row in board.rows)
    head += ["note"] if noted else []
    lines = []
    for row in board.rows:
        cells = [rank_figure(board.ranks[row.label]), row.label]
        cells.append(_with_interval(board, row.label, None, board.metric))
        if several:
            is_reference = row.label == board.reference
            cells.append("–" if is_reference else p_figure(board.p_value(row.label)))
        cells += [_with_interval(board, row.label, d, m) for d, m in shown]
        if printed:
            paper = [row.published.get((d, board.metric)) for d in board.directions]
            known = any(value is not None for value in paper)
            digits = digits_of(board.metric)
            cells.append(" ".join(figure(value, digits) for value in paper) if known else "")
        cells += [row.note] if noted else []
        lines.append(cells)
    if board.chance:
        values = [board.chance.get((d, board.metric), math.nan) for d in board.directions]
        mean = figure(sum(values) / len(values), digits_of(board.metric))
        cells = ["", "chance", mean, *(["–"] if several else [])]
        cells += [figure(board.chance.get((d, m), math.nan), digits_of(m)) for d, m in shown]
        lines.append([*cells, *[""] * (int(printed) + int(noted))])
    return head, lines


def _with_interval(board: Board, label: str, direction: str | None, metric: str) -> str:
    repeats = next(row.repeats for row in board.rows if row.label == label)
    digits = digits_of(metric)
    text = figure(repeats.mean(direction, metric), digits)
    bounds = interval_figure(repeats.interval(direction, metric), digits)
    spread = repeats.spread(direction, metric)
    if bounds:
        text += f" [{bounds}]"
    return text if math.isnan(spread) else f"{text} ± {figure(spread, digits)}"


def _footnote(board: Board) -> str:
    words = "Brackets: 95 % bootstrap intervals over queries, groups kept together. "
    if any(len(row.repeats.evaluations) > 1 for row in board.rows):
        words += "±: standard deviation between seeds. "
    if len(board.rows) > 1:
        of = "" if board.tested == board.metric else "of the mean rank "
        words += (
            f"Ranks and p, against {board.reference}, are of the mean over the directions. Ranks "
            f"are ranges where paired randomisation tests {of}with Holm's correction, level "
            f"{LEVEL:g}, leave them open."
        )
    return words.strip()


def markdown_table(board: Board) -> str:
    """Return a leaderboard as a Markdown section with one table.

    Parameters
    ----------
    board : Board
        The leaderboard.
    """
    head, lines = _grid(board)
    rule = "| --- | --- |" + " ---: |" * (len(head) - 2)
    rule = rule.removesuffix(" ---: |") + " --- |" if head[-1] == "note" else rule
    text = [f"## {_escaped(board.title)}", "", _escaped(board.about), "", markdown_line(head), rule]
    return "\n".join([*text, *map(markdown_line, lines), "", _escaped(_footnote(board)), ""])


def markdown_line(cells: Sequence[str]) -> str:
    """Return cells as a line of a Markdown table."""
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    text = printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    # Between two dollars many readers of Markdown see mathematics.
    return " ".join(text.replace("$", "\\$").split())


def latex_table(board: Board) -> str:
    r"""Return a leaderboard as a LaTeX table; it needs ``\usepackage{booktabs}``.

    Parameters
    ----------
    board : Board
        The leaderboard. One line per method and direction, so that it fits a page.
    """
    several = len(board.rows) > 1
    heads = ["rank", "method", *(["$p$"] if several else []), "direction"]
    heads += [latex_text(metric_words(metric)) for metric in board.metrics]
    out = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(board.title)}. {latex_text(_footnote(board))}}}",
        rf"\begin{{tabular}}{{@{{}}ll{'r' if several else ''}l{'r' * len(board.metrics)}@{{}}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    for row in board.rows:
        p = "" if row.label == board.reference else p_figure(board.p_value(row.label))
        for i, direction in enumerate(board.directions):
            lead = [rank_figure(board.ranks[row.label]), row.label, *([p] if several else [])]
            cells = lead if not i else [""] * len(lead)
            cells += [direction.label]
            cells += [_with_interval(board, row.label, direction, m) for m in board.metrics]
            out.append(" & ".join(map(latex_text, cells)) + r" \\")
    if board.chance:
        out.append(r"\midrule")
        for i, direction in enumerate(board.directions):
            cells = ["", "chance" if not i else "", *([""] if several else []), direction.label]
            cells += [
                figure(board.chance.get((direction, m), math.nan), digits_of(m))
                for m in board.metrics
            ]
            out.append(" & ".join(map(latex_text, cells)) + r" \\")
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def latex_text(text: str) -> str:
    """Return a text with every character that LaTeX would read as a command written out."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(printable(text).split()))


def _no_formula(text: str) -> str:
    """Return a text that no spreadsheet evaluates as a formula."""
    text = printable(text)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def csv_table(found: Sequence[Board]) -> str:
    """Return every figure of leaderboards as CSV, one per line.

    Parameters
    ----------
    found : sequence of Board
        The leaderboards.

    Returns
    -------
    str
        With columns ``dataset, method, direction, metric, value, low, high, seed_sd, seeds,
        rank_low, rank_high, p_adjusted, published``; the direction ``mean`` is the mean over the
        directions, and the p-value is against the best method or the baseline (for ``medr`` it
        is of the mean rank). A text that a spreadsheet would take for a formula has an apostrophe
        before it.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["dataset", "method", "direction", "metric", "value", "low", "high", "seed_sd", "seeds",
         "rank_low", "rank_high", "p_adjusted", "published"]
    )  # fmt: skip

    def number(value: float | None) -> str:
        return "" if value is None or math.isnan(value) else f"{value:.6g}"

    for board in found:
        families: list[str | None] = [None, *board.directions]
        for row in board.rows:
            for direction in families:
                for metric in board.metrics:
                    main = metric == board.metric
                    low, high = row.repeats.interval(direction, metric)
                    tested = main and row.label != board.reference
                    ranks = board.ranks[row.label] if main and direction is None else ("", "")
                    names = (board.title, row.label, direction or "mean", metric)
                    writer.writerow(
                        [
                            *map(_no_formula, names),
                            number(row.repeats.mean(direction, metric)), number(low),
                            number(high), number(row.repeats.spread(direction, metric)),
                            len(row.repeats.evaluations), *ranks,
                            number(board.p_value(row.label, None, direction)) if tested else "",
                            number(row.published.get((direction, metric))),
                        ]
                    )  # fmt: skip
        for (direction, metric), value in board.chance.items():
            if metric in board.metrics:
                writer.writerow(
                    [
                        *map(_no_formula, (board.title, "chance", direction, metric)),
                        number(value),
                        *[""] * 8,
                    ]
                )
    return buffer.getvalue()
