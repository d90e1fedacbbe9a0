"""Extraction: transformers from pixels and strings to features."""

from __future__ import annotations

from crossfit._lazy import attach

_HOMES = {
    "Extractor": "base",
    "GridFeatures": "grid",
    "ImageExtractor": "images",
    "LdaTopics": "text",
    "TextExtractor": "text",
    "Tokens": "text",
    "load_rgb": "images",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(__name__, _HOMES)
