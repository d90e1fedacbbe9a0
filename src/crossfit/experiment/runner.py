"""Run an experiment: plan its cells, compute those missing from the store, report progress."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import crossfit
from crossfit._arguments import is_word
from crossfit.experiment.backends import Work, workers
from crossfit.experiment.plan_cache import keep_plan, kept_plan, state_of
from crossfit.experiment.planner import plan
from crossfit.experiment.records import RunRecord
from crossfit.experiment.spec import Experiment
from crossfit.experiment.store import Store
from crossfit.experiment.store_files import now, read_json
from crossfit.experiment.stored_schema import RUN
from crossfit.experiment.task import Cell, Outcome, Task

__all__ = ["Listener", "run"]


class Listener:
    """Callbacks of a run; the command line shows its progress with them."""

    def begin(self, cells: Sequence[Cell], todo: Sequence[Cell]) -> None:
        """Handle the beginning: the cells that can be computed, and those not yet stored."""

    def started(self, cell: Cell, searching: bool) -> None:
        """Handle the start of a cell, or of a search, in this process."""

    def trial(self, cell: Cell, done: int, wanted: int) -> None:
        """Handle the end of a trial of a search in this process."""

    def search(self, cell: Cell, outcome: Outcome, left: int) -> None:
        """Handle the end of a search for settings, which several cells may share."""

    def finished(self, cell: Cell, outcome: Outcome, left: int) -> None:
        """Handle the end of a cell."""

    def waiting(self, left: int) -> None:
        """Handle waiting for other processes that compute the remaining cells."""

    def end(self) -> None:
        """Handle the end of the run, also after an interruption."""


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
    """Run an experiment, reusing cells that are already in the store.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    store : Store or path-like, default="crossfit-runs"
        Where results are stored. Several runs may use one store at the same time.
    root : path-like, optional
        Folder of the data sets; ``CROSSFIT_DATA`` by default.
    data : path-like, optional
        A table of the user's own pairs, which replaces the experiment's data sets.
    n_jobs : int, default=1
        Number of processes, among which the processors are divided; -1 for one per processor.
    backend : {"loky", "dask"}, default="loky"
        Processes on this machine, or the workers of a Dask cluster.
    scheduler : str, optional
        Address of the Dask scheduler, ``"tcp://..."``.
    retry_failed : bool, default=False
        Recompute cells that have failed.
    force : bool, default=False
        Recompute all cells with their searches and features, after a change that keys do not
        cover, for instance of a library. Existing results stay until they are replaced.
    listener : Listener, optional
        Receives the progress of the run.
    tracker : {"mlflow", "tensorboard", "wandb"}, optional
        Tracker that also receives the results; see `crossfit.experiment.trackers`.
    command : str, default=""
        The command line, which is stored with the run.

    Returns
    -------
    RunRecord
        The run, with its cells in order. A failed cell does not end the run; its record has the
        traceback.

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
    if not is_word(backend, ("loky", "dask")):
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
    # The user's own files are read in every run, because a table does not show when they change.
    own = data is not None or any("table" in one.options for one in experiment.datasets)
    state = None if own else state_of(experiment, root)
    tasks: list[Task] = []
    cells = None if retry_failed or force or state is None else kept_plan(store, state)
    if cells is None:
        tasks = plan(experiment, store, root=root, data=data)
        cells = [task.cell for task in tasks]
    name = experiment.name if data is None else f"{experiment.name}-{Path(data).stem}"
    begun = now()
    given = {"data": None if data is None else str(Path(data).absolute())}
    given["root"] = None if root is None else str(Path(root).absolute())
    _write_run(store, name, experiment, cells, {"command": command, "created": begun, **given})
    skipped = {task.key for task in tasks if task.skip}
    for task in tasks:
        if task.skip:
            record = {"status": "skipped", "reason": task.skip, "cell": task.identity}
            store.write_cell(task.key, {**record, "finished": now()})  # unless it is done
    tasks = [task for task in tasks if not task.skip]
    if retry_failed or force:
        from crossfit.experiment.tuning import forget_search

        for task in tasks:
            forget_search(task, store, failed=not force)
    options = {"retry_before": begun if retry_failed or force else "", "force": force}
    todo: dict[str, Task] = {}
    for task in tasks:
        found = store.usable(task.key)
        settled = found.status == "done" or (found.status == "failed" and not retry_failed)
        if force or not settled:
            todo.setdefault(task.key, replace(task, tracker=follow, run=(name, experiment.title)))
    listener.begin(
        [cell for cell in cells if cell.key not in skipped], [task.cell for task in todo.values()]
    )
    try:
        if todo:
            with workers(n_jobs, backend, scheduler, listener) as work:
                # Several processes would wait for the longest search of each method.
                in_turn = n_jobs == 1 and backend == "loky"
                _compute(work, store, todo, options, listener, in_turn)
    finally:
        listener.end()
        store.clear_claims()
    if state is not None and not skipped:  # missing parts may be available next time
        keep_plan(store, state, cells)
    return store.run(name)


def _write_run(
    store: Store,
    name: str,
    experiment: Experiment,
    cells: Sequence[Cell],
    about: Mapping[str, Any],
) -> None:
    rows = [cell.row for cell in cells]
    record = {
        "title": experiment.title,
        "spec": experiment.to_dict(),
        "cells": rows,
        **about,
        "crossfit version": crossfit.__version__,
    }
    with contextlib.suppress(FileNotFoundError, ValueError):
        old = read_json(store.folder / "runs" / f"{name}.json", RUN)
        if old["cells"] == rows:
            record["created"] = old["created"]
    store.write_run(name, record)


def _compute(
    work: Work,
    store: Store,
    todo: Mapping[str, Task],
    options: Mapping[str, Any],
    listener: Listener,
    in_turn: bool,
) -> None:
    """Compute the cells, trying those again that other runners have claimed.

    A search for settings comes first, one for the cells of all seeds. If `in_turn`, the cells of a
    method are computed before the search of the next one, else all searches come first.
    """
    from crossfit.experiment.tuning import kept_search

    left = dict(todo)
    unsearched = {task.search_key for task in todo.values() if task.search_key is not None}
    unsearched = {key for key in unsearched if kept_search(store, key) is None}
    pause = 0.1
    while left:
        before = len(left) + len(unsearched)
        for batch in _batches(left.values(), in_turn):
            wanted = {task.search_key: task for task in batch if task.search_key in unsearched}
            busy = set()  # searches that other runners have claimed
            for outcome in work(list(wanted.values()), {"search_only": True}):
                task = todo[outcome.key]
                if outcome.status == "busy":
                    busy.add(task.search_key)
                    continue
                unsearched.discard(task.search_key)
                listener.search(task.cell, outcome, len(unsearched))
            for outcome in work([task for task in batch if task.search_key not in busy], options):
                if outcome.status == "busy":
                    continue
                cell = left.pop(outcome.key).cell
                if outcome.status == "cached":  # another runner was faster
                    outcome = replace(outcome, status=store.cell(outcome.key).status)
                listener.finished(cell, outcome, len(left))
        if left:
            listener.waiting(len(left))
            pause = 0.1 if len(left) + len(unsearched) < before else min(5.0, 1.5 * pause)
            time.sleep(pause)


def _batches(tasks: Iterable[Task], in_turn: bool) -> list[list[Task]]:
    """Divide tasks into those of one method after the other, or return them as one batch."""
    if not in_turn:
        return [list(tasks)]
    of_method = groupby(tasks, lambda task: (task.cell.dataset, task.cell.label))
    return [list(batch) for _, batch in of_method]
