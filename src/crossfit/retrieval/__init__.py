"""Retrieval with fitted methods: scoring, search, indexes and two-stage search."""

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
