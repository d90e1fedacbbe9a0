"""Pieces of work in several processes, of this machine or of a Dask cluster, in any order."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Lost", "Run", "cluster", "processes"]

# joblib replaces a process whose memory has grown, as it does when libraries load and keep buffers.
# Its warning suggests a leak, and is of no use, since no piece is lost.
_REPLACED = "A worker stopped while some jobs were given to the executor"


@dataclass(frozen=True)
class Lost:
    """Value instead of a result if the process that computed it was killed."""

    reason: str


Run = Callable[[Callable[[Any], Any], Mapping[str, Any]], Generator[tuple[str, Any]]]
"""Function that applies a function to values by name, and yields names with results or `Lost`."""


@contextlib.contextmanager
def processes(n_jobs: int, orphaned: Callable[[str], bool]) -> Iterator[Run]:
    """Start processes on this machine, and restart them if one is killed.

    After a restart, the pieces that were being computed are computed one at a time, and a piece is
    lost if its process is killed again.

    Parameters
    ----------
    n_jobs : int
        Number of processes; -1 is one per processor.
    orphaned : callable
        Returns True for the name of a piece whose process was killed.
    """
    import joblib
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    n_jobs = (os.cpu_count() or 1) if n_jobs == -1 else n_jobs
    threads = max(1, (os.cpu_count() or 1) // n_jobs)

    def run(
        function: Callable[[Any], Any], values: Mapping[str, Any]
    ) -> Generator[tuple[str, Any]]:
        left = dict(values)
        suspects: list[str] = []
        while left:
            alone = next((name for name in suspects if name in left), None)
            batch = left if alone is None else {alone: left[alone]}
            pool = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
            me = os.getpid()
            jobs = [joblib.delayed(_for_parent)(me, function, *item) for item in batch.items()]
            try:
                with joblib.parallel_config("loky", inner_max_num_threads=threads):
                    for name, result in pool(jobs):
                        left.pop(name)
                        yield name, result
            except TerminatedWorkerError:
                if alone is None:
                    # A process that is killed before it claims a piece leaves no trace.
                    suspects = [name for name in left if orphaned(name)] or list(left)
                else:
                    left.pop(alone)
                    reason = "the process that computed it was killed, perhaps for lack of memory"
                    yield alone, Lost(reason)

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _REPLACED, UserWarning)
            yield run
    except BaseException:
        # Also after Ctrl-C: pieces that are being computed are abandoned, and their claims end.
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        raise


def _for_parent(
    parent: int, function: Callable[[Any], Any], name: str, value: Any
) -> tuple[str, Any]:
    """Compute a piece in a process that ends with its parent."""
    from crossfit._processes import end_with

    end_with(parent)
    return name, function(value)


@contextlib.contextmanager
def cluster(scheduler: str) -> Iterator[Run]:
    """Connect to a Dask cluster; if a worker is lost, its pieces go to another one."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ImportError(
            "the backend 'dask' needs dask.distributed: pip install 'dask[distributed]'"
        ) from None

    with Client(scheduler, timeout="20s", set_as_default=False) as client:

        def run(
            function: Callable[[Any], Any], values: Mapping[str, Any]
        ) -> Generator[tuple[str, Any]]:
            futures = {
                client.submit(function, value, pure=False): name for name, value in values.items()
            }
            for future in as_completed(futures, loop=client.loop):
                if future.status == "error":
                    # Of the cluster; the function returns its own errors.
                    error = future.exception()
                    yield futures[future], Lost(f"{type(error).__name__}: {error}")
                else:
                    yield futures[future], future.result()

        yield run
