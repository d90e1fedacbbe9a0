"""Experiments: fit and evaluate methods on data sets, and keep the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "CellRecord": "records",
    "Experiment": "spec",
    "RunRecord": "records",
    "SpecError": "_yaml",
    "Store": "store",
    "StoreError": "store_files",
    "plan": "planner",
    "run": "runner",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from crossfit.experiment._yaml import SpecError as SpecError
    from crossfit.experiment.planner import plan as plan
    from crossfit.experiment.records import CellRecord as CellRecord
    from crossfit.experiment.records import RunRecord as RunRecord
    from crossfit.experiment.runner import run as run
    from crossfit.experiment.spec import Experiment as Experiment
    from crossfit.experiment.store import Store as Store
    from crossfit.experiment.store_files import StoreError as StoreError
