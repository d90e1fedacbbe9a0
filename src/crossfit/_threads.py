"""Few threads for small work, so that programs side by side do not spin against each other.

A decomposition hands its threads thousands of small pieces, one after the other, and waits for
all of them each time. Where the other cores are busy every wait costs a slice of the scheduler's
time, so that two threads on two busy cores took ten times as long as one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["SMALL", "few_threads"]

SMALL = 2.0**33
"""Operations of products or decompositions up to which more threads gain little: a second."""

_limiting = threading.Lock()


@contextmanager
def few_threads(operations: float) -> Iterator[None]:
    """Run linear algebra on one thread meanwhile, if it is small.

    Parameters
    ----------
    operations : float
        About n d² for products of n rows of d columns, d³ for decompositions; above `SMALL`
        nothing changes.

    Notes
    -----
    The number of threads belongs to the whole process: one caller at a time limits it, and when
    that one leaves it is as it was, also for others who came meanwhile.
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
    """Return the controller of the libraries of NumPy and SciPy; finding them takes 20 ms."""
    import scipy.linalg  # noqa: F401 - loads both
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
