"""Networks that correlate two views, or reconstruct one from the other."""

__version__ = "0.1.0"
