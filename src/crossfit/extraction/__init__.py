"""Extraction: transformers from pixels and strings to features."""

from __future__ import annotations

import importlib
from typing import Any

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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
