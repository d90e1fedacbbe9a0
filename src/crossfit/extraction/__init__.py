"""Extraction: transformers from pixels, strings and sound to features."""

from __future__ import annotations

from crossfit._lazy import attach

_HOMES = {
    "AudioExtractor": "audio",
    "Backbone": "backbones",
    "Characters": "words",
    "Detections": "regions",
    "Detector": "regions",
    "Doc2VecFeatures": "words",
    "Extractor": "base",
    "FasterRCNN": "regions",
    "FisherVector": "fisher",
    "GridFeatures": "grid",
    "HGLMM": "fisher",
    "ImageExtractor": "images",
    "LdaTopics": "text",
    "LogMel": "audio",
    "MFCC": "audio",
    "OnnxDetector": "regions",
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

__getattr__, __dir__ = attach(__name__, _HOMES)
