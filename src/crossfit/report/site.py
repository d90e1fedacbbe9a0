"""A leaderboard as a static site, built from results that anyone may add to."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossfit._arguments import a_path, validated
from crossfit._files import draft_of, put_folder, room_for
from crossfit.experiment.keys import canonical
from crossfit.experiment.records import CellRecord
from crossfit.experiment.store_files import StoreError
from crossfit.report.boards import Group, board_of, data_of, grouped
from crossfit.report.exported import ExportedCell, ExportedRun, read_results, tested_split
from crossfit.report.facts import facts_of, lead_of, licences_of, yaml_of
from crossfit.report.format import counted, figure, interval_figure, listed, metric_words, short
from crossfit.report.leaderboard import Board
from crossfit.report.page import Part, template, write_page, write_text
from crossfit.report.text_tables import csv_table

__all__ = ["write_board"]

#: File that marks a folder as a site, which may then be replaced.
_MARK = "index.html"
_MADE_BY = '<meta name="generator" content="crossfit board">'


@dataclass(frozen=True)
class _Entry:
    """A leaderboard in the list of the first page."""

    board: Board
    page: str
    first: str
    score: str
    interval: str
    n_first: int
    looks: int
    shown: int
    unlike: str


@validated(out=[a_path()], title=[str])
def write_board(
    files: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] = "crossfit-board",
    *,
    title: str = "Leaderboards",
) -> Path:
    """Write a static site with the leaderboards of results, one per data set and protocol.

    Parameters
    ----------
    files : sequence of path
        Results that `write_results` wrote, or folders of them.
    out : path, default="crossfit-board"
        Folder of the site: ``index.html``, a page for each leaderboard, ``leaderboards.csv``, the
        results and the experiments. A site that is there already is replaced as a whole.
    title : str, default="Leaderboards"
        Heading of the first page.

    Returns
    -------
    pathlib.Path
        Path of the first page.

    Raises
    ------
    StoreError
        If a file cannot be read, or if results that claim the same data and protocol were
        evaluated on different queries or with another relevance. Results of different protocols
        (revision, subset or splits of the data, relevance, ties) are in different leaderboards.
    FileExistsError
        If `out` has other files.

    See Also
    --------
    write_results : Write the results of runs.
    report_runs : Report the runs of a store, with a gallery.
    """
    home = Path(out)
    if home.exists() and not _is_site(home):
        raise FileExistsError(f"{home} exists and is not a leaderboard site; choose another folder")
    runs = read_results(files)
    groups = grouped(runs)
    for group in groups:
        _check_equal(group)
    boards = [board_of(*group) for group in groups]
    pages = _page_names(boards)
    with room_for("a leaderboard site", home):
        home.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(home, Path.mkdir) as draft:
            _write_site(draft, title, runs, groups, boards, pages)
            put_folder(draft, home)
    return home / _MARK


def _is_site(home: Path) -> bool:
    if not home.is_dir():
        return False
    try:
        return not any(home.iterdir()) or _MADE_BY in (home / _MARK).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _write_site(
    folder: Path,
    title: str,
    runs: Sequence[ExportedRun],
    groups: Sequence[Group],
    boards: Sequence[Board],
    pages: Sequence[str],
) -> None:
    entries = []
    for group, board, page in zip(groups, boards, pages, strict=True):
        entry = _entry(group, board, page, groups)
        entries.append(entry)
        write_page(
            folder / page,
            title=f"{board.title}: {metric_words(board.metric)}",
            lead=lead_of(_only(group), [board]),
            parts=[Part(board, gallery_note="No gallery, because results do not have the data.")],
            notes=_notes(entry, group),
            facts=facts_of(group[2], [group]),
            sources=[(run.name, yaml_of(run.spec)) for run in group[2]],
            footer=licences_of(group[2]),
            up=_MARK,
        )
    (folder / "results").mkdir()
    (folder / "experiments").mkdir()
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    n_results = 0
    for run in runs:
        name = re.sub(r"[^\w-]+", "-", run.name)
        write_text(folder / "experiments" / f"{name}.yaml", yaml_of(run.spec))
        for cell in _cells(run.cells):
            shutil.copyfile(cell.file, folder / "results" / cell.file.name)
            n_results += 1
            row = _row(run, cell, name)
            same = (row["dataset"], row["label"], row["experiment"], row["version"], row["command"])
            row = rows.setdefault(same, row)
            row["files"].append((cell.seed, f"results/{cell.file.name}"))
            row["date"] = max(row["date"], _date(run, cell))
    html = template("board.html.j2").render(
        title=title,
        entries=entries,
        rows=[{**rows[key], "files": sorted(rows[key]["files"])} for key in sorted(rows)],
        n_results=n_results,
    )
    write_text(folder / _MARK, html)
    write_text(folder / "leaderboards.csv", csv_table(boards))


def _date(run: ExportedRun, cell: ExportedCell) -> str:
    return cell.finished[:10] or run.created[:10]


def _row(run: ExportedRun, cell: ExportedCell, experiment: str) -> dict[str, Any]:
    """Return what the results of a method have in common; they differ in their seeds."""
    method = cell.cell["method"]
    return {
        "label": cell.label,
        "dataset": cell.dataset,
        "version": f"{method.get('distribution', '')} {method.get('version', '')}".strip(),
        "date": _date(run, cell),
        "files": [],
        "experiment": f"experiments/{experiment}.yaml",
        "command": run.command,
    }


def _cells(cells: Sequence[CellRecord]) -> list[ExportedCell]:
    return [cell for cell in cells if isinstance(cell, ExportedCell)]


def _held(group: Group) -> list[ExportedCell]:
    return _cells([cell for method in group[1].values() for cell in method.cells])


def _only(group: Group) -> list[ExportedRun]:
    """Return the runs of a group with the cells of the group only."""
    keys = {cell.key for cell in _held(group)}
    return [
        ExportedRun(**{**vars(run), "cells": tuple(c for c in run.cells if c.key in keys)})
        for run in group[2]
    ]


def _check_equal(group: Group) -> None:
    """Raise an error unless all cells were evaluated on the same queries with one relevance."""
    first, *others = _held(group)
    for cell in others:
        shared = {metric for name in first.results for metric in first.results[name]}
        wrong = ""
        if cell.n.get("test") != first.n.get("test"):
            wrong = "numbers of test items"
        elif any(
            not np.array_equal(cell.values[f"{name}|groups"], first.values[f"{name}|groups"])
            for name in cell.results.keys() & first.results.keys()
        ):
            wrong = "groups of queries"
        elif any(
            cell.relevant.get(metric) not in (None, first.relevant.get(metric))
            for metric in shared & {m for name in cell.results for m in cell.results[name]}
        ):
            wrong = "relevant items"
        elif any(
            cell.chance[name][metric] != value
            for name, by_metric in first.chance.items()
            for metric, value in by_metric.items()
            if metric in cell.chance.get(name, ())
        ):
            wrong = "levels of chance, and so unequal relevant items"
        if wrong:
            raise StoreError(
                f"{first.file} and {cell.file} name the same data and protocol but have different "
                f"{wrong}; they cannot be compared"
            )


def _entry(group: Group, board: Board, page: str, groups: Sequence[Group]) -> _Entry:
    best = [row for row in board.rows if board.ranks[row.label][0] == 1]
    top = board.rows[0]
    looks = set().union(*(cell.evaluations for run in _only(group) for cell in _cells(run.cells)))
    return _Entry(
        board,
        page,
        top.label,
        figure(top.repeats.mean(None, board.metric)),
        interval_figure(top.repeats.interval(None, board.metric)),
        len(best),
        len(looks),
        len(_held(group)),
        _unlike(group, groups),
    )


def _protocol(group: Group) -> dict[str, Any]:
    """Return what must be equal for results to be compared, flattened to names and values."""
    cell = _held(group)[0]
    about, protocol = data_of(cell), cell.cell.get("protocol") or {}
    flat = {
        "loader": about.get("name"),
        "revision": about.get("revision"),
        "relevance": protocol.get("relevance"),
        "ties": protocol.get("ties"),
    }
    for kind, words in (("params", "{}"), ("subset", "{} subset"), ("splits", "{} split")):
        flat |= {words.format(name): value for name, value in (about.get(kind) or {}).items()}
    return {name: value for name, value in flat.items() if value is not None}


def _unlike(group: Group, groups: Sequence[Group]) -> str:
    """Return a sentence on the parts of a protocol that others on the same data set do not have."""
    name = tested_split(_held(group)[0])[0]
    protocols = [_protocol(each) for each in groups if tested_split(_held(each)[0])[0] == name]
    if len(protocols) == 1:
        return ""
    own = _protocol(group)
    differing = []
    for key in sorted(set().union(*protocols)):
        of_split = key.endswith(" subset")
        if of_split and key.replace(" subset", " split") not in own:
            continue
        if len({canonical(each.get(key)) for each in protocols}) > 1:
            value = short(own[key]) if key in own else "all" if of_split else "none"
            differing.append(f"{key}: {value}")
    return f"Not compared with others on {name}, because of its {'; '.join(differing)}."


def _notes(entry: _Entry, group: Group) -> list[str]:
    dataset, split = tested_split(_held(group)[0])
    notes = [
        f"The stores of these results have {counted(entry.looks, 'evaluation')} on the split "
        f"“{split}” of {dataset}; this page shows {counted(entry.shown, 'result')}. The more "
        "evaluations there are on a test split, the more optimistic is the best figure on it."
    ]
    if entry.unlike:
        notes.append(entry.unlike)
    budgets: dict[int, list[str]] = {}
    for label, method in group[1].items():
        trials = method.cells[0].tuning.get("trials")
        budgets.setdefault(int(trials or 0), []).append(label)
    if len(budgets) > 1:
        words = [
            f"{counted(n, 'trial') if n else 'no search'} for {listed(labels)}"
            for n, labels in sorted(budgets.items())
        ]
        notes.append(f"The searches for settings had unequal budgets: {'; '.join(words)}.")
    return notes


def _page_names(boards: Sequence[Board]) -> list[str]:
    """Return a file name for each leaderboard, numbered if two titles have the same one."""
    names: dict[str, None] = {}
    for board in boards:
        slug = "-".join(re.findall(r"[a-z0-9]+", board.title.lower()))[:80] or "data"
        slug = f"{slug}-board" if slug == "index" else slug
        taken, n = slug, 2
        while f"{taken}.html" in names:
            taken, n = f"{slug}-{n}", n + 1
        names[f"{taken}.html"] = None
    return list(names)
