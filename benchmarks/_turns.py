"""Time epochs of a method and of a plain loop in turns, so that other load affects both equally."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from crossfit.neural import listening

__all__ = ["report_epochs"]


def report_epochs(what: str, fit: Callable[[], Any], plain: Callable[[int], Any]) -> None:
    """Print the time per epoch, and the median ratio to that of the plain loop.

    Parameters
    ----------
    what : str
        A description of the method and its settings.
    fit : callable
        Fits the method.
    plain : callable
        Trains the plain loop for one epoch; receives the number of epochs of the method so far.
    """
    plain(0)
    ours: list[float] = []
    theirs: list[float] = []

    def take_turns(estimator: Any, epoch: int, record: Any) -> None:
        nonlocal begun
        ours.append(time.perf_counter() - begun)
        with torch.random.fork_rng(devices=[]):
            begun = time.perf_counter()
            plain(epoch)
            theirs.append(time.perf_counter() - begun)
        begun = time.perf_counter()

    with listening(take_turns):
        begun = time.perf_counter()
        fit()
    ours, theirs = ours[1:], theirs[1:]  # the first includes the preparations
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    print(
        f"{what}: {1e3 * min(ours):7.1f} ms per epoch, plain loop {1e3 * min(theirs):7.1f} ms, "
        f"median ratio {ratio:.3f}",
        flush=True,
    )
