"""Warnings that are reported for a line of the user's code."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]

# Packages that may be between the user's code and a warning of crossfit; decorators of NumPy and
# torch are, for instance.
_LIBRARIES = frozenset(
    {"contextlib", "crossfit", "joblib", "numpy", "optuna", "sklearn", "skorch", "torch"}
)


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Issue a warning for the nearest line outside crossfit and the libraries that call it.

    A fixed ``stacklevel`` would name a line of scikit-learn if a method is fitted in a pipeline,
    for instance. Python 3.12 has ``skip_file_prefixes`` for this purpose.

    Parameters
    ----------
    message : str or Warning
        Text of the warning, or the warning itself.
    category : type, default=UserWarning
        Class of the warning, if `message` is a text.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_library(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _is_library(module: str) -> bool:
    package = module.partition(".")[0]
    return package in _LIBRARIES or package.startswith("crossfit_")  # a plugin
