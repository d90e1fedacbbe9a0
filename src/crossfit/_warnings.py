"""Warnings that are reported for a line of the user's code."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["at_the_callers_line", "warn", "warn_of_missing_labels"]

# Packages that may be between the user's code and a warning of crossfit; decorators of NumPy and
# torch are, for instance.
_LIBRARIES = frozenset(
    {
        "contextlib",
        "crossfit",
        "gensim",
        "joblib",
        "numpy",
        "optuna",
        "scipy",
        "sklearn",
        "skorch",
        "torch",
    }
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


@contextmanager
def at_the_callers_line() -> Iterator[None]:
    """Report warnings of libraries, such as scikit-learn, for the user's line, as `warn` does.

    They are given when the block ends, also by an error. Python's filters apply then, so that a
    warning that is ignored stays ignored.
    """
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as record:
            caught = record
            warnings.simplefilter("always")
            yield
    finally:
        for each in caught:
            if each.filename.startswith(_folders()):
                warn(each.message, each.category)
            else:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def _folders() -> tuple[str, ...]:
    """Return the folders of the libraries that have been imported."""
    files = (getattr(sys.modules.get(name), "__file__", None) for name in _LIBRARIES)
    return tuple(os.path.dirname(file) + os.sep for file in files if file)


def warn_of_missing_labels(owner: str) -> None:
    """Warn that a method that was fitted with labels is scored without them.

    Parameters
    ----------
    owner : str
        Name of the class whose `score` was called.
    """
    warn(
        f"{owner}.score: it was fitted with labels, but without y only the paired item is "
        "relevant; pass y to count items with the same label"
    )


def _is_library(module: str) -> bool:
    package = module.partition(".")[0]
    return package in _LIBRARIES or package.startswith("crossfit_")  # a plugin
