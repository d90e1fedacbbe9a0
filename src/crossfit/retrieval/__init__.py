"""Retrieval with fitted methods: scoring, search, indexes and two-stage search."""

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "ApproximateIndex": "index",
    "CSLS": "hubs",
    "DualSoftmax": "hubs",
    "ExactIndex": "index",
    "Exactness": "rerank",
    "Fusion": "fusion",
    "HubCorrection": "hubs",
    "Index": "stored",
    "InvertedSoftmax": "hubs",
    "NNN": "hubs",
    "QBNorm": "hubs",
    "Part": "shards",
    "Reranker": "rerank",
    "QuantizedVectors": "quantized",
    "RetrievalScorer": "scorer",
    "Tuning": "tuning",
    "build_shards": "shards",
    "exactness": "rerank",
    "feature_parts": "shards",
    "quantize": "quantized",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from crossfit.retrieval.fusion import Fusion as Fusion
    from crossfit.retrieval.hubs import CSLS as CSLS
    from crossfit.retrieval.hubs import NNN as NNN
    from crossfit.retrieval.hubs import DualSoftmax as DualSoftmax
    from crossfit.retrieval.hubs import HubCorrection as HubCorrection
    from crossfit.retrieval.hubs import InvertedSoftmax as InvertedSoftmax
    from crossfit.retrieval.hubs import QBNorm as QBNorm
    from crossfit.retrieval.index import ApproximateIndex as ApproximateIndex
    from crossfit.retrieval.index import ExactIndex as ExactIndex
    from crossfit.retrieval.quantized import QuantizedVectors as QuantizedVectors
    from crossfit.retrieval.quantized import quantize as quantize
    from crossfit.retrieval.rerank import Exactness as Exactness
    from crossfit.retrieval.rerank import Reranker as Reranker
    from crossfit.retrieval.rerank import exactness as exactness
    from crossfit.retrieval.scorer import RetrievalScorer as RetrievalScorer
    from crossfit.retrieval.shards import Part as Part
    from crossfit.retrieval.shards import build_shards as build_shards
    from crossfit.retrieval.shards import feature_parts as feature_parts
    from crossfit.retrieval.stored import Index as Index
    from crossfit.retrieval.tuning import Tuning as Tuning
