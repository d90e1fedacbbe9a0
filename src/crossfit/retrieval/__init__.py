"""Retrieval with a fitted common space: scoring and searching."""

from crossfit.retrieval.scorer import RetrievalScorer

__all__ = ["RetrievalScorer"]
