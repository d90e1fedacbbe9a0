"""BSSAN: bi-directional spatial-semantic attention networks for image-text matching."""

__version__ = "0.1.0"
