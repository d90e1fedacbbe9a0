"""Extraction: transformers from pixels, strings and sound to features.

The classes of all installed extractors are attributes of this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    "MultimodalExtractor": "multimodal",
    "OnnxDetector": "detectors",
    "TextExtractor": "text",
    "Tokens": "text",
    "WordVectors": "words",
    "draw_boxes": "regions",
    "grid_boxes": "regions",
    "load_audio": "audio",
    "load_rgb": "images",
    "make_extractor": "named",
    "make_regions": "regions",
    "parse_extractor": "named",
}

__all__ = sorted(_HOMES)

_own, _ = attach(__name__, _HOMES)
_installed, _class_names = classes_of(__name__, "crossfit.extractors")


def __getattr__(name: str) -> Any:
    return _own(name) if name in _HOMES else _installed(name)


def __dir__() -> list[str]:
    return sorted({*_HOMES, *_class_names()})


if TYPE_CHECKING:
    from crossfit.extraction.audio import MFCC as MFCC
    from crossfit.extraction.audio import AudioExtractor as AudioExtractor
    from crossfit.extraction.audio import LogMel as LogMel
    from crossfit.extraction.audio import load_audio as load_audio
    from crossfit.extraction.backbones import Backbone as Backbone
    from crossfit.extraction.base import Extractor as Extractor
    from crossfit.extraction.detectors import Detections as Detections
    from crossfit.extraction.detectors import Detector as Detector
    from crossfit.extraction.detectors import FasterRCNN as FasterRCNN
    from crossfit.extraction.detectors import OnnxDetector as OnnxDetector
    from crossfit.extraction.fisher import HGLMM as HGLMM
    from crossfit.extraction.fisher import FisherVector as FisherVector
    from crossfit.extraction.grid import GridFeatures as GridFeatures
    from crossfit.extraction.images import ImageExtractor as ImageExtractor
    from crossfit.extraction.images import load_rgb as load_rgb
    from crossfit.extraction.multimodal import MultimodalExtractor as MultimodalExtractor
    from crossfit.extraction.named import make_extractor as make_extractor
    from crossfit.extraction.named import parse_extractor as parse_extractor
    from crossfit.extraction.regions import MeanRegions as MeanRegions
    from crossfit.extraction.regions import draw_boxes as draw_boxes
    from crossfit.extraction.regions import grid_boxes as grid_boxes
    from crossfit.extraction.regions import make_regions as make_regions
    from crossfit.extraction.text import LdaTopics as LdaTopics
    from crossfit.extraction.text import TextExtractor as TextExtractor
    from crossfit.extraction.text import Tokens as Tokens
    from crossfit.extraction.words import Characters as Characters
    from crossfit.extraction.words import Doc2VecFeatures as Doc2VecFeatures
    from crossfit.extraction.words import WordVectors as WordVectors
