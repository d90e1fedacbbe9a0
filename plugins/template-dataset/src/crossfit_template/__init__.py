"""A data set for crossfit. This module imports nothing, so that listing data sets stays fast."""

__version__ = "0.1.0"
