"""The page of a report: a self-contained HTML file with leaderboards, plots and a gallery."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from crossfit._files import whole_file
from crossfit._text import printable
from crossfit.report import plots
from crossfit.report.attention import Attention
from crossfit.report.consistency import inconsistencies
from crossfit.report.drawing import Plot, drawn
from crossfit.report.facts import Problem
from crossfit.report.findings import findings, planned
from crossfit.report.format import (
    figure,
    interval_figure,
    metric_words,
    p_figure,
)
from crossfit.report.front import front_table
from crossfit.report.gallery import Gallery
from crossfit.report.html_tables import (
    Table,
    abstention_table,
    cost_table,
    differences_table,
    hubness_table,
    leaderboard_table,
    pair_tables,
    published_table,
    ties_table,
)
from crossfit.report.leaderboard import Board
from crossfit.report.levelling import unfinished
from crossfit.report.transductive import transductive

__all__ = ["Part", "template", "write_page", "write_text"]


@dataclass(frozen=True, eq=False)
class Part:
    """A leaderboard with its galleries and plots.

    Parameters
    ----------
    board : Board
        The leaderboard.
    galleries : sequence of Gallery
        Queries with the retrieved items.
    gallery_note : str
        Note with the method of the gallery, or the reason why there is no gallery.
    attention : sequence of Attention
        Attention maps.
    relevant : str, default="their own pair"
        Items whose recall is drawn: ``"their own pair"`` or ``"a relevant item"``.
    labelled : bool, default=True
        Whether the gallery distinguishes items of the same class from others.
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
    description: str = "",
    reading: str = "",
    reduced: str = "",
    notes: Sequence[str] = (),
    problems: Sequence[Problem] = (),
    facts: Sequence[tuple[str, str]] = (),
    sources: Sequence[tuple[str, str]] = (),
    footer: str = "",
    up: str = "",
) -> None:
    """Write a page; the file is written completely or not at all.

    Parameters
    ----------
    path : Path
        The HTML file; its folder is created if necessary.
    title, lead : str
        Heading and first sentences.
    parts : sequence of Part
        Leaderboards, one for each set of test queries.
    description, reading : str
        Paragraphs before and after the figures, from the experiment.
    reduced : str
        A note if the experiment is reduced, else empty.
    notes : sequence of str
        Notes to be read before the figures.
    problems : sequence of Problem
        Cells without a result.
    facts : sequence of (str, str)
        Terms and texts on data, settings, versions and times.
    sources : sequence of (str, str)
        Names and YAML of the experiments.
    footer : str
        Attribution.
    up : str
        Address of the page that links to this one, if there is one.
    """
    html = template("report.html.j2").render(
        title=title,
        lead=lead,
        parts=[_prepared(part, i) for i, part in enumerate(parts)],
        description=_paragraphs(description),
        reading=_paragraphs(reading),
        reduced=reduced,
        notes=notes,
        problems=problems,
        facts=facts,
        sources=sources,
        footer=footer,
        up=up,
    )
    write_text(path, html)


def template(name: str, package: str = "crossfit.report") -> Any:
    """Return the template of a page, with the style, tables and filters of all pages.

    Parameters
    ----------
    name : str
        File name of the template.
    package : str, default="crossfit.report"
        Package whose folder ``templates`` has it.
    """
    import jinja2

    packages = dict.fromkeys((package, "crossfit.report"))
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(each, "templates") for each in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        # Labels, texts and reasons were written by others.
        finalize=lambda value: printable(value, lines=True) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=figure,
        p=p_figure,
        metric=metric_words,
        interval=interval_figure,
        fragments=_fragments,
    )
    return environment.get_template(name)


def _paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a Markdown text, without its marks for emphasis and headings.

    Lines of a paragraph are joined, those of lists, tables and quotations are kept.
    """
    plain = text.replace("**", "").replace("`", "")
    plain = re.sub(r"(?<=\S)\n(?=\S)(?![-*|>] |\d+\. )", " ", plain)
    return [part.strip().lstrip("# ") for part in plain.split("\n\n") if part.strip()]


def write_text(path: Path, text: str) -> None:
    """Write a file completely or not at all, through a temporary one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, "a text") as draft:
        draft.write_text(text, encoding="utf-8")


@dataclass(frozen=True, eq=False)
class _Prepared:
    part: Part
    anchor: str
    leaderboard: Table
    tests: str
    unfinished: str
    planned: str
    differences: Table | None
    first: Sequence[Plot]
    plots: Sequence[Plot]
    searches: Sequence[Plot]
    fronts: Sequence[tuple[Plot, Table | None]]
    published: Table | None
    cost: Table | None
    hubness: Table | None
    abstention: Table | None
    ties: Table | None
    matrices: Sequence[tuple[str, Sequence[Sequence[str]]]] = field(default_factory=tuple)
    problems: Sequence[str] = ()


def _prepared(part: Part, i: int) -> _Prepared:
    board = part.board
    return _Prepared(
        part,
        f"board-{i + 1}",
        leaderboard_table(board),
        findings(board),
        " ".join(filter(None, (transductive(board), unfinished(board)))),
        planned(board),
        differences_table(board),
        _plots_first(board),
        _plots(board, part.relevant),
        [
            plot
            for row in board.rows
            for plot in drawn(
                row.label,
                partial(plots.search, row),
                "Scores of all trials of the search; the best one is orange.",
            )
        ],
        [
            (plot, front_table(row))
            for row in board.rows
            for plot in drawn(
                row.label,
                partial(plots.front, row),
                "Scores of all trials over what they cost; those of the Pareto front, to which no "
                "other is superior in all, are orange.",
            )
        ],
        published_table(board),
        cost_table(board),
        hubness_table(board),
        abstention_table(board),
        ties_table(board),
        pair_tables(board),
        inconsistencies(board),
    )


def _plots_first(board: Board) -> list[Plot]:
    caption = f"{metric_words(board.metric)} with 95 % intervals over queries"
    if board.chance:
        caption += "; the dashed line is chance"
    if any(metric == board.metric and d is not None for row in board.rows
           for d, metric in row.published):  # fmt: skip
        caption += "; diamonds are published figures"
    return drawn("", partial(plots.intervals, board), f"{caption}.")


def _plots(board: Board, relevant: str) -> list[Plot]:
    sweeps = zip(plots.sweeps(board), plots.sweeps(board, narrow=True), strict=True)
    return [
        *drawn(
            "Recall",
            partial(plots.curves, board, "recall"),
            f"Fraction of queries with {relevant} among the first K.",
        ),
        *drawn(
            "Precision and recall",
            partial(plots.curves, board, "pr"),
            "Interpolated precision at each recall, averaged over queries.",
        ),
        *drawn(
            "Score against cost and size",
            partial(plots.costs, board),
            f"{metric_words(board.metric)}, mean of the directions; the numbers are positions in "
            "the leaderboard.",
        ),
        *(
            Plot(
                f"Score against a parameter, {name}",
                wide,
                narrow,
                "Bands are 95 % intervals over queries.",
            )
            for (name, wide), (_, narrow) in sweeps
        ),
        *(
            plot
            for row in board.rows
            for plot in drawn(
                f"Training of {row.label}",
                partial(plots.training, row),
                "One line per seed. Outputs are equal if all items have the same output, or all "
                "pairs the same score.",
            )
        ),
    ]


def _fragments(text: str) -> list[str]:
    """Return a text in parts between which a line may be broken: settings, within long ones too."""
    found: list[str] = []
    for word in re.split(r"(?<= )", text):
        found += re.split(r"(?<=[=_])(?=\w)", word) if len(word) > 16 else [word]
    return found
