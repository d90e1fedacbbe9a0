"""Model selection over Views: retrieval scorers, splitters and Optuna search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__all__ = [
    "OptunaSearch",
    "PairKFold",
    "PairShuffleSplit",
    "RetrievalMetric",
    "default_search_space",
    "make_retrieval_scorer",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "OptunaSearch": "search",
        "PairKFold": "splitters",
        "PairShuffleSplit": "splitters",
        "RetrievalMetric": "scorers",
        "default_search_space": "search",
        "make_retrieval_scorer": "scorers",
    },
    ("scorers", "search", "splitters", "storages"),
)

if TYPE_CHECKING:
    from crossfit.model_selection.scorers import RetrievalMetric, make_retrieval_scorer
    from crossfit.model_selection.search import OptunaSearch, default_search_space
    from crossfit.model_selection.splitters import PairKFold, PairShuffleSplit
