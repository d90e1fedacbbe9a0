"""Closed-form methods: linear and kernel subspaces, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__all__ = ["CCA"]

__getattr__, __dir__ = attach(__name__, {"CCA": "cca"}, ("cards",))

if TYPE_CHECKING:
    from crossfit.subspace.cca import CCA
