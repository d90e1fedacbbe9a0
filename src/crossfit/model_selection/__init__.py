"""Model selection over Views: retrieval scorers for scikit-learn's tools."""

from crossfit.model_selection.scorers import RetrievalMetric, make_retrieval_scorer

__all__ = ["RetrievalMetric", "make_retrieval_scorer"]
