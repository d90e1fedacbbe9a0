"""Reports: what an experiment measured, as a page, tables and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "report_runs": "from_runs",
    "write_board": "site",
    "write_results": "exported",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from crossfit.report.exported import write_results as write_results
    from crossfit.report.from_runs import report_runs as report_runs
    from crossfit.report.site import write_board as write_board
