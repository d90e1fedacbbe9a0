"""crossfit: cross-modal retrieval with a scikit-learn API.

Public names are imported when they are first used, so that ``import crossfit`` is quick and
brings in neither torch nor scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__version__ = "0.1.0"

__getattr__, __dir__ = attach(
    __name__,
    {
        "Channels": "views",
        "ChannelUnion": "compose",
        "CrossModalEstimator": "base",
        "Ragged": "views",
        "RetrievalScorer": "retrieval",
        "ViewTransformer": "compose",
        "Views": "views",
        "encode": "querying",
        "evaluate": "metrics",
        "make_retrieval_scorer": "model_selection",
        "search": "querying",
        "similarity": "querying",
    },
    (
        "base",
        "cache",
        "cards",
        "compose",
        "datasets",
        "extraction",
        "methods",
        "metrics",
        "model_selection",
        "registry",
        "retrieval",
        "similarities",
        "subspace",
        "testing",
        "views",
    ),
)

__all__ = [
    "Channels",
    "ChannelUnion",
    "CrossModalEstimator",
    "Ragged",
    "RetrievalScorer",
    "ViewTransformer",
    "Views",
    "__version__",
    "encode",
    "evaluate",
    "make_retrieval_scorer",
    "search",
    "similarity",
]

if TYPE_CHECKING:
    from crossfit.base import CrossModalEstimator
    from crossfit.compose import ChannelUnion, ViewTransformer
    from crossfit.metrics import evaluate
    from crossfit.model_selection import make_retrieval_scorer
    from crossfit.querying import encode, search, similarity
    from crossfit.retrieval import RetrievalScorer
    from crossfit.views import Channels, Ragged, Views
