"""Epochs of a method and of a plain loop in turns: what else the machine does falls on both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from crossfit.neural import listening

__all__ = ["report_epochs"]


def report_epochs(what: str, fit: Callable[[], Any], plain: Callable[[int], Any]) -> None:
    """Print the time of an epoch, and the median ratio to the plain loop's.

    Parameters
    ----------
    what : str
    fit : callable
        Fits the method.
    plain : callable
        Trains the plain loop for one epoch, given the number of epochs that the method has done.
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
    ours, theirs = ours[1:], theirs[1:]  # the first has the preparations in it
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    print(
        f"{what}: {1e3 * min(ours):7.1f} ms an epoch, plain loop {1e3 * min(theirs):7.1f} ms, "
        f"median ratio {ratio:.3f}",
        flush=True,
    )
