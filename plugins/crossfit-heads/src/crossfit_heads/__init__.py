"""Heads trained on features of frozen encoders, and late interaction of their sets."""

__version__ = "0.1.0"
