"""Stored plans of finished experiments, which are reused while nothing has changed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from crossfit import registry
from crossfit._code import package_files
from crossfit.experiment.keys import key_of
from crossfit.experiment.spec import Experiment
from crossfit.experiment.store import Store
from crossfit.experiment.store_files import StoreError, read_json, write_signed
from crossfit.experiment.stored_schema import PLAN
from crossfit.experiment.task import Cell

__all__ = ["keep_plan", "kept_plan", "state_of"]


def state_of(experiment: Experiment, root: str | os.PathLike[str] | None) -> str:
    """Hash everything on which a plan depends, without loading data or methods.

    Like `make`, it considers files of equal size and modification time unchanged.
    """
    from crossfit.experiment.identity import files_named

    folder = root or os.environ.get("CROSSFIT_DATA")
    files = {os.path.expanduser(path) for path in files_named(experiment.to_dict())}
    for dataset in experiment.datasets:
        for place in (Path(folder) / dataset.name, Path(folder)) if folder else ():
            if place.is_dir():
                files |= {str(path) for path in islice(place.rglob("*"), 200_000)}
                break
    # The code of everything that is installed: only a new plan would show which of it matters.
    targets = {entry.card.target for entry in registry.entries() if entry.card is not None}
    for package in {"crossfit", *(re.split("[.:]", target)[0] for target in targets)}:
        files |= {str(path) for path in package_files(package).values()}
    stats = []
    for path in sorted(files):
        with contextlib.suppress(OSError):
            about = os.stat(path)
            stats.append([path, about.st_size, about.st_mtime_ns])
    versions = sorted({(entry.distribution, entry.version) for entry in registry.entries()})
    return key_of(
        {
            "experiment": experiment.to_dict(),
            "files": stats,
            "versions": [*versions, ("scikit-learn", importlib.metadata.version("scikit-learn"))],
        }
    )


def kept_plan(store: Store, state: str) -> list[Cell] | None:
    """Return the cells of a finished run in this state, or None if there is none."""
    path = store.folder / "plans" / f"{state}.json"
    try:
        if not os.path.lexists(path):
            return None
        rows = read_json(path, PLAN)["rows"]
    except StoreError:  # planned again
        return None
    if not rows or any(store.usable(row["key"]).status not in ("done", "failed") for row in rows):
        return None
    return list(map(Cell.from_row, rows))


def keep_plan(store: Store, state: str, cells: Sequence[Cell]) -> None:
    """Store the plan of a finished experiment."""
    rows = [cell.row for cell in cells]
    write_signed(store.folder / "plans" / f"{state}.json", {"rows": rows}, "a plan")
