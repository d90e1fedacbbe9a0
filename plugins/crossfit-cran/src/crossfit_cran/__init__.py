"""CRAN: cross-media relation attention network."""

__version__ = "0.1.0"
