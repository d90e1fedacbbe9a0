"""Run an experiment: plan its cells, compute those that the store lacks, show how far it is."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import crossfit
from crossfit.experiment.backends import Work, workers
from crossfit.experiment.files import now, read_json
from crossfit.experiment.plan_cache import keep_plan, kept_plan, state_of
from crossfit.experiment.planner import Planned, plan
from crossfit.experiment.records import RunRecord
from crossfit.experiment.schema import RUN
from crossfit.experiment.spec import Experiment
from crossfit.experiment.store import Store

__all__ = ["Listener", "run"]


class Listener:
    """What is told how far a run is; the command line draws it."""

    def begin(self, planned: Sequence[Planned], todo: int) -> None:
        """Hear what there is and how many cells must be computed."""

    def search(self, label: str, outcome: Any, left: int) -> None:
        """Hear that settings of a method have been searched for."""

    def finished(self, planned: Planned, outcome: Any, left: int) -> None:
        """Hear that a cell has ended."""

    def waiting(self, left: int) -> None:
        """Hear that other processes compute what is left."""

    def end(self) -> None:
        """Hear that the run has ended or was interrupted."""


def run(
    experiment: Experiment,
    store: Store | str | os.PathLike[str] = "crossfit-runs",
    *,
    root: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    n_jobs: int = 1,
    backend: str = "loky",
    scheduler: str | None = None,
    retry_failed: bool = False,
    force: bool = False,
    listener: Listener | None = None,
    tracker: str | None = None,
    command: str = "",
) -> RunRecord:
    """Run an experiment; cells that the store has are taken from there.

    Parameters
    ----------
    experiment : Experiment
        What to run.
    store : Store or path
        Where results go. Several runs may use one store at once.
    root : path, optional
        Folder of the data sets; ``CROSSFIT_DATA`` by default.
    data : path, optional
        A table of the user's own pairs, in place of the experiment's data sets.
    n_jobs : int
        Processes; the processors are divided among them. -1 is one for each processor.
    backend : {"loky", "dask"}
        Processes on this machine, or the workers of a Dask cluster.
    scheduler : str, optional
        Address of the Dask scheduler, ``"tcp://..."``.
    retry_failed : bool
        Compute cells again that have failed.
    force : bool
        Compute all cells again, their searches and features too: after a change that no key sees,
        of a library for instance. Those that are done stay until they are replaced.
    listener : Listener, optional
        Hears how far the run is.
    tracker : {"mlflow", "tensorboard", "wandb"}, optional
        Who is handed the results too; see `crossfit.experiment.trackers`.
    command : str
        What was typed, for the record.

    Returns
    -------
    RunRecord
        With the cells in order. A cell that failed says so and has its traceback; it does not
        end the run.

    Examples
    --------
    >>> import tempfile
    >>> from crossfit.experiment import Experiment, run
    >>> e = Experiment(title="One", dataset="emoji", methods=["cca"],
    ...                features={"image": "grid", "text": [
    ...                    "sklearn.feature_extraction.text.TfidfVectorizer",
    ...                    {"name": "sklearn.decomposition.TruncatedSVD",
    ...                     "params": {"n_components": 50}}]})
    >>> run(e, tempfile.mkdtemp()).cells[0].status  # doctest: +SKIP
    'done'
    """
    if not isinstance(experiment, Experiment):
        raise TypeError(
            "run expects an Experiment, for instance Experiment.find('file.yaml' or a name), got "
            f"{experiment!r}"
        )
    store = store if isinstance(store, Store) else Store(store)
    store.clear_claims()
    if backend not in ("loky", "dask"):
        raise ValueError(f"backend must be 'loky' or 'dask', got {backend!r}")
    if backend == "dask" and not scheduler:
        raise ValueError("the backend 'dask' needs scheduler='tcp://<host>:<port>'")
    if not isinstance(n_jobs, int) or n_jobs == 0 or n_jobs < -1:
        raise ValueError(f"n_jobs must be a positive integer or -1, got {n_jobs!r}")
    listener = listener or Listener()
    follow = None
    if tracker is not None:
        from crossfit.experiment.trackers import make

        follow = make(tracker, store.folder / "tracking")
    # The user's own files are looked at in every run: a table does not say when one has changed.
    state = None if data is not None else state_of(experiment, root)
    planned = None if retry_failed or force or state is None else kept_plan(store, state)
    if planned is None:
        planned = plan(experiment, store, root=root, data=data)
    name = experiment.name if data is None else f"{experiment.name}-{Path(data).stem}"
    begun = now()
    given = {"data": None if data is None else str(Path(data).absolute())}
    given["root"] = None if root is None else str(Path(root).absolute())
    _write_run(store, name, experiment, planned, {"command": command, "created": begun, **given})
    for part in planned:
        if part.skip:
            record = {
                "status": "skipped",
                "reason": part.skip,
                "cell": part.cell,
                "finished": now(),
            }
            store.write_cell(part.key, record)  # unless it is done
    if retry_failed or force:
        from crossfit.experiment.tuning import forget_search

        for part in planned:
            if part.task is not None:
                forget_search(part.task, store, failed=not force)
    options = {"retry_before": begun if retry_failed or force else "", "force": force}
    todo: dict[str, Planned] = {}
    for part in planned:
        found = store.usable(part.key)
        settled = found.status == "done" or (found.status == "failed" and not retry_failed)
        if part.task is not None and (force or not settled):
            about = {"tracker": follow, "run": (name, experiment.title)}
            todo.setdefault(part.key, replace(part, task=replace(part.task, **about)))
    listener.begin(planned, len(todo))
    try:
        if todo:
            with workers(n_jobs, backend, scheduler) as work:
                _search(work, store, todo, listener)
                _compute(work, store, todo, options, listener)
    finally:
        listener.end()
        store.clear_claims()
    if state is not None:
        keep_plan(store, state, planned)
    return store.run(name)


def _write_run(
    store: Store,
    name: str,
    experiment: Experiment,
    planned: Sequence[Planned],
    about: Mapping[str, Any],
) -> None:
    cells = [
        {
            "key": part.key,
            "method": part.method,
            "dataset": part.dataset,
            "seed": part.seed,
            "features": part.features,
            "note": part.note,
        }
        for part in planned
    ]
    record = {
        "title": experiment.title,
        "spec": experiment.to_dict(),
        "cells": cells,
        **about,
        "crossfit version": crossfit.__version__,
    }
    with contextlib.suppress(FileNotFoundError, ValueError):
        old = read_json(store.folder / "runs" / f"{name}.json", RUN)
        if old["cells"] == cells:
            record["created"] = old["created"]
    store.write_run(name, record)


def _search(work: Work, store: Store, todo: Mapping[str, Planned], listener: Listener) -> None:
    """Search for settings first, once for the cells of all seeds."""
    from crossfit.experiment.tuning import kept_search

    wanted: dict[str, Planned] = {}
    for part in todo.values():
        key = part.task.search_key
        if key is not None and kept_search(store, key) is None:
            wanted.setdefault(key, part)
    left = len(wanted)
    by_cell = {part.key: part for part in wanted.values()}
    for outcome in work([part.task for part in wanted.values()], {"search_only": True}):
        left -= 1
        listener.search(by_cell[outcome.key].method, outcome, left)


def _compute(
    work: Work,
    store: Store,
    todo: dict[str, Planned],
    options: Mapping[str, Any],
    listener: Listener,
) -> None:
    """Compute the cells; those that other runners have claimed are asked for again."""
    left = dict(todo)
    pause = 0.1
    while left:
        before = len(left)
        for outcome in work([part.task for part in left.values()], options):
            if outcome.status == "busy":
                continue
            part = left.pop(outcome.key)
            if outcome.status == "cached":  # another runner was quicker
                outcome = replace(outcome, status=store.cell(outcome.key).status)
            listener.finished(part, outcome, len(left))
        if left:
            listener.waiting(len(left))
            pause = 0.1 if len(left) < before else min(5.0, 1.5 * pause)
            time.sleep(pause)
