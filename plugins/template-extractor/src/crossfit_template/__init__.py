"""Extractors for crossfit. Imports nothing, so that listing stays quick."""

__version__ = "0.1.0"
