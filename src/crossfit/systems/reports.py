"""Comparisons of systems as a page, tables and values per query."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

import crossfit
from crossfit._arguments import a_path, validated
from crossfit._files import whole_file
from crossfit.experiment.environment import environment
from crossfit.metrics import Repeats, parse_metric
from crossfit.report.facts import about_environment
from crossfit.report.format import counted
from crossfit.report.leaderboard import Board, Row
from crossfit.report.markdown import markdown_page
from crossfit.report.page import Part, write_page, write_text
from crossfit.report.text_tables import csv_table, latex_table
from crossfit.systems.evaluation import SystemEvaluation

__all__ = ["board_of_systems", "report_systems"]


def board_of_systems(
    systems: Mapping[str, SystemEvaluation],
    *,
    title: str = "Evaluation",
    metrics: Sequence[str] | None = None,
    baseline: str | None = None,
    reported: Mapping[str, Mapping[str, float]] | None = None,
) -> Board:
    """Return a leaderboard of systems; see `report_systems`."""
    if not systems:
        raise ValueError("systems is empty; evaluate at least one")
    first = next(iter(systems.values()))
    for label, each in systems.items():
        same = (
            each.query_ids == first.query_ids
            and each.evaluation.metrics == first.evaluation.metrics
        )
        if not same:
            raise ValueError(
                f"{label} was not evaluated on the queries, directions and metrics of "
                f"{next(iter(systems))}; use the same judgements and metrics for all"
            )
    names = [parse_metric(m).name for m in metrics or first.evaluation.metrics]
    rows = [
        Row(
            label,
            Repeats([each.evaluation]),
            published=_published(each, (reported or {}).get(label, {})),
            ties={(row["direction"], row["metric"]): row for row in each.ties.rows()},
        )
        for label, each in systems.items()
    ]
    chance = {(str(direction), name): level for (direction, name), level in first.chance.items()}
    return Board(title, rows, names, _about(first), chance, baseline)


def _published(
    found: SystemEvaluation, figures: Mapping[str, float]
) -> dict[tuple[str | None, str], float]:
    directions = found.evaluation.directions
    way = directions[0] if len(directions) == 1 else None
    return {(way, parse_metric(name).name): value for name, value in figures.items()}


def _about(found: SystemEvaluation) -> str:
    parts = []
    for direction, ids in found.query_ids.items():
        values = found.evaluation.per_query[direction, found.evaluation.metrics[0]]
        parts.append(
            f"{direction.label}: {int((~np.isnan(values)).sum())} of {len(ids)} queries have a "
            f"relevant item among {found.n_items[direction]} items."
        )
    return " ".join(parts)


def notes_of_systems(systems: Mapping[str, SystemEvaluation]) -> list[str]:
    """Return the notes of all systems, and one on systems whose values are all the same."""
    shared = [
        note for note in dict.fromkeys(note for each in systems.values() for note in each.notes)
        if len(systems) > 1 and all(note in each.notes for each in systems.values())
    ]  # fmt: skip
    notes = [
        f"{label}: {note}"
        for label, each in systems.items()
        for note in each.notes
        if note not in shared
    ]
    for (one, first), (other, second) in combinations(systems.items(), 2):
        values = first.evaluation.per_query
        if all(
            np.array_equal(values[key], second.evaluation.per_query[key], equal_nan=True)
            for key in values
        ):
            notes.append(
                f"{one} and {other} have the same values for every query; they may be one run."
            )
    return [*shared, *notes]


def off_by_one(
    systems: Mapping[str, SystemEvaluation], reported: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Return notes on reported recalls that are those of one more item, counted from rank 0."""
    notes = []
    for label, figures in reported.items():
        for name, value in figures.items():
            measure = parse_metric(name)
            other = f"r@{measure.k}:twowaynet"
            if (
                measure.kind != "r"
                or measure.k is None
                or other not in systems[label].evaluation.metrics
            ):
                continue
            own, next_one = (systems[label].mean(each) for each in (measure.name, other))
            if abs(value - own) > 5e-3 and abs(value - next_one) <= 5e-4 + 1e-9:
                notes.append(
                    f"{label}: the reported {measure.words} of {value:g} is R@{measure.k + 1} of "
                    f"its output, whose {measure.words} is {own:.4f}: its ranks seem to be counted "
                    "from 0, so that recall is off by one."
                )
    return notes


