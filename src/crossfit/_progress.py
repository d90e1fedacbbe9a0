"""The progress bar of long runs: on a terminal when a run lasts, always, or never."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["progress_bar"]


def progress_bar(total: int, name: str, unit: str, verbose: bool | int | str) -> Any:
    """Return a tqdm bar that follows a ``verbose`` parameter.

    Parameters
    ----------
    total : int
        Units of the whole run.
    name, unit : str
        What runs, and what is counted.
    verbose : {"auto", True, False}
        On a terminal when the run lasts longer than two seconds, always, never.
    """
    from tqdm import tqdm

    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=name,
        unit=unit,
        unit_scale=total > 100_000,
        delay=2.0 if verbose == "auto" else 0.0,
        leave=False,
        disable=not (on_terminal if verbose == "auto" else verbose),
    )
