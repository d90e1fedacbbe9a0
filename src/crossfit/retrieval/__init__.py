"""Retrieval with fitted methods: scoring, search, indexes and two-stage search."""

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "ApproximateIndex": "index",
    "ExactIndex": "index",
    "Exactness": "rerank",
    "Reranker": "rerank",
    "RetrievalScorer": "scorer",
    "exactness": "rerank",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from crossfit.retrieval.index import ApproximateIndex as ApproximateIndex
    from crossfit.retrieval.index import ExactIndex as ExactIndex
    from crossfit.retrieval.rerank import Exactness as Exactness
    from crossfit.retrieval.rerank import Reranker as Reranker
    from crossfit.retrieval.rerank import exactness as exactness
    from crossfit.retrieval.scorer import RetrievalScorer as RetrievalScorer
