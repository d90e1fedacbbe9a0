"""Runs as a page of Markdown: description, tables, chosen settings, and how the page was made."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crossfit.report.findings import findings, planned
from crossfit.report.format import figure
from crossfit.report.html_tables import differences_table
from crossfit.report.leaderboard import Board
from crossfit.report.levelling import unfinished
from crossfit.report.text_tables import markdown_line, markdown_table
from crossfit.report.transductive import transductive

__all__ = ["markdown_page"]


def markdown_page(
    records: Sequence[Any],
    boards: Sequence[Board],
    title: str,
    facts: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> str:
    """Return runs as one page of Markdown.

    Parameters
    ----------
    records : sequence of RunRecord
        The runs; none if the page is about other systems. The descriptions and the notes of their
        experiments are copied unchanged, before and after the tables.
    boards : sequence of Board
        Leaderboards of the runs.
    title : str
        Heading of the page.
    facts : sequence of (str, str)
        Facts as pairs of a kind and a text. Those of the kinds ``repeat``, ``data``,
        ``versions`` and ``time`` are on the page.
    notes : sequence of str
        Sentences with the numbers of evaluations on the test splits.

    Returns
    -------
    str
    """
    blocks = [f"# {title}"]
    blocks += [record.spec["description"] for record in records if record.spec.get("description")]
    for board in boards:
        blocks += [markdown_table(board), findings(board), transductive(board), unfinished(board)]
        blocks += [_differences(board)]
    blocks += [_chosen(records)]
    blocks += [record.spec["notes"] for record in records if record.spec.get("notes")]
    blocks += [_origin(records, facts, notes)]
    return "\n\n".join(block.strip("\n") for block in blocks if block.strip()) + "\n"


def _table(head: Sequence[str], left: int, rows: Sequence[Sequence[str]]) -> str:
    rule = "| --- " * left + "| ---: " * (len(head) - left) + "|"
    return "\n".join([markdown_line(head), rule, *map(markdown_line, rows)])


def _differences(board: Board) -> str:
    """Return a section with the planned comparisons; empty if there are none."""
    table = differences_table(board)
    if table is None:
        return ""
    head = ["", *(column.head for column in table.columns)]
    rows = [[line.label, *(cell.text for cell in line.cells)] for line in table.lines]
    return f"### Planned comparisons\n\n{planned(board)}\n\n{_table(head, 1, rows)}"


def _chosen(records: Sequence[Any]) -> str:
    """Return a section with the settings that tuning chose; empty if there are none."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for record in records:
        for cell in record.done:
            if cell.chosen:
                about = cell.tuning
                found[cell.label, cell.dataset, record.name] = [
                    str(about.get("trials", "")), f"{about.get('metric')} on {about.get('on')}",
                    figure(about.get("best_value")), _words(cell.chosen),
                    figure(about.get("seconds"), 0), figure(cell.timing.get("fit"), 1),
                ]  # fmt: skip
    if not found:
        return ""
    rows = {}
    for (label, dataset, run), words in found.items():
        # The same label may stand for other settings in another run or on other data.
        places = {key[1:] for key in found if key[0] == label and found[key] != words}
        near = [name for at, name in enumerate((dataset, run))
                if any(place[at] != name for place in places)]  # fmt: skip
        rows[label, *words] = [f"{label} ({', '.join(near)})" if near else label, *words]
    head = ["method", "trials", "chosen by", "score", "settings", "search s", "fit s"]
    return f"## Settings that were chosen\n\n{_table(head, 1, list(rows.values()))}"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(part)}" for key, part in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _origin(records: Sequence[Any], facts: Sequence[tuple[str, str]], notes: Sequence[str]) -> str:
    """Return a section on how the page was made, with the commands to make it again."""
    commands = [text for kind, text in facts if kind == "repeat"]
    if records:
        names, folder = [record.name for record in records], str(records[0].store.folder)
        commands.append(shlex.join(["crossfit", "report", *names, "--store", folder]))
    shown = "\n".join(commands)
    lines = ["## How this page was made", f"```console\n{shown}\n```"] if commands else []
    # Pages are for repositories, so they have the versions but not the platform after them.
    versions = [text.partition(";")[0] for kind, text in facts if kind == "versions"]
    data = [text for kind, text in facts if kind in ("data", "time")]
    rest = dict.fromkeys([*notes, *data, *versions])
    lines.append("\n".join(f"- {text}" for text in rest))
    lines += list(_without_result(records))
    return "\n\n".join(lines)


def _without_result(records: Sequence[Any]) -> Iterator[str]:
    for record in records:
        for cell in record.cells:
            if cell.status != "done":
                yield f"Without a result: {cell.label}, seed {cell.seed}: {cell.problem}"
