"""ACMR, adversarial cross-modal retrieval, and ALCCA, which follows it with linear CCA."""

__version__ = "0.1.0"