@validated(out=[a_path()], title=[str], baseline=[str, None], command=[str])
def report_systems(
    systems: Mapping[str, SystemEvaluation],
    out: str | os.PathLike[str] = "crossfit-evaluation",
    *,
    title: str = "Evaluation",
    metrics: Sequence[str] | None = None,
    baseline: str | None = None,
    reported: Mapping[str, Mapping[str, float]] | None = None,
    command: str = "",
) -> Path:
    """Write a page that compares systems, tables, and the values of every query.

    Parameters
    ----------
    systems : mapping of str to SystemEvaluation
        Evaluations by label, of the same queries.
    out : path, default="crossfit-evaluation"
        Folder for ``report.html``, ``leaderboard.md``, ``leaderboard.tex``, ``leaderboard.csv``
        and ``per-query.parquet`` (without pyarrow ``per-query.csv``).
    title : str, default="Evaluation"
        Heading.
    metrics : sequence of str, optional
        Metrics to show, with the main one first; by default all.
    baseline : str, optional
        Label of the system that the others are compared with; by default the best.
    reported : mapping of str to mapping of str to float, optional
        Figures that were reported elsewhere, by label and metric, as fractions.
    command : str, default=""
        Command line that repeats it.

    Returns
    -------
    pathlib.Path
        Path of the page.

    Raises
    ------
    ValueError
        If there is no system, or they were evaluated on different queries or by different
        metrics.

    See Also
    --------
    evaluate_run, evaluate_matrix : Evaluate a system.
    """
    reported = reported or {}
    board = board_of_systems(
        systems, title=title, metrics=metrics, baseline=baseline, reported=reported
    )
    notes = [*notes_of_systems(systems), *off_by_one(systems, reported)]
    ties = next(iter(systems.values())).evaluation.ties
    facts = [("repeat", command)] if command else []
    facts.append(("protocol", f"ties {ties}; grades above 0 are relevant"))
    about = {"distribution": "crossfit-retrieval", "version": crossfit.__version__}
    facts.append(("versions", about_environment(environment(about))))
    folder = Path(out)
    n = sum(map(len, next(iter(systems.values())).query_ids.values()))
    lead = f"{counted(len(systems), 'system')} on {n} {'query' if n == 1 else 'queries'}."
    write_page(folder / "report.html", title=title, lead=lead, parts=[Part(board)], notes=notes,
               facts=facts)  # fmt: skip
    write_text(folder / "leaderboard.md", markdown_page([], [board], title, facts, notes))
    write_text(folder / "leaderboard.tex", latex_table(board))
    write_text(folder / "leaderboard.csv", csv_table([board]))
    _write_values(folder, systems)
    return folder / "report.html"


_HEAD = ("system", "direction", "query", "group", "metric", "value", "worst", "best")


def _rows(systems: Mapping[str, SystemEvaluation]) -> Iterator[tuple[Any, ...]]:
    """Yield columns of values, one block per system, direction and metric."""
    for label, each in systems.items():
        for direction, ids in each.query_ids.items():
            groups = each.evaluation.groups[direction]
            for metric in each.evaluation.metrics:
                key = direction, metric
                values = [
                    found.per_query[key]
                    for found in (each.evaluation, each.ties.worst, each.ties.best)
                ]
                n = len(ids)
                yield ([label] * n, [str(direction)] * n, ids, groups, [metric] * n, *values)


def _write_values(folder: Path, systems: Mapping[str, SystemEvaluation]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        with whole_file(folder / "per-query.csv", "values per query") as draft, draft.open(
            "w", encoding="utf-8", newline=""
        ) as stream:  # fmt: skip
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(_HEAD)
            for block in _rows(systems):
                writer.writerows(zip(*block, strict=True))
        return
    tables = [pa.table(dict(zip(_HEAD, map(pa.array, block), strict=True)))
              for block in _rows(systems)]  # fmt: skip
    with whole_file(folder / "per-query.parquet", "values per query") as draft:
        pq.write_table(pa.concat_tables(tables), draft)
