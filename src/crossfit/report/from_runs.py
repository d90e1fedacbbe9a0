"""Reports of stored runs: a page, and tables in Markdown, LaTeX and CSV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossfit._arguments import integer, validated
from crossfit.experiment.evaluate import TOP
from crossfit.experiment.records import CellRecord, RunRecord
from crossfit.experiment.store import Store
from crossfit.experiment.store_files import StoreError
from crossfit.report.attention import attention_maps
from crossfit.report.boards import Methods, board_of, grouped
from crossfit.report.facts import facts_of, lead_of, licences_of, notes_of, problems_of, yaml_of
from crossfit.report.gallery import can_be_shown, galleries
from crossfit.report.markdown import markdown_page
from crossfit.report.page import Part, write_page, write_text
from crossfit.report.text_tables import csv_table, latex_table

__all__ = ["report_runs"]


@validated(items=[integer(1, TOP), None])
def report_runs(
    runs: Sequence[str],
    store: Store | str | os.PathLike[str] = "crossfit-runs",
    out: str | os.PathLike[str] = "crossfit-report",
    *,
    root: str | os.PathLike[str] | None = None,
    items: int | None = None,
) -> Path:
    """Write a report of runs: a self-contained page, and tables in Markdown, LaTeX and CSV.

    Parameters
    ----------
    runs : sequence of str
        Names of runs in the store. Methods that were evaluated on the same test queries are in
        one leaderboard, and seeds of one method in one row, even if they are from several runs.
    store : Store or path, default="crossfit-runs"
        The store that has the results.
    out : path, default="crossfit-report"
        Folder for ``report.html``, ``leaderboard.md``, ``leaderboard.tex`` and
        ``leaderboard.csv``.
    root : path, optional
        Folder of the data sets, for the gallery; by default that of the run, or else
        ``CROSSFIT_DATA``. Without the data the report has a note in place of the gallery.
    items : int, optional
        Number of items per query in the gallery, from 1 to 10; by default 9 pictures or 5 texts.

    Returns
    -------
    pathlib.Path
        Path of the page.

    Raises
    ------
    StoreError
        If a run is not in the store, or none of its cells is done.

    See Also
    --------
    crossfit.experiment.run : Run an experiment into a store.
    """
    store = store if isinstance(store, Store) else Store(store)
    records = [store.run(name) for name in dict.fromkeys(runs)]
    groups = grouped(records)
    if not groups:
        raise StoreError(
            f"no cell of {', '.join(record.name for record in records)} is done; run it first"
        )
    parts = [_part(*group, root, items) for group in groups]
    found = [part.board for part in parts]
    title = " + ".join(record.title for record in records)
    reduced = [record.title for record in records if record.spec.get("reduced")]
    if reduced and "reduced" not in title.lower():
        title += " (reduced)"
    folder = Path(out)
    page = folder / "report.html"
    notes, facts = notes_of(store, records), facts_of(records, groups)
    write_page(
        page,
        title=title,
        lead=lead_of(records, found),
        parts=parts,
        description="\n\n".join(record.spec.get("description") or "" for record in records),
        reading="\n\n".join(record.spec.get("notes") or "" for record in records),
        reduced="Data or sizes are below the published ones, so the results hold for these sizes "
        "only." if reduced else "",
        notes=notes,
        problems=problems_of(records),
        facts=facts,
        sources=[(record.name, yaml_of(record.spec)) for record in records],
        footer=licences_of(records),
    )  # fmt: skip
    write_text(folder / "leaderboard.md", markdown_page(records, found, title, facts, notes))
    write_text(folder / "leaderboard.tex", "\n".join(latex_table(board) for board in found))
    write_text(folder / "leaderboard.csv", csv_table(found))
    return page


def _part(
    title: str,
    methods: Methods,
    records: Sequence[RunRecord],
    root: str | os.PathLike[str] | None,
    items: int | None,
) -> Part:
    board = board_of(title, methods, records)
    best = methods[board.rows[0].label].cells[0]
    curve = "a relevant item" if best.relevant.get("recall curve") == "label" else "their own pair"
    try:
        run = next(run for run in records if best.key in {cell.key for cell in run.done})
        test, names = _test_split(best, run, None if root is None else str(root))
    except (OSError, ValueError, TypeError, LookupError, ImportError) as error:
        reason = " ".join(str(error).split())
        return Part(
            board, gallery_note=f"No gallery, because the data is missing: {reason}", relevant=curve
        )
    shown = galleries(best, test, names, items)
    note = f"Results of {board.rows[0].label}, the first method of the leaderboard"
    note += f" (seed {best.seed})." if len(board.rows[0].seeds) > 1 else "."
    hidden = [name for name in test.views.names if not can_be_shown(test, name)]
    if hidden:
        note += f" For {' and '.join(hidden)} the data has only features, so names are shown."
    maps = [
        each
        for row in board.rows
        for each in attention_maps(row.label, methods[row.label].cells[0], test)
    ]
    return Part(board, shown, note, maps, curve, test.y is not None)


def _test_split(cell: CellRecord, run: RunRecord, root: str | None) -> tuple[Any, Any]:
    """Load the test split of a cell of a run again, and the names of its classes."""
    from crossfit.experiment.data import load_splits
    from crossfit.experiment.task import PairSource

    if run.data is not None and not Path(run.data).exists():
        raise FileNotFoundError(f"the table {run.data} does not exist any more")
    loaded = load_splits(PairSource.of_cell(cell.cell, run.data, root or run.root))
    keyed = cell.cell["dataset"]
    if loaded.dataset.revision != keyed.get("revision"):
        raise ValueError(
            f"{run.data or keyed['name']} has changed: its revision is {loaded.dataset.revision}, "
            f"but that of the run is {keyed.get('revision')}"
        )
    return loaded.splits["test"], loaded.dataset.target_names
