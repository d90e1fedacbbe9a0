"""Extraction: transformers from pixels, strings and sound to features.

Besides crossfit's own, the classes of installed extractors are attributes.
"""

from __future__ import annotations

from typing import Any

from crossfit._installed import classes_of
from crossfit._lazy import attach

_HOMES = {
    "AudioExtractor": "audio",
    "Backbone": "backbones",
    "Characters": "words",
    "Detections": "detectors",
    "Detector": "detectors",
    "Doc2VecFeatures": "words",
    "Extractor": "base",
    "FasterRCNN": "detectors",
    "FisherVector": "fisher",
    "GridFeatures": "grid",
    "HGLMM": "fisher",
    "ImageExtractor": "images",
    "LdaTopics": "text",
    "LogMel": "audio",
    "MFCC": "audio",
    "MeanRegions": "regions",
    "OnnxDetector": "detectors",
    "TextExtractor": "text",
    "Tokens": "text",
    "WordVectors": "words",
    "draw_boxes": "regions",
    "grid_boxes": "regions",
    "load_audio": "audio",
    "load_rgb": "images",
    "make_regions": "regions",
}

__all__ = sorted(_HOMES)

_own, _ = attach(__name__, _HOMES)
_installed, _class_names = classes_of(__name__, "crossfit.extractors")


def __getattr__(name: str) -> Any:
    return _own(name) if name in _HOMES else _installed(name)


def __dir__() -> list[str]:
    return sorted({*_HOMES, *_class_names()})
