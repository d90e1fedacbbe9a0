"""Pieces of work in other processes."""

import os
import warnings

from joblib.externals.loky import process_executor

from crossfit._workers import processes


def grown(value):
    """Return a value from a process whose memory seems to grow with every piece."""
    process_executor._MAX_MEMORY_LEAK_SIZE = -(2**40)
    process_executor._MEMORY_LEAK_CHECK_DELAY = -1
    return value, os.getpid()


def test_processes_are_replaced_silently_if_their_memory_grows():
    values = {str(i): i for i in range(12)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with processes(2, lambda name: False) as run:
            found = dict(run(grown, values))
    assert {name: value for name, (value, _) in found.items()} == values
    assert len({process for _, process in found.values()}) > 2
    assert not caught
