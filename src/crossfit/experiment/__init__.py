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
        "CellRecord": "store",
        "Experiment": "spec",
        "Result": "comparison",
        "RunRecord": "store",
        "SpecError": "spec",
        "Store": "store",
        "StoreError": "store",
        "fit_and_evaluate": "comparison",
        "plan": "runner",
        "run": "runner",
    },
)

if TYPE_CHECKING:
    from crossfit.experiment.comparison import Result, fit_and_evaluate
    from crossfit.experiment.runner import plan, run
    from crossfit.experiment.spec import Experiment, SpecError
    from crossfit.experiment.store import CellRecord, RunRecord, Store, StoreError
