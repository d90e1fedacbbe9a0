"""Experiments: fit and evaluate methods on data sets, and keep the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__all__ = [
    "CellRecord",
    "Experiment",
    "RunRecord",
    "SpecError",
    "Store",
    "StoreError",
    "plan",
    "run",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "CellRecord": "records",
        "Experiment": "spec",
        "RunRecord": "records",
        "SpecError": "_yaml",
        "Store": "store",
        "StoreError": "store_files",
        "plan": "planner",
        "run": "runner",
    },
)

if TYPE_CHECKING:
    from crossfit.experiment._yaml import SpecError
    from crossfit.experiment.planner import plan
    from crossfit.experiment.records import CellRecord, RunRecord
    from crossfit.experiment.runner import run
    from crossfit.experiment.spec import Experiment
    from crossfit.experiment.store import Store
    from crossfit.experiment.store_files import StoreError
