"""The conformance kit: what a method must do, as checks that plugin authors run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

__all__ = ["CheckResult", "PeakBytes", "check_method", "parametrize_with_checks"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "CheckResult": "kit",
        "PeakBytes": "memory",
        "check_method": "kit",
        "parametrize_with_checks": "kit",
    },
    ("bad", "cards", "checks", "kit", "memory", "planted"),
)

if TYPE_CHECKING:
    from crossfit.testing.kit import CheckResult, check_method, parametrize_with_checks
    from crossfit.testing.memory import PeakBytes
