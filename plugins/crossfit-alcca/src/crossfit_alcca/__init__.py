"""ACMR, adversarial cross-modal retrieval, and ALCCA, which adds linear CCA."""

__version__ = "0.1.0"
