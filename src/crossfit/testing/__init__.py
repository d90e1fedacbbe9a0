"""The conformance kit: checks of what every plugin must do, which plugin authors run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "CheckResult": "kit",
    "PeakBytes": "memory",
    "check_dataset": "kit",
    "check_extractor": "kit",
    "check_method": "kit",
    "parametrize_with_checks": "kit",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(
    __name__,
    _HOMES,
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
    from crossfit.testing.kit import CheckResult as CheckResult
    from crossfit.testing.kit import check_dataset as check_dataset
    from crossfit.testing.kit import check_extractor as check_extractor
    from crossfit.testing.kit import check_method as check_method
    from crossfit.testing.kit import parametrize_with_checks as parametrize_with_checks
    from crossfit.testing.memory import PeakBytes as PeakBytes
