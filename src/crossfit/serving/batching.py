"""One thread that computes, and gathers the queries of several requests into batches."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from crossfit.serving.errors import Refused

__all__ = ["Batcher", "Room"]

Job = TypeVar("Job")


class Room:
    """A bound on the number of queries that are computed or wait.

    Parameters
    ----------
    size : int
        Their number.

    Attributes
    ----------
    taken : int
        The number at present.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0

    @contextmanager
    def hold(self, n: int) -> Iterator[None]:
        """Hold room for n queries while the block runs; all calls are of one event loop.

        Raises
        ------
        Refused
            With 429 if there is not enough room.
        """
        if self.taken + n > self.size:
            raise Refused(
                429,
                f"{self.taken} queries are waiting, of at most {self.size}; try again in a second",
                {"Retry-After": "1"},
            )
        self.taken += n
        try:
            yield
        finally:
            self.taken -= n


class Batcher(Generic[Job]):
    """A thread that runs jobs in batches, in the order in which they arrive.

    Parameters
    ----------
    run : callable
        Function of a list of jobs that returns a list of as many results; a result that is an
        exception is raised where the job was submitted.
    size : int
        Number of jobs per batch.
    window : float
        Seconds for which the first job of a batch waits for others.
    observe : callable, optional
        Called with the size of each batch.
    """

    def __init__(
        self,
        run: Callable[[list[Job]], Sequence[Any]],
        size: int,
        window: float,
        observe: Callable[[int], None] | None = None,
    ) -> None:
        self._run = run
        self._size = size
        self._window = window
        self._observe = observe
        self._jobs: queue.SimpleQueue[tuple[Any, Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def submit(self, job: Job) -> Any:
        """Return the result of a job; if the caller is cancelled first, the job may not run."""
        return await self._put(job)

    async def call(self, function: Callable[[], Any]) -> Any:
        """Return the result of a function that is called between two batches."""
        return await self._put(_Call(function))

    def stop(self) -> None:
        """Stop the thread when all jobs that were submitted have run; a later job starts another.

        All calls are of one event loop, or come after it.
        """
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    async def _put(self, job: Any) -> Any:
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="crossfit-batches", daemon=True)
            self._thread.start()
        future: Future[Any] = Future()
        self._jobs.put((job, future))
        return await asyncio.wrap_future(future)

    def _loop(self) -> None:
        while (batch := self._next()) is not None:
            jobs = [(job, future) for job, future in batch if future.set_running_or_notify_cancel()]
            for job, future in jobs:
                if isinstance(job, _Call):
                    _settle(future, job.result())
            queries = [(job, future) for job, future in jobs if not isinstance(job, _Call)]
            if not queries:
                continue
            if self._observe is not None:
                self._observe(len(queries))
            try:
                results = self._run([job for job, _ in queries])
            except Exception as error:  # the thread must live on
                results = [error] * len(queries)
            for (_, future), result in zip(queries, results, strict=True):
                _settle(future, result)

    def _next(self) -> list[tuple[Any, Future[Any]]] | None:
        first = self._jobs.get()
        if first is None:
            return None
        batch = [first]
        until = time.monotonic() + self._window
        while len(batch) < self._size:
            try:
                job = self._jobs.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)  # stop after this batch
                break
            batch.append(job)
        return batch


class _Call:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function

    def result(self) -> Any:
        try:
            return self.function()
        except Exception as error:
            return error


def _settle(future: Future[Any], result: Any) -> None:
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
