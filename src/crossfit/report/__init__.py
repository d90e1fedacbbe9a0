"""Reports: what an experiment measured, as a page, tables and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "report_runs": "from_runs",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from crossfit.report.from_runs import report_runs as report_runs
