"""Diagnosis of pairs before anything is trained: one file per question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "Advice": "advice",
    "CanonicalCorrelations": "alignment",
    "Diagnosis": "result",
    "Duplicates": "duplicates",
    "Estimate": "estimate",
    "HubEffect": "hub_effect",
    "LearningCurve": "learning",
    "PairRanking": "wrong_pairs",
    "Recovery": "align_or_predict",
    "diagnose": "run",
    "held_out_correlations": "alignment",
    "hub_effect_of": "hub_effect",
    "intrinsic_dimension": "dimension",
    "learning_curve": "learning",
    "linear_cka": "alignment",
    "mutual_knn": "alignment",
    "near_duplicates": "duplicates",
    "rank_pairs": "wrong_pairs",
    "recoveries": "align_or_predict",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from crossfit.diagnosis.advice import Advice as Advice
    from crossfit.diagnosis.align_or_predict import Recovery as Recovery
    from crossfit.diagnosis.align_or_predict import recoveries as recoveries
    from crossfit.diagnosis.alignment import CanonicalCorrelations as CanonicalCorrelations
    from crossfit.diagnosis.alignment import held_out_correlations as held_out_correlations
    from crossfit.diagnosis.alignment import linear_cka as linear_cka
    from crossfit.diagnosis.alignment import mutual_knn as mutual_knn
    from crossfit.diagnosis.dimension import intrinsic_dimension as intrinsic_dimension
    from crossfit.diagnosis.duplicates import Duplicates as Duplicates
    from crossfit.diagnosis.duplicates import near_duplicates as near_duplicates
    from crossfit.diagnosis.estimate import Estimate as Estimate
    from crossfit.diagnosis.hub_effect import HubEffect as HubEffect
    from crossfit.diagnosis.hub_effect import hub_effect_of as hub_effect_of
    from crossfit.diagnosis.learning import LearningCurve as LearningCurve
    from crossfit.diagnosis.learning import learning_curve as learning_curve
    from crossfit.diagnosis.result import Diagnosis as Diagnosis
    from crossfit.diagnosis.run import diagnose as diagnose
    from crossfit.diagnosis.wrong_pairs import PairRanking as PairRanking
    from crossfit.diagnosis.wrong_pairs import rank_pairs as rank_pairs
