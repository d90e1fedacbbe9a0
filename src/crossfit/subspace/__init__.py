"""Closed-form methods: linear and kernel subspaces, one method per file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "ASIF": "asif",
    "BLM": "gma",
    "CCA": "cca",
    "CCA3V": "cca3v",
    "CFA": "cfa",
    "CSA": "csa",
    "CM": "semantic",
    "GCCA": "gcca",
    "GMLDA": "gma",
    "GMMFA": "gma",
    "GMMHGLMMCCA": "hglmm",
    "HGLMMCCA": "hglmm",
    "Identity": "identity",
    "JFSSL": "jfssl",
    "JRL": "jrl",
    "KCCA": "kcca",
    "LCFS": "lcfs",
    "LGCFL": "lgcfl",
    "MACC": "macc",
    "MLCCA": "mlcca",
    "PLS": "pls",
    "Procrustes": "procrustes",
    "ReducedRank": "reduced_rank",
    "RidgeMap": "ridge_map",
    "S2UPG": "s2upg",
    "SCM": "semantic",
    "SM": "semantic",
    "SparseCCA": "sparse_cca",
    "TCCA": "tcca",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(
    __name__,
    _HOMES,
    ("cards",),
)

if TYPE_CHECKING:
    from crossfit.subspace.asif import ASIF as ASIF
    from crossfit.subspace.cca import CCA as CCA
    from crossfit.subspace.cca3v import CCA3V as CCA3V
    from crossfit.subspace.cfa import CFA as CFA
    from crossfit.subspace.csa import CSA as CSA
    from crossfit.subspace.gcca import GCCA as GCCA
    from crossfit.subspace.gma import BLM as BLM
    from crossfit.subspace.gma import GMLDA as GMLDA
    from crossfit.subspace.gma import GMMFA as GMMFA
    from crossfit.subspace.hglmm import GMMHGLMMCCA as GMMHGLMMCCA
    from crossfit.subspace.hglmm import HGLMMCCA as HGLMMCCA
    from crossfit.subspace.identity import Identity as Identity
    from crossfit.subspace.jfssl import JFSSL as JFSSL
    from crossfit.subspace.jrl import JRL as JRL
    from crossfit.subspace.kcca import KCCA as KCCA
    from crossfit.subspace.lcfs import LCFS as LCFS
    from crossfit.subspace.lgcfl import LGCFL as LGCFL
    from crossfit.subspace.macc import MACC as MACC
    from crossfit.subspace.mlcca import MLCCA as MLCCA
    from crossfit.subspace.pls import PLS as PLS
    from crossfit.subspace.procrustes import Procrustes as Procrustes
    from crossfit.subspace.reduced_rank import ReducedRank as ReducedRank
    from crossfit.subspace.ridge_map import RidgeMap as RidgeMap
    from crossfit.subspace.s2upg import S2UPG as S2UPG
    from crossfit.subspace.semantic import CM as CM
    from crossfit.subspace.semantic import SCM as SCM
    from crossfit.subspace.semantic import SM as SM
    from crossfit.subspace.sparse_cca import SparseCCA as SparseCCA
    from crossfit.subspace.tcca import TCCA as TCCA
