"""crossfit: cross-modal retrieval with a scikit-learn API.

Public names are imported when they are first used, so that ``import crossfit`` is quick and
brings in neither torch nor scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Views": "crossfit.views",
    "Channels": "crossfit.views",
    "Ragged": "crossfit.views",
    "CrossModalEstimator": "crossfit.base",
    "similarity": "crossfit.base",
    "encode": "crossfit.base",
    "search": "crossfit.base",
    "ViewTransformer": "crossfit.compose",
    "ChannelUnion": "crossfit.compose",
    "RetrievalScorer": "crossfit.retrieval",
    "evaluate": "crossfit.metrics",
    "make_retrieval_scorer": "crossfit.model_selection",
}
_SUBMODULES = (
    "base",
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
    from crossfit.base import CrossModalEstimator, encode, search, similarity
    from crossfit.compose import ChannelUnion, ViewTransformer
    from crossfit.metrics import evaluate
    from crossfit.model_selection import make_retrieval_scorer
    from crossfit.retrieval import RetrievalScorer
    from crossfit.views import Channels, Ragged, Views


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = found
        return found
    if name in _SUBMODULES:
        return importlib.import_module(f"crossfit.{name}")
    raise AttributeError(f"module 'crossfit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES})
