"""Experiments: fit and evaluate methods on a data set, and report what came out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__all__ = ["Result", "fit_and_evaluate", "write_report"]

__getattr__, __dir__ = attach(
    __name__,
    {"Result": "comparison", "fit_and_evaluate": "comparison", "write_report": "report"},
)

if TYPE_CHECKING:
    from crossfit.experiment.comparison import Result, fit_and_evaluate
    from crossfit.experiment.report import write_report
