"""Few threads for small work, so that concurrent programs do not slow each other down.

A decomposition passes thousands of small pieces to its threads, one after the other, and waits for
all of them each time. If the other cores are busy, every wait costs a time slice of the scheduler,
so that two threads on two busy cores took ten times as long as one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["SMALL", "few_threads"]

SMALL = 2.0**33
"""Number of operations (about a second) up to which more threads gain little."""

_limiting = threading.Lock()


@contextmanager
def few_threads(operations: float) -> Iterator[None]:
    """Run linear algebra on one thread inside the block, if it is small.

    Parameters
    ----------
    operations : float
        About n d² for products of n rows of d columns, d³ for decompositions. Above `SMALL`,
        nothing changes.

    Notes
    -----
    The number of threads belongs to the whole process. Only one caller at a time limits it; when
    that caller leaves, the number is restored, also for others who entered in the meantime.
    """
    if not operations <= SMALL or not _limiting.acquire(blocking=False):
        yield
        return
    try:
        with _blas().limit(limits=1):
            yield
    finally:
        _limiting.release()


@cache
def _blas() -> Any:
    """Return the controller of NumPy's and SciPy's libraries; finding them takes 20 ms."""
    import scipy.linalg  # noqa: F401 - loads both
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
