"""Processes: when one started, whether it still runs, and workers that end with their parent."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

__all__ = ["end_with", "is_alive", "started"]

_watched: set[int] = set()


def end_with(parent: int, every: float = 0.5) -> None:
    """End this process soon after its parent has ended, even in the middle of its work.

    A parent that is killed cannot end its workers, which would go on computing for nothing. This
    uses a thread instead of the kernel's signal on the death of a parent, because that signal is
    sent as soon as the thread that started the process ends.

    Parameters
    ----------
    parent : int
        Id of the process that started this one. A process does not watch itself.
    every : float, default=0.5
        Seconds between checks.
    """
    if parent in _watched or parent == os.getpid():
        return
    _watched.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="crossfit-parent").start()


def started(pid: int) -> str:
    """Return when a process started, in digits that no other process of that number has.

    Parameters
    ----------
    pid : int
        Number of the process. Numbers are used again.

    Returns
    -------
    str
        Clock ticks since boot on Linux, else milliseconds; empty if there is no such process.
    """
    if os.path.isdir("/proc/self"):
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return ""
        # The name, in parentheses, may hold anything.
        fields = text.rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    import psutil

    try:
        return str(round(1000 * psutil.Process(pid).create_time()))
    except psutil.Error:
        return ""


def is_alive(pid: int, since: str) -> bool:
    """Return True if the process of that number that `started` then still runs."""
    return started(pid) == since != ""
