"""Reports: what an experiment measured, as a page, tables and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__all__ = ["report_runs"]

__getattr__, __dir__ = attach(
    __name__,
    {"report_runs": "from_runs"},
)

if TYPE_CHECKING:
    from crossfit.report.from_runs import report_runs
