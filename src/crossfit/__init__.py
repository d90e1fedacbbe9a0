"""crossfit: cross-modal retrieval with a scikit-learn API.

Public names are imported on first use, so that ``import crossfit`` is fast and imports neither
torch nor scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__version__ = "0.1.0"

__getattr__, __dir__ = attach(
    __name__,
    {
        "BundleError": "persistence",
        "Channels": "views",
        "ChannelUnion": "compose",
        "CrossModalEstimator": "base",
        "Ragged": "views",
        "RetrievalScorer": "retrieval",
        "ViewTransformer": "compose",
        "Views": "views",
        "encode": "querying",
        "evaluate": "metrics",
        "load": "persistence",
        "make_retrieval_scorer": "model_selection",
        "save": "persistence",
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
        "neural",
        "persistence",
        "querying",
        "registry",
        "retrieval",
        "scoring",
        "similarities",
        "subspace",
        "testing",
        "views",
    ),
)

__all__ = [
    "BundleError",
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
    "load",
    "make_retrieval_scorer",
    "save",
    "search",
    "similarity",
]

if TYPE_CHECKING:
    from crossfit.base import CrossModalEstimator
    from crossfit.compose import ChannelUnion, ViewTransformer
    from crossfit.metrics import evaluate
    from crossfit.model_selection import make_retrieval_scorer
    from crossfit.persistence import BundleError, load, save
    from crossfit.querying import encode, search, similarity
    from crossfit.retrieval import RetrievalScorer
    from crossfit.views import Channels, Ragged, Views
