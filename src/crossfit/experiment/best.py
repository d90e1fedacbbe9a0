"""The best method of a run, fitted again so that it can be kept."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

import numpy as np

from crossfit.compose import ViewTransformer
from crossfit.experiment.build import build_features
from crossfit.experiment.data import load_splits
from crossfit.experiment.pipeline import cell_pipeline
from crossfit.experiment.planner import plan
from crossfit.experiment.records import CellRecord, RunRecord
from crossfit.experiment.spec import Experiment
from crossfit.experiment.task import Task
from crossfit.experiment.tuning import chosen_settings
from crossfit.metrics import parse_metric

__all__ = ["best_cell", "refit"]


def best_cell(record: RunRecord) -> CellRecord:
    """Return the first cell of the method with the best main metric.

    Parameters
    ----------
    record : RunRecord
        A run on one data set with at least one finished cell. Means are over both directions and
        all finished seeds; equal methods are in the order of the experiment.

    Returns
    -------
    CellRecord
    """
    metric = record.metrics[0]
    of_method: dict[str, list[CellRecord]] = defaultdict(list)
    for cell in record.done:
        of_method[cell.label].append(cell)
    sign = 1.0 if parse_metric(metric).greater_is_better else -1.0
    means = {
        label: sign * np.mean([cell.mean(metric) for cell in cells])
        for label, cells in of_method.items()
    }
    label = max(means, key=lambda name: -np.inf if np.isnan(means[name]) else means[name])
    return of_method[label][0]


def task_of(
    record: RunRecord,
    cell: CellRecord,
    *,
    root: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
) -> Task:
    """Return the task that computes a cell; see `refit`."""
    tasks = plan(Experiment.from_dict(record.spec), record.store, root=root, data=data)
    task = next((task for task in tasks if task.key == cell.key), None)
    if task is None:
        raise ValueError(
            f"the data or the code of {cell.label} have changed since the run; run it again"
        )
    return task


def refit(
    record: RunRecord,
    cell: CellRecord,
    *,
    root: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
) -> Any:
    """Fit the method of a cell again, with its features, settings and seed, on its training pairs.

    Parameters
    ----------
    record : RunRecord
        The run.
    cell : CellRecord
        One of its finished cells.
    root, data : path-like, optional
        As in `crossfit.experiment.run`.

    Returns
    -------
    Pipeline
        The fitted features, method and similarity, for `crossfit.save`.

    Raises
    ------
    ValueError
        If the experiment, its data or its code have changed since the run.
    """
    task = task_of(record, cell, root=root, data=data)
    transformers = build_features(task.features)
    stage = ViewTransformer(transformers) if transformers else None
    model = cell_pipeline(task, stage, task.seed, chosen_settings(task, record.store))
    train = load_splits(task.source, task.identity["dataset"]["revision"]).splits["train"]
    return model.fit(train.views, train.y)
