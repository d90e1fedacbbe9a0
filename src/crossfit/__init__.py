"""crossfit: cross-modal retrieval with a scikit-learn API.

Public names are imported on first use, so that ``import crossfit`` is fast and imports neither
torch nor scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__version__ = "0.1.0"

_HOMES = {
    "BundleError": "persistence",
    "ChannelUnion": "compose",
    "Channels": "views",
    "CrossModalEstimator": "base",
    "Ragged": "views",
    "RetrievalScorer": "retrieval",
    "ViewTransformer": "compose",
    "Views": "views",
    "diagnose": "diagnosis",
    "encode": "querying",
    "evaluate": "metrics",
    "export": "exporting",
    "load": "persistence",
    "make_retrieval_scorer": "model_selection",
    "model_card": "model_cards",
    "push_to_hub": "hub",
    "save": "persistence",
    "search": "querying",
    "similarity": "querying",
}

__all__ = sorted([*_HOMES, "__version__"])

__getattr__, __dir__ = attach(
    __name__,
    _HOMES,
    (
        "base",
        "cache",
        "cards",
        "compose",
        "datasets",
        "diagnosis",
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

if TYPE_CHECKING:
    from crossfit.base import CrossModalEstimator as CrossModalEstimator
    from crossfit.compose import ChannelUnion as ChannelUnion
    from crossfit.compose import ViewTransformer as ViewTransformer
    from crossfit.diagnosis import diagnose as diagnose
    from crossfit.exporting import export as export
    from crossfit.hub import push_to_hub as push_to_hub
    from crossfit.metrics import evaluate as evaluate
    from crossfit.model_cards import model_card as model_card
    from crossfit.model_selection import make_retrieval_scorer as make_retrieval_scorer
    from crossfit.persistence import BundleError as BundleError
    from crossfit.persistence import load as load
    from crossfit.persistence import save as save
    from crossfit.querying import encode as encode
    from crossfit.querying import search as search
    from crossfit.querying import similarity as similarity
    from crossfit.retrieval import RetrievalScorer as RetrievalScorer
    from crossfit.views import Channels as Channels
    from crossfit.views import Ragged as Ragged
    from crossfit.views import Views as Views
