"""Progress bars of long runs."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["progress_bar"]


def progress_bar(total: int, name: str, unit: str, verbose: bool | int | str) -> Any:
    """Return a tqdm bar according to a ``verbose`` parameter.

    Parameters
    ----------
    total : int
        Number of units in the whole run.
    name, unit : str
        Name of the run and of the unit.
    verbose : {"auto", True, False}
        ``"auto"``: on a terminal if the run lasts longer than two seconds; True: always; False:
        never.
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
