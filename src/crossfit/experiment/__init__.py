"""Experiments: fit and evaluate methods on data sets, and keep the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__all__ = [
    "CellRecord",
    "Experiment",
    "Result",
    "RunRecord",
    "SpecError",
    "Store",
    "StoreError",
    "fit_and_evaluate",
    "plan",
    "run",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "CellRecord": "records",
        "Experiment": "spec",
        "Result": "comparison",
        "RunRecord": "records",
        "SpecError": "_yaml",
        "Store": "store",
        "StoreError": "files",
        "fit_and_evaluate": "comparison",
        "plan": "planner",
        "run": "runner",
    },
)

if TYPE_CHECKING:
    from crossfit.experiment._yaml import SpecError
    from crossfit.experiment.comparison import Result, fit_and_evaluate
    from crossfit.experiment.files import StoreError
    from crossfit.experiment.planner import plan
    from crossfit.experiment.records import CellRecord, RunRecord
    from crossfit.experiment.runner import run
    from crossfit.experiment.spec import Experiment
    from crossfit.experiment.store import Store
