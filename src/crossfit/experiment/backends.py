"""Backends that compute cells: this process, processes of this machine, a Dask cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from crossfit._workers import Lost, Run, cluster, processes
from crossfit.experiment.store import Store
from crossfit.experiment.store_files import now
from crossfit.experiment.task import Outcome, Task

if TYPE_CHECKING:
    from crossfit.experiment.runner import Listener

__all__ = ["Work", "workers"]

Work = Callable[[Sequence[Task], Mapping[str, Any]], Iterator[Outcome]]


@contextlib.contextmanager
def workers(n_jobs: int, backend: str, scheduler: str | None, listener: Listener) -> Iterator[Work]:
    """Provide a function ``work(tasks, options)`` that yields outcomes as they become available.

    The listener receives the starts of cells, and trials, of this process only.
    """
    if backend == "dask":
        with cluster(str(scheduler)) as run:
            yield partial(_by, run)
    elif n_jobs == 1:
        yield partial(_here, listener)
    else:
        tasks: dict[str, Task] = {}
        with processes(n_jobs, lambda key: _orphaned(tasks[key])) as run:
            yield partial(_by, run, known=tasks)


def _here(
    listener: Listener, tasks: Sequence[Task], options: Mapping[str, Any]
) -> Iterator[Outcome]:
    from crossfit.experiment.cell import execute

    for task in tasks:
        listener.started(task.cell, bool(options.get("search_only")))
        yield execute(task, **options, on_trial=partial(listener.trial, task.cell))


def _by(
    run: Run,
    tasks: Sequence[Task],
    options: Mapping[str, Any],
    known: dict[str, Task] | None = None,
) -> Iterator[Outcome]:
    """Compute cells in other processes."""
    from crossfit.experiment.cell import execute

    by_key = {task.key: task for task in tasks}
    if known is not None:
        known |= by_key
    for key, outcome in run(partial(execute, **options), by_key):
        # Errors of a cell are part of its outcome.
        yield _lost(by_key[key], options, outcome.reason) if isinstance(outcome, Lost) else outcome


def _orphaned(task: Task) -> bool:
    """Return True if the process that computed a cell, or its search, was killed."""
    names = [task.key] if task.search_key is None else [task.key, f"search-{task.search_key}"]
    return any(map(Store(task.store, lease=task.lease).is_orphaned, names))


def _lost(task: Task, options: Mapping[str, Any], reason: str) -> Outcome:
    """Store the failure of a cell, or of a search, whose process was killed."""
    from crossfit.experiment.tuning import keep_search

    store = Store(task.store, lease=task.lease)
    if options.get("search_only"):
        claim = store.claim(f"search-{task.search_key}")
        if claim is not None:  # else another runner computes it
            with claim:
                keep_search(task, store, {"error": reason, "traceback": ""})
    else:
        about = {"cell": task.identity, "finished": now(), "reason": reason, "traceback": reason}
        store.write_cell(task.key, {**about, "status": "failed"})  # a finished result is kept
    return Outcome(task.key, "failed", 0.0, reason)
