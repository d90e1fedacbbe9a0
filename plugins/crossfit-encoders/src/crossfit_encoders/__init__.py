"""Extractors with pretrained models of transformers, sentence-transformers, open_clip and timm."""

__version__ = "0.1.0"
