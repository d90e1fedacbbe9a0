"""The conformance kit: checks of what every plugin must do, which plugin authors run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__all__ = [
    "CheckResult",
    "PeakBytes",
    "check_dataset",
    "check_extractor",
    "check_method",
    "parametrize_with_checks",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "CheckResult": "kit",
        "PeakBytes": "memory",
        "check_dataset": "kit",
        "check_extractor": "kit",
        "check_method": "kit",
        "parametrize_with_checks": "kit",
    },
    (
        "bad",
        "bad_datasets",
        "bad_extractors",
        "bad_networks",
        "cards",
        "checks",
        "dataset_checks",
        "extractor_checks",
        "items",
        "kit",
        "memory",
        "planted",
        "shared",
        "uneven",
    ),
)

if TYPE_CHECKING:
    from crossfit.testing.kit import (
        CheckResult,
        check_dataset,
        check_extractor,
        check_method,
        parametrize_with_checks,
    )
    from crossfit.testing.memory import PeakBytes
