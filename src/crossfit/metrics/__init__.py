"""Ranking measures per query, with intervals and significance, from arrays alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "Direction": "directions",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "chance_level": "chance",
    "rsum": "functions",
    "average_precision": "functions",
    "mean_average_precision": "functions",
    "recall_at_k": "functions",
    "precision_at_k": "functions",
    "median_rank": "functions",
    "mean_rank": "functions",
    "mean_reciprocal_rank": "functions",
    "ndcg": "functions",
    "Measure": "names",
    "parse_metric": "names",
    "interpolated_precision_recall": "curves",
    "recall_at_k_curve": "curves",
    "bootstrap_interval": "intervals",
    "paired_test": "significance",
    "compare": "significance",
    "holm": "significance",
    "rank_ranges": "significance",
    "Repeats": "repeats",
    "PairedTest": "significance",
    "Comparison": "significance",
    "voc_average_precision": "classification",
    "voc_mean_average_precision": "classification",
}

__all__ = [
    "Direction",
    "evaluate",
    "Evaluation",
    "chance_level",
    "rsum",
    "average_precision",
    "mean_average_precision",
    "recall_at_k",
    "precision_at_k",
    "median_rank",
    "mean_rank",
    "mean_reciprocal_rank",
    "ndcg",
    "Measure",
    "parse_metric",
    "interpolated_precision_recall",
    "recall_at_k_curve",
    "bootstrap_interval",
    "paired_test",
    "PairedTest",
    "compare",
    "Comparison",
    "holm",
    "rank_ranges",
    "Repeats",
    "voc_average_precision",
    "voc_mean_average_precision",
]

__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from crossfit.metrics.chance import chance_level
    from crossfit.metrics.classification import voc_average_precision, voc_mean_average_precision
    from crossfit.metrics.curves import interpolated_precision_recall, recall_at_k_curve
    from crossfit.metrics.directions import Direction
    from crossfit.metrics.evaluation import Evaluation, evaluate
    from crossfit.metrics.functions import (
        average_precision,
        mean_average_precision,
        mean_rank,
        mean_reciprocal_rank,
        median_rank,
        ndcg,
        precision_at_k,
        recall_at_k,
        rsum,
    )
    from crossfit.metrics.intervals import bootstrap_interval
    from crossfit.metrics.names import Measure, parse_metric
    from crossfit.metrics.repeats import Repeats
    from crossfit.metrics.significance import (
        Comparison,
        PairedTest,
        compare,
        holm,
        paired_test,
        rank_ranges,
    )
