"""Ranking measures per query, with intervals and significance, from arrays alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "Abstention": "confidence",
    "Comparison": "significance",
    "Comparisons": "significance",
    "Direction": "directions",
    "Evaluation": "evaluation",
    "Measure": "names",
    "PairedTest": "significance",
    "Repeats": "repeats",
    "TieRange": "ties",
    "abstention": "confidence",
    "average_precision": "functions",
    "bootstrap_interval": "intervals",
    "chance_level": "chance",
    "compare": "significance",
    "evaluate": "evaluation",
    "holm": "significance",
    "Hubness": "hubs",
    "hubness": "hubs",
    "interpolated_precision_recall": "curves",
    "mean_average_precision": "functions",
    "mean_rank": "functions",
    "mean_reciprocal_rank": "functions",
    "median_rank": "functions",
    "nauc": "confidence",
    "ndcg": "functions",
    "paired_test": "significance",
    "parse_metric": "names",
    "precision_at_k": "functions",
    "r_precision": "functions",
    "rank_ranges": "significance",
    "read_relevance": "relevance_files",
    "recall_at_k": "functions",
    "recall_at_k_curve": "curves",
    "rsum": "functions",
    "tie_range": "ties",
    "voc_average_precision": "classification",
    "voc_mean_average_precision": "classification",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from crossfit.metrics.chance import chance_level as chance_level
    from crossfit.metrics.classification import voc_average_precision as voc_average_precision
    from crossfit.metrics.classification import (
        voc_mean_average_precision as voc_mean_average_precision,
    )
    from crossfit.metrics.confidence import Abstention as Abstention
    from crossfit.metrics.confidence import abstention as abstention
    from crossfit.metrics.confidence import nauc as nauc
    from crossfit.metrics.curves import (
        interpolated_precision_recall as interpolated_precision_recall,
    )
    from crossfit.metrics.curves import recall_at_k_curve as recall_at_k_curve
    from crossfit.metrics.directions import Direction as Direction
    from crossfit.metrics.evaluation import Evaluation as Evaluation
    from crossfit.metrics.evaluation import evaluate as evaluate
    from crossfit.metrics.functions import average_precision as average_precision
    from crossfit.metrics.functions import mean_average_precision as mean_average_precision
    from crossfit.metrics.functions import mean_rank as mean_rank
    from crossfit.metrics.functions import mean_reciprocal_rank as mean_reciprocal_rank
    from crossfit.metrics.functions import median_rank as median_rank
    from crossfit.metrics.functions import ndcg as ndcg
    from crossfit.metrics.functions import precision_at_k as precision_at_k
    from crossfit.metrics.functions import r_precision as r_precision
    from crossfit.metrics.functions import recall_at_k as recall_at_k
    from crossfit.metrics.functions import rsum as rsum
    from crossfit.metrics.hubs import Hubness as Hubness
    from crossfit.metrics.hubs import hubness as hubness
    from crossfit.metrics.intervals import bootstrap_interval as bootstrap_interval
    from crossfit.metrics.names import Measure as Measure
    from crossfit.metrics.names import parse_metric as parse_metric
    from crossfit.metrics.relevance_files import read_relevance as read_relevance
    from crossfit.metrics.repeats import Repeats as Repeats
    from crossfit.metrics.significance import Comparison as Comparison
    from crossfit.metrics.significance import Comparisons as Comparisons
    from crossfit.metrics.significance import PairedTest as PairedTest
    from crossfit.metrics.significance import compare as compare
    from crossfit.metrics.significance import holm as holm
    from crossfit.metrics.significance import paired_test as paired_test
    from crossfit.metrics.significance import rank_ranges as rank_ranges
    from crossfit.metrics.ties import TieRange as TieRange
    from crossfit.metrics.ties import tie_range as tie_range
