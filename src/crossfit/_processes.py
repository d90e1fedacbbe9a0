"""Processes that work for another one end with it."""

from __future__ import annotations

import os
import threading
import time

__all__ = ["end_with"]

_watched: set[int] = set()


def end_with(parent: int, every: float = 0.5) -> None:
    """End this process soon after its parent has ended, whatever it is at.

    A parent that is killed cannot end its workers, which would compute what nobody waits for. A
    thread watches, and not the kernel: its signal on the death of a parent comes already when the
    thread ends that has started the process.

    Parameters
    ----------
    parent : int
        Number of the process that has started this one. A process does not watch itself.
    every : float, default=0.5
        Seconds between two looks.
    """
    if parent in _watched or parent == os.getpid():
        return
    _watched.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="crossfit-parent").start()
