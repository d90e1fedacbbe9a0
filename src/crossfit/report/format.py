"""Formats of numbers, names and texts on pages and in tables."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from crossfit.metrics import (
    parse_metric,
)

__all__ = [
    "clipped",
    "counted",
    "digits_of",
    "figure",
    "interval_figure",
    "listed",
    "metric_words",
    "p_figure",
    "rank_figure",
    "short",
]

_LONGEST = 180


def metric_words(metric: str) -> str:
    """Return the name of a metric in headings: ``mAP``, ``R@5``, ``MedR``."""
    return parse_metric(metric).words


def digits_of(metric: str) -> int:
    """Return the number of decimals of a metric in tables."""
    return parse_metric(metric).digits


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number for a table; a dash if it is None or NaN."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def interval_figure(bounds: tuple[float, float], digits: int = 3) -> str:
    """Return an interval for a table, without leading zeros; empty if a bound is NaN."""
    if any(math.isnan(bound) for bound in bounds):
        return ""
    return "–".join(re.sub(r"^0(?=\.)", "", f"{bound:.{digits}f}") for bound in bounds)


def p_figure(value: float) -> str:
    """Return a p-value for a table."""
    if math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def rank_figure(ranks: tuple[int, int]) -> str:
    """Return a range of ranks for a table."""
    low, high = ranks
    return str(low) if low == high else f"{low}–{high}"


def short(value: Any) -> str:
    """Return a setting in at most 40 characters."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        if "name" in value:
            return str(value["name"]).rpartition(".")[2]
        value = ", ".join(f"{name}: {short(part)}" for name, part in value.items())
    elif isinstance(value, (list, tuple)):
        value = ", ".join(map(short, value))
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def clipped(text: str) -> str:
    """Return a text on one line, of at most 180 characters."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"


def counted(n: int, word: str) -> str:
    """Return a count with its noun: ``2 seeds``."""
    return f"{n} {word}" + ("" if n == 1 else "s")


def listed(names: Sequence[str]) -> str:
    """Return names as a list within a sentence: ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
