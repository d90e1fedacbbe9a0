"""ACLN: attention-sharing correlation learning for cross-media retrieval."""

__version__ = "0.1.0"
