"""Extractors for crossfit. This module imports nothing, so that listing extractors stays fast."""

__version__ = "0.1.0"
