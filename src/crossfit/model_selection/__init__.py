"""Model selection over Views: retrieval scorers, splitters and Optuna search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "OptunaSearch": "search",
    "PairKFold": "splitters",
    "PairShuffleSplit": "splitters",
    "RetrievalMetric": "scorers",
    "default_search_space": "search",
    "make_retrieval_scorer": "scorers",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(
    __name__,
    _HOMES,
    (
        "scorers",
        "search",
        "splitters",
        "storages",
    ),
)

if TYPE_CHECKING:
    from crossfit.model_selection.scorers import RetrievalMetric as RetrievalMetric
    from crossfit.model_selection.scorers import make_retrieval_scorer as make_retrieval_scorer
    from crossfit.model_selection.search import OptunaSearch as OptunaSearch
    from crossfit.model_selection.search import default_search_space as default_search_space
    from crossfit.model_selection.splitters import PairKFold as PairKFold
    from crossfit.model_selection.splitters import PairShuffleSplit as PairShuffleSplit
