"""Run an experiment: plan its cells, compute those that the store lacks, show how far it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import crossfit
from crossfit import registry
from crossfit.experiment.spec import DatasetSpec, Experiment, MethodSpec
from crossfit.experiment.store import RunRecord, Store, key_of, now

__all__ = ["Planned", "plan", "run"]


@dataclass(frozen=True)
class Planned:
    """A cell of an experiment, before it is computed.

    Parameters
    ----------
    key : str
        Key in the store.
    method, dataset : str
        Labels.
    seed : int
        The seed.
    features : str
        The features in one line.
    note : str
        What is to be said of it, for instance that the seed makes no difference.
    skip : str
        Why it cannot be computed; empty if it can.
    task : Task or None
        What to compute; None if it is skipped.
    cell : mapping
        What the key is made of.
    """

    key: str
    method: str
    dataset: str
    seed: int
    features: str
    note: str
    skip: str
    task: Any
    cell: Mapping[str, Any]


def plan(
    experiment: Experiment,
    store: Store | str | os.PathLike[str] = "crossfit-runs",
    *,
    root: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
) -> list[Planned]:
    """Return the cells of an experiment, in order; data sets are loaded, nothing is computed.

    Parameters
    ----------
    experiment : Experiment
        What to run.
    store : Store or path
        Where results go.
    root : path, optional
        Folder of the data sets; ``CROSSFIT_DATA`` by default.
    data : path, optional
        A table of the user's own pairs, in place of the experiment's data sets.

    Raises
    ------
    SpecError
        If a method or a part has no such parameter.
    """
    store = store if isinstance(store, Store) else Store(store)
    datasets: Sequence[DatasetSpec] = experiment.datasets
    if data is not None:
        name = Path(data).stem
        datasets = (DatasetSpec(name, {}, {}, name),)
    found = []
    for dataset in datasets:
        about, problem = _about(experiment, dataset, root, data)
        for method in experiment.methods:
            found += _cells_of(experiment, dataset, method, about, problem, store, root)
    return found


def _about(
    experiment: Experiment,
    dataset: DatasetSpec,
    root: str | os.PathLike[str] | None,
    data: str | os.PathLike[str] | None,
) -> tuple[dict[str, Any], str]:
    """Return a data set as tasks and keys have it, and why it cannot be loaded, if so."""
    from crossfit.experiment.cell import load_splits

    task = {
        "name": dataset.name,
        "options": dict(dataset.options),
        "subset": dict(dataset.subset),
        "splits": {} if data is not None else dict(experiment.splits),
        "own": None if data is None else str(Path(data).absolute()),
    }
    keyed = {
        "name": dataset.name,
        "params": dict(dataset.options),
        "revision": None,
        "subset": dict(dataset.subset),
        "splits": dict(experiment.splits),
    }
    try:
        ds, splits = load_splits(task, None if root is None else str(root))
    except (registry.RegistryError, FileNotFoundError, ImportError) as error:
        return {"task": task, "keyed": keyed}, " ".join(str(error).split())
    keyed["revision"] = ds.revision
    keyed["splits"] = {
        role: next(name for name, part in ds.splits.items() if part is split)
        if not dataset.subset
        else (task["splits"].get(role) or _named(ds, role))
        for role, split in splits.items()
    }
    return {"task": task, "keyed": keyed}, ""
