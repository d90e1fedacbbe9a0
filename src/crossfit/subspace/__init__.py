"""Closed-form methods: linear and kernel subspaces, one method per file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__all__ = [
    "BLM",
    "CCA",
    "CCA3V",
    "CFA",
    "CM",
    "GMLDA",
    "GMMFA",
    "JFSSL",
    "JRL",
    "KCCA",
    "LCFS",
    "LGCFL",
    "MACC",
    "MLCCA",
    "PLS",
    "SCM",
    "SM",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "BLM": "gma",
        "CCA": "cca",
        "CCA3V": "cca3v",
        "CFA": "cfa",
        "CM": "semantic",
        "GMLDA": "gma",
        "GMMFA": "gma",
        "JFSSL": "jfssl",
        "JRL": "jrl",
        "KCCA": "kcca",
        "LCFS": "lcfs",
        "LGCFL": "lgcfl",
        "MACC": "macc",
        "MLCCA": "mlcca",
        "PLS": "pls",
        "SCM": "semantic",
        "SM": "semantic",
    },
    ("cards",),
)

if TYPE_CHECKING:
    from crossfit.subspace.cca import CCA
    from crossfit.subspace.cca3v import CCA3V
    from crossfit.subspace.cfa import CFA
    from crossfit.subspace.gma import BLM, GMLDA, GMMFA
    from crossfit.subspace.jfssl import JFSSL
    from crossfit.subspace.jrl import JRL
    from crossfit.subspace.kcca import KCCA
    from crossfit.subspace.lcfs import LCFS
    from crossfit.subspace.lgcfl import LGCFL
    from crossfit.subspace.macc import MACC
    from crossfit.subspace.mlcca import MLCCA
    from crossfit.subspace.pls import PLS
    from crossfit.subspace.semantic import CM, SCM, SM
