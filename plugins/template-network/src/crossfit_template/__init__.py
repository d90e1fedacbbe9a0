"""A method for crossfit. This module imports nothing, so that listing methods stays fast."""

__version__ = "0.1.0"
