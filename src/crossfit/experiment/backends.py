"""Backends that compute cells: this process, processes of this machine, a Dask cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

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
        with _dask(str(scheduler)) as work:
            yield work
    elif n_jobs == 1:
        yield partial(_here, listener)
    else:
        with _processes((os.cpu_count() or 1) if n_jobs == -1 else n_jobs) as work:
            yield work


def _here(
    listener: Listener, tasks: Sequence[Task], options: Mapping[str, Any]
) -> Iterator[Outcome]:
    from crossfit.experiment.cell import execute

    for task in tasks:
        listener.started(task.cell, bool(options.get("search_only")))
        yield execute(task, **options, on_trial=partial(listener.trial, task.cell))


@contextlib.contextmanager
def _processes(n_jobs: int) -> Iterator[Work]:
    """Start processes on this machine, and restart them if one is killed.

    After a restart, the cells that were being computed are computed one at a time, and a cell fails
    if its process is killed again.
    """
    import joblib
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    threads = max(1, (os.cpu_count() or 1) // n_jobs)

    def work(tasks: Sequence[Task], options: Mapping[str, Any]) -> Iterator[Outcome]:
        left = {task.key: task for task in tasks}
        suspects: list[str] = []
        while left:
            alone = next((key for key in suspects if key in left), None)
            batch = list(left.values()) if alone is None else [left[alone]]
            pool = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
            me = os.getpid()
            jobs = [joblib.delayed(_for_parent)(me, task, **options) for task in batch]
            try:
                with joblib.parallel_config("loky", inner_max_num_threads=threads):
                    for outcome in pool(jobs):
                        left.pop(outcome.key)
                        yield outcome
            except TerminatedWorkerError:
                if alone is None:
                    # A process that is killed before it claims a cell leaves no trace.
                    suspects = [key for key, task in left.items() if _orphaned(task)] or list(left)
                else:
                    reason = "the process that computed it was killed, perhaps for lack of memory"
                    yield _lost(left.pop(alone), options, reason)

    try:
        yield work
    except BaseException:
        # Also after Ctrl-C: cells that are being computed are abandoned, and their claims end.
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        raise


def _for_parent(parent: int, task: Task, **options: Any) -> Outcome:
    """Compute a cell in a process that ends with its parent."""
    from crossfit._processes import end_with
    from crossfit.experiment.cell import execute

    end_with(parent)
    return execute(task, **options)


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
        record = {"status": "failed", "cell": task.identity, "finished": now(), "traceback": reason}
        store.write_cell(task.key, record)  # a finished result is kept
    return Outcome(task.key, "failed", 0.0, reason)


@contextlib.contextmanager
def _dask(scheduler: str) -> Iterator[Work]:
    """Connect to a Dask cluster; if a worker is lost, its cells go to another one."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ImportError(
            "the backend 'dask' needs dask.distributed: pip install 'dask[distributed]'"
        ) from None

    from crossfit.experiment.cell import execute

    with Client(scheduler, timeout="20s", set_as_default=False) as client:

        def work(tasks: Sequence[Task], options: Mapping[str, Any]) -> Iterator[Outcome]:
            futures = {client.submit(execute, task, **options, pure=False): task for task in tasks}
            for future in as_completed(futures, loop=client.loop):
                if future.status == "error":
                    # An error of the cluster; errors of a cell are part of its outcome.
                    error = future.exception()
                    yield _lost(futures[future], options, f"{type(error).__name__}: {error}")
                else:
                    yield future.result()

        yield work
