"""Model selection over Views: retrieval scorers, splitters and Optuna search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__all__ = [
    "OptunaSearch",
    "RetrievalMetric",
    "make_retrieval_scorer",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "OptunaSearch": "search",
        "RetrievalMetric": "scorers",
        "make_retrieval_scorer": "scorers",
    },
    ("scorers", "search"),
)

if TYPE_CHECKING:
    from crossfit.model_selection.scorers import RetrievalMetric, make_retrieval_scorer
    from crossfit.model_selection.search import OptunaSearch
