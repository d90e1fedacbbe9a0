"""The cell of an experiment as TREC runs and judgements, and as a result of MTEB."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from crossfit._arguments import a_path, validated
from crossfit.experiment.best import refit
from crossfit.experiment.evaluate import by_label
from crossfit.experiment.records import CellRecord, RunRecord
from crossfit.metrics.directions import Direction
from crossfit.metrics.relevance import as_relevance
from crossfit.systems.files import write_qrels, write_run
from crossfit.systems.triples import Triples

__all__ = ["cell_triples", "write_cell"]


@validated(folder=[a_path()])
def write_cell(
    record: RunRecord,
    cell: CellRecord,
    folder: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the test scores of a cell as TREC runs, with their judgements and groups.

    A store keeps the ten best items of a query and not all scores, so that the method is fitted
    again with the settings and the seed of the cell.

    Parameters
    ----------
    record : RunRecord
        The run.
    cell : CellRecord
        One of its finished cells.
    folder : path
        Folder for ``<direction>.run``, ``<direction>.pair.qrels`` and, if some metrics are by
        label, ``<direction>.label.qrels``, and ``groups.csv``. `evaluate_run` on a run and the
        judgements of a metric returns the figures of the cell to the last digit.
    root, data : path-like, optional
        As in `crossfit.experiment.run`.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ValueError
        If the experiment, its data or its code have changed since the run.

    See Also
    --------
    crossfit.systems.report_systems : Compare the runs with others.
    """
    target = Path(folder)
    groups = []
    for direction, (run, judged, group) in cell_triples(record, cell, root=root, data=data).items():
        write_run(target / f"{direction}.run", run, "_".join(cell.label.split()))
        for kind, qrels in judged.items():
            write_qrels(target / f"{direction}.{kind}.qrels", qrels)
        groups += [f"{query},{number}\n" for query, number in group.items()]
    (target / "groups.csv").write_text("query,group\n" + "".join(groups), encoding="utf-8")
    return target


def cell_triples(
    record: RunRecord, cell: CellRecord, **where: Any
) -> dict[Direction, tuple[Triples, dict[str, Triples], dict[str, Any]]]:
    """Return the run, the judgements by kind and the groups of each direction of a cell.

    Items are named by their view and number, such as ``image-3``.
    """
    from crossfit.experiment.data import load_splits
    from crossfit.experiment.task import PairSource
    from crossfit.querying import answering, similarity
    from crossfit.scoring import relevance_of

    model = refit(record, cell, **where)
    given = where.get("data") or record.data, where.get("root") or record.root
    source = PairSource.of_cell(cell.cell, *(None if each is None else str(each) for each in given))
    test = load_splits(source, cell.cell["dataset"].get("revision")).splits["test"]
    views = test.views
    wanted = (cell.cell.get("protocol") or {}).get("relevance", "auto")
    kinds = {"label" if by_label(m, wanted, test.y) else "pair" for m in record.metrics}
    found: dict[Direction, tuple[Triples, dict[str, Triples], dict[str, Any]]] = {}
    one_way = answering(model)[1].one_way
    names = [name for name in views.names if any(name in _views_of(d) for d in cell.directions)]
    for pair in combinations(names, 2):
        for direction in Direction.between(pair):
            ways = direction.query, direction.gallery
            # A correction of hubs has scores of its own in each direction.
            asked = ways if one_way else pair
            scores = np.asarray(similarity(model, views, query=asked[0], gallery=asked[1]))
            scores = scores if ways == asked else scores.T
            query, gallery = (
                [f"{name}-{i}" for i in range(n)] for name, n in zip(ways, scores.shape)
            )
            judged = {}
            for kind in sorted(kinds):
                relevance = relevance_of(views, *ways, test.y if kind == "label" else None)
                judged[kind] = _judgements(relevance, query, gallery)
            numbers = views.groups[views.first_rows(direction.query)].tolist()
            found[direction] = (
                _dense(scores, query, gallery), judged, dict(zip(query, numbers, strict=True))
            )  # fmt: skip
    return found


def _views_of(direction: Direction) -> tuple[str, str]:
    return direction.query, direction.gallery


def _dense(scores: Any, query: list[str], gallery: list[str]) -> Triples:
    n, m = scores.shape
    rows, columns = np.divmod(np.arange(n * m), m)
    return Triples(rows, columns, np.asarray(scores, np.float64).ravel(), query, gallery)


def _judgements(relevance: Any, query: list[str], gallery: list[str]) -> Triples:
    """Return the relevant items, and a grade of 0 for the first item of queries without one."""
    found = as_relevance(relevance)
    rows: Mapping[int, Any] = dict(enumerate(found.rows(0, found.shape[0])))
    q: list[int] = []
    i: list[int] = []
    v: list[float] = []
    for row, (columns, grades) in rows.items():
        own = columns.tolist() or [0]
        q += [row] * len(own)
        i += own
        v += [float(len(columns) > 0)] * len(own) if grades is None else grades.tolist() or [0.0]
    return Triples(np.array(q, np.intp), np.array(i, np.intp), np.array(v), query, gallery)
