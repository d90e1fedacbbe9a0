"""Records and cards of the winners that commands save: what they were fitted and measured on."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossfit.cli._shared import KIND_OF, modality_of

__all__ = ["measures_of_cell", "measures_of_search", "save_winner"]


def save_winner(
    model: Any,
    out: Path,
    *,
    method: str,
    pairs: Any,
    source: str | None,
    options: Mapping[str, Any],
    features: Mapping[str, Any],
    measures: Sequence[Mapping[str, Any]],
    notes: str | None = None,
    split: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Write a fitted pipeline with its record and its card, and return the record.

    If the pairs are features of `crossfit embed`, their extractors become the first step.

    Parameters
    ----------
    model : Pipeline
        Fitted.
    out : Path
        New folder.
    method : str
        Label of the method.
    pairs : Dataset
        The pairs.
    source : str or None
        Path of a user's own pairs.
    options : mapping
        Those of `crossfit.datasets.read_pairs` for them.
    features : mapping
        Extractors by view, as in experiment files.
    measures : sequence of mapping
        Rows of `crossfit.model_card`.
    notes : str, optional
        What must be known of the measures.
    split : str, optional
        Pairs that the measures are of, if not the split test.
    **more : object
        Further entries of the record.
    """
    from sklearn.pipeline import Pipeline

    import crossfit
    from crossfit.datasets.features import is_features, manifest_of
    from crossfit.datasets.pairs import columns_read
    from crossfit.winners import kind_of_items, versions, write_winner

    columns: Any = None
    name, file, described = pairs.name, None, dict(features)
    if source is not None and is_features(source):
        manifest = manifest_of(source)
        columns = manifest.get("columns")
        described = {**(manifest.get("features") or {}), **features}
        file = manifest.get("source") or Path(source).name
        if (Path(source) / "extractors").is_dir():
            embedded = crossfit.load(Path(source) / "extractors")
            model = Pipeline([("embedded", embedded), *model.steps])
    elif source is not None:
        read = {key: value for key, value in options.items() if key not in ("test", "validation")}
        columns, file = columns_read(source, **read), Path(source).name
    if file is not None:
        name = Path(file).stem
    views = next(iter(pairs.splits.values())).views
    kinds = {
        view: KIND_OF.get(str(modality_of(described.get(view, described.get("*")))))
        or kind_of_items(views.distinct(view)[0])
        for view in views.names
    }
    data = {
        "name": name,
        "source": file,
        "pairs": {name: len(split) for name, split in pairs.splits.items()},
        "groups": {name: len(set(split.groups.tolist())) for name, split in pairs.splits.items()},
        "revision": pairs.revision,
    }
    record = {
        "format": 1,
        "method": method,
        "views": list(views.names),
        "kinds": kinds,
        "columns": columns,
        "features": described,
        "data": data,
        "measured_on": split or "test",
        "measures": [dict(row) for row in measures],
        "notes": notes,
        "command": shlex.join(["crossfit", *sys.argv[1:]]),
        "versions": versions(),
        **more,
    }
    write_winner(model, record, out, _card(model, record))
    return record


def _card(model: Any, record: Mapping[str, Any]) -> str:
    import crossfit

    about = record["data"]
    sizes = [f"{n} in {split} ({about['groups'][split]} groups)" for split, n in
             about["pairs"].items()]  # fmt: skip
    columns = ", ".join(f"{view}: {column}" for view, column in (record["columns"] or {}).items())
    return crossfit.model_card(
        model,
        data={"name": about["name"], "file": about["source"], "pairs": ", ".join(sizes),
              "split": record["measured_on"], "revision": about["revision"], "columns": columns},
        measures=[{"level": 0.95, **row} for row in record["measures"]],
        command=record["command"],
        notes=record["notes"],
    )  # fmt: skip


def measures_of_cell(cell: Any) -> list[dict[str, Any]]:
    """Return the measures of a finished cell of an experiment, as rows of a record."""
    return [
        {"direction": str(way), "measure": metric, "value": found["mean"], "low": found["low"],
         "high": found["high"], "n": found["n"]}
        for way, by_metric in cell.results.items() for metric, found in by_metric.items()
    ]  # fmt: skip


def measures_of_search(search: Any, pairs: Any, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return the measures of the best settings of a search, as rows of a record.

    With folds, each fold is scored by a model that is fitted on the others, and the queries of all
    folds count together.

    Parameters
    ----------
    search : OptunaSearch
        Fitted, with ``refit``.
    pairs : Split
        Those that it was fitted on, or those that were held out if it has no folds.
    metrics : sequence of str
        The measures.
    """
    import numpy as np
    from sklearn.base import clone

    from crossfit.datasets import Split
    from crossfit.metrics.evaluation import Evaluation, PerQuery
    from crossfit.winners import Winner, evaluate_winner

    model = search.best_estimator_
    if search.folds_ is None:
        found = evaluate_winner(Winner(model), pairs, metrics).evaluation
    else:
        parts = []
        for train, test in search.folds_:
            fold = [
                Split(pairs.views[rows], None if pairs.y is None else pairs.y[rows])
                for rows in (train, test)
            ]
            made = clone(model).fit(fold[0].views, fold[0].y)
            parts.append(evaluate_winner(Winner(made), fold[1], metrics).evaluation)
        first = parts[0]
        values = {
            key: np.concatenate([part.per_query[key] for part in parts]) for key in first.per_query
        }
        groups = {}
        for way in first.directions:
            of_way = [part.groups[way] for part in parts]
            if all(codes is not None for codes in of_way):
                # No group is in two folds.
                starts = np.cumsum([0, *(int(codes.max()) + 1 for codes in of_way)])
                groups[way] = np.concatenate(
                    [codes + start for codes, start in zip(of_way, starts)]
                )
        found = Evaluation(
            PerQuery(values), first.directions, first.metrics, first.ties, first.ci, first.seed,
            groups,
        )  # fmt: skip
    return [
        {"direction": str(row["direction"]), "measure": row["metric"], "value": row["value"],
         "low": row["low"], "high": row["high"], "n": row["n_queries"]}
        for row in found.rows()
    ]  # fmt: skip
