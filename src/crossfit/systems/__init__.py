"""Evaluation of the output of any system: runs and judgements, score matrices, ranked lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "SystemEvaluation": "evaluation",
    "Triples": "triples",
    "MTEBEncoder": "mteb",
    "evaluate_embeddings": "tools",
    "evaluate_frame": "tools",
    "evaluate_matrix": "evaluation",
    "evaluate_predictions": "tools",
    "evaluate_run": "evaluation",
    "evaluate_search": "tools",
    "mteb_result": "mteb",
    "read_qrels": "files",
    "read_run": "files",
    "report_systems": "reports",
    "write_cell": "cells",
    "write_qrels": "files",
    "write_run": "files",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from crossfit.systems.cells import write_cell as write_cell
    from crossfit.systems.evaluation import SystemEvaluation as SystemEvaluation
    from crossfit.systems.evaluation import evaluate_matrix as evaluate_matrix
    from crossfit.systems.evaluation import evaluate_run as evaluate_run
    from crossfit.systems.files import read_qrels as read_qrels
    from crossfit.systems.files import read_run as read_run
    from crossfit.systems.files import write_qrels as write_qrels
    from crossfit.systems.files import write_run as write_run
    from crossfit.systems.mteb import MTEBEncoder as MTEBEncoder
    from crossfit.systems.mteb import mteb_result as mteb_result
    from crossfit.systems.reports import report_systems as report_systems
    from crossfit.systems.tools import evaluate_embeddings as evaluate_embeddings
    from crossfit.systems.tools import evaluate_frame as evaluate_frame
    from crossfit.systems.tools import evaluate_predictions as evaluate_predictions
    from crossfit.systems.tools import evaluate_search as evaluate_search
    from crossfit.systems.triples import Triples as Triples
