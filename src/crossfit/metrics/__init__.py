"""Ranking measures per query, with intervals and significance; they know arrays only."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "chance_level": "evaluation",
    "rsum": "evaluation",
    "average_precision": "evaluation",
    "mean_average_precision": "evaluation",
    "recall_at_k": "evaluation",
    "precision_at_k": "evaluation",
    "median_rank": "evaluation",
    "mean_rank": "evaluation",
    "mean_reciprocal_rank": "evaluation",
    "ndcg": "evaluation",
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

if TYPE_CHECKING:
    from crossfit.metrics.classification import voc_average_precision, voc_mean_average_precision
    from crossfit.metrics.curves import interpolated_precision_recall, recall_at_k_curve
    from crossfit.metrics.evaluation import (
        Evaluation,
        average_precision,
        chance_level,
        evaluate,
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'crossfit.metrics' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"crossfit.metrics.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
